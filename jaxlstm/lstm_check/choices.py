"""What every line of the LSTM's backward pass takes, and what it could take by mistake.

Each line of [B1] to [B3] is one cotangent times one value times one slope. With phi and psi tanh:

    B1            d_h * o * (1 - tanh(c_t)^2)          B2 candidate  d_c * i * (1 - g^2)
    B2 input      d_c * g * i (1 - i)                  B2 output     d_h * tanh(c_t) * o (1 - o)
    B2 forget     d_c * c_{t-1} * f (1 - f)            B3            d_c * f * 1

What stands there is a weighted sum of all that could: one for the right choice, zero for the
others. The products after [B3], the masks and the ends of time make their choices the same way.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike

from jaxlstm.lstm_check.signals import SIGNALS, SQUARED
from jaxlstm.types import GATES


class Line(NamedTuple):
    """What a line of [B1] to [B3] could be the product of, the right names first."""

    cotangents: tuple[str, ...]
    values: tuple[str, ...]
    slopes: tuple[str, ...]


def _sigmoid_slopes(y: str, *of_others: str) -> tuple[str, ...]:
    often = (f"{y} (1 - {y})", "1", y, f"1 - {y}", f"1 - {y}^2", f"sigmoid'({y})")
    seldom = (f"z_{y} (1 - z_{y})", f"{y} (1 + {y})", f"{y} (1 - {y}) twice")
    return (*often, *of_others, *seldom)


LINES = {
    "B1": Line(
        cotangents=("d_h", "d_h_{t+1}", "d_c_{t+1}"),
        values=("o", "1", "f", "i", "g", "o_{t-1}", "o_{t+1}", "psi(c_t)", "h_t", "z_o"),
        slopes=(
            *("psi'(c_t)", "1", "1 - psi(c_t)", "psi(c_t) (1 - psi(c_t))", "1 - psi(c_t)^2"),
            *("1 - c_t^2", "1 - h_t^2", "psi'(psi(c_t))", "psi'(c_{t-1})", "psi'(c_{t+1})"),
            *("psi(c_t)", "psi(c_t)^2", "1 + psi(c_t)^2", "1 - g^2", "psi'(c_t) twice"),
        ),
    ),
    "B2 input": Line(
        cotangents=("d_c", "d_h", "d_c_{t+1}", "d_c_{t-1}"),
        values=("g", "i", "f", "o", "1", "c_{t-1}", "c_t", "g_{t-1}", "g_{t+1}", "z_g"),
        slopes=_sigmoid_slopes("i", "z_g (1 - z_g)", "f (1 - f)", "o (1 - o)"),
    ),
    "B2 forget": Line(
        cotangents=("d_c", "d_h", "d_c_{t+1}", "d_c_{t-1}"),
        values=(
            *("c_{t-1}", "c_t", "c_{t+1}", "c_{t-2}", "c_{t-1} with a zero initial state"),
            *("c_{t-1} from before the reset", "h_{t-1}", "psi(c_{t-1})", "g", "i", "1"),
        ),
        slopes=_sigmoid_slopes("f", "i (1 - i)", "o (1 - o)"),
    ),
    "B2 candidate": Line(
        cotangents=("d_c", "d_h", "d_c_{t+1}", "d_c_{t-1}"),
        values=("i", "g", "f", "o", "1", "c_{t-1}", "i_{t-1}", "i_{t+1}", "z_i"),
        slopes=(
            *("phi'(z_g)", "1", "1 - g", "g (1 - g)", "1 - g^2", "phi'(g)", "1 - z_g^2"),
            *("1 + g^2", "g^2", "g", "psi'(c_t)", "1 - c_t^2", "phi'(z_g) twice"),
        ),
    ),
    "B2 output": Line(
        cotangents=("d_h", "d_c", "d_h_{t+1}"),
        values=("psi(c_t)", "c_t", "h_t", "psi(c_{t-1})", "psi(c_{t+1})", "c_{t-1}", "g", "1"),
        slopes=_sigmoid_slopes("o", "i (1 - i)", "f (1 - f)", "h_t (1 - h_t)"),
    ),
    "B3": Line(
        cotangents=("d_c", "d_h", "d_c_{t+1}"),
        values=("f", "1", "i", "o", "f_{t-1}", "f_{t+1}", "1 - f", "g", "z_f"),
        slopes=("1", "1 - f", "psi'(c_{t-1})"),
    ),
}

OF_STATE = ("d_h from t+1", "d_c from t+1", "d_h_{t+1}", "d_c_{t+1}")
PARTS = ("d_y", *OF_STATE, "d_h * dh/dc", "d_c_{t-1}")
"""What cotangents are sums of. The last two are there only after [B1]."""

PARTS_OF = {
    "d_h": ("d_y", "d_h from t+1"),
    "d_c": ("d_c from t+1", "d_h * dh/dc"),
    **{part: (part,) for part in PARTS},
}
"""The parts of every cotangent."""

WRITTEN_OUT = {
    "1 - {0}": {"1": 1, "{0}": -1},
    "1 - {0}^2": {"1": 1, "{0}^2": -1},
    "1 + {0}^2": {"1": 1, "{0}^2": 1},
    "{0} (1 - {0})": {"{0}": 1, "{0}^2": -1},
    "{0} (1 + {0})": {"{0}": 1, "{0}^2": 1},
}
"""Slopes that are sums of signals."""

STATE = ("d_h", "d_c")
READ_AT = ("t", "t-1", "t+1", "t-1, around the ends", "t+1, around the ends", "T-1-t")
HIDDEN = ("h_{t-1}", "h_t", "h_{t-2}", "h_{t-1} from before the reset", "c_{t-1}", "psi(c_{t-1})")
LENGTHS = ("valid", "all", "a step shorter", "a step longer", "valid without reset")
RESETS = ("without reset", "all", "a step early", "a step late")
LOSSES = ("exact", "float32", "bfloat16", "float16", "to [-1, 1]", "to [-5, 5]", "to the norm 1")

AXES: dict[str, tuple[tuple[str, ...], ...]] = {
    "cotangents": (tuple(LINES), PARTS),
    "values": (tuple(LINES), SIGNALS),
    "slopes": (tuple(LINES), SIGNALS),
    "gates": (("B4", "B5", "B6", "B7", "B8"), GATES, GATES),
    "transposed": (("B4", "B5"), GATES),
    "hidden": (HIDDEN,),
    "inputs": (READ_AT,),
    "d_inputs": (READ_AT,),
    "d_outputs": (READ_AT,),
    "steps": (("d_y", "B5", "B6", "B7", "B8"),),
    "final": (("at the end", "a step early"), STATE, STATE),
    "initial": (STATE, (*STATE, "d_h of the first step", "d_c of the first step")),
    "lengths": (("d_y", "d_z", *STATE, "d_x"), LENGTHS),
    "padding": (STATE, RESETS),
    "resets": (STATE, RESETS),
    "kept": (STATE,),
    "losses": (("d_z", *STATE, "parameters", "d_x"), LOSSES),
}
"""The names along the axes of each field of ``Amounts``; those of "steps" and "kept" go on with T.
"""


class Amounts(NamedTuple):
    """Weights of the choices, or what is added to those of the right ones; a pytree.

    Attributes:
        cotangents: [line, part] what the lines of [B1] to [B3] pull back.
        values: [line, signal] their factor that is no derivative of an activation.
        slopes: [line, signal] their factor that is one.
        gates: [equation, gate, gate] the gate whose block stands in a gate's place: of the sum, or
            of the kernel that a gate's d_z meets.
        transposed: [equation, gate] the transpose of the gate's H x H block.
        hidden: [state] what [B5] multiplies d_z by.
        inputs: [step] the step at which [B6] reads the inputs.
        d_inputs: [step] the step whose d_x [B8] returns.
        d_outputs: [step] the step whose cotangent of the outputs enters.
        steps: [equation, T] what each step contributes.
        final: [when, state, state] what enters at the end, and what before the last step.
        initial: [state, state] what is returned for the initial state.
        lengths: [place, mask] the steps that let through the place.
        padding: [state, mask] where the state's cotangent passes the steps beyond the length.
        resets: [state, mask] where it passes those within.
        kept: [state, T] how much of it passes a step of either kind.
        losses: [place, loss] rounding and clipping.
    """

    cotangents: ArrayLike
    values: ArrayLike
    slopes: ArrayLike
    gates: ArrayLike
    transposed: ArrayLike
    hidden: ArrayLike
    inputs: ArrayLike
    d_inputs: ArrayLike
    d_outputs: ArrayLike
    steps: ArrayLike
    final: ArrayLike
    initial: ArrayLike
    lengths: ArrayLike
    padding: ArrayLike
    resets: ArrayLike
    kept: ArrayLike
    losses: ArrayLike


Entries = dict[Any, int]
"""Amounts by name: the field, a name along each of its axes, then the step where it has time."""


def amounts(entries: Entries, time: int) -> Amounts:
    """The named entries, and zeros elsewhere."""
    shapes = {field: tuple(map(len, axes)) for field, axes in AXES.items()}
    shapes |= {field: (*shapes[field], time) for field in ("steps", "kept")}
    made = Amounts(**{field: np.zeros(shape) for field, shape in shapes.items()})
    for (field, *names), amount in entries.items():
        axes = AXES[str(field)]
        index = [axis.index(str(name)) for axis, name in zip(axes, names, strict=False)]
        getattr(made, str(field))[(*index, *names[len(axes) :])] = amount
    return made


def right_choices(time: int) -> Amounts:
    """Weights of one on the right choices: the backward pass then gives the gradient."""
    entries: Entries = {}
    for name, (cotangents, values, slopes) in LINES.items():
        entries |= {("cotangents", name, part): 1 for part in PARTS_OF[cotangents[0]]}
        entries |= {("values", name, values[0]): 1, ("slopes", name, slopes[0]): 1}
    entries |= {("padding", state, "all"): 1 for state in STATE}
    right: Any = amounts(entries, time)
    for field in ("hidden", "inputs", "d_inputs", "d_outputs", "lengths", "resets", "losses"):
        getattr(right, field)[..., 0] = 1
    for matrix in (right.gates, right.final[0], right.initial[:, :2]):
        matrix += np.eye(matrix.shape[-1])
    right.steps[:] = right.kept[:] = 1
    return right


def factor_in(name: str) -> dict[str, int]:
    """The signals whose weighted sum a value or a slope is."""
    if name in SIGNALS:
        return {name: 1}
    [(form, y)] = [(form, y) for form in WRITTEN_OUT for y in SQUARED if form.format(y) == name]
    return {signal.format(y): weight for signal, weight in WRITTEN_OUT[form].items()}
