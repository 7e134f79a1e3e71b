"""``flax.nnx.RNN`` of ``OptimizedLSTMCell``: our kernels and bias as they are; carry (c, h)."""

from typing import Any

from flax import nnx
from jaxtyping import Array

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """Of the cell whose four gates are one product."""
    return jax_peer(name, _layer)


def _layer(workload: Workload) -> Layer:
    D, H, dtype = workload.inputs.shape[-1], workload.state.hidden.shape[-1], workload.inputs.dtype
    zeros = nnx.initializers.zeros_init()  # replaced below; orthogonal ones are not for bfloat16
    settings = {"dtype": dtype, "param_dtype": dtype, "recurrent_kernel_init": zeros}
    cell = nnx.OptimizedLSTMCell(D, H, **settings, rngs=nnx.Rngs(0))
    graph, drawn = nnx.split(nnx.RNN(cell, time_major=True, rngs=False))

    def own(params: LSTMParams) -> Any:
        kernels = {"dense_i": {"kernel": params.input_kernel}}
        recurrent = {"kernel": params.recurrent_kernel, "bias": params.bias}
        nnx.replace_by_pure_dict(drawn, {"cell": kernels | {"dense_h": recurrent}})
        return drawn

    def back(own: Any) -> LSTMParams:
        cell = nnx.to_pure_dict(own)["cell"]
        recurrent = cell["dense_h"]
        return LSTMParams(cell["dense_i"]["kernel"], recurrent["kernel"], recurrent["bias"])

    def sequence(own: Any, inputs: Array, state: LSTMState) -> Any:
        return nnx.merge(graph, own)(inputs, initial_carry=state[::-1])

    def step(own: Any, state: LSTMState, x_t: Array) -> LSTMState:
        (c, h), _ = nnx.merge(graph, own).cell(state[::-1], x_t)
        return LSTMState(h, c)

    return Layer(own, back, sequence, step)
