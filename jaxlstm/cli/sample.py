"""``jaxlstm sample``: text from a trained model, shown as it is drawn."""

import argparse
import itertools
from typing import Any

import jax

from jaxlstm.cli.arguments import (
    add_json,
    not_negative,
    positive,
    users_input,
    write_json,
)
from jaxlstm.cli.checkpoints import add_checkpoint, loaded
from jaxlstm.training import sample

DESCRIPTION = """Continue a prompt with the model of a checkpoint, a character after another. Exit
code 0; 2 on bad input."""
EXAMPLE = """example: jaxlstm sample --checkpoint run --prompt "ROMEO:" --temperature 0.8"""


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "sample", help="draw text from a trained model", description=DESCRIPTION, epilog=EXAMPLE
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what is continued (default: a line's end)"
    )
    parser.add_argument(
        "--length", type=positive, default=500, metavar="N", help="characters drawn (default 500)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="divides the logits; 0: the likeliest character always (default 1)",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="draw from the fewest characters that have this probability together (default 1)",
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of the draws (default 0)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the prompt and what follows it, or writes both as JSON."""
    quiet = options.json == "-"
    state, about = loaded(options)
    prompt = about.vocabulary[0] if options.prompt is None else options.prompt
    numbers = {"temperature": options.temperature, "top_p": options.top_p}
    prompted = (about.config, state.params, about.vocabulary, prompt, options.length)
    with jax.enable_x64(about.config.dtype == "float64"):
        with users_input():
            pieces = sample(*prompted, key=jax.random.key(options.seed), **numbers)
        drawn = []
        for piece in itertools.chain([prompt], pieces, ["\n"]):
            drawn.append(piece)
            if not quiet:
                print(piece, end="", flush=True)
    if options.json:
        result = {"step": int(state.step), "prompt": prompt, "text": "".join(drawn[1:-1])}
        write_json(options.json, result | numbers | {"seed": options.seed})
    return 0
