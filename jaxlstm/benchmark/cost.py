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
    """Compiles each function for ``args``, then runs them A B A B, a warm-up and ``rounds`` rounds.

    Args:
        functions: by name.
        args: what each is called with.
        rounds: at least 2.
    """
    compiled, compile_seconds = {}, {}
    for name, function in functions.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        compile_seconds[name] = time.perf_counter() - start
    runs = [
        {name: _seconds(run, args) for name, run in compiled.items()} for _ in range(rounds + 1)
    ]
    costs = {}
    for name, run in compiled.items():
        lower, median, upper = statistics.quantiles((r[name] for r in runs[1:]), n=4)
        memory = run.memory_analysis().temp_size_in_bytes
        costs[name] = Cost(median, upper - lower, memory, compile_seconds[name])
    return costs


def _seconds(run: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start
