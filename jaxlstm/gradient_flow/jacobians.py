"""The Jacobian of each step of (h, c), block by block, and their product: [G1] to [G4]."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.gradient_flow.steps import LSTMSteps, Step, check_steps, for_each_sequence
from jaxlstm.masks import keep


class StepJacobians(NamedTuple):
    """Of the state after each step by the state before it; a pytree.

    As ``jax.jacobian`` has it, the output's unit comes before the input's. Diagonal blocks are
    given as their diagonals. Padding has the identity, a step that starts from the zero state zero.

    Attributes:
        dh_dh: [T, B, H, H] ([T, H, H] unbatched), document 004's dh_t/dh_{t-1}.
        dh_dc: [T, B, H], a diagonal.
        dc_dh: [T, B, H, H].
        dc_dc: [T, B, H], a diagonal: the forget gate.
    """

    dh_dh: Float[Array, "*T H H"]
    dh_dc: Float[Array, "*T H"]
    dc_dh: Float[Array, "*T H H"]
    dc_dc: Float[Array, "*T H"]


def step_jacobians(steps: LSTMSteps) -> StepJacobians:
    """The four blocks of every step's Jacobian, by hand from the six diagonals: [G1] to [G4].

    Args:
        steps: from ``linearize``.

    Raises:
        TypeError: steps that ``linearize`` did not make.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize, step_jacobians
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> step_jacobians(linearize(params, jax.numpy.ones((7, 2, 3)))).dh_dh.shape
    (7, 2, 5, 5)
    """
    check_steps(steps)
    return blocks(steps.recurrent_kernel, steps.each)


@jax.jit
def blocks(recurrent_kernel: Float[Array, "H G"], step: Step) -> StepJacobians:
    """The blocks of one step, or of all with their leading axes."""
    dc_dzi, dc_dzf, dc_dzg, f, dh_dzo, dh_dc = step.derivatives
    W_i, W_f, W_g, W_o = jnp.split(recurrent_kernel, 4, axis=-1)
    c_by_h = _rows(dc_dzi, W_i.T) + _rows(dc_dzf, W_f.T) + _rows(dc_dzg, W_g.T)  # [G1]
    h_by_h = _rows(dh_dzo, W_o.T) + _rows(dh_dc, c_by_h)  # [G3]
    made = StepJacobians(h_by_h, dh_dc * f, c_by_h, f)  # [G4] [G2]
    one = jnp.broadcast_to(jnp.eye(f.shape[-1], dtype=f.dtype), c_by_h.shape)
    padding = StepJacobians(one, jnp.zeros_like(f), jnp.zeros_like(one), jnp.ones_like(f))
    return keep(step.valid, keep(step.carried, made), padding)


def _rows(diagonal: Float[Array, "*T H"], matrix: Float[Array, "*S H H"]) -> Array:
    """diag(diagonal) matrix."""
    return diagonal[..., None] * matrix


@jax.jit
def matrices(jacobians: StepJacobians) -> Float[Array, "*T N N"]:
    """Each step's Jacobian as one matrix [..., 2H, 2H], the hidden state before the cell state."""
    one = jnp.eye(jacobians.dh_dh.shape[-1], dtype=jacobians.dh_dh.dtype)
    of_hidden = [jacobians.dh_dh, _rows(jacobians.dh_dc, one)]
    of_cell = [jacobians.dc_dh, _rows(jacobians.dc_dc, one)]
    rows = [jnp.concatenate(row, axis=-1) for row in (of_hidden, of_cell)]
    return jnp.concatenate(rows, axis=-2)


def jacobian_product(steps: LSTMSteps) -> Float[Array, "*B N N"]:
    """J_T ... J_1, the derivative of the final state by the first: [B, 2H, 2H].

    Over long times it overflows or loses all but its largest singular values: ``lstm_spectrum``
    does not.

    Args:
        steps: from ``linearize``.

    Raises:
        TypeError: steps that ``linearize`` did not make.
    """
    check_steps(steps)
    return _product(steps)


@jax.jit
def _product(steps: LSTMSteps) -> Array:
    def of_one(steps: LSTMSteps) -> Array:
        def multiply(product: Array, step: Step) -> tuple[Array, None]:
            return matrices(blocks(steps.recurrent_kernel, step)) @ product, None

        W = steps.recurrent_kernel
        return jax.lax.scan(multiply, jnp.eye(2 * len(W), dtype=W.dtype), steps.each)[0]

    return for_each_sequence(of_one, steps, out_axes=0)
