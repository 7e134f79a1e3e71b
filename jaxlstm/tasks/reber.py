"""The embedded Reber grammar: predict every next symbol of a string.

A string is B, then T or P, a string of the Reber grammar, the same T or P, E. The Reber grammar:

    0 -B-> 1    1 -T-> 2    2 -S-> 2    3 -T-> 3    4 -X-> 3    5 -P-> 4    6 -E-> end
                1 -P-> 3    2 -X-> 4    3 -V-> 5    4 -S-> 6    5 -V-> 6

Of two arcs each is taken half of the time. The second symbol must be remembered to predict the last
but one.

Source: Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", experiment 1; the grammar is
that of Cleeremans, Servan-Schreiber and McClelland (1989).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlstm.tasks.task import (
    Batch,
    Criterion,
    Published,
    Task,
    check_lag,
    margin_of_others,
    mean_cross_entropy,
)

SYMBOLS = "BTPSXVE"
ARCS = ("BB", "TP", "SX", "TV", "XS", "PV", "EE", "TP", "EE", "BB")
"""The symbols of the two arcs of each state, or of its one arc twice. After the inner E comes state
7, the outer T or P; then 8, the outer E; 9 is past the end."""
NEXT = ((1, 1), (2, 3), (2, 4), (3, 5), (3, 6), (4, 6), (7, 7), (8, 8), (9, 9), (9, 9))
OUTER, PAST = 7, 9
EXITS = (4, 5)
"""The states whose second arc leads out of the inner loops."""
LONGEST = 6
"""Lags; one string in some thousands is longer, and cut off there."""
SHORTEST = 6
"""Symbols from the second to the last but one, at least."""
PUBLISHED = Published(
    8_440,
    "mean of 30 trials of the best of five set-ups, the others 9,500 to 39,740; 3 blocks of 2 "
    "cells, 276 weights, logistic outputs; 256 strings to train on, drawn again and again, and 256 "
    "to test; RTRL of recurrent networks learned it in some of the trials",
)
CRITERION = Criterion(
    "every symbol that may come next is rated above every other, at each step of 512 strings",
    *(512, 0.0),
)


class NextSymbols(NamedTuple):
    """What comes next at every step, and what might have come.

    Attributes:
        symbols: int32 [T, B], places in ``SYMBOLS``.
        allowed: [T, B, 7], which symbols the grammar allows: one or two.
    """

    symbols: Int[Array, "T B"]
    allowed: Bool[Array, "T B 7"]


def reber(time_lag: int = SHORTEST) -> Task:
    """The embedded Reber grammar.

    Args:
        time_lag: 6 for the grammar as published. Above it, the arcs that lead out of the inner
            loops are taken with the probability 3 / time_lag, for longer strings: 41 symbols in
            the mean with 50, where it is 12 with 6. Short ones remain possible.

    Raises:
        ValueError, TypeError: a lag below 6.
    """
    check_lag(time_lag, SHORTEST)
    sizes = (time_lag, SHORTEST - 1, len(SYMBOLS), len(SYMBOLS))
    published = PUBLISHED if time_lag == SHORTEST else None
    draw = partial(_draw, time_lag)
    return Task("reber", *sizes, draw, next_symbol_loss, margin_of_illegal, CRITERION, published)


def _draw(time_lag: int, key: Array, batch: int) -> Batch:
    of_outer, of_arcs = jax.random.split(key)
    outer = _places("TP")[jax.random.randint(of_outer, (1, batch), 0, 2)]
    uniform = jax.random.uniform(of_arcs, (LONGEST * time_lag, batch))
    states, arcs = _walk(3 / time_lag, uniform)
    symbols, others = (
        jnp.where(states == OUTER, outer, jnp.array([*map(_places, ARCS)])[states, arc])
        for arc in (arcs, 1 - arcs)
    )
    B, T, P = (jnp.full_like(outer, place) for place in _places("BTP"))
    symbols = jnp.concatenate([B, outer, symbols])
    others = jnp.concatenate([B, T + P - outer, others])
    one_hot = partial(jax.nn.one_hot, num_classes=len(SYMBOLS))
    allowed = one_hot(symbols, dtype=bool) | one_hot(others, dtype=bool)
    lengths = 1 + (states < PAST).sum(0)
    inputs = one_hot(symbols[:-1], dtype=jnp.float32)
    return Batch(inputs, NextSymbols(symbols[1:], allowed[1:]), lengths)


def _places(symbols: str) -> Int[Array, " N"]:
    return jnp.array([SYMBOLS.index(symbol) for symbol in symbols])


def _walk(
    leaving: float, uniform: Float[Array, "T B"]
) -> tuple[Int[Array, "T B"], Int[Array, "T B"]]:
    """The states after the outer T or P, and the arc taken from each: 0 or 1."""
    second = jnp.full(len(NEXT), 0.5).at[jnp.array(EXITS)].set(leaving)

    def body(state: Array, uniform_t: Array) -> tuple[Array, tuple[Array, Array]]:
        arc = (uniform_t < second[state]).astype(int)
        return jnp.array(NEXT)[state, arc], (state, arc)

    _, walked = jax.lax.scan(body, jnp.zeros(uniform.shape[1:], int), uniform)
    return walked


def next_symbol_loss(outputs: Float[Array, "T B 7"], batch: Batch) -> Float[Array, " B"]:
    """The mean cross-entropy over the steps, in nats."""
    return mean_cross_entropy(outputs, batch.targets.symbols, batch.lengths)


def margin_of_illegal(outputs: Float[Array, "T B 7"], batch: Batch) -> Float[Array, " B"]:
    """By how much a symbol that may not come next exceeds one that may, at the worst step."""
    return margin_of_others(outputs, batch.targets.allowed, batch.lengths)
