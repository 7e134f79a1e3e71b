"""What the commands that read a checkpoint have in common."""

import argparse
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from jaxlstm.cli.arguments import BadInputError, users_input

if TYPE_CHECKING:
    from jaxlstm.training.checkpoints import About
    from jaxlstm.training.step import TrainState


def orbax() -> ModuleType:
    """``jaxlstm.training.checkpoints``, where its extra is installed."""
    try:
        from jaxlstm.training import checkpoints
    except ImportError as error:
        raise BadInputError(str(error)) from error
    return checkpoints


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds ``--checkpoint DIR``, which must, or may, be given, and ``--step``."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=required,
        metavar="DIR",
        help="folder of the checkpoints",
    )
    parser.add_argument(
        "--step",
        type=_step,
        default="latest",
        metavar="N",
        help='which of them: a step, "best" on the held-out text, or "latest" (default)',
    )


def loaded(options: argparse.Namespace) -> "tuple[TrainState, About]":
    """The state and the description of the checkpoint that was asked for."""
    with users_input():
        return orbax().load(options.checkpoint, options.step)


def _step(text: str) -> int | str:
    if text in ("latest", "best"):
        return text
    try:
        return int(text)
    except ValueError as error:
        expected = f'expected a step, "latest" or "best", got {text!r}.'
        raise argparse.ArgumentTypeError(expected) from error
