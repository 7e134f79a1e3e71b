"""Every figure; the only file that imports matplotlib."""

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jaxlstm.gradient_check import RATIO_LIMIT, GradientReport
from jaxlstm.gradient_check.display import heat_maps

DECADES = 3.0
"""How far from the limit the colours go, in powers of ten."""


def plot_gradient_report(report: GradientReport) -> Figure:
    """A heat map of rounding ratios for each named axis: a row an argument, a column a step.

    Purple passes, orange fails, white is the limit itself.
    """
    maps = heat_maps(report)
    rows = sum(len(names) for _, names, _ in maps)
    figure = Figure(figsize=(9, 1.6 + 0.28 * max(rows, 3)), layout="constrained")
    figure.suptitle(report.verdict(), fontsize=10)
    for place, (axis, names, heat) in enumerate(maps, start=1):
        axes = figure.add_subplot(len(maps), 1, place)
        low, high = RATIO_LIMIT * 10**-DECADES, RATIO_LIMIT * 10**DECADES
        image = axes.imshow(
            np.clip(heat, low, high),
            aspect="auto",
            interpolation="nearest",
            cmap=matplotlib.colormaps["PuOr_r"],
            norm=LogNorm(low, high),
        )
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel(axis)
        figure.colorbar(image, ax=axes, label="rounding ratio")
    return figure


def save_gradient_report(report: GradientReport, destination: str) -> None:
    """Writes ``plot_gradient_report`` to a file, in the format that its name ends in.

    Raises:
        ValueError: an ending that matplotlib does not know.
    """
    plot_gradient_report(report).savefig(destination, dpi=150)
