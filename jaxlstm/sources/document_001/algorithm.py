"""Document 001's backward pass over time, as printed and corrected."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm.sources import systems
from jaxlstm.sources.document_001.system import INDEX, forward, rest


def backward(
    params: Mapping[str, Any], inputs: Any, targets: Any, *, corrected: bool
) -> dict[str, Any]:
    """The gradient of the loss by each parameter; by the printed dL/dc_t unless corrected.

    Args:
        params: the nine parameters.
        inputs: x [T, D].
        targets: y [T, K].
        corrected: whether dL/dc_t takes the whole dL/dh_t, as in step (3), where g_t V is printed.
    """
    state = rest(params)
    values = forward(params, state, inputs)
    before = systems.before(state, values)
    g = -(targets - values["p"])  # dL/do_t

    def back(later: Any, now: Any) -> Any:
        return _step_back(params, later, *now, corrected=corrected)

    by_a = jax.lax.scan(back, state, (g, values, before["c"]), reverse=True)[1]
    by_W = {f"W_{n}": by_a[n].T @ before["h"] for n in INDEX.values()}  # (1) (3) (5) (7)
    by_U = {f"U_{n}": by_a[n].T @ inputs for n in INDEX.values()}  # (2) (4) (6) (8)
    return {**by_W, **by_U, "V": g.T @ values["h"]}  # (9)


def _step_back(
    params: Mapping[str, Any], later: Any, g: Any, now: Any, c_tm1: Any, *, corrected: bool
) -> Any:
    """From what step t + 1 hands to c_t and h_t: what step t hands on, and dL by its a's."""
    to_c, to_h = later
    i, f, e, candidate = (now[gate] for gate in INDEX)
    tanh_c = jnp.tanh(now["c"])
    by_h = g @ params["V"] + to_h  # dL/dh_t
    through_h = by_h if corrected else g @ params["V"]
    by_c = through_h * e * (1 - tanh_c**2) + to_c  # dL/dc_t
    by_a = {
        "i": by_c * candidate * i * (1 - i),
        "f": by_c * c_tm1 * f * (1 - f),
        "e": by_h * tanh_c * e * (1 - e),
        "c": by_c * i * (1 - candidate**2),
    }
    return (by_c * f, sum(by_a[n] @ params[f"W_{n}"] for n in by_a)), by_a
