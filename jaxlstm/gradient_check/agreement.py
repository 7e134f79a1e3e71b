"""Any number of derivations held against each other: which agree, and which is the odd one out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from jaxlstm.gradient_check.call import Point, first_line, make_point
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.comparison import RATIO_LIMIT, finite_fields
from jaxlstm.gradient_check.modes import DRAWS, forward
from jaxlstm.gradient_check.rounding import moved_by_half_ulps
from jaxlstm.gradient_check.witnesses import (
    RESOLVED,
    derivative_of,
    directions_of,
    line_of,
    pairings,
)

Method = Callable[[Point, list[list[ndarray]]], tuple[ndarray, ndarray]]
"""Of a point and directions: the derivative of ``<u, f>`` along each, and an estimate of its error,
not counting what the rounding of the point does."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far derivations agree, pair by pair.

    Attributes:
        names: of the methods.
        ratios: for each pair [methods, methods] their difference in units of rounding, for the
            argument in which they differ most.
        groups: methods of which each agrees with each, the largest group first.
        raised: for each method that raised, what it said.
    """

    names: tuple[str, ...]
    ratios: Float[ndarray, "N N"]
    groups: tuple[tuple[str, ...], ...]
    raised: Mapping[str, str]

    @property
    def odd(self) -> tuple[str, ...] | None:
        """Who is out-voted: all but the largest group; None where no group is the largest."""
        sizes = [len(group) for group in self.groups]
        if not sizes or sizes.count(max(sizes)) > 1:
            return None
        return tuple(name for group in self.groups[1:] for name in group)

    def __str__(self) -> str:
        width = max(map(len, self.names), default=0)
        rows = [
            f"{name:>{width}} " + " ".join(f"{ratio:8.2g}" for ratio in row)
            for name, row in zip(self.names, self.ratios, strict=True)
        ]
        return "\n".join([*rows, self.vote()])

    def vote(self) -> str:
        """Who is out-voted, and who raised, in words."""
        outcomes = {None: "no majority", (): "all agree"}
        words = outcomes.get(self.odd) or f"out-voted: {', '.join(self.odd or ())}"
        return "\n".join([words, *(f"{name} raised {said}" for name, said in self.raised.items())])

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        ratios = [[r if np.isfinite(r) else None for r in row] for row in self.ratios.tolist()]
        return finite_fields(self) | {"ratios": ratios, "odd": self.odd}


def by_reverse(function: Callable[..., Any], *, jit: bool = True) -> Method:
    """The function's own reverse mode: its custom VJP, or JAX's autodiff."""

    def method(point: Point, directions: list[list[ndarray]]) -> tuple[ndarray, ndarray]:
        tested = Candidate(point.call.of(function), jit)
        return np.array(pairings(tested.gradient(point), directions)), np.zeros(len(directions))

    return method


def by_forward(function: Callable[..., Any]) -> Method:
    """The function's forward mode along the directions."""

    def method(point: Point, directions: list[list[ndarray]]) -> tuple[ndarray, ndarray]:
        tested = Candidate(point.call.of(function), True)
        pushed = [tested.derive_one(forward, point, direction) for direction in directions]
        return np.array(pairings(point.cotangents, pushed)), np.zeros(len(directions))

    return method


def by_differences(function: Callable[..., Any], *, jit: bool = True) -> Method:
    """Central differences of the function's values, extrapolated, with their error estimate."""

    def method(point: Point, directions: list[list[ndarray]]) -> tuple[ndarray, ndarray]:
        tested, eps = Candidate(point.call.of(function), jit), float(jnp.finfo(np.float64).eps)
        found = [derivative_of(line_of(tested, point, d, eps)) for d in directions]
        derivatives, errors = np.array(found).T
        if (errors > RESOLVED * abs(derivatives)).any():
            raise ArithmeticError("the differences are unresolved")
        return derivatives, errors

    return method


def check_agreement(
    methods: Mapping[str, Method],
    reference: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    cotangents: Any = None,
    seed: int = 0,
) -> Agreement:
    """Derivatives along a random direction for each argument, in float64, by every method.

    Two methods agree where they differ by at most eight roundings: what moving the point by
    half-ulps changes, or the method's own estimate where that is larger.

    Args:
        methods: by name, as ``by_reverse``, ``by_forward`` and ``by_differences`` make them.
        reference: a function with the arguments and outputs of all; only its shapes are used.
        args: the positional arguments.
        cotangents: like the outputs; drawn if None.
        seed: of all that is drawn.

    >>> import jax.numpy as jnp
    >>> methods = {"reverse": by_reverse(jnp.sin), "forward": by_forward(jnp.sin)}
    >>> methods["another's"] = by_reverse(jnp.cos)
    >>> check_agreement(methods, jnp.sin, (jnp.array([0.3, 2.0]),)).odd
    ("another's",)
    """
    rng = np.random.default_rng(seed)
    found, raised = {}, {}
    with jax.enable_x64(True):
        point = make_point(reference, args, cotangents, rng).rounded(np.float64)
        directions = directions_of(rng, point)
        moved = moved_by_half_ulps(rng, (point.floats, point.cotangents), np.float64, DRAWS)
        for name, method in methods.items():
            try:
                found[name] = _with_error(method, point, directions, moved)
            except Exception as error:
                raised[name] = first_line(error)
    ratios = np.array([[_ratio(one, other) for other in found.values()] for one in found.values()])
    return Agreement(tuple(found), ratios, _groups(tuple(found), ratios), raised)


def _with_error(
    method: Method, point: Point, directions: list[list[ndarray]], moved: Any
) -> tuple[ndarray, ndarray]:
    """The derivatives, and the larger of the method's error and what moving the point changes."""
    value, error = method(point, directions)
    for k in range(DRAWS):
        floats, cotangents = jax.tree.map(lambda leaf, k=k: leaf[k], moved)
        elsewhere = method(point._replace(floats=floats, cotangents=cotangents), directions)[0]
        error = np.maximum(error, abs(elsewhere - value))
    return value, error


def _ratio(one: tuple[ndarray, ndarray], other: tuple[ndarray, ndarray]) -> float:
    difference, error = abs(one[0] - other[0]), np.maximum(one[1], other[1])
    ratios = np.divide(difference, error, out=np.full_like(error, np.inf), where=error > 0)
    return float(np.where(difference == 0, 0.0, ratios).max())


def _groups(names: Sequence[str], ratios: ndarray) -> tuple[tuple[str, ...], ...]:
    """Each method joins the first group that it agrees with all of; the largest group first."""
    groups: list[list[int]] = []
    for k in range(len(names)):
        fitting = (g for g in groups if all(ratios[k, member] <= RATIO_LIMIT for member in g))
        group = next(fitting, None)
        if group is None:
            groups.append([k])
        else:
            group.append(k)
    named = (tuple(names[k] for k in group) for group in groups)
    return tuple(sorted(named, key=len, reverse=True))
