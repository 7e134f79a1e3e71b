"""Every figure; the only file that imports matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator
from numpy.typing import ArrayLike

from jaxlstm.gradient_check import RATIO_LIMIT, GradientReport
from jaxlstm.gradient_check.display import HeatMap, heat_maps, worst_ratio
from jaxlstm.gradient_check.report import grouped_mismatches
from jaxlstm.gradient_flow import Curves, GradientFlowReport, LayerFlow, RNNFlow, Spectrum, curves

DECADES = 3.0
"""How far below the limit the colours go, in powers of ten; above it, to the worst ratio."""
NAMED_COLUMNS = 16
"""Of more columns than these only the numbers are written."""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Of Okabe and Ito, told apart by all eyes; the RNN's is black."""
FORGOTTEN, KEPT = -12.0, -0.01
"""Powers of ten: below the first the heat map of what is kept shows no difference, and above the
second none is made out of rounding."""
NAMED_LINES = 8
"""Of more directions than these the legend names some."""
DPI = 150
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8}


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
    plot_gradient_report(report).savefig(destination, dpi=DPI)


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


def plot_task(result: Mapping[str, Any]) -> Figure:
    """Learning curves of every trial: the loss, and the share of sequences that were right.

    A dot stands where the criterion was met, a dashed line at the number of 1997.

    Args:
        result: what ``jaxlstm task --json`` writes.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, shares = figure.subplots(2, 1, sharex=True)
    for method, colour in zip(result["methods"], COLOURS, strict=False):
        for n, trial in enumerate(method["trials"]):
            _draw_trial(losses, shares, trial, colour, None if n else method["name"])
    if result["published"]:
        for axes, label in ((losses, "1997"), (shares, None)):
            number = result["published"]["sequences"]
            axes.axvline(number, color="0.4", linestyle="--", label=label)
    losses.set(yscale="log", ylabel="training loss")
    losses.set_title(f"{result['task']}, T = {result['time_lag']}", fontsize=10)
    shares.set(xlabel="training sequences", ylabel="share right", ylim=(-0.03, 1.03))
    losses.legend(**LEGEND)
    return figure


def _draw_trial(
    losses: Axes, shares: Axes, trial: Mapping[str, Any], colour: str, name: str | None
) -> None:
    seen = trial["sequences"]
    for axes, values, label in ((losses, trial["loss"], name), (shares, trial["right"], None)):
        values = np.array(values, float)  # None becomes NaN, which is not drawn
        axes.plot(seen, values, color=colour, alpha=0.6, linewidth=1, label=label)
        if trial["met"]:
            axes.plot(seen[-1], values[-1], "o", color=colour, markersize=4)


def save_task(result: Mapping[str, Any], destination: str) -> None:
    """Writes ``plot_task`` to a file, in the format that its name ends in."""
    plot_task(result).savefig(destination, dpi=DPI)


def _nats_to_bits(nats: ArrayLike) -> ArrayLike:
    return np.asarray(nats) / np.log(2)


def _bits_to_nats(bits: ArrayLike) -> ArrayLike:
    return np.asarray(bits) * np.log(2)


def save_training(records: Sequence[Mapping[str, Any]], destination: str) -> None:
    """Writes ``plot_training`` to a file, in the format that its name ends in."""
    plot_training(records).savefig(destination, dpi=DPI)


def plot_gradient_flow(report: GradientFlowReport, contrast: RNNFlow | None = None) -> Figure:
    """A row for each layer: norms and path shares by distance, what each unit keeps, growth.

    The growth is that of QR's directions, each across those before it: it can be followed over any
    time and comes, for each step, to what the singular values of the steps' product come to. Its
    lines may cross, which singular values, sorted by size, do not. Those in the end are the dots.

    Args:
        report: from ``gradient_flow_report``.
        contrast: from ``rnn_flow``, of the same d_h; its gradient is drawn dashed beside that of
            the last layer, where alone d_h arrives.
    """
    layers = len(report.layers)
    figure = Figure(figsize=(11, 4 * layers), layout="constrained")
    ratios = {"height_ratios": [3, 2] * layers, "width_ratios": [5, 5, 4]}
    grid = figure.add_gridspec(2 * layers, 3, **ratios)
    for k, layer in enumerate(report.layers):
        upper, lower, both = 2 * k, 2 * k + 1, slice(2 * k, 2 * k + 2)
        of_layer = curves(layer)
        shares = figure.add_subplot(grid[lower, 0])
        _draw_shares(shares, of_layer)
        norms = figure.add_subplot(grid[upper, 0], sharex=shares)
        _draw_norms(norms, of_layer, contrast if k == layers - 1 else None)
        norms.set_title(f"Layer {k + 1}", loc="left", fontweight="bold")
        _draw_kept(figure.add_subplot(grid[both, 1]), layer, of_layer)
        _draw_growth(figure.add_subplot(grid[both, 2]), layer.spectrum)
    return figure


def _draw_norms(axes: Axes, of_layer: Curves, contrast: RNNFlow | None) -> None:
    """Of both states, the median over the sequences."""
    axes.semilogy(_shown(of_layer.hidden), color=COLOURS[0], label="|dL/dh|")
    axes.semilogy(_shown(of_layer.cell), color=COLOURS[1], label="|dL/dc|")
    if contrast is not None:
        axes.semilogy(_rnn_norms(contrast), "k--", label="|dL/dh|, vanilla RNN")
    axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1, 0.3)))
    axes.set_ylabel("gradient norm")
    axes.tick_params(labelbottom=False)
    axes.legend(**LEGEND)


def _shown(norms: np.ndarray) -> np.ndarray:
    """Without what a logarithm cannot show."""
    return np.where(norms > 0, norms, np.nan)


def _rnn_norms(contrast: RNNFlow) -> np.ndarray:
    """The median over the sequences, by distance."""
    hidden = np.asarray(contrast.hidden)[::-1]
    return _shown(hidden if hidden.ndim == 1 else np.median(hidden, axis=1))


def _draw_shares(axes: Axes, of_layer: Curves) -> None:
    """By the number of crossings, the cell path below."""
    parts = of_layer.crossings.T
    names = ["cell path", "1 crossing", *map(str, range(2, len(parts) - 1)), "more"]
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(parts)))
    axes.stackplot(range(parts.shape[1]), *parts, colors=colours, labels=names, linewidth=0)
    axes.set(xlabel="steps back from the loss", ylabel="parts of dL/dc", ylim=(0, 1))
    axes.set_xlim(0, max(parts.shape[1] - 1, 1))
    below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.45)}
    axes.legend(**LEGEND, **below, ncols=len(parts), handlelength=1, columnspacing=1.2)


def _draw_kept(axes: Axes, layer: LayerFlow, of_layer: Curves) -> None:
    """The product of each unit's forget gates, those that keep the longest at the top."""
    order = np.argsort(np.asarray(layer.log_forget))[::-1]
    least = of_layer.survival.min()
    image = axes.imshow(
        np.maximum(of_layer.survival[:, order].T, FORGOTTEN),
        aspect="auto",
        interpolation="nearest",
        cmap="cividis",
        vmin=np.clip(least, FORGOTTEN, KEPT),
        vmax=0,
    )
    axes.set(xlabel="steps back from the loss", ylabel="unit, by its mean forget gate")
    axes.set_title("kept by the forget gates alone", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True))
    extend, ticks = "min" if least < FORGOTTEN else "neither", MaxNLocator(5, integer=least < -4)
    axes.figure.colorbar(image, ax=axes, extend=extend, format=_power_of_ten, ticks=ticks)


def _power_of_ten(power: float, _: int | None) -> str:
    """As a tick's label: 0.5, 10^-3."""
    return f"{10.0**power:.3g}" if power > -2 else f"$10^{{{power:g}}}$"


def _draw_growth(axes: Axes, spectrum: Spectrum) -> None:
    """Of every direction, and of the singular values in the end, medians over the sequences."""
    growth = np.asarray(spectrum.growth) / np.log(10)
    grown = growth if growth.ndim == 2 else np.median(growth, axis=1)
    values = np.median(np.atleast_2d(spectrum.log_singular_values), axis=0) / np.log(10)
    time, directions = grown.shape
    shades = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, directions))
    apart = -(-directions // NAMED_LINES)
    for rank, (curve, shade) in enumerate(zip(grown.T, shades, strict=True), start=1):
        name = str(rank) if (rank - 1) % apart == 0 else None
        axes.plot(range(1, time + 1), curve, color=shade, label=name)
    ends = {"color": "black", "label": "singular values", "clip_on": False}
    axes.plot([time] * directions, values, "o", markersize=3, linestyle="none", **ends)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="steps from the first", ylabel="growth, in powers of ten")
    axes.set_title("how the state's directions grow", fontsize=10)
    below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.15), "title": "QR's direction"}
    axes.legend(**LEGEND, **below, title_fontsize=8, ncols=5, handlelength=1, columnspacing=1.2)


def plot_lstm_beside_rnn(report: GradientFlowReport, contrast: RNNFlow) -> Figure:
    """The gradient's norm by distance and the exponents, of every layer and of the RNN.

    Args:
        report: from ``gradient_flow_report``.
        contrast: from ``rnn_flow``, of the same d_h.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    norms, exponents = figure.subplots(1, 2)
    for k, layer in enumerate(report.layers, start=1):
        style = {"color": COLOURS[(k - 1) % len(COLOURS)], "label": f"LSTM, layer {k}"}
        norms.semilogy(_shown(curves(layer).hidden), **style)
        _draw_exponents(exponents, layer.spectrum, style)
    style = {"color": "black", "linestyle": "--", "label": "vanilla RNN"}
    norms.semilogy(_rnn_norms(contrast), **style)
    _draw_exponents(exponents, contrast.spectrum, style)
    norms.set(xlabel="steps back from the loss", ylabel="|dL/dh|")
    exponents.axhline(0, color="0.6", linewidth=0.8)
    exponents.set(xlabel="direction, the fastest first", ylabel="growth exponent, for each step")
    exponents.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    norms.legend(**LEGEND)
    return figure


def _draw_exponents(axes: Axes, spectrum: Spectrum, style: dict[str, Any]) -> None:
    exponents = np.atleast_2d(spectrum.exponents)
    found = np.median(exponents, axis=0)
    axes.plot(range(1, len(found) + 1), found, marker="o", markersize=4, **style)


def save_gradient_flow(report: GradientFlowReport, contrast: RNNFlow, destination: str) -> None:
    """Writes ``plot_gradient_flow`` to a file, in the format that its name ends in."""
    plot_gradient_flow(report, contrast).savefig(destination, dpi=DPI)


def save_lstm_beside_rnn(report: GradientFlowReport, contrast: RNNFlow, destination: str) -> None:
    """Writes ``plot_lstm_beside_rnn`` to a file, in the format that its name ends in."""
    plot_lstm_beside_rnn(report, contrast).savefig(destination, dpi=DPI)


def plot_costs(result: Mapping[str, Any]) -> Figure:
    """Time against temporary memory, a panel for each comparison and a dot an implementation.

    A dashed line is one whose library does not tell its memory.

    Args:
        result: what ``jaxlstm bench --json`` writes.
    """
    comparisons = result["comparisons"]
    columns = min(3, len(comparisons))
    rows = -(-len(comparisons) // columns)
    figure = Figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
    figure.suptitle(f"{result['device']}, {result['threads']} threads, {result['dtype']}")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    names = dict.fromkeys(name for one in comparisons for name in one["entries"])
    colours = {name: f"C{k}" if k < 10 else "black" for k, name in enumerate(names)}
    drawn = {}
    for axes, one in zip(panels, comparisons, strict=False):
        sizes = ",".join(str(one[size]) for size in ("time", "batch", "features", "hidden"))
        axes.set(
            xlabel="temporary memory, MB", ylabel="milliseconds", title=f"{one['task']} {sizes}"
        )
        axes.title.set_fontsize(10)
        drawn |= _draw_dots(axes, one["entries"], colours)
    figure.legend(drawn.values(), drawn, loc="outside right upper", fontsize=8)
    for axes in panels[len(comparisons) :]:
        axes.set_axis_off()
    return figure


def _draw_dots(
    axes: Axes, entries: Mapping[str, Any], colours: Mapping[str, str]
) -> dict[str, Any]:
    """What was drawn, by the implementation's name."""
    drawn = {}
    for name, entry in entries.items():
        milliseconds, size = 1e3 * entry["median_seconds"], entry["temporary_bytes"]
        if size is None:
            drawn[name] = axes.axhline(milliseconds, color=colours[name], linestyle="--")
        else:
            (drawn[name],) = axes.plot(size / 1e6, milliseconds, "o", color=colours[name])
    axes.margins(x=0.2)
    axes.set(xlim=(0, None), ylim=(0, None))
    return drawn


def plot_growth(result: Mapping[str, Any]) -> Figure:
    """Time and temporary memory as each size doubles, a column an axis.

    Args:
        result: what ``jaxlstm bench --sweep --json`` writes.
    """
    swept = list(dict.fromkeys(one["axis"] for one in result["comparisons"]))
    figure = Figure(figsize=(4 * len(swept), 6), layout="constrained")
    figure.suptitle(f"gradient: {result['device']}, {result['threads']} threads, {result['dtype']}")
    panels = figure.subplots(2, len(swept), sharex="col", squeeze=False)
    for axis, (times, sizes) in zip(swept, panels.T, strict=True):
        along = [one for one in result["comparisons"] if one["axis"] == axis]
        for name in along[0]["entries"]:
            points = [(one[axis], one["entries"][name]) for one in along if name in one["entries"]]
            at = [size for size, _ in points]
            times.plot(at, [1e3 * entry["median_seconds"] for _, entry in points], "o-", label=name)
            held = [entry["temporary_bytes"] for _, entry in points]
            if None not in held:
                sizes.plot(at, np.divide(held, 1e6), "o-")
        for axes in (times, sizes):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_formatter("{x:.3g}")
        sizes.set_xlabel(axis)
    panels[0, 0].set_ylabel("milliseconds")
    panels[1, 0].set_ylabel("temporary memory, MB")
    panels[0, 0].legend(fontsize=8)
    return figure


def save_costs(result: Mapping[str, Any], destination: str) -> None:
    """Writes ``plot_costs`` to a file, in the format that its name ends in."""
    plot_costs(result).savefig(destination, dpi=150)


def save_growth(result: Mapping[str, Any], destination: str) -> None:
    """Writes ``plot_growth`` to a file, in the format that its name ends in."""
    plot_growth(result).savefig(destination, dpi=150)
