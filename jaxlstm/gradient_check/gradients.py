"""``check_gradients``: one derivation of a function's derivative judged by another."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point, first_line, make_point, rounded
from jaxlstm.gradient_check.candidate import Candidate, structure_mismatches
from jaxlstm.gradient_check.comparison import ALL_ARGUMENTS, Comparison, Mismatch
from jaxlstm.gradient_check.explain import explain
from jaxlstm.gradient_check.float64_self import narrowest_inside
from jaxlstm.gradient_check.hypotheses import Catalogue, Explanation
from jaxlstm.gradient_check.kinks import mark_kinks
from jaxlstm.gradient_check.modes import (
    Mode,
    Trusted,
    forward,
    second_order,
    trust,
    trust_without_float64,
    values_and_reverse,
)
from jaxlstm.gradient_check.parts import Axes, Blocks, judge_parts
from jaxlstm.gradient_check.places import wrong_places
from jaxlstm.gradient_check.report import REVERSE, GradientReport
from jaxlstm.gradient_check.witnesses import witness

MODES = ("forward mode", "second order")
CONSISTENCY = ("jit against eager", "vmap against a loop", "repeated runs")


class Settings(NamedTuple):
    """What to check, beside the functions and the point; see ``check_gradients``."""

    blocks: Blocks
    axes: Axes
    names: tuple[str, str]
    jit: bool
    seed: int
    progress: Callable[[str], None]


def check_gradients(
    candidate: Callable[..., Any],
    reference: Callable[..., Any],
    args: Any,
    *,
    cotangents: Any = None,
    dtypes: Sequence[Any] = ("float64", "float32"),
    blocks: Blocks | None = None,
    axes: Axes | None = None,
    also: Sequence[str] = (*MODES, *CONSISTENCY, "witnesses"),
    hypotheses: Catalogue | None = None,
    names: tuple[str, str] = ("candidate", "reference"),
    jit: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Judges the candidate's derivative by the reference's, in units of what rounding alone does.

    For each dtype: the values; then, with each output's cotangent alone and with all together, the
    gradient of each floating argument, of each of its blocks and each index of its named axes.

    Args:
        candidate: the function whose derivative is under test.
        reference: the same function, its derivative trusted (left to JAX's autodiff).
        args: the positional arguments of both, a tuple of pytrees. Floating leaves are
            differentiated; integers, booleans and PRNG keys are handed on.
        cotangents: like the outputs; drawn from ``seed`` if None.
        dtypes: the working dtypes, which the floating leaves are rounded to.
        blocks: for a leaf's name (``params.bias``), its named blocks as indices.
        axes: for a leaf's name (``inputs``), its named axes by number.
        also: what else to compare, in the first dtype: "forward mode" and "second order" where
            defined, "jit against eager", "vmap against a loop", "repeated runs"; and, in float64,
            "witnesses" (central differences, the slope of the Taylor remainder, the adjoint
            identity).
        hypotheses: what may be wrong, to explain a failure by.
        names: what to call candidate and reference.
        jit: whether the candidate can be traced; if not, a backward pass in NumPy is judged too.
        seed: of all that is drawn.
        progress: told what is compared next.

    Returns:
        The report. Whatever the candidate does wrong, raising included, stands in it.

    Raises:
        TypeError, ValueError: arguments that cannot be differentiated, names that do not exist.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x**2
    >>> square.defvjp(lambda x: (x**2, x), lambda x, d_y: (x * d_y,))
    >>> report = check_gradients(square, lambda x: x**2, (jnp.array([1.0, -3.0]),))
    >>> print(report.failures[0].argument, report.failures[0].relative_error)
    x 0.5
    """
    settings = Settings(blocks or {}, axes or {}, names, jit, seed, progress)
    _check_also(also)
    dtypes = _checked_dtypes(dtypes)
    with jax.enable_x64(True):
        point = make_point(reference, args, cotangents, np.random.default_rng(seed))
    _check_names(settings, point)
    _check_parts(settings, point)
    tested = Candidate(point.call.of(candidate), jit)
    reports = [
        _check_dtype(tested, point, settings, dtype, also if n == 0 else ())
        for n, dtype in enumerate(dtypes)
    ]
    comparisons = [c for report in reports for c in report.comparisons]
    mismatches = [m for report in reports for m in report.mismatches]
    notes = [note for report in reports for note in report.notes]
    if "witnesses" in also and not mismatches:
        progress("witnesses")
        witnessed = witness(tested, point, names, seed)
        comparisons, notes = comparisons + witnessed[0], notes + witnessed[1]
    comparisons = mark_kinks(comparisons, tested, point)
    wrong_in = [c.dtype for c in comparisons if c.criterion == REVERSE and c.passed is False]
    why: tuple[tuple[Explanation, ...], tuple[str, ...]] = ((), ())
    if wrong_in and not mismatches and _has_float64_self(point):
        progress("the explanations")
        why = _explained(tested, point, settings, jnp.dtype(wrong_in[0]), hypotheses)
    notes = dict.fromkeys(notes)
    return GradientReport(tuple(comparisons), tuple(mismatches), *why, tuple(notes))


def _explained(
    tested: Candidate, point: Point, settings: Settings, dtype: Any, hypotheses: Catalogue | None
) -> tuple[tuple[Explanation, ...], tuple[str, ...]]:
    """The explanations and, where none reproduces the gradient, the places that are wrong."""
    where = tested, point, settings.blocks, settings.axes, dtype
    explanations = explain(hypotheses, *where) if hypotheses else []
    reproduced = any(explanation.reproduces for explanation in explanations)
    return tuple(explanations), () if reproduced else tuple(wrong_places(*where))


def _check_also(also: Sequence[str]) -> None:
    known = (*MODES, *CONSISTENCY, "witnesses")
    unknown = [name for name in also if name not in known]
    if unknown:
        raise ValueError(f"also: expected some of {', '.join(known)}; got {unknown[0]!r}.")


def _checked_dtypes(dtypes: Sequence[Any]) -> list[Any]:
    if isinstance(dtypes, str) or not len(dtypes):
        raise ValueError(f"dtypes: expected a list of floating dtypes, got {dtypes!r}.")
    checked = [jnp.dtype(dtype) for dtype in dtypes]
    for dtype in checked:
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"dtypes: expected floating dtypes, got {dtype.name}.")
    return checked


def _has_float64_self(point: Point) -> bool:
    return narrowest_inside(point.call, point.floats, point.others, np.float64)[1] is None


def _check_parts(settings: Settings, point: Point) -> None:
    """Before anything is computed: blocks that can be taken, axes that are there."""
    leaves = zip(
        (*point.arguments, *point.outputs), (*point.floats, *point.cotangents), strict=True
    )
    for name, leaf in leaves:
        for block, index in settings.blocks.get(name, {}).items():
            try:
                leaf[index]
            except IndexError as error:
                raise ValueError(f"blocks: {block!r} of {name}: {error}.") from error
        for axis, number in settings.axes.get(name, {}).items():
            if not 0 <= number < leaf.ndim:
                raise ValueError(
                    f"axes: {axis!r} of {name}: expected 0 to {leaf.ndim - 1}, got {number}."
                )


def _check_names(settings: Settings, point: Point) -> None:
    for argument, given in (("blocks", settings.blocks), ("axes", settings.axes)):
        for name in given:
            if name not in (*point.arguments, *point.outputs):
                known = ", ".join((*point.arguments, *point.outputs))
                raise ValueError(f"{argument}: expected names among {known}; got {name!r}.")


@contextlib.contextmanager
def working(dtype: Any) -> Iterator[None]:
    """JAX as its user has it in this dtype: 64-bit types for float64 alone."""
    with jax.enable_x64(jnp.dtype(dtype) == np.float64):
        yield


def _check_dtype(
    tested: Candidate, exact: Point, settings: Settings, dtype: Any, also: Sequence[str]
) -> GradientReport:
    """Everything in one working dtype."""
    point = exact.rounded(dtype)
    with working(dtype):
        mismatches = structure_mismatches(tested, point, dtype)
    if mismatches:
        return GradientReport(mismatches=tuple(mismatches))
    check = _Check(
        tested, point, settings, dtype, *narrowest_inside(point.call, *point[1:3], dtype)
    )
    trusted, *found = check.values_and_reverse()
    if "forward mode" in also:
        found.append(check.forward())
    if "second order" in also:
        found.append(check.second_order())
    found += [check.consistency(name, trusted) for name in CONSISTENCY if name in also]
    return GradientReport(
        tuple(c for report in found for c in report.comparisons),
        tuple(m for report in found for m in report.mismatches),
        notes=(*check.notes(), *(note for report in found for note in report.notes)),
    )


class _Check(NamedTuple):
    """The comparisons in one dtype, one method for each kind."""

    tested: Candidate
    point: Point
    settings: Settings
    dtype: Any
    narrowest: Any
    reason: str | None

    def notes(self) -> list[str]:
        if self.reason is None:
            return []
        return [
            f"no yardstick: the {self.settings.names[1]} {self.reason}, so it has no float64 self; "
            "it is judged by the reference in the working dtype, an error of more than eight times "
            f"what moving the inputs by an ulp of {self.narrowest} changes fails."
        ]

    def values_and_reverse(self) -> tuple[Trusted, GradientReport, GradientReport]:
        """The trusted gradient, and what is found of the values and of the candidate's gradient."""
        sets = sets_of(self.point.cotangents)
        self.settings.progress(f"values and gradient, {self.dtype}")
        try:
            both = self.trust(values_and_reverse, sets)
        except Exception as error:
            raise ValueError(f"the reference raised {first_line(error)}") from error
        outputs, arguments = self.point.outputs, self.point.arguments
        of_values = both.of_leaves(slice(len(outputs))).of_all_together()
        trusted = both.of_leaves(slice(len(outputs), None))
        with working(self.dtype):
            try:
                found = self.tested.derive(values_and_reverse, self.point, sets)
            except Exception as error:
                return trusted, self._raised(error, ""), GradientReport()
        values = [leaf[:1] for leaf in found[: len(outputs)]]
        gradient = found[len(outputs) :]
        names = _together_and_alone(outputs)
        return (
            trusted,
            self._report("values", values, of_values, outputs, [None]),
            self._report(REVERSE, gradient, trusted, arguments, names),
        )

    def forward(self) -> GradientReport:
        names = _together_and_alone(self.point.arguments)
        sets = sets_of(self._directions())
        report = self._compare("forward mode", forward, sets, self.point.outputs, names)
        turned = [_turned(c) for c in report.comparisons]
        return GradientReport(tuple(turned), report.mismatches, notes=report.notes)

    def second_order(self) -> GradientReport:
        weights = ([c[None] for c in self.point.cotangents], [d[None] for d in self._directions()])
        return self._compare("second order", second_order, weights, self.point.arguments, [None])

    def consistency(self, criterion: str, trusted: Trusted) -> GradientReport:
        if not self.tested.jit and criterion != "repeated runs":
            return GradientReport()
        self.settings.progress(f"{criterion}, {self.dtype}")
        trusted = trusted.of_all_together()
        with working(self.dtype):
            try:
                pairs = list(self.tested.twice(criterion, self.point, self.settings.seed))
            except Exception as error:
                if criterion == "vmap against a loop":
                    return self._undefined(self.settings.names[0], criterion, error)
                return self._raised(error, f"{criterion}: ")
        found = [t + (two - one) for t, (one, two) in zip(trusted.truth, pairs, strict=True)]
        names = self.settings.names[0], self.settings.names[0]
        comparisons = self._judged(criterion, found, trusted, self.point.arguments, [None], names)
        return GradientReport(tuple(comparisons))

    def _directions(self) -> list[ndarray]:
        rng = np.random.default_rng(self.settings.seed + 1)
        drawn = [rng.standard_normal(leaf.shape) for leaf in self.point.floats]
        return rounded(drawn, self.dtype)

    def _compare(
        self,
        criterion: str,
        mode: Mode,
        sets: Any,
        leaves: list[str],
        names: list[str | None],
    ) -> GradientReport:
        self.settings.progress(f"{criterion}, {self.dtype}")
        with working(self.dtype):
            try:
                found = self.tested.derive(mode, self.point, sets)
            except Exception as error:
                return self._undefined(self.settings.names[0], criterion, error)
        try:
            trusted = self.trust(mode, sets)
        except Exception as error:
            return self._undefined(self.settings.names[1], criterion, error)
        return self._report(criterion, found, trusted, leaves, names)

    def _undefined(self, name: str, criterion: str, error: Exception) -> GradientReport:
        note = f"{name}: {criterion} is not defined: {first_line(error)}"
        return GradientReport(notes=(note,))

    def _report(
        self,
        criterion: str,
        found: list[ndarray],
        trusted: Trusted,
        leaves: list[str],
        sets: list[str | None],
    ) -> GradientReport:
        comparisons = self._judged(criterion, found, trusted, leaves, sets, self.settings.names)
        return GradientReport(tuple(comparisons), tuple(self._not_finite(found, trusted, leaves)))

    def trust(self, mode: Mode, sets: Any) -> Trusted:
        call, floats, others = self.point[:3]
        if self.reason is None:
            with jax.enable_x64(True):
                return trust(mode, call, floats, others, sets, self.dtype, self.settings.seed)
        with working(self.dtype):
            return trust_without_float64(
                mode, call, floats, others, sets, self.narrowest, self.settings.seed
            )

    def _judged(
        self,
        criterion: str,
        found: list[ndarray],
        trusted: Trusted,
        leaves: list[str],
        sets: list[str | None],
        names: tuple[str, str],
    ) -> Iterator[Comparison]:
        for n, leaf in enumerate(leaves):
            blocks = self.settings.blocks.get(leaf, {})
            axes = self.settings.axes.get(leaf, {}) if criterion in (REVERSE, "values") else {}
            for judged in judge_parts(found[n], trusted, n, self.narrowest, blocks, axes):
                yield Comparison(
                    *names,
                    criterion,
                    self.dtype.name,
                    leaf,
                    judged.part.block,
                    judged.error,
                    judged.ratio,
                    judged.verdict,
                    sets[judged.set],
                    judged.part.axis,
                    judged.part.index,
                )

    def _not_finite(
        self, found: list[ndarray], trusted: Trusted, leaves: list[str]
    ) -> Iterator[Mismatch]:
        for value, truth, leaf in zip(found, trusted.truth, leaves, strict=True):
            strange = int((~np.isfinite(value[0]) & np.isfinite(truth[0])).sum())
            if strange:
                words = f"{leaf}: expected finite numbers, {strange} of {truth[0].size} are not."
                yield Mismatch("not finite", self.dtype.name, words)

    def _raised(self, error: Exception, before: str) -> GradientReport:
        words = f"{before}the {self.settings.names[0]} raised {first_line(error)}"
        return GradientReport(mismatches=(Mismatch("raises", self.dtype.name, words),))


def sets_of(weights: list[ndarray]) -> list[ndarray]:
    """All weights together, then, where there are several, each leaf's alone: [sets, ...]."""
    alone = range(len(weights)) if len(weights) > 1 else ()
    return [
        np.stack([leaf, *(leaf if n == k else np.zeros_like(leaf) for k in alone)])
        for n, leaf in enumerate(weights)
    ]


def _together_and_alone(names: list[str]) -> list[str | None]:
    return [None, *names] if len(names) > 1 else [None]


def _turned(comparison: Comparison) -> Comparison:
    """Of forward mode: the leaf is an output, the set an argument's direction."""
    argument = comparison.output or ALL_ARGUMENTS
    return dataclasses.replace(comparison, argument=argument, output=comparison.argument)
