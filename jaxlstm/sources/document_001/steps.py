"""Document 001's steps (1) to (4), told in words: each for every t < T, and all in their order."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_001.formulas import (
    before_last,
    by,
    by_latex,
    chain,
    element_wise,
    entry,
)
from jaxlstm.sources.document_001.gradients import own_factors
from jaxlstm.sources.document_001.recurrence import (
    DH_DC,
    HIDDEN_2,
    by_output,
    g_V,
    g_V_e,
    recurrent_terms,
    through_gates,
)
from jaxlstm.sources.document_001.system import INDEX, Draw
from jaxlstm.sources.ledger import Entry

claim = partial(entry, kind="claim")


def step_entries() -> Iterable[Entry]:
    """Each step, and what they come to from t = T - 1 down."""
    gates = partial(claim, used_by=("B2",))
    yield gates(
        "step 1",
        _gates_latex("t+1", "t"),
        printed=before_last(gates_next),
        truth=before_last(true_gates_next),
        note="Below t = T - 1 it repeats step (4) of t + 1.",
    )
    yield from _hidden_step()
    yield claim(
        "step 3",
        f"{by_latex('c')} = {by_latex('h')}{DH_DC} + {by_latex('c', 't+1')} f_{{t+1}}",
        printed=before_last(by_hidden_and_cell),
        truth=before_last(partial(by, "c")),
        note="In words, dL/dc_t from step (2)'s dL/dh_t: it contradicts the displayed dL/dc_t.",
    )
    yield gates(
        "step 4",
        _gates_latex("t", "t-1"),
        printed=before_last(gates_from_hidden_and_cell),
        truth=before_last(true_gates),
        note="Of e_t it takes (2), of the others (3).",
    )
    yield claim(
        "steps 1 to 4",
        r"(1), (2), (3), (4) \text{ for } t = T - 1, \ldots, 1",
        printed=in_order,
        truth=true_by_all,
        note="From the case t = T down, each step finds what it needs, (2) with g_t V beside it.",
    )


def _hidden_step() -> Iterable[Entry]:
    """Step (2), with and without g_t V."""
    step = partial(claim, "step 2", truth=before_last(partial(by, "h")))
    yield step(
        f"{by_latex('h')} = {HIDDEN_2}",
        printed=before_last(through_gates),
        reading="beside g_t V, as displayed",
        used_by=("B4",),
    )
    yield step(
        f"{by_latex('h')} = {HIDDEN_2.removeprefix('g_t V + ')}",
        printed=before_last(through_gates_alone),
        corrected=before_last(through_gates),
        reading="h_{t+1} and (1) alone",
        verdict="fails",
        terms=hidden_terms,
        note="g_t V is missing. Of dL/dh_{t+1} nothing is wanted that (1) does not hold.",
    )


def _gates_latex(t: str, before: str) -> str:
    """dL by the four gates of a time."""
    by_gates = ", ".join(by_latex(gate, t) for gate in INDEX)
    products = r"\hat{g}_t \tilde{c}_t, \hat{g}_t c_, \tilde{g}_t \tanh(c_t), \hat{g}_t i_t"
    right = products.replace("_t", f"_{{{t}}}").replace("c_,", f"c_{{{before}}},")
    return f"({by_gates}) = ({right})"


def gates_from_hidden_and_cell(q: Draw, t: int) -> ndarray:
    """g^_t c~_t, g^_t c_{t-1}, g~_t tanh(c_t) and g^_t i_t [4, H]."""
    return np.stack([element_wise(*own_factors(gate, q, t)) for gate in INDEX])


def gates_next(q: Draw, t: int) -> ndarray:
    """The same of t + 1."""
    return gates_from_hidden_and_cell(q, t + 1)


def true_gates(q: Draw, t: int) -> ndarray:
    """dL by the four gates [4, H]."""
    return np.stack([by(gate, q, t) for gate in INDEX])


def true_gates_next(q: Draw, t: int) -> ndarray:
    """The same of t + 1."""
    return true_gates(q, t + 1)


def through_gates_alone(q: Draw, t: int) -> ndarray:
    """The four gates' terms."""
    return np.sum(list(recurrent_terms(q, t).values()), axis=0)


def hidden_terms(q: Draw) -> dict[str, ndarray]:
    """What may be missing beside the gates' terms."""
    return {
        "g_t V": before_last(g_V)(q),
        "dL/dh_{t+1} dh_{t+1}/dh_t": before_last(hidden_through_next)(q),
    }


def hidden_through_next(q: Draw, t: int) -> ndarray:
    """dL/dh_{t+1} dh_{t+1}/dh_t."""
    return by("h", q, t + 1) @ chain(q, "h", t + 1, "h", t)


def by_hidden_and_cell(q: Draw, t: int) -> ndarray:
    """dL/dh_t dh_t/dc_t + dL/dc_{t+1} f_{t+1}."""
    through_h = by("h", q, t) @ chain(q, "h", t, "c", t)
    return through_h + by("c", q, t + 1) * q.values["f"][t + 1]


def in_order(q: Draw) -> ndarray:
    """dL by the gates, h and c at every t < T, by the steps; what is not yet found is NaN."""
    T = len(q.x) - 1
    g = np.stack([by_output(q, t) for t in range(T + 1)])
    found = {name: np.full_like(q.values[name], np.nan) for name in (*INDEX, "h", "c")} | {"o": g}
    q = q._replace(loss_by=found)
    found["h"][T], found["c"][T] = g_V(q, T), g_V_e(element_wise, q, T)
    for t in reversed(range(1, T)):
        _set_gates(found, t + 1, gates_next(q, t))
        found["h"][t] = through_gates(q, t)
        found["c"][t] = by_hidden_and_cell(q, t)
        _set_gates(found, t, gates_from_hidden_and_cell(q, t))
    return true_by_all(q)


def _set_gates(found: dict[str, ndarray], t: int, rows: ndarray) -> None:
    for gate, row in zip(INDEX, rows, strict=True):
        found[gate][t] = row


def true_by_all(q: Draw) -> ndarray:
    """dL by the gates, h and c at every t < T."""
    return np.stack([q.loss_by[name][1:-1] for name in (*INDEX, "h", "c")])
