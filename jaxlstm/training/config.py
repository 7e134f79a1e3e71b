"""What a run of training is made of; everything else follows from it and the text."""

import dataclasses
import math
from typing import Any

from jaxlstm.validation import check_seed, check_size

GRADIENTS = ("hand", "autodiff")
SCHEDULES = ("cosine", "constant")
ESTIMATES = ("bptt", "truncated", "exact", "snap1", "cell")
BLOCK = 25
"""Steps on a task between two reports, and at least between two tests of its criterion."""
TRAINED_IN = ("float64", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The configuration of a character language model and of its training.

    Attributes:
        layers: LSTMs, one on another.
        hidden: units of each, H.
        embedding: size of a character's row, D.
        dropout: the share of values that is dropped between the layers and before the readout.
        dtype: of activations and products: float64, float32 or bfloat16. Parameters and optimizer
            are in float32 at least.
        batch: contiguous streams of the text, B.
        window: characters that one step reads of each stream, and through which the gradient goes
            back, T.
        steps: of the optimizer, in all.
        learning_rate: of Adam, after ``warmup``.
        schedule: "cosine" down to a hundredth of the rate at the last step, or "constant".
        warmup: steps over which the rate rises from 0.
        weight_decay: of AdamW, on kernels and embedding.
        clip: the largest global norm of a gradient; 0 for no clipping.
        held_out: the last share of the text, which is not trained on.
        evaluate_every: steps between two measurements on it.
        seed: of all draws.
        gradient: by "hand" or by JAX's "autodiff".

    Raises:
        ValueError, TypeError: values out of range, in one sentence.

    >>> TrainConfig(hidden=64).hidden
    64
    """

    layers: int = 2
    hidden: int = 256
    embedding: int = 64
    dropout: float = 0.0
    dtype: str = "float32"
    batch: int = 32
    window: int = 64
    steps: int = 2000
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0
    held_out: float = 0.1
    evaluate_every: int = 500
    seed: int = 0
    gradient: str = "hand"

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "embedding", "batch", "window", "steps", "evaluate_every"):
            check_size(name, getattr(self, name))
        for name, high in (("dropout", 1.0), ("held_out", 1.0)):
            _check_range(name, getattr(self, name), high)
        for name in ("learning_rate", "weight_decay", "clip", "warmup"):
            _check_range(name, getattr(self, name))
        _check_whole("warmup", self.warmup)
        check_seed(self.seed)
        _check_choice("dtype", self.dtype, TRAINED_IN)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("gradient", self.gradient, GRADIENTS)


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """The configuration of a network for a task with a long time lag, and of its training.

    Attributes:
        cell: "lstm", or "rnn" for contrast.
        gradient: of the LSTM: "bptt", by hand; "truncated", BPTT within windows; "exact", real-time
            recurrent learning; "snap1" or "cell", its estimates. The RNN's is "bptt".
        window: steps of a window of truncated BPTT.
        hidden: units, H.
        batch: fresh sequences of each step, B.
        learning_rate: of Adam, for the LSTM or the RNN.
        readout_rate: the same, for the readout.
        clip: the largest global norm of a gradient.
        time_scale: forget gates start at 1 - 1/(time_scale + 1), and so keep a third or so of the
            cell over that many steps.
        closed: whether input gates start at 1/(time_scale + 1), so that what comes in meanwhile
            does not fill the cell, or half open.
        budget: training sequences, at most, of a run without success; a multiple of 25 batches
            is used of it.

    Raises:
        ValueError, TypeError: values out of range, in one sentence.

    Source of the two biases: Tallec and Ollivier (2018), "Can recurrent neural networks warp
    time?", who draw a time scale for each unit.
    """

    cell: str = "lstm"
    gradient: str = "bptt"
    window: int = 10
    hidden: int = 16
    batch: int = 32
    learning_rate: float = 1e-2
    readout_rate: float = 1e-2
    clip: float = 1.0
    time_scale: int = 3
    closed: bool = True
    budget: int = 100_000

    def __post_init__(self) -> None:
        _check_choice("cell", self.cell, ("lstm", "rnn"))
        _check_choice("gradient", self.gradient, ESTIMATES if self.cell == "lstm" else ("bptt",))
        for name in ("window", "hidden", "batch", "time_scale", "budget"):
            check_size(name, getattr(self, name))
        for name in ("learning_rate", "readout_rate", "clip"):
            _check_positive(name, getattr(self, name))
        if self.budget < BLOCK * self.batch:
            raise ValueError(
                f"budget: expected at least {BLOCK * self.batch} sequences, {BLOCK} batches of "
                f"{self.batch}, got {self.budget}."
            )


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {value!r}.")


def _check_range(name: str, value: Any, high: float = math.inf) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r}.")
    if not 0 <= value < high:
        below = "" if high == math.inf else f" and below {high:g}"
        raise ValueError(f"{name}: expected a number from 0{below}, got {value}.")


def _check_positive(name: str, value: Any) -> None:
    _check_range(name, value)
    if value == 0:
        raise ValueError(f"{name}: expected a number above 0, got {value}.")


def _check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}.")
