"""LSTMs in layers and in both directions, made of ``lstm``; dropout between layers.

Each function takes the ``lstm`` that its layers run: ``lstm``, differentiated by hand, or
``lstm_autodiff``, the oracle.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike

from jaxlstm.initializers import init_params
from jaxlstm.sequence import lstm
from jaxlstm.types import (
    Activations,
    BidirectionalParams,
    BidirectionalState,
    LSTMParams,
    LSTMState,
)
from jaxlstm.validation import (
    check_bidirectional,
    check_dropout,
    check_size,
    check_stack,
    check_values,
)


def init_layers(
    key: Array,
    input_size: int,
    hidden_size: int,
    layers: int,
    *,
    bidirectional: bool = False,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> tuple[LSTMParams | BidirectionalParams, ...]:
    """Draws the parameters of a stack, each layer's as ``init_params`` does.

    Args:
        key: a PRNG key.
        input_size: D of the first layer; the others take H features, or 2H if bidirectional.
        hidden_size: H of every layer, and of each direction.
        layers: how many.
        bidirectional: whether every layer reads in both directions.
        forget_bias: what the forget gates' biases start from.
        dtype: as in ``init_params``.

    Raises:
        ValueError, TypeError: a size below 1, or a dtype that is no floating one.

    >>> import jax, jaxlstm
    >>> layers = jaxlstm.init_layers(jax.random.key(0), 3, 5, layers=2, bidirectional=True)
    >>> layers[1].backward.input_kernel.shape
    (10, 20)
    """
    check_size("hidden_size", hidden_size)
    check_size("layers", layers)
    drawn = partial(init_params, hidden_size=hidden_size, forget_bias=forget_bias, dtype=dtype)
    sizes = [input_size] + [hidden_size * (1 + bidirectional)] * (layers - 1)
    keys = jax.random.split(key, layers)
    if not bidirectional:
        return tuple(map(drawn, keys, sizes))
    return tuple(
        BidirectionalParams(*(drawn(direction, size) for direction in jax.random.split(key)))
        for key, size in zip(keys, sizes, strict=True)
    )


def bidirectional_lstm(
    params: BidirectionalParams,
    inputs: ArrayLike,
    initial_state: BidirectionalState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    lstm: Callable[..., Any] = lstm,
) -> tuple[Array, BidirectionalState]:
    """One LSTM reads each sequence from its first step on, another from its last valid step back.

    As in ``torch.nn.LSTM`` with packed sequences, a step's output is the forward one followed by
    the backward one; the backward direction's initial state enters at the last valid step, and its
    final state is the one after step 0.

    Args:
        params: the LSTMParams of each direction, of the same D and H.
        inputs: [T, B, D] ([T, D] unbatched).
        initial_state: the LSTMState of each direction; zeros if None.
        lengths: as in ``lstm``.
        resets: as in ``lstm``. Where true, step t starts a new sequence: the forward direction
            starts from zero at t, the backward direction at t - 1.
        activations: as in ``lstm``.
        lstm: what each direction runs, ``lstm`` or ``lstm_autodiff``.

    Returns:
        outputs [T, B, 2H] ([T, 2H] unbatched), and the final state of each direction.

    Raises:
        ValueError, TypeError: as in ``lstm``.

    >>> import jax, jaxlstm
    >>> (layer,) = jaxlstm.init_layers(jax.random.key(0), 3, 5, layers=1, bidirectional=True)
    >>> inputs, lengths = jax.random.normal(jax.random.key(1), (7, 2, 3)), jax.numpy.array([7, 4])
    >>> outputs, final = jaxlstm.bidirectional_lstm(layer, inputs, lengths=lengths)
    >>> outputs.shape, bool((final.backward.hidden == outputs[0, :, 5:]).all())
    ((7, 2, 10), True)
    """
    check_bidirectional(params, inputs, initial_state, lengths, resets, activations)
    inputs, lengths, resets = jax.tree.map(jnp.asarray, (inputs, lengths, resets))
    first, last = (None, None) if initial_state is None else initial_state
    run = partial(lstm, lengths=lengths, activations=activations)
    ahead, final = run(params.forward, inputs, first, resets=resets)
    back, after_step_0 = run(
        params.backward, _reversed(inputs, lengths), last, resets=_reversed_resets(resets, lengths)
    )
    outputs = jnp.concatenate([ahead, _reversed(back, lengths)], axis=-1)
    return outputs, BidirectionalState(final, after_step_0)


def _reversed(sequences: Any, lengths: Any) -> Array:
    """Each sequence [T, B, ...] backwards up to its length, the padding where it was."""
    if lengths is None:
        return jnp.flip(sequences, axis=0)
    time = jnp.arange(len(sequences))

    def reverse(sequence: Array, length: Array) -> Array:
        length = jnp.minimum(length.astype(int), len(sequence))
        return sequence[jnp.where(time < length, length - 1 - time, time)]

    if lengths.ndim == 0:
        return reverse(sequences, lengths)
    return jax.vmap(reverse, in_axes=(1, 0), out_axes=1)(sequences, lengths)


def _reversed_resets(resets: Any, lengths: Any) -> Array | None:
    """Where the backward direction starts anew, in its own time: at L - t for a reset at t >= 1."""
    if resets is None:
        return None
    never = jnp.zeros_like(resets[:1])
    return jnp.concatenate([never, _reversed(resets, lengths)])[:-1]


def stacked_lstm(
    layers: Sequence[LSTMParams | BidirectionalParams],
    inputs: ArrayLike,
    initial_states: Sequence[LSTMState | BidirectionalState] | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    dropout: float = 0.0,
    key: Array | None = None,
    lstm: Callable[..., Any] = lstm,
) -> tuple[Array, tuple[LSTMState | BidirectionalState, ...]]:
    """Layers of LSTMs, each of which takes the outputs of the one before.

    Args:
        layers: the parameters of each, of one direction or of two; D of one is the outputs' size
            of the one before.
        inputs: [T, B, D] ([T, D] unbatched).
        initial_states: the state of each layer; zeros if None.
        lengths: as in ``lstm``.
        resets: as in ``lstm`` and ``bidirectional_lstm``.
        activations: as in ``lstm``, of all layers.
        dropout: the rate between layers, never after the last, as in ``torch.nn.LSTM``.
        key: a PRNG key, needed where ``dropout`` is above 0.
        lstm: what every layer runs, ``lstm`` or ``lstm_autodiff``.

    Returns:
        the last layer's outputs [T, B, H] (2H if it is bidirectional; no B unbatched), and every
        layer's final state.

    Raises:
        ValueError, TypeError: as in ``lstm``, the layer named; a rate outside [0, 1); no key.

    >>> import jax, jaxlstm
    >>> layers = jaxlstm.init_layers(jax.random.key(0), 3, 5, layers=2)
    >>> inputs = jax.random.normal(jax.random.key(1), (7, 2, 3))
    >>> outputs, finals = jaxlstm.stacked_lstm(layers, inputs, dropout=0.1, key=jax.random.key(2))
    >>> outputs.shape, bool((finals[1].hidden == outputs[-1]).all())
    ((7, 2, 5), True)
    """
    check_stack(layers, inputs, initial_states, lengths, resets, activations)
    check_dropout("dropout", dropout, key)
    states = [None] * len(layers) if initial_states is None else initial_states
    outputs, finals = jnp.asarray(inputs), []
    for k, (layer, state) in enumerate(zip(layers, states, strict=True)):
        if k > 0:
            outputs = _between_layers(outputs, dropout, key, k)
        outputs, final = _layer_function(layer, lstm)(
            layer, outputs, state, lengths=lengths, resets=resets, activations=activations
        )
        finals.append(final)
    return outputs, tuple(finals)


def _layer_function(layer: Any, lstm: Callable[..., Any]) -> Callable[..., Any]:
    """What runs a layer, in both directions where it has parameters for two."""
    if isinstance(layer, BidirectionalParams):
        return partial(bidirectional_lstm, lstm=lstm)
    return lstm


def _between_layers(outputs: Array, rate: float, key: Array | None, k: int) -> Array:
    """What enters layer ``k``; every layer draws a mask of its own."""
    return outputs if key is None else dropout(jax.random.fold_in(key, k), outputs, rate)


def dropout(key: Array | None, values: ArrayLike, rate: float) -> Array:
    """Inverted dropout: each value zero with probability ``rate``, else divided by ``1 - rate``.

    The mean is kept. A rate of 0 changes nothing and needs no key. Inside ``shard_map`` one key
    draws the same mask on every device: fold in the device's index.

    Args:
        key: a PRNG key.
        values: of any shape and floating dtype.
        rate: a number of at least 0 and below 1.

    Raises:
        ValueError, TypeError: a rate outside [0, 1); no key; values that are not floating.

    Source: Srivastava et al., "Dropout", JMLR 15 (2014), scaled in training.

    >>> import jax, jaxlstm
    >>> jaxlstm.dropout(jax.random.key(0), jax.numpy.ones(6), 0.5)
    Array([...], dtype=float32)
    """
    check_dropout("rate", rate, key)
    check_values(values)
    values = jnp.asarray(values)
    if key is None or rate == 0:
        return values
    kept = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(kept, values / (1 - float(rate)), 0)
