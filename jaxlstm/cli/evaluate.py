"""``jaxlstm evaluate``: how well a trained model predicts a text."""

import argparse
from typing import TYPE_CHECKING, Any

import jax
from numpy import ndarray
from rich.console import Console

from jaxlstm.cli.arguments import (
    BadInputError,
    add_json,
    add_text,
    text_named,
    users_input,
    write_json,
)
from jaxlstm.cli.checkpoints import add_checkpoint, loaded
from jaxlstm.tasks.text import Text, fingerprint, split
from jaxlstm.training import evaluate

if TYPE_CHECKING:
    from jaxlstm.training.checkpoints import About

DESCRIPTION = """The mean cross-entropy of a text's characters under the model of a checkpoint, each
predicted from those before it. Exit code 0; 2 on bad input."""
EXAMPLE = "example: jaxlstm evaluate --checkpoint run --text plays.txt --held-out --json -"


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained model on a text",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    add_checkpoint(parser)
    add_text(parser, required=True)
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="only the last share of the text, which the run did not train on",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures, prints a sentence or the JSON."""
    with users_input():
        text, (state, about) = text_named(options), loaded(options)
        points = _held_out(options, text, about) if options.held_out else text.points
        with jax.enable_x64(about.config.dtype == "float64"):
            found = evaluate(about.config, state.params, about.vocabulary, points)
    Console(quiet=options.json == "-").print(
        f"Step {int(state.step):,}: {found.nats_per_character:.4f} nats, "
        f"{found.bits_per_character:.4f} bits a character over {found.characters:,} characters.",
        highlight=False,
    )
    if options.json:
        write_json(options.json, {"step": int(state.step), **found._asdict()})
    return 0


def _held_out(options: argparse.Namespace, text: Text, about: "About") -> ndarray:
    """The part of the run's own text that it did not train on."""
    if fingerprint(text) != about.fingerprint:
        raise BadInputError(f"--held-out: expected the text of the run in {options.checkpoint}.")
    if not about.config.held_out:
        raise BadInputError(f"--held-out: the run in {options.checkpoint} held nothing out.")
    return split(text.points, about.config.held_out)[1]
