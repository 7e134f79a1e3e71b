"""A kink is no wrong gradient: where one-sided derivatives differ, any value between is right."""

import dataclasses

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.comparison import ALL_ARGUMENTS, Comparison
from jaxlstm.gradient_check.modes import derive, in_float64, reverse
from jaxlstm.gradient_check.report import REVERSE
from jaxlstm.gradient_check.witnesses import value_and_size

ENTRIES = 16
"""How many of a leaf's entries are tried; where more are wrong, kinks do not explain it."""

DERIVATIVES = (REVERSE, "forward mode", "second order", "adjoint identity")
"""The criteria that a kink explains."""

STEPS = 1e-5 * 0.5 ** np.arange(2)
TOLERANCE = 1e-3
SAME = 1e-9
"""The part of the largest difference below which two entries do not differ."""


def mark_kinks(comparisons: list[Comparison], tested: Candidate, point: Point) -> list[Comparison]:
    """The comparisons, with the failures of arguments that stand on a kink marked as such."""
    failed = {c.argument for c in comparisons if c.passed is False} & set(point.arguments)
    if not failed:
        return comparisons
    with jax.enable_x64(True):
        point = point.rounded(np.float64)
        try:
            found = tested.gradient(point)
        except Exception:
            return comparisons
        truth = in_float64(
            derive(reverse, point.call, point.floats, point.others, point.cotangents)
        )
        kinks = {
            name
            for n, name in enumerate(point.arguments)
            if name in failed and _on_kink(point, n, found[n], truth[n])
        }
    if kinks:
        kinks.add(ALL_ARGUMENTS)
    return [
        dataclasses.replace(c, passed="kink")
        if c.passed is False and c.argument in kinks and c.criterion in DERIVATIVES
        else c
        for c in comparisons
    ]


def _on_kink(point: Point, n: int, found: ndarray, truth: ndarray) -> bool:
    """Whether all of the leaf's entries that differ lie between their one-sided derivatives."""
    difference = np.ravel(abs(found - truth))
    worst = np.flatnonzero(difference > SAME * difference.max(initial=0.0)).tolist()
    return 0 < len(worst) <= ENTRIES and all(
        _between(one_sided(point, n, at), float(found.flat[at]), float(truth.flat[at]))
        for at in worst
    )


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
