"""Document 000, (26) and (30), and what the two arguments share: the point seen from earlier."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import product
from jaxlstm.sources.document_000.generic import (
    by,
    by_before,
    entry,
    gate_by,
    state_by,
)
from jaxlstm.sources.document_000.specific import M_t, N_t, V_t
from jaxlstm.sources.document_000.system import ALL, PARAMETERS, Draw
from jaxlstm.sources.ledger import Entry

K = 1
"""The earliest time k to which a path is unrolled."""

OTHERS = r" + (\text{other terms})"


def form_entries() -> Iterable[Entry]:
    """(26) and (30), the same form twice, and the recursion that closes them."""
    for number in ("26", "30"):
        yield entry(
            number,
            r"M_t h_{t-1}/\partial A + N_t \partial s_{t-1}/\partial A + V_t",
            printed=form,
            truth=lambda q: by(q, "h", ALL),
            verdict="typographical",
            note="Prints h_{t-1}/dA without its d; announced as the form of dL_t/dA, of dh_t/dA.",
            used_by=("S6",),
        )
    yield entry(
        "ds_t/dA",
        r"d(s_{t-1}) \partial f_t/\partial A + d(f_t) \partial s_{t-1}/\partial A"
        r" + d(i_t) \partial\tilde{s}_t/\partial A + d(\tilde{s}_t) \partial i_t/\partial A"
        r" \text{ with } \partial g_t/\partial A \text{ by (10) to (13)}",
        printed=None,
        corrected=partial(_of_each, lambda q, A: state_by(q, A, partial(gate_by, q, A=A))),
        truth=lambda q: by(q, "s", ALL),
        verdict="supplied",
        note="With dh_t/dA by (26), from zero on: nothing else is wanted from t - 1 to t.",
        used_by=("S5",),
    )


def _of_each(line: Callable[[Draw, str], ndarray], q: Draw) -> ndarray:
    """A line about one A, at ALL."""
    H = len(q.params["b"])
    return np.concatenate([line(q, A).reshape(H, -1) for A in PARAMETERS], axis=1)


def form(q: Draw) -> ndarray:
    """dh_t/dA by M_t, N_t and V_t."""
    shared = product(M_t(q), by_before(q, "h", ALL)) + product(N_t(q), by_before(q, "s", ALL))
    return shared + _of_each(V_t, q)


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


def since(q: Draw, k: int) -> list[Draw]:
    """The point seen from t, t - 1, ..., k + 1."""
    return [earlier(q, steps) for steps in range(len(q.x) - 1 - k)]


def ks(q: Draw) -> range:
    """Every k that at least two factors lead to."""
    return range(K, len(q.x) - 2)


def over_k(line: Callable[[Draw, int], Any]) -> Callable[[Draw], ndarray]:
    """A line about an arbitrary k, at all of them."""
    return partial(_at_every_k, line)


def _at_every_k(line: Callable[[Draw, int], Any], q: Draw) -> ndarray:
    return np.stack([line(q, k) for k in ks(q)])
