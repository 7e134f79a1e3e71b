"""``jaxlstm task``: a task with a long time lag, learned to its criterion."""

import argparse
import dataclasses
import statistics
from functools import partial
from typing import Any, NamedTuple

import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jaxlstm.cli.arguments import (
    Parser,
    add_json,
    check_fits,
    finite_or_none,
    not_negative,
    positive,
    positive_real,
    users_options,
    writable_file,
    write_json,
    writing,
)
from jaxlstm.cli.plots import plotting
from jaxlstm.cli.progress import told_progress
from jaxlstm.tasks.long_lag import TASKS
from jaxlstm.tasks.task import Task
from jaxlstm.training import (
    BLOCK,
    ESTIMATES,
    TaskConfig,
    TaskReport,
    rnn_config,
    task_config,
    to_criterion,
)
from jaxlstm.validation import check_seed

DESCRIPTION = """Train an LSTM on a task with a long time lag until its criterion holds on fresh
sequences, and print how many it needed beside the number of Hochreiter and Schmidhuber (1997). In
the same run, within the same budget: a vanilla RNN of as many weights, and the LSTM by BPTT
truncated below the lag. Exit code 0 where the first row met the criterion in every trial, else 1;
2 on bad input."""
EXAMPLE = """example: jaxlstm task adding --trials 10 --json adding.json --plot adding.png; what an
estimate of the gradient costs: jaxlstm task reber --gradient bptt --gradient snap1"""
NAMES = {"bptt": "LSTM", "exact": "LSTM, exact RTRL", "snap1": "LSTM, SnAp-1", "cell": "LSTM, cell"}
DIFFERENCES = """Here, otherwise than in 1997: forget gates, which start nearly open; the full
gradient, where a row names no other; Adam, on batches of {batch}; {hidden} units in one layer; a
softmax and its cross-entropy where symbols are told apart; an output that also sees the input; the
criterion tested on fresh sequences with the weights held, which are not counted; medians, not
means."""
TIME_LAG = """T, or p; jaxlstm.tasks says what it is in each task: from 6 on for reber (default 6),
from 1 for copy (default 10), from 2 for noise-free and from 20 for the others (default 100)"""
SIZES = {
    "hidden": (positive, "units"),
    "batch": (positive, "sequences a step"),
    "learning_rate": (positive_real, "of Adam, but for the readout"),
    "readout_rate": (positive_real, "of Adam, for the readout"),
    "budget": (positive, "training sequences, at most, of each trial"),
    "window": (positive, "steps of truncated BPTT"),
}


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
        help=" ".join(TIME_LAG.split()),
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
        action="append",
        help="of the LSTM: BPTT by hand; BPTT within windows; exact RTRL; its estimates SnAp-1 and "
        "the cell's own path, the gradient of 1997; repeatable, a row each (default bptt); the "
        "RNN's is BPTT",
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
    task, methods = _planned(options)
    seeds = range(options.seed, options.seed + options.trials)
    result = _result(task, seeds, _train(task, methods, seeds))
    Console(quiet=options.json == "-").print(_table(task, result["methods"]))
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


def _planned(options: argparse.Namespace) -> tuple[Task, list[Method]]:
    """The task, and the rows that were asked for with the contrasts after them."""
    lag = {} if options.time_lag is None else {"time_lag": options.time_lag}
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    with users_options():
        check_seed(options.seed + options.trials - 1)
        task = TASKS[options.task](**lag)
        config = task_config(task, **given)
    _check_memory(task, config)
    lstms = [*dict.fromkeys(options.gradient or ["bptt"])]
    cut = [] if "truncated" in lstms else [_lstm(config, "truncated")]
    rnn = Method("vanilla RNN", rnn_config(task, config))
    return task, [*(_lstm(config, gradient) for gradient in lstms), rnn, *cut]


def _lstm(config: TaskConfig, gradient: str) -> Method:
    name = NAMES.get(gradient, f"LSTM, BPTT truncated to {config.window}")
    return Method(name, dataclasses.replace(config, gradient=gradient))


def _check_memory(task: Task, config: TaskConfig) -> None:
    """Of the parameters, and of the sequences that the criterion is tested on."""
    weights = 4 * config.hidden * (config.hidden + task.input_size)
    check_fits("--hidden", "parameters and optimizer", 4 * 4 * weights)
    drawn = partial(task.draw, jax.random.key(0), task.criterion.sequences)
    time, sequences, _ = jax.eval_shape(drawn).inputs.shape
    numbers = task.input_size + task.output_size + 5 * config.hidden
    check_fits("--time-lag", "test sequences", 4 * time * sequences * numbers)


def _train(task: Task, methods: list[Method], seeds: range) -> Trials:
    """Every trial of every method, under a bar of the sequences that are left of the budgets."""
    budget = sum(method.config.budget for method in methods) * len(seeds)
    with told_progress() as progress:
        bar = progress.add_task("", total=budget, told="compiling")

        def trial(method: Method, seed: int) -> list[TaskReport]:
            reports = []
            for _, report in to_criterion(task, method.config, seed=seed):
                reports.append(report)
                told = f"{method.name}, seed {seed}: {_in_short(report)}"
                progress.update(bar, advance=method.config.batch * BLOCK, told=told)
            progress.advance(bar, method.config.budget - reports[-1].sequences)
            return reports

        return {method: [trial(method, seed) for seed in seeds] for method in methods}


def _in_short(report: TaskReport) -> str:
    return f"loss {report.loss:.4f}, {report.right:.0%} right"


def _result(task: Task, seeds: range, trials: Trials) -> dict[str, Any]:
    """What ``--json`` writes."""
    methods = [_method_as_json(method, seeds, reports) for method, reports in trials.items()]
    return {
        "task": task.name,
        "time_lag": task.time_lag,
        "criterion": task.criterion.in_words,
        "published": task.published and task.published._asdict(),
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


def _table(task: Task, methods: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"{task.name}, T = {task.time_lag}: training sequences to the criterion",
        caption=f"Criterion: {task.criterion.in_words}. {_since_1997(task, methods[0]['config'])}",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    for heading in ("met", "median", "quartiles", "budget", "1997"):
        table.add_column(heading, justify="right")
    published = f"{task.published.sequences:,}" if task.published else ""
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


def _since_1997(task: Task, config: dict[str, Any]) -> str:
    """What its number is, and what is otherwise here."""
    if task.published is None:
        return ""
    here = " ".join(DIFFERENCES.split()).format(**config)
    return f"1997: {task.published.otherwise}. {here}"
