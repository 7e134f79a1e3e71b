"""A wrong backward pass with a name, and the small changes that many of them are made of."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.types import GATES
from mutants.template import BackwardPass, block

LABELS = frozenset(
    (
        *(f"B{n}" for n in (1, 3, 4, 5, 6, 7, 8)),
        *(f"B{n} {gate}" for n in (2, 4, 5, 6, 7, 8) for gate in GATES),
        *("outputs cotangent", "final hidden cotangent", "final cell cotangent"),
        *("initial hidden gradient", "initial cell gradient"),
        *("lengths", "resets", "truncation", "precision"),
    )
)
"""What a mistake may be called: an equation, a gate's part of it, or a place around them."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One wrong backward pass.

    Attributes:
        name: unique.
        words: what is wrong.
        equation: every label that names the mistake fairly, the best first.
        backward: the pass that makes it.
    """

    name: str
    words: str
    equation: tuple[str, ...]
    backward: type[BackwardPass]


def mutant(name: str, words: str, *equation: str, **methods: Any) -> Mutant:
    """The pass with ``methods`` in place of the right ones."""
    return Mutant(name, words, equation, type(name, (BackwardPass,), methods))


def replaced(a: ndarray, gate: str, columns: Any) -> ndarray:
    """A copy with other columns for the gate."""
    a = a.copy()
    block(a, gate)[...] = columns
    return a


def changed(equation: str, change: Callable[[Any], Any]) -> Callable:
    """The equation's method, its right result changed."""
    return lambda p, *args: change(getattr(BackwardPass, equation)(p, *args))


def scaled(equation: str, factor: float) -> Callable:
    return changed(equation, lambda result: factor * result)


def of_changed(equation: str, change: Callable[[ndarray], ndarray]) -> Callable:
    """The method of one of [B4] to [B8], of a changed d_z."""
    right = getattr(BackwardPass, equation)
    return lambda p, *args: right(p, *args[:-1], change(args[-1]))


def scaled_gate(equation: str, gate: str, factor: float) -> Callable:
    """The method of one of [B4] to [B8], with the gate's part of d_z times the factor."""
    return of_changed(equation, lambda d_z: replaced(d_z, gate, factor * block(d_z, gate)))


def exchanged(one: str, other: str) -> Callable[[ndarray], ndarray]:
    """Exchanges two gates' columns."""
    return lambda a: replaced(replaced(a, one, block(a, other)), other, block(a, one))


def earlier(a: ndarray) -> ndarray:
    """The values of t - 1 at t, the first one twice."""
    return np.concatenate([a[:1], a[:-1]])


def later(a: ndarray) -> ndarray:
    """The values of t + 1 at t, the last one twice."""
    return np.concatenate([a[1:], a[-1:]])


def only_steps(steps: slice) -> Callable[[ndarray], ndarray]:
    """Of an array over time these steps, zeros for the others."""

    def kept(a: ndarray) -> ndarray:
        result = np.zeros_like(a)
        result[steps] = a[steps]
        return result

    return kept


def rounded(a: ndarray, dtype: Any) -> ndarray:
    """Through a lower precision and back."""
    return a.astype(dtype).astype(a.dtype)


def bfloat16(a: ndarray) -> ndarray:
    return rounded(a, jnp.bfloat16)


def float16(a: ndarray) -> ndarray:
    return rounded(a, np.float16)
