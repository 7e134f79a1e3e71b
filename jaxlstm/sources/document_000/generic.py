"""Document 000, (1) to (13): the system, and the derivatives by an arbitrary parameter."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import derivative, jacobian, product, sigma
from jaxlstm.sources.document_000.system import GATE_OF, GATES, PARAMETERS, Draw, d, d_2
from jaxlstm.sources.ledger import Entry

Line = Callable[[Draw], ndarray]
entry = partial(Entry, "000")


# The forward system, (1) to (6).


def affine(gate: str, q: Draw) -> ndarray:
    """W_g h_{t-1} + U_g x_t + b_g."""
    W, U, b = (q.params[name] for name in GATES[gate])
    return W @ before(q, "h") + U @ q.x[-1] + b


def gate_value(gate: str, q: Draw) -> ndarray:
    """The gate from its affine map."""
    return sigma(affine(gate, q))


def forward_entries() -> Iterable[Entry]:
    """The six definitions."""
    numbers = {"o": "1", "i": "2", "f": "3", "s~": "4"}
    for gate, number in numbers.items():
        W, U, b = GATES[gate]
        yield entry(
            number,
            rf"{latex(gate)}_t = \sigma({W} h_{{t-1}} + {U} x_t + {b})",
            printed=partial(gate_value, gate),
            truth=lambda q, gate=gate: q.values[gate][-1],
            kind="definition",
            used_by=("F1", {"o": "F4", "i": "F2", "f": "F3", "s~": "F5"}[gate]),
        )
    yield entry(
        "5",
        r"s_t = f_t \odot s_{t-1} + i_t \odot \tilde{s}_t",
        printed=lambda q: at(q, "f") * before(q, "s") + at(q, "i") * at(q, "s~"),
        truth=lambda q: at(q, "s"),
        kind="definition",
        used_by=("F6",),
    )
    yield entry(
        "6",
        r"h_t = o_t \odot \sigma(s_t)",
        printed=lambda q: at(q, "o") * sigma_s(q),
        truth=lambda q: at(q, "h"),
        kind="definition",
        used_by=("F7",),
    )


def latex(gate: str) -> str:
    """The gate's letter."""
    return r"\tilde{s}" if gate == "s~" else gate


def at(q: Draw, name: str) -> ndarray:
    """The quantity at time t."""
    return q.values[name][-1]


def before(q: Draw, name: str) -> ndarray:
    """The quantity at time t - 1."""
    return q.values[name][-2]


def sigma_s(q: Draw) -> ndarray:
    """sigma(s_t)."""
    return sigma(at(q, "s"))


def prime(q: Draw, name: str) -> ndarray:
    """g'_t of a gate; of "s", sigma'(s_t)."""
    return q.primes[name][-1]


# What recurs: derivatives at t and t - 1, and the parts of the twelve.


def by(q: Draw, name: str, A: str) -> ndarray:
    """The derivative of the quantity at t by A."""
    return q.by[name][A][-1]


def by_before(q: Draw, name: str, A: str) -> ndarray:
    """The derivative of the quantity at t - 1 by A."""
    return q.by[name][A][-2]


def W_of(q: Draw, gate: str) -> ndarray:
    """The gate's recurrent matrix."""
    return q.params[GATES[gate][0]]


def own_input(q: Draw, A: str) -> ndarray:
    """The derivative of A's affine map by A with h_{t-1} held: d_2(h_{t-1}), d_2(x_t) or I."""
    H = len(at(q, "h"))
    inputs = {"W": before(q, "h"), "U": q.x[-1]}
    return np.eye(H) if A[0] == "b" else d_2(inputs[A[0]], H)


def gate_by(q: Draw, gate: str, A: str) -> ndarray:
    """dg_t/dA by (10) to (13)."""
    inner = product(W_of(q, gate), by_before(q, "h", A))
    own = own_input(q, A) if GATE_OF[A] == gate else 0.0
    return product(d(prime(q, gate)), inner + own)


def state_by(q: Draw, A: str, gate_by: Callable[[str], ndarray]) -> ndarray:
    """ds_t/dA from the gates' derivatives, as (7)."""
    return (
        product(d(before(q, "s")), gate_by("f"))
        + product(d(at(q, "f")), by_before(q, "s", A))
        + product(d(at(q, "i")), gate_by("s~"))
        + product(d(at(q, "s~")), gate_by("i"))
    )


def hidden_by(q: Draw, A: str, gate_by: Callable[[str], ndarray]) -> ndarray:
    """dh_t/dA from the gates' derivatives, as (8)."""
    through_cell = product(d(at(q, "o")), d(prime(q, "s")), state_by(q, A, gate_by))
    return product(d(sigma_s(q)), gate_by("o")) + through_cell


def all_parameters(line: Callable[[Draw, str], ndarray], q: Draw) -> ndarray:
    """A line about an arbitrary A, at all twelve."""
    return np.concatenate([np.ravel(line(q, A)) for A in PARAMETERS])


# The generic derivatives, (7) to (13).


def generic_entries() -> Iterable[Entry]:
    """Equations (7), (8) and (9), each line for all twelve parameters."""
    every = partial(partial, all_parameters)
    true_gate = lambda q, A: partial(lambda gate: by(q, gate, A))  # noqa: E731
    lines = {
        ("7", 1, r"\partial(f_t \odot s_{t-1} + i_t \odot \tilde{s}_t) / \partial A"): _state_sum,
        ("7", 2, SEVEN_2): _state_rule,
        ("7", None, SEVEN): lambda q, A: state_by(q, A, true_gate(q, A)),
        ("8", 1, EIGHT_1): _hidden_rule,
        ("8", 2, EIGHT_2): _hidden_by_state,
        ("8", None, EIGHT_3): lambda q, A: hidden_by(q, A, true_gate(q, A)),
    }
    for (number, line, statement), printed in lines.items():
        name = "s" if number == "7" else "h"
        yield entry(
            number,
            statement,
            printed=every(printed),
            truth=every(lambda q, A, name=name: by(q, name, A)),
            line=line,
            used_by=("D1", "D2", "D3", "D4", "T2") if number == "7" else ("D5", "D6", "T3"),
        )
    nine = {
        (1, NINE_0, "holds"): lambda q, A: by(q, "h", A),
        (2, NINE_1, "holds"): _hidden_by_state,
        (None, NINE_2, "typographical"): lambda q, A: hidden_by(q, A, true_gate(q, A)),
    }
    for (line, statement, verdict), printed in nine.items():
        yield entry(
            "9",
            statement,
            printed=every(lambda q, A, printed=printed: product(q.d_loss, printed(q, A))),
            truth=every(lambda q, A: q.loss_by[A]),
            line=line,
            verdict=verdict,
            note="Prints s~_t/dA without the d of its numerator." if line is None else "",
        )


SEVEN = (
    r"d(s_{t-1}) \partial f_t/\partial A + d(f_t) \partial s_{t-1}/\partial A"
    r" + d(i_t) \partial\tilde{s}_t/\partial A + d(\tilde{s}_t) \partial i_t/\partial A"
)
SEVEN_2 = (
    r"\frac{\partial f_t \odot s_{t-1}}{\partial f_t} \frac{\partial f_t}{\partial A}"
    r" + \frac{\partial f_t \odot s_{t-1}}{\partial s_{t-1}} \frac{\partial s_{t-1}}{\partial A}"
    r" + \frac{\partial i_t \odot \tilde{s}_t}{\partial\tilde{s}_t}"
    r" \frac{\partial\tilde{s}_t}{\partial A}"
    r" + \frac{\partial i_t \odot \tilde{s}_t}{\partial i_t} \frac{\partial i_t}{\partial A}"
)
EIGHT_1 = (
    r"\partial h_t/\partial o_t \, \partial o_t/\partial A + \partial h_t/\partial\sigma(s_t)"
    r" \, \partial\sigma(s_t)/\partial s_t \, \partial s_t/\partial A"
)
EIGHT_2 = r"d(\sigma(s_t)) \partial o_t/\partial A + d(o_t) d(\sigma'(s_t)) \partial s_t/\partial A"
EIGHT_3 = rf"d(\sigma(s_t)) \partial o_t/\partial A + d(o_t) d(\sigma'(s_t)) ({SEVEN})"
NINE_0 = r"\partial L_t/\partial h_t \, \partial h_t/\partial A"
NINE_1 = rf"\partial L_t/\partial h_t ({EIGHT_2})"
NINE_2 = rf"\partial L_t/\partial h_t ({EIGHT_3})".replace(
    r"\partial\tilde{s}_t/\partial A", r"\tilde{s}_t/\partial A"
)


def _state_sum(q: Draw, A: str) -> ndarray:
    """The derivative of the whole right side of (5)."""
    arguments = (
        (at(q, "f"), by(q, "f", A)),
        (before(q, "s"), by_before(q, "s", A)),
        (at(q, "i"), by(q, "i", A)),
        (at(q, "s~"), by(q, "s~", A)),
    )
    rows = ((value, _flat(tensor)) for value, tensor in arguments)
    return derivative(lambda f, s, i, candidate: f * s + i * candidate, *rows)


def _flat(tensor: ndarray) -> ndarray:
    """A derivative [H, ...] by A as a matrix [H, n]."""
    return tensor.reshape(len(tensor), -1)


def _state_rule(q: Draw, A: str) -> ndarray:
    """The four terms with the partial derivatives of the two products."""
    f, s, i, candidate = at(q, "f"), before(q, "s"), at(q, "i"), at(q, "s~")
    return (
        product(jacobian(lambda f: f * s, f), by(q, "f", A))
        + product(jacobian(lambda s: f * s, s), by_before(q, "s", A))
        + product(jacobian(lambda candidate: i * candidate, candidate), by(q, "s~", A))
        + product(jacobian(lambda i: i * candidate, i), by(q, "i", A))
    )


def _hidden_rule(q: Draw, A: str) -> ndarray:
    """The chain rule for o_t and sigma(s_t), with the partial derivatives of h_t."""
    o, s = at(q, "o"), at(q, "s")
    by_o = jacobian(lambda o: o * sigma(s), o)
    by_sigma = jacobian(lambda value: o * value, sigma(s))
    return product(by_o, by(q, "o", A)) + product(by_sigma, jacobian(sigma, s), by(q, "s", A))


def _hidden_by_state(q: Draw, A: str) -> ndarray:
    through_cell = product(d(at(q, "o")), d(prime(q, "s")), by(q, "s", A))
    return product(d(sigma_s(q)), by(q, "o", A)) + through_cell


def gate_entries() -> Iterable[Entry]:
    """Equations (10) to (13), each line for all gates and their parameters."""
    kinds = {
        "10": (None, r"d(g'_t) W_g \partial h_{t-1}/\partial A"),
        "11": ("W", r"d(g'_t) (d_2(h_{t-1}) + W_g \partial h_{t-1}/\partial W_g)"),
        "12": ("U", r"d(g'_t) (W_g \partial h_{t-1}/\partial U_g + d_2(x_t))"),
        "13": ("b", r"d(g'_t) (W_g \partial h_{t-1}/\partial b_g + I)"),
    }
    for number, (kind, statement) in kinds.items():
        pairs = [(g, A) for g in GATES for A in PARAMETERS if _concerns(kind, g, A)]
        truth = partial(_over, pairs, by)
        if number == "12":
            yield from _output_for_gate_entries(pairs)
        for line, (text, printed) in LINES[number].items():
            yield entry(
                number, text, printed=partial(_over, pairs, printed), truth=truth, line=line
            )
        used_by = {"10": "B4", "11": "B5", "12": "B6", "13": "B7"}[number], "T1"
        printed = partial(_over, pairs, gate_by)
        yield entry(number, statement, printed=printed, truth=truth, used_by=used_by)


def _output_for_gate_entries(pairs: list[tuple[str, str]]) -> Iterable[Entry]:
    """Line 1 of (12), whose second factor prints o where it means g."""
    misprint = partial(
        entry,
        "12",
        rf"{OUTER} \, \partial(W_o h_{{t-1}} + U_o x_t + b_o)/\partial U_o",
        line=1,
    )
    yield misprint(
        printed=partial(_over, pairs, _chain_rule),
        truth=partial(_over, pairs, by),
        reading="o for g",
        verdict="typographical",
        note="The inner derivative prints o where it means g.",
    )
    output, others = [("o", "U_o")], [(g, A) for g, A in pairs if g != "o"]
    yield misprint(
        printed=partial(_over, output, _chain_rule_of_output),
        truth=partial(_over, output, by),
        reading="as printed, g = o",
    )
    yield misprint(
        printed=partial(_over, others, _chain_rule_of_output),
        truth=partial(_over, others, by),
        corrected=partial(_over, others, _chain_rule),
        reading="as printed, g another gate",
        verdict="fails",
        note="sigma' of one gate stands before the derivative of another's argument.",
    )


def _concerns(kind: str | None, gate: str, A: str) -> bool:
    own = GATE_OF[A] == gate
    return not own if kind is None else own and A[0] == kind


def _over(pairs: list[tuple[str, str]], line: Callable[[Draw, str, str], Any], q: Draw) -> ndarray:
    return np.concatenate([np.ravel(line(q, gate, A)) for gate, A in pairs])


def _affine_by(q: Draw, gate: str, A: str) -> ndarray:
    """The derivative of W_g h_{t-1} + U_g x_t + b_g by A, with h_{t-1} moving along."""
    parts = ((q.params[name], _by_itself(q, name, A)) for name in GATES[gate])
    h = before(q, "h"), _flat(by_before(q, "h", A))
    return derivative(lambda h, W, U, b: W @ h + U @ q.x[-1] + b, h, *parts)


def _by_itself(q: Draw, name: str, A: str) -> ndarray:
    """A parameter's derivative by A: zero, or of A itself its unit matrices or vectors."""
    shape, n = q.params[name].shape, q.params[A].size
    return np.eye(n).reshape(*shape, n) if name == A else np.zeros((*shape, n))


def _chain_rule(q: Draw, gate: str, A: str) -> ndarray:
    """dsigma(z)/dz dz/dA."""
    return jacobian(sigma, affine(gate, q)) @ _affine_by(q, gate, A)


def _chain_rule_of_output(q: Draw, gate: str, _A: str) -> ndarray:
    """(12) as printed: dsigma(z)/dz of the gate, dz_o/dU_o of the output gate."""
    return jacobian(sigma, affine(gate, q)) @ _affine_by(q, "o", "U_o")


def _prime_of_affine(q: Draw, gate: str) -> ndarray:
    """d(sigma'(z)), from the affine map z."""
    value = gate_value(gate, q)
    return d(value * (1 - value))


def _through_hidden(q: Draw, gate: str, A: str) -> ndarray:
    return product(W_of(q, gate), by_before(q, "h", A))


def _without_A(q: Draw, gate: str, A: str) -> ndarray:
    """Line 2 of (10)."""
    return product(_prime_of_affine(q, gate), _through_hidden(q, gate, A))


def _with_recurrent_product(q: Draw, gate: str, A: str) -> ndarray:
    """Line 2 of (11), with the derivative of W_g h_{t-1} as a whole."""
    h = before(q, "h"), _flat(by_before(q, "h", A))
    by_W = derivative(np.matmul, (q.params[A], _by_itself(q, A, A)), h)
    return _prime_of_affine(q, gate) @ by_W


def _with_unit_tensor(q: Draw, gate: str, A: str) -> ndarray:
    """Line 3 of (11): dW_g/dW_g as a tensor [H, H, H, H], times h_{t-1}."""
    eye = np.eye(len(at(q, "h")))
    own = np.einsum("ik,jl,j->ikl", eye, eye, before(q, "h"))
    return product(d(prime(q, gate)), own + _through_hidden(q, gate, A))


def _with_input_product(q: Draw, gate: str, A: str) -> ndarray:
    """Line 2 of (12), with the derivative of U_g x_t as a whole."""
    own = derivative(lambda U: U @ q.x[-1], (q.params[A], _by_itself(q, A, A)))
    return d(prime(q, gate)) @ (_flat(_through_hidden(q, gate, A)) + own)


AFFINE = "W_g h_{t-1} + U_g x_t + b_g"
OUTER = rf"\partial\sigma({AFFINE})/\partial({AFFINE})"
LINES: dict[str, dict[int, tuple[str, Callable[[Draw, str, str], ndarray]]]] = {
    "10": {
        1: (rf"{OUTER} \, \partial({AFFINE})/\partial A", _chain_rule),
        2: (rf"d(\sigma'({AFFINE})) W_g \partial h_{{t-1}}/\partial A", _without_A),
    },
    "11": {
        1: (rf"{OUTER} \, \partial({AFFINE})/\partial W_g", _chain_rule),
        2: (
            rf"d(\sigma'({AFFINE})) \partial(W_g h_{{t-1}})/\partial W_g",
            _with_recurrent_product,
        ),
        3: (
            r"d(g'_t) (\partial W_g/\partial W_g h_{t-1} + W_g \partial h_{t-1}/\partial W_g)",
            _with_unit_tensor,
        ),
    },
    "12": {
        2: (
            r"d(g'_t) (W_g \partial h_{t-1}/\partial U_g + \partial(U_g x_t)/\partial U_g)",
            _with_input_product,
        ),
    },
    "13": {1: (rf"{OUTER} \, \partial({AFFINE})/\partial b_g", _chain_rule)},
}
"""The lines before the result of (10) to (13), but for line 1 of (12)."""
