"""Document 000, (14) to (25): the derivatives of h_t by the twelve parameters.

All twelve share one M_t and one N_t, and differ in V_t.
"""

from collections.abc import Callable, Iterable
from functools import partial

from numpy import ndarray

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
from jaxlstm.sources.document_000.system import GATE_OF, GATES, Draw, d, product
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


def specific_entries() -> Iterable[Entry]:
    """For each parameter: (8), then (10) to (13) put into it, then M, N and V collected."""
    for A, number in NUMBERS.items():
        truth = partial(lambda A, q: by(q, "h", A), A)
        yield entry(
            number,
            EIGHT_3.replace("A", A).replace(r"\partial\tilde{s}_t/", r"\tilde{s}_t/"),
            printed=partial(lambda A, q: hidden_by(q, A, lambda g: by(q, g, A)), A),
            truth=truth,
            line=1,
            verdict="typographical",
            note="Prints s~_t/dA without the d of its numerator.",
        )
        substituted = partial(lambda A, q: hidden_by(q, A, lambda g: gate_by(q, g, A)), A)
        yield _substituted_entry(A, number, substituted, truth)
        collected = partial(lambda A, q: _collected(q, A, V_t(q, A)), A)
        yield _collected_entry(A, number, collected, truth)


def _collected(q: Draw, A: str, V: ndarray) -> ndarray:
    """M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V."""
    return product(M_t(q), by_before(q, "h", A)) + product(N_t(q), by_before(q, "s", A)) + V


def _substituted_entry(A: str, number: str, substituted: Line, truth: Line) -> Entry:
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
    printed, verdict, note = misprints.get(A, (None, "holds", ""))
    own = {"W": "d_2(h_{t-1})", "U": "d_2(x_t)", "b": "I"}[A[0]]
    gate = latex(GATE_OF[A])
    statement = (
        rf"(8) \text{{ with }} \partial {gate}_t = d({gate}'_t)({own} + W \partial h_{{t-1}})"
    )
    return entry(
        number,
        statement,
        printed=partial(printed, A) if printed else substituted,
        corrected=substituted if printed else None,
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


def _collected_entry(A: str, number: str, collected: Line, truth: Line) -> Entry:
    """The result; V_t of (17), (21) and (25) is misprinted."""
    misprints: dict[str, tuple[Misprint, str]] = {
        "W_o": (_with_state_for_sigma, "d(s_t) d(o'_t) d_2(h_{t-1}): s_t stands for sigma(s_t)."),
        "U_o": (
            _with_forget_gates_V,
            "V_t is that of U_f, not d(sigma(s_t)) d(o'_t) d_2(x_t).",
        ),
        "b_o": (_with_state_for_sigma, "d(s_t) d(o'_t): s_t stands for sigma(s_t)."),
    }
    printed, note = misprints.get(A, (None, ""))
    return entry(
        number,
        rf"M_t \partial h_{{t-1}}/\partial {A} + N_t \partial s_{{t-1}}/\partial {A} + V_t",
        printed=partial(printed, A) if printed else collected,
        corrected=collected if printed else None,
        truth=truth,
        verdict="fails" if printed else "holds",
        terms=partial(_V_terms, A) if printed else None,
        used_by={"o": ("D5",), "i": ("D1", "D6"), "f": ("D2", "D6"), "s~": ("D3", "D6")}[
            GATE_OF[A]
        ],
        note=note,
    )


def _with_state_for_sigma(A: str, q: Draw) -> ndarray:
    V = product(d(at(q, "s")), d(prime(q, "o")), own_input(q, A))
    return _collected(q, A, V)


def _with_forget_gates_V(A: str, q: Draw) -> ndarray:
    return _collected(q, A, V_t(q, A.replace("_o", "_f")))


def _V_terms(A: str, q: Draw) -> dict[str, ndarray]:
    """The direct terms of all four gates for A's kind, and the one with s_t for sigma(s_t)."""
    kind = ("W", "U", "b").index(A[0])
    own = own_input(q, A)
    right = {f"V_t of {names[kind]}": V_t(q, names[kind]) for names in GATES.values()}
    return right | {"d(s_t) d(o'_t) ...": product(d(at(q, "s")), d(prime(q, "o")), own)}
