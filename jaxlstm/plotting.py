"""Every figure; the only file that imports matplotlib."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.gradient_check import RATIO_LIMIT, GradientReport
from jaxlstm.gradient_check.display import HeatMap, heat_maps, worst_ratio
from jaxlstm.gradient_check.report import grouped_mismatches

DECADES = 3.0
"""How far below the limit the colours go, in powers of ten; above it, to the worst ratio."""
NAMED_COLUMNS = 16
"""Of more columns than these only the numbers are written."""


def plot_gradient_report(report: GradientReport) -> Figure:
    """Heat maps of rounding ratios: by part (gate), then for each named axis by index (step).

    A row is an argument in one dtype. Purple passes, orange fails, white is the limit itself; grey,
    nothing was compared. What could not be compared is said in a sentence.
    """
    maps = heat_maps(report)
    told = [textwrap.fill(m, 110) for m in grouped_mismatches(report.mismatches)]
    heights = [1 + len(heat_map.rows) for heat_map in maps]
    figure = Figure(figsize=(9, 1.6 + 0.28 * max(sum(heights), 3)), layout="constrained")
    figure.suptitle("\n".join([report.verdict(), *told]), fontsize=10)
    if maps:
        places = figure.subplots(len(maps), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, heat_map in zip(places, maps, strict=True):
            _draw(axes, heat_map)
    return figure


def _draw(axes: Axes, heat_map: HeatMap) -> None:
    """One heat map, its colours by the ratio's logarithm."""
    limit, worst = np.log10([RATIO_LIMIT, worst_ratio(heat_map)])
    with np.errstate(divide="ignore"):
        powers = np.clip(np.log10(heat_map.ratios), limit - DECADES, worst)
    image = axes.imshow(
        powers,
        aspect="auto",
        interpolation="nearest",
        cmap=matplotlib.colormaps["PuOr_r"],
        norm=TwoSlopeNorm(limit, limit - DECADES, worst),
    )
    axes.set_facecolor("0.8")
    axes.set_yticks(range(len(heat_map.rows)), heat_map.rows, fontsize=8)
    if len(heat_map.columns) <= NAMED_COLUMNS:
        axes.set_xticks(range(len(heat_map.columns)), heat_map.columns, fontsize=8)
    axes.set_xlabel(heat_map.by)
    bar = axes.figure.colorbar(image, ax=axes, label="rounding ratio", format="$10^{%d}$")
    bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def save_gradient_report(report: GradientReport, destination: str) -> None:
    """Writes ``plot_gradient_report`` to a file, in the format that its name ends in.

    Raises:
        ValueError: an ending that matplotlib does not know.
    """
    plot_gradient_report(report).savefig(destination, dpi=150)
