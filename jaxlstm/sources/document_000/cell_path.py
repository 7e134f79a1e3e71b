"""Document 000, (27) to (29): the path through the cell states, which should not vanish."""

from collections.abc import Iterable
from functools import partial, reduce

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
from jaxlstm.sources.document_000.paths import OTHERS, K, earlier, every, since_k
from jaxlstm.sources.document_000.specific import N_t
from jaxlstm.sources.document_000.system import Draw, d, draw, forward
from jaxlstm.sources.ledger import Condition, Entry

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
        condition=Condition("every f_j is 1 to rounding", partial(draw, forget_bias=45.0)),
    )
    near = {"f_j = 1, t - k = 200": (45.0, 200), "f_j about 0.99, t - k = 2000": (None, 2000)}
    for words, (bias, steps) in near.items():
        yield entry(
            "T_2 does not vanish",
            r"\|D\| \ge \sqrt{n} / 1000",
            printed=partial(_carousel, bias, steps, through_output=False),
            truth=None,
            kind="claim",
            reading=f"as a term of ds_t/dA, {words}",
            verdict="holds" if bias else "fails",
            note="" if bias else "Near 1 is not enough: (t - k)(1 - f) must stay small.",
        )
    yield entry(
        "T_2 does not vanish",
        r"\|d(o_t) d(\sigma'(s_t)) D\| \ge \sqrt{n} / 1000",
        printed=partial(_carousel, 45.0, 200, through_output=True),
        truth=None,
        kind="claim",
        reading="as a term of dh_t/dA, f_j = 1, t - k = 200",
        verdict="fails",
        note="Where f is 1, s_t sums i * s~ > 0: sigma'(s_t), which (28) drops, vanishes.",
    )
    yield entry(
        "s_k contributes",
        r"f_j \to 0 \Rightarrow \partial s_t/\partial s_k \to 0",
        printed=_contribution_without_forget_gates,
        truth=None,
        kind="claim",
        verdict="fails",
        note="With forget gates shut, s_k still reaches s_t through h_k and the other gates.",
    )


def _contribution_without_forget_gates(q: Draw) -> tuple[float, float]:
    """|ds_t/ds_k| over all paths where every forget gate is below 1e-12, and a billionth."""
    shut = draw(q.seed, forget_bias=-45.0)
    by_s_k = np.vstack([np.eye(len(at(shut, "s"))), d(shut.values["o"][K] * shut.primes["s"][K])])
    for point in reversed(since_k(shut)):
        jacobian = np.block([[point.step_by[out, by][-1] for by in "sh"] for out in "sh"])
        by_s_k = jacobian @ by_s_k
    return norm(by_s_k[: len(by_s_k) // 2]), 1e-9


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
    """The terms of (7) but d(f_t) ds_{t-1}/dA."""
    return (
        product(d(before(q, "s")), by(q, "f", A))
        + product(d(at(q, "i")), by(q, "s~", A))
        + product(d(at(q, "s~")), by(q, "i", A))
    )


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


def _carousel(
    bias: float | None, steps: int, q: Draw, *, through_output: bool
) -> tuple[float, float]:
    """sqrt(n)/1000, and the norm that is left of D after many steps with f near 1.

    The forget gates' bias is raised by ``bias``; if None, every f is held at about 0.99.
    """
    held = {
        "W_f": 0 * q.params["W_f"],
        "U_f": 0 * q.params["U_f"],
        "b_f": 0 * q.params["b_f"] + 4.6,
    }
    raised = {"b_f": q.params["b_f"] + (bias or 0.0)}
    inputs = np.resize(q.x[1:], (steps, q.x.shape[1]))
    start = q.values["s"][0], q.values["h"][0]
    with jax.enable_x64(True):
        params = q.params | (held if bias is None else raised)
        made = jax.tree.map(np.asarray, run(params, start, inputs))
    D, s = made["f"].prod(0), made["s"][-1]
    factor = made["o"][-1] * sigma(s) * sigma(-s) if through_output else 1.0
    return float(np.sqrt(len(s))) / 1000, norm(factor * D)
