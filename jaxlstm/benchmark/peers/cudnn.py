"""``jax.experimental.rnn``, cuDNN's LSTM: all weights in one vector, transposed; batch first."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jaxtyping import Array

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """In float32 alone, with a second bias of zeros.

    Raises:
        ImportError: no CUDA device.
    """
    if jax.default_backend() != "gpu":
        raise ImportError("jax.experimental.rnn needs a CUDA device")
    return jax_peer(name, _layer)


def _layer(workload: Workload) -> Layer:
    (_, B, D), H = workload.inputs.shape, workload.state.hidden.shape[-1]

    def back(own: Array) -> LSTMParams:
        input_kernel, recurrent_kernel, bias, _ = jnp.split(
            own, [4 * H * D, 4 * H * (D + H), 4 * H * (D + H + 1)]
        )
        kernels = input_kernel.reshape(4 * H, D).T, recurrent_kernel.reshape(4 * H, H).T
        return LSTMParams(*kernels, bias)

    def run(own: Any, inputs: Array, state: LSTMState) -> tuple[Array, LSTMState]:
        h, c = (leaf[None] for leaf in state)
        lengths = jnp.full(B, len(inputs), jnp.int32)
        sizes = {"input_size": D, "hidden_size": H, "num_layers": 1}
        batch_first = inputs.swapaxes(0, 1)
        result: Any = rnn.lstm(
            batch_first, h, c, own, lengths, **sizes, dropout=0.0, bidirectional=False
        )
        outputs, h, c = result
        return outputs.swapaxes(0, 1), LSTMState(h[0], c[0])

    def step(own: Any, state: LSTMState, x_t: Array) -> LSTMState:
        return run(own, x_t[None], state)[1]

    return Layer(_own, back, lambda *args: run(*args)[0], step)


def _own(params: LSTMParams) -> Array:
    kernels = (params.input_kernel.T.ravel(), params.recurrent_kernel.T.ravel())
    return jnp.concatenate([*kernels, params.bias, jnp.zeros_like(params.bias)])
