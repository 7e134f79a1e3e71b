"""The tables of ``jaxlstm bench``."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from jaxlstm.benchmark.alone import Peak
from jaxlstm.benchmark.compare import Comparison


def comparison_table(one: Comparison, peaks: Mapping[str, Peak | None]) -> Table:
    """One implementation a row, those left out with the reason below."""
    headings = ("ms", "spread", "lstm\n/ it", "by\nround", "share", "temp\nMB", "peak\nMB")
    title = (
        f"{one.task} at T,B,D,H = {one.shape}: one product runs at {one.ceiling / 1e9:.0f} GFLOP/s"
    )
    table = _table(title, (*headings, "build\ns", "error"))
    for name, entry in one.entries.items():
        lower, upper = entry.quartiles
        peak = peaks.get(name)
        table.add_row(
            name,
            _milliseconds(entry.median),
            f"{(upper - lower) / entry.median:.0%}",
            _ratio(one.ratio(name)),
            _ratio(one.ratio_in_rounds(name)),
            f"{one.share(name):.0%}",
            _megabytes(entry.temporary_bytes),
            _megabytes(peak and (peak.device_bytes or peak.added_bytes)),
            f"{entry.compile_seconds:.1f}",
            f"{entry.error:.0e}",
        )
    table.caption = "\n".join(_reasons(one))
    return table


def mean_table(task: str, ratios: Mapping[str, Mapping[str, float]]) -> Table:
    """Geometric means over the shapes."""
    table = _table(f"{task}: geometric means", ("lstm / it", "shapes"))
    for name, mean in ratios.items():
        table.add_row(name, f"{mean['ratio']:.2f}", f"{mean['shapes']:.0f}")
    return table


def growth_table(axis: str, along: Sequence[Comparison]) -> Table:
    """Time and temporaries at every size, and how often those of the size before."""
    headings = (axis, "ms", "times", "temp\nMB", "times")
    table = _table(f"gradient as {axis} doubles from {along[0].shape}", headings)
    for name in along[0].entries:
        before = None
        for one in (one for one in along if name in one.entries):
            now, size = one.entries[name], getattr(one.shape, axis)
            cells = [_milliseconds(now.median), _times(now.median, before and before.median)]
            held, held_before = now.temporary_bytes, before and before.temporary_bytes
            cells += [_megabytes(held), _times(held, held_before)]
            table.add_row("" if before else name, str(size), *cells)
            before = now
        table.add_section()
    table.caption = "\n".join(f"At {one.shape} {why}" for one in along for why in _reasons(one))
    return table


def _reasons(one: Comparison) -> list[str]:
    return [escape(f"{name}: {why}.") for name, why in one.left_out.items()]


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _milliseconds(seconds: float) -> str:
    return _three_digits(1e3 * seconds)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else _three_digits(size / 1e6)


def _three_digits(number: float) -> str:
    """Or more, of a large number."""
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def _times(now: float | int | None, before: float | int | None) -> str:
    return f"{now / before:.2f}" if now and before else ""
