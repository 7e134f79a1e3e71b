"""The function under test, run in all the ways in which it should give the same."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import (
    Call,
    Point,
    first_line,
    is_floating,
    output_name,
    place_of,
    traced,
    with_dtype,
)
from jaxlstm.gradient_check.comparison import Mismatch
from jaxlstm.gradient_check.modes import Mode, derive, in_float64, reverse, values_and_reverse


class Candidate(NamedTuple):
    """The function under test; ``jit`` is False where it cannot be traced."""

    call: Call
    jit: bool

    def derive(self, mode: Mode, point: Point, sets: Any) -> list[ndarray]:
        """One mode with each set of weights [sets, ...], one after the other, in float64."""
        number = len(jax.tree.leaves(sets)[0])
        runs = [
            self.derive_one(mode, point, jax.tree.map(lambda leaf, k=k: leaf[k], sets))
            for k in range(number)
        ]
        return [np.stack(leaves) for leaves in zip(*runs, strict=True)]

    def derive_one(self, mode: Mode, point: Point, weights: Any) -> list[ndarray]:
        """One mode with one set of weights, in float64."""
        run = derive if self.jit else eagerly
        return in_float64(run(mode, self.call, point.floats, point.others, weights))

    def gradient(self, point: Point) -> list[ndarray]:
        """The gradient under all cotangents, in float64."""
        return self.derive_one(values_and_reverse, point, point.cotangents)[len(point.outputs) :]

    def gradients(self, point: Point, sets: Any) -> list[ndarray]:
        """The gradient under each set of cotangents [sets, ...], by what ``gradient`` compiles."""
        return self.derive(values_and_reverse, point, sets)[len(point.outputs) :]

    def twice(self, criterion: str, point: Point, seed: int) -> Iterator[tuple[ndarray, ndarray]]:
        """The gradient's leaves [1, ...] in two ways that should not differ."""
        one = self.gradient(point)
        if criterion == "jit against eager":
            found = eagerly(reverse, self.call, point.floats, point.others, point.cotangents)
            others = [in_float64(found)]
        elif criterion == "vmap against a loop":
            others = self._in_a_batch(point, seed)
        else:
            others = [self.gradient(point)]
        for n, leaf in enumerate(one):
            farthest = max(
                (other[n] for other in others), key=lambda o: np.abs(o - leaf).max(initial=0.0)
            )
            yield leaf[None], farthest[None]

    def _in_a_batch(self, point: Point, seed: int) -> list[list[ndarray]]:
        """The gradient by vmap, with another point behind it in the batch, then before it."""
        rng = np.random.default_rng(seed)
        other = [_elsewhere(rng, leaf) for leaf in point.floats]
        found = []
        for place, batch in ((0, (point.floats, other)), (1, (other, point.floats))):
            stacked = [np.stack(leaves) for leaves in zip(*batch, strict=True)]
            gradients = jax.jit(
                jax.vmap(lambda floats: reverse(self.call, floats, point.others, point.cotangents))
            )(stacked)
            found.append([np.asarray(leaf[place], np.float64) for leaf in gradients])
        return found


def eagerly(mode: Mode, call: Call, floats: Any, others: Any, weights: Any) -> list[Any]:
    """One mode without an outer jit, on JAX arrays."""
    floats, weights = jax.tree.map(jax.numpy.asarray, (floats, weights))
    return mode(call, floats, others, weights)


def _elsewhere(rng: np.random.Generator, leaf: ndarray) -> ndarray:
    moved = np.asarray(leaf, np.float64) * (1 + 0.1 * rng.standard_normal(leaf.shape))
    return np.asarray(moved, leaf.dtype)


def structure_mismatches(tested: Candidate, point: Point, dtype: Any) -> list[Mismatch]:
    """How the candidate's outputs differ from the reference's in structure, shapes and dtypes."""
    expected = traced.eval_shape(point.call, point.floats, point.others)
    try:
        floats = jax.tree.map(jax.numpy.asarray, point.floats)
        run = traced.eval_shape if tested.jit else Call.whole
        came = jax.tree.map(with_dtype, run(tested.call, floats, point.others))
    except Exception as error:
        words = f"the candidate raised {first_line(error)}{place_of(error)}"
        return [Mismatch("raises", dtype.name, words)]
    if jax.tree.structure(came) != jax.tree.structure(expected):
        words = f"outputs: expected {_told(expected)}, got {_told(came)}."
        return [Mismatch("structure", dtype.name, words)]
    pairs = zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(came), strict=True)
    found = (
        _leaf_mismatch(dtype, output_name(expected, path), one, other)
        for (path, one), other in pairs
    )
    return [mismatch for mismatch in found if mismatch]


def _leaf_mismatch(dtype: Any, name: str, expected: Any, came: Any) -> Mismatch | None:
    if expected.shape != came.shape:
        words = f"{name}: expected shape {expected.shape}, got {came.shape}."
        return Mismatch("shape", dtype.name, words)
    if expected.dtype != came.dtype and (is_floating(expected) or is_floating(came)):
        hint = f'; of a function for {came.dtype} alone, give dtypes=["{came.dtype}"]'
        words = f"{name}: expected {expected.dtype}, got {came.dtype}{hint}."
        return Mismatch("dtype", dtype.name, words)
    return None


def _told(tree: Any) -> str:
    """A tree's structure in one line."""
    return str(jax.tree.structure(tree)).replace("PyTreeDef", "")
