"""The LSTM under gradient_check: what is drawn, what is compared, what its blocks are."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm import readout, sequence
from jaxlstm.gradient_check import (
    Comparison,
    check_adjoint_identity,
    check_finite_differences,
    compare_gradients,
)
from jaxlstm.tasks.text import read_text, windows
from jaxlstm.types import GATES, Activations, LSTMParams, LSTMState, ReadoutParams

HAND_WRITTEN = "hand-written VJP"
AUTODIFF = "autodiff of the plain scan"
DIFFERENCES = "central differences of the values"
FORWARD_MODE = "forward mode of the plain scan"


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """What to check: sizes T, B, D, H, dtypes by name, activations, the seed, a text or None."""

    time: int = 50
    batch: int = 8
    features: int = 16
    hidden: int = 32
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
    activations: Activations = Activations()
    seed: int = 0
    text: Path | None = None


class Problem(NamedTuple):
    """One function, its derivative twice, and a point to compare them at.

    Attributes:
        candidate: ``f(args, context)`` with the hand-written gradient.
        reference: the same left to JAX's autodiff.
        args: what is differentiated by, in float64.
        context: lengths, resets, characters.
        cotangents: of the outputs, in float64.
        blocks: for each argument's name, its named parts.
    """

    candidate: Callable[[Any, Any], Any]
    reference: Callable[[Any, Any], Any]
    args: dict[str, Any]
    context: dict[str, Any]
    cotangents: Any
    blocks: dict[str, dict[str, Any]]


def draw_problem(config: CheckConfig) -> Problem:
    """The LSTM of ``config`` at a random point, on its text if any, else on random inputs."""
    return _random_problem(config) if config.text is None else _text_problem(config, config.text)


def check_lstm(
    problem: Problem, config: CheckConfig, progress: Callable[[str], None] = lambda _: None
) -> list[Comparison]:
    """Compares the hand-written gradient with autodiff in every dtype and with both witnesses.

    Args:
        problem: as drawn by ``draw_problem``.
        config: the dtypes and the seed.
        progress: told what is compared next.
    """
    candidate, reference, args, context, cotangents, blocks = problem
    point: dict[str, Any] = {"context": context, "seed": config.seed}
    comparisons: list[Comparison] = []
    for dtype in config.dtypes:
        progress(f"{AUTODIFF}, {dtype}")
        comparisons += compare_gradients(
            candidate,
            reference,
            args,
            cotangents,
            dtype=jnp.dtype(dtype),
            blocks=blocks,
            names=(HAND_WRITTEN, AUTODIFF),
            **point,
        )
    progress(DIFFERENCES)
    comparisons += check_finite_differences(
        candidate, args, cotangents, names=(HAND_WRITTEN, DIFFERENCES), **point
    )
    progress(FORWARD_MODE)
    comparisons += check_adjoint_identity(
        candidate, reference, args, cotangents, names=(HAND_WRITTEN, FORWARD_MODE), **point
    )
    return comparisons


def gate_blocks(hidden_size: int) -> dict[str, Any]:
    """The columns of each gate in a kernel or bias."""
    columns = [slice(k * hidden_size, (k + 1) * hidden_size) for k in range(len(GATES))]
    return {f"{gate} gate": (..., block) for gate, block in zip(GATES, columns, strict=True)}


def _random_problem(config: CheckConfig) -> Problem:
    rng: Any = np.random.default_rng(config.seed)
    T, B, D, H = config.time, config.batch, config.features, config.hidden
    state = partial(_random_state, rng, (B, H))
    steps = {f"step {t}": t for t in range(T)}
    return Problem(
        candidate=partial(_outputs, sequence.lstm, config.activations),
        reference=partial(_outputs, sequence.lstm_autodiff, config.activations),
        args={
            "params": _random_params(rng, D, H),
            "inputs": rng.standard_normal((T, B, D)),
            "initial_state": state(),
        },
        context=_random_masks(rng, T, B),
        cotangents=(rng.standard_normal((T, B, H)), state()),
        blocks=_params_blocks("params", H) | {"inputs": steps},
    )


def _text_problem(config: CheckConfig, path: Path) -> Problem:
    rng: Any = np.random.default_rng(config.seed)
    B, D, H = config.batch, config.features, config.hidden
    text = read_text(path)
    characters, targets = windows(text, config.time, B)
    K = len(text.vocabulary)
    if K < 2:
        raise ValueError(f"{path}: expected at least two distinct characters, got one.")
    hand = (readout.embed, sequence.lstm, readout.logits, readout.cross_entropy)
    autodiff = (
        readout.embed_autodiff,
        sequence.lstm_autodiff,
        readout.logits_autodiff,
        readout.cross_entropy_autodiff,
    )
    return Problem(
        candidate=partial(_character_loss, hand, config.activations),
        reference=partial(_character_loss, autodiff, config.activations),
        args={
            "embedding": rng.standard_normal((K, D)),
            "params": _random_params(rng, D, H),
            "initial_state": _random_state(rng, (B, H)),
            "readout": ReadoutParams(
                kernel=rng.standard_normal((H, K)) / np.sqrt(H), bias=rng.standard_normal(K) / 2
            ),
        },
        context={
            "characters": characters,
            "targets": targets,
            **_random_masks(rng, config.time, B),
        },
        cotangents=rng.standard_normal(()),
        blocks=_params_blocks("params", H) | {"embedding": _rows(text.vocabulary, characters)},
    )


def _outputs(lstm: Any, activations: Activations, args: Any, context: Any) -> Any:
    """All three outputs of the LSTM."""
    return lstm(
        args["params"], args["inputs"], args["initial_state"], activations=activations, **context
    )


def _character_loss(functions: Any, activations: Activations, args: Any, context: Any) -> Any:
    """The mean cross-entropy in nats of the characters within the lengths."""
    embed, lstm, logits, cross_entropy = functions
    lengths, resets = context["lengths"], context["resets"]
    inputs = embed(args["embedding"], context["characters"])
    hidden, _ = lstm(
        args["params"],
        inputs,
        args["initial_state"],
        lengths=lengths,
        resets=resets,
        activations=activations,
    )
    losses = cross_entropy(logits(args["readout"], hidden), context["targets"])
    valid = jnp.arange(len(losses))[:, None] < lengths.astype(int)
    return jnp.mean(losses, where=valid)


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


def _random_masks(rng: Any, T: int, B: int) -> dict[str, ndarray]:
    """Ragged lengths, the first full and the others from 0 to T, and some resets."""
    lengths = rng.integers(0, T + 1, B)
    lengths[0] = T
    return {"lengths": lengths.astype(np.int32), "resets": rng.random((T, B)) < 1 / 16}


def _params_blocks(name: str, hidden_size: int) -> dict[str, dict[str, Any]]:
    return {f"{name}.{field}": gate_blocks(hidden_size) for field in LSTMParams._fields}


def _rows(vocabulary: str, characters: ndarray) -> dict[str, Any]:
    """The embedding's row of each character that occurs, and all rows of those that do not."""
    occurring = np.unique(characters)
    absent = np.setdiff1d(np.arange(len(vocabulary)), occurring)
    blocks: dict[str, Any] = {repr(vocabulary[k]): k for k in occurring}
    return blocks | ({"characters not read": absent} if absent.size else {})
