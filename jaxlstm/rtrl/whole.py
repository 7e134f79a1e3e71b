"""RTRL over a whole sequence: the outputs of ``lstm``, and the sensitivities of its final state.

The recursion [S5] [S6] costs two H x H products over all parameters at every step. Where nobody
asks for the sensitivities in between, a block of k steps costs four, once (Schmidhuber, 1992, "A
fixed size storage O(n^3) time complexity learning algorithm for fully recurrent continually running
networks"): by the chain rule, and with s = (h, c),

    ds_{t+k}/dA = ds_t/dA ds_{t+k}/ds_t + ds_{t+k}/dA of the block alone                    [S7]

and the two derivatives of the block are those of ``lstm``, pulled back from 2H unit cotangents. The
memory is that of one block, however long the sequence.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxlstm.masks import keep
from jaxlstm.rtrl.arguments import Arguments, arguments_of_sequence
from jaxlstm.rtrl.exact import ByArgument, RTRLState, Sensitivities, init_rtrl, rtrl_step
from jaxlstm.sequence import lstm
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_size


def rtrl(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    block: int = 16,
) -> tuple[Array, RTRLState]:
    """The LSTM over a sequence, with the exact sensitivities of its final state.

    Beside inputs and outputs no memory grows with T.

    Document 000, (26) and (30): dh_t/dA = M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V_t.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        lengths: int [B] (a scalar unbatched), as ``lstm`` takes them.
        resets: bool [T, B] ([T] unbatched), as ``lstm`` takes them: a step that is reset starts
            from the zero state, which depends on nothing.
        activations: of the candidate and the cell.
        block: how many steps the sensitivities are carried over at once, [S7]; with 1, step after
            step by the recursion itself, [S5] and [S6]. Either way the answer is exact.

    Returns:
        outputs [T, B, H] ([T, H] unbatched), and the final state with its sensitivities to the
        parameters and to the initial state; with ``lengths``, those at the length.

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
    check_size("block", block)
    arguments = arguments_of_sequence(params, inputs, initial_state, lengths, resets, activations)
    return _run(block, activations, arguments)


@partial(jax.jit, static_argnums=0)
def _run(
    block: int, activations: Activations, arguments: Arguments
) -> tuple[Float[Array, "T *B H"], RTRLState]:
    block = min(block, len(arguments.inputs))
    if block <= 1:
        return _by_steps(activations, arguments)
    return _by_blocks(block, activations, arguments)


def _by_steps(
    activations: Activations, arguments: Arguments
) -> tuple[Float[Array, "T *B H"], RTRLState]:
    params, inputs, state, lengths, resets = arguments

    def body(before: tuple, step_t: tuple) -> tuple[tuple, Array]:
        (carry, left), (x_t, reset_t) = before, step_t
        valid_t, left = jax.tree.map(lambda n: n > 0, left), jax.tree.map(lambda n: n - 1, left)
        carry = rtrl_step(
            params, carry, x_t, valid_t=valid_t, reset_t=reset_t, activations=activations
        )
        return (carry, left), keep(valid_t, carry.state.hidden)

    before = (init_rtrl(params, state), lengths)
    (carry, _), outputs = jax.lax.scan(body, before, (inputs, resets))
    return outputs, carry


def _by_blocks(
    block: int, activations: Activations, arguments: Arguments
) -> tuple[Float[Array, "T *B H"], RTRLState]:
    """All whole blocks in a loop, then the steps that remain, each written where it belongs."""
    params, inputs, state, lengths, resets = arguments
    T, batch = len(inputs), inputs.shape[1:-1]
    of_one = partial(_block_of_one, activations, params)
    of_each = jax.vmap(of_one, (0, 1, 0, 1), (0, 1)) if batch else of_one

    def advance(steps: int, start: Any, before: tuple) -> tuple[Array, RTRLState]:
        outputs, carry = before
        left = jax.tree.map(lambda n: n - start, lengths)
        xs, reset = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, steps), (inputs, resets)
        )
        carry, hidden = of_each(carry, xs, left, reset)
        return jax.lax.dynamic_update_slice_in_dim(outputs, hidden, start, 0), carry

    outputs = jnp.zeros_like(jnp.broadcast_to(state.hidden, (T, *state.hidden.shape)))
    before = (outputs, init_rtrl(params, state))
    after = jax.lax.fori_loop(0, T // block, lambda n, it: advance(block, n * block, it), before)
    remaining = T % block
    return advance(remaining, T - remaining, after) if remaining else after


def _block_of_one(
    activations: Activations,
    params: LSTMParams,
    carry: RTRLState,
    inputs: Float[Array, "k D"],
    length: Int[Array, ""] | None,
    resets: Bool[Array, " k"] | None,
) -> tuple[RTRLState, Float[Array, "k H"]]:
    """A block of steps of one sequence, and its outputs."""

    def after(params: LSTMParams, state: LSTMState) -> tuple[LSTMState, tuple[LSTMState, Array]]:
        masks: dict[str, Any] = {"lengths": length, "resets": resets}
        outputs, final = lstm(params, inputs, state, **masks, activations=activations)
        return final, (final, outputs)

    of_block, (final, outputs) = jax.jacrev(after, (0, 1), has_aux=True)(params, carry.state)
    return RTRLState(final, _over_block(of_block, carry.sensitivities)), outputs


def _over_block(of_block: LSTMState, entered: Sensitivities) -> Sensitivities:
    """The sensitivities after a block, from the block's Jacobians by parameters and state."""

    def after(of_parameters: LSTMParams, of_state: LSTMState) -> ByArgument:
        def carried(S_h: Array, S_c: Array) -> Array:
            return S_h @ of_state.hidden.T + S_c @ of_state.cell.T  # [S7]

        by_params, initial_state = jax.tree.map(carried, entered.hidden, entered.cell)
        by_params = jax.tree.map(
            lambda S, V: S + jnp.moveaxis(V, 0, -1), by_params, of_parameters
        )  # [S7]
        return ByArgument(by_params, initial_state)

    return Sensitivities(after(*of_block.hidden), after(*of_block.cell))
