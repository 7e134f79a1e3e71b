"""Document 004: which h_{t-1} of length 1 maximises a forget gate, and what the gate reaches."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_004.system import Draw, draw
from jaxlstm.sources.ledger import Condition, Entry

entry = partial(Entry, "004")

OVER_H = r"\operatorname{argmax}_{h_{t-1}: \|h_{t-1}\|_2 = 1}"


def argmax_entries() -> Iterable[Entry]:
    """Every line of the argmax, for all units d at once; the first is tried on other vectors."""
    yield entry(
        "argmax f_t",
        rf"{OVER_H} f_t^{{(d)}}",
        printed=lambda q: (q.reached["f_t at others"].max(0), q.reached["f_t"]),
        truth=None,
        kind="definition",
        line=1,
        reading="no other vector reaches more",
    )
    line = partial(entry, truth=lambda q: q.argmax["f_t"])
    yield line(
        "argmax f_t",
        rf"{OVER_H} \sigma(W_f^{{(d)}} \cdot x_t + U_f^{{(d)}} \cdot h_{{t-1}})",
        printed=lambda q: q.argmax["sigma"],
    )
    yield line(
        "argmax U_f h_t-1",
        rf"{OVER_H} U_f^{{(d)}} \cdot h_{{t-1}}",
        printed=lambda q: q.argmax["U_f h"],
        line=1,
        note="sigma is increasing, and x_t adds the same for every h_{t-1}.",
    )
    yield line(
        "argmax U_f h_t-1",
        rf"{OVER_H} \|U_f^{{(d)}}\| \|h_{{t-1}}\| \cos\theta",
        printed=lambda q: q.argmax["lengths and angle"],
        line=2,
    )
    by_angle = partial(
        line, "argmax U_f h_t-1", r"\operatorname{argmax}_\theta \|U_f^{(d)}\| \cos\theta"
    )
    yield by_angle(
        printed=_best_angle,
        corrected=_direction,
        reading="the angle itself",
        verdict="ill-formed",
        note="A vector on the left, an angle on the right.",
    )
    yield by_angle(printed=_at_best_angle, reading="h_{t-1} at that angle")
    yield from _direction_entries()


def _direction_entries() -> Iterable[Entry]:
    yield entry(
        "theta",
        r"\cos\theta = \cos 0",
        printed=lambda q: np.cos(_best_angle(q)),
        truth=lambda q: (q.argmax["f_t"] * _direction(q)).sum(1),
        kind="claim",
    )
    direction = partial(entry, "direction", truth=lambda q: q.argmax["f_t"])
    yield direction(
        r"h_{t-1} / \|h_{t-1}\|",
        printed=lambda q: _unit(_along(q)),
        line=1,
        reading="h_{t-1} of any length, at theta = 0",
    )
    yield direction(r"U_f^{(d)} / \|U_f^{(d)}\|", printed=_direction)
    yield entry(
        "only one direction",
        r"\|U_f^{(d)}\| - U_f^{(d)} \cdot h_{t-1}"
        r" = \|U_f^{(d)}\| \|h_{t-1} - \hat{h}_{t-1}\|^2 / 2",
        printed=None,
        corrected=_lost_by_distance,
        truth=lambda q: _length(q) - q.others @ q.params["U_f"].T,
        verdict="supplied",
        note="So the maximiser is unique where U_f^(d) is not zero, and any vector where it is.",
    )


def _length(q: Draw) -> ndarray:
    return np.linalg.norm(q.params["U_f"], axis=1)


def _unit(rows: ndarray) -> ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _direction(q: Draw) -> ndarray:
    return _unit(q.params["U_f"])


def _along(q: Draw) -> ndarray:
    """For each d, a vector as long as the draw's h_{t-1} and along U_f^(d)."""
    return np.linalg.norm(q.before["h"]) * _direction(q)


def _best_angle(q: Draw) -> ndarray:
    """The best of 2001 angles between -pi and pi, for each d."""
    angles = np.linspace(-np.pi, np.pi, 2001)
    return angles[np.argmax(np.cos(angles) * _length(q)[:, None], axis=1)]


def _at_best_angle(q: Draw) -> ndarray:
    """The vector that leaves U_f^(d) by that angle, towards the first of the other vectors."""
    ahead, angle = _direction(q), _best_angle(q)[:, None]
    aside = _unit(q.others[0] - (ahead @ q.others[0])[:, None] * ahead)
    return np.cos(angle) * ahead + np.sin(angle) * aside


def _lost_by_distance(q: Draw) -> ndarray:
    apart = q.others[:, None] - _direction(q)
    return _length(q) * (apart**2).sum(-1) / 2


# The value at the maximum, and the part of x_t in it.


def maximum_entries() -> Iterable[Entry]:
    """What the maximum is, and what x_t = 0 is needed for."""
    attained = partial(entry, "max f_t", r"\|U_f^{(d)}\|", printed=_length, kind="claim")
    yield attained(
        truth=lambda q: q.reached["f_t at x_t = 0"],
        corrected=lambda q: sigma(_length(q)),
        reading="the value of f_t, x_t = 0",
        verdict="fails",
        note="f_t reaches sigma(|U_f|), always below 1; |U_f| is its argument there.",
    )
    yield attained(truth=lambda q: q.reached["U_f h"], reading="the argument of sigma, x_t = 0")
    yield entry(
        "x_t and the argmax",
        OVER_H.replace("argmax", "gray") + r" \sigma(U_f^{(d)} \cdot h_{t-1})",
        printed=lambda q: q.argmax["f_t at x_t = 0"],
        truth=lambda q: q.argmax["f_t"],
        kind="claim",
        verdict="typographical",
        note="Prints gray for argmax, here and before sigma of both terms. x_t = 0 is not needed.",
    )
    yield entry(
        "x_t and the max",
        r"\max_{h_{t-1}: \|h_{t-1}\|_2 = 1} \sigma(U_f^{(d)} \cdot h_{t-1})",
        printed=lambda q: sigma(_length(q)),
        truth=lambda q: q.reached["f_t"],
        corrected=lambda q: sigma(q.params["W_f"] @ q.x + _length(q)),
        kind="claim",
        verdict="holds only if",
        condition=Condition("x_t = 0", partial(draw, input_scale=0.0)),
        note="Another x_t changes the value to sigma(W_f x_t + |U_f|).",
    )
