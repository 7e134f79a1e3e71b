"""Compiled functions timed in turn, so that they meet the same machine."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

ROUNDS = 15


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one compiled function costs.

    Attributes:
        median_seconds: of its runs, taken in turn with the others'.
        spread_seconds: between the quartiles of its runs.
        temporary_bytes: memory that the compiled program takes beside its arguments and results.
        compile_seconds: tracing, lowering and compiling.
    """

    median_seconds: float
    spread_seconds: float
    temporary_bytes: int
    compile_seconds: float


def measure_costs(
    functions: Mapping[str, Callable[..., Any]], *args: Any, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """Compiles each function for ``args``, then runs all of them in every round, after a warm-up.

    The order changes from round to round: none is always first, nor always behind the same one,
    whose memory and caches it would find.

    Args:
        functions: by name.
        args: what each is called with.
        rounds: at least 2.

    Raises:
        ValueError: fewer rounds.

    >>> import jax.numpy as jnp
    >>> from jaxlstm.benchmark import measure_costs
    >>> costs = measure_costs({"sine": jnp.sin, "cosine": jnp.cos}, jnp.ones(3), rounds=2)
    >>> list(costs), costs["sine"].median_seconds > 0
    (['sine', 'cosine'], True)
    """
    if rounds < 2:
        raise ValueError(f"rounds: expected at least 2, got {rounds}.")
    compiled, compile_seconds = {}, {}
    for name, function in functions.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        compile_seconds[name] = time.perf_counter() - start
    orders = (_order(list(compiled), number) for number in range(rounds + 1))
    runs = [{name: _seconds(compiled[name], args) for name in order} for order in orders]
    costs = {}
    for name, run in compiled.items():
        lower, median, upper = statistics.quantiles((r[name] for r in runs[1:]), n=4)
        memory = run.memory_analysis().temp_size_in_bytes
        costs[name] = Cost(median, upper - lower, memory, compile_seconds[name])
    return costs


def _order(names: list[str], number: int) -> list[str]:
    """A row of Williams' square (1949): a zigzag, shifted by one from row to row.

    Each name is at each place once in as many rows as there are names and, of an even number of
    names, behind each other name once.
    """
    zigzag = ((k + 1) // 2 * (-1) ** k for k in range(len(names)))
    return [names[(number + shift) % len(names)] for shift in zigzag]


def _seconds(run: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start
