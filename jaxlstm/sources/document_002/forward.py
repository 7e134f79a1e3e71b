"""Document 002's forward pass: its definitions, those of the gates in two lines."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.document_002.formulas import before, entry, gate_of, latex, value
from jaxlstm.sources.document_002.system import GATES, Draw
from jaxlstm.sources.ledger import Entry


def forward_entries() -> Iterable[Entry]:
    """The six definitions."""
    labels = {"a": "F5", "i": "F2", "f": "F3", "o": "F4"}
    for gate in GATES:
        line = partial(entry, f"forward {gate}^t", truth=partial(value, gate), kind="definition")
        name = r"\tanh" if gate == "a" else r"\sigma"
        hat = r"\hat{i}_t" if gate == "i" else rf"{latex(gate + '^')}^t"
        yield line(
            statement=f"{name}({hat})",
            printed=partial(of_hat, gate),
            line=1,
            verdict="typographical" if gate == "i" else "holds",
            note="The time of i^ stands below, all others above." if gate == "i" else "",
        )
        yield line(
            statement=rf"{gate}^t = {name}(W_{gate} x^t + U_{gate} h^{{t-1}})",
            printed=partial(of_input_and_state, gate),
            used_by=("F1", labels[gate]),
        )
    yield from _state_entries()


def _state_entries() -> Iterable[Entry]:
    for name, right, formula, label in (
        ("c", r"a^t \odot i^t + c^{t-1} \odot f^t", cell_value, "F6"),
        ("h", r"\tanh(c^t) \odot o^t", hidden_value, "F7"),
    ):
        yield entry(
            f"forward {name}^t",
            f"{name}^t = {right}",
            printed=formula,
            truth=partial(value, name),
            kind="definition",
            used_by=(label,),
        )


def of_hat(gate: str, q: Draw) -> ndarray:
    """The gate from its pre-activation."""
    return gate_of(gate, value(f"{gate}^", q))


def of_input_and_state(gate: str, q: Draw) -> ndarray:
    """The gate from x^t and h^{t-1}."""
    W, U = q.params[f"W_{gate}"], q.params[f"U_{gate}"]
    return gate_of(gate, W @ q.x[q.t] + U @ before("h", q))


def cell_value(q: Draw) -> ndarray:
    """a^t i^t + c^{t-1} f^t."""
    return value("a", q) * value("i", q) + before("c", q) * value("f", q)


def hidden_value(q: Draw) -> ndarray:
    """tanh(c^t) o^t."""
    return np.tanh(value("c", q)) * value("o", q)
