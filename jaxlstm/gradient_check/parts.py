"""The parts of an argument's gradient that are judged on their own: blocks, and axes by index."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.comparison import Verdict
from jaxlstm.gradient_check.modes import Trusted
from jaxlstm.gradient_check.rounding import judge, relative_errors

Blocks = Mapping[str, Mapping[str, Any]]
"""For a leaf's name (``params.bias``), the indices of its named blocks."""

Axes = Mapping[str, Mapping[str, int]]
"""For a leaf's name (``inputs``), its named axes by number: each index of them is judged."""


@dataclasses.dataclass(frozen=True)
class Part:
    """All of a leaf, a named block of it, or one index along a named axis."""

    block: str | None = None
    axis: str | None = None
    index: int | None = None


class Judged(NamedTuple):
    """One part of one leaf under one set of weights: its error, ratio and verdict."""

    set: int
    part: Part
    error: float
    ratio: float | None
    verdict: Verdict


def judge_parts(
    found: ndarray,
    trusted: Trusted,
    leaf: int,
    dtype: Any,
    blocks: Mapping[str, Any],
    axes: Mapping[str, int],
) -> Iterator[Judged]:
    """Judges a leaf [sets, ...] as a whole, then its blocks, then the indices of its axes.

    Args:
        found: the candidate's, in float64.
        trusted: the reference's, with what rounding does to it.
        leaf: which of the trusted leaves.
        dtype: the working dtype.
        blocks: the leaf's blocks by name.
        axes: the leaf's axes by name.
    """
    stack = np.stack([trusted.truth[leaf], found])
    stack = np.concatenate([stack, trusted.rounded[leaf]])
    for block, index in {None: ..., **blocks}.items():
        yield from _judged(stack[_behind_sets(index)], (0,), dtype, [Part(block)])
    for axis, number in axes.items():
        parts = [Part(f"{axis} {k}", axis, k) for k in range(stack.shape[2 + number])]
        yield from _judged(stack, (0, 1 + number), dtype, parts)


def _behind_sets(index: Any) -> tuple[Any, ...]:
    """An index of the leaf as one of the stack of its draws and sets."""
    whole = slice(None)
    return (whole, whole, *(index if isinstance(index, tuple) else (index,)))


def _judged(
    stack: ndarray, along: tuple[int, ...], dtype: Any, parts: list[Part]
) -> Iterator[Judged]:
    """Judges each index of the axes ``along`` of truth, candidate and rounded truths.

    Entries in which the truth or a rounded one is not finite are left out; a part with such passes
    as "unresolved".
    """
    known = np.logical_and.reduce(np.isfinite(np.delete(stack, 1, 0)))
    stack = np.where(known, stack, 0.0)
    truth = stack[0]
    rest = tuple(axis for axis in range(truth.ndim) if axis not in along)
    shape = (len(truth), len(parts))
    shifted = (0, *(1 + axis for axis in along))
    with np.errstate(invalid="ignore"):
        distances = relative_errors(stack[1:], np.broadcast_to(truth, stack[1:].shape), shifted)
    errors, yards = distances[0].reshape(shape), distances[1:].max(0).reshape(shape)
    known = known.all(rest).reshape(shape)
    nonzero = truth.any(rest).reshape(shape)
    for (s, n), error in np.ndenumerate(errors):
        ratio, verdict = judge(float(error), float(yards[s, n]), bool(nonzero[s, n]), dtype)
        passes = verdict if known[s, n] or verdict is False else "unresolved"
        yield Judged(s, parts[n], float(error), ratio, passes)
