"""How far an estimate of a gradient is from the exact one."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlstm.gradient_check import relative_error


class GradientErrors(NamedTuple):
    """The error of an estimate over all leaves together, in float64.

    Attributes:
        cosine: of the angle between them: 1 where the estimate points along the exact gradient.
        relative_norm: the norm of their difference over that of the exact gradient.
    """

    cosine: float
    relative_norm: float


def gradient_errors(estimate: Any, exact: Any) -> GradientErrors:
    """The cosine and the relative norm error of an estimated gradient.

    Computed in float64, each vector scaled by its largest magnitude, so that no norm underflows.

    Args:
        estimate: a pytree of arrays.
        exact: a pytree of the same shapes.

    Returns:
        The cosine: 1 where both are zero, 0 where one is, NaN where the estimate is not finite.
        The relative norm error: infinite where only the exact gradient is zero, or where the
        estimate is not finite.

    Raises:
        ValueError: trees or shapes that differ.

    >>> import numpy
    >>> from jaxlstm.rtrl import gradient_errors
    >>> gradient_errors(numpy.array([2e-200, 0.0]), numpy.array([1e-200, 0.0]))
    GradientErrors(cosine=1.0, relative_norm=1.0)
    """
    shapes = [jax.tree.map(np.shape, tree) for tree in (estimate, exact)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"estimate: expected the shapes {shapes[1]}, got {shapes[0]}.")
    vector, truth = _as_vector(estimate), _as_vector(exact)
    return GradientErrors(_cosine(vector, truth), relative_error(vector, truth))


def _as_vector(tree: Any) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate([np.zeros(0), *leaves])


def _cosine(vector: np.ndarray, truth: np.ndarray) -> float:
    if not np.isfinite(vector).all():
        return float("nan")
    if not (vector.any() and truth.any()):
        return float(vector.any() == truth.any())
    return float(_unit(vector) @ _unit(truth))


def _unit(vector: np.ndarray) -> np.ndarray:
    scaled = vector / np.abs(vector).max()
    return scaled / np.linalg.norm(scaled)
