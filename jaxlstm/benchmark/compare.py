"""``lstm`` beside its peers at one shape: first the same values, then time in turn."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.benchmark.cost import Program, compile_program, run_in_turn
from jaxlstm.benchmark.peers import JAX_PEERS, LEANER, LSTM, ORACLE, find_peers
from jaxlstm.benchmark.peers.peer import GRADIENT, Peer, Shape, Workload, draw_workload
from jaxlstm.gradient_check.call import first_line

SECONDS_EACH = 2.0
"""Of timing for a program, on average, where the rounds are not given."""
FEWEST_ROUNDS, MOST_ROUNDS = 7, 500
ENQUEUED_SECONDS = 0.05
"""On an accelerator a timing is of as many calls in its queue as fill this time."""
PRODUCT = "one product"
BEST = "the best JAX peer"
Advance = Callable[[float], None]


class Entry(NamedTuple):
    """What one implementation takes for a task.

    Attributes:
        error: of its result, relative, against float64: of the worst leaf, by its largest number.
        seconds: a call, in every round.
        compile_seconds: tracing, lowering and compiling; 0 where nothing is compiled.
        temporary_bytes: of the compiled program; None where the library does not tell.
    """

    error: float
    seconds: tuple[float, ...]
    compile_seconds: float
    temporary_bytes: int | None

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds a call."""
        lower, _, upper = statistics.quantiles(self.seconds, n=4)
        return lower, upper


class Comparison(NamedTuple):
    """The implementations at one task and shape, timed in the same rounds.

    Attributes:
        task: "forward", "gradient" or "step".
        shape: of the sequence, of one step for a step.
        entries: by name.
        left_out: why the others were not timed.
        product_seconds: of [T B, D + H] by [D + H, 4H], all of a forward pass's in one.
    """

    task: str
    shape: Shape
    entries: dict[str, Entry]
    left_out: dict[str, str]
    product_seconds: tuple[float, ...]

    @property
    def ceiling(self) -> float:
        """The product's operations a second."""
        T, B, D, H = self.shape
        return 2 * T * B * (D + H) * 4 * H / statistics.median(self.product_seconds)

    def share(self, name: str) -> float:
        """Of the ceiling: a gradient takes three products like the one that is timed."""
        products = 3 if self.task == GRADIENT else 1
        return products * statistics.median(self.product_seconds) / self.entries[name].median

    def ratio(self, name: str) -> float | None:
        """``lstm``'s median time over another's; None where ``lstm`` was left out."""
        if LSTM not in self.entries:
            return None
        return self.entries[LSTM].median / self.entries[name].median

    def ratio_in_rounds(self, name: str) -> float | None:
        """The median of ``lstm``'s time over another's in the same round."""
        if LSTM not in self.entries:
            return None
        pairs = zip(self.entries[LSTM].seconds, self.entries[name].seconds, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def best(self) -> str | None:
        """The JAX peer of the least median time."""
        timed = [name for name in JAX_PEERS if name in self.entries]
        return min(timed, key=lambda name: self.entries[name].median, default=None)


def compare(
    task: str,
    shape: Shape,
    dtype: str,
    peers: Mapping[str, Peer],
    *,
    rounds: int | None = None,
    advance: Advance = lambda _: None,
) -> Comparison:
    """A task of every peer, compared with float64; those that agree are timed in turn.

    Args:
        task: "forward", "gradient" or "step".
        shape: one step's has a time of 1.
        dtype: of all arguments.
        peers: by name.
        rounds: at least 2; if None, as many as give each program about two seconds.
        advance: told the fraction of the work that was just done.
    """
    workload = draw_workload(shape, dtype)
    expected = _in_float64(task, workload)
    programs, errors, left_out = {}, {}, {}
    if task != GRADIENT:
        peers = {name: peer for name, peer in peers.items() if name not in LEANER}
    for name, peer in peers.items():
        try:
            prepared = peer.prepare(task, workload)
            errors[name] = relative_error(prepared.read(prepared.program.start()), expected)
        except Exception as error:  # what a library refuses is told, whatever it raises
            left_out[name] = f"raised {first_line(error)}"
        else:
            if errors[name] <= _limit(dtype):
                programs[name] = prepared.program
            else:
                left_out[name] = f"differs from the float64 result by {errors[name]:.1e}"
        advance(0.5 / len(peers))
    seconds = _time(programs | {PRODUCT: _product(workload)}, rounds, advance)
    entries = {
        name: Entry(errors[name], seconds[name], one.compile_seconds, one.temporary_bytes)
        for name, one in programs.items()
    }
    return Comparison(task, shape, entries, left_out, seconds[PRODUCT])


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference by the largest number, of the worst leaf; NaN where any is."""

    def error(one: Any, other: Any) -> float:
        one, other = (np.asarray(leaf, np.float64) for leaf in (one, other))
        if one.shape != other.shape:
            raise ValueError(f"expected a result of shape {other.shape}, got {one.shape}.")
        return float(np.abs(one - other).max() / np.abs(other).max())

    return float(np.max(jax.tree.leaves(jax.tree.map(error, found, expected))))


def _limit(dtype: str) -> float:
    """Half of the digits that products keep; on an accelerator float32 ones may keep ten bits."""
    eps = float(jnp.finfo(dtype).eps)
    rounded = dtype == "float32" and jax.default_backend() != "cpu"
    return math.sqrt(2.0**-10 if rounded else eps)


def _in_float64(task: str, workload: Workload) -> Any:
    """The oracle's result on the same numbers."""
    with jax.enable_x64(True):
        workload = jax.tree.map(lambda leaf: leaf.astype("float64"), workload)
        prepared = find_peers([ORACLE])[0][ORACLE].prepare(task, workload)
        return prepared.read(prepared.program.start())


def _product(workload: Workload) -> Program:
    (T, B, D), H = workload.inputs.shape, workload.state.hidden.shape[-1]
    rows = jnp.resize(workload.inputs, (T * B, D + H))
    return compile_program(jnp.matmul, rows, jnp.concatenate(workload.params[:2]))


def _time(
    programs: Mapping[str, Program], rounds: int | None, advance: Advance
) -> dict[str, tuple[float, ...]]:
    """The seconds a call of every program in every round, after two rounds of warm-up."""
    *_, warm = itertools.islice(run_in_turn(programs), 2)
    calls = {name: _calls(seconds) for name, seconds in warm.items()}
    if rounds is None:
        mean = statistics.fmean(calls[name] * seconds for name, seconds in warm.items())
        rounds = min(max(FEWEST_ROUNDS, math.ceil(SECONDS_EACH / mean)), MOST_ROUNDS)
    runs = []
    for run in itertools.islice(run_in_turn(programs, calls), rounds):
        runs.append(run)
        advance(0.5 / rounds)
    return {name: tuple(run[name] for run in runs) for name in programs}


def _calls(seconds: float) -> int:
    on_host = jax.default_backend() == "cpu"
    return 1 if on_host else max(1, math.ceil(ENQUEUED_SECONDS / seconds))


def geometric_means(comparisons: Iterable[Comparison]) -> dict[str, dict[str, dict[str, float]]]:
    """By task and peer: the mean of ``lstm``'s ratios of medians, and over how many shapes."""
    ratios: dict[str, dict[str, list[float]]] = {}
    for one in comparisons:
        found = ratios.setdefault(one.task, {})
        for name, ratio in _ratios(one).items():
            found.setdefault(name, []).append(ratio)
    return {task: {name: _mean(r) for name, r in found.items()} for task, found in ratios.items()}


def _ratios(one: Comparison) -> dict[str, float]:
    others = {name: name for name in one.entries if name != LSTM}
    others |= {BEST: one.best} if one.best else {}
    ratios = {called: one.ratio(name) for called, name in others.items()}
    return {called: ratio for called, ratio in ratios.items() if ratio is not None}


def _mean(ratios: list[float]) -> dict[str, float]:
    return {"ratio": statistics.geometric_mean(ratios), "shapes": len(ratios)}
