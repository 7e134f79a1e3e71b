"""Compiled functions timed in turn, so that they meet the same machine."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

ROUNDS = 15
PAUSE_SECONDS = 0.002
"""Before each timing: a library's threads spin for about a millisecond after their last work."""


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


class Program(NamedTuple):
    """A function with its arguments, ready to run.

    Attributes:
        start: begins a run and returns its results, which may still be on their way.
        wait: until such results are there.
        compile_seconds: tracing, lowering and compiling.
        temporary_bytes: as in ``Cost``; None where the library does not tell.
    """

    start: Callable[[], Any]
    wait: Callable[[Any], Any]
    compile_seconds: float
    temporary_bytes: int | None


def compile_program(function: Callable[..., Any], *args: Any) -> Program:
    """Compiles ``function`` for ``args`` by XLA, ahead of its first run."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes if memory else None
    return Program(lambda: compiled(*args), jax.block_until_ready, seconds, temporary)


def measure_costs(
    functions: Mapping[str, Callable[..., Any]], *args: Any, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """Compiles each function for ``args``, then runs all of them in every round, after a warm-up.

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
    programs = {name: compile_program(function, *args) for name, function in functions.items()}
    runs = list(itertools.islice(run_in_turn(programs), 1, rounds + 1))
    costs = {}
    for name, program in programs.items():
        lower, median, upper = statistics.quantiles((run[name] for run in runs), n=4)
        memory = program.temporary_bytes or 0
        costs[name] = Cost(median, upper - lower, memory, program.compile_seconds)
    return costs


def run_in_turn(
    programs: Mapping[str, Program], calls: Mapping[str, int] | None = None
) -> Iterator[dict[str, float]]:
    """Rounds without end; in each, every program's seconds a call.

    The order changes from round to round: none is always first, nor always behind the same one,
    whose memory and caches it would find.

    Args:
        programs: by name.
        calls: how often each is started before its last results are waited for; once if None.
    """
    for number in itertools.count():
        seconds = {}
        for name in _order(list(programs), number):
            time.sleep(PAUSE_SECONDS)
            seconds[name] = _seconds(programs[name], calls[name] if calls else 1)
        yield seconds


def _order(names: list[str], number: int) -> list[str]:
    """A row of Williams' square (1949): a zigzag, shifted by one from row to row.

    Each name is at each place once in as many rows as there are names and, of an even number of
    names, behind each other name once.
    """
    zigzag = ((k + 1) // 2 * (-1) ** k for k in range(len(names)))
    return [names[(number + shift) % len(names)] for shift in zigzag]


def _seconds(program: Program, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls - 1):
        program.start()
    program.wait(program.start())
    return (time.perf_counter() - start) / calls
