"""A report as a rich table and as plain HTML."""

import math
from collections.abc import Callable, Iterable, Iterator
from html import escape as escape_html
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from jaxlstm.gradient_check.comparison import BACKWARD_STEP, RATIO_LIMIT, Comparison
from jaxlstm.gradient_check.report import (
    REVERSE,
    GradientReport,
    explained_by,
    grouped_failures,
    grouped_mismatches,
)

SHOWN = 12
"""Lines of failures that are shown; ``str`` and JSON hold all."""

WHOLE = "as a whole"
"""A heat map's column for all of an argument."""

COLOURS = {True: "green", False: "red", "unresolved": "yellow", "kink": "yellow"}


def as_renderable(report: GradientReport) -> Any:
    """The tables and the verdict, as rich sees them."""
    colour = "green" if report.passed else "red"
    return Group(*tables(report), f"[{colour}]{escape(report.verdict())}[/{colour}]")


def tables(report: GradientReport) -> Iterator[Any]:
    """Each argument's worst part by dtype and by criterion, what fails, and why."""
    yield from (f"[red]{escape(line)}[/red]" for line in grouped_mismatches(report.mismatches))
    gradients = [c for c in report.comparisons if c.criterion not in ("values", "forward mode")]
    by_dtype = [c for c in gradients if c.criterion == REVERSE]
    others = [c for c in gradients if c.criterion != REVERSE]
    if by_dtype:
        yield _worst_parts(f"Relative errors against {by_dtype[0].reference}", by_dtype, ratio=True)
    if others:
        yield _worst_parts("By other ways", others, ratio=False)
    yield from explanation_lines(report)
    lines = list(grouped_failures(report.failures))
    if lines:
        yield f"[red]{len(report.failures)} comparisons fail[/red], the worst first:"
    yield from (f"  {escape(line)}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  and {len(lines) - SHOWN} more."
    yield from (f"[dim]{escape(note)}[/dim]" for note in report.notes)


def _worst_parts(title: str, comparisons: list[Comparison], *, ratio: bool) -> Table:
    """For each argument the error of its worst part, a column for each dtype or criterion."""
    table = Table(title=escape(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = list(dict.fromkeys(map(column, comparisons)))
    table.add_column("argument", overflow="fold")
    for name in (*columns, *(["ratio"] if ratio else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for argument in dict.fromkeys(c.argument for c in comparisons):
        rows = [c for c in comparisons if c.argument == argument]
        worst = [_worst(c for c in rows if column(c) == name) for name in columns]
        table.add_row(
            escape(argument),
            *(error_text(c, digits=1 if ratio else 0) for c in worst),
            *([ratio_text(_worst(rows))] if ratio else []),
        )
    return table


def column(comparison: Comparison) -> str:
    """The heading under which a comparison's error stands."""
    short = {
        REVERSE: comparison.dtype,
        "second order": "second",
        "jit against eager": "jit",
        "vmap against a loop": "vmap",
        "repeated runs": "again",
        "finite differences": "diff.",
        "Taylor remainder": "slope",
        "adjoint identity": "adjoint",
    }
    return short.get(comparison.criterion, comparison.criterion)


def explanation_lines(report: GradientReport) -> list[str]:
    """What is most likely wrong, the best explanation first."""
    lines = [f"{n}. {escape(str(e))}" for n, e in enumerate(report.explanations, start=1)]
    found = [f"[bold]{explained_by(report.explanations)}[/bold]", *lines] if lines else []
    return found + (["[bold]Where:[/bold]", *map(escape, report.places)] if report.places else [])


def error_text(comparison: Comparison | None, digits: int) -> str:
    """The relative error, the slope of a Taylor remainder, or why there is none."""
    if comparison is None:
        return ""
    if isinstance(comparison.passed, str):
        return _coloured(comparison, "?" if comparison.passed == "unresolved" else "kink")
    if comparison.slope is not None:
        return _coloured(comparison, f"{comparison.slope:.2f}")
    error = comparison.relative_error
    return _coloured(comparison, f"{error:.{digits}e}" if error else "0")


def ratio_text(comparison: Comparison | None) -> str:
    """The rounding ratio."""
    if comparison is None:
        return ""
    ratio = comparison.rounding_ratio
    return _coloured(comparison, "exact" if ratio is None else f"{ratio:.3g}")


def _worst(comparisons: Iterable[Comparison]) -> Comparison | None:
    return max(comparisons, key=lambda c: c.badness, default=None)


def _coloured(comparison: Comparison, text: str) -> str:
    return f"[{COLOURS[comparison.passed]}]{text}[/{COLOURS[comparison.passed]}]"


def as_html(report: GradientReport) -> str:
    """The verdict, the explanations and heat maps of ratios."""
    lines = [report.verdict(), *grouped_mismatches(report.mismatches)]
    if report.explanations:
        lines.append(explained_by(report.explanations))
    lines += [f"{n}. {e}" for n, e in enumerate(report.explanations, start=1)]
    lines += [*report.places, *report.notes]
    text = "".join(f"<div>{escape_html(line)}</div>" for line in lines)
    return f"<div>{text}{''.join(map(_html_map, heat_maps(report)))}</div>"


class HeatMap(NamedTuple):
    """Rounding ratios, NaN where nothing was compared.

    Attributes:
        by: what the columns are: the parts of an argument, or the indices of a named axis.
        rows: the arguments, with their dtypes.
        columns: the parts or indices, by name.
        ratios: for each of these [rows, columns].
    """

    by: str
    rows: list[str]
    columns: list[str]
    ratios: ndarray


def heat_maps(report: GradientReport) -> list[HeatMap]:
    """The ratios by part, the worst of all outputs' cotangents; and by index, for each named axis.

    By index a row is one argument under one output's cotangent, or all.
    """
    shown = [c for c in report.comparisons if c.criterion in (REVERSE, BACKWARD_STEP)]
    parts = [c for c in shown if c.axis is None]
    maps = [_heat_map("part", parts, lambda c: f"{c.argument}, {c.dtype}")] if parts else []
    for axis in dict.fromkeys(c.axis for c in shown if c.axis is not None):
        maps.append(_heat_map(axis, [c for c in shown if c.axis == axis], _row_by_output))
    return maps


def _row_by_output(comparison: Comparison) -> str:
    pulled = "" if comparison.output is None else f" from {comparison.output}"
    return f"{comparison.argument}{pulled}, {comparison.dtype}"


def _heat_map(
    by: str, comparisons: Iterable[Comparison], row: Callable[[Comparison], str]
) -> HeatMap:
    """The worst ratio in each cell."""
    cells: dict[str, dict[str, float]] = {}
    for c in comparisons:
        found = cells.setdefault(row(c), {})
        column = WHOLE if c.block is None else c.block if c.axis is None else str(c.index)
        found[column] = float(np.fmax(found.get(column, math.nan), _heat(c)))
    columns = list(dict.fromkeys(column for found in cells.values() for column in found))
    ratios = [[found.get(column, math.nan) for column in columns] for found in cells.values()]
    return HeatMap(by, list(cells), columns, np.array(ratios))


def _heat(comparison: Comparison) -> float:
    """The ratio, on that side of the limit on which the verdict is; NaN where there is none."""
    ratio = comparison.rounding_ratio
    if comparison.passed is True:
        return min(ratio or 0.0, RATIO_LIMIT)
    if comparison.passed is False:
        return max(math.inf if ratio is None else ratio, 1.01 * RATIO_LIMIT)
    return math.nan


def worst_ratio(heat_map: HeatMap) -> float:
    """The largest finite ratio, and at least ten times the limit, where a scale of colours ends."""
    finite = heat_map.ratios[np.isfinite(heat_map.ratios)]
    return float(finite.max(initial=10 * RATIO_LIMIT))


def _html_map(heat_map: HeatMap) -> str:
    worst = worst_ratio(heat_map)
    rows = "".join(
        f"<tr><th style='text-align:left;font-weight:normal'>{escape_html(name)}</th>"
        + "".join(_html_cell(*cell, worst) for cell in zip(heat_map.columns, row, strict=True))
        + "</tr>"
        for name, row in zip(heat_map.rows, heat_map.ratios, strict=True)
    )
    words = f"rounding ratios by {escape_html(heat_map.by)}: purple passes, orange fails"
    return f"<table style='border-spacing:1px'><caption>{words}</caption>{rows}</table>"


def _html_cell(column: str, ratio: float, worst: float) -> str:
    """Purple up to the limit, orange beyond it; both are told apart by the colour-blind."""
    if np.isnan(ratio):
        return "<td></td>"
    shade = min(1.0, np.log10(1 + ratio) / np.log10(1 + worst))
    colour = "#5e3c99" if ratio <= RATIO_LIMIT else "#e66101"
    opacity = 0.15 + 0.85 * shade
    return (
        f"<td title='{escape_html(column)}: {ratio:.3g}' style='width:6px;height:14px;padding:0;"
        f"background:{colour};opacity:{opacity:.2f}'></td>"
    )
