"""Document 001's forward pass: its definitions, and the loss."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import sigma
from jaxlstm.sources.document_001.formulas import At, entry, latex, now, value
from jaxlstm.sources.document_001.system import INDEX, Draw
from jaxlstm.sources.ledger import Entry


def forward_entries() -> Iterable[Entry]:
    """The eight definitions, and the loss."""
    rest: dict[str, tuple[str, At, str]] = {
        "c": (r"f_t \bullet c_{t-1} + i_t \bullet \tilde{c}_t", cell_value, "F6"),
        "h": (r"e_t \bullet \tanh(c_t)", hidden_value, "F7"),
        "o": ("V h_t", output_value, "R2"),
        "p": (r"\operatorname{softmax}(o_t)", softmax_value, "R3"),
    }
    lines = {gate: _gate_definition(gate) for gate in INDEX} | rest
    for name, (right, formula, label) in lines.items():
        yield entry(
            f"forward {name}_t",
            f"{latex(name)}_t = {right}",
            printed=now(formula),
            truth=now(partial(value, name)),
            kind="definition",
            used_by=("F1", label) if name in INDEX else (label,),
        )
    yield entry(
        "L",
        r"L = -\sum_{t=1}^{T} y_t^T \log p_t",
        printed=None,
        corrected=loss_value,
        truth=lambda q: q.loss_by["L"],
        verdict="supplied",
        kind="definition",
        used_by=("R4",),
        note="The loss is named, not printed.",
    )


def _gate_definition(gate: str) -> tuple[str, At, str]:
    g = INDEX[gate]
    name = r"\tanh" if g == "c" else r"\sigma"
    label = {"i": "F2", "f": "F3", "e": "F4", "c": "F5"}[g]
    return f"{name}(W_{g} h_{{t-1}} + U_{g} x_t)", partial(gate_value, gate), label


def gate_value(gate: str, q: Draw, t: int) -> ndarray:
    """The gate from h_{t-1} and x_t."""
    g = INDEX[gate]
    a = q.params[f"W_{g}"] @ q.values["h"][t - 1] + q.params[f"U_{g}"] @ q.x[t]
    return np.tanh(a) if g == "c" else sigma(a)


def cell_value(q: Draw, t: int) -> ndarray:
    """f_t c_{t-1} + i_t c~_t."""
    v = q.values
    return v["f"][t] * v["c"][t - 1] + v["i"][t] * v["c~"][t]


def hidden_value(q: Draw, t: int) -> ndarray:
    """e_t tanh(c_t)."""
    return q.values["e"][t] * np.tanh(q.values["c"][t])


def output_value(q: Draw, t: int) -> ndarray:
    """V h_t."""
    return q.params["V"] @ q.values["h"][t]


def softmax_value(q: Draw, t: int) -> ndarray:
    """softmax(o_t)."""
    shares = np.exp(q.values["o"][t])
    return shares / shares.sum()


def loss_value(q: Draw) -> float:
    """L from the targets and the softmax."""
    return float(-np.sum(q.y[1:] * np.log(q.values["p"][1:])))
