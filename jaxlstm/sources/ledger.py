"""What a document prints, and the machine's verdict on it.

An entry holds one printed line as functions of a draw: a random point at which every quantity that
the line mentions is the true one, by JAX's autodiff of the document's plain forward system in
float64. So each line is judged alone, and a wrong one is blamed for nothing but itself.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check import relative_error

Verdict = Literal[
    "holds", "fails", "holds only if", "ill-formed", "typographical", "supplied", "undecided"
]
Kind = Literal["definition", "equation", "bound", "limit", "claim"]

Line = Callable[[Any], Any]
"""One side of a printed line, from a draw."""

HOLDS = 1e-12
"""The largest relative error, on any draw, of a line that holds."""

FAILS = 1e-6
"""The smallest relative error, on any draw, of a line that fails."""

FITS = 1e-9
"""The largest relative error of what is missing, by its fitted terms."""

SHOWN = 8
"""The most wrong entries that are named."""

MISFIT = re.compile("broadcast|dimension|shape")
"""In every sentence of NumPy's about operands that do not fit one another."""


class IllFormedError(ValueError):
    """A line that cannot be evaluated: operands that do not fit, or a value unlike the left side.

    Any other ValueError is a bug of ours, and stops the judging.
    """


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a line that fails in general needs to hold.

    Attributes:
        words: the condition.
        draw: the same quantities at a random point where it is met, from a seed.
    """

    words: str
    draw: Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One printed line.

    Attributes:
        document: the first three digits of the document's file name.
        equation: its number there, or a label of ours where it has none.
        statement: the line in LaTeX.
        printed: the right side as the document has it, from a draw; where it cannot be evaluated,
            NumPy refuses or the shape is not the left side's. Of a bound, the pair (what is
            bounded, the bound). None where the document needs the line but does not print it.
        truth: the left side, by autodiff, from a draw; None for a bound.
        corrected: the right side as it should be, where the printed one does not hold.
        verdict: the recorded one, which the machine's must equal.
        line: its number in a derivation of several lines, from 1; None for the equation itself.
        reading: how it is read, where it can be read in two ways.
        kind: what it is in the document's argument.
        condition: for "holds only if".
        terms: named terms, from a draw; what is missing in the printed line is fitted by them.
        used_by: labels of the lines of the library's own code that compute this.
        note: what was found, in a sentence.
    """

    document: str
    equation: str
    statement: str
    printed: Callable[[Any], Any] | None
    truth: Callable[[Any], Any] | None
    corrected: Callable[[Any], Any] | None = None
    verdict: Verdict = "holds"
    line: int | None = None
    reading: str | None = None
    kind: Kind = "equation"
    condition: Condition | None = None
    terms: Callable[[Any], Mapping[str, Any]] | None = None
    used_by: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the machine found of one entry.

    Attributes:
        verdict: by the errors alone, but "typographical" where that is recorded and it holds.
        printed_error: the largest relative error of the printed line on any draw; of a bound, the
            largest share of the bound that is reached; None where it cannot be evaluated.
        least_error: the smallest relative error of the printed line on any draw.
        corrected_error: the largest of the corrected line, or None without one.
        wrong_entries: the share of entries that are wrong by more than FAILS, on the worst draw.
        wrong_at: the indices of the first of them.
        fit: for each of the entry's terms, how often it must be added to the printed line;
            empty where the draws do not say.
        reason: why the printed line cannot be evaluated, by what NumPy said of it.
    """

    entry: Entry
    verdict: Verdict
    printed_error: float | None
    least_error: float | None
    corrected_error: float | None
    wrong_entries: float | None
    fit: Mapping[str, float]
    reason: str | None = None
    wrong_at: tuple[tuple[int, ...], ...] = ()

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict is the recorded one and what stands corrected holds."""
        right = self.corrected_error is None or self.corrected_error <= HOLDS
        return self.verdict == self.entry.verdict and right

    def to_json(self) -> dict[str, Any]:
        """What was printed and what was found, as JSON values."""
        fields = ("document", "equation", "line", "reading", "kind", "statement")
        return {
            **{name: getattr(self.entry, name) for name in fields},
            "verdict": self.verdict,
            "printed_error": _finite_or_none(self.printed_error),
            "corrected_error": _finite_or_none(self.corrected_error),
            "note": self.entry.note,
            "recorded_verdict": self.entry.verdict,
            "condition": self.entry.condition.words if self.entry.condition else None,
            "wrong_entries": self.wrong_entries,
            "wrong_at": [list(index) for index in self.wrong_at],
            "fit": dict(self.fit),
            "reason": self.reason,
            "used_by": list(self.entry.used_by),
        }


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def judge(entry: Entry, draws: Iterable[Any], seeds: Iterable[int]) -> Judgement:
    """Judges one entry on the draws; ``seeds`` draw the points of its condition."""
    draws = list(draws)
    corrected = None if entry.corrected is None else max(_errors(entry, entry.corrected, draws))
    if entry.printed is None:
        holds = corrected is not None and corrected <= HOLDS
        return Judgement(entry, "supplied" if holds else "fails", None, None, corrected, None, {})
    try:
        errors = _errors(entry, entry.printed, draws)
    except IllFormedError as error:
        everywhere = all(_is_ill_formed(entry, entry.printed, draw) for draw in draws)
        verdict = "ill-formed" if everywhere else "undecided"
        return Judgement(entry, verdict, None, None, corrected, None, {}, str(error))
    verdict = _verdict(entry, entry.printed, errors, seeds)
    if verdict not in ("fails", "holds only if") or entry.truth is None:
        return Judgement(entry, verdict, max(errors), min(errors), corrected, None, {})
    truths = [np.asarray(entry.truth(draw)) for draw in draws]
    missing = [truth - entry.printed(draw) for truth, draw in zip(truths, draws, strict=True)]
    wrong = [abs(m) > FAILS * abs(t).max() for m, t in zip(missing, truths, strict=True)]
    worst = np.asarray(max(wrong, key=np.mean))
    return Judgement(
        entry,
        verdict,
        max(errors),
        min(errors),
        corrected,
        wrong_entries=float(worst.mean()),
        wrong_at=tuple(map(tuple, np.argwhere(worst)[:SHOWN].tolist())),
        fit=_fit(entry.terms, missing, draws) if entry.terms else {},
    )


def _errors(entry: Entry, line: Line, draws: Iterable[Any]) -> list[float]:
    return [_error(entry, line, draw) for draw in draws]


def _error(entry: Entry, line: Line, draw: Any) -> float:
    value = _evaluated(line, draw)
    if entry.truth is None:
        with np.errstate(divide="ignore"):
            return float(np.max(np.divide(*value)))
    value, truth = np.asarray(value), np.asarray(entry.truth(draw))
    if value.shape != truth.shape:
        raise IllFormedError(f"expected shape {truth.shape}, got {value.shape}")
    return relative_error(value, truth)


def _evaluated(line: Line, draw: Any) -> Any:
    try:
        return line(draw)
    except ValueError as error:
        if MISFIT.search(str(error)):
            raise IllFormedError(str(error)) from error
        raise


def _is_ill_formed(entry: Entry, line: Line, draw: Any) -> bool:
    try:
        _error(entry, line, draw)
    except IllFormedError:
        return True
    return False


def _verdict(entry: Entry, printed: Line, errors: list[float], seeds: Iterable[int]) -> Verdict:
    if entry.truth is None:
        return "holds" if max(errors) <= 1 + HOLDS else "fails"
    if max(errors) <= HOLDS:
        return "typographical" if entry.verdict == "typographical" else "holds"
    if min(errors) <= FAILS:
        return "undecided"
    if entry.condition is None:
        return "fails"
    met = _errors(entry, printed, map(entry.condition.draw, seeds))
    return "holds only if" if max(met) <= HOLDS else "fails"


def _fit(terms: Line, missing: list[ndarray], draws: list[Any]) -> dict[str, float]:
    """The terms' coefficients in what is missing on all draws; none where they do not explain it.

    By least squares: where too few draws leave them open, none either.
    """
    named = [terms(draw) for draw in draws]
    columns = [np.concatenate([np.ravel(row[name]) for row in named]) for name in named[0]]
    matrix, target = np.stack(columns, -1), np.concatenate([np.ravel(rest) for rest in missing])
    coefficients, _, rank, _ = np.linalg.lstsq(matrix, target)
    if rank < len(columns) or relative_error(matrix @ coefficients, target) > FITS:
        return {}
    return dict(zip(named[0], coefficients.tolist(), strict=True))
