"""What ``jaxlstm flow`` found, as tables and sentences."""

from collections.abc import Iterable

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jaxlstm.cli.flow.measures import Clipped, Clipping, Found
from jaxlstm.cli.flow.result import exponents, median
from jaxlstm.gradient_flow import Curves

NUMBERED = 3
"""Numbers of crossings with a column of their own; the rest are added up."""
EXPONENTS = 6
"""Printed at most."""
LOOSENESS = ("tight", "each step's", "003's", "000's")
LEGEND = """Norms, bounds and exponents are medians over the sequences, in the advice too; shares
are means. By distance back from the loss: the norms of its gradient by h and by c; parts / whole,
how far the parts of dL/dc cancel; and the looseness, log10 of a bound over |t_1|, which is the
path through the output gates alone: with --spectral the tight bound, the norm of the product of
its steps, then that of each step's own norms, document 003's with its K the largest on the way,
and 000's with the Frobenius norm. The paths are the parts of dL/dc as shares of the sum of their
norms: the cell path never crosses the recurrent kernel, the others do once, twice and more often;
the gate of the first crossing, followed back from the loss, splits these others again, so that 1
+ 2 + ... + more is i + f + g + o.""".replace("\n", " ")


def print_flow(console: Console, found: Found) -> None:
    """How to read them, two tables a layer, the RNN, the exponents, and advice in sentences."""
    console.print(LEGEND, highlight=False)
    for k, curves in enumerate(found.curves, start=1):
        console.print(_norm_table(f"Layer {k}: the gradient by distance", curves))
        console.print(_path_table(f"Layer {k}: the paths it comes by", curves))
    console.print(_rnn_table(found))
    console.print(_exponent_table(found))
    console.print(*found.advice.lines, sep="\n", highlight=False)
    if found.report.layers[0].parameter_gradients.size > 1:
        console.print(_told(found.clipping), highlight=False)


def _norm_table(title: str, curves: Curves) -> Table:
    bounds = curves.looseness
    if curves.spectral is not None:
        bounds = np.column_stack([curves.spectral, bounds])
    loose = _grouped("looseness", LOOSENESS[-bounds.shape[1] :])
    table = _table(title, ("|dL/dh|", "|dL/dc|", "parts /\nwhole", *loose))
    for k in _distances(len(curves.hidden) - 1):
        norms = map(_small, (curves.hidden[k], curves.cell[k]))
        loose = (f"{bound:.1f}" for bound in bounds[k])
        table.add_row(str(k), *norms, f"{curves.cancellation[k]:.2f}", *loose)
    return table


def _path_table(title: str, curves: Curves) -> Table:
    numbered = min(NUMBERED, curves.crossings.shape[1] - 2)
    crossings = _grouped("crossed", (*map(str, range(1, numbered + 1)), "more"))
    table = _table(title, ("cell path", *crossings, *_grouped("by gate", "ifgo")))
    for k in _distances(len(curves.hidden) - 1):
        own, rest = np.split(curves.crossings[k], [numbered + 1])
        table.add_row(str(k), *map(_percent, (*own, rest.sum(), *curves.first_gates[k])))
    return table


def _grouped(name: str, headings: Iterable[str]) -> list[str]:
    """Headings of two lines, the group's name above the first."""
    first, *others = headings
    return [f"{name}\n{first}", *(f"\n{heading}" for heading in others)]


def _rnn_table(found: Found) -> Table:
    """The last layer's gradient beside the RNN's, from the same dL/dh at the end."""
    rnn, lstm = median(found.rnn.hidden)[::-1], found.curves[-1].hidden
    table = _table("|dL/dh|, the last layer beside a vanilla RNN", ("LSTM", "RNN"))
    for k in _distances(len(lstm) - 1):
        table.add_row(str(k), _small(lstm[k]), _small(rnn[k]))
    return table


def _exponent_table(found: Found) -> Table:
    """The largest exponents of every layer and of the RNN, medians over the sequences."""
    spectra = {f"layer {k}": of.spectrum for k, of in enumerate(found.report.layers, start=1)}
    table = Table(title="Growth of the fastest directions, by exp(…) a step", box=SIMPLE_HEAD)
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
    if not (norm > 0 and np.isfinite([norm, mean.before, largest.before]).all()):
        return (
            f"optax.clip_by_global_norm mends nothing here: the sequences' gradients have a median "
            f"norm of {norm:.3g}, and the largest has {largest.before:.3g}."
        )
    return (
        f"optax.clip_by_global_norm({norm:.3g}) leaves {_left(mean, norm)} of the mean gradient, "
        f"whose norm is {mean.before:.3g}, and {_left(largest, norm)} of the largest; it shortens "
        "all parts of a gradient alike, and what has vanished stays so."
    )


def _left(clipped: Clipped, norm: float) -> str:
    return "all" if clipped.before <= norm else f"{clipped.after / clipped.before:.3g}"


def _distances(time: int) -> list[int]:
    """0, the powers of two below T, and T steps back.

    >>> _distances(6)
    [0, 1, 2, 4, 6]
    """
    return [0, *(2**k for k in range(time.bit_length()) if 2**k < time), time]


def _small(number: float) -> str:
    return f"{number:.1e}" if number else "0"


def _percent(share: float) -> str:
    return f"{share:.1%}"
