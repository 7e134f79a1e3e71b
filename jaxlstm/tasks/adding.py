"""The adding problem: two marked numbers of a long sequence, and their sum at its end.

A step is a number in [-1, 1] and a marker: 1 at two steps, -1 at the first and the last step, else
0. One marked step is among the first ten, the other one of the first T/2 - 1 that are left. The
target is 0.5 + (X_1 + X_2) / 4; a mark that falls on the first step counts as X = 0.

Source: Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", experiment 4.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.tasks.task import Batch, Criterion, Published, Task, at_end, check_lag

OTHERWISE = (
    "mean of 10 trials; 2 blocks of 2 cells, 93 weights, a logistic output; the 2,000 sequences "
    "without an error are part of the number"
)
PUBLISHED = {
    time_lag: Published(sequences, OTHERWISE)
    for time_lag, sequences in ((100, 74_000), (500, 209_000), (1000, 853_000))
}
CRITERION = Criterion(
    "the last output is off by less than 0.04 in all of 2,000 sequences", 2000, 0.04
)
"""That of 1997 also asks for a mean error below 0.01, which squared errors below 0.04^2 are."""


def adding(time_lag: int = 100) -> Task:
    """The adding problem.

    Args:
        time_lag: T, the shortest length; the longest is T + T/10. The shortest lag is T/2.

    Raises:
        ValueError, TypeError: a T below 20.
    """
    check_lag(time_lag, 20)
    draw = partial(_draw, time_lag)
    sizes = (time_lag, time_lag // 2, 2, 1)
    published = PUBLISHED.get(time_lag)
    return Task("adding", *sizes, draw, squared_error, absolute_error, CRITERION, published)


def _draw(time_lag: int, key: Array, batch: int) -> Batch:
    longest = time_lag + time_lag // 10
    of_length, of_first, of_second, of_numbers = jax.random.split(key, 4)
    lengths = jax.random.randint(of_length, (batch,), time_lag, longest + 1)
    first = jax.random.randint(of_first, (batch,), 0, 10)
    second = jax.random.randint(of_second, (batch,), 0, time_lag // 2 - 1)
    second += (second >= first).astype(int)  # of those that are left
    steps = jnp.arange(longest)[:, None]
    marked = jnp.where((steps == first) | (steps == second), 1.0, 0.0)
    markers = jnp.where((steps == 0) | (steps == lengths - 1), -1.0, marked)
    numbers = jax.random.uniform(of_numbers, (longest, batch), minval=-1.0)
    targets = 0.5 + jnp.where(markers == 1, numbers, 0).sum(0) / 4
    return Batch(jnp.stack([numbers, markers], axis=-1), targets, lengths)


def squared_error(outputs: Float[Array, "T B 1"], batch: Batch) -> Float[Array, " B"]:
    """Of the output at the last step."""
    return jnp.square(absolute_error(outputs, batch))


def absolute_error(outputs: Float[Array, "T B 1"], batch: Batch) -> Float[Array, " B"]:
    """Of the output at the last step."""
    return jnp.abs(at_end(outputs, batch.lengths)[:, 0] - batch.targets)
