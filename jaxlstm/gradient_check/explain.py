"""Fits a catalogue's hypotheses to a wrong gradient."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point, first_line, is_floating, traced
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.comparison import RATIO_LIMIT
from jaxlstm.gradient_check.hypotheses import Catalogue, Explanation, Hypothesis
from jaxlstm.gradient_check.modes import reverse, trust
from jaxlstm.gradient_check.parts import Axes, Blocks

CHUNK = 16
"""Gradients, each of one hypothesis under one set of cotangents, that are computed at once."""

LONG_LIST, SHORT_LIST = 24, 8
"""Hypotheses that are held against all the evidence, and those that are fitted closely."""

ROUNDS = 4
START = {"scale": -0.3, "replace": 1.0}
"""The first amounts: of a scale one between all, and so little that its effect is proportional."""

LARGEST_AMOUNT = 4.0
CLOSE = 1e-6
"""The share of an error that a reproduced gradient may leave over."""

SHOWN = 5
SMALL = 0.1
"""A share of the error; of those that reproduce nothing, what explains less is left out."""


class Evidence(NamedTuple):
    """The candidate's error under several sets of cotangents, leaves [sets, ...] in float64.

    Attributes:
        point: rounded to the dtype in which the candidate ran; in float64 where it is that, else
            in float32.
        sets: cotangents of the outputs' leaves.
        truth: the right gradient.
        error: the candidate's less that.
        noise: for each leaf [sets], the norm that rounding alone gives it.
        weights: for each leaf [sets], what makes all leaves and sets count alike.
        limits: for every part [sets, parts], the norm above which it is wrong.
    """

    point: Point
    sets: list[ndarray]
    truth: list[ndarray]
    error: list[ndarray]
    noise: list[ndarray]
    weights: list[ndarray]
    limits: ndarray

    def of(self, sets: range) -> "Evidence":
        """Some of the sets alone."""
        some = slice(sets.start, sets.stop)
        lists = ("sets", "truth", "error", "noise", "weights")
        fewer = {name: [leaf[some] for leaf in getattr(self, name)] for name in lists}
        return self._replace(**fewer, limits=self.limits[some])


class Fit(NamedTuple):
    """One hypothesis at one amount.

    Attributes:
        hypothesis: which.
        amount: how much of it.
        left: the share of the error that it leaves over.
        alike: the share that it would explain if its effect were proportional to the amount.
        next_amount: the amount at which it would.
        pattern: how far it reaches the places that are wrong and no others.
        reproduces: whether it leaves rounding alone.
    """

    hypothesis: Hypothesis
    amount: float
    left: float
    alike: float
    next_amount: float
    pattern: float
    reproduces: bool

    @property
    def promise(self) -> float:
        """A key that sorts from bad to good before the amount is fitted."""
        return self.alike + self.pattern

    @property
    def score(self) -> tuple[bool, float]:
        """A key that sorts from bad to good."""
        return self.reproduces, round(max(0.0, 1 - self.left) + self.pattern, 3)


def explain(
    catalogue: Catalogue,
    tested: Candidate,
    point: Point,
    blocks: Blocks,
    axes: Axes,
    dtype: Any,
) -> list[Explanation]:
    """The likeliest explanations of the candidate's gradient, the best first.

    The evidence is the gradient under all cotangents together, each output's alone, and, of outputs
    with named axes, the first and the last index alone: the first step's knows no recursion.

    Args:
        catalogue: the hypotheses.
        tested: the function whose gradient is wrong.
        point: where.
        blocks: the named blocks of the arguments.
        axes: the named axes of arguments and outputs.
        dtype: the working dtype.
    """
    evidence = _gather(tested, point, blocks, axes, dtype)
    judge = partial(_fits, catalogue, evidence, blocks, axes)
    everything = range(len(evidence.sets[0]))
    worst = int(np.argmax(_norms(_weighted(evidence.error, evidence))))
    best = judge([(h, START[h.kind]) for h in catalogue.hypotheses], range(worst, worst + 1))
    best = sorted(best, key=lambda fit: fit.alike, reverse=True)[:LONG_LIST]
    best = sorted(judge(_next(best), everything), key=lambda fit: fit.promise, reverse=True)
    best = best[:SHORT_LIST]
    for _ in range(ROUNDS):
        best = _better(best, judge(_next(best), everything))
        best = _snapped(best, judge([(fit.hypothesis, _round(fit)) for fit in best], everything))
        if any(fit.reproduces for fit in best):
            break
    return [_explanation(fit) for fit in _worth_telling(best)]


def _worth_telling(fits: Sequence[Fit]) -> list[Fit]:
    """Those that reproduce the gradient; where none does the nearest, the best one always."""
    best, *others = sorted(fits, key=lambda fit: fit.score, reverse=True)
    if best.reproduces:
        return [best, *(fit for fit in others if fit.reproduces)][:SHOWN]
    return [best, *(fit for fit in others if 1 - fit.left >= SMALL)][:SHOWN]


def check_catalogue(catalogue: Catalogue, point: Point) -> None:
    """Requires hypotheses about a function with the point's arguments and outputs.

    Raises:
        ValueError: their gradient is not like the floating arguments.
    """
    expected = [leaf.shape for leaf in point.floats]
    try:
        shapes = traced.eval_shape(point.call, point.floats, point.others)
        args = point.call.treedef.unflatten(_merged(point))
        cotangents = _like_outputs(shapes, point.cotangents)
        gradient = catalogue.gradient
        found = jax.eval_shape(gradient, catalogue.hypotheses[0].change, args, cotangents)
        came = f"got {[leaf.shape for leaf in jax.tree.leaves(found)]}"
    except Exception as error:
        found, came = None, f"it raised {first_line(error)}"
    if [leaf.shape for leaf in jax.tree.leaves(found)] != expected:
        raise ValueError(f"hypotheses: expected a gradient of the shapes {expected}, {came}.")


def _next(fits: Sequence[Fit]) -> list[tuple[Hypothesis, float]]:
    return [(fit.hypothesis, fit.next_amount) for fit in fits]


def _better(old: Sequence[Fit], new: Sequence[Fit]) -> list[Fit]:
    return [b if b.left < a.left else a for a, b in zip(old, new, strict=True)]


def _snapped(old: Sequence[Fit], round_ones: Sequence[Fit]) -> list[Fit]:
    """A round amount in place of a fitted one where it explains as much."""
    return [
        b if b.reproduces or b.left <= 1.001 * a.left else a
        for a, b in zip(old, round_ones, strict=True)
    ]


def _round(fit: Fit) -> float:
    near = [amount for amount in (-2.0, -1.0, 1.0) if abs(fit.amount - amount) < 0.05]
    return near[0] if near else float(f"{fit.amount:.2g}")


def _explanation(fit: Fit) -> Explanation:
    return Explanation(
        fit.hypothesis.equation,
        fit.hypothesis.told(fit.amount),
        fit.amount,
        fit.reproduces,
        max(0.0, 1 - fit.left),
        fit.pattern,
    )


def _gather(tested: Candidate, point: Point, blocks: Blocks, axes: Axes, dtype: Any) -> Evidence:
    sets = probing_sets(point, axes)
    at = point.rounded(dtype)
    in_dtype = [np.asarray(leaf).astype(dtype) for leaf in sets]
    with jax.enable_x64(jnp.dtype(dtype) == np.float64):
        found = tested.gradients(at, in_dtype)
    with jax.enable_x64(True):
        trusted = trust(reverse, point.call, at.floats, at.others, in_dtype, dtype, seed=0)
    wide = np.float64 if dtype == np.float64 else np.float32
    error = [one - truth for one, truth in zip(found, trusted.truth, strict=True)]
    moved = [r - truth for r, truth in zip(trusted.rounded, trusted.truth, strict=True)]
    size = [_norms(leaf) for leaf in trusted.truth]
    noise = [
        np.max(list(map(_norms, m)), 0) * np.maximum(1, _ratio(_norms(one), s))
        for m, one, s in zip(moved, found, size, strict=True)
    ]
    limits = np.max(
        [_part_norms(list(draw), point, blocks, axes) for draw in zip(*moved, strict=True)], 0
    )
    weights = [1 / np.where(s > 0, s, s.max(initial=0.0) or 1.0) for s in size]
    return Evidence(
        at.rounded(wide),
        [leaf.astype(wide) for leaf in in_dtype],
        trusted.truth,
        error,
        noise,
        weights,
        RATIO_LIMIT * limits,
    )


def probing_sets(point: Point, axes: Axes) -> list[ndarray]:
    """All cotangents, each leaf's alone, and single indices of the outputs' named axes."""
    zeros = [np.zeros_like(c) for c in point.cotangents]
    rows = [point.cotangents]
    if len(zeros) > 1:
        rows += [[*zeros[:n], c, *zeros[n + 1 :]] for n, c in enumerate(point.cotangents)]
    for n, name in enumerate(point.outputs):
        for axis in axes.get(name, {}).values():
            for index in (0, -1):
                alone = np.moveaxis(np.zeros_like(zeros[n]), axis, 0)
                alone[index] = np.moveaxis(point.cotangents[n], axis, 0)[index]
                rows.append([*zeros[:n], np.moveaxis(alone, 0, axis), *zeros[n + 1 :]])
    return [np.stack(leaves) for leaves in zip(*rows, strict=True)]


def _fits(
    catalogue: Catalogue,
    evidence: Evidence,
    blocks: Blocks,
    axes: Axes,
    tried: Sequence[tuple[Hypothesis, float]],
    sets: range,
) -> list[Fit]:
    """Each hypothesis at its amount, held against some sets of the evidence."""
    point = evidence.point
    evidence = evidence.of(sets)
    error = _weighted(evidence.error, evidence)
    wrong = _part_norms(evidence.error, point, blocks, axes) > evidence.limits
    return [
        _fit(pair, effect, evidence, error, wrong, _part_norms(effect, point, blocks, axes))
        for pair, effect in zip(tried, _effects(catalogue, evidence, tried), strict=True)
    ]


def _fit(
    tried: tuple[Hypothesis, float],
    effect: list[ndarray],
    evidence: Evidence,
    error: ndarray,
    wrong: ndarray,
    reached: ndarray,
) -> Fit:
    hypothesis, amount = tried
    change = _weighted(effect, evidence)
    both, own, total = np.vdot(change, error), np.vdot(change, change), np.vdot(error, error)
    left = np.vdot(error - change, error - change) / total
    rest = (e - d for e, d in zip(evidence.error, effect, strict=True))
    useful = own > 0 and np.isfinite(own)
    next_amount = amount * both / own if useful else amount
    rounded = all(
        (_norms(r) <= RATIO_LIMIT * n).all() for r, n in zip(rest, evidence.noise, strict=True)
    )
    return Fit(
        hypothesis,
        amount,
        float(left) if np.isfinite(left) else np.inf,
        float(both**2 / (own * total)) if useful else 0.0,
        float(np.clip(next_amount, -LARGEST_AMOUNT, LARGEST_AMOUNT)),
        _overlap(wrong, reached > evidence.limits),
        rounded or bool(left < CLOSE**2),
    )


def _overlap(one: ndarray, other: ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _weighted(leaves: list[ndarray], evidence: Evidence) -> ndarray:
    """All leaves in one row for each set, with the weights that make them count alike."""
    pairs = zip(leaves, evidence.weights, strict=True)
    return np.concatenate([w[:, None] * _rows(leaf) for leaf, w in pairs], axis=1)


def _rows(leaf: ndarray) -> ndarray:
    return leaf.reshape(len(leaf), -1)


def _norms(leaf: ndarray) -> ndarray:
    return np.linalg.norm(_rows(leaf), axis=1)


def _ratio(one: ndarray, other: ndarray) -> ndarray:
    return np.divide(one, other, out=np.ones_like(one), where=other > 0)


def _part_norms(leaves: list[ndarray], point: Point, blocks: Blocks, axes: Axes) -> ndarray:
    """The norms [sets, parts] of every leaf, its blocks and the indices of its axes."""
    columns: list[ndarray] = []
    for name, leaf in zip(point.arguments, leaves, strict=True):
        for index in (..., *blocks.get(name, {}).values()):
            part = leaf[(slice(None), *(index if isinstance(index, tuple) else (index,)))]
            columns.append(_norms(part)[:, None])
        for axis in axes.get(name, {}).values():
            rows = np.moveaxis(leaf, 1 + axis, 1)
            columns.append(np.linalg.norm(rows.reshape(*rows.shape[:2], -1), axis=2))
    return np.concatenate(columns, axis=1)


def _effects(
    catalogue: Catalogue, evidence: Evidence, tried: Sequence[tuple[Hypothesis, float]]
) -> Iterator[list[ndarray]]:
    """What each changes in the gradient [sets, ...]."""
    point, number = evidence.point, len(evidence.sets[0])
    shapes = traced.eval_shape(point.call, point.floats, point.others)
    runs = [(h, amount, s) for h, amount in tried for s in range(number)]
    found: list[list[ndarray]] = []
    for start in range(0, len(runs), CHUNK):
        found += _changed_gradients(catalogue, evidence, shapes, runs[start : start + CHUNK])
        while len(found) >= number:
            columns = zip(*found[:number], strict=True)
            del found[:number]
            pairs = zip(map(np.stack, columns), evidence.truth, strict=True)
            yield [leaf - truth for leaf, truth in pairs]


def _changed_gradients(
    catalogue: Catalogue, evidence: Evidence, shapes: Any, runs: list[tuple[Hypothesis, float, int]]
) -> list[list[ndarray]]:
    """The gradient of each hypothesis at an amount under one set; always CHUNK are computed."""
    point = evidence.point
    padded = [*runs, *[runs[0]] * (CHUNK - len(runs))]
    dtype = evidence.sets[0].dtype
    changes = [jax.tree.map(lambda c, a=a: a * np.asarray(c), h.change) for h, a, _ in padded]
    amounts = jax.tree.map(lambda *leaves: np.stack(leaves).astype(dtype), *changes)
    cotangents = [leaf[[s for _, _, s in padded]] for leaf in evidence.sets]
    with jax.enable_x64(dtype == np.float64):
        args = point.call.treedef.unflatten(_merged(point))
        found = _gradients(catalogue.gradient, amounts, args, _like_outputs(shapes, cotangents))
    leaves = [np.asarray(leaf, np.float64) for leaf in found]
    return [[leaf[k] for leaf in leaves] for k in range(len(runs))]


@partial(jax.jit, static_argnums=0)
def _gradients(gradient: Any, amounts: Any, args: Any, cotangents: Any) -> list[Any]:
    """For each of the amounts, with its own cotangents, the changed gradient."""
    return jax.tree.leaves(jax.vmap(gradient, (0, None, 0))(amounts, args, cotangents))


def _merged(point: Point) -> list[Any]:
    floats, others = iter(point.floats), iter(point.others)
    return [next(floats if floating else others) for floating in point.call.floating]


def _like_outputs(shapes: Any, sets: list[ndarray]) -> Any:
    leaves = iter(sets)
    return jax.tree.map(lambda leaf: next(leaves) if is_floating(leaf) else None, shapes)
