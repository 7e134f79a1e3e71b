"""Document 004: the step, whether c_{t-1} depends on h_{t-1}, and dh_t/dh_{t-1}."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_004.system import GATES, Draw
from jaxlstm.sources.ledger import Entry

entry = partial(Entry, "004")

Times = Callable[[ndarray, ndarray], ndarray]
READINGS: dict[str, Times] = {
    "row i times entry i": lambda v, M: v[:, None] * M,
    "column j times entry j": lambda v, M: v * M,
}
"""The products of a vector with a derivative."""
ROWS = READINGS["row i times entry i"]
INPUT = "c_{t-1} an input of the step"
MOVING = "c_{t-1} the cell of h_{t-1}, o_{t-1} held"


def forward_entries() -> Iterable[Entry]:
    """The gates and the cell, of which f_t and tanh(c_t) are printed, and h_t."""
    for gate, label in GATES.items():
        function = r"\tanh" if gate == "u" else r"\sigma"
        right = partial(_gate_value, gate)
        yield entry(
            f"{gate}_t",
            rf"{function}(W_{gate} x_t + U_{gate} h_{{t-1}})",
            printed=right if gate == "f" else None,
            corrected=None if gate == "f" else right,
            truth=lambda q, gate=gate: q.values[gate],
            verdict="holds" if gate == "f" else "supplied",
            kind="definition",
            used_by=("F1", label),
        )
    yield entry(
        "h_t",
        r"o_t \circ \tanh(c_t)",
        printed=lambda q: q.values["o"] * np.tanh(q.values["c"]),
        truth=lambda q: q.values["h"],
        kind="definition",
        used_by=("F7",),
    )
    yield entry(
        "tanh(c_t)",
        r"\tanh(f_t \circ c_{t-1} + i_t \circ u_t)",
        printed=_tanh_of_cell,
        truth=lambda q: q.values["tanh(c)"],
        used_by=("F6",),
    )


def _gate_value(gate: str, q: Draw) -> ndarray:
    z = q.params[f"W_{gate}"] @ q.x + q.params[f"U_{gate}"] @ q.before["h"]
    return np.tanh(z) if gate == "u" else sigma(z)


def _tanh_of_cell(q: Draw) -> ndarray:
    return np.tanh(q.values["f"] * q.before["c"] + q.values["i"] * q.values["u"])


def cell_by_hidden_entries() -> Iterable[Entry]:
    """Whether c_{t-1} is a function of h_{t-1}."""
    claim = partial(entry, "c_t-1 and h_t-1", kind="claim")
    zero = r"\partial c_{t-1}/\partial h_{t-1} = 0"
    yield claim(zero, printed=_no_cell, truth=lambda q: q.by_h["c_t-1"], reading=INPUT)
    yield claim(
        zero,
        printed=_no_cell,
        truth=lambda q: q.moving["c_t-1"],
        corrected=lambda q: np.diag(1 / (q.before["o"] * (1 - np.tanh(q.before["c"]) ** 2))),
        reading=MOVING,
        verdict="fails",
        note="c_{t-1} = artanh(h_{t-1} / o_{t-1}).",
    )
    yield claim(
        r"\partial h_t/\partial x_{t-1}"
        r" = \partial h_t/\partial h_{t-1} \, \partial h_{t-1}/\partial x_{t-1}",
        printed=_by_hidden,
        truth=lambda q: q.over_time["h_t"],
        corrected=lambda q: _by_hidden(q) + q.over_time["dh_t/dc_t-1"] @ q.over_time["c_t-1"],
        reading="over time, both made by x_{t-1}",
        verdict="fails",
        terms=lambda q: {"through c_{t-1}": q.over_time["dh_t/dc_t-1"] @ q.over_time["c_t-1"]},
        note="The step's derivative is right; through time c_{t-1} is a path of its own.",
    )


def _no_cell(q: Draw) -> ndarray:
    return np.zeros_like(q.params["U_f"])


def _by_hidden(q: Draw) -> ndarray:
    return q.by_h["h"] @ q.over_time["h_t-1"]


SUM = (
    r"c_{t-1} \circ \partial f_t/\partial h_{t-1} + u_t \circ \partial i_t/\partial h_{t-1}"
    r" + i_t \circ \partial u_t/\partial h_{t-1}"
)
OUTER = r"(1 - \tanh^2(c_t))"


def step_entries() -> Iterable[Entry]:
    """dh_t/dh_{t-1} and dtanh(c_t)/dh_{t-1}, read with rows and with columns scaled."""
    by_output = r"\tanh(c_t) \circ \partial o_t/\partial h_{t-1} + o_t \circ "
    derivative = r"\partial\tanh(c_t)/\partial h_{t-1}"
    forget = r"f_t \circ \partial c_{t-1}/\partial h_{t-1}"
    labels = {"h": "dh_t/dh_t-1", "tanh(c)": "dtanh(c_t)/dh_t-1"}
    for name, line, statement, right, used_by in (
        ("h", 1, by_output + derivative, _hidden, ()),
        ("tanh(c)", 1, f"{OUTER} ({forget} + {SUM})", _squashed_with_cell, ()),
        ("tanh(c)", None, f"{OUTER} ({SUM})", _squashed, ()),
        ("h", None, f"{by_output}[{OUTER} ({SUM})]", _substituted, ("D5", "D6")),
    ):
        for reading, times in READINGS.items():
            rows = times is ROWS
            yield entry(
                labels[name],
                statement,
                printed=partial(right, times),
                truth=lambda q, name=name: q.by_h[name],
                corrected=None if rows else partial(right, ROWS),
                verdict="holds" if rows else "fails",
                line=line,
                reading=reading,
                used_by=used_by if rows else (),
                note="" if rows else "A vector before a derivative scales its rows.",
            )
    moving = partial(entry, labels["tanh(c)"], truth=lambda q: q.moving["tanh(c)"], reading=MOVING)
    whole = partial(_squashed_with_cell, ROWS, moving=True)
    yield moving(f"{OUTER} ({forget} + {SUM})", printed=whole, line=1)
    yield moving(
        f"{OUTER} ({SUM})",
        printed=partial(_squashed, ROWS),
        corrected=whole,
        verdict="fails",
        terms=lambda q: {f"{OUTER} {forget}": whole(q) - _squashed(ROWS, q)},
        note="The first term may go only where c_{t-1} is held.",
    )


def _hidden(times: Times, q: Draw) -> ndarray:
    return _output(times, q, q.by_h["tanh(c)"])


def _substituted(times: Times, q: Draw) -> ndarray:
    return _output(times, q, _squashed(times, q))


def _output(times: Times, q: Draw, by_cell: ndarray) -> ndarray:
    v = q.values
    return times(np.tanh(v["c"]), q.by_h["o"]) + times(v["o"], by_cell)


def _squashed(times: Times, q: Draw) -> ndarray:
    return times(1 - np.tanh(q.values["c"]) ** 2, _gates(times, q))


def _squashed_with_cell(times: Times, q: Draw, moving: bool = False) -> ndarray:
    by_h = q.moving if moving else q.by_h
    by_cell = times(q.values["f"], by_h["c_t-1"])
    return times(1 - np.tanh(q.values["c"]) ** 2, by_cell + _gates(times, q))


def _gates(times: Times, q: Draw) -> ndarray:
    by_f = times(q.before["c"], q.by_h["f"])
    return by_f + times(q.values["u"], q.by_h["i"]) + times(q.values["i"], q.by_h["u"])
