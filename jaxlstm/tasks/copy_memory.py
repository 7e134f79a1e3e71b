"""Copy memory: ten symbols, a long silence, a signal, and the ten symbols again.

The T + 20 inputs: ten symbols drawn from eight, T - 1 blanks, the signal, ten blanks. The targets:
T + 10 blanks, then the ten symbols in their order. Who remembers nothing can predict the blanks and
guess the rest, with a cross-entropy of 10 ln 8 / (T + 20) nats a step.

Source: Hochreiter and Schmidhuber (1997) as posed by Arjovsky, Shah and Bengio (2016), "Unitary
evolution recurrent neural networks". There is no published criterion; this one is ours.
"""

from functools import partial
from math import log

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxlstm.tasks.task import (
    Batch,
    Criterion,
    Task,
    check_lag,
    margin_of_others,
    mean_cross_entropy,
)

COPIED, LETTERS = 10, 8
BLANK, SIGNAL = LETTERS, LETTERS + 1


def copy_memory(time_lag: int = 10) -> Task:
    """Copy memory.

    Args:
        time_lag: T; each symbol is copied T + 10 steps after it was read.

    Raises:
        ValueError, TypeError: a T below 1.
    """
    check_lag(time_lag, 1)
    criterion = Criterion(
        "the right symbol is the likeliest at every step of all of 100 sequences, and the mean "
        "cross-entropy is below a tenth of chance",
        *(100, 0.0, chance(time_lag) / 10),
    )
    draw = partial(_draw, time_lag)
    sizes = (time_lag, time_lag + COPIED, LETTERS + 2, LETTERS + 1)
    return Task("copy", *sizes, draw, copy_loss, copy_margin, criterion)


def chance(time_lag: int) -> float:
    """The mean cross-entropy of who remembers nothing, in nats a step.

    >>> f"{chance(100):.4f}"
    '0.1733'
    """
    return COPIED * log(LETTERS) / (time_lag + 2 * COPIED)


def _draw(time_lag: int, key: Array, batch: int) -> Batch:
    def blanks(steps: int) -> Int[Array, "steps batch"]:
        return jnp.full((steps, batch), BLANK)

    copied = jax.random.randint(key, (COPIED, batch), 0, LETTERS)
    signal = jnp.full((1, batch), SIGNAL)
    symbols = jnp.concatenate([copied, blanks(time_lag - 1), signal, blanks(COPIED)])
    targets = jnp.concatenate([blanks(time_lag + COPIED), copied])
    inputs = jax.nn.one_hot(symbols, LETTERS + 2, dtype=jnp.float32)
    return Batch(inputs, targets, jnp.full(batch, len(targets)))


def copy_loss(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """The mean cross-entropy over the steps, in nats."""
    return mean_cross_entropy(outputs, batch.targets, batch.lengths)


def copy_margin(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """By how much a wrong symbol exceeds the right one at the worst step."""
    right = jax.nn.one_hot(batch.targets, LETTERS + 1, dtype=bool)
    return margin_of_others(outputs, right, batch.lengths)
