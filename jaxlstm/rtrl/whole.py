"""RTRL over a whole sequence: the outputs of ``lstm``, and the sensitivities of its final state."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxlstm.rtrl.exact import EXACT, RTRLState, init_rtrl, keep, step_of_one
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence


def rtrl(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
) -> tuple[Array, RTRLState]:
    """The LSTM over a sequence, with the exact sensitivities of its final state.

    Nothing but the outputs grows with T.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        lengths: int [B] (a scalar unbatched), as ``lstm`` takes them.
        resets: bool [T, B] ([T] unbatched), as ``lstm`` takes them: a step that is reset starts
            from the zero state, which depends on nothing.
        activations: of the candidate and the cell.

    Returns:
        outputs [T, B, H] ([T, H] unbatched), and the final state with its sensitivities to the
        parameters and to the initial state; with ``lengths``, those at the length.

    Document 000, (26) and (30): dh_t/dA = M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V_t.

    Raises:
        ValueError, TypeError: shapes, dtypes or values that do not fit, in one sentence, before
            any compilation.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import rtrl
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> outputs, carry = rtrl(params, jax.random.normal(jax.random.key(1), (7, 2, 3)))
    >>> outputs.shape, carry.sensitivities.hidden.params.recurrent_kernel.shape
    ((7, 2, 5), (2, 5, 20, 5))
    """
    check_sequence(params, inputs, initial_state, lengths, resets, activations)
    params, inputs, initial_state, lengths, resets = jax.tree.map(
        jnp.asarray, (params, inputs, initial_state, lengths, resets)
    )
    return _run(params, inputs, initial_state, lengths, resets, activations)


@jax.jit
def _run(
    params: LSTMParams,
    inputs: Float[Array, "T *B D"],
    initial_state: LSTMState | None,
    lengths: Int[Array, "*B"] | None,
    resets: Bool[Array, "T *B"] | None,
    activations: Activations,
) -> tuple[Float[Array, "T *B H"], RTRLState]:
    """For one sequence or for every one of a batch."""
    run = partial(_run_one, activations)
    if inputs.ndim == 3:
        run = jax.vmap(run, in_axes=(None, 1, 0, 0, 1), out_axes=(1, 0))
    return run(params, inputs, initial_state, lengths, resets)


def _run_one(
    activations: Activations,
    params: LSTMParams,
    inputs: Float[Array, "T D"],
    initial_state: LSTMState | None,
    length: Int[Array, ""] | None,
    resets: Bool[Array, " T"] | None,
) -> tuple[Float[Array, "T H"], RTRLState]:
    if initial_state is None:
        zeros = jnp.zeros_like(inputs, shape=params.recurrent_kernel.shape[:1])
        initial_state = LSTMState(zeros, zeros)
    valid = None if length is None else jnp.arange(len(inputs)) < length.astype(int)

    def body(carry: RTRLState, step_t: tuple) -> tuple[RTRLState, Array]:
        carry = step_of_one(EXACT, params, activations, carry, *step_t)
        return carry, keep(step_t[1], carry.state.hidden)

    carry, outputs = jax.lax.scan(body, init_rtrl(params, initial_state), (inputs, valid, resets))
    return outputs, carry
