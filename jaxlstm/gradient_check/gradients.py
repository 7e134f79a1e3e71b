"""Reverse-mode gradients of two functions compared, leaf by leaf and block by block."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.comparison import Comparison, Verdict
from jaxlstm.gradient_check.rounding import judge, moved_by_half_ulps, relative_error, yardstick

Function = Callable[[Any, Any], Any]
"""``f(args, context) -> outputs``, differentiated by ``args``; ``context``: integers and masks."""

Blocks = Mapping[str, Mapping[str, Any]]
"""For an argument's name, the indices of its named blocks."""

DRAWS = 8


def compare_gradients(
    candidate: Function,
    reference: Function,
    args: Any,
    cotangents: Any,
    *,
    context: Any = None,
    dtype: Any = jnp.float32,
    blocks: Blocks | None = None,
    names: tuple[str, str] = ("candidate", "reference"),
    seed: int = 0,
) -> list[Comparison]:
    """Holds the candidate's gradient in ``dtype`` against the reference's in float64.

    Args:
        candidate: the function whose derivative is under test.
        reference: the same function, its derivative trusted.
        args: a pytree of floating arrays, what is differentiated by; rounded to ``dtype`` first.
        cotangents: a pytree of floating arrays like the outputs.
        context: what the functions take besides, not differentiated.
        dtype: the working dtype.
        blocks: for a leaf's name (``params.bias``), its named blocks as indices.
        names: what to call candidate and reference.
        seed: of the half-ulps.

    Returns:
        For each leaf, the comparison of all of it, then of each block.
    """
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), (args, cotangents))
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), rounded)
        moved = moved_by_half_ulps(np.random.default_rng(seed), exact, dtype, DRAWS)
        gradients = [
            pull_back(reference, *exact, context),
            pull_back(reference, *rounded, context),
            pull_back_many(reference, *moved, context),
            pull_back(candidate, *rounded, context),
        ]
    return [
        Comparison(
            *names,
            "rounding ratio",
            jnp.dtype(dtype).name,
            name,
            block,
            *_judged(leaves, index, dtype),
        )
        for name, leaves in _leaves_by_name(gradients)
        for block, index in _parts(blocks, name)
    ]


def _leaves_by_name(gradients: list[Any]) -> list[tuple[str, list[ndarray]]]:
    """For each leaf, its dotted name and what each of the gradients holds there, in float64."""
    columns = zip(*map(jax.tree.leaves, gradients), strict=True)
    in_float64 = [[np.asarray(leaf, np.float64) for leaf in column] for column in columns]
    return list(zip(leaf_names(gradients[0]), in_float64, strict=True))


def leaf_names(tree: Any) -> list[str]:
    """The dotted name of each leaf, such as ``params.bias``."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def _parts(blocks: Blocks | None, name: str) -> list[tuple[str | None, Any]]:
    return [(None, ...), *(blocks or {}).get(name, {}).items()]


def _judged(leaves: list[ndarray], index: Any, dtype: Any) -> tuple[float, float | None, Verdict]:
    """Relative error, rounding ratio and verdict of the entries at ``index``."""
    truth, trusted, moved, candidate = leaves
    truth, trusted, candidate = truth[index], trusted[index], candidate[index]
    if not np.isfinite(truth).all():
        return float("nan"), None, "unresolved"
    error = relative_error(candidate, truth)
    yard = yardstick(truth, [trusted, *(draw[index] for draw in moved)])
    return error, *judge(error, yard, bool(truth.any()), dtype)


@partial(jax.jit, static_argnums=0)
def pull_back(function: Function, args: Any, cotangents: Any, context: Any) -> Any:
    """The gradient with respect to ``args`` of the product of outputs and cotangents."""
    return jax.vjp(lambda args: function(args, context), args)[1](cotangents)[0]


@partial(jax.jit, static_argnums=0)
def pull_back_many(function: Function, args: Any, cotangents: Any, context: Any) -> Any:
    """``pull_back`` for a leading axis of draws."""
    return jax.vmap(lambda a, c: pull_back(function, a, c, context))(args, cotangents)
