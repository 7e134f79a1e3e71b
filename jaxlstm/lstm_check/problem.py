"""What is checked: an LSTM with random weights, on random inputs or as a character model."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm import readout, sequence
from jaxlstm.tasks.text import Text, spread_window
from jaxlstm.types import GATES, Activations, LSTMParams, LSTMState, ReadoutParams


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """What to check: sizes T, B, D, H, dtypes by name, activations, the seed, a text or None.

    Without ``masks`` the LSTM is called without ``lengths`` and ``resets``. ``precision`` is what
    its products are rounded to, as ``lstm`` takes it.
    """

    time: int = 50
    batch: int = 8
    features: int = 16
    hidden: int = 32
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
    activations: Activations = Activations()
    seed: int = 0
    text: Text | None = None
    masks: bool = True
    precision: str | None = None


class Problem(NamedTuple):
    """One function, its derivative twice, and a point to compare them at.

    Attributes:
        candidate: the function with the gradient under test.
        reference: the same left to JAX's autodiff.
        args: the positional arguments of both, their floats in float64.
        cotangents: of the outputs, in float64.
        blocks: for each argument's name, its named parts.
        axes: for each name of an argument or output, its named axes.
    """

    candidate: Callable[..., Any]
    reference: Callable[..., Any]
    args: tuple[Any, ...]
    cotangents: Any
    blocks: dict[str, dict[str, Any]]
    axes: dict[str, dict[str, int]]


class Outputs(NamedTuple):
    """What an LSTM returns."""

    outputs: Any
    final_state: LSTMState


def draw_problem(config: CheckConfig, lstm: Any = None) -> Problem:
    """The LSTM of ``config`` at a random point, on its text if any, else on random inputs.

    With ``config.masks``, ``lengths`` (int [B], from 0 to T) and ``resets`` (bool [T, B]) are drawn
    too, and the LSTM must honour them: past its length a sequence's outputs are zero and its state
    stays; where it is reset a step starts from the zero state.

    Args:
        config: sizes, activations, seed, text and whether with masks.
        lstm: a function with ``lstm``'s signature in its place. It is called with ``activations``
            only where they are not tanh, and rounds to the precision by itself.

    Raises:
        ValueError: a text that cannot be used, a function that does not take ``lstm``'s arguments.
    """
    lstm = lstm or _in_precision(sequence.lstm, config)
    _check_signature(lstm, config)
    if config.text is None:
        return _random_problem(config, lstm)
    return _text_problem(config, lstm, config.text)


def _in_precision(lstm: Any, config: CheckConfig) -> Any:
    return partial(lstm, precision=config.precision) if config.precision else lstm


def gate_blocks(hidden_size: int) -> dict[str, Any]:
    """The columns of each gate in a kernel or bias."""
    columns = [slice(k * hidden_size, (k + 1) * hidden_size) for k in range(len(GATES))]
    return {f"{gate} gate": (..., block) for gate, block in zip(GATES, columns, strict=True)}


def params_blocks(name: str, hidden_size: int) -> dict[str, dict[str, Any]]:
    """The gates' columns of each of the LSTM's parameters, by the leaf's name."""
    return {f"{name}.{field}": gate_blocks(hidden_size) for field in LSTMParams._fields}


def _check_signature(lstm: Any, config: CheckConfig) -> None:
    """Before anything runs: a function that can be called as ``lstm`` will be."""
    try:
        signature = inspect.signature(lstm)
    except ValueError:
        return
    masks = (0, 0) if config.masks else (None, None)
    options = _options(config.activations, *masks)
    try:
        signature.bind(None, None, None, **options)
    except TypeError:
        needed = ", ".join(("params, inputs, initial_state", *(["*", *options] if options else [])))
        name = getattr(lstm, "__name__", "lstm")
        raise ValueError(f"{name}: expected a function of ({needed}), got {signature}.") from None


def _options(activations: Activations, lengths: Any, resets: Any) -> dict[str, Any]:
    """The keyword arguments that an LSTM is called with."""
    masks = {"lengths": lengths, "resets": resets}
    given = {name: mask for name, mask in masks.items() if mask is not None}
    return given | ({} if activations == Activations() else {"activations": activations})


@cache
def with_all_arguments(lstm: Any, activations: Activations) -> Callable[..., Outputs]:
    """``lstm`` as a function of five positional arguments; the same object for the same LSTM."""

    def run(params: Any, inputs: Any, initial_state: Any, lengths: Any, resets: Any) -> Outputs:
        options = _options(activations, lengths, resets)
        returned = lstm(params, inputs, initial_state, **options)
        if not (isinstance(returned, tuple) and list(map(type, returned))[1:] == [LSTMState]):
            raise TypeError(f"expected (outputs, LSTMState), got {_told(returned)}")
        return Outputs(*returned)

    return run


def _told(returned: Any) -> str:
    """What a function returned, by its types."""
    if isinstance(returned, tuple):
        return f"({', '.join(type(one).__name__ for one in returned)})"
    return "one array" if hasattr(returned, "shape") else type(returned).__name__


def _random_problem(config: CheckConfig, lstm: Any) -> Problem:
    rng: Any = np.random.default_rng(config.seed)
    T, B, D, H = config.time, config.batch, config.features, config.hidden
    args = (
        _random_params(rng, D, H),
        rng.standard_normal((T, B, D)),
        _random_state(rng, (B, H)),
        *_masks(config, rng),
    )
    return Problem(
        candidate=with_all_arguments(lstm, config.activations),
        reference=with_all_arguments(
            _in_precision(sequence.lstm_autodiff, config), config.activations
        ),
        args=args,
        cotangents=Outputs(rng.standard_normal((T, B, H)), _random_state(rng, (B, H))),
        blocks=params_blocks("params", H),
        axes={"inputs": {"step": 0}, "outputs": {"step": 0}},
    )


def _text_problem(config: CheckConfig, lstm: Any, text: Text) -> Problem:
    rng: Any = np.random.default_rng(config.seed)
    B, D, H = config.batch, config.features, config.hidden
    K = len(text.vocabulary)
    if K < 2:
        raise ValueError("text: expected at least two distinct characters, got one.")
    characters, targets, _ = spread_window(text.points, text.vocabulary, time=config.time, batch=B)
    args = (
        rng.standard_normal((K, D)),
        _random_params(rng, D, H),
        _random_state(rng, (B, H)),
        ReadoutParams(
            kernel=rng.standard_normal((H, K)) / np.sqrt(H), bias=rng.standard_normal(K) / 2
        ),
        characters,
        targets,
        *_masks(config, rng),
    )
    hand = (readout.embed, lstm, readout.logits, readout.cross_entropy)
    autodiff = (
        readout.embed_autodiff,
        _in_precision(sequence.lstm_autodiff, config),
        readout.logits_autodiff,
        readout.cross_entropy_autodiff,
    )
    return Problem(
        candidate=_character_loss(hand, config.activations),
        reference=_character_loss(autodiff, config.activations),
        args=args,
        cotangents=rng.standard_normal(()),
        blocks=params_blocks("params", H) | {"embedding": _rows(text.vocabulary, characters)},
        axes={},
    )


@cache
def _character_loss(functions: tuple[Any, ...], activations: Activations) -> Callable[..., Any]:
    """The mean cross-entropy in nats of the characters within the lengths."""
    embed, lstm, logits, cross_entropy = functions

    def loss(
        embedding: Any,
        params: Any,
        initial_state: Any,
        readout: Any,
        characters: Any,
        targets: Any,
        lengths: Any,
        resets: Any,
    ) -> Any:
        inputs = embed(embedding, characters)
        options = _options(activations, lengths, resets)
        hidden, _ = lstm(params, inputs, initial_state, **options)
        losses = cross_entropy(logits(readout, hidden), targets)
        if lengths is None:
            return jnp.mean(losses)
        valid = jnp.arange(len(losses))[:, None] < lengths.astype(int)
        return jnp.mean(losses, where=valid)

    return loss


def _random_params(rng: Any, D: int, H: int) -> Any:
    """Float64 kernels and biases whose gates all differ."""
    gains = np.repeat(rng.uniform(0.5, 1.5, len(GATES)), H)
    return LSTMParams(
        input_kernel=gains * rng.standard_normal((D, 4 * H)) / np.sqrt(D),
        recurrent_kernel=gains * rng.standard_normal((H, 4 * H)) / np.sqrt(H),
        bias=rng.standard_normal(4 * H) / 2,
    )


def _random_state(rng: Any, shape: tuple[int, ...]) -> Any:
    return LSTMState(hidden=rng.standard_normal(shape) / 2, cell=rng.standard_normal(shape))


def _masks(config: CheckConfig, rng: Any) -> tuple[ndarray, ndarray] | tuple[None, None]:
    """Ragged lengths, the first full and the others from 0 to T, and some resets; or neither."""
    if not config.masks:
        return None, None
    T, B = config.time, config.batch
    lengths = rng.integers(0, T + 1, B)
    lengths[0] = T
    return lengths.astype(np.int32), rng.random((T, B)) < 1 / 16


def _rows(vocabulary: str, characters: ndarray) -> dict[str, Any]:
    """The embedding's row of each character that occurs, and all rows of those that do not."""
    occurring = np.unique(characters)
    absent = np.setdiff1d(np.arange(len(vocabulary)), occurring)
    blocks: dict[str, Any] = {repr(vocabulary[k]): k for k in occurring}
    return blocks | ({"characters not read": absent} if absent.size else {})
