"""Temporal order: which of X and Y came at two or three far places, told at the sequence's end.

A sequence begins with E and ends with B; between them stand the letters a, b, c and d at random,
but at two or three places X or Y. With T = 100 the first place is drawn from 10 to 20 and the
second from 50 to 60; of three, from 10 to 20, 33 to 43 and 66 to 76. The class, one of four or
eight, is which symbols stand there, in their order.

Source: Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", experiments 6a and 6b.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.readout import cross_entropy
from jaxlstm.tasks.task import (
    Batch,
    Criterion,
    Published,
    Task,
    at_end,
    check_lag,
    largest_distance,
)

SYMBOLS = "abcdXYEB"
PLACES = {2: (10, 50), 3: (10, 33, 66)}
"""In hundredths of T: where each place's range begins; it is T/10 long."""
OTHERWISE = (
    "mean of {} trials; {} blocks of 2 cells, {} weights, logistic outputs and the squared error; "
    "the 2,000 sequences without an error are part of the number"
)
PUBLISHED = {
    (2, 100): Published(31_390, OTHERWISE.format(20, 2, 156)),
    (3, 100): Published(571_100, OTHERWISE.format(10, 3, 308)),
}
CRITERION = Criterion(
    "no probability of the last output is off by 0.3 in all of 2,000 sequences, "
    "and the mean loss is below 0.1",
    *(2000, 0.3, 0.1),
)


def temporal_order(time_lag: int = 100, *, symbols: int = 2) -> Task:
    """Temporal order.

    Args:
        time_lag: T, the shortest length; the longest is T + T/10.
        symbols: how many X or Y, 2 or 3.

    Raises:
        ValueError, TypeError: a T below 20, another number of symbols.
    """
    check_lag(time_lag, 20)
    if symbols not in PLACES:
        raise ValueError(f"symbols: expected 2 or 3, got {symbols!r}.")
    name = "temporal-order" if symbols == 2 else "temporal-order-3"
    places = PLACES[symbols]
    last = time_lag * places[-1] // 100 + time_lag // 10
    sizes = (time_lag, time_lag - 1 - last, len(SYMBOLS), 2**symbols)
    draw = partial(_draw, time_lag, places)
    published = PUBLISHED.get((symbols, time_lag))
    return Task(name, *sizes, draw, last_cross_entropy, last_distance, CRITERION, published)


def _draw(time_lag: int, places: tuple[int, ...], key: Array, batch: int) -> Batch:
    spread = time_lag // 10
    longest, starts = time_lag + spread, time_lag * jnp.array(places) // 100
    of_length, of_place, of_symbol, of_letter = jax.random.split(key, 4)
    lengths = jax.random.randint(of_length, (batch,), time_lag, longest + 1)
    drawn = (len(places), batch)
    where = starts[:, None] + jax.random.randint(of_place, drawn, 0, spread + 1)
    is_y = jax.random.randint(of_symbol, drawn, 0, 2)
    letters = jax.random.randint(of_letter, (longest, batch), 0, SYMBOLS.index("X"))
    symbols = letters.at[where, jnp.arange(batch)].set(SYMBOLS.index("X") + is_y)
    symbols = symbols.at[0].set(SYMBOLS.index("E"))
    symbols = symbols.at[lengths - 1, jnp.arange(batch)].set(SYMBOLS.index("B"))
    classes = 2 ** jnp.arange(len(places))[::-1] @ is_y
    return Batch(jax.nn.one_hot(symbols, len(SYMBOLS), dtype=jnp.float32), classes, lengths)


def last_cross_entropy(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """Of the class at the last step, in nats."""
    return cross_entropy(at_end(outputs, batch.lengths), batch.targets)


def last_distance(outputs: Float[Array, "T B K"], batch: Batch) -> Float[Array, " B"]:
    """How far any class's probability at the last step is from 1 or 0."""
    return largest_distance(at_end(outputs, batch.lengths), batch.targets)
