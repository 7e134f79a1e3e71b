"""A report as a rich table and as plain HTML."""

import math
from collections.abc import Iterable, Iterator
from html import escape as escape_html
from typing import Any

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
    grouped_failures,
    grouped_mismatches,
)

SHOWN = 12
"""Lines of failures that are shown; ``str`` and JSON hold all."""

WHOLE = "each argument as a whole"
"""What a heat map's one column stands for where no axis has a name."""
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
            *map(error_text, worst),
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
    found = ["[bold]Most likely wrong:[/bold]", *lines] if lines else []
    return found + (["[bold]Where:[/bold]", *map(escape, report.places)] if report.places else [])


def error_text(comparison: Comparison | None) -> str:
    """The relative error, the slope of a Taylor remainder, or why there is none."""
    if comparison is None:
        return ""
    if isinstance(comparison.passed, str):
        return _coloured(comparison, "?" if comparison.passed == "unresolved" else "kink")
    if comparison.slope is not None:
        return _coloured(comparison, f"{comparison.slope:.2f}")
    error = comparison.relative_error
    return _coloured(comparison, f"{error:.1e}" if error else "0")


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
    """The verdict, the explanations and, for arguments with a named axis, a heat map of ratios."""
    lines = [report.verdict(), *grouped_mismatches(report.mismatches)]
    lines += [f"{n}. {e}" for n, e in enumerate(report.explanations, start=1)]
    lines += [*report.places, *report.notes]
    text = "".join(f"<div>{escape_html(line)}</div>" for line in lines)
    return f"<div>{text}{''.join(map(_html_map, heat_maps(report)))}</div>"


def heat_maps(report: GradientReport) -> list[tuple[str, list[str], ndarray]]:
    """For each named axis: its name, the rows' names, and the rounding ratios [rows, indices].

    A row is one argument under one output's cotangent, or all, in one dtype; NaN where nothing was
    compared. Where no axis has a name, one column for each argument as a whole.
    """
    shown = [c for c in report.comparisons if c.criterion in (REVERSE, BACKWARD_STEP)]
    by_index = [c for c in shown if c.axis is not None and c.index is not None]
    cells: dict[str, dict[str, dict[int, float]]] = {}
    for c in by_index or [c for c in shown if c.block is None]:
        pulled = "" if c.output is None else f" from {c.output}"
        row = f"{c.argument}{pulled}, {c.dtype}"
        cells.setdefault(c.axis or WHOLE, {}).setdefault(row, {})[c.index or 0] = _heat(c)
    maps = []
    for axis, rows in cells.items():
        size = 1 + max(max(row) for row in rows.values())
        heat = [[row.get(k, float("nan")) for k in range(size)] for row in rows.values()]
        maps.append((axis, list(rows), np.array(heat)))
    return maps


def _heat(comparison: Comparison) -> float:
    """The ratio, on that side of the limit on which the verdict is; NaN where there is none."""
    ratio = comparison.rounding_ratio
    if comparison.passed is True:
        return min(ratio or 0.0, RATIO_LIMIT)
    if comparison.passed is False:
        return max(math.inf if ratio is None else ratio, 1.01 * RATIO_LIMIT)
    return math.nan


def _html_map(heat_map: tuple[str, list[str], ndarray]) -> str:
    axis, names, heat = heat_map
    rows = "".join(
        f"<tr><th style='text-align:left;font-weight:normal'>{escape_html(name)}</th>"
        + "".join(map(_html_cell, row))
        + "</tr>"
        for name, row in zip(names, heat, strict=True)
    )
    caption = (
        f"<caption>rounding ratios by {escape_html(axis)}: purple passes, orange fails</caption>"
    )
    return f"<table style='border-spacing:1px'>{caption}{rows}</table>"


def _html_cell(ratio: float) -> str:
    """Purple up to the limit, orange beyond it; both are told apart by the colour-blind."""
    if np.isnan(ratio):
        return "<td></td>"
    shade = min(1.0, np.log10(1 + ratio) / 6)
    colour = "#5e3c99" if ratio <= RATIO_LIMIT else "#e66101"
    opacity = 0.15 + 0.85 * shade
    return (
        f"<td title='{ratio:.3g}' style='width:6px;height:14px;padding:0;"
        f"background:{colour};opacity:{opacity:.2f}'></td>"
    )
