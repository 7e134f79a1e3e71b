"""Document 001's dL/do_t, dL/dh_t and dL/dc_t: the case t = T and the case t < T."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_001.formulas import (
    ROWS,
    At,
    Product,
    always,
    as_matrices,
    by,
    by_latex,
    chain,
    element_wise,
    entry,
    last,
    latex,
    matrix_product,
    now,
    of_outputs,
)
from jaxlstm.sources.document_001.system import INDEX, RECURRENT, Draw, draw
from jaxlstm.sources.ledger import Condition, Entry

TOTAL = "total derivatives"
PARTIAL = "partial derivatives"


# The outputs, and the case t = T.


def last_entries() -> Iterable[Entry]:
    """dL/do_t, and dL/dh_t and dL/dc_t for t = T."""
    yield entry(
        "dL/do_t",
        r"\partial L/\partial o_t = -(y_t - p_t)^T, \quad \forall t = 1, 2, \dots, T",
        printed=always(by_output),
        truth=always(partial(by, "o")),
        used_by=("R5",),
    )
    h = partial(entry, "dL/dh_T", truth=last(partial(by, "h")))
    do_dh = r"\partial L/\partial o_t \, \partial o_t/\partial h_t"
    yield h(statement=do_dh, printed=last(through_output), line=1)
    yield h(statement=rf"{by_latex('h')} = g_t V", printed=last(g_V), used_by=("R6",))
    c = partial(entry, "dL/dc_T", truth=last(partial(by, "c")))
    yield c(statement=do_dh + DH_DC, printed=last(through_output_and_hidden), line=1)
    result = partial(c, statement=rf"{by_latex('c')} = {G_V_E}")
    right = last(partial(g_V_e, element_wise))
    yield result(printed=right, reading=ROWS, used_by=("B1",))
    yield as_matrices(result, last(partial(g_V_e, matrix_product)), right)


DH_DC = r" \, \partial h_t/\partial c_t"
G_V_E = r"g_t V e_t (1 - \tanh^2(c_t))"


def by_output(q: Draw, t: int) -> ndarray:
    """-(y_t - p_t)."""
    return -(q.y[t] - q.values["p"][t])


def through_output(q: Draw, t: int) -> ndarray:
    """dL/do_t do_t/dh_t."""
    return by("o", q, t) @ chain(q, "o", t, "h", t)


def through_output_and_hidden(q: Draw, t: int) -> ndarray:
    """dL/do_t do_t/dh_t dh_t/dc_t."""
    return through_output(q, t) @ chain(q, "h", t, "c", t)


def g_V(q: Draw, t: int) -> ndarray:
    """g_t V."""
    return by("o", q, t) @ q.params["V"]


def slope(q: Draw, t: int) -> ndarray:
    """1 - tanh^2(c_t)."""
    return 1 - np.tanh(q.values["c"][t]) ** 2


def g_V_e(product: Product, q: Draw, t: int) -> ndarray:
    """g_t V e_t (1 - tanh^2(c_t))."""
    return product(g_V(q, t), q.values["e"][t], slope(q, t))


# dL/dh_t for t < T.


def hidden_entries() -> Iterable[Entry]:
    """dL/dh_t, line by line."""
    line = partial(entry, "dL/dh_t", truth=now(partial(by, "h")))
    first = partial(line, statement=HIDDEN_1, line=1, verdict="holds only if")
    yield first(
        printed=now(two_outputs),
        corrected=now(every_output),
        reading=TOTAL,
        condition=Condition("t = T - 1", partial(draw, steps_to_end=1)),
        terms=now(output_terms),
        note="The losses after t + 1 are missing.",
    )
    yield first(
        printed=now(two_outputs_held),
        corrected=now(every_output),
        reading=PARTIAL,
        condition=Condition("every W is 0", partial(draw, without=RECURRENT)),
        terms=now(recurrent_terms),
        note="With h_{t+1} held, o_{t+1} does not move with h_t: all four gates are missing.",
    )
    later = "o_{t+1} for all later outputs"
    yield first(printed=now(every_output), reading=later, verdict="holds")
    yield line(statement=HIDDEN_2, printed=now(through_gates), line=2)
    yield line(
        statement=f"{by_latex('h')} = {HIDDEN_3}",
        printed=now(through_activations),
        verdict="typographical",
        used_by=("B4",),
        note="The index of a_{e,t+1} lacks its comma.",
    )


def two_outputs(q: Draw, t: int) -> ndarray:
    """dL/do_t do_t/dh_t + dL/do_{t+1} do_{t+1}/dh_t, the last in total."""
    return through_output(q, t) + of_outputs(q, "h", t, range(t + 1, t + 2))


def two_outputs_held(q: Draw, t: int) -> ndarray:
    """The same with do_{t+1}/dh_t at constant h_{t+1}, which is zero."""
    return through_output(q, t) + by("o", q, t + 1) @ np.zeros_like(q.params["V"])


def every_output(q: Draw, t: int) -> ndarray:
    """dL/do_t do_t/dh_t and the same of all later outputs."""
    return through_output(q, t) + of_outputs(q, "h", t, range(t + 1, len(q.x)))


def output_terms(q: Draw, t: int) -> dict[str, ndarray]:
    """What may be missing among the outputs' terms."""
    return {
        "dL/do_t do_t/dh_t": through_output(q, t),
        "dL/do_{t+1} do_{t+1}/dh_t": of_outputs(q, "h", t, range(t + 1, t + 2)),
        "the sum over s > t + 1 of dL/do_s do_s/dh_t": of_outputs(
            q, "h", t, range(t + 2, len(q.x))
        ),
    }


def recurrent_terms(q: Draw, t: int) -> dict[str, ndarray]:
    """dL by each gate of t + 1, times the gate's derivative by h_t."""
    return {
        f"dL/d{gate}_{{t+1}} d{gate}_{{t+1}}/dh_t": (
            by(gate, q, t + 1) @ chain(q, gate, t + 1, "h", t)
        )
        for gate in INDEX
    }


def through_gates(q: Draw, t: int) -> ndarray:
    """g_t V and the four gates' terms."""
    return g_V(q, t) + sum(recurrent_terms(q, t).values())


def through_activations(q: Draw, t: int) -> ndarray:
    """g_t V and the four gates' terms, with W_g written out."""
    terms = [
        by(gate, q, t + 1) @ chain(q, gate, t + 1, f"a_{g}", t + 1) @ q.params[f"W_{g}"]
        for gate, g in INDEX.items()
    ]
    return g_V(q, t) + sum(terms)


def _gates_latex(form: str) -> str:
    """The four terms of t + 1, from the form of one."""
    pairs = INDEX.items()
    return " + ".join(form.replace("GATE", latex(n)).replace("INDEX", g) for n, g in pairs)


_BY_GATE = r"\partial L/\partial GATE_{t+1} \, \partial GATE_{t+1}"
HIDDEN_1 = " + ".join(
    rf"\partial L/\partial {o} \, \partial {o}/\partial h_t" for o in ("o_t", "o_{t+1}")
)
HIDDEN_2 = "g_t V + " + _gates_latex(_BY_GATE + r"/\partial h_t")
HIDDEN_3 = "g_t V + " + _gates_latex(_BY_GATE + r"/\partial a_{INDEX,t+1} \, W_INDEX").replace(
    "a_{e,t+1}", "a_{et+1}"
)


# dL/dc_t for t < T.


def cell_entries() -> Iterable[Entry]:
    """dL/dc_t, line by line; the first two in both readings of dc_{t+1}/dc_t."""
    right = now(by_cell)
    line = partial(
        entry, "dL/dc_t", truth=now(partial(by, "c")), corrected=right, verdict="holds only if"
    )
    judged = partial(line, terms=now(cell_terms), note=MISSING)
    by_e = partial(judged, note=MISSING_BY_E)
    yield from _cell_lines(by_e, TOTAL, cell_by_cell_total, ("W_e",), "W_e is 0")
    yield from _cell_lines(judged, PARTIAL, cell_by_cell_partial, RECURRENT, "every W is 0")
    statement = f"{by_latex('c')} = {CELL_3}"
    yield judged(
        statement=statement,
        printed=now(partial(cell_result, element_wise)),
        reading=ROWS,
        condition=Condition("every W is 0", partial(draw, without=RECURRENT)),
        used_by=("B1", "B3"),
    )
    result = partial(line, statement=statement)
    yield as_matrices(result, now(partial(cell_result, matrix_product)), right)


def _cell_lines(
    line: Callable[..., Entry], reading: str, cell: At, without: tuple[str, ...], words: str
) -> Iterable[Entry]:
    """Lines 1 and 2, which hold where the matrices in ``without`` are zero."""
    ends = partial(draw, steps_to_end=1, without=without)
    yield line(
        statement=CELL_1,
        printed=now(partial(cell_line_1, cell)),
        line=1,
        reading=reading,
        terms=now(cell_line_1_terms),
        condition=Condition(f"t = T - 1 and {words}", ends),
        note="Of all later losses only that of t + 1 counts, and only by way of c_{t+1}.",
    )
    yield line(
        statement=CELL_2,
        printed=now(partial(cell_line_2, cell)),
        line=2,
        reading=reading,
        condition=Condition(words, partial(draw, without=without)),
    )


def cell_by_cell_total(q: Draw, t: int) -> ndarray:
    """dc_{t+1}/dc_t with h_t moving along."""
    return chain(q, "c", t + 1, "c", t)


def cell_by_cell_partial(q: Draw, t: int) -> ndarray:
    """dc_{t+1}/dc_t with h_t held."""
    return q.cell_by_cell[t]


def cell_line_1(cell_by_cell: At, q: Draw, t: int) -> ndarray:
    """The losses of t and t + 1 through their hidden states."""
    of_next = through_output_and_hidden(q, t + 1) @ cell_by_cell(q, t)
    return through_output_and_hidden(q, t) + of_next


def cell_line_2(cell_by_cell: At, q: Draw, t: int) -> ndarray:
    """g_t V e_t (1 - tanh^2(c_t)) + dL/dc_{t+1} dc_{t+1}/dc_t."""
    return g_V_e(element_wise, q, t) + by("c", q, t + 1) @ cell_by_cell(q, t)


def cell_result(product: Product, q: Draw, t: int) -> ndarray:
    """g_t V e_t (1 - tanh^2(c_t)) + dL/dc_{t+1} f_{t+1}."""
    return g_V_e(product, q, t) + product(by("c", q, t + 1), q.values["f"][t + 1])


def by_cell(q: Draw, t: int) -> ndarray:
    """dL/dh_t e_t (1 - tanh^2(c_t)) + dL/dc_{t+1} f_{t+1}."""
    through_h = by("h", q, t) * q.values["e"][t] * slope(q, t)
    return through_h + by("c", q, t + 1) * q.values["f"][t + 1]


def cell_line_1_terms(q: Draw, t: int) -> dict[str, ndarray]:
    """What may be missing of the losses after t: that of t + 1 by each gate, and all later."""
    by_next, dh_dc = through_output(q, t + 1), chain(q, "h", t, "c", t)
    by_gates = {
        f"dL/do_{{t+1}} do_{{t+1}}/d{gate}_{{t+1}} d{gate}_{{t+1}}/dh_t dh_t/dc_t": (
            by_next @ chain(q, "h", t + 1, gate, t + 1) @ chain(q, gate, t + 1, "h", t) @ dh_dc
        )
        for gate in INDEX
    }
    later = of_outputs(q, "c", t, range(t + 2, len(q.x)))
    return by_gates | {"the sum over s > t + 1 of dL/do_s do_s/dc_t": later}


def cell_terms(q: Draw, t: int) -> dict[str, ndarray]:
    """What may be missing in dL/dc_t."""
    dh_dc = chain(q, "h", t, "c", t)
    through_h = {f"{name} dh_t/dc_t": term @ dh_dc for name, term in recurrent_terms(q, t).items()}
    return through_h | {
        "g_t V e_t (1 - tanh^2(c_t))": g_V_e(element_wise, q, t),
        "dL/dc_{t+1} f_{t+1}": by("c", q, t + 1) * q.values["f"][t + 1],
    }


MISSING = "g_t V stands where dL/dh_t belongs: what goes through h_t to the gates of t + 1."
MISSING_BY_E = (
    "Only the way by h_t to e_{t+1} is missing: the total dc_{t+1}/dc_t holds the other three."
)
_THROUGH = r"\partial L/\partial o_T \, \partial o_T/\partial h_T \, \partial h_T/\partial c_T"
_NEXT = r" \, \partial c_{t+1}/\partial c_t"
CELL_1 = f"{_THROUGH.replace('T', 't')} + {_THROUGH.replace('T', '{t+1}')}{_NEXT}"
CELL_2 = f"{G_V_E} + {by_latex('c', 't+1')}{_NEXT}"
CELL_3 = rf"{G_V_E} + {by_latex('c', 't+1')} f_{{t+1}}"
