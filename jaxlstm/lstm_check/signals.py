"""What the LSTM's forward pass knows at every step, by name, and what slopes are made of."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxlstm.cell import ACTIVATIONS, gate_values, next_state
from jaxlstm.cell_derivatives import DERIVATIVES_BY_VALUE
from jaxlstm.types import Activations, LSTMParams, LSTMState

SQUARED = ("i", "f", "g", "o", "z_i", "z_f", "z_g", "z_o", "psi(c_t)", "c_t", "h_t")
SLOPES = ("i (1 - i)", "f (1 - f)", "o (1 - o)", "phi'(z_g)", "psi'(c_t)")
SIGNALS = (
    *SQUARED,
    *("c_{t-1}", "h_{t-1}", "psi(c_{t-1})"),
    *("c_{t-1} from before the reset", "h_{t-1} from before the reset"),
    *("i_{t-1}", "f_{t-1}", "g_{t-1}", "o_{t-1}", "c_{t-2}", "h_{t-2}"),
    *("i_{t+1}", "f_{t+1}", "g_{t+1}", "o_{t+1}", "c_{t+1}", "psi(c_{t+1})"),
    *(f"{name}^2" for name in SQUARED),
    *SLOPES,
    *(f"{name} twice" for name in SLOPES),
    *("sigmoid'(i)", "sigmoid'(f)", "sigmoid'(o)", "phi'(g)"),
    *("psi'(psi(c_t))", "psi'(c_{t-1})", "psi'(c_{t+1})"),
    *("c_{t-1} with a zero initial state", "1"),
)
"""The names of what ``signals`` returns, in order."""


class Masks(NamedTuple):
    """Which steps count, and which start from the state of the step before."""

    valid: Bool[Array, "T B"]
    carried: Bool[Array, "T B"]


def where(mask: Bool[Array, "*T B"], array: Array, otherwise: Any = 0) -> Array:
    """The array where the mask holds, else ``otherwise``."""
    return jnp.where(mask[..., None], array, otherwise)


def named(signals: Float[Array, "T M B H"], *names: str) -> Float[Array, "T N B H"]:
    """The signals of these names, from all or the first ones."""
    return signals[:, np.array([SIGNALS.index(name) for name in names])]


def signals(
    activations: Activations,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
    masks: Masks,
) -> Float[Array, "T N B H"]:
    """The signals of ``SIGNALS``; those beyond the ends of time are those at the ends."""
    now = _forward(activations, params, inputs, initial_state, masks)
    steps, last = np.arange(len(inputs)), len(inputs) - 1
    before = named(now[np.maximum(steps - 1, 0)], "i", "f", "g", "o", "c_{t-1}", "h_{t-1}")
    after = named(now[np.minimum(steps + 1, last)], "i", "f", "g", "o", "c_t", "psi(c_t)")
    sigmoid, sigmoid_prime = _with_derivative("sigmoid")
    phi, phi_prime = _with_derivative(activations.candidate)
    psi, psi_prime = _with_derivative(activations.cell)
    sigmoids, g, psi_c = (named(now, *names) for names in (("i", "f", "o"), ("g",), ("psi(c_t)",)))
    slopes = [sigmoid_prime(sigmoids), phi_prime(g), psi_prime(psi_c)]
    slopes = jnp.concatenate(slopes, 1)
    again = [sigmoid_prime(sigmoid(sigmoids)), phi_prime(phi(g)), psi_prime(psi(psi_c))]
    around = [psi_prime(named(now, "psi(c_{t-1})")), psi_prime(after[:, -1:])]
    c_tm1 = jnp.where(steps[:, None, None, None] > 0, named(now, "c_{t-1}"), 0)
    known = [now, before, after, now[:, : len(SQUARED)] ** 2, slopes, slopes**2]
    return jnp.concatenate([*known, *again, *around, c_tm1, jnp.ones_like(g)], 1)


def _with_derivative(name: str) -> tuple[Any, Any]:
    """An activation, and its derivative as a function of its value."""
    return ACTIVATIONS[name], DERIVATIVES_BY_VALUE[name]


def _forward(
    activations: Activations,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
    masks: Masks,
) -> Float[Array, "T M B H"]:
    """The signals that a step and the state before it hold: the first of ``SIGNALS``."""
    psi = ACTIVATIONS[activations.cell]

    def forward_step(before: LSTMState, step_t: tuple[Array, Masks]) -> tuple[LSTMState, Array]:
        projected, (valid, carried) = step_t
        entered = jax.tree.map(partial(where, carried), before)
        z = projected + entered.hidden @ params.recurrent_kernel
        gates = gate_values(z, activations)
        after = next_state(gates, entered.cell, activations)
        after = jax.tree.map(partial(where, valid), after, before)
        own = (*gates, *jnp.split(z, 4, axis=-1), psi(after.cell), after.cell, after.hidden)
        of_before = (entered.cell, entered.hidden, psi(entered.cell), before.cell, before.hidden)
        return after, jnp.stack([*own, *of_before])

    projected = inputs @ params.input_kernel + params.bias
    return jax.lax.scan(forward_step, initial_state, (projected, masks))[1]
