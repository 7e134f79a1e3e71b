"""Errors and the yardstick they are judged by, all in float64.

The truth is the trusted derivation in float64. The yardstick is the larger of two distances from
the truth: that of the trusted derivation in the working dtype, and that of the truth for inputs and
cotangents moved by random half-ulps of the working dtype.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike
from numpy import ndarray

from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Verdict

HALF_PRECISION = 1e-4
"""The eps that half precisions exceed."""


def relative_error(value: ArrayLike, truth: ArrayLike) -> float:
    """The norm of ``value - truth`` over the norm of ``truth``.

    Scaled by the largest magnitude, so that no norm underflows; 0 where both are exactly zero, and
    infinite where only the truth is, or where the value is not finite.

    >>> import numpy
    >>> truth, value = numpy.array([3e-200, 4e-200]), numpy.array([3e-200, 4.1e-200])
    >>> print(f"{relative_error(value, truth):.3f}")
    0.020
    """
    return float(relative_errors(np.ravel(np.asarray(value)), np.ravel(np.asarray(truth)), ()))


def relative_errors(value: ArrayLike, truth: ArrayLike, along: tuple[int, ...]) -> ndarray:
    """``relative_error`` for each index of the axes ``along``, an array of these axes."""
    value, truth = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    rest = tuple(axis for axis in range(truth.ndim) if axis not in along)
    finite = np.isfinite(value).all(rest)
    scale = np.abs(truth).max(rest, initial=0.0, keepdims=True)
    divisor = np.where(scale > 0, scale, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.where(scale > 0, _norm(truth / divisor, rest), 1.0)
        error = _norm((value - truth) / divisor, rest) / size
    nothing = np.where(value.any(rest, keepdims=True), np.inf, 0.0)
    error = np.where(scale > 0, error, nothing).reshape(finite.shape)
    return np.where(finite, error, np.inf)


def _norm(array: ndarray, axes: tuple[int, ...]) -> ndarray:
    return np.sqrt(np.square(array).sum(axes, keepdims=True))


def rounding_ratio(error: float, yard: float) -> float:
    """The error in yardsticks: 0 for no error, infinite for one where rounding makes none."""
    if error == 0:
        return 0.0
    return error / yard if yard > 0 else float("inf")


def judge(error: float, yard: float, nonzero: bool, dtype: Any) -> tuple[float | None, Verdict]:
    """The rounding ratio, and whether it passes.

    Where the truth is exactly zero, only exact zero passes. Where eight yardsticks exceed the
    gradient itself, rounding leaves nothing of it, and an error within them is "unresolved". In
    half precision eight yardsticks can still be most of a gradient, so there the error must also be
    within 8 eps, or within 4 yardsticks where rounding alone makes more than that.
    """
    if not nonzero:
        return None, error == 0
    ratio = rounding_ratio(error, yard)
    if not RATIO_LIMIT * yard < 1:
        return ratio, False if ratio > RATIO_LIMIT else "unresolved"
    eps = float(jnp.finfo(dtype).eps)
    fine_enough = eps < HALF_PRECISION or error <= max(RATIO_LIMIT * eps, RATIO_LIMIT / 2 * yard)
    return ratio, ratio <= RATIO_LIMIT and fine_enough


def moved_by_half_ulps(rng: np.random.Generator, tree: Any, dtype: Any, draws: int) -> Any:
    """``draws`` float64 copies of every leaf, each entry moved up or down by half an ulp of dtype.

    Of float64 itself, which has no half-ulps, each entry moves to a neighbour. Zero stays zero.
    """
    eps = float(jnp.finfo(dtype).eps)
    part = 1.0 if jnp.dtype(dtype) == np.float64 else 0.5

    def move(leaf: ndarray) -> ndarray:
        ulps = np.where(leaf == 0, 0.0, np.ldexp(eps, np.frexp(leaf)[1] - 1))
        return leaf + rng.choice([-part, part], size=(draws, *leaf.shape)) * ulps

    return jax.tree.map(move, tree)


def moved_by_ulps(rng: np.random.Generator, tree: Any, dtype: Any) -> Any:
    """Every leaf in its own dtype, each entry moved up or down by an ulp of ``dtype``."""
    eps = float(jnp.finfo(dtype).eps)

    def move(leaf: ndarray) -> ndarray:
        wide = np.asarray(leaf, np.float64)
        ulps = np.where(wide == 0, 0.0, np.ldexp(eps, np.frexp(wide)[1] - 1))
        return (wide + rng.choice([-1.0, 1.0], size=wide.shape) * ulps).astype(leaf.dtype)

    return jax.tree.map(move, tree)
