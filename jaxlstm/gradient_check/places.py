"""Where a gradient is wrong, in words: which parts, and from the cotangents of which indices."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.modes import reverse, trust
from jaxlstm.gradient_check.parts import Axes, Blocks, judge_parts
from jaxlstm.gradient_check.report import runs

TRIED = 16
"""Indices of an axis whose cotangents are pulled back alone; of a longer one, spread evenly."""

SHOWN = 6
"""Entries that are listed; of more the number is told."""


def wrong_places(
    tested: Candidate, point: Point, blocks: Blocks, axes: Axes, dtype: Any
) -> list[str]:
    """For each output with a named axis, what is wrong from the cotangents of which indices.

    Such as "recurrent_kernel, output gate: wrong from outputs of every step but the last".
    """
    return [
        sentence
        for n, output in enumerate(point.outputs)
        for axis, number in axes.get(output, {}).items()
        for sentence in _of_axis(tested, point, blocks, dtype, (n, axis, number))
    ]


def _of_axis(
    tested: Candidate, point: Point, blocks: Blocks, dtype: Any, which: tuple[int, str, int]
) -> Iterator[str]:
    n, axis, number = which
    size = point.cotangents[n].shape[number]
    indices = sorted({round(at) for at in np.linspace(0, size - 1, TRIED)})
    at = point.rounded(dtype)
    sets = _alone(at, n, number, indices)
    with jax.enable_x64(jnp.dtype(dtype) == np.float64):
        found = tested.gradients(at, sets)
    with jax.enable_x64(True):
        trusted = trust(reverse, point.call, at.floats, at.others, sets, dtype, seed=0)
    for k, argument in enumerate(point.arguments):
        wrong: dict[str | None, list[int]] = {}
        for judged in judge_parts(found[k], trusted, k, dtype, blocks.get(argument, {}), {}):
            if judged.verdict is False:
                wrong.setdefault(judged.part.block, []).append(indices[judged.set])
        for parts, at_indices in _by_indices(wrong).items():
            place = ", ".join(filter(None, (argument, *parts)))
            told = _told(list(at_indices), indices, axis)
            yield f"{place}: wrong from {point.outputs[n]} of {told}"


def _alone(point: Point, n: int, number: int, indices: list[int]) -> list[ndarray]:
    """Cotangents [sets, ...] of one output's indices, each alone."""
    sets = [np.zeros((len(indices), *leaf.shape), leaf.dtype) for leaf in point.cotangents]
    for s, index in enumerate(indices):
        place = (*[slice(None)] * number, index)
        sets[n][(s, *place)] = point.cotangents[n][place]
    return sets


def _by_indices(
    wrong: dict[str | None, list[int]],
) -> dict[tuple[str | None, ...], tuple[int, ...]]:
    """The parts that are wrong at the same indices, joined; the whole only where no part is."""
    named = {part: found for part, found in wrong.items() if part is not None} or wrong
    together: dict[tuple[int, ...], list[str | None]] = {}
    for part, found in named.items():
        together.setdefault(tuple(found), []).append(part)
    return {tuple(parts): found for found, parts in together.items()}


def at_entries(mask: ndarray) -> str:
    """Where the mask holds: " at entry (0, 1)", or how many these are; of a number nothing."""
    entries = [str(tuple(map(int, entry))) for entry in np.argwhere(mask)]
    if not mask.ndim:
        return ""
    if len(entries) <= SHOWN:
        return f" at {'entry' if len(entries) == 1 else 'entries'} {', '.join(entries)}"
    return f" at {len(entries)} of {mask.size} entries, the first {entries[0]}"


def _told(wrong: list[int], tried: list[int], axis: str) -> str:
    """The indices in words."""
    left = [index for index in tried if index not in wrong]
    words = {
        (): "every {}",
        (tried[-1],): "every {} but the last",
        (tried[0],): "every {} but the first",
    }
    if tuple(left) in words:
        return words[tuple(left)].format(axis)
    some = "" if len(tried) == tried[-1] + 1 else " among those tried"
    return f"{axis} {runs(wrong)}{some}"
