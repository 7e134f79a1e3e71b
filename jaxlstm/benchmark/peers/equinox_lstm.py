"""``equinox.nn.LSTMCell`` under a scan, as its own documentation has it: transposed kernels."""

from typing import Any

import equinox
import jax
from jaxtyping import Array

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """The cell takes one sequence's step: ``vmap`` gives it the batch."""
    return jax_peer(name, _layer)


def _layer(workload: Workload) -> Layer:
    D, H, dtype = workload.inputs.shape[-1], workload.state.hidden.shape[-1], workload.inputs.dtype
    cell = equinox.nn.LSTMCell(D, H, dtype=dtype, key=jax.random.key(0))

    def own(params: LSTMParams) -> Any:
        leaves = (params.input_kernel.T, params.recurrent_kernel.T, params.bias)
        return equinox.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, leaves)

    def step(own: Any, state: LSTMState, x_t: Array) -> LSTMState:
        return LSTMState(*jax.vmap(own)(x_t, tuple(state)))

    def sequence(own: Any, inputs: Array, state: LSTMState) -> Array:
        def body(state: LSTMState, x_t: Array) -> tuple[LSTMState, Array]:
            state = step(own, state, x_t)
            return state, state.hidden

        return jax.lax.scan(body, state, inputs)[1]

    return Layer(own, _back, sequence, step)


def _back(own: Any) -> LSTMParams:
    return LSTMParams(own.weight_ih.T, own.weight_hh.T, own.bias)
