"""What document 001's formulas share: times, derivatives, and two ways to read a product."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_001.system import Draw
from jaxlstm.sources.ledger import Entry

At = Callable[[Draw, int], ndarray]
"""A formula at a draw and a time."""
Product = Callable[..., ndarray]
entry = partial(Entry, "001")

ROWS = "element-wise on rows"
MATRICES = "as matrix products"


def now(formula: Callable[[Draw, int], Any]) -> Callable[[Draw], Any]:
    """The formula at the draw's t < T."""
    return partial(_at_t, formula)


def _at_t(formula: Callable[[Draw, int], Any], q: Draw) -> Any:
    return formula(q, q.t)


def last(formula: At) -> Callable[[Draw], ndarray]:
    """The formula at T."""
    return partial(_at_T, formula)


def _at_T(formula: At, q: Draw) -> ndarray:
    return formula(q, len(q.x) - 1)


def always(formula: At) -> Callable[[Draw], ndarray]:
    """The formula at every t."""
    return partial(_always, formula)


def _always(formula: At, q: Draw) -> ndarray:
    return np.stack([formula(q, t) for t in range(1, len(q.x))])


def before_last(formula: At) -> Callable[[Draw], ndarray]:
    """The formula at every t < T."""
    return partial(_before_T, formula)


def _before_T(formula: At, q: Draw) -> ndarray:
    return np.stack([formula(q, t) for t in range(1, len(q.x) - 1)])


def over_time(formula: At, q: Draw) -> ndarray:
    """The sum over t = 1 to T."""
    return np.sum([formula(q, t) for t in range(1, len(q.x))], axis=0)


def value(name: str, q: Draw, t: int) -> ndarray:
    """The quantity."""
    return q.values[name][t]


def by(name: str, q: Draw, t: int) -> ndarray:
    """dL by the quantity, a row."""
    return q.loss_by[name][t]


def chain(q: Draw, a: str, s: int, b: str, t: int) -> ndarray:
    """da_s/db_t [n, m], in total."""
    return q.total[a][b][s - 1, :, t - 1]


def of_outputs(q: Draw, name: str, t: int, times: range) -> ndarray:
    """The sum over s of dL/do_s times do_s by the quantity at t."""
    return np.sum([by("o", q, s) @ chain(q, "o", s, name, t) for s in times], axis=0)


def element_wise(*factors: ndarray) -> ndarray:
    """The product of vectors, entry by entry."""
    return reduce(np.multiply, factors)


def matrix_product(*factors: ndarray) -> ndarray:
    """The product of a row, then of columns and matrices, as they stand."""
    first, *others = factors
    columns = [f[:, None] if f.ndim == 1 else f for f in others]
    return reduce(np.matmul, columns, first[None])[0]


def latex(name: str) -> str:
    """The quantity's letter."""
    return r"\tilde{c}" if name == "c~" else name


def by_latex(name: str, time: str = "t") -> str:
    """dL by the quantity, in LaTeX."""
    return rf"\partial L/\partial {latex(name)}_{{{time}}}"


def as_matrices(result: Callable[..., Entry], printed: Any, corrected: Any) -> Entry:
    """The entry of a result read as matrix products throughout."""
    return result(
        printed=printed,
        corrected=corrected,
        reading=MATRICES,
        verdict="ill-formed",
        note="A row times a column is a number: the factors are entries of a diagonal.",
    )
