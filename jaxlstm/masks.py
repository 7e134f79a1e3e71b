"""Which steps count: a mask [T, B] of the lengths, and what a mask keeps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer


def valid_steps(lengths: Integer[Array, "*B"] | None, time: int) -> Bool[Array, "T *B"] | None:
    """Which steps lie before the length: [T, B] ([T] unbatched), None where all do.

    >>> print(valid_steps(jnp.array([3, 1]), 3).T.astype(int))
    [[1 1 1]
     [1 0 0]]
    """
    if lengths is None:
        return None
    return jnp.arange(time).reshape(time, *(1,) * lengths.ndim) < lengths.astype(int)


def keep(mask: Bool[Array, "*B"] | None, tree: Any, otherwise: Any = None) -> Any:
    """``tree`` where the mask holds (if None, everywhere), else ``otherwise`` (if None, zeros).

    The mask is that of the leading axes of every leaf.

    >>> print(keep(jnp.array([True, False]), jnp.ones((2, 3))))
    [[1. 1. 1.]
     [0. 0. 0.]]
    """
    if mask is None:
        return tree
    if otherwise is None:
        otherwise = jax.tree.map(jnp.zeros_like, tree)
    return jax.tree.map(partial(_where, mask), tree, otherwise)


def _where(mask: Array, leaf: Array, otherwise: Array) -> Array:
    return jnp.where(jnp.expand_dims(mask, range(mask.ndim, leaf.ndim)), leaf, otherwise)
