"""``jaxlstm sources``: every printed line of the five documents and the verdict on it."""

import argparse
import difflib
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from jaxlstm.cli.arguments import BadInputError, add_json, not_negative, positive, write_json
from jaxlstm.sources import DOCUMENTS, Judgement, judge_document
from jaxlstm.sources.references import code_lines

VERDICTS = ("holds", "typographical", "supplied", "holds only if", "fails", "ill-formed")
COLOURS = {
    "holds": "green",
    "typographical": "green",
    "supplied": "cyan",
    "holds only if": "yellow",
}
DESCRIPTION = """Judge every printed line of the five source documents against JAX's autodiff, each
at random points where all that it mentions is true. Without options: a count by document, and what
does not hold. Exit code 0 where all is as recorded and every correction holds, else 1."""
LEGEND = (
    "A slip is typographical: its meaning is plain and holds. Supplied is what a document needs "
    "but does not print. Ill-formed is what cannot be evaluated as printed."
)
ALL_AS_RECORDED = "[green]all as recorded[/green]"
EXAMPLE = "example: jaxlstm sources --document 000 --equation 17"


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "sources",
        help="judge the equations of the source documents",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    parser.add_argument("--document", choices=DOCUMENTS, help="all lines of this one")
    parser.add_argument(
        "--equation",
        metavar="NAME",
        help="one equation of --document, by number or name, with its code and corrections",
    )
    parser.add_argument(
        "--draws", type=positive, default=12, metavar="N", help="random points (default 12)"
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of the first draw (default 0)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Judges, prints the tables, one equation, or the JSON, and returns the exit code."""
    if options.equation:
        _check_equation(options.document, options.equation)
    documents = [options.document] if options.document else list(DOCUMENTS)
    seeds = range(options.seed, options.seed + options.draws)
    judgements: list[Judgement] = []
    for document in documents:
        print(f"judging document {document}", file=sys.stderr)
        judgements += judge_document(document, seeds, options.equation)
    _print(judgements, options)
    if options.json:
        write_json(options.json, [judgement.to_json() for judgement in judgements])
    return 0 if all(judgement.as_recorded for judgement in judgements) else 1


def _check_equation(document: str | None, equation: str) -> None:
    """Before anything is judged."""
    if document is None:
        raise BadInputError("--equation: expected --document beside it.")
    known = list(dict.fromkeys(entry.equation for entry in DOCUMENTS[document].entries()))
    if equation not in known:
        names = ", ".join(difflib.get_close_matches(equation, known, n=5, cutoff=0))
        raise BadInputError(
            f"--equation: expected one that --document {document} lists, such as {names}; "
            f"got {equation!r}."
        )


def _print(judgements: list[Judgement], options: argparse.Namespace) -> None:
    console = Console(quiet=options.json == "-")
    if options.equation:
        shown: set[str] = set()
        for judgement in judgements:
            _print_one(console, judgement, shown)
        return
    if options.document:
        console.print(_line_table(judgements))
    else:
        console.print(_count_table(judgements))
        console.print(_wrong_table(judgements))
    strange = sum(not judgement.as_recorded for judgement in judgements)
    record = f"[red]{strange} differ from the record[/red]" if strange else ALL_AS_RECORDED
    console.print(f"{len(judgements)} lines and readings at {options.draws} points: {record}.")


def _count_table(judgements: list[Judgement]) -> Table:
    """Verdicts by document."""
    table = Table(title="The documents' lines", caption=LEGEND, box=SIMPLE_HEAD)
    table.add_column("document")
    for verdict in VERDICTS:
        table.add_column(verdict.replace("typographical", "slip"), justify="right")
    for document in dict.fromkeys(j.entry.document for j in judgements):
        counts = Counter(j.verdict for j in judgements if j.entry.document == document)
        table.add_row(document, *(str(counts[verdict] or "") for verdict in VERDICTS))
    return table


def _wrong_table(judgements: list[Judgement]) -> Table:
    """What does not hold as printed, a row each."""
    table = Table(title="What does not hold as printed", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("doc.", "equation", "line", "verdict", "error", "corrected"):
        table.add_column(heading, overflow="fold")
    for j in judgements:
        if j.verdict in ("fails", "ill-formed", "holds only if"):
            numbers = _number(j.printed_error), _number(j.corrected_error)
            place = j.entry.document, escape(j.entry.equation), str(j.entry.line or "")
            table.add_row(*place, _coloured(j), *numbers)
    return table


def _line_table(judgements: list[Judgement]) -> Table:
    """One row a line: where it stands, the verdict, the errors, what was found."""
    table = Table(title="Lines", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("doc.", "equation", "line", "verdict", "printed\ncorrected"):
        table.add_column(heading, max_width=16, overflow="fold")
    table.add_column("reading and note")
    for j in judgements:
        entry = j.entry
        remarks = [entry.reading and f"[{entry.reading}]", entry.note]
        table.add_row(
            entry.document,
            escape(entry.equation),
            str(entry.line or ""),
            _coloured(j),
            f"{_number(j.printed_error) or '-'}\n{_number(j.corrected_error)}".rstrip(),
            escape(" ".join(filter(None, remarks))),
        )
    return table


def _coloured(judgement: Judgement) -> str:
    colour = COLOURS.get(judgement.verdict, "red")
    return f"[{colour}]{judgement.verdict}[/{colour}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def _print_one(console: Console, judgement: Judgement, shown: set[str]) -> None:
    """One line in full: LaTeX, verdict, errors, fitted terms, code, and the library's own lines."""
    say = partial(console.print, markup=False, soft_wrap=True)
    entry = judgement.entry
    place = f"document {entry.document}, equation {entry.equation}"
    console.rule(escape(place + (f", line {entry.line}" if entry.line else "")))
    say(entry.statement)
    verdict = _coloured(judgement)
    console.print(
        f"{entry.kind}: {verdict}" + (f" {entry.condition.words}" if entry.condition else "")
    )
    for name in ("reading", "note"):
        if getattr(entry, name):
            say(f"{name}: {getattr(entry, name)}")
    _print_errors(say, judgement)
    for name in ("printed", "corrected"):
        _print_code(console, name, getattr(entry, name), shown)
    for label in entry.used_by:
        say(f"used by [{label}] in {', '.join(code_lines(label))}")


def _print_errors(say: Callable[[str], None], judgement: Judgement) -> None:
    entry = judgement.entry
    if entry.printed is not None:
        what = "share of the bound reached" if entry.truth is None else "error as printed"
        reason = f"cannot be evaluated: {judgement.reason}"
        say(f"{what}: {_number(judgement.printed_error) or reason}")
    if judgement.wrong_entries is not None:
        say(f"wrong in {judgement.wrong_entries:.0%} of the entries{_places(judgement)}")
    if judgement.corrected_error is not None:
        say(f"error corrected: {_number(judgement.corrected_error)}")
    for term, coefficient in judgement.fit.items():
        if abs(coefficient) > 1e-9:
            say(f"  to be added: {coefficient:+.3f} times {term}")


def _places(judgement: Judgement) -> str:
    """Where a line is wrong, unless everywhere."""
    if judgement.wrong_entries == 1:
        return ""
    return ", such as " + ", ".join(str(list(index)) for index in judgement.wrong_at)


def _print_code(console: Console, name: str, line: Any, shown: set[str]) -> None:
    """A line's functions: by name, and the code of each that was not shown before."""
    functions = list(_functions(line))
    if functions:
        named = ", ".join(f.__name__ for f in functions if f.__name__ != "<lambda>")
        console.print(f"{name}: {named}".rstrip(), markup=False)
    for function in functions:
        code = textwrap.dedent(inspect.getsource(function)).rstrip()
        if code not in shown or function.__name__ == "<lambda>":
            shown.add(code)
            console.print(Syntax("", "python").highlight(code), soft_wrap=True)


def _functions(line: Any) -> Iterator[Any]:
    """A line's functions, through partial applications."""
    if isinstance(line, partial):
        for part in (line.func, *line.args, *line.keywords.values()):
            yield from _functions(part)
    elif inspect.isfunction(line):
        yield line
