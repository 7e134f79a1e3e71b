"""Document 000's derivatives as an algorithm: the gradient carried forward in time.

dh_t/dA by (14) to (25), as printed or corrected; ds_t/dA by (7) with (10) to (13), which close the
recursion and hold as printed.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.sources.document_000.system import GATE_OF, GATES, PARAMETERS, forward, step


def init(key: Array, input_size: int, hidden_size: int) -> dict[str, Array]:
    """The twelve parameters, drawn; the forget gate's bias starts from 1."""
    shapes = {"W": (hidden_size, hidden_size), "U": (hidden_size, input_size), "b": (hidden_size,)}
    keys = dict(zip(PARAMETERS, jax.random.split(key, len(PARAMETERS)), strict=True))
    scale = hidden_size**-0.5
    params = {A: scale * jax.random.normal(k, shapes[A[0]]) for A, k in keys.items()}
    return params | {"b_f": params["b_f"] + 1}


def hidden_states(params: Mapping[str, Array], inputs: Float[Array, "T D"]) -> Float[Array, "T H"]:
    """h_1 to h_T from the zero state."""
    return forward(params, _zero_state(params), inputs)["h"]


def gradient(
    params: Mapping[str, Array],
    inputs: Float[Array, "T D"],
    d_h: Float[Array, "T H"],
    *,
    corrected: bool,
) -> dict[str, Array]:
    """The sum over t of dL_t/dh_t dh_t/dA for each parameter.

    Args:
        params: the twelve parameters.
        inputs: x_1 to x_T.
        d_h: dL_t/dh_t of each step's own loss.
        corrected: V_t of (17), (21) and (25) as they should be, or as printed.
    """
    zeros = {
        A: jnp.zeros((len(params["b"]), *leaf.shape), leaf.dtype) for A, leaf in params.items()
    }

    def advance(carry: Any, step_t: Any) -> Any:
        state, ds, dh, total = carry
        x_t, d_h_t = step_t
        new_state, made = step(params, state, x_t)
        values = {**made, "s_tm1": state[0], "h_tm1": state[1], "x": x_t}
        ds, dh = _sensitivities(params, values, ds, dh, corrected)
        total = {A: total[A] + jnp.tensordot(d_h_t, dh[A], 1) for A in params}
        return (new_state, ds, dh, total), None

    start = (_zero_state(params), zeros, zeros, jax.tree.map(jnp.zeros_like, dict(params)))
    return jax.lax.scan(advance, start, (inputs, d_h))[0][-1]


def _zero_state(params: Mapping[str, Array]) -> tuple[Array, Array]:
    zeros = jnp.zeros_like(params["b"])
    return zeros, zeros


def _sensitivities(
    params: Mapping[str, Array], values: Mapping[str, Array], ds: Any, dh: Any, corrected: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """ds_t/dA and dh_t/dA from those of t - 1."""
    o, i, f, s_ = (values[gate] for gate in GATES)
    primes = {gate: values[gate] * (1 - values[gate]) for gate in GATES}
    sigma = jax.nn.sigmoid(values["s"])
    through_cell = o * sigma * (1 - sigma)
    cell = {
        "f": values["s_tm1"] * primes["f"],
        "i": s_ * primes["i"],
        "s~": i * primes["s~"],
    }
    W_sum: Any = sum(_rows(factor, params[GATES[gate][0]]) for gate, factor in cell.items())
    M = _rows(sigma * primes["o"], params["W_o"]) + _rows(through_cell, W_sum)
    new_ds, new_dh = {}, {}
    for A in params:
        own = partial(_own, values, A)
        direct = own(cell[GATE_OF[A]]) if GATE_OF[A] in cell else 0.0
        new_ds[A] = jnp.tensordot(W_sum, dh[A], 1) + _rows(f, ds[A]) + direct  # (7), (10) to (13)
        V = own(_V_factor(A, values, primes, corrected))
        new_dh[A] = jnp.tensordot(M, dh[A], 1) + _rows(through_cell * f, ds[A]) + V  # (14) to (25)
    return new_ds, new_dh


def _V_factor(A: str, values: Any, primes: Any, corrected: bool) -> Array:
    """The diagonal that stands before d_2(h_{t-1}), d_2(x_t) or I in V_t."""
    sigma = jax.nn.sigmoid(values["s"])
    through_cell = values["o"] * sigma * (1 - sigma)
    right = {
        "o": sigma * primes["o"],
        "i": through_cell * values["s~"] * primes["i"],
        "f": through_cell * values["s_tm1"] * primes["f"],
        "s~": through_cell * values["i"] * primes["s~"],
    }
    printed = {
        "W_o": values["s"] * primes["o"],
        "b_o": values["s"] * primes["o"],
        "U_o": right["f"],
    }
    return right[GATE_OF[A]] if corrected or A not in printed else printed[A]


def _own(values: Any, A: str, factor: Array) -> Array:
    """The diagonal times d_2(h_{t-1}), d_2(x_t) or I."""
    if A[0] == "b":
        return jnp.diag(factor)
    wide = values["h_tm1"] if A[0] == "W" else values["x"]
    return jnp.diag(factor)[:, :, None] * wide


def _rows(factor: Array, tensor: Array) -> Array:
    """The diagonal matrix of ``factor`` times a tensor."""
    return factor.reshape(-1, *(1,) * (tensor.ndim - 1)) * tensor
