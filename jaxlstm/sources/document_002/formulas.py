"""What document 002's formulas share: quantities at time t, and their derivatives."""

from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_002.system import Draw
from jaxlstm.sources.ledger import Entry

entry = partial(Entry, "002")


def value(name: str, q: Draw) -> ndarray:
    """The quantity at t."""
    return q.values[name][q.t]


def before(name: str, q: Draw) -> ndarray:
    """The quantity at t - 1."""
    return q.values[name][q.t - 1]


def by(name: str, q: Draw) -> ndarray:
    """dE by the quantity at t."""
    return q.error_by[name][q.t]


def hidden_by(name: str, q: Draw) -> ndarray:
    """dh^t by the quantity at t [H, H]."""
    return q.hidden_by[name][q.t - 1, :, q.t - 1]


def gate_of(gate: str, hat: ndarray) -> ndarray:
    """The gate of its pre-activation: tanh for a, else the sigmoid."""
    return np.tanh(hat) if gate == "a" else sigma(hat)


def by_latex(name: str, time: str = "t") -> str:
    """dE by the quantity, in LaTeX."""
    return rf"\partial E/\partial {latex(name)}^{{{time}}}"


def latex(name: str) -> str:
    """The quantity's letter."""
    return rf"\hat{{{name[0]}}}" if name.endswith("^") else name
