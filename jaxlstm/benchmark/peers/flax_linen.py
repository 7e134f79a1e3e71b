"""``flax.linen.RNN``: eight kernels, the biases beside the recurrent ones; carry (c, h)."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen
from jaxtyping import Array

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState

GATES = "ifgo"


def peer(name: str, cell: str) -> Peer:
    """Of the cell of that name: ``OptimizedLSTMCell`` or ``LSTMCell``."""
    return jax_peer(name, partial(_layer, cell))


def _layer(cell: str, workload: Workload) -> Layer:
    H, dtype = workload.state.hidden.shape[-1], workload.inputs.dtype
    one = getattr(linen, cell)(H, dtype=dtype, param_dtype=dtype)
    rnn = linen.RNN(one, time_major=True)

    def sequence(own: Any, inputs: Array, state: LSTMState) -> Any:
        return rnn.apply({"params": {"cell": own}}, inputs, initial_carry=state[::-1])

    def step(own: Any, state: LSTMState, x_t: Array) -> LSTMState:
        (c, h), _ = one.apply({"params": own}, state[::-1], x_t)
        return LSTMState(h, c)

    return Layer(_own, _back, sequence, step)


def _own(params: LSTMParams) -> dict[str, dict[str, Array]]:
    blocks = zip(GATES, *(jnp.split(leaf, 4, axis=-1) for leaf in params), strict=True)
    own = {}
    for gate, U, W, b in blocks:
        own |= {f"i{gate}": {"kernel": U}, f"h{gate}": {"kernel": W, "bias": b}}
    return own


def _back(own: dict[str, dict[str, Array]]) -> LSTMParams:
    def join(source: str, leaf: str) -> Array:
        return jnp.concatenate([own[f"{source}{gate}"][leaf] for gate in GATES], axis=-1)

    return LSTMParams(join("i", "kernel"), join("h", "kernel"), join("h", "bias"))
