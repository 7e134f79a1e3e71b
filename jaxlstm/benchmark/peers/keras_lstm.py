"""``keras.layers.LSTM`` on JAX: our kernels and bias as they are; batch first."""

import os
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # pyright: ignore[reportMissingImports]

from jaxlstm.benchmark.peers.peer import Layer, Peer, Workload, jax_peer
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """The layer's own transpositions cancel those around it.

    Raises:
        ImportError: Keras was set to another backend.
    """
    if keras.backend.backend() != "jax":
        raise ImportError(f"Keras runs on {keras.backend.backend()}, not on JAX")
    return jax_peer(name, _layer)


def _layer(workload: Workload) -> Layer:
    (T, B, D), H = workload.inputs.shape, workload.state.hidden.shape[-1]
    layer = keras.layers.LSTM(
        H,
        return_sequences=True,
        return_state=True,
        recurrent_initializer="zeros",  # replaced by ours; orthogonal ones are not for bfloat16
        dtype=workload.inputs.dtype.name,
    )
    layer.build((B, T, D))
    others = [variable.value for variable in layer.non_trainable_variables]

    def run(own: Any, inputs: Array, state: LSTMState) -> tuple[Array, LSTMState]:
        batch_first = jnp.swapaxes(inputs, 0, 1)
        (outputs, *final), _ = layer.stateless_call(
            list(own), others, batch_first, initial_state=list(state)
        )
        return jnp.swapaxes(outputs, 0, 1), LSTMState(*final)

    def step(own: Any, state: LSTMState, x_t: Array) -> LSTMState:
        cell = layer.cell
        _, state = cell.stateless_call(list(own), others, x_t, list(state))[0]
        return LSTMState(*state)

    return Layer(tuple, lambda own: LSTMParams(*own), lambda *args: run(*args)[0], step)
