"""From a label such as [B2] to the lines of the library that implement it, and back."""

import re
from importlib import resources

IMPLEMENTATION = ("cell.py", "cell_derivatives.py", "by_hand.py", "rtrl/exact.py", "readout.py")
"""The files whose lines carry labels."""

LABEL = re.compile(r"\[([A-Z]\d+)\]")
EQUATION = r"\(((?:[^()]|\([^()]*\))*)\)"
"""An equation's number or label in parentheses, which may hold a pair of its own."""
DOCUMENT = rf"(00\d)((?:,?\s+{EQUATION})+)"
CITATIONS = re.compile(rf"{LABEL.pattern}((?:;?\s+{DOCUMENT})+)")
"""A label and the equations that it stands for, over as many lines as it takes."""


def code_lines(label: str) -> list[str]:
    """Where the label trails a line of code, as ``jaxlstm/cell.py:52``.

    >>> [place.split(":")[0] for place in code_lines("D4")]
    ['jaxlstm/cell_derivatives.py']
    """
    return [
        f"jaxlstm/{name}:{number}"
        for name in IMPLEMENTATION
        for number, line in enumerate(_text(name).splitlines(), start=1)
        if "#" in line and label in LABEL.findall(line.split("#", 1)[1])
    ]


def citations() -> set[tuple[str, str, str]]:
    """(label, document, equation) of every citation beside a label in the files' docstrings."""
    return set().union(*(citations_in(_text(name)) for name in IMPLEMENTATION))


def citations_in(text: str) -> set[tuple[str, str, str]]:
    """(label, document, equation) of every citation in a text.

    >>> sorted(citations_in("[F6]  000 (5); 004 (tanh(c_t))"))
    [('F6', '000', '5'), ('F6', '004', 'tanh(c_t)')]
    """
    return {
        (label, document, equation)
        for label, cited, *_ in CITATIONS.findall(text)
        for document, equations, _ in re.findall(DOCUMENT, cited)
        for equation in re.findall(EQUATION, equations)
    }


def _text(name: str) -> str:
    return resources.files("jaxlstm").joinpath(name).read_text(encoding="utf-8")
