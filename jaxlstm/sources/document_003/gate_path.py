"""Document 003: t_1, the path through the output gates, and its bound."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, sigma
from jaxlstm.sources.compiling import quick_jit
from jaxlstm.sources.document_003.cell_path import (
    TO_CELL,
    cell_to_hidden,
    hidden_to_cell,
    hidden_to_hidden,
)
from jaxlstm.sources.document_003.system import Draw, K, forward
from jaxlstm.sources.ledger import Entry

entry = partial(Entry, "003")


def gate_path_entries() -> Iterable[Entry]:
    """The factors of t_1, t_1, and its bound under every K that the document leaves open."""
    yield entry(
        "dh_t/do_t",
        r"\mathcal{D}(\sigma(s_t))",
        printed=lambda q: np.diag(sigma(q.values["s"][-1])),
        truth=lambda q: q.steps["dh_j/do_j"][-1],
    )
    yield entry(
        "do_t/dh_t-1",
        r"\mathcal{D}(o'_t) W_o",
        printed=lambda q: np.diag(q.primes["o"][-1]) @ q.params["W_o"],
        truth=lambda q: q.steps["do_j/dh_j-1"][-1],
        used_by=("D5",),
    )
    yield from _t_1_entries()
    yield from _bound_entries()


def _t_1_entries() -> Iterable[Entry]:
    chain = (
        r"\partial\mathcal{L}_t/\partial h_t (\partial h_t/\partial o_t \, \partial o_t/\partial"
        r" h_{t-1}) \cdots (\partial h_k/\partial o_k \, \partial o_k/\partial h_{k-1})"
    )
    result = (
        r"\mathcal{L}'_t(h_t) (\mathcal{D}(\sigma(s_t) \odot o'_t) W_o) \cdots"
        r" (\mathcal{D}(\sigma(s_k) \odot o'_k) W_o)"
    )
    own = {"truth": lambda q: q.true["t_1"], "reading": "the path's own part"}
    yield entry("t_1", chain, printed=_chain, line=1, **own)
    yield entry("t_1", result, printed=_closed, **own)
    yield entry(
        "t_1",
        result,
        printed=_closed,
        truth=lambda q: q.true["dL/dh_k-1"],
        corrected=_backward,
        reading="the whole dL_t/dh_{k-1}",
        verdict="fails",
        terms=_groups_of_paths,
        note="The paths by i, f and s~ are missing.",
    )


def _chain(q: Draw) -> ndarray:
    factors = q.steps["dh_j/do_j"][K:] @ q.steps["do_j/dh_j-1"][K:]
    return reduce(np.matmul, factors[::-1], q.true["L'"])


def _times(q: Draw) -> range:
    """t, t - 1, ..., k."""
    return range(len(q.x) - 1, K - 1, -1)


def _closed(q: Draw) -> ndarray:
    factors = (np.diag(_K(q, j)) @ q.params["W_o"] for j in _times(q))
    return reduce(np.matmul, factors, q.true["L'"])


def _K(q: Draw, j: int) -> ndarray:
    """The diagonal of dh_j/dz_{o,j}."""
    return sigma(q.values["s"][j]) * q.primes["o"][j]


def _backward(q: Draw) -> ndarray:
    """dL_t/dh_{k-1} by all paths."""
    return np.sum([*_by_last_gate(q).values()], axis=0)


def _by_last_gate(q: Draw) -> dict[str, ndarray]:
    """The paths from L_t to h_{k-1} by the gate through which they reach it.

    What reaches s_j is carried beside what reaches h_j.
    """
    d_h, d_s = q.true["L'"], np.zeros_like(q.true["L'"])
    by_gate = {}
    for j in _times(q):
        d_s = d_s + d_h * cell_to_hidden(q, j)
        by_gate = {gate: d_s @ hidden_to_cell(q, gate, j) for gate in TO_CELL}
        by_gate["o"] = d_h @ hidden_to_hidden(q, j)
        d_h, d_s = np.sum([*by_gate.values()], axis=0), d_s * q.values["f"][j]
    return by_gate


def _groups_of_paths(q: Draw) -> dict[str, ndarray]:
    """t_1, and the others by the gate of step k."""
    t_1, by_gate = _closed(q), _by_last_gate(q)
    others = {f"the paths by {gate}_k": by_gate[gate] for gate in TO_CELL}
    return {"t_1": t_1, "the other paths by o_k": by_gate["o"] - t_1, **others}


# The bound.


def spectral(matrix: ndarray) -> float:
    """The largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def _bound_entries() -> Iterable[Entry]:
    bound = partial(
        entry,
        "bound of t_1",
        r"\|t_1\| \le \|\mathcal{L}'_t(h_t)\| (\|K\| \|W_o\|)^{t-k+1}",
        truth=None,
        kind="bound",
    )
    for name, size in (("spectral", spectral), ("Frobenius", norm)):
        yield bound(printed=partial(_bounded, size), reading=f"K of the largest norm, {name}")
    yield bound(
        printed=_bounded_by_quarter,
        reading="K = I/4, spectral",
        note="sigma is below 1 and o' at most 1/4: t_1 explodes for no W_o of norm below 4.",
    )
    yield bound(
        printed=_bounded_by_last,
        reading="K that of step t, spectral, o_t near saturation",
        verdict="fails",
        note="Where o'_t is small, the factors of earlier steps are larger.",
    )
    yield entry(
        "norm of K",
        r"\|\mathcal{D}(\sigma(s_j) \odot o'_j)\| \le 1/4",
        printed=lambda q: (max(spectral(np.diag(_K(q, j))) for j in _times(q)), 0.25),
        truth=None,
        kind="bound",
        reading="spectral",
        note="The document leaves K open; this constant serves every step.",
    )


def _bounded(size: Callable[[ndarray], float], q: Draw) -> tuple[float, float]:
    largest = max(size(np.diag(_K(q, j))) for j in _times(q))
    return norm(q.true["t_1"]), _bound(q, largest * size(q.params["W_o"]))


def _bounded_by_quarter(q: Draw) -> tuple[float, float]:
    return norm(q.true["t_1"]), _bound(q, spectral(q.params["W_o"]) / 4)


def _bounded_by_last(q: Draw) -> tuple[float, float]:
    """At the draw with its last input enlarged until every o_t is near saturation."""
    scale = 25 / abs(q.params["U_o"] @ q.x[-1]).min()
    inputs = np.concatenate([q.x[1:-1], scale * q.x[-1:]])
    state = q.values["s"][0], q.values["h"][0]
    with jax.enable_x64(True):
        K_t, by_gates = map(np.asarray, _last_step(q.params, state, inputs))
    bound = _bound(q, spectral(np.diag(K_t)) * spectral(q.params["W_o"]))
    return norm(q.true["L'"] @ by_gates), bound


def _bound(q: Draw, factor: float) -> float:
    return norm(q.true["L'"]) * factor ** len(_times(q))


@quick_jit
def _last_step(params: Any, state: Any, inputs: Any) -> Any:
    """The diagonal of K_t, and dh_t/dh_{k-1} by the output gates alone."""

    def h_t(h: Any) -> Any:
        return forward(params, (state[0], h), inputs, ("s",))["h"][-1]

    made = forward(params, state, inputs)
    o, s = made["o"][-1], made["s"][-1]
    return jax.nn.sigmoid(s) * o * (1 - o), jax.jacrev(h_t)(state[1])
