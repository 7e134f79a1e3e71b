"""A kink is no wrong gradient: where one-sided derivatives differ, any value between is right."""

import dataclasses
from collections.abc import Collection

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.comparison import ALL_ARGUMENTS, Comparison
from jaxlstm.gradient_check.modes import derive, in_float64, reverse
from jaxlstm.gradient_check.places import at_entries
from jaxlstm.gradient_check.report import REVERSE, GradientReport
from jaxlstm.gradient_check.witnesses import value_and_size

ENTRIES = 16
"""How many of a leaf's entries are tried; where more are wrong, kinks do not explain it."""

SEARCHED = 256
"""How many of a leaf's entries are looked through for a kink that the witnesses met."""

DERIVATIVES = (REVERSE, "forward mode", "adjoint identity")
"""The criteria of an argument that its kink explains; one kink explains all of second order."""

STEPS = 1e-5 * 0.5 ** np.arange(2)
TOLERANCE = 1e-3
SAME = 1e-9
"""The part of the largest difference below which two entries do not differ."""


def mark_kinks(report: GradientReport, tested: Candidate, point: Point) -> GradientReport:
    """The report, with failures that a kink explains marked as such, and a note of where it is."""
    comparisons = report.comparisons
    failed = {c.argument for c in comparisons if c.passed is False} & set(point.arguments)
    met = {c.argument for c in comparisons if c.passed == "kink"}
    if not failed | met:
        return report
    with jax.enable_x64(True):
        point = point.rounded(np.float64)
        kinks = _wrong_at_kinks(tested, point, failed) if failed else {}
        searched = sorted(met - set(kinks))
        others = {name: _search(point, point.arguments.index(name)) for name in searched}
    notes = [_note(name, mask) for name, mask in (kinks | others).items()]
    return dataclasses.replace(
        report,
        comparisons=tuple(_marked(c, kinks) for c in comparisons),
        notes=(*report.notes, *notes),
    )


def _marked(comparison: Comparison, kinks: Collection[str]) -> Comparison:
    """The comparison, its failure a kink where the kinks explain it."""
    of_argument = comparison.criterion in DERIVATIVES and comparison.argument in kinks
    of_all = comparison.criterion == "second order" or comparison.argument == ALL_ARGUMENTS
    explained = comparison.passed is False and (of_argument or (kinks and of_all))
    return dataclasses.replace(comparison, passed="kink") if explained else comparison


def _note(name: str, mask: ndarray) -> str:
    if not mask.any():
        return f"{name}: near a kink, where the witnesses tell nothing."
    between = "any derivative between the one-sided ones is right there"
    return f"{name}: at a kink{at_entries(mask)}; {between}."


def _wrong_at_kinks(tested: Candidate, point: Point, failed: Collection[str]) -> dict[str, ndarray]:
    """For each failed argument that only kinks make wrong, where they are."""
    try:
        found = tested.gradient(point)
    except Exception:
        return {}
    truth = in_float64(derive(reverse, point.call, point.floats, point.others, point.cotangents))
    masks = {
        name: _wrong_at_kink(point, n, found[n], truth[n])
        for n, name in enumerate(point.arguments)
        if name in failed
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _wrong_at_kink(point: Point, n: int, found: ndarray, truth: ndarray) -> ndarray:
    """The leaf's entries that differ, if all lie between their one-sided derivatives; else none."""
    difference = abs(found - truth)
    worst = difference > SAME * difference.max(initial=0.0)
    entries = np.flatnonzero(worst).tolist()
    explained = len(entries) <= ENTRIES and all(
        _between(one_sided(point, n, at), float(found.flat[at]), float(truth.flat[at]))
        for at in entries
    )
    return worst & explained


def _search(point: Point, n: int) -> ndarray:
    """Which of the leaf's first entries are at a kink."""
    mask = np.zeros(point.floats[n].shape, bool)
    for at in range(min(mask.size, SEARCHED)):
        mask.flat[at] = _between(one_sided(point, n, at))
    return mask


def _between(sides: tuple[float, float], *values: float) -> bool:
    low, high = sorted(sides)
    margin = TOLERANCE * max(abs(low), abs(high))
    inside = all(low - margin <= value <= high + margin for value in values)
    return bool(high - low > 2 * margin and inside)


def one_sided(point: Point, n: int, at: int) -> tuple[float, float]:
    """The function's derivatives behind and ahead of one entry of one leaf, extrapolated.

    Equal where rounding hides how they differ.
    """
    function = Candidate(point.call, jit=True)
    size = max(1.0, float(np.abs(point.floats[n].flat[at])))

    def value(step: float) -> tuple[float, float]:
        moved = [np.array(leaf) for leaf in point.floats]
        moved[n].flat[at] += step
        return value_and_size(function, point, moved)

    centre, magnitude = value(0.0)
    sides = []
    for steps in (-size * STEPS, size * STEPS):
        coarse, fine = ((value(step)[0] - centre) / step for step in steps)
        sides.append(2 * fine - coarse)
    noise = 16 * np.finfo(np.float64).eps * magnitude / (size * STEPS[-1])
    return (sides[0], sides[1]) if abs(sides[1] - sides[0]) > noise else (sides[0], sides[0])
