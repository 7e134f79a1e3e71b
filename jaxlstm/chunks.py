"""Through time from chunk to chunk of steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

COLUMNS = 256
"""Steps times sequences of a chunk: enough for products at full speed, few enough for the cache."""


def chunk_size(time: int, batch: int, residuals: str) -> int:
    """How many steps a chunk has: about ``COLUMNS`` / B, or sqrt(T), dividing T if it can.

    >>> chunk_size(100, 64, "gates"), chunk_size(97, 64, "gates"), chunk_size(100, 64, "chunks")
    (4, 4, 10)
    """
    wanted = round(time**0.5) if residuals == "chunks" else -(-COLUMNS // max(batch, 1))
    wanted = max(1, min(wanted, time))
    fitting = (size for size in range(wanted, wanted // 2, -1) if time % size == 0)
    return next(fitting, wanted)


def scan_over_chunks(
    function: Callable[[Any, Any], Any],
    carry: Any,
    firsts: Any,
    steps: Any,
    size: int,
    *,
    reverse: bool = False,
) -> Any:
    """A scan over chunks of ``size`` steps, the last of which may have fewer.

    ``function`` takes the carry and a chunk: its own of ``firsts``, and its steps. Each leaf of its
    results has steps, or something else to be put together, along the first axis.
    """
    whole, rest = divmod(len(jax.tree.leaves(steps)[0]), size)
    cut = jax.tree.map(lambda a: a[: whole * size].reshape(whole, size, *a.shape[1:]), steps)
    chunks = (jax.tree.map(lambda a: a[:whole], firsts), cut)

    def over_rest(carry: Any) -> Any:
        first = jax.tree.map(lambda a: a[whole], firsts)
        return function(carry, (first, jax.tree.map(lambda a: a[whole * size :], steps)))

    after = None
    if rest and reverse:
        carry, after = over_rest(carry)
    carry, found = jax.lax.scan(function, carry, chunks, reverse=reverse)
    if rest and not reverse:
        carry, after = over_rest(carry)
    found = jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), found)
    if after is None:
        return carry, found
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, after)
