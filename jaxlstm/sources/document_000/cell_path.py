"""Document 000, (27) to (29): the path through the cell states, which should not vanish."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, product, sigma
from jaxlstm.sources.compiling import quick_jit
from jaxlstm.sources.document_000.generic import (
    at,
    before,
    by,
    by_before,
    entry,
    prime,
    state_by,
)
from jaxlstm.sources.document_000.paths import (
    OTHERS,
    K,
    earlier,
    ks,
    over_k,
    since,
)
from jaxlstm.sources.document_000.specific import N_t
from jaxlstm.sources.document_000.system import ALL, Draw, d, draw, forward
from jaxlstm.sources.ledger import Condition, Entry

Unrolled = Callable[..., ndarray]
"""A line of a draw, or of a draw and k."""

run = quick_jit(forward)


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
        yield entry("27", statement, printed=printed, truth=_true_T_0, line=line)
    two, three = r"d(f_t) d(f_{t-1})", r"d(f_t) d(f_{t-1}) d(f_{t-2})"
    lines = [
        (1, rf"{two} \partial s_{{t-2}}/\partial A", _T_1, _once),
        (2, rf"{three} \partial s_{{t-3}}/\partial A" + OTHERS, _unrolled_thrice, _once),
        (None, r"(\prod_{j=k+1}^t d(f_j)) \partial s_k/\partial A" + OTHERS, _unrolled, over_k),
    ]
    for line, statement, printed, over in lines:
        yield entry(
            "28",
            statement,
            printed=over(printed),
            truth=over(_true_T_1),
            corrected=over(partial(_with_output_factor, printed)),
            line=line,
            reading="T_1 as the second term of (27)",
            verdict="fails",
            terms=partial(_with_factors, over, printed),
            note="The factor d(o_t) d(sigma'(s_t)) of (27) is dropped.",
        )
        if line != 1:
            yield entry(
                "28",
                statement,
                printed=over(printed),
                truth=over(_T_1),
                line=line,
                reading="T_1 as the first line has it",
            )
    yield from _T_2_entries()


def _T_2_entries() -> Iterable[Entry]:
    for line, statement, printed in (
        (1, r"(\prod_{j=k+1}^t d(f_j)) \partial s_k/\partial A", _T_2_product),
        (None, r"D \partial s_k/\partial A, D = d(f_{k+1} \odot \dots \odot f_t)", _T_2_diagonal),
    ):
        yield entry("29", statement, printed=over_k(printed), truth=over_k(_true_T_2), line=line)
    yield entry(
        "norm of D",
        r"\|D\| \approx \|I\| = \sqrt{n}",
        printed=lambda q: np.full(len(ks(q)), len(at(q, "h")) ** 0.5),
        truth=lambda q: [norm(_true_D(q, k)) for k in ks(q)],
        kind="limit",
        verdict="holds only if",
        condition=Condition("every f_j is 1 to rounding", partial(draw, forget_bias=45.0)),
    )
    yield from _carousel_entries()
    yield entry(
        "s_k contributes",
        r"f_j \to 0 \Rightarrow \partial s_t/\partial s_k \to 0",
        printed=_contribution_without_forget_gates,
        truth=None,
        kind="claim",
        verdict="fails",
        note="With forget gates shut, s_k still reaches s_t through h_k and the other gates.",
    )


def _carousel_entries() -> Iterable[Entry]:
    """Whether T_2 vanishes over many steps, as a term of ds_t/dA and of dh_t/dA."""
    claim = partial(entry, "T_2 does not vanish", truth=None, kind="claim")
    yield claim(
        D_REMAINS,
        printed=partial(_carousel, ("b_f",), 200),
        reading="as a term of ds_t/dA, f_j = 1, t - k = 200",
    )
    yield claim(
        D_REMAINS,
        printed=partial(_carousel, (), 2000),
        reading="as a term of ds_t/dA, f_j about 0.99, t - k = 2000",
        verdict="fails",
        note="Near 1 is not enough: (t - k)(1 - f) must stay small.",
    )
    yield claim(
        D_REMAINS.replace("D", r"d(o_t) d(\sigma'(s_t)) D"),
        printed=partial(_carousel, ("b_f", "b_i", "b"), 200, through_output=True),
        reading="as a term of dh_t/dA, f_j = i_j = s~_j = 1, t - k = 200",
        verdict="fails",
        note="Where f is 1, s_t sums i * s~ > 0: sigma'(s_t), which (28) drops, vanishes.",
    )


D_REMAINS = r"\|D\| \ge \sqrt{n} / 1000"


def _contribution_without_forget_gates(q: Draw) -> tuple[float, float]:
    """|ds_t/ds_k| over all paths where every forget gate is below 1e-12, and a billionth."""
    shut = draw(q.seed, forget_bias=-45.0)
    by_s_k = np.vstack([np.eye(len(at(shut, "s"))), d(shut.values["o"][K] * shut.primes["s"][K])])
    for point in reversed(since(shut, K)):
        jacobian = np.block([[point.step_by[out, by][-1] for by in "sh"] for out in "sh"])
        by_s_k = jacobian @ by_s_k
    return norm(by_s_k[: len(by_s_k) // 2]), 1e-9


def _output_factor(q: Draw) -> ndarray:
    return d(at(q, "o")) @ d(prime(q, "s"))


def _T_0(q: Draw) -> ndarray:
    return product(N_t(q), by_before(q, "s", ALL))


def _T_0_expanded(q: Draw) -> ndarray:
    last = earlier(q, 1)
    return product(N_t(q), state_by(last, ALL, lambda gate: by(last, gate, ALL)))


def _true_T_0(q: Draw) -> ndarray:
    return product(q.step_by["h", "s"][-1], by_before(q, "s", ALL))


def _once(line: Unrolled) -> Unrolled:
    """Of a line without k."""
    return line


def _true_T_1(q: Draw, *_k: int) -> ndarray:
    return product(q.step_by["h", "s"][-1], q.step_by["s", "s"][-2], q.by["s"][ALL][-3])


def _with_output_factor(line: Unrolled, q: Draw, *k: int) -> ndarray:
    return product(_output_factor(q), line(q, *k))


def _with_factors(over: Any, line: Unrolled, q: Draw) -> dict[str, ndarray]:
    """The line with each factor that it may lack."""
    factors = {
        "as printed": np.eye(len(at(q, "o"))),
        "d(o_t) times it": d(at(q, "o")),
        "d(sigma'(s_t)) times it": d(prime(q, "s")),
        "d(o_t) d(sigma'(s_t)) times it": _output_factor(q),
    }
    return {
        name: over(lambda q, *k, factor=factor: product(factor, line(q, *k)))(q)
        for name, factor in factors.items()
    }


def _T_1(q: Draw, *_k: int) -> ndarray:
    return product(d(q.values["f"][-1]), d(q.values["f"][-2]), q.by["s"][ALL][-3])


def _unrolled_thrice(q: Draw) -> ndarray:
    return _unrolled(q, len(q.x) - 4)


def _unrolled(q: Draw, k: int) -> ndarray:
    """The forget gates since k times ds_k/dA, and the other terms since (27)."""
    points = since(q, k)
    gates = [d(at(point, "f")) for point in points]
    total = product(*gates, by_before(points[-1], "s", ALL))
    for n in range(2, len(points)):
        total = total + product(*gates[:n], _through_gates(points[n]))
    return total


def _through_gates(q: Draw) -> ndarray:
    """The terms of (7) but d(f_t) ds_{t-1}/dA."""
    return (
        product(d(before(q, "s")), by(q, "f", ALL))
        + product(d(at(q, "i")), by(q, "s~", ALL))
        + product(d(at(q, "s~")), by(q, "i", ALL))
    )


def _T_2_product(q: Draw, k: int) -> ndarray:
    return product(*(d(at(point, "f")) for point in since(q, k)), q.by["s"][ALL][k])


def _T_2_diagonal(q: Draw, k: int) -> ndarray:
    return product(d(np.prod(q.values["f"][k + 1 :], axis=0)), q.by["s"][ALL][k])


def _true_D(q: Draw, k: int) -> ndarray:
    return reduce(np.matmul, (point.step_by["s", "s"][-1] for point in since(q, k)))


def _true_T_2(q: Draw, k: int) -> ndarray:
    return product(_true_D(q, k), q.by["s"][ALL][k])


def _carousel(
    opened: tuple[str, ...], steps: int, q: Draw, *, through_output: bool = False
) -> tuple[float, float]:
    """sqrt(n)/1000, and the norm that is left of D after many steps with f near 1.

    The gates of the biases ``opened`` are 1; without any, every f is held at about 0.99.
    """
    held = {
        "W_f": 0 * q.params["W_f"],
        "U_f": 0 * q.params["U_f"],
        "b_f": 0 * q.params["b_f"] + 4.6,
    }
    raised = {A: q.params[A] + 45.0 for A in opened}
    inputs = np.resize(q.x[1:], (steps, q.x.shape[1]))
    start = q.values["s"][0], q.values["h"][0]
    with jax.enable_x64(True):
        params = q.params | (raised or held)
        made = jax.tree.map(np.asarray, run(params, start, inputs))
    D, s = made["f"].prod(0), made["s"][-1]
    factor = made["o"][-1] * sigma(s) * sigma(-s) if through_output else 1.0
    return float(np.sqrt(len(s))) / 1000, norm(factor * D)
