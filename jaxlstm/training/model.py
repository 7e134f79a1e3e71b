"""A character language model: embedding, LSTMs one on another, readout.

    x_t = E[k_t]
    h_t = LSTM_n(... LSTM_1(x_t))
    y_t = h_t V + a
    L_t = -log softmax(y_t)[k_{t+1}]

Document 001 trains this model with one layer and one-hot inputs: E is then the identity.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.initializers import init_state
from jaxlstm.layers import dropout, init_layers, stacked_lstm
from jaxlstm.readout import (
    cross_entropy,
    cross_entropy_autodiff,
    embed,
    embed_autodiff,
    logits,
    logits_autodiff,
)
from jaxlstm.sequence import lstm, lstm_autodiff
from jaxlstm.training.config import TrainConfig
from jaxlstm.types import (
    BidirectionalParams,
    BidirectionalState,
    LSTMParams,
    LSTMState,
    ReadoutParams,
    at_least_float32,
)

Layers = tuple[LSTMParams | BidirectionalParams, ...]
States = tuple[LSTMState | BidirectionalState, ...]


class ModelParams(NamedTuple):
    """The parameters of the model.

    Attributes:
        embedding: a row for each of K characters [K, D].
        layers: the LSTMs' parameters.
        readout: kernel [H, K] and bias [K].
    """

    embedding: Float[Array, "K D"]
    layers: Layers
    readout: ReadoutParams


class Functions(NamedTuple):
    """What the model is made of: each with its derivative by hand, or all left to autodiff."""

    embed: Callable[..., Any]
    lstm: Callable[..., Any]
    logits: Callable[..., Any]
    cross_entropy: Callable[..., Any]


FUNCTIONS = {
    "hand": Functions(embed, lstm, logits, cross_entropy),
    "autodiff": Functions(embed_autodiff, lstm_autodiff, logits_autodiff, cross_entropy_autodiff),
}


def init_model(key: Array, characters: int, config: TrainConfig) -> ModelParams:
    """Draws parameters for a vocabulary of ``characters``; the readout starts near a uniform guess.

    >>> params = init_model(jax.random.key(0), 7, TrainConfig(layers=1, hidden=5, embedding=3))
    >>> params.embedding.shape, params.readout.kernel.shape
    ((7, 3), (5, 7))
    """
    keys = jax.random.split(key, 3)
    D, H, dtype = config.embedding, config.hidden, at_least_float32(config.dtype)
    kernel = 0.1 * jax.nn.initializers.glorot_uniform()(keys[2], (H, characters), dtype)
    return ModelParams(
        embedding=jax.random.normal(keys[0], (characters, D), dtype),
        layers=init_layers(keys[1], D, H, config.layers, dtype=dtype),
        readout=ReadoutParams(kernel, jnp.zeros(characters, dtype)),
    )


def computed_in(config: TrainConfig, params: ModelParams) -> ModelParams:
    """The parameters in the dtype that the model computes in."""
    return jax.tree.map(lambda leaf: leaf.astype(config.dtype), params)


def init_states(config: TrainConfig, batch: int) -> States:
    """The zero state of every layer."""
    return tuple(init_state(config.hidden, batch, dtype=config.dtype) for _ in range(config.layers))


def model_logits(
    params: ModelParams,
    characters: ArrayLike,
    states: States,
    *,
    lengths: ArrayLike | None = None,
    rate: float = 0.0,
    key: Array | None = None,
    functions: Functions = FUNCTIONS["hand"],
) -> tuple[Float[Array, "T B K"], States]:
    """The logits after every character, and the states that the next window starts from.

    Args:
        params: of the model.
        characters: integers [T, B] from 0 to K - 1.
        states: of every layer [B, H].
        lengths: of each stream; the states are those at the length.
        rate: of dropout.
        key: for dropout; without one nothing is dropped.
        functions: one of ``FUNCTIONS``.
    """
    rate = 0.0 if key is None else rate
    between, last = (None, None) if key is None else jax.random.split(key)
    hidden, states = stacked_lstm(
        params.layers,
        functions.embed(params.embedding, characters),
        states,
        lengths=lengths,
        dropout=rate,
        key=between,
        lstm=functions.lstm,
    )
    if rate:
        hidden = dropout(last, hidden, rate)
    return functions.logits(params.readout, hidden), states


def character_losses(
    params: ModelParams,
    characters: ArrayLike,
    targets: ArrayLike,
    states: States,
    *,
    functions: Functions = FUNCTIONS["hand"],
    **options: Any,
) -> tuple[Float[Array, "T B"], States]:
    """The cross-entropy of every target in nats, in float32 at least, and the next states.

    Options are those of ``model_logits``.
    """
    scores, states = model_logits(params, characters, states, functions=functions, **options)
    scores = scores.astype(at_least_float32(scores.dtype))
    return functions.cross_entropy(scores, targets), states
