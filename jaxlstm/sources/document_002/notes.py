"""Document 002: what it says in words, in its three notes and of the updated parameters."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, sigma
from jaxlstm.sources.document_002.errors import accumulated, carried
from jaxlstm.sources.document_002.formulas import by, by_latex, entry, value
from jaxlstm.sources.document_002.forward import cell_value
from jaxlstm.sources.document_002.stacked import over_time
from jaxlstm.sources.document_002.system import Draw, draw
from jaxlstm.sources.ledger import Condition, Entry

SMALL = 1e-6
"""A slope that has vanished."""


def note_entries() -> Iterable[Entry]:
    """The flow of c^t, the gates' range, the two tanh's, and what is updated."""
    yield entry(
        "NOTE 1",
        "c^{t+1} = c^t",
        printed=partial(value, "c"),
        corrected=next_cell,
        truth=cell_after,
        verdict="fails",
        kind="claim",
        terms=next_cell_terms,
        note="c^t flows into c^{t+1} and is not it: c^{t+1} = a^{t+1} i^{t+1} + c^t f^{t+1}.",
    )
    yield from _flow_entries()
    yield entry(
        "NOTE 2",
        r"i^t, f^t, o^t \in [0, 1]",
        printed=gates_from_middle,
        truth=None,
        kind="bound",
        note="Judged as |2 i^t - 1| and so on, at most 1; a^t, by tanh, is no gate.",
    )
    yield from _bend_entries()
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


def _flow_entries() -> Iterable[Entry]:
    """What c^t gets back from t + 1 beside dE/dh^t: by h^{t+1} alone, or by all of c^{t+1}."""
    claim = partial(entry, "NOTE 1", truth=partial(by, "c"), kind="claim")
    through_h = rf"{by_latex('h')} \, \partial h^t/\partial c^t"
    by_next, f = by_latex("h", "t+1"), "f^{t+1}"
    dh_dc = r"\partial h^{t+1}/\partial c^{t+1}"
    yield claim(
        rf"{by_latex('c')} = {through_h} + {by_next} \, {dh_dc} \, {f}",
        printed=through_two_outputs,
        corrected=partial(accumulated, partial(by, "c>h")),
        reading="from h^t and h^{t+1}",
        verdict="holds only if",
        condition=Condition("t = T - 1", partial(draw, time=-2)),
        terms=flow_terms,
        note="What c^{t+1} hands on to c^{t+2} is missing.",
    )
    yield claim(
        rf"{by_latex('c')} = {through_h} + {by_latex('c', 't+1')} \odot {f}",
        printed=partial(accumulated, partial(by, "c>h")),
        reading="from h^t and c^{t+1}",
        used_by=("B1",),
        note="As the flow from c^t to c^{t+1} has it, and the accumulation.",
    )


def _bend_entries() -> Iterable[Entry]:
    """Whether what is not linear in the cell are its tanh's, at the middle of two points."""
    claim = partial(entry, "NOTE 3", kind="claim")
    yield claim(
        r"h(\frac{u + v}{2}) = \frac{h(u) + h(v)}{2} \text{ with } z \text{ for } \tanh(z)",
        printed=partial(mean_of_ends, np.positive),
        corrected=partial(mean_of_ends, np.positive, held=True),
        truth=partial(at_middle, np.positive),
        reading="the tanh's alone: without them h^t is linear in u = (x^t, h^{t-1}, c^{t-1})",
        verdict="holds only if",
        condition=Condition(
            "the gates i^t, f^t and o^t are constant, as where their W and U are 0",
            partial(draw, without=tuple(f"{A}_{gate}" for A in "WU" for gate in "ifo")),
        ),
        note="The gates' sigmoids and the products with them are not linear either. h_t is h^t.",
    )
    yield claim(
        r"\|h(\frac{u + v}{2}) - \frac{h(u) + h(v)}{2}\| \ge 10^{-6} \text{ at constant gates}",
        printed=bend_by_tanh,
        truth=None,
        reading="the tanh's too: with them h^t is not linear, even at constant gates",
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


def next_cell_terms(q: Draw) -> dict[str, ndarray]:
    """c^t, and the two parts of c^{t+1}."""
    later = q._replace(t=q.t + 1)
    return {
        "c^t": value("c", q),
        "c^t f^{t+1}": value("c", q) * value("f", later),
        "a^{t+1} i^{t+1}": value("a", later) * value("i", later),
    }


def gates_from_middle(q: Draw) -> tuple[ndarray, float]:
    """The gates' distances from 1/2 at all times, and the largest allowed, doubled."""
    gates = np.stack([q.values[gate][1:] for gate in "ifo"])
    return abs(2 * gates - 1), 1.0


def through_two_outputs(q: Draw) -> ndarray:
    """dE/dc^t through h^t, and through c^{t+1} and h^{t+1} alone."""
    later = q._replace(t=q.t + 1)
    return by("c>h", q) + by("c>h", later) * value("f", later)


def flow_terms(q: Draw) -> dict[str, ndarray]:
    """The ways from c^t: through h^t, through h^{t+1}, and further."""
    later = q._replace(t=q.t + 1)
    return {
        "dE/dc^t through h^t": by("c>h", q),
        "dE/dc^{t+1} through h^{t+1}, times f^{t+1}": by("c>h", later) * value("f", later),
        "dc^{t+2} f^{t+2} f^{t+1}": carried(later) * value("f", later),
    }


# What bends h^t.

Squash = Callable[[ndarray], ndarray]
"""tanh, or what stands in its place."""
Point = tuple[ndarray, ndarray, ndarray]
"""x^t, h^{t-1} and c^{t-1}."""


def ends(q: Draw) -> tuple[Point, Point]:
    """Two points: those of t and of t + 1."""
    h, c = q.values["h"], q.values["c"]
    return (q.x[q.t], h[q.t - 1], c[q.t - 1]), (q.x[q.t + 1], h[q.t], c[q.t])


def middle(q: Draw) -> Point:
    """The mean of the two points."""
    x, h, c = (np.mean(pair, axis=0) for pair in zip(*ends(q), strict=True))
    return x, h, c


def pre_activation(gate: str, q: Draw, point: Point) -> ndarray:
    """W x^t + U h^{t-1} of a gate."""
    return q.params[f"W_{gate}"] @ point[0] + q.params[f"U_{gate}"] @ point[1]


def hidden(squash: Squash, q: Draw, point: Point, gates_at: Point) -> ndarray:
    """h^t at a point, with the gates i^t, f^t and o^t of another."""
    i, f, o = (sigma(pre_activation(gate, q, gates_at)) for gate in "ifo")
    return squash(squash(pre_activation("a", q, point)) * i + point[2] * f) * o


def at_middle(squash: Squash, q: Draw) -> ndarray:
    """h^t at the middle."""
    return hidden(squash, q, middle(q), middle(q))


def mean_of_ends(squash: Squash, q: Draw, held: bool = False) -> ndarray:
    """The mean of h^t at both points, with their own gates, or those held of the middle."""
    both = [hidden(squash, q, end, middle(q) if held else end) for end in ends(q)]
    return np.mean(both, axis=0)


def bend_by_tanh(q: Draw) -> tuple[float, float]:
    """How much must remain, and how far h^t is from linear, with the gates held."""
    return SMALL, norm(at_middle(np.tanh, q) - mean_of_ends(np.tanh, q, held=True))


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
