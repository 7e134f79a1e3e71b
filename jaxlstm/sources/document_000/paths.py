"""Document 000, (26) and (30), and what the two arguments share: the point seen from earlier."""

from collections.abc import Iterable
from functools import partial

from numpy import ndarray

from jaxlstm.sources.document_000.generic import all_parameters, by, entry
from jaxlstm.sources.document_000.specific import collected
from jaxlstm.sources.document_000.system import Draw
from jaxlstm.sources.ledger import Entry

every = partial(partial, all_parameters)
K = 1
"""The time k to which the document unrolls."""

OTHERS = r" + (\text{other terms})"


def form_entries() -> Iterable[Entry]:
    """(26) and (30), the same form twice."""
    for number in ("26", "30"):
        yield entry(
            number,
            r"M_t h_{t-1}/\partial A + N_t \partial s_{t-1}/\partial A + V_t",
            printed=every(form),
            truth=every(lambda q, A: by(q, "h", A)),
            verdict="typographical",
            note="Prints h_{t-1}/dA without its d; announced as the form of dL_t/dA, of dh_t/dA.",
        )


def form(q: Draw, A: str) -> ndarray:
    """dh_t/dA by M_t, N_t and V_t."""
    return collected(A, q)


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
