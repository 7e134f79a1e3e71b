"""Every figure; the only file that imports matplotlib."""

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jaxlstm.gradient_check import RATIO_LIMIT, GradientReport
from jaxlstm.gradient_check.display import heat_maps

EXACT = 1e-2
"""The ratio that anything smaller is drawn as."""


def plot_gradient_report(report: GradientReport) -> Figure:
    """A heat map of rounding ratios for each named axis: a row an argument, a column a step.

    Wrong entries are darker than the mark at the limit on the colour bar; a ratio that is infinite
    is drawn as the largest finite one. Arguments without a named axis stand in one bar beside.
    """
    maps = heat_maps(report)
    rows = sum(len(names) for _, names, _ in maps)
    figure = Figure(figsize=(9, 1.6 + 0.28 * max(rows, 3)), layout="constrained")
    figure.suptitle(report.verdict(), fontsize=10)
    for place, (axis, names, heat) in enumerate(maps, start=1):
        axes = figure.add_subplot(len(maps), 1, place)
        finite = heat[np.isfinite(heat)]
        worst = max(finite.max(initial=0.0), 10 * RATIO_LIMIT)
        shown = np.clip(np.where(np.isinf(heat), worst, heat), EXACT, worst)
        image = axes.imshow(
            shown,
            aspect="auto",
            interpolation="nearest",
            cmap=matplotlib.colormaps["cividis_r"],
            norm=LogNorm(EXACT, worst),
        )
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel(axis)
        bar = figure.colorbar(image, ax=axes, label="rounding ratio")
        bar.ax.axhline(RATIO_LIMIT, color="red", linewidth=2)
    return figure


def save_gradient_report(report: GradientReport, destination: str) -> None:
    """Writes ``plot_gradient_report`` to a file, in the format that its name ends in.

    Raises:
        ValueError: an ending that matplotlib does not know.
    """
    plot_gradient_report(report).savefig(destination, dpi=150)
