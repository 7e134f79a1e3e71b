"""Document 002: what it says in words, in its three notes and of the updated parameters."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_002.formulas import entry, value
from jaxlstm.sources.document_002.forward import cell_value
from jaxlstm.sources.document_002.stacked import over_time
from jaxlstm.sources.document_002.system import Draw
from jaxlstm.sources.ledger import Entry

SMALL = 1e-6
"""A slope that has vanished."""


def note_entries() -> Iterable[Entry]:
    """The flow of c^t, the gates' range, tanh's slope beside sigma's, and what is updated."""
    yield entry(
        "NOTE 1",
        "c^{t+1} = c^t",
        printed=partial(value, "c"),
        corrected=next_cell,
        truth=cell_after,
        verdict="fails",
        kind="claim",
        note="c^t flows into c^{t+1} and is not it: c^{t+1} = a^{t+1} i^{t+1} + c^t f^{t+1}.",
    )
    yield entry(
        "NOTE 2",
        r"i^t, f^t, o^t \in [0, 1]",
        printed=gates_from_middle,
        truth=None,
        kind="bound",
        note="Judged as |2 i^t - 1| and so on, at most 1; a^t, by tanh, is no gate.",
    )
    yield from _slope_entries()
    yield entry(
        "updated parameters",
        r"\delta\Theta \text{ of } W_o, U_o, W_f, U_f, W_i, U_i",
        printed=without_a,
        corrected=over_time,
        truth=lambda q: q.by_theta,
        verdict="fails",
        kind="claim",
        terms=lambda q: {"the rows of W_a and U_a": q.by_theta - without_a(q)},
        note="W_a and U_a are left out: their gradients are not zero, and dTheta^t holds them.",
    )


def _slope_entries() -> Iterable[Entry]:
    """Of tanh's slope, that it does not close to zero where sigma's does."""
    slope = partial(entry, "NOTE 3", truth=None, kind="claim")
    yield slope(
        r"1 - \tanh^2(z) \ge 10^{-6}",
        printed=tanh_slope_far_out,
        reading="z about -20: tanh's slope does not close to zero",
        verdict="fails",
        note="It goes to 0 as 4 exp(2z) does.",
    )
    steeper = partial(slope, r"1 - \tanh^2(z) \ge \sigma(z) (1 - \sigma(z))")
    yield steeper(
        printed=slopes_far_out,
        reading="z about -20: tanh's slope is above sigma's",
        verdict="fails",
        note="It goes to 0 as 4 exp(2z) does, sigma's as exp(z): tanh's is the faster.",
    )
    yield steeper(
        printed=slopes_near,
        reading="z between -1.66 and 0: tanh's slope is above sigma's",
        note="So it is for |z| up to 1.663, where cosh(z/2) = (1 + sqrt(3))/2.",
    )


# What passes between units, and the gates.


def cell_after(q: Draw) -> ndarray:
    """c^{t+1}."""
    return value("c", q._replace(t=q.t + 1))


def next_cell(q: Draw) -> ndarray:
    """a^{t+1} i^{t+1} + c^t f^{t+1}."""
    return cell_value(q._replace(t=q.t + 1))


def gates_from_middle(q: Draw) -> tuple[ndarray, float]:
    """The gates' distances from 1/2 at all times, and the largest allowed, doubled."""
    gates = np.stack([q.values[gate][1:] for gate in "ifo"])
    return abs(2 * gates - 1), 1.0


# The slopes of tanh and of sigma.


def tanh_slope(z: ndarray) -> ndarray:
    """1 - tanh^2(z), without the cancellation."""
    return np.cosh(z) ** -2


def sigma_slope(z: ndarray) -> ndarray:
    """sigma(z) (1 - sigma(z)), likewise."""
    return sigma(z) * sigma(-z)


def far_out(q: Draw) -> ndarray:
    """The draw's ahat^t, less 20."""
    return value("a^", q) - 20


def tanh_slope_far_out(q: Draw) -> tuple[float, ndarray]:
    """What must remain of tanh's slope, and the slope."""
    return SMALL, tanh_slope(far_out(q))


def slopes_far_out(q: Draw) -> tuple[ndarray, ndarray]:
    """sigma's slope, and tanh's."""
    return sigma_slope(far_out(q)), tanh_slope(far_out(q))


def slopes_near(q: Draw) -> tuple[ndarray, ndarray]:
    """The same between -1.66 and 0."""
    z = -1.66 * value("i", q)
    return sigma_slope(z), tanh_slope(z)


# The parameters.


def without_a(q: Draw) -> ndarray:
    """dE/dTheta with zero for W_a and U_a, which the list leaves out."""
    by_a, others = np.split(q.by_theta, [len(value("a", q))])
    return np.concatenate([0 * by_a, others])
