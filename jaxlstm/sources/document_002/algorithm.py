"""Document 002's backward pass over time, as printed and corrected.

It prints no dE/dh^{t-1}; that is supplied in both.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm.sources import systems
from jaxlstm.sources.document_002.system import GATES, forward, rest


def backward(
    params: Mapping[str, Any], inputs: Any, d_h: Any, *, corrected: bool
) -> tuple[dict[str, Any], Any]:
    """The gradient by each parameter and by the inputs [T, D].

    Args:
        params: the eight parameters.
        inputs: x [T, D].
        d_h: dE/dh^t of the cost alone [T, H].
        corrected: the gates' derivatives in their own values, or as printed.
    """
    state = rest(params)
    values = forward(params, state, inputs)
    before = systems.before(state, values)

    def back(later: Any, now: Any) -> Any:
        return _step_back(params, later, *now, corrected=corrected)

    by_hat = jax.lax.scan(back, state, (d_h, values, before["c"]), reverse=True)[1]
    by_W = {f"W_{gate}": by_hat[gate].T @ inputs for gate in GATES}
    by_U = {f"U_{gate}": by_hat[gate].T @ before["h"] for gate in GATES}
    return {**by_W, **by_U}, sum(by_hat[gate] @ params[f"W_{gate}"] for gate in GATES)


def _step_back(
    params: Mapping[str, Any], later: Any, d_h: Any, now: Any, c_tm1: Any, *, corrected: bool
) -> Any:
    """From what step t + 1 hands to c^t and h^t: what step t hands on, and dE by its hats."""
    d_c, from_later = later
    d_h = d_h + from_later  # supplied
    tanh_c = jnp.tanh(now["c"])
    d_c = d_c + d_h * now["o"] * (1 - tanh_c**2)
    by_gate = {"a": d_c * now["i"], "i": d_c * now["a"], "f": d_c * c_tm1, "o": d_h * tanh_c}
    slopes = _slopes(now) if corrected else _printed_slopes(now)
    by_hat = {gate: by_gate[gate] * slopes[gate] for gate in GATES}
    return (d_c * now["f"], sum(by_hat[gate] @ params[f"U_{gate}"] for gate in GATES)), by_hat


def _slopes(now: Mapping[str, Any]) -> dict[str, Any]:
    """Each gate's derivative by its pre-activation."""
    return {"a": 1 - now["a"] ** 2, **{gate: now[gate] * (1 - now[gate]) for gate in "ifo"}}


def _printed_slopes(now: Mapping[str, Any]) -> dict[str, Any]:
    """The same as printed: no square, hatted letters, and a^ for i^."""
    hats = {"i": now["a^"], "f": now["f^"], "o": now["o^"]}
    return {"a": 1 - jnp.tanh(now["a^"]), **{gate: hat * (1 - hat) for gate, hat in hats.items()}}
