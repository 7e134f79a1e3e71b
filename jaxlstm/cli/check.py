"""``jaxlstm check``: the hand-written gradient against JAX's autodiff, and what each costs."""

import argparse
import contextlib
import dataclasses
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import jaxlstm
from jaxlstm.benchmark import Cost, measure_costs
from jaxlstm.cli.arguments import add_json, not_negative, positive, users_input, write_json
from jaxlstm.gradient_check import RATIO_LIMIT, Comparison, pull_back
from jaxlstm.lstm_check import (
    AUTODIFF,
    HAND_WRITTEN,
    CheckConfig,
    Problem,
    check_lstm,
    draw_problem,
)
from jaxlstm.types import Activations
from jaxlstm.validation import ACTIVATION_NAMES, DTYPES

DESCRIPTION = """Compare the LSTM's hand-written gradient with JAX's autodiff, with central
differences and with the adjoint identity: every argument, every gate, every time step, in units of
what rounding alone does. Exit code 0 where all agree, 1 where one does not, 2 on bad input."""
LEGEND = (
    "Relative errors of each argument's worst part: against JAX's autodiff in each dtype, against "
    "central differences, and of the adjoint identity. Ratio: the error in units of rounding.\n"
)
EXAMPLE = "example: jaxlstm check --text shakespeare.txt --hidden 64 --json result.json"


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    defaults = CheckConfig()
    parser = commands.add_parser(
        "check",
        help="compare the hand-written gradient with autodiff",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    for name, letter in (("time", "T"), ("batch", "B"), ("features", "D"), ("hidden", "H")):
        default = getattr(defaults, name)
        explanation = f"{letter} (default {default})"
        parser.add_argument(
            f"--{name}", type=positive, default=default, metavar=letter, help=explanation
        )
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="repeatable (default: all but float16)"
    )
    for name in ("candidate", "cell"):
        explanation = f"of the {name} (default tanh)"
        parser.add_argument(
            f"--{name}-activation", choices=ACTIVATION_NAMES, default="tanh", help=explanation
        )
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of all draws (default 0)"
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="check on this file's characters, with the cross-entropy of the next one as the loss",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Checks, prints the tables or the JSON, and returns the exit code."""
    config = _config(options)
    console = Console(quiet=options.json == "-")
    with users_input():
        problem = draw_problem(config)
    with _progress() as progress:
        comparisons = check_lstm(problem, config, progress)
        progress("time and memory")
        dtype = "float32" if "float32" in config.dtypes else config.dtypes[0]
        costs = _costs(problem, dtype)
    failed = [comparison for comparison in comparisons if comparison.passed is False]
    console.print(_comparison_table(comparisons, config))
    console.print(LEGEND, style="dim")
    if failed:
        console.print(_failure_table(failed))
    console.print(_cost_table(costs, dtype))
    console.print(_verdict(comparisons))
    if options.json:
        write_json(options.json, _as_json(comparisons, costs, dtype, config))
    return 1 if failed else 0


def _config(options: argparse.Namespace) -> CheckConfig:
    return CheckConfig(
        time=options.time,
        batch=options.batch,
        features=options.features,
        hidden=options.hidden,
        dtypes=tuple(dict.fromkeys(options.dtype or CheckConfig.dtypes)),
        activations=Activations(options.candidate_activation, options.cell_activation),
        seed=options.seed,
        text=options.text,
    )


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """A line on standard error, of a terminal alone, that says what is under way."""
    console = Console(stderr=True)
    with console.status("drawing") as status:
        yield lambda stage: status.update(f"checking against {stage}")


def _costs(problem: Problem, dtype: str) -> dict[str, Cost]:
    """Of the gradient by every argument, hand-written and by autodiff."""
    functions = {HAND_WRITTEN: problem.candidate, AUTODIFF: problem.reference}
    with jax.enable_x64(dtype == "float64"):
        cast = partial(jnp.asarray, dtype=dtype)
        args, cotangents = jax.tree.map(cast, (problem.args, problem.cotangents))
        gradients = {name: partial(pull_back, function) for name, function in functions.items()}
        return measure_costs(gradients, args, cotangents, problem.context)


def _comparison_table(comparisons: list[Comparison], config: CheckConfig) -> Table:
    """For each argument the largest error of any of its parts, column by column."""
    sizes = f"T={config.time} B={config.batch} D={config.features} H={config.hidden}"
    source = "random inputs" if config.text is None else escape(config.text.name)
    table = Table(
        title=f"The gradient by hand: {sizes}, {source}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    columns = list(dict.fromkeys(map(_column, comparisons)))
    table.add_column("argument", no_wrap=True)
    for column in (*columns, "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for argument in dict.fromkeys(comparison.argument for comparison in comparisons):
        rows = [c for c in comparisons if c.argument == argument]
        worst = [max((c for c in rows if _column(c) == name), key=_badness) for name in columns]
        table.add_row(argument, *map(_error, worst), _ratio(max(rows, key=_badness)))
    return table


def _column(comparison: Comparison) -> str:
    if comparison.criterion == "rounding ratio":
        return comparison.dtype
    return {"finite differences": "diff.", "adjoint identity": "adjoint"}[comparison.criterion]


def _badness(comparison: Comparison) -> tuple[bool, float]:
    ratio = comparison.rounding_ratio
    return comparison.passed is False, comparison.relative_error if ratio is None else ratio


def _error(comparison: Comparison) -> str:
    if comparison.passed == "unresolved":
        return "[yellow]unresolved[/yellow]"
    return _coloured(comparison, f"{comparison.relative_error:.1e}")


def _ratio(comparison: Comparison) -> str:
    ratio = comparison.rounding_ratio
    return _coloured(comparison, "exact" if ratio is None else f"{ratio:.2f}")


def _coloured(comparison: Comparison, text: str) -> str:
    colour = "red" if comparison.passed is False else "green"
    return f"[{colour}]{text}[/{colour}]"


def _failure_table(failed: list[Comparison]) -> Table:
    table = Table(title=f"{len(failed)} comparisons fail", box=SIMPLE_HEAD)
    for heading in ("argument", "part", "against", "dtype", "error", "ratio"):
        table.add_column(heading)
    for c in sorted(failed, key=_badness, reverse=True):
        part = escape(c.block or "all")
        table.add_row(c.argument, part, c.reference, c.dtype, _error(c), _ratio(c))
    return table


def _cost_table(costs: dict[str, Cost], dtype: str) -> Table:
    table = Table(title=f"Cost of the whole gradient, {dtype}, runs in turn", box=SIMPLE_HEAD)
    for heading in ("", "median time", "temporary memory", "compile time"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{1e3 * cost.median_seconds:.2f} ms",
            f"{cost.temporary_bytes / 1e6:.2f} MB",
            f"{cost.compile_seconds:.2f} s",
        )
    ratios = _ratios(costs)
    table.add_section()
    table.add_row("hand / autodiff", f"{ratios['time_ratio']:.2f}", f"{ratios['memory_ratio']:.2f}")
    return table


def _ratios(costs: dict[str, Cost]) -> dict[str, float]:
    hand, autodiff = costs[HAND_WRITTEN], costs[AUTODIFF]
    return {
        "time_ratio": hand.median_seconds / autodiff.median_seconds,
        "memory_ratio": hand.temporary_bytes / max(autodiff.temporary_bytes, 1),
    }


def _verdict(comparisons: list[Comparison]) -> str:
    failed = sum(c.passed is False for c in comparisons)
    unresolved = sum(c.passed == "unresolved" for c in comparisons)
    worst = max((c.rounding_ratio or 0.0) for c in comparisons if c.passed != "unresolved")
    words = "[red]FAILED[/red]" if failed else "[green]PASSED[/green]"
    return (
        f"{words}: {len(comparisons)} comparisons, {failed} failed, {unresolved} unresolved; "
        f"worst ratio {worst:.2f} of {RATIO_LIMIT:g}."
    )


def _as_json(
    comparisons: list[Comparison], costs: dict[str, Cost], dtype: str, config: CheckConfig
) -> dict[str, Any]:
    by_name = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
    text = None if config.text is None else str(config.text)
    return {
        "passed": all(c.passed is not False for c in comparisons),
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "cost": {"dtype": dtype, "gradients": by_name, **_ratios(costs)},
        "config": dataclasses.asdict(config) | {"text": text},
        "versions": {
            "jaxlstm": jaxlstm.__version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
        },
    }
