"""Document 001's named gradients, its gates', and the nine final ones, (1) to (9)."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_001.formulas import (
    ROWS,
    At,
    as_matrices,
    by,
    by_latex,
    chain,
    element_wise,
    entry,
    latex,
    matrix_product,
    now,
    of_outputs,
    over_time,
    value,
)
from jaxlstm.sources.document_001.system import INDEX, Draw
from jaxlstm.sources.ledger import Entry

Factors = Callable[[Draw, int], tuple[ndarray, ...]]
"""What stands side by side in a formula, at a draw and a time."""

GATE_LATEX = {
    "i": r"\hat{g}_t \tilde{c}_t i_t (1 - i_t)",
    "f": r"\hat{g}_t c_{t-1} f_t (1 - f_t)",
    "e": r"\tilde{g}_t \tanh(c_t) e_t (1 - e_t)",
    "c~": r"\hat{g}_t i_t (1 - \tilde{c}_t^2)",
}
DIAGONALS = {"i": "D1", "f": "D2", "e": "D5", "c~": "D3"}


def named_entries() -> Iterable[Entry]:
    """i_t := sigma(a_{i,t}); g~_t and g^_t."""
    yield entry(
        "i_t",
        r"i_t := \sigma(a_{i,t})",
        printed=now(of_activation),
        truth=now(partial(value, "i")),
        kind="definition",
        used_by=("F2",),
    )
    for name, ours, letter in (("h", "g~_t", r"\tilde{g}"), ("c", "g^_t", r"\hat{g}")):
        yield entry(
            ours,
            f"{letter}_t := {by_latex(name)}",
            printed=now(partial(by, name)),
            truth=now(partial(forward_mode, name)),
            kind="definition",
            note="Judged in forward mode: the sum of the outputs' derivatives.",
        )


def of_activation(q: Draw, t: int) -> ndarray:
    """sigma(a_{i,t})."""
    return sigma(q.values["a_i"][t])


def forward_mode(name: str, q: Draw, t: int) -> ndarray:
    """dL by the quantity, from all the outputs that it moves."""
    return of_outputs(q, name, t, range(t, len(q.x)))


# The gates.


def gate_entries() -> Iterable[Entry]:
    """dL by each gate times the gate's derivative by h_{t-1}: both right sides."""
    for gate, g in INDEX.items():
        label = f"dL/d{gate}_t d{gate}_t/dh"
        line = partial(entry, label, truth=now(partial(by_gate_and_hidden, gate)))
        yield line(
            statement=rf"{_in_activation(gate)} W_{g}",
            printed=now(partial(element_wise_times_W, in_activation, gate)),
            line=1,
            reading=ROWS,
        )
        left = rf"{by_latex(gate)} \, \partial {latex(gate)}_t/\partial h_{{t-1}}"
        result = partial(line, statement=f"{left} = {GATE_LATEX[gate]} W_{g}")
        right = now(partial(element_wise_times_W, in_value, gate))
        yield result(printed=right, reading=ROWS, used_by=("B2", DIAGONALS[gate], "B4"))
        yield as_matrices(result, now(partial(as_matrices_times_W, in_value, gate)), right)


def by_gate_and_hidden(gate: str, q: Draw, t: int) -> ndarray:
    """dL by the gate, times its derivative by h_{t-1}."""
    return by(gate, q, t) @ chain(q, gate, t, "h", t - 1)


def own_factors(gate: str, q: Draw, t: int) -> tuple[ndarray, ndarray]:
    """g^_t or g~_t, and what multiplies the gate in c_t or h_t."""
    v = q.values
    factor = {"i": v["c~"][t], "f": v["c"][t - 1], "e": np.tanh(v["c"][t]), "c~": v["i"][t]}
    return by("h" if gate == "e" else "c", q, t), factor[gate]


def in_value(gate: str, q: Draw, t: int) -> tuple[ndarray, ...]:
    """The factors of dL by the gate's pre-activation, in the gate's value."""
    own, v = own_factors(gate, q, t), q.values[gate][t]
    return (*own, 1 - v**2) if gate == "c~" else (*own, v, 1 - v)


def in_activation(gate: str, q: Draw, t: int) -> tuple[ndarray, ...]:
    """The same in the pre-activation itself."""
    own, a = own_factors(gate, q, t), q.values[f"a_{INDEX[gate]}"][t]
    return (*own, 1 - np.tanh(a) ** 2) if gate == "c~" else (*own, sigma(a), 1 - sigma(a))


def element_wise_times_W(
    factors: Callable[[str, Draw, int], tuple[ndarray, ...]], gate: str, q: Draw, t: int
) -> ndarray:
    """The factors' product entry by entry, a row, times W_g."""
    return element_wise(*factors(gate, q, t)) @ q.params[f"W_{INDEX[gate]}"]


def as_matrices_times_W(
    factors: Callable[[str, Draw, int], tuple[ndarray, ...]], gate: str, q: Draw, t: int
) -> ndarray:
    """A row, then columns, then W_g, multiplied as matrices."""
    return matrix_product(*factors(gate, q, t), q.params[f"W_{INDEX[gate]}"])


def _in_activation(gate: str) -> str:
    """The factors in LaTeX, with sigma or tanh of the pre-activation for the gate's value."""
    if gate == "c~":
        return GATE_LATEX[gate].replace(r"\tilde{c}_t^2", r"\tanh^2(a_{c,t})")
    name = rf"\sigma(a_{{{gate},t}})"
    return GATE_LATEX[gate].replace(f"{gate}_t (1 - {gate}_t)", f"{name} (1 - {name})")


# The final gradients, (1) to (9).


def final_entries() -> Iterable[Entry]:
    """Each sum, in three readings of its last product."""
    number = 0
    for gate, g in INDEX.items():
        for A, column, column_latex, label in (
            ("W", hidden_before, "h_{t-1}", "B5"),
            ("U", input_at, "x_t", "B6"),
        ):
            number += 1
            terms = f"{GATE_LATEX[gate]} {column_latex}"
            yield from _sum(str(number), f"{A}_{g}", terms, partial(in_value, gate), column, label)
    yield from _sum("9", "V", "g_t h_t", output_row, partial(value, "h"), "R7")


def _sum(
    number: str, A: str, terms: str, factors: Factors, column: At, label: str
) -> Iterable[Entry]:
    statement = rf"\partial L/\partial {A} = \sum_{{t=1}}^{{T}} {terms}"
    line = partial(entry, number, statement, truth=lambda q: q.loss_by[A])
    right = partial(over_time, partial(outer_product, factors, column))
    for reading, product in ((ROWS, all_element_wise), ("row times column", row_times_column)):
        yield line(
            printed=partial(over_time, partial(product, factors, column)),
            corrected=right,
            reading=reading,
            verdict="ill-formed",
            note=f"The shape of {A} takes an outer product.",
        )
    yield line(printed=right, reading="outer product", used_by=(label,))


def hidden_before(q: Draw, t: int) -> ndarray:
    """h_{t-1}."""
    return q.values["h"][t - 1]


def input_at(q: Draw, t: int) -> ndarray:
    """x_t."""
    return q.x[t]


def output_row(q: Draw, t: int) -> tuple[ndarray]:
    """g_t alone."""
    return (by("o", q, t),)


def all_element_wise(factors: Factors, column: At, q: Draw, t: int) -> ndarray:
    """Every product entry by entry."""
    return element_wise(*factors(q, t), column(q, t))


def row_times_column(factors: Factors, column: At, q: Draw, t: int) -> ndarray:
    """The factors entry by entry, then a row times a column."""
    return matrix_product(element_wise(*factors(q, t)), column(q, t))


def outer_product(factors: Factors, column: At, q: Draw, t: int) -> ndarray:
    """The factors entry by entry, then every entry times every entry."""
    return np.outer(element_wise(*factors(q, t)), column(q, t))
