"""What the documents' formulas share, in NumPy."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy import ndarray


def sigma(z: Any) -> ndarray:
    """The logistic sigmoid, 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def product(*factors: ndarray) -> ndarray:
    """Matrices times a derivative tensor: a factor's last axis contracts with the next's first."""
    return reduce(lambda left, right: np.tensordot(left, right, 1), factors)


def norm(tensor: Any) -> float:
    """The Euclidean norm of all entries: of a matrix, Frobenius'."""
    return float(np.linalg.norm(np.ravel(tensor)))


def from_zero(rows: ndarray, first: ndarray | None = None) -> ndarray:
    """The rows of times 1 to T behind that of time 0, which is NaN unless given."""
    return np.concatenate([np.full_like(rows[:1], np.nan) if first is None else first[None], rows])


def derivative(line: Callable[..., Any], *arguments: tuple[ndarray, ndarray]) -> ndarray:
    """The derivative of a formula, in a complex step along each entry of A: exact to rounding.

    Args:
        line: the formula, in analytic functions.
        *arguments: of each, its value [...] and its derivative by A [..., n].

    Returns:
        For each of A's n entries, on the last axis.
    """
    step = 1e-30
    columns = (
        line(*(value + 1j * step * by[..., entry] for value, by in arguments)).imag / step
        for entry in range(arguments[0][1].shape[-1])
    )
    return np.stack(list(columns), axis=-1)


def jacobian(line: Callable[[Any], Any], x: ndarray) -> ndarray:
    """The derivative of a formula by its only argument, a vector."""
    return derivative(line, (x, np.eye(len(x))))
