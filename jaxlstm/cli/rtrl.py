"""``jaxlstm rtrl``: gradients forward in time, how good the estimates are, and what each costs."""

import argparse
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jaxlstm.benchmark import Cost
from jaxlstm.benchmark.rtrl import (
    EXACT,
    PRODUCTS,
    RTRL,
    STEPS,
    Drawn,
    Estimate,
    costs_at_every_step,
    draw_sequence,
    estimate_gradients,
    first_carry,
    judge_exact,
    run_stream,
    sensitivity_costs,
)
from jaxlstm.cli.arguments import (
    add_json,
    at_least_two,
    check_fits,
    finite_or_none,
    not_negative,
    positive,
    positive_real,
    write_json,
)
from jaxlstm.gradient_check import RATIO_LIMIT
from jaxlstm.gradient_check.parts import Judged
from jaxlstm.validation import DTYPES

DESCRIPTION = """Real-time recurrent learning: the gradient by its exact recursion and by estimates
of it, each against BPTT, with time and memory; and the derivative of the hidden state by every
parameter, beside JAX's modes. With --stream, a long stream in constant memory. Exit code 0; 1
where the exact gradient is not BPTT's or the stream's sensitivities explode; 2 on bad input."""
EXAMPLE = "example: jaxlstm rtrl --time 32 --batch 1 --features 32 --hidden 64 --json rtrl.json"
SIZES = {"time": ("T", 32), "batch": ("B", 4), "features": ("D", 16), "hidden": ("H", 32)}
VERDICTS = {
    True: "[green]equal[/green]",
    False: "[red]NOT EQUAL[/red]",
    "unresolved": "[yellow]unresolved, for rounding leaves nothing to tell by[/yellow]",
}
PIECES = 20
"""Of a stream; the bar moves after each."""


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "rtrl",
        help="gradients forward in time: exact, estimated, and their cost",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    for name, (letter, default) in SIZES.items():
        explanation = f"{letter} (default {default})"
        parser.add_argument(
            f"--{name}", type=positive, default=default, metavar=letter, help=explanation
        )
    for name, type_, default, explanation in (
        ("window", positive, 8, "of truncated BPTT, in steps (default 8)"),
        ("rounds", at_least_two, 5, "of timing, at least 2 (default 5)"),
        ("seed", not_negative, 0, "of all draws (default 0)"),
    ):
        parser.add_argument(f"--{name}", type=type_, default=default, metavar="N", help=explanation)
    parser.add_argument(
        "--recurrent-scale",
        type=positive_real,
        default=1.0,
        metavar="X",
        help="multiplies the recurrent kernel, drawn orthogonal (default 1); at 10 the network is "
        "chaotic, and its sensitivities grow until they overflow",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default float32)")
    parser.add_argument(
        "--stream", type=positive, metavar="STEPS", help="only run a stream of this many steps"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints the tables or the JSON, and returns the exit code."""
    drawn_as = {name: getattr(options, name) for name in (*SIZES, "recurrent_scale", "dtype")}
    console = Console(quiet=options.json == "-")
    _check_memory(options)
    with jax.enable_x64(options.dtype == "float64"):
        drawn = draw_sequence(**drawn_as, seed=options.seed)
        measure = _streamed if options.stream else _measured
        passed, result = measure(console, drawn, options)
    if options.json:
        write_json(options.json, {**drawn_as, **result, "passed": passed})
    return 0 if passed else 1


def _check_memory(options: argparse.Namespace) -> None:
    """Requires that what RTRL carries fits the machine; JAX's modes keep more."""
    D, H = options.features, options.hidden
    numbers = options.batch * (4 * H * (D + H + 1) + 2 * H) * 2 * H
    carried = numbers * jnp.dtype(options.dtype).itemsize
    check_fits(f"--hidden {H}", "sensitivities", carried)


def _measured(
    console: Console, drawn: Drawn, options: argparse.Namespace
) -> tuple[bool, dict[str, Any]]:
    """The three tables."""
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("estimates", total=3)
        estimates = estimate_gradients(drawn, options.window, options.rounds)
        exact = judge_exact(drawn, estimates[EXACT].gradient, options.seed)
        progress.update(task, advance=1, description="the last step")
        last = sensitivity_costs(drawn, options.rounds)
        progress.update(task, advance=1, description="every step")
        every = costs_at_every_step(drawn, options.rounds)
    console.print(_estimate_table(estimates, exact, len(drawn.inputs)))
    console.print(_last_step_table(last))
    console.print(_cost_table("dh_t/dA for every parameter A and step t", every))
    result = {
        "estimates": {name: _estimate_as_json(one) for name, one in estimates.items()},
        "exact": {"rounding_ratio": finite_or_none(exact.ratio), "passed": exact.verdict},
        "last_step": _costs_as_json(last),
        "steps_over_products": _steps_over_products(last),
        "every_step": _costs_as_json(every),
    }
    return exact.verdict is not False, result


def _streamed(
    console: Console, drawn: Drawn, options: argparse.Namespace
) -> tuple[bool, dict[str, Any]]:
    """A stream in pieces, stopped where the sensitivities are no longer finite."""
    carry, largest, done = first_carry(drawn.params, drawn.inputs), 0.0, 0
    piece = max(1, options.stream // PIECES)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("steps", total=options.stream)
        while done < options.stream and math.isfinite(largest):
            end = min(done + piece, options.stream)
            carry, found = run_stream(drawn.params, carry, done, end, seed=options.seed)
            largest, done = float(found), end
            progress.update(task, completed=done)
    finite = math.isfinite(largest)
    exploded = f"The sensitivities [red]exploded[/red] within {done:,} steps."
    console.print(f"{done:,} steps: largest |dh/dA| {largest:.3g}." if finite else exploded)
    return finite, {"steps": done, "largest": finite_or_none(largest)}


def _estimate_table(estimates: dict[str, Estimate], exact: Judged, steps: int) -> Table:
    title = "Gradient of sum_t |h_t - target_t|^2 / 2, against BPTT"
    table = Table(title=title, caption=_compared(exact), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("cosine", "norm error", "time a step", "temporary memory"):
        table.add_column(heading, justify="right")
    for name, (_, errors, cost) in estimates.items():
        table.add_row(
            name,
            f"{errors.cosine:.6f}",
            f"{errors.relative_norm:.1e}",
            f"{1e3 * cost.median_seconds / steps:.3f} ms",
            _megabytes(cost),
        )
    return table


def _compared(exact: Judged) -> str:
    """Exact RTRL against BPTT, in words."""
    if exact.ratio is None:
        return f"Exact RTRL and BPTT, relative error {exact.error:.1e}: {VERDICTS[exact.verdict]}."
    return (
        f"Exact RTRL and BPTT differ by {exact.ratio:.2g} times what rounding alone does "
        f"({RATIO_LIMIT:g} pass): {VERDICTS[exact.verdict]}."
    )


def _last_step_table(costs: dict[str, Cost]) -> Table:
    table = _cost_table("dh_T/dA for every parameter A", costs)
    table.add_section()
    table.add_row("step by step / two products", f"{_steps_over_products(costs):.2f}")
    return table


def _cost_table(title: str, costs: dict[str, Cost]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("median time", f"time / {RTRL}", "temporary memory"):
        table.add_column(heading, justify="right")
    for name, cost in costs.items():
        milliseconds = f"{1e3 * cost.median_seconds:.2f} ms"
        table.add_row(name, milliseconds, f"{_ratio(cost, costs[RTRL]):.2f}", _megabytes(cost))
    return table


def _megabytes(cost: Cost) -> str:
    return f"{cost.temporary_bytes / 1e6:.2f} MB"


def _ratio(one: Cost, other: Cost) -> float:
    return one.median_seconds / other.median_seconds


def _steps_over_products(costs: dict[str, Cost]) -> float:
    """The recursion's time in units of what it cannot do without."""
    return _ratio(costs[STEPS], costs[PRODUCTS])


def _estimate_as_json(estimate: Estimate) -> dict[str, Any]:
    errors = {name: finite_or_none(error) for name, error in estimate.errors._asdict().items()}
    return errors | dataclasses.asdict(estimate.cost)


def _costs_as_json(costs: dict[str, Cost]) -> dict[str, Any]:
    """Each cost, and its time in units of RTRL's."""
    return {
        name: dataclasses.asdict(cost) | {"time_ratio": _ratio(cost, costs[RTRL])}
        for name, cost in costs.items()
    }
