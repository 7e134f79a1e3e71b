"""Document 000, (26) to (33): why the gradient should not vanish, and why it may explode."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_000.generic import (
    W_of,
    all_parameters,
    at,
    by,
    by_before,
    entry,
    prime,
    sigma_s,
    state_by,
)
from jaxlstm.sources.document_000.specific import M_t, N_t, V_t
from jaxlstm.sources.document_000.system import PARAMETERS, Draw, d, draw, forward, product
from jaxlstm.sources.ledger import Condition, Entry

run = jax.jit(forward)
every = partial(partial, all_parameters)
K = 1
"""The time k to which the document unrolls."""

FORM = r"M_t h_{t-1}/\partial A + N_t \partial s_{t-1}/\partial A + V_t"
OTHERS = r" + (\text{other terms})"


def form_entries() -> Iterable[Entry]:
    """(26) and (30), the same form twice."""
    for number in ("26", "30"):
        yield entry(
            number,
            FORM,
            printed=every(_form),
            truth=every(lambda q, A: by(q, "h", A)),
            verdict="typographical",
            note="Prints h_{t-1}/dA without the d of its numerator.",
        )


def _form(q: Draw, A: str) -> ndarray:
    return product(M_t(q), by_before(q, "h", A)) + product(N_t(q), by_before(q, "s", A)) + V_t(q, A)


def earlier(q: Draw, steps: int) -> Draw:
    """The same point seen from ``steps`` steps before: what was at t - steps is now at t."""
    if steps == 0:
        return q
    return q._replace(
        x=q.x[:-steps],
        values={name: rows[:-steps] for name, rows in q.values.items()},
        primes={name: rows[:-steps] for name, rows in q.primes.items()},
        by={n: {A: rows[:-steps] for A, rows in named.items()} for n, named in q.by.items()},
        step_by={pair: rows[:-steps] for pair, rows in q.step_by.items()},
    )


def since_k(q: Draw) -> list[Draw]:
    """The point seen from t, t - 1, ..., k + 1."""
    return [earlier(q, steps) for steps in range(len(q.x) - 1 - K)]


# The path through the cell states, (27) to (29).


def cell_path_entries() -> Iterable[Entry]:
    """T_0, its second term T_1, the unrolled T_2, and whether it vanishes."""
    t_0 = r"d(o_t) d(\sigma'(s_t)) d(f_t)"
    expanded = (
        r"d(s_{t-2}) \partial f_{t-1}/\partial A + d(f_{t-1}) \partial s_{t-2}/\partial A"
        r" + d(i_{t-1}) \partial\tilde{s}_{t-1}/\partial A + d(\tilde{s}_{t-1})"
        r" \partial i_{t-1}/\partial A"
    )
    for line, statement, printed in (
        (1, rf"{t_0} \partial s_{{t-1}}/\partial A", _T_0),
        (None, rf"{t_0} ({expanded})", _T_0_expanded),
    ):
        yield entry("27", statement, printed=every(printed), truth=every(_true_T_0), line=line)
    two, three = r"d(f_t) d(f_{t-1})", r"d(f_t) d(f_{t-1}) d(f_{t-2})"
    lines = [
        (1, rf"{two} \partial s_{{t-2}}/\partial A", _T_1, _T_1),
        (2, rf"{three} \partial s_{{t-3}}/\partial A" + OTHERS, partial(_unrolled, 3), _T_1),
        (None, r"(\prod_{j=k+1}^t d(f_j)) \partial s_k/\partial A" + OTHERS, _unrolled_to_k, _T_1),
    ]
    for line, statement, printed, first in lines:
        yield entry(
            "28",
            statement,
            printed=every(printed),
            truth=every(_true_T_1),
            corrected=every(
                lambda q, A, printed=printed: product(_output_factor(q), printed(q, A))
            ),
            line=line,
            reading="T_1 as the second term of (27)",
            verdict="fails",
            note="The factor d(o_t) d(sigma'(s_t)) of (27) is dropped.",
        )
        if line != 1:
            yield entry(
                "28",
                statement,
                printed=every(printed),
                truth=every(first),
                line=line,
                reading="T_1 as the first line has it",
            )
    yield from _T_2_entries()


def _T_2_entries() -> Iterable[Entry]:
    for line, statement, printed in (
        (1, r"(\prod_{j=k+1}^t d(f_j)) \partial s_k/\partial A", _T_2_product),
        (None, r"D \partial s_k/\partial A, D = d(f_{k+1} \odot \dots \odot f_t)", _T_2_diagonal),
    ):
        yield entry("29", statement, printed=every(printed), truth=every(_true_T_2), line=line)
    yield entry(
        "norm of D",
        r"\|D\| \approx \|I\| = \sqrt{n}",
        printed=lambda q: np.sqrt(len(at(q, "h"))),
        truth=lambda q: np.linalg.norm(_true_D(q)),
        kind="limit",
        verdict="holds only if",
        condition=Condition("every f_j is 1", partial(draw, forget_bias=45.0)),
    )
    yield entry(
        "T_2 does not vanish",
        r"\|d(o_t) d(\sigma'(s_t)) D\| \ge \|D\| / 1000, f_j \to 1, t - k = 200",
        printed=partial(_carousel, through_output=True),
        truth=None,
        kind="claim",
        reading="as a term of dh_t/dA",
        verdict="fails",
        note="Where f is 1, s_t sums i * s~ > 0: sigma'(s_t), which (28) drops, vanishes.",
    )
    yield entry(
        "T_2 does not vanish",
        r"\|D\| \ge \sqrt{n} / 1000, f_j \to 1, t - k = 200",
        printed=partial(_carousel, through_output=False),
        truth=None,
        kind="claim",
        reading="as a term of ds_t/dA",
    )


def _output_factor(q: Draw) -> ndarray:
    return d(at(q, "o")) @ d(prime(q, "s"))


def _T_0(q: Draw, A: str) -> ndarray:
    return product(N_t(q), by_before(q, "s", A))


def _T_0_expanded(q: Draw, A: str) -> ndarray:
    last = earlier(q, 1)
    return product(N_t(q), state_by(last, A, lambda gate: by(last, gate, A)))


def _true_T_0(q: Draw, A: str) -> ndarray:
    return product(q.step_by["h", "s"][-1], by_before(q, "s", A))


def _true_T_1(q: Draw, A: str) -> ndarray:
    return product(q.step_by["h", "s"][-1], q.step_by["s", "s"][-2], q.by["s"][A][-3])


def _T_1(q: Draw, A: str) -> ndarray:
    return product(d(q.values["f"][-1]), d(q.values["f"][-2]), q.by["s"][A][-3])


def _unrolled(forgets: int, q: Draw, A: str) -> ndarray:
    """``forgets`` forget gates times ds/dA before them, and the other terms since (27)."""
    points = [earlier(q, steps) for steps in range(forgets)]
    gates = [d(at(point, "f")) for point in points]
    total = product(*gates, by_before(points[-1], "s", A))
    for n in range(2, forgets):
        total = total + product(*gates[:n], _through_gates(points[n], A))
    return total


def _through_gates(q: Draw, A: str) -> ndarray:
    """ds_t/dA without its term d(f_t) ds_{t-1}/dA."""
    return by(q, "s", A) - product(d(at(q, "f")), by_before(q, "s", A))


def _unrolled_to_k(q: Draw, A: str) -> ndarray:
    return _unrolled(len(since_k(q)), q, A)


def _T_2_product(q: Draw, A: str) -> ndarray:
    return product(*(d(at(point, "f")) for point in since_k(q)), q.by["s"][A][K])


def _T_2_diagonal(q: Draw, A: str) -> ndarray:
    return product(d(np.prod(q.values["f"][K + 1 :], axis=0)), q.by["s"][A][K])


def _true_D(q: Draw) -> ndarray:
    return reduce(np.matmul, (point.step_by["s", "s"][-1] for point in since_k(q)))


def _true_T_2(q: Draw, A: str) -> ndarray:
    return product(_true_D(q), q.by["s"][A][K])


def _carousel(q: Draw, through_output: bool) -> tuple[float, float]:
    """A thousandth of what should be kept after 200 steps with f near 1, and what is kept."""
    params = q.params | {"b_f": q.params["b_f"] + 45.0}
    inputs = np.resize(q.x[1:], (200, q.x.shape[1]))
    with jax.enable_x64(True):
        made = jax.tree.map(np.asarray, run(params, (q.values["s"][0], q.values["h"][0]), inputs))
    D, s = made["f"].prod(0), made["s"][-1]
    factor = made["o"][-1] / ((1 + np.exp(-s)) * (1 + np.exp(s))) if through_output else 1.0
    return _norm(D) / 1000, _norm(factor * D)


# The path through the output gates, (31) to (33).


def gate_path_entries() -> Iterable[Entry]:
    """T_0, its first term T_1, and T_1 unrolled."""
    F = r"d(\sigma(s_t)) d(o'_t) W_o"
    yield entry(
        "31",
        rf"({F} + d(o_t) d(\sigma'(s_t)) (d(s_{{t-1}}) d(f'_t) W_f + d(i_t) d(\tilde{{s}}'_t) W"
        r" + d(\tilde{s}_t) d(i'_t) W_i)) \partial h_{t-1}/\partial A",
        printed=every(lambda q, A: product(M_t(q), by_before(q, "h", A))),
        truth=every(lambda q, A: product(q.step_by["h", "h"][-1], by_before(q, "h", A))),
    )
    product_k = r"(\prod_{j=k+1}^t d(\sigma(s_j)) d(o'_j) W_o) \partial h_k/\partial A"
    before_last = r"d(\sigma(s_{t-1})) d(o'_{t-1}) W_o \partial h_{t-2}/\partial A"
    lines: list[tuple[int | None, str, Callable[[Draw, str], ndarray], str | None]] = [
        (1, rf"{F} \partial h_{{t-1}}/\partial A", partial(_through_outputs, 1), None),
        (2, rf"{F} {before_last}" + OTHERS, partial(_through_outputs, 2), None),
        (None, product_k + OTHERS, _through_outputs_to_k, "j from t down to k + 1"),
    ]
    for line, statement, printed, reading in lines:
        truth = every(_true_gate_T_1)
        yield entry(
            "32", statement, printed=every(printed), truth=truth, line=line, reading=reading
        )
    yield entry(
        "32",
        product_k,
        printed=every(lambda q, A: _T_2_of_gates(q, A, ascending=True)),
        truth=every(_true_gate_T_2),
        corrected=every(lambda q, A: _T_2_of_gates(q, A, ascending=False)),
        reading="its first term, with j from k + 1 up to t as printed",
        verdict="fails",
        note="The factors do not commute; the latest stands first.",
    )


def _output_gate_factor(q: Draw) -> ndarray:
    return d(sigma_s(q)) @ d(prime(q, "o")) @ W_of(q, "o")


def _true_gate_factor(q: Draw) -> ndarray:
    """dh_t/dh_{t-1} through o_t alone, by autodiff of the gate."""
    return sigma_s(q)[:, None] * q.step_by["o", "h"][-1]


def _true_gate_T_1(q: Draw, A: str) -> ndarray:
    return product(_true_gate_factor(q), by_before(q, "h", A))


def _through_outputs(steps: int, q: Draw, A: str) -> ndarray:
    """``steps`` factors times dh/dA before them, and the other terms."""
    points = [earlier(q, n) for n in range(steps)]
    factors = [_output_gate_factor(point) for point in points]
    total = product(*factors, by_before(points[-1], "h", A))
    return total + _other_paths(factors, points, A)


def _other_paths(factors: list[ndarray], points: list[Draw], A: str) -> Any:
    """What leaves the path of output gates at each step but the last."""
    return sum(
        product(*factors[:n], _form(points[n], A))
        - product(*factors[: n + 1], by_before(points[n], "h", A))
        for n in range(1, len(points))
    )


def _through_outputs_to_k(q: Draw, A: str) -> ndarray:
    return _through_outputs(len(since_k(q)), q, A)


def _T_2_of_gates(q: Draw, A: str, ascending: bool) -> ndarray:
    factors = [_output_gate_factor(point) for point in since_k(q)]
    return product(*(factors[::-1] if ascending else factors), q.by["h"][A][K])


def bound_entries() -> Iterable[Entry]:
    """The bound of one factor, (33), and what it says of an explosion."""
    one = r"\|d(\sigma(s_j)) d(o'_j) W_o\|"
    for line, statement, bound in (
        (1, rf"{one} \le \|d(\sigma(s_j))\| \|d(o'_j)\| \|W_o\|", _product_of_norms),
        (None, rf"{one} \le \sqrt{{n}} \sqrt{{n}}/2 \|W_o\| = n/2 \|W_o\|", _factor_bound),
    ):
        yield entry(
            "bound of a factor",
            statement,
            printed=lambda q, bound=bound: (_norm(_output_gate_factor(q)), bound(q)),
            truth=None,
            kind="bound",
            line=line,
            note="Loose: o' is at most 1/4, and each diagonal's norm brings sqrt(n)."
            if line is None
            else "",
        )
    yield entry(
        "33",
        r"\|\prod_{j=k+1}^t (d(\sigma(s_j)) d(o'_j) W_o)\| \partial h_k/\partial A",
        printed=lambda q: np.stack(
            [_norm(_path_factor(q)) * q.by["h"][A][K] for A in ("b", "b_o")]
        ),
        corrected=lambda q: [
            _norm(product(_path_factor(q), q.by["h"][A][K])) for A in ("b", "b_o")
        ],
        truth=lambda q: [_norm(_true_gate_T_2(q, A)) for A in ("b", "b_o")],
        line=1,
        verdict="ill-formed",
        note="The closing bar stands before dh_k/dA instead of after it.",
    )
    for line, statement in (
        (2, r"\|T_2\| \le \prod_{j=k+1}^t (n/2 \|W_o\|) \|\partial h_k/\partial A\|"),
        (None, r"\|T_2\| \le (n/2 \|W_o\|)^{t-k} \|\partial h_k/\partial A\|"),
    ):
        yield entry("33", statement, printed=_bound_of_T_2, truth=None, kind="bound", line=line)
    yield entry(
        "explosion",
        r"n/2 \|W_o\| > 1 \Rightarrow \|\prod_{j=k+1}^t d(\sigma(s_j)) d(o'_j) W_o\| \ge 1",
        printed=lambda q: (1.0, _norm(_path_factor(q))),
        truth=None,
        kind="claim",
        verdict="fails",
        note="A bound above 1 explodes nothing: the product shrinks on draws where n/2 |W_o| > 1.",
    )


def _norm(tensor: ndarray) -> float:
    return float(np.linalg.norm(np.ravel(tensor)))


def _product_of_norms(q: Draw) -> float:
    return _norm(d(sigma_s(q))) * _norm(d(prime(q, "o"))) * _norm(W_of(q, "o"))


def _factor_bound(q: Draw) -> float:
    return len(at(q, "h")) / 2 * _norm(W_of(q, "o"))


def _path_factor(q: Draw) -> ndarray:
    return product(*map(_output_gate_factor, since_k(q)))


def _true_gate_T_2(q: Draw, A: str) -> ndarray:
    return product(*map(_true_gate_factor, since_k(q)), q.by["h"][A][K])


def _bound_of_T_2(q: Draw) -> tuple[ndarray, ndarray]:
    bound = _factor_bound(q) ** len(since_k(q))
    parameters = [A for A in PARAMETERS if _norm(q.by["h"][A][K]) > 0]
    reached = [_norm(product(_path_factor(q), q.by["h"][A][K])) for A in parameters]
    return np.array(reached), np.array([bound * _norm(q.by["h"][A][K]) for A in parameters])
