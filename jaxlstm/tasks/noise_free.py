"""Noise-free sequences with a long time lag: remember the first symbol to predict the last.

There are two sequences, equally likely: (x, a_1, ..., a_{p-1}, x) and (y, a_1, ..., a_{p-1}, y). At
every step the next symbol is predicted. Nothing but the first symbol tells the last one.

Source: Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", experiment 2a.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.tasks.task import (
    Batch,
    Criterion,
    Published,
    Task,
    check_lag,
    largest_distance,
    mean_cross_entropy,
)

PUBLISHED = {
    100: Published(
        5_040,
        "mean of 18 trials; logistic outputs; one cell, with an input gate alone, added once the "
        "error no longer falls; 10,000 sequences tested",
    )
}
CRITERION = Criterion(
    "no probability at any step is off by 0.25; 100 draws hold both sequences", 100, 0.25
)


def noise_free(time_lag: int = 100) -> Task:
    """Noise-free long lag.

    Args:
        time_lag: p, the steps of a sequence; the first symbol is predicted at the last one. There
            are p + 1 symbols.

    Raises:
        ValueError, TypeError: a p below 2.
    """
    check_lag(time_lag, 2)
    sizes = (time_lag, time_lag - 1, time_lag + 1, time_lag + 1)
    published = PUBLISHED.get(time_lag)
    draw = partial(_draw, time_lag)
    return Task("noise-free", *sizes, draw, next_symbol_loss, worst_distance, CRITERION, published)


def _draw(time_lag: int, key: Array, batch: int) -> Batch:
    """The symbols in numbers: a_1 to a_{p-1} are 0 to p - 2, then x and y."""
    ends = time_lag - 1 + jax.random.randint(key, (1, batch), 0, 2)
    between = jnp.broadcast_to(jnp.arange(time_lag - 1)[:, None], (time_lag - 1, batch))
    symbols = jnp.concatenate([ends, between, ends])
    inputs = jax.nn.one_hot(symbols[:-1], time_lag + 1, dtype=jnp.float32)
    return Batch(inputs, symbols[1:], jnp.full(batch, time_lag))


def next_symbol_loss(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """The mean cross-entropy over the steps, in nats."""
    return mean_cross_entropy(outputs, batch.targets, batch.lengths)


def worst_distance(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """How far any probability at any step is from 1 or 0."""
    return largest_distance(outputs, batch.targets).max(0)
