"""``jaxlstm flow``: where a model's gradient goes, step by step back from the loss."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import jax
from rich.console import Console

from jaxlstm.cli.arguments import (
    add_json,
    add_text,
    not_negative,
    positive,
    users_input,
    writable_file,
    write_json,
    writing,
)
from jaxlstm.cli.checkpoints import add_checkpoint
from jaxlstm.cli.flow.measures import DIRECTIONS, check_directions, measured
from jaxlstm.cli.flow.problem import MODEL, check_together, described, problem_of
from jaxlstm.cli.flow.result import as_json
from jaxlstm.cli.flow.tables import print_flow
from jaxlstm.cli.plots import plotting

DESCRIPTION = """What becomes of the gradient of a loss at the end of a sequence on its way back:
its norm at every distance, the paths it comes by, how loose the documents' bounds are, how fast any
direction grows, what to do about it; and of a vanilla RNN on the same inputs, whose last hidden
state gets the same gradient, its norm and growth. Of a checkpoint or of a drawn
model, on a text or on standard normal inputs. Exit code 0; 2 on bad input."""
EXAMPLE = """example: jaxlstm flow --checkpoint run --text plays.txt --time 128 --plot flow.png;
of a drawn model: jaxlstm flow --hidden 128 --layers 2 --forget-bias 0 --json -"""


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "flow",
        help="where the gradient goes: norms, paths, bounds, exponents, advice",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    add_checkpoint(parser, required=False)
    for name, (type_, letter, default, explanation) in MODEL.items():
        option, told = f"--{name.replace('_', '-')}", f"{explanation} (default {default:g})"
        parser.add_argument(option, type=type_, metavar=letter, help=f"of a drawn model: {told}")
    add_text(parser)
    for name, type_, letter, default, explanation in (
        ("time", positive, "T", 100, "steps (default 100)"),
        ("batch", positive, "B", 8, "sequences (default 8)"),
        ("crossings", positive, "R", 3, "uses of the recurrent kernel told apart (default 3)"),
        ("directions", positive, "N", None, f"whose growth is measured (default {DIRECTIONS})"),
        ("seed", not_negative, "N", 0, "of all draws (default 0)"),
    ):
        parser.add_argument(
            f"--{name}", type=type_, default=default, metavar=letter, help=explanation
        )
    parser.add_argument(
        "--spectral", action="store_true", help="find the tight bound too, by singular values"
    )
    parser.add_argument(
        "--dtype", choices=("float64", "float32"), default="float64", help="(default float64)"
    )
    for name, what in (("plot", "every layer's flow"), ("plot-rnn", "the LSTM beside the RNN")):
        parser.add_argument(
            f"--{name}", type=writable_file, metavar="FILE", help=f"draw {what} (extra: plot)"
        )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints the tables or the JSON, draws, and returns the exit code."""
    check_together(options)
    drawn = list(_drawing(options))
    with jax.enable_x64(options.dtype == "float64"):
        with users_input():
            problem = problem_of(options)
        check_directions(options, problem)
        found = measured(options, problem)
    print_flow(Console(quiet=options.json == "-"), found)
    for option, destination, save in drawn:
        with writing(option, destination):
            save(found.report, found.rnn, destination)
    if options.json:
        write_json(options.json, described(options, problem) | as_json(found))
    return 0


def _drawing(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[..., None]]]:
    """Every picture that is asked for: its option, its file, and what draws it."""
    for option, destination, name in (
        ("--plot", options.plot, "save_gradient_flow"),
        ("--plot-rnn", options.plot_rnn, "save_lstm_beside_rnn"),
    ):
        if destination is not None:
            yield option, destination, getattr(plotting(destination, option), name)
