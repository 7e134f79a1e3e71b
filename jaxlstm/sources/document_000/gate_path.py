"""Document 000, (31) to (33): the path through the output gates, which may explode."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, product
from jaxlstm.sources.document_000.generic import (
    W_of,
    at,
    by_before,
    entry,
    prime,
    sigma_s,
)
from jaxlstm.sources.document_000.paths import (
    OTHERS,
    K,
    earlier,
    form,
    ks,
    over_k,
    since,
)
from jaxlstm.sources.document_000.specific import M_t
from jaxlstm.sources.document_000.system import ALL, PARAMETERS, Draw, d
from jaxlstm.sources.ledger import Entry


def gate_path_entries() -> Iterable[Entry]:
    """T_0, its first term T_1, and T_1 unrolled."""
    F = r"d(\sigma(s_t)) d(o'_t) W_o"
    yield entry(
        "31",
        rf"({F} + d(o_t) d(\sigma'(s_t)) (d(s_{{t-1}}) d(f'_t) W_f + d(i_t) d(\tilde{{s}}'_t) W"
        r" + d(\tilde{s}_t) d(i'_t) W_i)) \partial h_{t-1}/\partial A",
        printed=lambda q: product(M_t(q), by_before(q, "h", ALL)),
        truth=lambda q: product(q.step_by["h", "h"][-1], by_before(q, "h", ALL)),
    )
    product_k = r"(\prod_{j=k+1}^t d(\sigma(s_j)) d(o'_j) W_o) \partial h_k/\partial A"
    before_last = r"d(\sigma(s_{t-1})) d(o'_{t-1}) W_o \partial h_{t-2}/\partial A"
    lines = [
        (1, rf"{F} \partial h_{{t-1}}/\partial A", partial(_through_outputs, 1)),
        (2, rf"{F} {before_last}" + OTHERS, partial(_through_outputs, 2)),
    ]
    for line, statement, printed in lines:
        yield entry("32", statement, printed=printed, truth=_true_gate_T_1, line=line)
    yield entry(
        "32",
        product_k + OTHERS,
        printed=over_k(_through_outputs_to_k),
        truth=over_k(_true_gate_T_1),
        reading="j from t down to k + 1",
    )
    yield entry(
        "32",
        product_k,
        printed=over_k(partial(_T_2_of_gates, ascending=True)),
        truth=over_k(_true_gate_T_2),
        corrected=over_k(partial(_T_2_of_gates, ascending=False)),
        reading="its first term, with j from k + 1 up to t as printed",
        verdict="fails",
        note="The factors do not commute; the latest stands first.",
    )


def _output_gate_factor(q: Draw) -> ndarray:
    return d(sigma_s(q)) @ d(prime(q, "o")) @ W_of(q, "o")


def _true_gate_factor(q: Draw) -> ndarray:
    """dh_t/dh_{t-1} through o_t alone, by autodiff of the gate."""
    return sigma_s(q)[:, None] * q.step_by["o", "h"][-1]


def _true_gate_T_1(q: Draw, *_k: int) -> ndarray:
    return product(_true_gate_factor(q), by_before(q, "h", ALL))


def _through_outputs(steps: int, q: Draw) -> ndarray:
    """``steps`` factors times dh/dA before them, and the other terms."""
    points = [earlier(q, n) for n in range(steps)]
    factors = [_output_gate_factor(point) for point in points]
    total = product(*factors, by_before(points[-1], "h", ALL))
    return total + _other_paths(factors, points)


def _other_paths(factors: list[ndarray], points: list[Draw]) -> Any:
    """What leaves the path of output gates at each step but the last."""
    return sum(
        product(*factors[:n], form(points[n]))
        - product(*factors[: n + 1], by_before(points[n], "h", ALL))
        for n in range(1, len(points))
    )


def _through_outputs_to_k(q: Draw, k: int) -> ndarray:
    return _through_outputs(len(since(q, k)), q)


def _T_2_of_gates(q: Draw, k: int, *, ascending: bool) -> ndarray:
    factors = [_output_gate_factor(point) for point in since(q, k)]
    return product(*(factors[::-1] if ascending else factors), q.by["h"][ALL][k])


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
            printed=lambda q, bound=bound: (norm(_output_gate_factor(q)), bound(q)),
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
        printed=over_k(lambda q, k: norm(_path_factor(q, k)) * q.by["h"][ALL][k]),
        corrected=over_k(lambda q, k: norm(_T_2_of_gates(q, k, ascending=False))),
        truth=over_k(lambda q, k: norm(_true_gate_T_2(q, k))),
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
        printed=lambda q: (1.0, norm(_path_factor(q, K))),
        truth=None,
        kind="claim",
        reading="for every such W_o",
        verdict="fails",
        note="A bound above 1 explodes nothing: at every draw the product shrinks.",
    )


def _product_of_norms(q: Draw) -> float:
    return norm(d(sigma_s(q))) * norm(d(prime(q, "o"))) * norm(W_of(q, "o"))


def _factor_bound(q: Draw) -> float:
    return len(at(q, "h")) / 2 * norm(W_of(q, "o"))


def _path_factor(q: Draw, k: int) -> ndarray:
    return product(*map(_output_gate_factor, since(q, k)))


def _true_gate_T_2(q: Draw, k: int) -> ndarray:
    return product(*map(_true_gate_factor, since(q, k)), q.by["h"][ALL][k])


def _bound_of_T_2(q: Draw) -> tuple[ndarray, ndarray]:
    """For every A and k."""
    reached, bounds = [], []
    for k in ks(q):
        factor, bound = _path_factor(q, k), _factor_bound(q) ** len(since(q, k))
        reached += [norm(product(factor, q.by["h"][A][k])) for A in PARAMETERS]
        bounds += [bound * norm(q.by["h"][A][k]) for A in PARAMETERS]
    return np.array(reached), np.array(bounds)
