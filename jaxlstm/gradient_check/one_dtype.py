"""A candidate's values and derivatives judged in one working dtype."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Point, first_line, place_of, rounded
from jaxlstm.gradient_check.candidate import Candidate, structure_mismatches
from jaxlstm.gradient_check.comparison import ALL_ARGUMENTS, Comparison, Mismatch
from jaxlstm.gradient_check.float64_self import narrowest_inside
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
from jaxlstm.gradient_check.places import at_entries
from jaxlstm.gradient_check.report import REVERSE, GradientReport, joined, runs

CONSISTENCY = ("jit against eager", "vmap against a loop", "repeated runs")
OWN = {"values": "value", REVERSE: "gradient"}
"""What of a function a criterion compares, where it is worth a note that it is not finite."""


class Settings(NamedTuple):
    """What to check, beside the functions and the point; see ``check_gradients``."""

    blocks: Blocks
    axes: Axes
    names: tuple[str, str]
    jit: bool
    seed: int
    progress: Callable[[str], None]


@contextlib.contextmanager
def working(dtype: Any) -> Iterator[None]:
    """JAX as its user has it in this dtype: 64-bit types for float64 alone."""
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        yield


def check_dtype(
    tested: Candidate, exact: Point, settings: Settings, dtype: Any, also: Sequence[str]
) -> GradientReport:
    """Everything in one working dtype, as far as the first thing that forbids the next.

    A gradient says nothing where the values differ, nor its consistency where it is no number.
    """
    point = exact.rounded(dtype)
    with working(dtype):
        mismatches = structure_mismatches(tested, point, dtype)
    if mismatches:
        return GradientReport(mismatches=tuple(mismatches))
    check = _Check(
        tested, point, settings, dtype, *narrowest_inside(point.call, *point[1:3], dtype)
    )
    trusted, gradient = check.values_and_reverse()
    others = [] if gradient.mismatches else check.others(also, trusted)
    return joined([GradientReport(notes=tuple(check.notes())), gradient, *others])


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
            f"no yardstick in {self.dtype}: the {self.settings.names[1]} {self.reason}, so it has "
            "no float64 self. It is judged by itself in the working dtype: an error fails that is "
            f"more than eight times what moving the inputs by an ulp of {self.narrowest} changes."
        ]

    def values_and_reverse(self) -> tuple[Trusted, GradientReport]:
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
                return trusted, self._raised("the candidate's backward pass", error)
        own = [leaf[:1] for leaf in found[: len(outputs)]]
        values = self._differing(self._report("values", own, of_values, outputs, [None]))
        if values.mismatches:
            return trusted, values
        names = _together_and_alone(outputs)
        gradient = self._report(REVERSE, found[len(outputs) :], trusted, arguments, names)
        return trusted, joined([values, gradient])

    def _differing(self, values: GradientReport) -> GradientReport:
        """The values' report, with a mismatch where they differ, though all are numbers."""
        if values.mismatches or not values.failures:
            return values
        where = "; ".join(_where_wrong(values.comparisons))
        words = f"the candidate's values differ from the reference's: {where}"
        words = f"{words}. Its gradient is not compared."
        return joined([values, GradientReport(mismatches=(self._mismatch("values", words),))])

    def others(self, also: Sequence[str], trusted: Trusted) -> list[GradientReport]:
        """What is compared beside the gradient."""
        found: list[GradientReport] = []
        if "forward mode" in also:
            found.append(self.forward())
        if "second order" in also:
            found.append(self.second_order())
        return found + [self.consistency(name, trusted) for name in CONSISTENCY if name in also]

    def forward(self) -> GradientReport:
        names = _together_and_alone(self.point.arguments)
        sets = sets_of(self._directions())
        report = self._compare("forward mode", forward, sets, self.point.outputs, names)
        return dataclasses.replace(report, comparisons=tuple(map(_turned, report.comparisons)))

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
                return self._raised(f"{criterion}: the candidate", error)
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
        strange = self._not_finite(criterion, found, trusted, leaves)
        unknown = self._not_told(criterion, trusted, leaves) if criterion in OWN else ()
        return GradientReport(tuple(comparisons), tuple(strange), notes=tuple(unknown))

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
        self, criterion: str, found: list[ndarray], trusted: Trusted, leaves: list[str]
    ) -> Iterator[Mismatch]:
        """A mismatch for each leaf that is not finite where the reference's is."""
        of = OWN.get(criterion, criterion)
        for n, leaf in enumerate(leaves):
            strange = ~np.isfinite(found[n][0]) & trusted.known(n)[0]
            if strange.any():
                where = at_entries(strange)
                words = f"{leaf}: the candidate's {of} is not finite{where}."
                yield self._mismatch("not finite", words)

    def _not_told(self, criterion: str, trusted: Trusted, leaves: list[str]) -> Iterator[str]:
        """A note for each leaf in which the reference is not finite itself."""
        for n, leaf in enumerate(leaves):
            own = ~np.isfinite(trusted.truth[n][0])
            unknown, dtype = (own, "") if own.any() else (~trusted.known(n)[0], f" in {self.dtype}")
            if unknown.any():
                of = f"the reference's own {OWN[criterion]} is not finite{dtype}"
                yield f"{leaf}: {of}{at_entries(unknown)}, so nothing is told of it there."

    def _mismatch(self, kind: str, words: str) -> Mismatch:
        return Mismatch(kind, self.dtype.name, words)

    def _raised(self, who: str, error: Exception) -> GradientReport:
        words = f"{who} raised {first_line(error)}{place_of(error)}"
        return GradientReport(mismatches=(self._mismatch("raises", words),))


def _where_wrong(values: Sequence[Comparison]) -> Iterator[str]:
    """Each output that differs: "outputs from step 4 on", or its name alone."""
    for name in dict.fromkeys(c.argument for c in values if c.passed is False):
        own = [c for c in values if c.argument == name and c.index is not None]
        wrong = [c.index for c in own if c.passed is False and c.index is not None]
        if not wrong or len(wrong) == len(own):
            yield name
        elif wrong == [c.index for c in own][-len(wrong) :]:
            yield f"{name} from {own[0].axis} {wrong[0]} on"
        else:
            yield f"{name} at {own[0].axis} {runs(wrong)}"


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
