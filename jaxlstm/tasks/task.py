"""What a task is: sequences to draw, a loss to train on, and the criterion that it is learned."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlstm.readout import cross_entropy
from jaxlstm.validation import check_seed, check_size

LONGEST_LAG = 100_000
"""A hundred times the longest that was published."""


class Batch(NamedTuple):
    """B sequences, padded to the longest that the task draws; a pytree.

    Attributes:
        inputs: float32 [T, B, D].
        targets: what the task's loss compares the outputs with.
        lengths: int32 [B], from 1 to T; what lies past them never matters.
    """

    inputs: Float[Array, "T B D"]
    targets: Any
    lengths: Int[Array, " B"]


Measure = Callable[[Float[Array, "T B K"], Batch], Float[Array, " B"]]
"""A number for each sequence, from the outputs at every step."""


class Criterion(NamedTuple):
    """When a task counts as learned: what holds on fresh sequences.

    Attributes:
        in_words: for people.
        sequences: how many are tested.
        error: the error of every one lies below.
        mean_loss: and so does their mean loss.
    """

    in_words: str
    sequences: int
    error: float
    mean_loss: float = float("inf")

    def is_met(self, errors: Float[Array, " B"], losses: Float[Array, " B"]) -> Bool[Array, ""]:
        """Whether it holds, from the error and the loss of each sequence that is tested."""
        return (errors < self.error).all() & (losses.mean() < self.mean_loss)


class Published(NamedTuple):
    """What Hochreiter and Schmidhuber (1997) report of their LSTM.

    Attributes:
        sequences: trained on, to the criterion, in the mean over trials.
        otherwise: how their set-up differs from this one, in what belongs to the task.
    """

    sequences: int
    otherwise: str


class Task(NamedTuple):
    """A task; a static argument under jit, where each one that is made compiles anew.

    Attributes:
        name: of the task.
        time_lag: its own parameter, T or p.
        shortest_lag: the steps, at least, from the last input that is to be remembered to an
            output that needs it.
        input_size: D.
        output_size: K.
        draw: ``draw(key, batch)`` gives that many fresh sequences; pure, for jit.
        loss: of each sequence, to train on.
        error: of each sequence, for the criterion.
        criterion: when the task is learned.
        published: what the LSTM of 1997 needed, where there is a number.

    One of your own, the first of three symbols to be told after T steps, for
    ``training.to_criterion(task, task_config(task))``:

    >>> from jaxlstm.training import task_config
    >>> def draw(key, batch, T=4):
    ...     symbols = jax.random.randint(key, (T, batch), 0, 3)
    ...     return Batch(jax.nn.one_hot(symbols, 3), symbols[0], jnp.full(batch, T))
    >>> def loss(outputs, batch):
    ...     return cross_entropy(at_end(outputs, batch.lengths), batch.targets)
    >>> wanted = Criterion("each of 100 is told with a probability above a half", 100, 0.69)
    >>> task = Task("first", 4, 3, 3, 3, draw, loss, loss, wanted)
    >>> bool((next(sequences(task, batch=9, seed=0)).targets < 3).all())
    True
    >>> task_config(task, hidden=8).time_scale
    4
    """

    name: str
    time_lag: int
    shortest_lag: int
    input_size: int
    output_size: int
    draw: Callable[[Array, int], Batch]
    loss: Measure
    error: Measure
    criterion: Criterion
    published: Published | None = None


def sequences(task: Task, *, batch: int, seed: int) -> Iterator[Batch]:
    """Fresh sequences without end; the same seed gives the same ones.

    Raises:
        ValueError, TypeError: a batch below 1, a seed that is not from 0 to 2^32 - 1.

    >>> from jaxlstm.tasks.adding import adding
    >>> inputs, targets, lengths = next(sequences(adding(), batch=3, seed=0))
    >>> inputs.shape, targets.shape, bool((lengths >= 100).all())
    ((110, 3, 2), (3,), True)
    """
    check_size("batch", batch)
    check_seed(seed)
    draw, key = jax.jit(task.draw, static_argnums=1), jax.random.key(seed)
    return (draw(jax.random.fold_in(key, step), batch) for step in count())


def check_lag(time_lag: int, least: int) -> None:
    """Requires a time lag that the task can have."""
    check_size("time_lag", time_lag)
    if not least <= time_lag <= LONGEST_LAG:
        raise ValueError(f"time_lag: expected from {least} to {LONGEST_LAG:,}, got {time_lag:,}.")


def at_end(outputs: Float[Array, "T B K"], lengths: Int[Array, " B"]) -> Float[Array, "B K"]:
    """The outputs at each sequence's last step."""
    return jnp.take_along_axis(outputs, (lengths - 1)[None, :, None], axis=0)[0]


def mean_cross_entropy(
    outputs: Float[Array, "T B K"], symbols: Int[Array, "T B"], lengths: Int[Array, " B"]
) -> Float[Array, " B"]:
    """Of the symbol at each step before the length, in nats."""
    losses = jnp.where(before(lengths, len(outputs)), cross_entropy(outputs, symbols), 0)
    return losses.sum(0) / lengths.astype(losses.dtype)


def largest_distance(
    outputs: Float[Array, "*B K"], symbols: Int[Array, "*B"]
) -> Float[Array, "*B"]:
    """How far any probability is from what it should be, 1 of the symbol and 0 of the others."""
    wanted = jax.nn.one_hot(symbols, outputs.shape[-1], dtype=outputs.dtype)
    return jnp.abs(jax.nn.softmax(outputs) - wanted).max(-1)


def margin_of_others(
    outputs: Float[Array, "T B K"], allowed: Bool[Array, "T B K"], lengths: Int[Array, " B"]
) -> Float[Array, " B"]:
    """By how much an output that is not allowed exceeds one that is, at the worst step."""
    highest = jnp.where(allowed, -jnp.inf, outputs).max(-1)
    lowest = jnp.where(allowed, outputs, jnp.inf).min(-1)
    return jnp.where(before(lengths, len(outputs)), highest - lowest, -jnp.inf).max(0)


def before(lengths: Int[Array, " B"], time: int) -> Bool[Array, "T B"]:
    """Which steps lie before the length."""
    return jnp.arange(time)[:, None] < lengths
