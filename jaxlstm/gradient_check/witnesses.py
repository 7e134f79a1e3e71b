"""Witnesses that share nothing with reverse mode: finite differences and the adjoint identity.

For each argument a random direction v, with u the cotangents: both compare the directional
derivative ``<u, J v>`` with the candidate's ``<J' u, v>``, in float64.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Comparison, Verdict
from jaxlstm.gradient_check.gradients import DRAWS, Function, leaf_names, pull_back
from jaxlstm.gradient_check.rounding import judge, moved_by_half_ulps, rounding_ratio

STEPS = 0.1 * 0.5 ** np.arange(8)
"""Of the central differences, in units of the argument's root mean square."""

RESOLVED = 1e-6
"""A difference whose error estimate exceeds this part of the derivative tells nothing."""


def check_finite_differences(
    candidate: Function,
    args: Any,
    cotangents: Any,
    *,
    context: Any = None,
    names: tuple[str, str] = ("candidate", "central differences"),
    seed: int = 0,
) -> list[Comparison]:
    """Holds the candidate's gradient against central differences of its own values.

    The differences at eight steps are extrapolated to step zero, which also estimates their error;
    that estimate takes the yardstick's place, and where it is too coarse the answer is
    "unresolved".

    Args and returns as in ``compare_gradients``, a comparison for each leaf.
    """
    with jax.enable_x64(True):
        args, cotangents = _in_float64((args, cotangents))
        directions = _directions(np.random.default_rng(seed), args)
        pairings = _pairings(pull_back(candidate, args, cotangents, context), directions)
        values, magnitude = _moved_values(candidate, args, cotangents, context, directions)
    describe = partial(Comparison, *names, "finite differences", "float64")
    return [
        describe(name, None, *_against_difference(pairing, row, float(magnitude)))
        for name, pairing, row in zip(leaf_names(args), pairings, np.asarray(values), strict=True)
    ]


def check_adjoint_identity(
    candidate: Function,
    reference: Function,
    args: Any,
    cotangents: Any,
    *,
    context: Any = None,
    names: tuple[str, str] = ("candidate", "jvp of the reference"),
    seed: int = 0,
) -> list[Comparison]:
    """Holds the candidate's ``<J' u, v>`` against ``<u, J v>`` by JAX's jvp of the reference.

    The relative error is the difference over ``|u| |J v|``; the yardstick is what ``<u, J v>``
    changes by when inputs, cotangents and direction move by half-ulps.

    Args and returns as in ``compare_gradients``, a comparison for each leaf.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        args, cotangents = _in_float64((args, cotangents))
        directions = _directions(rng, args)
        pairings = _pairings(pull_back(candidate, args, cotangents, context), directions)
        exact = jax.tree.map(lambda leaf: leaf[None], (args, cotangents, directions))
        moved = moved_by_half_ulps(rng, (args, cotangents, directions), np.float64, DRAWS)
        draws = jax.tree.map(lambda *leaves: np.concatenate(leaves), exact, moved)
        products, sizes = map(np.asarray, _push_forward(reference, *draws, context))
    describe = partial(Comparison, *names, "adjoint identity", "float64")
    return [
        describe(name, None, *_against_product(pairing, column.tolist(), float(size)))
        for name, pairing, column, size in zip(
            leaf_names(args), pairings, products.T, sizes[0], strict=True
        )
    ]


def extrapolate(values: Float[ndarray, "2 steps"], magnitude: float) -> tuple[float, float]:
    """The derivative at 0 from values at plus and minus STEPS, and an estimate of its error.

    Args:
        values: the function at plus the steps, and at minus the steps.
        magnitude: the size of the terms that the function sums, whose rounding the values carry.
    """
    forward, backward = values
    columns = [(forward - backward) / (2 * STEPS)]
    rounding = np.finfo(np.float64).eps * magnitude / STEPS
    best = (float("nan"), float("inf"))
    for order in range(1, len(STEPS)):
        last = columns[-1]
        columns.append(last[1:] + (last[1:] - last[:-1]) / (4**order - 1))
        spread = np.maximum(abs(columns[-1] - last[1:]), abs(columns[-1] - last[:-1]))
        estimates = spread + rounding[order:]
        at = int(estimates.argmin())
        best = min(best, (float(columns[-1][at]), float(estimates[at])), key=lambda pair: pair[1])
    return best


def _against_difference(
    pairing: float, values: Float[ndarray, "2 steps"], magnitude: float
) -> tuple[float, float, Verdict]:
    """Relative error, error over estimate, verdict; of a constant function only zero passes."""
    derivative, estimate = extrapolate(values, magnitude)
    if np.ptp(values) == 0:
        derivative = estimate = 0.0
    error, scale = abs(pairing - derivative), abs(derivative)
    ratio = rounding_ratio(error, estimate)
    relative = error / scale if scale > 0 else rounding_ratio(error, 0.0)
    resolved = error == 0 or estimate <= RESOLVED * scale
    return relative, ratio, ratio <= RATIO_LIMIT if resolved else "unresolved"


def _against_product(
    pairing: float, products: list[float], size: float
) -> tuple[float, float | None, Verdict]:
    """Relative error, rounding ratio, verdict; ``size`` is ``|u| |J v|``."""
    exact, *moved = products
    if size == 0:
        return rounding_ratio(abs(pairing), 0.0), None, pairing == 0
    error = abs(pairing - exact) / size
    yard = max(abs(product - exact) for product in moved) / size
    return error, *judge(error, yard, True, np.float64)


def _in_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def _directions(rng: np.random.Generator, args: Any) -> Any:
    """One direction for each leaf, stacked: row n moves the n-th leaf alone, by its own size."""
    leaves, treedef = jax.tree.flatten(args)

    def rows(n: int, leaf: ndarray) -> ndarray:
        stacked = np.zeros((len(leaves), *leaf.shape))
        size = np.sqrt(np.mean(leaf**2)) if leaf.size else 0.0
        stacked[n] = rng.standard_normal(leaf.shape) * (size or 1.0)
        return stacked

    return treedef.unflatten([rows(n, leaf) for n, leaf in enumerate(leaves)])


def _pairings(gradient: Any, directions: Any) -> list[float]:
    """For each direction its product with the gradient."""
    products = [
        np.tensordot(rows, np.asarray(leaf), axes=leaf.ndim)
        for rows, leaf in zip(jax.tree.leaves(directions), jax.tree.leaves(gradient), strict=True)
    ]
    return np.sum(products, axis=0).tolist()


@partial(jax.jit, static_argnums=0)
def _moved_values(
    function: Function, args: Any, cotangents: Any, context: Any, directions: Any
) -> tuple[Any, Any]:
    """``<u, f(x + e v)>`` [directions, 2, steps] at plus and minus the steps; ``<|u|, |f(x)|>``."""

    def value(direction: Any, step: Any) -> Any:
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, args, direction)
        return _product(function(moved, context), cotangents)

    steps = jnp.stack([STEPS, -STEPS])
    over_steps = jax.vmap(jax.vmap(value, (None, 0)), (None, 0))
    values = jax.vmap(over_steps, (0, None))(directions, steps)
    return values, _product(*jax.tree.map(jnp.abs, (function(args, context), cotangents)))


@partial(jax.jit, static_argnums=0)
def _push_forward(
    function: Function, args: Any, cotangents: Any, directions: Any, context: Any
) -> tuple[Any, Any]:
    """``<u, J v>`` and ``|u| |J v|``, each [draws, directions]."""

    def push(args: Any, cotangents: Any, direction: Any) -> tuple[Any, Any]:
        tangents = jax.jvp(lambda args: function(args, context), (args,), (direction,))[1]
        norms = [jnp.sqrt(_product(tree, tree)) for tree in (cotangents, tangents)]
        return _product(tangents, cotangents), norms[0] * norms[1]

    return jax.vmap(jax.vmap(push, (None, None, 0)))(args, cotangents, directions)


def _product(left: Any, right: Any) -> Any:
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), left, right)))
