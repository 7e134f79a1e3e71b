"""A sequence as a chain of linear maps: the six diagonals of every step, its masks, the kernel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxlstm.cell import gate_values, next_state
from jaxlstm.cell_derivatives import CellDerivatives, cell_derivatives
from jaxlstm.masks import keep, valid_steps
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence, check_type


class Step(NamedTuple):
    """What is linear in one step, or in all of them with a leading time axis; a pytree.

    Attributes:
        derivatives: the six diagonals [D1] to [D6], each [T, B, H] ([T, H] unbatched).
        valid: [T, B], false where the step is padding and leaves the state as it is; None if none.
        carried: [T, B], false where the step starts from the zero state; None if none does.
    """

    derivatives: CellDerivatives
    valid: Bool[Array, "*T"] | None
    carried: Bool[Array, "*T"] | None


class LSTMSteps(NamedTuple):
    """All steps of an LSTM over its inputs as linear maps of (h, c); a pytree.

    Attributes:
        recurrent_kernel: ``W`` [H, 4H].
        each: every step, time first.
    """

    recurrent_kernel: Float[Array, "H G"]
    each: Step


def linearize(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
) -> LSTMSteps:
    """Runs the LSTM and keeps what is linear in each step; memory is linear in T.

    Arguments and errors are those of ``jaxlstm.lstm``. Give float64, inside
    ``jax.enable_x64(True)``, where gradients vanish below what float32 can hold.

    Raises:
        ValueError, TypeError: shapes, dtypes or values that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> linearize(params, jax.numpy.ones((7, 2, 3))).each.derivatives.dh_dc.shape
    (7, 2, 5)
    """
    check_sequence(params, inputs, initial_state, lengths, resets, activations)
    return linearized(params, inputs, initial_state, lengths, resets, activations)[0]


def linearized(*arguments: Any) -> tuple[LSTMSteps, Float[Array, "T *B H"]]:
    """The steps, and the outputs of ``jaxlstm.lstm``, of checked arguments of ``linearize``."""
    *arrays, activations = arguments
    return _linearize(*jax.tree.map(jnp.asarray, arrays), activations)


@jax.jit
def _linearize(
    params: LSTMParams,
    inputs: Float[Array, "T *B D"],
    initial_state: LSTMState | None,
    lengths: Array | None,
    resets: Bool[Array, "T *B"] | None,
    activations: Activations,
) -> tuple[LSTMSteps, Float[Array, "T *B H"]]:
    if initial_state is None:
        zeros = jnp.zeros((*inputs.shape[1:-1], len(params.recurrent_kernel)), inputs.dtype)
        initial_state = LSTMState(zeros, zeros)
    valid = valid_steps(lengths, len(inputs))
    carried = None if resets is None else ~resets

    def forward_step(state: LSTMState, step_t: Any) -> tuple[LSTMState, Any]:
        x_t, carried_t = step_t
        entered = keep(carried_t, state)
        z = x_t @ params.input_kernel + entered.hidden @ params.recurrent_kernel + params.bias
        gates = gate_values(z, activations)  # [F1] [F2] [F3] [F4] [F5]
        after = next_state(gates, entered.cell, activations)  # [F6] [F7]
        derivatives = cell_derivatives(gates, entered.cell, after.cell, activations)
        return after, (derivatives, after.hidden)

    xs = (keep(valid, inputs), carried)
    _, (derivatives, hidden) = jax.lax.scan(forward_step, initial_state, xs)
    steps = LSTMSteps(params.recurrent_kernel, Step(derivatives, valid, carried))
    return steps, keep(valid, hidden)


def for_each_sequence(
    function: Callable[..., Any],
    steps: LSTMSteps,
    *rest: Any,
    in_axes: Any = 0,
    out_axes: Any = 1,
) -> Any:
    """``function`` of one sequence's steps, over the batch where there is one.

    Each of the rest of the arguments has the batch at ``in_axes``; the results have it at
    ``out_axes``, after time.
    """
    if steps.each.derivatives.dh_dc.ndim == 2:
        return function(steps, *rest)
    of_steps: Any = LSTMSteps(None, 1)  # pyright: ignore[reportArgumentType]
    return jax.vmap(function, (of_steps, *(in_axes for _ in rest)), out_axes)(steps, *rest)


def check_steps(steps: Any) -> None:
    """Requires what ``linearize`` returns."""
    check_type("steps", steps, LSTMSteps)
