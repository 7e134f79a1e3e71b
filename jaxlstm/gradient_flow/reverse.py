"""The gradient of one loss by every state before it, by products of a row with Jacobians."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.cell_derivatives import cell_vjp
from jaxlstm.gradient_flow.checks import check_cotangent
from jaxlstm.gradient_flow.steps import LSTMSteps, Step, check_steps, for_each_sequence
from jaxlstm.masks import keep
from jaxlstm.types import LSTMState


class StateGradients(NamedTuple):
    """The gradient of a loss on the final state; a pytree.

    Attributes:
        hidden: dL/dh_k for k = 0, ..., T: [T + 1, B, H] ([T + 1, H] unbatched).
        cell: dL/dc_k, of the same shape; for k > 0 with what comes by h_k [G5].
        gates: dL/dz_k for k = 1, ..., T by gate, in the order i, f, g, o: [T, B, 4, H].
    """

    hidden: Float[Array, "*T H"]
    cell: Float[Array, "*T H"]
    gates: Float[Array, "*T 4 H"]


class Cotangents(NamedTuple):
    """What reaches the states from outside; a pytree.

    Attributes:
        final: of the final state.
        outputs: of every step's output, None where nothing reads them.
    """

    final: LSTMState
    outputs: Float[Array, "*T H"] | None


_BATCHED = Cotangents(0, 1)  # pyright: ignore[reportArgumentType]


def state_gradients(
    steps: LSTMSteps,
    d_h: ArrayLike,
    d_c: ArrayLike | None = None,
    *,
    d_outputs: ArrayLike | None = None,
) -> StateGradients:
    """The gradient by the states and gates of all steps: one reverse pass, memory linear in T.

    Args:
        steps: from ``linearize``. For L_t, those up to step t.
        d_h: dL/dh of the last step, with lengths of the last valid one, [B, H] ([H] unbatched).
        d_c: what of dL/dc of that step does not come by its h; zeros if None.
        d_outputs: what a layer above sends back to every h, [T, B, H]; zeros if None.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize, state_gradients
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> steps = linearize(params, jax.numpy.ones((7, 2, 3)))
    >>> jax.tree.map(jax.numpy.shape, state_gradients(steps, jax.numpy.ones((2, 5))))
    StateGradients(hidden=(8, 2, 5), cell=(8, 2, 5), gates=(7, 2, 4, 5))
    """
    return _state_gradients(steps, checked_cotangents(steps, d_h, d_c, d_outputs))


def checked_cotangents(
    steps: LSTMSteps, d_h: ArrayLike, d_c: ArrayLike | None, d_outputs: ArrayLike | None
) -> Cotangents:
    """The cotangents from outside, or one sentence on what does not fit."""
    check_steps(steps)
    like = steps.each.derivatives.dh_dc
    check_cotangent("d_h", d_h, like)
    if d_c is not None:
        check_cotangent("d_c", d_c, like)
    if d_outputs is not None:
        check_cotangent("d_outputs", d_outputs, like, every=True)
    hidden, cell, outputs = jax.tree.map(jnp.asarray, (d_h, d_c, d_outputs))
    return Cotangents(LSTMState(hidden, jnp.zeros_like(hidden) if cell is None else cell), outputs)


def back_over_each_sequence(
    function: Callable[..., Any], steps: LSTMSteps, cotangents: Cotangents
) -> Any:
    """``function`` of one sequence's steps and cotangents, over the batch where there is one."""
    return for_each_sequence(function, steps, cotangents, in_axes=_BATCHED)


@jax.jit
def _state_gradients(steps: LSTMSteps, cotangents: Cotangents) -> StateGradients:
    return back_over_each_sequence(_of_one_sequence, steps, cotangents)


def _of_one_sequence(steps: LSTMSteps, cotangents: Cotangents) -> StateGradients:
    def back(d_state: LSTMState, step_t: Any) -> tuple[LSTMState, tuple[LSTMState, Array]]:
        step, d_h_t = step_t
        d_state = joined(step, d_state, d_h_t)
        d_z, d_c_tm1 = pulled(step, d_state)
        d_tm1 = LSTMState(d_z @ steps.recurrent_kernel.T, d_c_tm1)  # [B4]
        d_tm1 = keep(step.valid, keep(step.carried, d_tm1), d_state)
        return d_tm1, (at_nodes(step, d_state), d_z.reshape(4, -1))

    each = (steps.each, cotangents.outputs)
    d_first, (nodes, d_z) = jax.lax.scan(back, cotangents.final, each, reverse=True)
    hidden, cell = jax.tree.map(after_first, d_first, nodes)
    return StateGradients(hidden, cell, d_z)


def joined(step: Step, d_state: LSTMState, d_h_t: Array | None) -> LSTMState:
    """The cotangent of a step's state, with what comes by its output."""
    if d_h_t is None:
        return d_state
    return d_state._replace(hidden=d_state.hidden + keep(step.valid, d_h_t))


def pulled(step: Step, d_state: LSTMState) -> tuple[Array, Array]:
    """d_z and d_c_{t-1} of one step, [B1] to [B3]; of padding, no d_z."""
    d_z, d_c_tm1 = cell_vjp(step.derivatives, *d_state)
    return keep(step.valid, d_z), d_c_tm1


def at_nodes(step: Step, d_state: LSTMState) -> LSTMState:
    """dL/dh_k and dL/dc_k from the cotangent that comes back to step k."""
    d_h, d_c = d_state
    return LSTMState(d_h, keep(step.valid, d_c + d_h * step.derivatives.dh_dc, d_c))  # [G5]


def after_first(first: Array, rest: Array) -> Array:
    """What belongs to the first state, then what belongs to the states after the steps."""
    return jnp.concatenate([first[None], rest])
