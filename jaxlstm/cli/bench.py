"""``jaxlstm bench``: what a forward pass and a gradient cost, beside other libraries' LSTMs."""

import argparse
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
from rich.console import Console
from rich.progress import Progress

from jaxlstm.benchmark.alone import Peak, peak_memory
from jaxlstm.benchmark.compare import Comparison, compare, geometric_means
from jaxlstm.benchmark.grid import DOUBLINGS, GRID, INFERENCE, SWEPT, Plan, plan_grid, plan_sweep
from jaxlstm.benchmark.peers import LSTM, ORACLE, PEERS, find_peers
from jaxlstm.benchmark.peers.peer import GRADIENT, TASKS, Peer, Shape, threads
from jaxlstm.cli.arguments import (
    BadInputError,
    add_json,
    at_least_two,
    check_fits,
    writable_file,
    write_json,
    writing,
)
from jaxlstm.cli.bench_tables import comparison_table, growth_table, mean_table
from jaxlstm.cli.plots import plotting

DESCRIPTION = """What lstm costs beside every other LSTM that is installed (pip install
'jaxlstm[peers]'; torch and Keras too): outputs, the gradient of mean(outputs^2) by parameters,
inputs and initial state, and one step. All have the same weights and run in turn, and are timed
only where their results agree with float64. On an accelerator a timing is of many calls in its
queue, waited for once. Exit code 0; 1 where lstm itself is left out; 2 on bad input."""
EXAMPLE = """example: jaxlstm bench --shape 100,32,128,128 --task gradient --only flax.linen
--only torch --json bench.json --plot bench.png"""
LEGEND = """ms: the median of the rounds; spread: between their quartiles, of the median; lstm / it:
of the medians; by round: the median of the rounds' ratios; share: of the rate at which the forward
arithmetic runs as one product, in the same rounds (a gradient takes three such); temp: temporaries
of the compiled program; peak: what a process of its own held at most, beyond arguments and
libraries (a few MB are its first run's), or on an accelerator with its arguments; build: compiling
ahead; error: against float64.""".replace("\n", " ")
DTYPES = ("float32", "bfloat16", "float64")
PACKAGES = ("jax", "flax", "equinox", "dm-haiku", "keras", "torch")


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="time and memory beside other libraries' LSTMs",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    shapes = " ".join(map(str, GRID))
    parser.add_argument(
        "--shape",
        type=_shape,
        metavar="T,B,D,H",
        action="append",
        help=f"repeatable (default {shapes}, and a step at {INFERENCE})",
    )
    others = [name for name in PEERS if name != LSTM]
    for name, choices, explanation in (
        ("task", TASKS, "repeatable (default forward and gradient)"),
        ("only", others, "lstm beside this; repeatable (default: all that are installed)"),
    ):
        parser.add_argument(f"--{name}", choices=choices, action="append", help=explanation)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default float32)")
    parser.add_argument(
        "--rounds",
        type=at_least_two,
        metavar="N",
        help="of timing, at least 2 (default: about 2 s an implementation, at least 7 rounds)",
    )
    parser.add_argument(
        "--no-peak",
        action="store_true",
        help="do not run gradients in processes of their own for their peak memory",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help=f"the gradient as T, B and H double {DOUBLINGS} times each from a shape (default "
        f"{SWEPT}), beside {ORACLE} unless --only names others",
    )
    parser.add_argument(
        "--plot",
        type=writable_file,
        metavar="FILE",
        help="draw time against memory, or how both grow in a sweep (extra: plot)",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def _shape(text: str) -> Shape:
    sizes = text.split(",")
    if len(sizes) != 4 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(
            f"expected T,B,D,H, four whole numbers of at least 1, got {text!r}."
        )
    return Shape(*map(int, sizes))


def run(options: argparse.Namespace) -> int:
    """Measures, prints the tables or the JSON, draws, and returns the exit code."""
    plans = _plans(options)
    figures = plotting(options.plot) if options.plot else None
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others need memory too
    peers, missing = find_peers(_names(options))
    for name in missing.keys() & set(options.only or ()):
        raise BadInputError(f"--only {name}: {missing[name].rstrip('.')}.")
    console, about = Console(quiet=options.json == "-"), _about(options, missing)
    console.print(_told(about), highlight=False, markup=False)
    with jax.enable_x64(options.dtype == "float64"):
        result = about | _measured(console, options, plans, peers)
    if figures:
        with writing("--plot", options.plot):
            (figures.save_growth if options.sweep else figures.save_costs)(result, options.plot)
    if options.json:
        write_json(options.json, result)
    return 0 if result["passed"] else 1


def _plans(options: argparse.Namespace) -> list[Plan]:
    """What to compare, all of which must fit the machine in float64."""
    shapes = options.shape
    if options.sweep and (options.task or len(shapes or ()) > 1):
        raise BadInputError("--sweep: expected one --shape at most and no --task.")
    plans = list(plan_sweep(*(shapes or ())) if options.sweep else plan_grid(shapes, options.task))
    for T, B, D, H in (plan.shape for plan in plans):
        numbers = 2 * T * B * (D + 7 * H) + 3 * 4 * H * (D + H)
        check_fits(f"--shape {T},{B},{D},{H}", "float64 reference", 8 * numbers)
    return plans


def _names(options: argparse.Namespace) -> list[str]:
    """``lstm`` first, the others in the order of the tables."""
    chosen = options.only or ([ORACLE] if options.sweep else PEERS)
    return [name for name in PEERS if name == LSTM or name in chosen]


def _about(options: argparse.Namespace, missing: dict[str, str]) -> dict[str, Any]:
    """What the figures are of."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "threads": threads(),
        "dtype": options.dtype,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "not_measured": missing,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _told(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"{about['device']}, {about['threads']} threads, {about['dtype']}; {versions}."]
    lines += [f"Not measured: {name}: {why}." for name, why in about["not_measured"].items()]
    return "\n".join(lines)


def _measured(
    console: Console, options: argparse.Namespace, plans: list[Plan], peers: Mapping[str, Peer]
) -> dict[str, Any]:
    """Every comparison, printed as it comes, and what they have in common."""
    comparisons, records = [], []
    peak_wanted = not (options.no_peak or options.sweep)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(plans))
        for plan in plans:
            progress.update(bar, description=f"{plan.task} at {plan.shape}")
            one = compare(
                plan.task,
                plan.shape,
                options.dtype,
                peers,
                rounds=options.rounds,
                advance=lambda part: progress.advance(bar, part),
            )
            progress.update(bar, description=f"peak memory at {plan.shape}")
            peaks = _peaks(one, options.dtype) if peak_wanted and plan.task == GRADIENT else {}
            comparisons.append(one)
            records.append(_as_json(plan, one, peaks))
            if not options.sweep:
                console.print(comparison_table(one, peaks))
    means = geometric_means(comparisons)
    _print_summary(console, options.sweep, plans, comparisons, means)
    return {
        "comparisons": records,
        "geometric_means": {} if options.sweep else means,
        "passed": all(LSTM in one.entries for one in comparisons),
    }


def _peaks(one: Comparison, dtype: str) -> dict[str, Peak | None]:
    return {name: peak_memory(name, one.task, one.shape, dtype) for name in one.entries}


def _print_summary(
    console: Console,
    swept: bool,
    plans: list[Plan],
    comparisons: list[Comparison],
    means: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> None:
    """The growth along every axis of a sweep; the means over a grid."""
    if not swept:
        console.print(LEGEND, highlight=False)
        for task, ratios in means.items():
            console.print(mean_table(task, ratios))
        return
    for axis in dict.fromkeys(plan.axis for plan in plans if plan.axis):
        along = [one for plan, one in zip(plans, comparisons, strict=True) if plan.axis == axis]
        console.print(growth_table(axis, along))


def _as_json(plan: Plan, one: Comparison, peaks: Mapping[str, Peak | None]) -> dict[str, Any]:
    entries = {}
    for name, entry in one.entries.items():
        lower, upper = entry.quartiles
        peak = peaks.get(name)
        entries[name] = {
            "median_seconds": entry.median,
            "quartile_seconds": [lower, upper],
            "rounds": len(entry.seconds),
            "ratio_of_medians": one.ratio(name),
            "median_ratio_in_rounds": one.ratio_in_rounds(name),
            "share_of_ceiling": one.share(name),
            "compile_seconds": entry.compile_seconds,
            "temporary_bytes": entry.temporary_bytes,
            "peak": peak and peak._asdict(),
            "relative_error": entry.error,
        }
    return {
        "task": one.task,
        **one.shape._asdict(),
        "axis": plan.axis,
        "ceiling_operations_per_second": one.ceiling,
        "entries": entries,
        "left_out": one.left_out,
    }
