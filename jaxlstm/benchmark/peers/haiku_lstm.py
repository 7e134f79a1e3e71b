"""``haiku.LSTM``: one kernel for input and state, gates i, g, f, o; its forget bias lacks 1."""

from typing import Any

import haiku
import jax.numpy as jnp
from jaxtyping import Array

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """By ``dynamic_unroll``."""
    return jax_peer(name, _layer)


def _layer(workload: Workload) -> Layer:
    D, H = workload.inputs.shape[-1], workload.state.hidden.shape[-1]

    def unroll(inputs: Array, state: LSTMState) -> Any:
        return haiku.dynamic_unroll(haiku.LSTM(H, name="lstm"), inputs, haiku.LSTMState(*state))[0]

    def one(state: LSTMState, x_t: Array) -> LSTMState:
        return LSTMState(*haiku.LSTM(H, name="lstm")(x_t, haiku.LSTMState(*state))[1])

    sequence, step = (haiku.without_apply_rng(haiku.transform(f)).apply for f in (unroll, one))
    return Layer(_own, lambda own: _back(own, D), sequence, step)


def _own(params: LSTMParams) -> dict[str, dict[str, Array]]:
    kernel = jnp.concatenate([params.input_kernel, params.recurrent_kernel])
    i, g, f, o = jnp.split(_swap_middle(params.bias), 4)
    bias = jnp.concatenate([i, g, f - 1, o])
    return {"lstm/linear": {"w": _swap_middle(kernel), "b": bias}}


def _back(own: dict[str, Any], features: int) -> LSTMParams:
    kernel, bias = (_swap_middle(own["lstm/linear"][leaf]) for leaf in ("w", "b"))
    return LSTMParams(kernel[:features], kernel[features:], bias)


def _swap_middle(leaf: Array) -> Array:
    """Between i, f, g, o and i, g, f, o."""
    first, second, third, last = jnp.split(leaf, 4, axis=-1)
    return jnp.concatenate([first, third, second, last], axis=-1)
