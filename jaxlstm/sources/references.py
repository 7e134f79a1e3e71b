"""From a label such as [B2] to the lines of the library that implement it, and back."""

import re
from collections.abc import Iterator
from importlib import resources

IMPLEMENTATION = ("cell.py", "cell_derivatives.py", "sequence.py", "readout.py")
"""The files whose lines carry labels."""

LABEL = re.compile(r"\[([A-Z]\d)\]")
CITATION = re.compile(r"(00\d) ((?:\([^()]*\)(?:, )?)+)")


def code_lines(label: str) -> list[str]:
    """Where the label trails a line of code, as ``jaxlstm/cell.py:52``.

    >>> [place.split(":")[0] for place in code_lines("D4")]
    ['jaxlstm/cell_derivatives.py']
    """
    return [
        f"jaxlstm/{name}:{number}"
        for name, number, line in _lines()
        if "#" in line and label in LABEL.findall(line.split("#", 1)[1])
    ]


def citations() -> set[tuple[str, str, str]]:
    """(label, document, equation) of every citation beside a label in the files' docstrings."""
    return {
        (label, document, equation)
        for _, _, line in _lines()
        for label in LABEL.findall(line)[:1]
        for document, equations in CITATION.findall(line)
        for equation in re.findall(r"\(([^()]*)\)", equations)
    }


def _lines() -> Iterator[tuple[str, int, str]]:
    """File, number and text of every line of the implementation."""
    for name in IMPLEMENTATION:
        text = resources.files("jaxlstm").joinpath(name).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            yield name, number, line
