"""What ``check_gradients`` returns: all that was compared, what is wrong, and why it may be."""

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Comparison, Mismatch
from jaxlstm.gradient_check.hypotheses import Explanation

REVERSE = "rounding ratio"
"""The criterion of a gradient held against the reference's in units of rounding."""


@dataclasses.dataclass(frozen=True, repr=False)
class GradientReport:
    """A check's findings.

    Attributes:
        comparisons: in the order in which they were made.
        mismatches: why something could not be compared.
        explanations: what the catalogue makes of the failures, the likeliest first.
        places: where the gradient is wrong, where no explanation reproduces it, a sentence each.
        notes: what else a reader should know, a sentence each.
    """

    comparisons: tuple[Comparison, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    places: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The comparisons that fail, the worst first."""
        failed = [c for c in self.comparisons if c.passed is False]
        return tuple(sorted(failed, key=lambda c: c.badness, reverse=True))

    @property
    def passed(self) -> bool:
        """Whether nothing fails, all could be compared, and something could be told."""
        resolved = any(c.passed is True for c in self.comparisons)
        return resolved and not self.mismatches and not self.failures

    def raise_if_failed(self) -> None:
        """Raises an AssertionError whose message is the whole report, where it did not pass."""
        if not self.passed:
            raise AssertionError(str(self))

    def verdict(self) -> str:
        """The outcome in one line."""
        told = [c for c in self.comparisons if isinstance(c.passed, bool)]
        worst = max((c.rounding_ratio or 0.0 for c in told), default=0.0)
        verdicts = [c.passed for c in self.comparisons]
        counts = [_counted(len(verdicts), "comparison"), f"{len(self.failures)} failed"]
        counts.append(f"{verdicts.count('unresolved')} unresolved")
        kinks, mismatches = verdicts.count("kink"), grouped_mismatches(self.mismatches)
        counts += [_counted(kinks, "kink")] if kinks else []
        counts += [_counted(len(mismatches), "mismatch", "mismatches")] if mismatches else []
        failed = self.mismatches or self.failures
        words = "PASSED" if self.passed else "FAILED" if failed else "NOTHING TOLD"
        return f"{words}: {', '.join(counts)}; worst ratio {worst:.3g} of {RATIO_LIMIT:g}."

    def __repr__(self) -> str:
        return f"GradientReport({self.verdict()!r})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.verdict()
        yield from grouped_mismatches(self.mismatches)
        if self.explanations:
            yield explained_by(self.explanations)
            yield from (f"  {n}. {e}" for n, e in enumerate(self.explanations, start=1))
        if self.places:
            yield "Where:"
            yield from (f"  {place}" for place in self.places)
        if self.failures:
            yield "What fails, the worst first:"
            yield from (f"  {line}" for line in grouped_failures(self.failures))
        yield from (f"Note: {note}" for note in self.notes)

    def __rich__(self) -> Any:
        from jaxlstm.gradient_check.display import as_renderable

        return as_renderable(self)

    def _repr_html_(self) -> str:
        from jaxlstm.gradient_check.display import as_html

        return as_html(self)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        lists = ("comparisons", "mismatches", "explanations")
        found = {name: [item.to_json() for item in getattr(self, name)] for name in lists}
        told = {"places": list(self.places), "notes": list(self.notes)}
        return {"passed": self.passed, **found, **told}


def joined(reports: Iterable[GradientReport]) -> GradientReport:
    """All that several reports compared, forbade and noted, a repeated note once."""
    reports = list(reports)
    return GradientReport(
        tuple(c for report in reports for c in report.comparisons),
        tuple(m for report in reports for m in report.mismatches),
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


def explained_by(explanations: Iterable[Explanation]) -> str:
    """What stands above the explanations: whether one of them is it."""
    if any(explanation.reproduces for explanation in explanations):
        return "Most likely wrong:"
    return (
        "No single known mistake reproduces this: there may be several, or one not in the "
        "catalogue. The nearest:"
    )


def grouped_mismatches(mismatches: Iterable[Mismatch]) -> list[str]:
    """A line for all mismatches with the same words, after the dtypes."""
    dtypes: dict[str, list[str]] = {}
    for mismatch in mismatches:
        dtypes.setdefault(mismatch.words, []).append(mismatch.dtype)
    return [f"{', '.join(dict.fromkeys(found))}: {words}" for words, found in dtypes.items()]


def grouped_failures(failures: Iterable[Comparison]) -> Iterator[str]:
    """A line for each argument, output, criterion and dtype, with all its wrong parts.

    Gradients against the reference stand before what other criteria say of them.
    """
    failures = sorted(failures, key=lambda c: c.criterion != REVERSE)
    groups: dict[tuple[Any, ...], list[Comparison]] = {}
    for c in failures:
        groups.setdefault((c.argument, c.output, c.criterion, c.reference, c.dtype), []).append(c)
    for (argument, output, criterion, reference, dtype), group in groups.items():
        pulled = f" from {output} alone" if output else ""
        how = f"against {reference}" if criterion == REVERSE else criterion
        yield f"{argument}{pulled}, {dtype}, {how}: {'; '.join(_errors(group))}"


def _errors(group: list[Comparison]) -> Iterator[str]:
    """The worst error, with all parts that are wrong; apart, where the truth is exactly zero."""
    nonzero = [c for c in group if not c.truth_is_zero]
    for some in (nonzero, [c for c in group if c.truth_is_zero]):
        parts = ", ".join(wrong_parts(some)) or "as a whole"
        if some and some[0].truth_is_zero:
            yield f"not zero where the truth is exactly zero ({parts})"
        elif some:
            ratio = some[0].rounding_ratio
            words = "" if ratio is None else f", ratio {ratio:.3g}"
            yield f"error {some[0].relative_error:.1e}{words} ({parts})"


def wrong_parts(group: Iterable[Comparison]) -> list[str]:
    """The parts' names, runs of indices joined: "forget gate", "step 0 to 7"."""
    group = list(group)
    blocks = [c.block for c in group if c.block is not None and c.axis is None]
    indices: dict[str, list[int]] = {}
    for c in group:
        if c.axis is not None and c.index is not None:
            indices.setdefault(c.axis, []).append(c.index)
    return blocks + [f"{axis} {runs(sorted(found))}" for axis, found in indices.items()]


def _counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def runs(indices: list[int]) -> str:
    """Sorted numbers with runs joined: "0 to 3, 7"."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
