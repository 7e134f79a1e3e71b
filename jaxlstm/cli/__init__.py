"""The command line: ``jaxlstm COMMAND``. The only place that parses and prints."""

import os
import sys
from collections.abc import Sequence

from jaxlstm import __version__
from jaxlstm.cli import bench, check, evaluate, flow, rtrl, sample, sources, task, train
from jaxlstm.cli.arguments import BadInputError, Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 where all holds, 1 where a check fails, 2 on bad input."""
    parser = Parser(prog="jaxlstm", description="The LSTM whose gradients you can read and check.")
    parser.add_argument("--version", action="version", version=f"jaxlstm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    check.add_parser(commands)
    rtrl.add_parser(commands)
    flow.add_parser(commands)
    bench.add_parser(commands)
    sources.add_parser(commands)
    train.add_parser(commands)
    task.add_parser(commands)
    sample.add_parser(commands)
    evaluate.add_parser(commands)
    options = parser.parse_args(argv)
    try:
        return options.run(options)
    except BadInputError as error:
        print(f"jaxlstm {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f"jaxlstm {options.command}: stopped.", file=sys.stderr)
        return 130
