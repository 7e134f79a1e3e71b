"""Document 004: the derivatives of the sigmoid and of the gates."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_004.step import ROWS, Times
from jaxlstm.sources.document_004.system import Draw
from jaxlstm.sources.ledger import Entry, Verdict

entry = partial(Entry, "004")


def sigmoid_entries() -> Iterable[Entry]:
    """Both forms of sigma, and every line of sigma'."""
    lines: dict[tuple[str, int | None, str], Callable[[ndarray], ndarray]] = {
        ("sigma", 1, r"\frac{1}{1 + e^{-z}}"): lambda z: 1 / (1 + np.exp(-z)),
        ("sigma", None, r"(1 + e^{-z})^{-1}"): lambda z: (1 + np.exp(-z)) ** -1,
        ("sigma'", 1, r"e^{-z} (1 + e^{-z})^{-2}"): lambda z: np.exp(-z) * (1 + np.exp(-z)) ** -2,
        ("sigma'", 2, r"\frac{e^{-z}}{1 + e^{-z}} \frac{1}{1 + e^{-z}}"): (
            lambda z: np.exp(-z) / (1 + np.exp(-z)) * (1 / (1 + np.exp(-z)))
        ),
        ("sigma'", 3, r"(\frac{1 + e^{-z}}{1 + e^{-z}} - \frac{1}{1 + e^{-z}}) \sigma(z)"): (
            lambda z: ((1 + np.exp(-z)) / (1 + np.exp(-z)) - 1 / (1 + np.exp(-z))) * sigma(z)
        ),
        ("sigma'", None, r"(1 - \sigma(z)) \sigma(z)"): lambda z: (1 - sigma(z)) * sigma(z),
    }
    for (name, line, statement), right in lines.items():
        yield entry(
            name,
            statement,
            printed=lambda q, right=right: right(q.z[0]),
            truth=lambda q, name=name: q.z[1 if name == "sigma" else 2],
            line=line,
            kind="definition" if name == "sigma" else "equation",
        )


def gate_entries() -> Iterable[Entry]:
    """df_t/dh_{t-1}, in three readings of its product; those of the other gates are supplied."""
    z = r"(W_f x_t + U_f h_{t-1})"
    readings: dict[str, tuple[Times, Verdict, str]] = {
        "matrix times vector": (np.matmul, "ill-formed", "A vector, where a matrix is due."),
        "U_f diag(sigma')": (lambda U, prime: U * prime, "fails", "sigma' belongs to the rows."),
        "diag(sigma') U_f": (lambda U, prime: ROWS(prime, U), "holds", ""),
    }
    right = readings["diag(sigma') U_f"][0]
    for line, statement, prime in (
        (1, rf"U_f \cdot \sigma'{z}", _gate_prime),
        (None, rf"U_f \cdot [(1 - \sigma{z}) \cdot \sigma{z}]", _gate_prime_by_value),
    ):
        for reading, (times, verdict, note) in readings.items():
            yield entry(
                "df_t/dh_t-1",
                statement,
                printed=lambda q, times=times, prime=prime: times(q.params["U_f"], prime(q)),
                truth=lambda q: q.by_h["f"],
                corrected=None
                if verdict == "holds"
                else lambda q, prime=prime: right(q.params["U_f"], prime(q)),
                verdict=verdict,
                line=line,
                reading=reading,
                used_by=("D2",) if verdict == "holds" and line is None else (),
                note=note,
            )
    for gate in ("o", "i", "u"):
        prime = "(1 - u_t^2)" if gate == "u" else rf"({gate}_t (1 - {gate}_t))"
        yield entry(
            f"d{gate}_t/dh_t-1",
            rf"\operatorname{{diag}}{prime} U_{gate}",
            printed=None,
            corrected=partial(_gate_by_value, gate),
            truth=lambda q, gate=gate: q.by_h[gate],
            verdict="supplied",
        )


def _forget(q: Draw) -> ndarray:
    return q.params["W_f"] @ q.x + q.params["U_f"] @ q.before["h"]


def _gate_prime(q: Draw) -> ndarray:
    z = _forget(q)
    return np.exp(-z) / (1 + np.exp(-z)) ** 2


def _gate_prime_by_value(q: Draw) -> ndarray:
    return (1 - sigma(_forget(q))) * sigma(_forget(q))


def _gate_by_value(gate: str, q: Draw) -> ndarray:
    value = q.values[gate]
    return ROWS(1 - value**2 if gate == "u" else value * (1 - value), q.params[f"U_{gate}"])
