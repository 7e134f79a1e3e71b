"""What ``jaxlstm flow`` found, as tables and sentences, and as JSON."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jaxlstm.cli.flow.measures import Clipped, Clipping, Found
from jaxlstm.gradient_flow import Curves, Spectrum

NUMBERED = 3
"""Numbers of crossings with a column of their own; the rest are added up."""
EXPONENTS = 6
"""Printed at most."""
LEGEND = """Norms and bounds are medians over the sequences, shares means. The parts are those of
dL/dc, split by the number of uses of the recurrent kernel, none of them being the cell path, and by
the gate of the first, followed back from the loss; parts / whole tells how far they cancel. The
last three columns are log10 of a bound over |t_1|, the path through the output gates alone: of each
step's own norms, of document 003 with its K the largest on the way, and of 000 with the Frobenius
norm.""".replace("\n", " ")


def print_flow(console: Console, found: Found) -> None:
    """Two tables a layer, the RNN, the exponents, and advice in sentences."""
    for k, curves in enumerate(found.curves, start=1):
        console.print(_norm_table(f"Layer {k}: the gradient by distance", curves))
        console.print(_path_table(f"Layer {k}: the paths it comes by", curves))
    console.print(LEGEND, highlight=False)
    console.print(_rnn_table(found))
    console.print(_exponent_table(found))
    for line in (*found.advice.lines, _told(found.clipping)):
        console.print(line, highlight=False)


def _norm_table(title: str, curves: Curves) -> Table:
    headings = ("|dL/dh|", "|dL/dc|", "parts / whole", "each step's", "003's", "000's")
    table = _table(title, headings)
    for k in distances(len(curves.hidden) - 1):
        norms = map(_small, (curves.hidden[k], curves.cell[k]))
        loose = (f"{bound:.1f}" for bound in curves.looseness[k])
        table.add_row(str(k), *norms, f"{curves.cancellation[k]:.2f}", *loose)
    return table


def _path_table(title: str, curves: Curves) -> Table:
    numbered = min(NUMBERED, curves.crossings.shape[1] - 2)
    headings = ("cell path", *map(str, range(1, numbered + 1)), "more", "i", "f", "g", "o")
    table = _table(title, headings)
    for k in distances(len(curves.hidden) - 1):
        own, rest = np.split(curves.crossings[k], [numbered + 1])
        table.add_row(str(k), *map(_percent, (*own, rest.sum(), *curves.first_gates[k])))
    return table


def _rnn_table(found: Found) -> Table:
    """The last layer's gradient beside the RNN's, from the same loss."""
    rnn, lstm = median(found.rnn.hidden)[::-1], found.curves[-1].hidden
    table = _table("|dL/dh|, the last layer beside a vanilla RNN", ("LSTM", "RNN"))
    for k in distances(len(lstm) - 1):
        table.add_row(str(k), _small(lstm[k]), _small(rnn[k]))
    return table


def _exponent_table(found: Found) -> Table:
    """The largest exponents of every layer and of the RNN, medians over the sequences."""
    spectra = {f"layer {k}": of.spectrum for k, of in enumerate(found.report.layers, start=1)}
    table = Table(title="Growth of a direction, by exp(…) a step", box=SIMPLE_HEAD)
    table.add_column("")
    shown = min(EXPONENTS, max(len(exponents(spectrum)) for spectrum in spectra.values()))
    for rank in range(1, shown + 1):
        table.add_column(f"{rank}.", justify="right")
    for name, spectrum in (spectra | {"RNN": found.rnn.spectrum}).items():
        table.add_row(name, *(f"{value:.4f}" for value in exponents(spectrum)[:shown]))
    return table


def _table(title: str, headings: Iterable[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("back", *headings):
        table.add_column(heading, justify="right")
    return table


def _told(clipping: Clipping) -> str:
    norm, mean, largest = clipping
    return (
        f"optax.clip_by_global_norm({norm:.3g}) leaves {_left(mean)} of the mean gradient, whose "
        f"norm is {mean.before:.3g}, and {_left(largest)} of the largest; it shortens all parts of "
        "a gradient alike, and what has vanished stays so."
    )


def _left(clipped: Clipped) -> str:
    return "all" if clipped.after == clipped.before else f"{clipped.after / clipped.before:.3g}"


def distances(time: int) -> list[int]:
    """0, the powers of two below T, and T steps back.

    >>> distances(6)
    [0, 1, 2, 4, 6]
    """
    return [0, *(2**k for k in range(time.bit_length()) if 2**k < time), time]


def _small(number: float) -> str:
    return f"{number:.1e}" if number else "0"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def median(of_sequences: Any) -> np.ndarray:
    """Over the batch, the second axis."""
    return np.median(of_sequences, axis=1)


def exponents(spectrum: Spectrum) -> np.ndarray:
    """The medians over the batch."""
    return np.median(spectrum.exponents, axis=0)


def as_json(found: Found) -> dict[str, Any]:
    """Everything printed, and the curves, at 0, 1, ..., T steps back."""
    layers = []
    for flow, curves, advised in zip(
        found.report.layers, found.curves, found.advice.layers, strict=True
    ):
        by_distance = {name: x for name, x in curves._asdict().items() if name != "survival"}
        numbers = by_distance | {"exponents": exponents(flow.spectrum)} | advised._asdict()
        layers.append({name: plain(value) for name, value in numbers.items()})
    rnn = {"hidden": median(found.rnn.hidden)[::-1], "exponents": exponents(found.rnn.spectrum)}
    norm, mean, largest = found.clipping
    return {
        "layers": layers,
        "rnn": {name: plain(value) for name, value in rnn.items()},
        "clipping": {
            "norm": plain(norm),
            "mean": {name: plain(value) for name, value in mean._asdict().items()},
            "largest": {name: plain(value) for name, value in largest._asdict().items()},
        },
        "advice": found.advice.lines,
    }


def plain(values: Any) -> Any:
    """Numbers, or lists of them, with None in place of what JSON has no number for."""
    numbers = np.asarray(values, np.float64)
    plain = numbers.astype(object)
    plain[~np.isfinite(numbers)] = None
    return plain.tolist()
