"""A backward step written by hand, judged line by line at every time step.

The step is a function from the true quantities of one time step to cotangents by name. Each is
held against autodiff through probes, and is judged as computed from true cotangents, so that a
wrong line is blamed alone and not for what it passes on.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.comparison import BACKWARD_STEP, Comparison, Mismatch, Verdict
from jaxlstm.gradient_check.interpreter import Rounding, interpret_rounding, rounding_of, trace
from jaxlstm.gradient_check.recurrence import (
    Recurrence,
    all_cotangents,
    at,
    check_recurrence,
    complete_cotangents,
    cotangent_name,
    named_leaves,
    rounded,
    step_cotangents,
    unroll,
    value_shapes,
)
from jaxlstm.gradient_check.report import GradientReport
from jaxlstm.gradient_check.rounding import judge
from jaxlstm.gradient_check.traced_step import Step, TracedStep, raised, run_steps, trace_step

PROBES = "autodiff through probes"

DRAWS = 8
CHUNK_BYTES = 64 * 2**20
ARRAYS_AT_ONCE = 4
"""How often a chunk's cotangents are held at the same time, in float64."""

Blocks = Mapping[str, Mapping[str, Any]]


def check_backward_step(
    step: Step,
    recurrence: Recurrence,
    params: Any,
    carry: Any,
    inputs: Any,
    cotangents: Any = None,
    *,
    dtypes: Sequence[Any] = (jnp.float32,),
    blocks: Blocks | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Judges every cotangent that ``step`` returns, at every time step and at all together.

    ``step`` finds in ``q``, by name, the parameters, the values of the forward step, and
    ``"d_" + name`` for every value and parameter, its true cotangent: of a value that at this time
    step, of a parameter this time step's contribution. It returns a dict of any of these
    cotangents, each as it computes it. Those that come into the step are ``"d_" + name`` for the
    names in ``recurrence.incoming``.

    A variable that the step returns is the truth to the lines that use it: each line is judged with
    the true values of the earlier lines, so that a wrong line is blamed alone. What it does not
    return is nobody's: a mistake there shows in the cotangents that use it.

    In each dtype the quantities are rounded to it first: parameters, carry, inputs and incoming
    cotangents. The truth is float64 at these; the yardstick is the larger of autodiff's own error
    in the dtype, and what rounding every single result in it, at random, does to the truth.

    Args:
        step: the backward step under test, a pure function of JAX arrays.
        recurrence: the forward step, its derivative left to autodiff.
        params: a pytree of floating arrays.
        carry: what the first step starts from.
        inputs: a pytree of arrays [T, ...].
        cotangents: of the outputs [T, ...] and of the final carry; drawn if None.
        dtypes: the working dtypes.
        blocks: for a cotangent's name, the indices of its named blocks.
        seed: of what is drawn.
        progress: told what is judged next.

    Returns:
        The report; the comparisons of one time step have ``axis="step"``.

    Raises:
        ValueError: a recurrence or cotangents that do not fit.
    """
    rng = np.random.default_rng(seed)
    if not all(map(len, jax.tree.leaves(inputs))):
        raise ValueError("inputs: expected at least one time step, got none.")
    progress(PROBES)
    with jax.enable_x64(True):
        params, carry, inputs = rounded((params, carry, inputs), np.float64)
        values = value_shapes(recurrence, params, carry, at(inputs, 0))
        cotangents = complete_cotangents(rng, recurrence, params, carry, inputs, cotangents)
        check_recurrence(recurrence, params, carry, inputs, cotangents)
        carries, incoming = unroll(
            recurrence, recurrence.incoming, params, carry, inputs, cotangents
        )
    point = _Point(recurrence, params, (carries, inputs, incoming), values, blocks or {})
    comparisons: list[Comparison] = []
    mismatches: list[Mismatch] = []
    for dtype in map(jnp.dtype, dtypes):
        progress(f"{BACKWARD_STEP}, {dtype.name}")
        found = _judge_in(step, point, dtype, rng)
        comparisons += found[0]
        mismatches += found[1]
    return GradientReport(tuple(comparisons), tuple(mismatches))


class _Point(NamedTuple):
    """Where a step is judged: the parameters, and what enters every time step [T, ...]."""

    recurrence: Recurrence
    params: Any
    steps: Any
    values: dict[str, jax.ShapeDtypeStruct]
    blocks: Blocks

    @property
    def time(self) -> int:
        return len(jax.tree.leaves(self.steps)[0])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of parameters and values."""
        return {n: leaf.shape for n, leaf in {**named_leaves(self.params), **self.values}.items()}

    def parts(self) -> dict[str, dict[str | None, Any]]:
        """For each cotangent its parts, None for the whole, as positions in it flattened."""

        def parts(name: str, shape: tuple[int, ...]) -> dict[str | None, Any]:
            everywhere = np.arange(math.prod(shape)).reshape(shape)
            named = self.blocks.get(name, {}).items()
            return {None: None, **{block: everywhere[index].ravel() for block, index in named}}

        names = {cotangent_name(name): shape for name, shape in self.shapes().items()}
        return {name: parts(name, shape) for name, shape in names.items()}

    def chunks(self) -> Iterator[slice]:
        """Stretches of time of one length, so short that they fit; the last may overlap."""
        step_bytes = 8 * ARRAYS_AT_ONCE * sum(map(math.prod, self.shapes().values()))
        fitting = max(1, CHUNK_BYTES // max(1, step_bytes))
        length = -(-self.time // -(-self.time // fitting))
        for start in range(0, self.time, length):
            yield slice(min(start, self.time - length), min(start + length, self.time))


class _Distances(NamedTuple):
    """Norms of one cotangent and of differences from it.

    Attributes:
        truth: [parts, T].
        rounding: what rounding does, [draws, parts, T].
        step: of the step under test, [readings, parts, T].
    """

    truth: Any
    rounding: Any
    step: Any


def _judge_in(
    step: Step, point: _Point, dtype: Any, rng: np.random.Generator
) -> tuple[list[Comparison], list[Mismatch]]:
    """Judges the step in one dtype."""
    known = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in point.shapes().items()}
    expected = {cotangent_name(name): shape for name, shape in known.items()}
    with _mode(dtype):
        traced, mismatches = trace_step(step, {**known, **expected}, expected, dtype.name)
    if traced is None:
        return [], mismatches
    salts = rng.integers(0, 2**64, DRAWS, dtype=np.uint64)
    try:
        measured = _measure(traced, point, dtype, salts)
    except _StepError as error:
        return [], [*mismatches, Mismatch("raises", dtype.name, str(error))]
    comparisons: list[Comparison] = []
    for name in (name for name in expected if name in traced.judged):
        distances = _likeliest_reading(measured[name])
        mismatches += _not_finite(name, dtype, distances)
        comparisons += _compare(name, list(point.parts()[name]), dtype, distances)
    return comparisons, mismatches


def _mode(dtype: Any) -> Any:
    """64-bit mode for float64, else the caller's own."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


class _StepError(Exception):
    """What the step under test raised while it ran."""


def _measure(
    traced: TracedStep, point: _Point, dtype: Any, salts: ndarray
) -> dict[str, _Distances]:
    """The distances of every judged cotangent, chunk by chunk."""
    joined: Any = None
    for chunk in point.chunks():
        found = _measure_chunk(traced, point, at(point.steps, chunk), dtype, salts)
        if joined is None:
            joined = jax.tree.map(lambda leaf: np.empty((*leaf.shape[:-1], point.time)), found)
        for whole, part in zip(jax.tree.leaves(joined), jax.tree.leaves(found), strict=True):
            whole[..., chunk] = part
    return joined


def _measure_chunk(
    traced: TracedStep, point: _Point, steps: Any, dtype: Any, salts: ndarray
) -> dict[str, _Distances]:
    params, steps = rounded((point.params, steps), dtype)
    exact = rounded((params, steps), np.float64)
    parts = {name: list(parts.values()) for name, parts in point.parts().items()}
    with jax.enable_x64(True):
        values, truth = all_cotangents(point.recurrence, *exact)
        trusted = rounded(all_cotangents(point.recurrence, params, steps)[1], np.float64)
        error = _distances(trusted, truth, parts)
        size = _distances(truth, jax.tree.map(np.zeros_like, truth), parts)
        rounding = _rounding_distances(
            point.recurrence, rounding_of(dtype), *exact, truth, parts, salts
        )
    values, true = rounded((values, truth), dtype)
    with _mode(dtype):
        found = _run_readings(traced, named_leaves(params), {**values, **true}, true)
    with jax.enable_x64(True):
        own = [_distances(cotangents, truth, parts) for cotangents in found]
    return {
        name: _Distances(
            truth=np.asarray(size[name]),
            rounding=np.concatenate([error[name][None], rounding[name]]),
            step=np.stack([norms[name] for norms in own]),
        )
        for name in traced.judged
    }


def _run_readings(
    traced: TracedStep, params: Any, values: Any, true: Mapping[str, Any]
) -> list[dict[str, ndarray]]:
    """What the step returns in each of its readings."""
    try:
        return [
            jax.tree.map(
                lambda leaf: np.asarray(leaf).astype(np.float64),
                run_steps(traced, params, values, [name and true[name] for name in reading]),
            )
            for reading in traced.readings()
        ]
    except Exception as error:
        raise _StepError(raised(error)) from error


@partial(jax.jit, static_argnums=0)
def _rounding_distances(
    recurrence: Recurrence,
    rounding: Rounding,
    params: Any,
    steps: Any,
    truth: Any,
    parts: Any,
    salts: Any,
) -> dict[str, Any]:
    """How far rounding every single result takes the cotangents, norms [draws, parts, t]."""
    closed = trace(lambda *step: step_cotangents(recurrence, *step)[1], params, *at(steps, 0))

    def one_step(salt: Any, *step: Any) -> dict[str, Any]:
        leaves = interpret_rounding(closed, jax.tree.leaves((params, *step)), rounding, salt)
        return dict(zip(sorted(truth), leaves, strict=True))

    def draw(salt: Any) -> dict[str, Any]:
        return _distances(jax.vmap(partial(one_step, salt))(*steps), truth, parts)

    return jax.lax.map(draw, salts)


@jax.jit
def _distances(cotangents: Any, truth: Any, parts: Any) -> dict[str, Any]:
    """The norms [parts, t] of the cotangents' differences from the truth."""

    def norms(name: str) -> Any:
        difference = cotangents[name] - truth[name]
        rows = difference.reshape(len(difference), -1)
        return jnp.stack([_norm(rows if part is None else rows[:, part]) for part in parts[name]])

    return {name: norms(name) for name in cotangents}


def _norm(rows: Any) -> Any:
    """The norms along the last axis, scaled by the largest magnitude, so that none underflows."""
    largest = abs(rows).max(-1, initial=0.0)
    scale = jnp.where(largest == 0, 1.0, largest)
    return scale * jnp.sqrt(((rows / scale[..., None]) ** 2).sum(-1))


def _likeliest_reading(distances: _Distances) -> _Distances:
    """The distances in the reading that is closest to the truth."""
    overall = [_over_time(reading[0]) for reading in distances.step]
    best = int(np.argmin(np.where(np.isnan(overall), np.inf, overall)))
    return distances._replace(step=distances.step[best])


def _over_time(norms: ndarray) -> Any:
    """The norm over all time steps [..., T] together."""
    scale = norms.max(-1, keepdims=True)
    scale = np.where((scale == 0) | ~np.isfinite(scale), 1.0, scale)
    return scale[..., 0] * np.linalg.norm(norms / scale, axis=-1)


def _not_finite(name: str, dtype: Any, distances: _Distances) -> list[Mismatch]:
    """A mismatch where the step is not finite and the truth is."""
    wrong = np.isfinite(distances.truth[0]) & ~np.isfinite(distances.step[0])
    if not wrong.any():
        return []
    steps = ", ".join(map(str, np.flatnonzero(wrong)[:8]))
    words = f"{name}: not finite at {wrong.sum()} of {wrong.size} steps: {steps}"
    return [Mismatch("not finite", dtype.name, words + (", ..." if wrong.sum() > 8 else "."))]


def _compare(
    name: str, blocks: list[str | None], dtype: Any, distances: _Distances
) -> list[Comparison]:
    """One cotangent's comparisons: all of it, its blocks over all steps, each step."""
    describe = partial(Comparison, BACKWARD_STEP, PROBES, BACKWARD_STEP, dtype.name, name)
    truth, rounding, own = distances
    overall = [
        describe(block, *_judged(_over_time(truth[n]), _over_time(rounding[:, n]), total, dtype))
        for n, (block, total) in enumerate(zip(blocks, _over_time(own), strict=True))
    ]
    steps = [
        describe(
            f"step {t}", *_judged(truth[0, t], rounding[:, 0, t], error, dtype), None, "step", t
        )
        for t, error in enumerate(own[0])
    ]
    return overall + steps


def _judged(
    truth: float, rounding: ndarray, own: float, dtype: Any
) -> tuple[float, float | None, Verdict]:
    """Relative error, rounding ratio and verdict, from norms.

    A zero that rounding makes (1 - tanh of a large number squared) is no zero to be met exactly.
    """
    if not np.isfinite(truth):
        return float("nan"), None, "unresolved"
    error, *yards = (_relative(float(distance), float(truth)) for distance in (own, *rounding))
    nonzero = truth > 0 or (error > 0 and max(yards) > 0)
    return error, *judge(error, max(yards), bool(nonzero), dtype)


def _relative(distance: float, truth: float) -> float:
    if math.isnan(distance):
        return math.inf
    if truth == 0:
        return math.inf if distance > 0 else 0.0
    return distance / truth
