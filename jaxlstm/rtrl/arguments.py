"""What the functions over time share: arguments, masks, windows, checks of losses and targets."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlstm.placement import vary_together
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence


def keep(mask: Bool[Array, "*B"] | None, tree: Any, otherwise: Any = None) -> Any:
    """``tree`` where the mask holds (if None, always), else ``otherwise`` (if None, zeros).

    The mask is that of the leading axes of every leaf.
    """
    if mask is None:
        return tree
    if otherwise is None:
        otherwise = jax.tree.map(jnp.zeros_like, tree)
    return jax.tree.map(partial(_where, mask), tree, otherwise)


def _where(mask: Array, leaf: Array, otherwise: Array) -> Array:
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (leaf.ndim - mask.ndim)), leaf, otherwise)


def valid_steps(lengths: Array | None, time: int) -> Bool[Array, "T *B"] | None:
    """Which steps lie before the length: [T, B] ([T] unbatched), None where all do."""
    if lengths is None:
        return None
    return jnp.arange(time).reshape(time, *(1,) * lengths.ndim) < lengths.astype(int)


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
    Inside ``shard_map`` they vary over the mesh axes that any of them varies over.
    """
    check_sequence(params, inputs, state, lengths, resets, activations)
    if state is None:
        zeros = jnp.zeros((*inputs.shape[1:-1], len(params.recurrent_kernel)), inputs.dtype)
        state = LSTMState(zeros, zeros)
    if lengths is not None:
        lengths = jnp.clip(jnp.asarray(lengths).astype(int), 0, len(inputs))
    arguments = Arguments(params, inputs, state, lengths, resets)
    return vary_together(jax.tree.map(jnp.asarray, arguments))


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
