"""``jaxlstm rtrl``: gradients forward in time, how good the estimates are, and what each costs."""

import argparse
import dataclasses
import math
from typing import Any

import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jaxlstm.benchmark import Cost
from jaxlstm.benchmark.rtrl import (
    RTRL,
    Drawn,
    costs_at_every_step,
    draw_sequence,
    estimator_costs,
    first_carry,
    run_stream,
    sensitivity_costs,
)
from jaxlstm.cli.arguments import add_json, not_negative, positive, write_json
from jaxlstm.rtrl import GradientErrors
from jaxlstm.validation import DTYPES

DESCRIPTION = """Real-time recurrent learning: the gradient by its exact recursion and by estimates
of it, each against BPTT, with time and memory; and the derivative of the hidden state by every
parameter, beside JAX's modes. With --stream, a long stream in constant memory. Exit code 0; 1
where the exact gradient is not BPTT's or the stream's sensitivities explode; 2 on bad input."""
EXAMPLE = "example: jaxlstm rtrl --time 32 --batch 1 --features 32 --hidden 64 --json rtrl.json"
SIZES = (("time", "T", 32), ("batch", "B", 4), ("features", "D", 16), ("hidden", "H", 32))
TOLERANCE = {"float64": 1e-11, "float32": 1e-4, "bfloat16": 0.2, "float16": 0.05}
"""Relative error of the exact gradient against BPTT above which something is wrong."""
PIECES = 20
"""Of a stream; the bar moves after each."""
Estimates = dict[str, tuple[GradientErrors, Cost]]


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "rtrl",
        help="gradients forward in time: exact, estimated, and their cost",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    for name, letter, default in SIZES:
        explanation = f"{letter} (default {default})"
        parser.add_argument(
            f"--{name}", type=positive, default=default, metavar=letter, help=explanation
        )
    for name, default, explanation in (
        ("window", 8, "of truncated BPTT, in steps (default 8)"),
        ("rounds", 5, "of timing, in turn (default 5)"),
    ):
        parser.add_argument(
            f"--{name}", type=positive, default=default, metavar="N", help=explanation
        )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default float32)")
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of all draws (default 0)"
    )
    parser.add_argument(
        "--stream", type=positive, metavar="STEPS", help="only run a stream of this many steps"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints the tables or the JSON, and returns the exit code."""
    sizes = {name: getattr(options, name) for name, *_ in SIZES}
    console = Console(quiet=options.json == "-")
    with jax.enable_x64(options.dtype == "float64"):
        drawn = draw_sequence(**sizes, seed=options.seed, dtype=options.dtype)
        measure = _streamed if options.stream else _measured
        passed, result = measure(console, drawn, options)
    if options.json:
        write_json(options.json, {**sizes, "dtype": options.dtype, **result, "passed": passed})
    return 0 if passed else 1


def _measured(
    console: Console, drawn: Drawn, options: argparse.Namespace
) -> tuple[bool, dict[str, Any]]:
    """The three tables."""
    rounds = max(options.rounds, 2)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("estimates", total=3)
        estimates = estimator_costs(drawn, options.window, rounds)
        progress.update(task, advance=1, description="the last step")
        last = sensitivity_costs(drawn, rounds)
        progress.update(task, advance=1, description="every step")
        every = costs_at_every_step(drawn, rounds)
    console.print(_estimate_table(estimates, len(drawn.inputs)))
    console.print(_cost_table("dh_T/dA for every parameter A", last))
    console.print(_cost_table("dh_t/dA for every parameter A and step t", every))
    exact, _ = estimates["exact RTRL"]
    result = {
        "estimates": {
            name: errors._asdict() | dataclasses.asdict(cost)
            for name, (errors, cost) in estimates.items()
        },
        "last_step": _costs_as_json(last),
        "every_step": _costs_as_json(every),
    }
    return exact.relative_norm <= TOLERANCE[options.dtype], result


def _streamed(
    console: Console, drawn: Drawn, options: argparse.Namespace
) -> tuple[bool, dict[str, Any]]:
    """A stream in pieces, stopped where the sensitivities are no longer finite."""
    carry, largest, done = first_carry(drawn), 0.0, 0
    piece = max(1, options.stream // PIECES)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("steps", total=options.stream)
        while done < options.stream and math.isfinite(largest):
            steps = min(piece, options.stream - done)
            carry, found = run_stream(drawn, steps, carry, seed=options.seed + done)
            largest, done = float(found), done + steps
            progress.update(task, completed=done)
    finite = math.isfinite(largest)
    told = f"largest |dh/dA| {largest:.3g}" if finite else "the sensitivities exploded"
    console.print(f"{done:,} steps: {told}.")
    return finite, {"steps": done, "largest": largest if finite else None}


def _estimate_table(estimates: Estimates, steps: int) -> Table:
    table = Table(title="Gradient of sum_t |h_t - target_t|^2 / 2, against BPTT", box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("cosine", "norm error", "time a step", "temporary memory"):
        table.add_column(heading, justify="right")
    for name, (errors, cost) in estimates.items():
        table.add_row(
            name,
            f"{errors.cosine:.6f}",
            f"{errors.relative_norm:.1e}",
            f"{1e3 * cost.median_seconds / steps:.3f} ms",
            _megabytes(cost),
        )
    return table


def _cost_table(title: str, costs: dict[str, Cost]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("median time", f"time / {RTRL}", "temporary memory"):
        table.add_column(heading, justify="right")
    for name, cost in costs.items():
        milliseconds = f"{1e3 * cost.median_seconds:.2f} ms"
        ratio = f"{cost.median_seconds / costs[RTRL].median_seconds:.2f}"
        table.add_row(name, milliseconds, ratio, _megabytes(cost))
    return table


def _megabytes(cost: Cost) -> str:
    return f"{cost.temporary_bytes / 1e6:.2f} MB"


def _costs_as_json(costs: dict[str, Cost]) -> dict[str, Any]:
    """Each cost, and its time in units of RTRL's."""
    unit = costs[RTRL].median_seconds
    return {
        name: dataclasses.asdict(cost) | {"time_ratio": cost.median_seconds / unit}
        for name, cost in costs.items()
    }
