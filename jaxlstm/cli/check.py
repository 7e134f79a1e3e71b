"""``jaxlstm check``: the hand-written gradient against JAX's autodiff, and what each costs."""

import argparse
import contextlib
import dataclasses
import platform
from collections.abc import Callable, Iterator
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
from rich.progress import Progress
from rich.table import Table

import jaxlstm
from jaxlstm.benchmark import Cost, measure_costs
from jaxlstm.cli.arguments import (
    BadInputError,
    add_json,
    add_text,
    function_named,
    not_negative,
    positive,
    text_named,
    text_source,
    users_input,
    writable,
    write_json,
)
from jaxlstm.cli.plots import plotting
from jaxlstm.gradient_check import GradientReport
from jaxlstm.gradient_check.agreement import Agreement
from jaxlstm.gradient_check.call import make_point
from jaxlstm.gradient_check.display import tables
from jaxlstm.gradient_check.modes import reverse
from jaxlstm.lstm_check import (
    AUTODIFF,
    HAND_WRITTEN,
    CheckConfig,
    Problem,
    check_lstm,
    draw_problem,
    gradient_errors,
    lstm_agreement,
    precise_enough,
)
from jaxlstm.sequence import lstm
from jaxlstm.types import Activations
from jaxlstm.validation import ACTIVATION_NAMES, DTYPES, PRECISIONS, RESIDUALS

DESCRIPTION = """Compare the LSTM's hand-written gradient with JAX's autodiff, with central
differences and with the adjoint identity: every argument, every gate, every time step, in units of
what rounding alone does; up to a minute at the default sizes. On a text, of the whole loss of a
character model: the cross-entropy of the next character. Exit code 0 where all agree, 1 where one
does not, 2 on bad input."""
LEGEND = (
    "Relative errors of each argument's worst part; ratio: in units of what rounding alone does. "
    "Second: the second order. Jit, vmap, again: against eager, a loop, a first run. Diff.: "
    "central differences. Slope: of the Taylor remainder, 2 where the gradient is right. "
    "?: unresolved, for rounding leaves nothing to tell.\n"
)
EXAMPLE = """example: jaxlstm check --corpus shakespeare --hidden 64 --json result.json;
of your own gradient: jaxlstm check --candidate my_module:my_lstm --plot where.png"""
OTHER_STAGES = (
    "forward",
    "second order",
    "jit",
    "vmap",
    "again",
    "witnesses",
    "explained",
    "cost",
    "vote",
)
EXCUSED = ("MemoryError", "ArithmeticError")
"""What a derivation may raise: it is too large, or its own error leaves nothing to tell."""
DISAGREE = "the derivations do not agree"
VOTED_ON = 2
"""Sequences on which all derivations vote: RTRL's sensitivities take memory for each."""


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
    add_text(parser)
    parser.add_argument(
        "--candidate",
        metavar="MODULE:FUNCTION",
        help="a function with lstm's signature, to be checked in lstm's place; it is called with "
        "drawn lengths [B] and resets [T, B], which it must honour",
    )
    for name, choices, explanation in (
        ("residuals", RESIDUALS, "check lstm with this saved (default gates)"),
        ("precision", PRECISIONS, "check lstm with products in this, and its error"),
    ):
        parser.add_argument(f"--{name}", choices=choices, help=explanation)
    parser.add_argument(
        "--no-masks",
        dest="masks",
        action="store_false",
        help="leave lengths and resets out, to check a plain LSTM (params, inputs, initial_state)",
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=writable, help="draw the rounding ratios by step and by gate"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Checks, prints the tables or the JSON, and returns the exit code."""
    config = _config(options)
    console = Console(quiet=options.json == "-", emoji=False)
    name = options.candidate or HAND_WRITTEN
    title = f"The gradient of {name}" if options.candidate else "The gradient by hand"
    with users_input():
        plot = _plotting(options.plot)
        candidate = _candidate(options)
        problem = draw_problem(config, candidate)
    source = text_source(options)
    with _progress(len(config.dtypes)) as progress:
        report = check_lstm(problem, config, candidate=name, progress=progress)
        progress("time and memory")
        dtype = "float32" if "float32" in config.dtypes else config.dtypes[0]
        costs = {} if report.mismatches else _costs(problem, dtype, name)
        progress("derivations")
        agreement = None if report.mismatches else _agreement(config, candidate, name)
    errors = gradient_errors(config, candidate) if config.precision and report.passed else {}
    passed = (
        report.passed
        and (agreement is None or _agreed(agreement, name))
        and (not errors or precise_enough(errors, config))
    )
    if plot:
        plot(report)
    if options.json:
        found = _as_json(report, agreement, costs, dtype, config, source)
        write_json(options.json, found | {"precision": errors, "passed": passed})
    console.print(f"[bold]{escape(title)}[/bold]: {_sizes(config, source)}", justify="center")
    if errors:
        console.print(_precision_table(errors, config.precision))
    _print(console, report, agreement, costs, dtype)
    if report.passed and not passed:
        why = "the gradient is off by more than its products' rounding" if errors else DISAGREE
        console.print(f"[red]FAILED: {why}.[/red]")
    return 0 if passed else 1


def _print(
    console: Console,
    report: GradientReport,
    agreement: Agreement | None,
    costs: dict[str, Cost],
    dtype: str,
) -> None:
    shown = list(tables(report))
    for one in shown:
        console.print(one)
    if any(isinstance(one, Table) for one in shown):
        console.print(LEGEND, style="dim")
    if agreement:
        console.print(_agreement_table(agreement))
    if costs:
        console.print(_cost_table(costs, dtype))
    colour = "green" if report.passed else "red"
    console.print(f"[{colour}]{report.verdict()}[/{colour}]")


def _sizes(config: CheckConfig, source: str | None) -> str:
    sizes = f"T={config.time} B={config.batch} D={config.features} H={config.hidden}"
    masks = "" if config.masks else ", no masks"
    inputs = "random inputs" if source is None else escape(Path(source).name)
    return f"{sizes}, {inputs}{masks}"


def _config(options: argparse.Namespace) -> CheckConfig:
    return CheckConfig(
        time=options.time,
        batch=options.batch,
        features=options.features,
        hidden=options.hidden,
        dtypes=_dtypes(options),
        activations=Activations(options.candidate_activation, options.cell_activation),
        seed=options.seed,
        text=text_named(options) if text_source(options) else None,
        masks=options.masks,
        precision=options.precision,
    )


def _dtypes(options: argparse.Namespace) -> tuple[str, ...]:
    if options.precision is None:
        return tuple(dict.fromkeys(options.dtype or CheckConfig.dtypes))
    if set(options.dtype or ["float32"]) != {"float32"}:
        raise BadInputError("--precision: expected --dtype float32 or none, got another.")
    return ("float32",)


@contextlib.contextmanager
def _progress(dtypes: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error, of a terminal alone, with what is under way."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("drawing", total=dtypes + len(OTHER_STAGES))

        def advance(stage: str) -> None:
            bar.update(task, advance=1, description=f"checking: {stage}")

        yield advance


def _plotting(destination: str | None) -> Callable[[GradientReport], None] | None:
    """What draws the report to the file, looked for before anything is computed."""
    if destination is None:
        return None
    return partial(plotting(destination).save_gradient_report, destination=destination)


def _costs(problem: Problem, dtype: str, name: str) -> dict[str, Cost]:
    """Of the gradient by every argument, the candidate's and autodiff's."""
    with jax.enable_x64(dtype == "float64"):
        point = make_point(problem.reference, problem.args, problem.cotangents)
        point = point.rounded(jnp.dtype(dtype))
        functions = {name: problem.candidate, AUTODIFF: problem.reference}
        gradients = {
            name: partial(reverse, point.call.of(function)) for name, function in functions.items()
        }
        return measure_costs(gradients, point.floats, point.others, point.cotangents)


def _candidate(options: argparse.Namespace) -> Any:
    """The function to be checked; None stands for ``lstm`` as it is."""
    of_lstm = {"residuals": options.residuals, "precision": options.precision}
    given = {name: choice for name, choice in of_lstm.items() if choice}
    if given and options.candidate:
        raise BadInputError(
            f"--{next(iter(given))}: expected without --candidate, for it is lstm's."
        )
    if given:
        return partial(lstm, **given)
    return options.candidate and function_named(options.candidate)


def _agreement(config: CheckConfig, candidate: Any, name: str) -> Agreement | None:
    """The vote of all derivations, on two sequences at most.

    None of a text, nor in half precision, which only two of them have.
    """
    if config.text is not None or config.precision:
        return None
    few = dataclasses.replace(config, batch=min(config.batch, VOTED_ON))
    return lstm_agreement(draw_problem(few, candidate), few, candidate=name)


def _agreed(agreement: Agreement, candidate: str) -> bool:
    """Whether all agree, and none but the candidate raised for more than its size or rounding.

    A candidate may be made for one dtype, which is not that of the vote.
    """
    said = [words for name, words in agreement.raised.items() if name != candidate]
    return agreement.odd == () and all(words.startswith(EXCUSED) for words in said)


def _agreement_table(agreement: Agreement) -> Table:
    title = "Derivations by parameters and initial state: differences in units of rounding"
    table = Table(title=title, caption=escape(agreement.vote()), box=SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for number in range(1, 1 + len(agreement.names)):
        table.add_column(str(number), justify="right", no_wrap=True)
    for number, (name, row) in enumerate(
        zip(agreement.names, agreement.ratios, strict=True), start=1
    ):
        table.add_row(f"{number} {escape(name)}", *(f"{ratio:.2g}" for ratio in row))
    return table


def _precision_table(errors: dict[str, dict[str, float]], precision: str | None) -> Table:
    title = f"The gradient's relative error against float64, products in {precision}"
    table = Table(title=title, box=SIMPLE_HEAD)
    for heading in ("", *errors):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for argument in next(iter(errors.values())):
        table.add_row(argument, *(f"{of[argument]:.1e}" for of in errors.values()))
    return table


def _cost_table(costs: dict[str, Cost], dtype: str) -> Table:
    table = Table(title=f"Cost of the whole gradient, {dtype}, runs in turn", box=SIMPLE_HEAD)
    for heading in ("", "median time", "temporary memory", "compile time"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{1e3 * cost.median_seconds:.2f} ms",
            f"{cost.temporary_bytes / 1e6:.2f} MB",
            f"{cost.compile_seconds:.2f} s",
        )
    ratios = _ratios(costs)
    table.add_section()
    table.add_row(
        "candidate / autodiff", f"{ratios['time_ratio']:.2f}", f"{ratios['memory_ratio']:.2f}"
    )
    return table


def _ratios(costs: dict[str, Cost]) -> dict[str, float]:
    candidate, autodiff = costs.values()
    return {
        "time_ratio": candidate.median_seconds / autodiff.median_seconds,
        "memory_ratio": candidate.temporary_bytes / max(autodiff.temporary_bytes, 1),
    }


def _as_json(
    report: GradientReport,
    agreement: Agreement | None,
    costs: dict[str, Cost],
    dtype: str,
    config: CheckConfig,
    source: str | None,
) -> dict[str, Any]:
    by_name = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
    numbers = dataclasses.replace(config, text=None)
    return {
        **report.to_json(),
        "agreement": agreement and agreement.to_json(),
        "cost": {"dtype": dtype, "gradients": by_name, **(_ratios(costs) if costs else {})},
        "config": dataclasses.asdict(numbers) | {"text": source},
        "versions": {
            "jaxlstm": jaxlstm.__version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
        },
    }
