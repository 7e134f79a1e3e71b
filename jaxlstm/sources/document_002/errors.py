"""Document 002's dE by the outputs, the cell, the gates and their pre-activations."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_002.formulas import (
    before,
    by,
    by_latex,
    entry,
    hidden_by,
    latex,
    value,
)
from jaxlstm.sources.document_002.system import GATES, Draw, draw
from jaxlstm.sources.ledger import Condition, Entry

Formula = Callable[[Draw], ndarray]

AT_T = Condition("t = T", partial(draw, time=-1))
ONLY_AT_T: Mapping[str, Any] = {"verdict": "holds only if", "condition": AT_T}
IN_FULL = "dE/dh^t in full"
COST_ALONE = "dE/dh^t of the cost alone"
THROUGH_H = "dE/dc^t through h^t alone"
THROUGH_C = "dE/dc^{t-1} through c^t alone"
IN_TOTAL = "in total"


# From the outputs.


def output_entries() -> Iterable[Entry]:
    """dE/do^t, with dE/dh^t in two readings, and dE/dh^{t-1}, which is not printed."""
    chain_rule = rf"{by_latex('h')} \cdot \partial h^t/\partial o^t"
    result = rf"{by_latex('o')} = {by_latex('h')} \odot \tanh(c^t)"
    for line, statement, formula in ((1, chain_rule, by_o_chain), (None, result, by_o)):
        judged = partial(entry, "dE/do^t", statement, truth=partial(by, "o"), line=line)
        labels = () if line else ("B2", "D5")
        yield judged(printed=partial(formula, partial(by, "h")), reading=IN_FULL, used_by=labels)
        yield judged(
            printed=partial(formula, by_cost),
            corrected=partial(formula, partial(by, "h")),
            reading=COST_ALONE,
            terms=by_o_terms,
            note="What h^t gets back from the gates of t + 1 is missing.",
            **ONLY_AT_T,
        )
    yield from _hidden_entries()


def _hidden_entries() -> Iterable[Entry]:
    supplied = partial(entry, printed=None, verdict="supplied")
    into_gates = " + ".join(rf"U_{g}^T {by_latex(g + '^')}" for g in GATES)
    yield supplied(
        "dE/dh^T",
        rf"{by_latex('h', 'T')} = {by_latex('h', 'T')}|_{{cost}}",
        corrected=lambda q: q.cost_by_h[-1],
        truth=lambda q: q.error_by["h"][-1],
        note="The last output goes nowhere but into the cost.",
    )
    yield supplied(
        "dE/dh^{t-1}",
        rf"{by_latex('h', 't-1')} = {by_latex('h', 't-1')}|_{{cost}} + {into_gates}",
        corrected=by_hidden_before,
        truth=lambda q: q.error_by["h"][q.t - 1],
        used_by=("B4",),
        note="Without it no error passes from step to step but by the cell.",
    )


def by_cost(q: Draw) -> ndarray:
    """dE/dh^t from the cost of h^t alone."""
    return q.cost_by_h[q.t]


def by_o_chain(by_h: Formula, q: Draw) -> ndarray:
    """dE/dh^t dh^t/do^t."""
    return by_h(q) @ hidden_by("o", q)


def by_o(by_h: Formula, q: Draw) -> ndarray:
    """dE/dh^t tanh(c^t)."""
    return by_h(q) * np.tanh(value("c", q))


def by_o_terms(q: Draw) -> dict[str, ndarray]:
    """The cost's part, and each gate's of t + 1."""
    tanh_c = np.tanh(value("c", q))
    later = {
        f"(U_{gate}' dE/d{gate}hat^(t+1)) tanh(c^t)": (
            q.params[f"U_{gate}"].T @ q.error_by[f"{gate}^"][q.t + 1] * tanh_c
        )
        for gate in GATES
    }
    return later | {"dE/dh^t of the cost, times tanh(c^t)": by_cost(q) * tanh_c}


def by_hidden_before(q: Draw) -> ndarray:
    """dE/dh^{t-1}: the cost's part, and what comes back from the gates."""
    return q.cost_by_h[q.t - 1] + sum(q.params[f"U_{g}"].T @ by(f"{g}^", q) for g in GATES)


# The cell.


def cell_entries() -> Iterable[Entry]:
    """dE/dc^t in two readings, and its accumulation."""
    chain_rule = rf"{by_latex('h')} \, \partial h^t/\partial c^t"
    result = rf"{by_latex('c')} = {by_latex('h')} \odot o^t \odot [1 - \tanh^2(c^t)]"
    for line, statement, formula in ((1, chain_rule, by_c_chain), (None, result, by_c)):
        judged = partial(entry, "dE/dc^t", statement, printed=formula, line=line)
        labels = () if line else ("B1", "D6")
        yield judged(truth=partial(by, "c>h"), reading=THROUGH_H, used_by=labels)
        yield judged(
            truth=partial(by, "c"),
            corrected=partial(accumulated, partial(by, "c>h")),
            reading=IN_TOTAL,
            terms=by_c_terms,
            note="What passes into c^{t+1} is missing; the accumulation adds it.",
            **ONLY_AT_T,
        )
    yield from _accumulation_entries()
    yield from _last_output_entries()


def _accumulation_entries() -> Iterable[Entry]:
    line = partial(entry, "dc^t", rf"\delta c^t += {by_latex('c')}", truth=partial(by, "c"))
    right = partial(accumulated, partial(by, "c>h"))
    yield line(printed=right, reading=THROUGH_H, used_by=("B1",))
    yield line(
        printed=partial(accumulated, partial(by, "c")),
        corrected=right,
        reading=f"dE/dc^t {IN_TOTAL}",
        terms=by_c_terms,
        note="The total already holds the initial value, which would count twice.",
        **ONLY_AT_T,
    )
    yield entry(
        "dc^T",
        rf"\delta c^T = 0 + {by_latex('c', 'T')}",
        printed=None,
        corrected=lambda q: 0 + q.error_by["c>h"][-1],
        truth=lambda q: q.error_by["c"][-1],
        verdict="supplied",
        note="The accumulation's start: nothing comes back to the last cell state.",
    )


def _last_output_entries() -> Iterable[Entry]:
    """Where the accumulated errors come from, as the words before the accumulation have it."""
    claim = partial(entry, "dc^t from h^T", truth=partial(by, "c"), kind="claim")
    of_one = r"\partial E/\partial h^S|_{cost} \, \partial h^S/\partial c^t"
    yield claim(
        rf"\delta c^t = {of_one.replace('S', 'T')}",
        printed=from_last_output,
        corrected=from_all_outputs,
        reading="from h^T alone",
        terms=from_outputs_terms,
        note="A slip, it seems, for h^t, whose dE/dc^t the accumulation adds.",
        **ONLY_AT_T,
    )
    yield claim(
        rf"\delta c^t = \sum_{{s=t}}^{{T}} {of_one.replace('S', 's')}",
        printed=from_all_outputs,
        reading="from h^T and all before it, down to h^t",
    )


def by_c_chain(q: Draw) -> ndarray:
    """dE/dh^t dh^t/dc^t."""
    return by("h", q) @ hidden_by("c", q)


def by_c(q: Draw) -> ndarray:
    """dE/dh^t o^t (1 - tanh^2(c^t))."""
    return by("h", q) * value("o", q) * (1 - np.tanh(value("c", q)) ** 2)


def carried(q: Draw) -> ndarray:
    """The initial value dc^{t+1} f^{t+1} of dc^t, zero at t = T."""
    if q.t + 1 == len(q.x):
        return np.zeros_like(value("c", q))
    return q.error_by["c"][q.t + 1] * q.values["f"][q.t + 1]


def accumulated(by_c: Formula, q: Draw) -> ndarray:
    """The initial value of dc^t and dE/dc^t."""
    return carried(q) + by_c(q)


def from_outputs(times: Iterable[int], q: Draw) -> ndarray:
    """dE/dc^t from the costs of h at these times alone."""
    by_c = [q.cost_by_h[s] @ q.hidden_by["c"][s - 1, :, q.t - 1] for s in times]
    return np.sum(by_c, axis=0)


def from_last_output(q: Draw) -> ndarray:
    """dE/dc^t from the cost of h^T alone."""
    return from_outputs([len(q.x) - 1], q)


def from_all_outputs(q: Draw) -> ndarray:
    """The same from those of h^t to h^T."""
    return from_outputs(range(q.t, len(q.x)), q)


def from_outputs_terms(q: Draw) -> dict[str, ndarray]:
    """The outputs before h^T, and h^T."""
    return {
        "the costs of h^t to h^{T-1}": from_outputs(range(q.t, len(q.x) - 1), q),
        "the cost of h^T": from_last_output(q),
    }


def by_c_terms(q: Draw) -> dict[str, ndarray]:
    """The two ways from c^t."""
    return {"dc^{t+1} f^{t+1}": carried(q), "dE/dh^t o^t (1 - tanh^2(c^t))": by("c>h", q)}


# The gates.


def gate_entries() -> Iterable[Entry]:
    """dE by i^t, a^t and f^t, and by c^{t-1} in two readings."""
    others = {"i": ("a^t", "D1"), "a": ("i^t", "D3"), "f": ("c^{t-1}", "D2")}
    for gate, (other, label) in others.items():
        yield entry(
            f"dE/d{gate}^t",
            rf"{by_latex(gate)} = \delta c^t \odot {other}",
            printed=partial(by_gate, gate),
            truth=partial(by, gate),
            used_by=("B2", label),
        )
    line = partial(
        entry, "dE/dc^{t-1}", rf"{by_latex('c', 't-1')} = \delta c^t \odot f^t", by_cell_before
    )
    yield line(truth=partial(by, "c>c"), reading=THROUGH_C, used_by=("B3", "D4"))
    yield line(
        truth=lambda q: q.error_by["c"][q.t - 1],
        corrected=whole_by_cell_before,
        reading=IN_TOTAL,
        verdict="holds only if",
        condition=Condition("t = 1, before which there is no output", partial(draw, time=0)),
        terms=cell_before_terms,
        note="An initial value, as the document says: the way through h^{t-1} is yet to be added.",
    )


def by_gate(gate: str, q: Draw) -> ndarray:
    """dc^t times what multiplies the gate in c^t."""
    others = {"i": value("a", q), "a": value("i", q), "f": before("c", q)}
    return by("c", q) * others[gate]


def by_cell_before(q: Draw) -> ndarray:
    """dc^t f^t."""
    return by("c", q) * value("f", q)


def whole_by_cell_before(q: Draw) -> ndarray:
    """dc^t f^t, and what passes through h^{t-1}."""
    return by_cell_before(q) + q.error_by["c>h"][q.t - 1]


def cell_before_terms(q: Draw) -> dict[str, ndarray]:
    """The two ways from c^{t-1}."""
    slope = 1 - np.tanh(before("c", q)) ** 2
    through_h = q.error_by["h"][q.t - 1] * before("o", q) * slope
    return {"dc^t f^t": by_cell_before(q), "dE/dh^{t-1} o^{t-1} (1 - tanh^2(c^{t-1}))": through_h}


# The pre-activations.


def hat_entries() -> Iterable[Entry]:
    """dE by the four pre-activations."""
    notes = {
        "a": "tanh is printed without its square.",
        "i": "The pre-activation ahat^t of another is printed where the value i^t belongs.",
        "f": "The pre-activation fhat^t is printed where the value f^t belongs.",
        "o": "The pre-activation ohat^t is printed where the value o^t belongs.",
    }
    labels = {"a": "D3", "i": "D1", "f": "D2", "o": "D5"}
    for gate in GATES:
        yield entry(
            f"dE/d{gate}hat^t",
            rf"{by_latex(gate + '^')} = {by_latex(gate)} \odot {_printed_latex(gate)}",
            printed=partial(by_hat_printed, gate),
            corrected=partial(by_hat, gate),
            truth=partial(by, f"{gate}^"),
            verdict="fails",
            terms=partial(hat_terms, gate),
            used_by=("B2", labels[gate]),
            note=notes[gate],
        )


def _printed_latex(gate: str) -> str:
    if gate == "a":
        return r"[1 - \tanh(\hat{a}^t)]"
    hat = latex(PRINTED_FOR[gate])
    return rf"{hat}^t \odot (1 - {hat}^t)"


PRINTED_FOR: Mapping[str, str] = {"i": "a^", "f": "f^", "o": "o^"}
"""The letter that stands for the sigmoid's value."""


def by_hat_printed(gate: str, q: Draw) -> ndarray:
    """dE by the gate times what is printed for its slope."""
    if gate == "a":
        return by("a", q) * (1 - np.tanh(value("a^", q)))
    hat = value(PRINTED_FOR[gate], q)
    return by(gate, q) * hat * (1 - hat)


def by_hat(gate: str, q: Draw) -> ndarray:
    """dE by the gate times its slope, in its own value."""
    if gate == "a":
        return by("a", q) * (1 - np.tanh(value("a^", q)) ** 2)
    return by(gate, q) * value(gate, q) * (1 - value(gate, q))


def hat_terms(gate: str, q: Draw) -> dict[str, ndarray]:
    """What may stand for the slope."""
    if gate == "a":
        tanh = np.tanh(value("a^", q))
        powers = {"1": tanh**0, "tanh(ahat^t)": tanh, "tanh^2(ahat^t)": tanh**2}
        return {f"dE/da^t {name}": by("a", q) * power for name, power in powers.items()}
    letters = {n.replace("^", "hat"): value(n, q) for n in dict.fromkeys((gate, f"{gate}^", "a^"))}
    return {
        f"dE/d{gate}^t {n}^t (1 - {n}^t)": by(gate, q) * x * (1 - x) for n, x in letters.items()
    }
