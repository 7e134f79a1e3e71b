"""Document 000, (14) to (25): the derivatives of h_t by the twelve parameters.

All twelve share one M_t and one N_t, and differ in V_t.
"""

from collections.abc import Callable, Iterable
from functools import partial

from numpy import ndarray

from jaxlstm.sources.arrays import product
from jaxlstm.sources.document_000.generic import (
    EIGHT_3,
    Line,
    W_of,
    at,
    before,
    by,
    by_before,
    entry,
    gate_by,
    hidden_by,
    latex,
    own_input,
    prime,
    sigma_s,
)
from jaxlstm.sources.document_000.system import GATE_OF, GATES, Draw, d
from jaxlstm.sources.ledger import Entry

Misprint = Callable[[str, Draw], ndarray]


def M_t(q: Draw) -> ndarray:
    """The factor of dh_{t-1}/dA in all twelve."""
    inner = (
        d(before(q, "s")) @ d(prime(q, "f")) @ W_of(q, "f")
        + d(at(q, "i")) @ d(prime(q, "s~")) @ W_of(q, "s~")
        + d(at(q, "s~")) @ d(prime(q, "i")) @ W_of(q, "i")
    )
    outer = d(sigma_s(q)) @ d(prime(q, "o")) @ W_of(q, "o")
    return outer + d(at(q, "o")) @ d(prime(q, "s")) @ inner


def N_t(q: Draw) -> ndarray:
    """The factor of ds_{t-1}/dA in all twelve."""
    return d(at(q, "o")) @ d(prime(q, "s")) @ d(at(q, "f"))


def V_t(q: Draw, A: str) -> ndarray:
    """The direct term of A: diagonal in the gate's unit."""
    gate = GATE_OF[A]
    through_cell = d(at(q, "o")) @ d(prime(q, "s"))
    factor = {
        "o": d(sigma_s(q)),
        "i": through_cell @ d(at(q, "s~")),
        "f": through_cell @ d(before(q, "s")),
        "s~": through_cell @ d(at(q, "i")),
    }[gate]
    return product(factor, d(prime(q, gate)), own_input(q, A))


NUMBERS = {
    A: str(14 + n)
    for n, A in enumerate(
        ("W", "W_i", "W_f", "W_o", "U", "U_i", "U_f", "U_o", "b", "b_i", "b_f", "b_o")
    )
}


def from_gates(A: str, q: Draw) -> ndarray:
    """Line 1: (8) with the gates' derivatives as they are."""
    return hidden_by(q, A, lambda gate: by(q, gate, A))


def substituted(A: str, q: Draw) -> ndarray:
    """Line 2: (8) with the gates' derivatives by (10) to (13)."""
    return hidden_by(q, A, lambda gate: gate_by(q, gate, A))


def collected(A: str, q: Draw) -> ndarray:
    """The result: M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V_t."""
    return product(M_t(q), by_before(q, "h", A)) + product(N_t(q), by_before(q, "s", A)) + V_t(q, A)


def specific_entries() -> Iterable[Entry]:
    """For each parameter: (8), then (10) to (13) put into it, then M, N and V collected."""
    for A, number in NUMBERS.items():
        truth = partial(_true, A)
        yield entry(
            number,
            EIGHT_3.replace("A", A).replace(r"\partial\tilde{s}_t/", r"\tilde{s}_t/"),
            printed=partial(from_gates, A),
            truth=truth,
            line=1,
            verdict="typographical",
            note="Prints s~_t/dA without the d of its numerator.",
        )
        yield _substituted_entry(A, number, truth)
        yield _collected_entry(A, number, truth)


def _true(A: str, q: Draw) -> ndarray:
    return by(q, "h", A)


# Line 2 in LaTeX.


def _substituted_latex(A: str) -> str:
    """(8) with (10) to (13), the misprints of (16), (20), (21) and (24) kept."""
    outer = rf"d(\sigma(s_t)) {_gate_latex('o', A)} + d(o_t) d(\sigma'(s_t))"
    forget = rf"d(s_{{t-1}}) {_gate_latex('f', A)}"
    cell = rf"d(f_t) \partial s_{{t-1}}/\partial {A}"
    rest = rf"d(i_t) {_gate_latex('s~', A)} + d(\tilde{{s}}_t) {_gate_latex('i', A)}"
    if A == "b_f":
        return rf"{outer} + d(o_t) d(\sigma'(s_t)) ({cell} + {rest})"
    return rf"{outer} ({forget} {'' if A == 'U_o' else '+ '}{cell} + {rest})"


def _gate_latex(gate: str, A: str) -> str:
    """d(g'_t) W_g dh_{t-1}/dA, with the own term where A is the gate's."""
    through_h = rf"{GATES[gate][0]} \partial h_{{t-1}}/\partial {A}"
    if GATE_OF[A] != gate:
        return rf"d({latex(gate)}'_t) {through_h}"
    own = {"W": "d_2(h_{t-1})", "U": "d_2(x_t)", "b": "I"}[A[0]]
    plus = " " if gate == "f" else " + "
    return rf"d({latex(gate)}'_t) ({through_h}{plus}{own})"


def _substituted_entry(A: str, number: str, truth: Line) -> Entry:
    """Line 2; that of (16), (20), (21) and (24) is misprinted."""
    misprints: dict[str, tuple[Misprint, str, str]] = {
        "W_f": (_without_plus_in_forget, "ill-formed", "A plus is missing before d_2(h_{t-1})."),
        "U_f": (_without_plus_in_forget, "ill-formed", "A plus is missing before d_2(x_t)."),
        "U_o": (_without_plus_after_forget, "ill-formed", "A plus is missing before d(f_t)."),
        "b_f": (
            _without_forget_term,
            "fails",
            "d(s_{t-1}) d(f'_t) (I + W_f dh_{t-1}/db_f) is missing after d(o_t) d(sigma'(s_t)).",
        ),
    }
    printed, verdict, note = misprints.get(A, (substituted, "holds", ""))
    return entry(
        number,
        _substituted_latex(A),
        printed=partial(printed, A),
        corrected=partial(substituted, A) if A in misprints else None,
        truth=truth,
        line=2,
        verdict=verdict,  # type: ignore[arg-type]
        terms=_forget_terms if A == "b_f" else None,
        note=note,
    )


def _without_plus_in_forget(A: str, q: Draw) -> ndarray:
    """(16) and (20): W_f dh_{t-1}/dA d_2(.) as one product."""
    inner = product(W_of(q, "f"), by_before(q, "h", A), own_input(q, A))
    return hidden_by(
        q, A, lambda g: product(d(prime(q, "f")), inner) if g == "f" else gate_by(q, g, A)
    )


def _without_plus_after_forget(A: str, q: Draw) -> ndarray:
    """(21): d(s_{t-1}) d(f'_t) W_f dh_{t-1}/dA d(f_t) ds_{t-1}/dA as one product."""
    forget = product(W_of(q, "f"), by_before(q, "h", A), d(at(q, "f")), by_before(q, "s", A))
    inner = (
        product(d(before(q, "s")), d(prime(q, "f")), forget)
        + product(d(at(q, "i")), gate_by(q, "s~", A))
        + product(d(at(q, "s~")), gate_by(q, "i", A))
    )
    through_cell = product(d(at(q, "o")), d(prime(q, "s")), inner)
    return product(d(sigma_s(q)), gate_by(q, "o", A)) + through_cell


def _without_forget_term(A: str, q: Draw) -> ndarray:
    """(24): the forget gate's term stops after d(o_t) d(sigma'(s_t))."""
    without = hidden_by(q, A, lambda g: 0 * gate_by(q, g, A) if g == "f" else gate_by(q, g, A))
    return without + d(at(q, "o")) @ d(prime(q, "s"))


def _forget_terms(q: Draw) -> dict[str, ndarray]:
    stopped = d(at(q, "o")) @ d(prime(q, "s"))
    direct = stopped @ d(before(q, "s")) @ d(prime(q, "f"))
    through_h = product(direct, W_of(q, "f"), by_before(q, "h", "b_f"))
    return {
        "d(o_t) d(sigma'(s_t))": stopped,
        "d(o_t) d(sigma'(s_t)) d(s_{t-1}) d(f'_t)": direct,
        "d(o_t) d(sigma'(s_t)) d(s_{t-1}) d(f'_t) W_f dh_{t-1}/db_f": through_h,
        "d(o_t) d(sigma'(s_t)) d(i_t)": stopped @ d(at(q, "i")),
    }


# The result.

M_LATEX = (
    r"(d(\sigma(s_t)) d(o'_t) W_o + d(o_t) d(\sigma'(s_t)) (d(s_{t-1}) d(f'_t) W_f"
    r" + d(i_t) d(\tilde{s}'_t) W + d(\tilde{s}_t) d(i'_t) W_i))"
)
N_LATEX = r"d(o_t) d(\sigma'(s_t)) d(f_t)"
V_LATEX = {
    "o": r"d(s_t) d(o'_t)",
    "i": r"d(o_t) d(\sigma'(s_t)) d(\tilde{s}_t) d(i'_t)",
    "f": r"d(o_t) d(\sigma'(s_t)) d(s_{t-1}) d(f'_t)",
    "s~": r"d(o_t) d(\sigma'(s_t)) d(i_t) d(\tilde{s}'_t)",
}
"""As printed: that of the output gate holds s_t where sigma(s_t) belongs."""

USED_BY = {"o": ("D5",), "i": ("D1", "D6"), "f": ("D2", "D6"), "s~": ("D3", "D6")}


def _collected_latex(A: str) -> str:
    gate = "f" if A == "U_o" else GATE_OF[A]
    own = {"W": " d_2(h_{t-1})", "U": " d_2(x_t)", "b": ""}[A[0]]
    through_h = rf"{M_LATEX} \partial h_{{t-1}}/\partial {A}"
    return rf"{through_h} + {N_LATEX} \partial s_{{t-1}}/\partial {A} + {V_LATEX[gate]}{own}"


def _collected_entry(A: str, number: str, truth: Line) -> Entry:
    """The result; V_t of (17), (21) and (25) is misprinted."""
    misprints: dict[str, tuple[Misprint, str]] = {
        "W_o": (_with_state_for_sigma, "d(s_t) d(o'_t) d_2(h_{t-1}): s_t stands for sigma(s_t)."),
        "U_o": (_with_forget_gates_V, "V_t is that of U_f, not d(sigma(s_t)) d(o'_t) d_2(x_t)."),
        "b_o": (_with_state_for_sigma, "d(s_t) d(o'_t): s_t stands for sigma(s_t)."),
    }
    printed, note = misprints.get(A, (collected, ""))
    wrong = A in misprints
    return entry(
        number,
        _collected_latex(A),
        printed=partial(printed, A),
        corrected=partial(collected, A) if wrong else None,
        truth=truth,
        verdict="fails" if wrong else "holds",
        terms=partial(_V_terms, A) if wrong else None,
        used_by=USED_BY[GATE_OF[A]],
        note=note,
    )


def _with_state_for_sigma(A: str, q: Draw) -> ndarray:
    V = product(d(at(q, "s")), d(prime(q, "o")), own_input(q, A))
    return collected(A, q) - V_t(q, A) + V


def _with_forget_gates_V(A: str, q: Draw) -> ndarray:
    return collected(A, q) - V_t(q, A) + V_t(q, A.replace("_o", "_f"))


def _V_terms(A: str, q: Draw) -> dict[str, ndarray]:
    """The direct terms of all four gates for A's kind, and the one with s_t for sigma(s_t)."""
    kind = ("W", "U", "b").index(A[0])
    own = own_input(q, A)
    right = {f"V_t of {names[kind]}": V_t(q, names[kind]) for names in GATES.values()}
    return right | {"d(s_t) d(o'_t) ...": product(d(at(q, "s")), d(prime(q, "o")), own)}
