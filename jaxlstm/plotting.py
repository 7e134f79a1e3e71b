"""Every figure; the only file that imports matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

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


def plot_training(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and held-out loss in nats a character by step, the gradient's norm below.

    Args:
        records: the lines of a run's log.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, norms = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    steps = [record["step"] for record in records]
    losses.plot(steps, [record["loss"] for record in records], color="C0", label="training")
    measured = [record for record in records if record["held_out"]]
    losses.plot(
        [record["step"] for record in measured],
        [record["held_out"]["nats_per_character"] for record in measured],
        "o-",
        color="C1",
        label="held out",
    )
    losses.set_ylabel("nats a character")
    bits = losses.secondary_yaxis("right", functions=(_nats_to_bits, _bits_to_nats))
    bits.set_ylabel("bits a character")
    losses.legend()
    norms.semilogy(steps, [record["gradient_norm"] for record in records], color="C0")
    norms.set(xlabel="optimizer step", ylabel="gradient norm")
    return figure


def _nats_to_bits(nats: ArrayLike) -> ArrayLike:
    return np.asarray(nats) / np.log(2)


def _bits_to_nats(bits: ArrayLike) -> ArrayLike:
    return np.asarray(bits) * np.log(2)


def save_training(records: Sequence[Mapping[str, Any]], destination: str) -> None:
    """Writes ``plot_training`` to a file, in the format that its name ends in."""
    plot_training(records).savefig(destination, dpi=150)
