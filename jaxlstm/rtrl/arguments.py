"""What the functions over time share: arguments, windows, checks of losses and targets."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlstm.placement import place_along_batch, vary_together
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence


class Arguments(NamedTuple):
    """The arguments of a function over time as arrays, batched or not."""

    params: LSTMParams
    inputs: Float[Array, "T *B D"]
    state: LSTMState
    lengths: Int[Array, "*B"] | None
    resets: Bool[Array, "T *B"] | None


def arguments_of_sequence(
    params: LSTMParams,
    inputs: Any,
    state: LSTMState | None,
    lengths: Any,
    resets: Any,
    activations: Activations,
) -> Arguments:
    """Checks the arguments as ``lstm`` does; the initial state is zeros if None.

    Lengths are clipped to 0..T, for a window may reach past T.
    Inside ``shard_map`` they vary over the mesh axes that any of them varies over; on a mesh with
    Explicit axes all are placed along the batch as the inputs are.
    """
    check_sequence(params, inputs, state, lengths, resets, activations)
    if state is None:
        zeros = jnp.zeros((*inputs.shape[1:-1], len(params.recurrent_kernel)), inputs.dtype)
        state = LSTMState(zeros, zeros)
    if lengths is not None:
        lengths = jnp.clip(jnp.asarray(lengths).astype(int), 0, len(inputs))
    arguments = jax.tree.map(jnp.asarray, Arguments(params, inputs, state, lengths, resets))
    return vary_together(_placed(arguments))


def _placed(arguments: Arguments) -> Arguments:
    _, inputs, state, lengths, resets = arguments
    state, lengths = along_batch((state, lengths), inputs)
    resets = jax.tree.map(lambda leaf: along_batch(leaf.T, inputs).T, resets)
    return arguments._replace(state=state, lengths=lengths, resets=resets)


def along_batch(tree: Any, inputs: Float[Array, "T *B D"]) -> Any:
    """On a mesh with Explicit axes, arrays [B, ...] placed along the batch as the inputs are."""
    return place_along_batch(tree, inputs) if inputs.ndim == 3 else tree


def check_targets(targets: Any, time: int) -> None:
    """Requires a leading axis T of every leaf."""
    for leaf in jax.tree.leaves(targets):
        if jnp.shape(leaf)[:1] != (time,):
            raise ValueError(
                f"targets: expected a leading axis T = {time} as the inputs have, "
                f"got {list(jnp.shape(leaf))}."
            )


def check_losses(losses: Any, batch: tuple[int, ...]) -> None:
    """Requires of ``loss_fn`` one loss for each sequence."""
    if jnp.shape(losses) != batch:
        expected = f"one loss for each sequence, [B] = {list(batch)}" if batch else "a scalar, []"
        raise ValueError(f"loss_fn: expected {expected}, got {list(jnp.shape(losses))}.")


def in_windows(tree: Any, window: int) -> Any:
    """Leaves [T, ...] as [ceil(T / window), window, ...], zeros past the end."""

    def cut(leaf: Array) -> Array:
        count = -(-len(leaf) // window)
        past = ((0, count * window - len(leaf)), *((0, 0),) * (leaf.ndim - 1))
        return jnp.pad(leaf, past).reshape(count, window, *leaf.shape[1:])

    return jax.tree.map(cut, tree)
