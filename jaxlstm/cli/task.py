"""``jaxlstm task``: a task with a long time lag, learned to its criterion."""

import argparse
import dataclasses
import statistics
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxlstm.cli.arguments import (
    Parser,
    add_json,
    finite_or_none,
    not_negative,
    positive,
    positive_real,
    users_input,
    writable_file,
    write_json,
    writing,
)
from jaxlstm.cli.plots import plotting
from jaxlstm.tasks.long_lag import TASKS
from jaxlstm.tasks.task import Task
from jaxlstm.training import ESTIMATES, TaskConfig, TaskReport, task_config, to_criterion

DESCRIPTION = """Train an LSTM on a task with a long time lag until its criterion holds on fresh
sequences, and print how many it needed beside the number of Hochreiter and Schmidhuber (1997). In
the same run, within the same budget: a vanilla RNN, and the LSTM by BPTT truncated below the lag.
Exit code 0 where the LSTM met the criterion in every trial, else 1; 2 on bad input."""
EXAMPLE = """example: jaxlstm task adding --trials 10 --json adding.json --plot adding.png; with an
estimate of the gradient: jaxlstm task temporal-order --gradient snap1"""
GRADIENTS = {
    "bptt": "the full gradient (BPTT) where that of 1997 stops at the gates",
    "truncated": "BPTT within windows",
    "exact": "the full gradient (RTRL) where that of 1997 stops at the gates",
    "snap1": "the estimate SnAp-1 of the gradient",
    "cell": "the gradient by the cell's own path alone, as in 1997",
}
SIZES = {
    "hidden": (positive, "units"),
    "batch": (positive, "sequences a step"),
    "learning_rate": (positive_real, "of Adam, but for the readout"),
    "readout_rate": (positive_real, "of Adam, for the readout"),
    "budget": (positive, "training sequences, at most, of each trial"),
}


COLUMNS = (
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[told]}"),
)


class Method(NamedTuple):
    """A row of the table."""

    name: str
    config: TaskConfig


Trials = dict[Method, list[list[TaskReport]]]
"""The reports of every trial."""


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "task",
        help="learn a task with a long time lag to its criterion",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    parser.add_argument("task", choices=TASKS, metavar="NAME", help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--time-lag",
        type=positive,
        metavar="T",
        help="(default: 6 for reber, 10 for copy, else 100)",
    )
    parser.add_argument(
        "--trials", type=positive, default=3, metavar="N", help="seeds of each row (default 3)"
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of the first trial (default 0)"
    )
    parser.add_argument(
        "--gradient",
        choices=ESTIMATES,
        default="bptt",
        help="of the first row: BPTT by hand; BPTT within windows; exact RTRL; its estimates "
        "SnAp-1 and the cell's own path (default bptt)",
    )
    parser.add_argument(
        "--window", type=positive, metavar="K", help="of truncated BPTT (default a third of T)"
    )
    for name, (type_, explanation) in SIZES.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type_,
            metavar=name.upper(),
            help=f"{explanation} (default by the task)",
        )
    parser.add_argument(
        "--plot", type=writable_file, metavar="FILE", help="draw the learning curves (extra: plot)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains all rows, prints the table or the JSON, and returns the exit code."""
    if options.plot:
        plotting(options.plot)
    with users_input():
        lag = {} if options.time_lag is None else {"time_lag": options.time_lag}
        task = TASKS[options.task](**lag)
        config = _config(task, options)
    seeds = range(options.seed, options.seed + options.trials)
    trials = _train(task, _methods(config), seeds)
    result = _result(task, seeds, trials)
    Console(quiet=options.json == "-").print(_table(task, config, result["methods"]))
    if options.json:
        write_json(options.json, result)
    if options.plot:
        with writing("--plot", options.plot):
            plotting(options.plot).save_task(result, options.plot)
    return 0 if result["methods"][0]["met"] == options.trials else 1


def learn_reber() -> int:
    """Runs ``jaxlstm task reber``, with no option."""
    parser = Parser(prog="jaxlstm")
    add_parser(parser.add_subparsers())
    return run(parser.parse_args(["task", "reber"]))


def _config(task: Task, options: argparse.Namespace) -> TaskConfig:
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    window = options.window or max(task.time_lag // 3, 1)
    return task_config(task, gradient=options.gradient, window=window, **given)


def _methods(config: TaskConfig) -> list[Method]:
    """The LSTM as it was asked for, and the contrasts."""
    truncated = dataclasses.replace(config, gradient="truncated")
    rnn = dataclasses.replace(config, cell="rnn", gradient="bptt")
    cut = Method(f"LSTM, BPTT truncated to {config.window}", truncated)
    if config.gradient == "truncated":
        return [cut, Method("vanilla RNN", rnn)]
    name = "LSTM" if config.gradient == "bptt" else f"LSTM, {config.gradient}"
    return [Method(name, config), Method("vanilla RNN", rnn), cut]


def _train(task: Task, methods: list[Method], seeds: range) -> Trials:
    """Every trial of every method, under a bar of the sequences that are left of the budgets."""
    budget = sum(method.config.budget for method in methods) * len(seeds)
    with Progress(*COLUMNS, transient=True, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=budget, told="compiling")

        def trial(n: int, method: Method, seed: int) -> list[TaskReport]:
            reports = []
            for _, report in to_criterion(task, method.config, seed=seed):
                reports.append(report)
                told = f"{method.name}, seed {seed}: {_in_short(report)}"
                done = n * method.config.budget + report.sequences
                progress.update(bar, completed=done, told=told)
            return reports

        runs = [(method, seed) for method in methods for seed in seeds]
        done = [trial(n, *each) for n, each in enumerate(runs)]
    per_method = len(seeds)
    return {method: done[k * per_method : (k + 1) * per_method] for k, method in enumerate(methods)}


def _in_short(report: TaskReport) -> str:
    return f"loss {report.loss:.4f}, {report.right:.0%} right"


def _result(task: Task, seeds: range, trials: Trials) -> dict[str, Any]:
    """What ``--json`` writes."""
    methods = [_method_as_json(method, seeds, reports) for method, reports in trials.items()]
    return {
        "task": task.name,
        "time_lag": task.time_lag,
        "criterion": task.criterion.in_words,
        "published": task.published,
        "methods": methods,
    }


def _method_as_json(method: Method, seeds: range, trials: list[list[TaskReport]]) -> dict[str, Any]:
    needed = [reports[-1].sequences for reports in trials if reports[-1].met]
    return {
        "name": method.name,
        "config": dataclasses.asdict(method.config),
        "met": len(needed),
        "quartiles": _quartiles(needed),
        "trials": [
            {"seed": seed, "met": reports[-1].met, **_curves(reports)}
            for seed, reports in zip(seeds, trials, strict=True)
        ],
    }


def _curves(reports: list[TaskReport]) -> dict[str, list[Any]]:
    return {
        "sequences": [report.sequences for report in reports],
        "loss": [finite_or_none(report.loss) for report in reports],
        "right": [report.right for report in reports],
    }


def _quartiles(needed: list[int]) -> list[float] | None:
    """With the median in the middle; None where no trial met the criterion."""
    if len(needed) < 2:
        return [float(number) for number in needed * 3] or None
    return statistics.quantiles(needed, n=4, method="inclusive")


def _table(task: Task, config: TaskConfig, methods: list[dict[str, Any]]) -> Table:
    published = f"{task.published:,}" if task.published else ""
    table = Table(
        title=f"{task.name}, T = {task.time_lag}: training sequences to the criterion",
        caption=f"Criterion: {task.criterion.in_words}. {_differs(config) if published else ''}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    for heading in ("met", "median", "quartiles", "budget", "1997"):
        table.add_column(heading, justify="right")
    for n, method in enumerate(methods):
        met = f"{method['met']} of {len(method['trials'])}"
        budget = f"{method['config']['budget']:,}"
        table.add_row(
            method["name"], met, *_spread(method["quartiles"]), budget, "" if n else published
        )
    return table


def _spread(quartiles: list[float] | None) -> tuple[str, str]:
    if quartiles is None:
        return "-", "-"
    low, median, high = quartiles
    return f"{median:,.0f}", f"{low:,.0f} to {high:,.0f}"


def _differs(config: TaskConfig) -> str:
    """What is otherwise than in 1997."""
    return (
        "Otherwise than in 1997: forget gates, which start nearly open; "
        f"{GRADIENTS[config.gradient]}; Adam on batches of {config.batch}, not single sequences; "
        f"{config.hidden} units in place of blocks of cells."
    )
