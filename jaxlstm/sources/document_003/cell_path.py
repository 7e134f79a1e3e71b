"""Document 003: the step, its derivatives by the cell, and t_0, the path from cell to cell."""

from collections.abc import Iterable, Iterator
from functools import partial, reduce

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_003.system import GATES, Draw, K
from jaxlstm.sources.ledger import Entry

entry = partial(Entry, "003")

TO_CELL = ("f", "i", "s~")
"""The gates on a path from h_{t-1} to s_t."""


def forward_entries() -> Iterable[Entry]:
    """The four gates, which are supplied, and the two equations."""
    for gate, label in {"o": "F4", "i": "F2", "f": "F3", "s~": "F5"}.items():
        W, U = GATES[gate]
        yield entry(
            f"{gate}_t",
            rf"\sigma({W} h_{{t-1}} + {U} x_t)",
            printed=None,
            corrected=partial(_gate, gate),
            truth=lambda q, gate=gate: q.values[gate][-1],
            verdict="supplied",
            kind="definition",
            used_by=("F1", label),
        )
    yield entry(
        "h_t",
        r"o_t \odot \sigma(s_t)",
        printed=lambda q: q.values["o"][-1] * sigma(q.values["s"][-1]),
        truth=lambda q: q.values["h"][-1],
        kind="definition",
        used_by=("F7",),
    )
    yield entry(
        "s_t",
        r"f_t \odot s_{t-1} + i_t \odot \tilde{s}_t",
        printed=_cell,
        truth=lambda q: q.values["s"][-1],
        kind="definition",
        used_by=("F6",),
    )


def _gate(gate: str, q: Draw) -> ndarray:
    W, U = GATES[gate]
    return sigma(q.params[W] @ q.values["h"][-2] + q.params[U] @ q.x[-1])


def _cell(q: Draw) -> ndarray:
    v = q.values
    return v["f"][-1] * v["s"][-2] + v["i"][-1] * v["s~"][-1]


# One step's derivatives by the cell.


def cell_path_entries() -> Iterable[Entry]:
    """dh_t/ds_t and ds_t/ds_{t-1}, then t_0 as first given and as derived."""
    yield entry(
        "dh_t/ds_t",
        r"\mathcal{D}(o_t \odot \sigma'(s_t)), \quad \forall t",
        printed=lambda q: [np.diag(cell_to_hidden(q, j)) for j in range(1, len(q.x))],
        truth=lambda q: q.steps["dh_j/ds_j"][1:],
        used_by=("D6",),
    )
    yield from _cell_by_cell_entries()
    yield from _t_0_entries()


def cell_to_hidden(q: Draw, j: int) -> ndarray:
    """The diagonal of dh_j/ds_j."""
    return q.values["o"][j] * q.primes["s"][j]


def hidden_to_cell(q: Draw, gate: str, j: int) -> ndarray:
    """The part of ds_j/dh_{j-1} by one of f, i and s~."""
    partner = {"f": q.values["s"][j - 1], "i": q.values["s~"][j], "s~": q.values["i"][j]}[gate]
    return (partner * q.primes[gate][j])[:, None] * q.params[GATES[gate][0]]


def _cell_by_cell_entries() -> Iterable[Entry]:
    """ds_t/ds_{t-1}: its explicit part, in three readings, and its implicit part."""
    line = partial(entry, "explicit ds_t/ds_t-1", r"\mathcal{D}(f_t)", printed=_explicit)
    yield line(
        truth=lambda q: q.steps["ds_j/ds_j-1"][-1],
        reading="f_t, i_t and s~_t constant",
        used_by=("D4",),
    )
    for reading, truth, gates, note in (
        (
            "s~_t alone constant, as said",
            "s~ held",
            ("f", "i"),
            "f_t and i_t depend on s_{t-1} too.",
        ),
        ("the whole derivative", "ds_t/ds_t-1", TO_CELL, "Without the implicit part."),
    ):
        yield line(
            truth=lambda q, truth=truth: q.true[truth],
            corrected=partial(_with_implicit, gates),
            reading=reading,
            verdict="fails",
            terms=lambda q: {f"through {gate}_t": _implicit(q, gate) for gate in TO_CELL},
            note=note,
        )
    yield entry(
        "ds_t/ds_t-1",
        r"\text{explicit} + \text{implicit}",
        printed=partial(_with_implicit, TO_CELL),
        truth=lambda q: q.true["ds_t/ds_t-1"],
        kind="claim",
        note="The implicit part runs through f_t, i_t and s~_t, each by h_{t-1}.",
    )


def _explicit(q: Draw) -> ndarray:
    return np.diag(q.values["f"][-1])


def _with_implicit(gates: Iterable[str], q: Draw) -> ndarray:
    return np.sum([_explicit(q), *(_implicit(q, gate) for gate in gates)], axis=0)


def _implicit(q: Draw, gate: str) -> ndarray:
    """The part of ds_t/ds_{t-1} by h_{t-1} and one gate."""
    return hidden_to_cell(q, gate, -1) * cell_to_hidden(q, -2)


# The path t_0, and all of them.

CHAIN = (
    r"\partial\mathcal{L}_t/\partial h_t \, \partial h_t/\partial s_t"
    r" \, \partial s_t/\partial s_{t-1} \cdots \partial s_{k+1}/\partial s_k"
)
HEAD = r"\mathcal{L}'_t(h_t) \cdot \mathcal{D}(o_t \odot \sigma'(s_t))"


def _t_0_entries() -> Iterable[Entry]:
    own = {"truth": lambda q: q.true["t_0"], "reading": "the path's own part"}
    full = {
        "truth": lambda q: q.true["dL/ds_k"],
        "corrected": lambda q: np.sum([*paths_to_cell(q)], axis=0),
        "reading": "the whole dL_t/ds_k",
        "verdict": "fails",
        "terms": _groups_of_paths,
        "note": "The other paths, by h_k, ..., h_{t-1}, are missing.",
    }
    yield entry("t_0", CHAIN, printed=_chain, **own)
    yield entry("t_0", CHAIN, printed=_chain, **full)
    derived = partial(entry, "t_0 by forget gates")
    result = rf"{HEAD} \mathcal{{D}}(\odot_{{i=k+1}}^t f_i)"
    yield derived(CHAIN, printed=_chain, line=1, **own)
    yield derived(
        rf"{HEAD} \mathcal{{D}}(f_t) \cdots \mathcal{{D}}(f_{{k+1}})",
        printed=_diagonals,
        line=2,
        **own,
    )
    yield derived(
        rf"{HEAD} \mathcal{{D}}(f_t \odot \cdots \odot f_{{k+1}})", printed=_one, line=3, **own
    )
    yield derived(result, printed=_closed, **own)
    yield derived(result, printed=_closed, **full)
    yield entry(
        "all paths",
        r"\sum_p \mathcal{L}'_t(h_t) \prod_{e \in p} e",
        printed=None,
        corrected=full["corrected"],
        truth=full["truth"],
        verdict="supplied",
        note="24, 115 or 551 paths from L_t to s_k for t - k = 2, 3, 4.",
    )


def _groups_of_paths(q: Draw) -> dict[str, ndarray]:
    """The paths from L_t to s_k by what they leave h_t for."""
    last = len(q.x) - 1
    by_cell = np.sum([*paths_to_cell(q, "s", last, q.true["L'"] * cell_to_hidden(q, last))], 0)
    by_output = paths_to_cell(q, "h", last - 1, q.true["L'"] @ hidden_to_hidden(q, last))
    t_0 = _closed(q)
    return {
        "t_0": t_0,
        "the other paths by s_t": by_cell - t_0,
        "the paths by o_t": np.sum([*by_output], 0),
    }


def _chain(q: Draw) -> ndarray:
    row = q.true["L'"] @ q.steps["dh_j/ds_j"][-1]
    return reduce(np.matmul, q.steps["ds_j/ds_j-1"][:K:-1], row)


def _diagonals(q: Draw) -> ndarray:
    first = q.true["L'"] @ np.diag(cell_to_hidden(q, -1))
    return reduce(np.matmul, map(np.diag, q.values["f"][:K:-1]), first)


def _one(q: Draw) -> ndarray:
    forgotten = reduce(np.multiply, q.values["f"][:K:-1])
    return q.true["L'"] @ np.diag(cell_to_hidden(q, -1)) @ np.diag(forgotten)


def _closed(q: Draw) -> ndarray:
    return q.true["L'"] @ np.diag(cell_to_hidden(q, -1)) @ np.diag(q.values["f"][K + 1 :].prod(0))


def paths_to_cell(
    q: Draw, node: str = "h", j: int | None = None, row: ndarray | None = None
) -> Iterator[ndarray]:
    """The gradient along each path from L_t to s_k."""
    j, row = len(q.x) - 1 if j is None else j, q.true["L'"] if row is None else row
    if node == "h":
        yield from paths_to_cell(q, "s", j, row * cell_to_hidden(q, j))
        if j > K:
            yield from paths_to_cell(q, "h", j - 1, row @ hidden_to_hidden(q, j))
    elif j == K:
        yield row
    else:
        yield from paths_to_cell(q, "s", j - 1, row * q.values["f"][j])
        for gate in TO_CELL:
            yield from paths_to_cell(q, "h", j - 1, row @ hidden_to_cell(q, gate, j))


def hidden_to_hidden(q: Draw, j: int) -> ndarray:
    """The part of dh_j/dh_{j-1} by o_j."""
    return (sigma(q.values["s"][j]) * q.primes["o"][j])[:, None] * q.params["W_o"]
