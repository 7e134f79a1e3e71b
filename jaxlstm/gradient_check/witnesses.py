"""Witnesses that share nothing with reverse mode, all in float64.

For each argument a random direction v, with u the cotangents. Central differences and the adjoint
identity compare ``<u, J v>`` with the candidate's ``<J' u, v>``; the remainder
``<u, f(x + e v) - f(x)> - e <J' u, v>`` falls as e^2 where the gradient is right, as e where wrong.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from jaxlstm.gradient_check.call import Call, Point, first_line
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Comparison, Verdict
from jaxlstm.gradient_check.float64_self import narrowest_inside
from jaxlstm.gradient_check.modes import DRAWS
from jaxlstm.gradient_check.report import GradientReport
from jaxlstm.gradient_check.rounding import judge, moved_by_half_ulps, rounding_ratio

STEPS = 0.1 * 0.5 ** np.arange(8)
"""Of the central differences, in units of the argument's root mean square."""

REMAINDER_STEPS = 0.1 * 0.5 ** np.arange(16)
"""Of the Taylor remainder."""

ROUGHNESS_STEPS = 1e-9 * np.arange(1, 5)
"""So small that what the values change by, beside a straight line, is rounding."""

RESOLVED = 1e-6
"""A difference whose error estimate exceeds this part of the derivative tells nothing."""

ABOVE_ROUNDING = 100.0
"""A remainder below this many roundings of the values has no slope."""


def witness(tested: Candidate, point: Point, names: tuple[str, str], seed: int) -> GradientReport:
    """All three witnesses, a comparison for each argument; and notes on what cannot be asked.

    Without the adjoint identity where the reference has no float64 self or no forward mode.
    """
    notes: list[str] = []
    with jax.enable_x64(True):
        point = point.rounded(np.float64)
        narrowest, reason = narrowest_inside(point.call, point.floats, point.others, np.float64)
        directions = directions_of(np.random.default_rng(seed), point)
        try:
            products = pairings(tested.gradient(point), directions)
        except Exception as error:
            words = f"no witnesses, which need float64: the candidate raised {first_line(error)}"
            return GradientReport(notes=(words,))
        lines = [line_of(tested, point, v, float(jnp.finfo(narrowest).eps)) for v in directions]
        found = [
            *map(_against_difference, products, lines),
            *map(_against_remainder, products, lines),
        ]
        if reason is None:
            try:
                found += map(_against_product, products, _pushed(point, directions, seed))
            except Exception as error:
                notes.append(f"no adjoint identity: the {names[1]} raised {first_line(error)}")
    arguments = point.arguments * (len(found) // len(point.arguments))
    pairs = zip(found, arguments, strict=True)
    comparisons = tuple(w.as_comparison(names[0], argument) for w, argument in pairs)
    return GradientReport(comparisons, notes=tuple(notes))


class Line(NamedTuple):
    """The function's values along one direction.

    Attributes:
        centre: at the point itself.
        ahead: at plus REMAINDER_STEPS.
        behind: at minus STEPS.
        rounding: what rounding does to a value.
    """

    centre: float
    ahead: Float[ndarray, " far"]
    behind: Float[ndarray, " near"]
    rounding: float


def line_of(tested: Candidate, point: Point, direction: list[ndarray], eps: float) -> Line:
    """The values along a direction, computed to ``eps``."""

    def value(step: float) -> tuple[float, float]:
        pairs = zip(point.floats, direction, strict=True)
        moved = [np.asarray(leaf + step * way) for leaf, way in pairs]
        return value_and_size(tested, point, moved)

    centre, size = value(0.0)
    ahead = np.array([value(step)[0] for step in REMAINDER_STEPS])
    behind = np.array([value(-step)[0] for step in STEPS])
    rough = [abs(value(step)[0] - 2 * centre + value(-step)[0]) for step in ROUGHNESS_STEPS]
    return Line(centre, ahead, behind, max(eps * size, *rough))


def value_and_size(tested: Candidate, point: Point, floats: list[ndarray]) -> tuple[float, float]:
    """``<u, f>`` and ``<|u|, |f|>``, whose rounding the first carries."""
    run = _compiled_value_and_size if tested.jit else _value_and_size
    product, size = run(tested.call, floats, point.others, point.cotangents)
    return float(product), float(size)


def _value_and_size(call: Call, floats: Any, others: Any, cotangents: Any) -> tuple[Any, Any]:
    outputs = call(list(map(jnp.asarray, floats)), others)
    return _product(outputs, cotangents), _product(*_sizes((outputs, cotangents)))


_compiled_value_and_size = jax.jit(_value_and_size, static_argnums=0)


def extrapolate(
    differences: Float[ndarray, " steps"], rounding: Float[ndarray, " steps"], base: int
) -> tuple[float, float]:
    """The limit of difference quotients at halving steps, and an estimate of its error.

    Args:
        differences: the quotients, their error a power series in the step to some power.
        rounding: what rounding does to each.
        base: two to that power: 4 for central quotients, 2 for one-sided ones.
    """
    columns = [differences]
    best = (float("nan"), float("inf"))
    for order in range(1, len(differences)):
        last = columns[-1]
        columns.append(last[1:] + (last[1:] - last[:-1]) / (base**order - 1))
        spread = np.maximum(abs(columns[-1] - last[1:]), abs(columns[-1] - last[:-1]))
        estimates = np.nan_to_num(spread + rounding[order:], nan=np.inf)
        at = int(estimates.argmin())
        best = min(best, (float(columns[-1][at]), float(estimates[at])), key=lambda pair: pair[1])
    return best


def derivative_of(line: Line) -> tuple[float, float]:
    """The derivative along the line by central differences, and an estimate of its error."""
    central = (line.ahead[: len(STEPS)] - line.behind) / (2 * STEPS)
    return extrapolate(central, line.rounding / STEPS, base=4)


def has_kink(line: Line) -> bool:
    """Whether the derivatives ahead and behind differ by more than their error estimates."""
    ahead = (line.ahead[: len(STEPS)] - line.centre) / STEPS
    behind = (line.centre - line.behind) / STEPS
    (right, error), (left, other) = (
        extrapolate(quotients, line.rounding / STEPS, base=2) for quotients in (ahead, behind)
    )
    return abs(right - left) > RATIO_LIMIT * (error + other) + 1e-4 * max(abs(right), abs(left))


class Witnessed(NamedTuple):
    """What one witness says of one argument, as the fields of a Comparison."""

    criterion: str
    reference: str
    relative_error: float
    rounding_ratio: float | None
    passed: Verdict
    slope: float | None = None

    def as_comparison(self, candidate: str, argument: str) -> Comparison:
        """The comparison of the candidate's gradient by this argument."""
        return Comparison(
            candidate,
            self.reference,
            self.criterion,
            "float64",
            argument,
            None,
            self.relative_error,
            self.rounding_ratio,
            self.passed,
            slope=self.slope,
        )


def _against_difference(pairing: float, line: Line) -> Witnessed:
    """The error in units of the difference's own estimate."""
    described = partial(Witnessed, "finite differences", "central differences of the values")
    if has_kink(line):
        return described(float("nan"), None, "kink")
    derivative, estimate = derivative_of(line)
    error, scale = abs(pairing - derivative), max(abs(pairing), abs(derivative))
    ratio = rounding_ratio(error, estimate)
    relative = error / scale if scale > 0 else rounding_ratio(error, 0.0)
    resolved = error == 0 or (np.isfinite(scale) and estimate <= RESOLVED * scale)
    return described(relative, ratio, ratio <= RATIO_LIMIT if resolved else "unresolved")


def _against_remainder(pairing: float, line: Line) -> Witnessed:
    """The remainder at the last step over the step's change, and the slope."""
    described = partial(Witnessed, "Taylor remainder", "the values")
    remainders = abs(line.ahead - line.centre - REMAINDER_STEPS * pairing)
    usable = np.cumprod(remainders > ABOVE_ROUNDING * line.rounding).astype(bool)
    size = (max(abs(pairing), line.rounding) or 1.0) * REMAINDER_STEPS
    if usable.sum() < 4:
        settled = (remainders <= ABOVE_ROUNDING * line.rounding)[-4:].all()
        return described(float((remainders / size)[-1]), None, True if settled else "unresolved")
    slopes = -np.diff(np.log2(remainders[usable]))
    slope = float(np.median(slopes[-3:]))
    relative = float((remainders / size)[usable][-1])
    if has_kink(line):
        return described(relative, None, "kink", slope)
    decided = abs(slope - 1.5) > 0.1
    return described(relative, None, slope > 1.5 if decided else "unresolved", slope)


def _pushed(point: Point, directions: Any, seed: int) -> list[tuple[list[float], float]]:
    """For each direction ``<u, J v>`` at the point and at moved ones, and ``|u| |J v|``."""
    rng = np.random.default_rng(seed)
    columns = []
    for direction in directions:
        exact = (point.floats, point.cotangents, direction)
        moved = moved_by_half_ulps(rng, exact, np.float64, DRAWS)
        draws = jax.tree.map(lambda one, many: np.concatenate([one[None], many]), exact, moved)
        products, sizes = _push_forward(point.call, point.others, *draws)
        columns.append((np.asarray(products).tolist(), float(sizes[0])))
    return columns


def _against_product(pairing: float, pushed: tuple[list[float], float]) -> Witnessed:
    """The error over ``|u| |J v|``."""
    described = partial(Witnessed, "adjoint identity", "forward mode of the reference")
    (exact, *moved), size = pushed
    if not np.isfinite([pairing, exact, size]).all():
        return described(float("nan"), None, "unresolved")
    if size == 0:
        return described(rounding_ratio(abs(pairing), 0.0), None, pairing == 0)
    error = abs(pairing - exact) / size
    yard = max(abs(product - exact) for product in moved) / size
    return described(error, *judge(error, yard, True, np.float64))


def directions_of(rng: np.random.Generator, point: Point) -> list[list[ndarray]]:
    """For each leaf a direction that moves it alone, by its own size."""

    def size(leaf: ndarray) -> float:
        return float(np.sqrt(np.mean(leaf**2)) if leaf.size else 0.0) or 1.0

    drawn = [np.asarray(rng.standard_normal(leaf.shape) * size(leaf)) for leaf in point.floats]
    return [
        [way if n == k else np.zeros_like(way) for k, way in enumerate(drawn)]
        for n in range(len(drawn))
    ]


def pairings(gradient: list[ndarray], directions: list[list[ndarray]]) -> list[float]:
    """For each direction its product with the gradient."""
    return [
        float(sum(np.vdot(leaf, way) for leaf, way in zip(gradient, direction, strict=True)))
        for direction in directions
    ]


@partial(jax.jit, static_argnums=0)
def _push_forward(
    call: Call, others: Any, floats: Any, cotangents: Any, directions: Any
) -> tuple[Any, Any]:
    """``<u, J v>`` and ``|u| |J v|`` for each draw."""

    def push(draw: Any) -> tuple[Any, Any]:
        floats, cotangents, direction = draw
        tangents = jax.jvp(lambda floats: call(floats, others), (floats,), (direction,))[1]
        norms = [jnp.sqrt(_product(tree, tree)) for tree in (cotangents, tangents)]
        return _product(tangents, cotangents), norms[0] * norms[1]

    return jax.lax.map(push, (floats, cotangents, directions))


def _sizes(tree: Any) -> Any:
    return jax.tree.map(jnp.abs, tree)


def _product(left: Any, right: Any) -> Any:
    pairs = zip(left, right, strict=True)
    return sum(jnp.sum(a.astype(b.dtype) * b) for a, b in pairs)
