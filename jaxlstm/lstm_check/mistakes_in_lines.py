"""Mistakes in the lines of [B1] to [B8]: their terms, and the factors of [B1] to [B3]."""

import functools
import itertools
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from jaxlstm.lstm_check.choices import LINES, PARTS_OF, STATE, Entries, factor_in
from jaxlstm.types import GATES, Activations

STATE_NAMES = dict(zip(STATE, ("hidden", "cell"), strict=True))
LETTERS = dict(zip(GATES, "ifgo", strict=True))
WITH_D_C = ("B2 input", "B2 forget", "B2 candidate", "B3")
PRODUCTS = {
    "B4": "the product d_z W'",
    "B5": "the sum of h_{t-1}' d_z",
    "B6": "the sum of x_t' d_z",
    "B7": "the sum of d_z",
    "B8": "the product d_z U'",
}
SUMS = ("B5", "B6", "B7")

Path = tuple[str | int, ...]


class Mistake(NamedTuple):
    """A hypothesis whose change is given by names."""

    equation: str
    words: str
    entries: Entries
    kind: Literal["replace", "scale"] = "replace"


def scaled(equation: str, term: str, *paths: Path) -> Mistake:
    """A term that stands at these paths."""
    return Mistake(equation, term, dict.fromkeys(paths, 1), "scale")


def replaced(equation: str, words: str, *choices: tuple[Path, str, str]) -> Mistake:
    """Each choice: where, what is taken, and what would be right."""
    entries: Entries = {(*where, taken): 1 for where, taken, _ in choices}
    return Mistake(equation, words, entries | {(*where, right): -1 for where, _, right in choices})


def _parts(part: str, *lines: str) -> list[Path]:
    return [("cotangents", line, part) for line in lines]


def _blocks(*equations: str) -> list[Path]:
    return [("gates", equation, gate, gate) for equation in equations for gate in GATES]


def terms() -> Iterator[Mistake]:
    """Terms that are left out, counted twice, of the wrong sign or scaled."""
    yield scaled("B1", "the term d_h * dh/dc", ("values", "B1", "o"))
    yield scaled("B1", "the d_c that comes from t+1", *_parts("d_c from t+1", *WITH_D_C))
    yield scaled("B3", "the term d_c * f", ("values", "B3", "f"))
    for gate, letter in LETTERS.items():
        line, d = f"B2 {gate}", "d_h * dh" if gate == "output" else "d_c * dc"
        yield scaled(line, f"the term {d}/dz_{letter}", ("values", line, LINES[line].values[0]))
    for equation, term in PRODUCTS.items():
        yield scaled(equation, term, *_blocks(equation))
    yield scaled("outputs cotangent", "the outputs' cotangent", ("d_outputs", "t"))
    for state, name in STATE_NAMES.items():
        final, initial = ("final", "at the end", state, state), ("initial", state, state)
        yield scaled(f"final {name} cotangent", f"the final {name} state's cotangent", final)
        yield scaled(f"initial {name} gradient", f"the initial {name} state's gradient", initial)
    for equation, gate in itertools.product(PRODUCTS, GATES):
        term = f"the {gate} gate's part of {PRODUCTS[equation]}"
        yield scaled(f"{equation} {gate}", term, ("gates", equation, gate, gate))
    yield scaled("B5", "every sum over time", *_blocks(*SUMS))
    yield scaled("B2", "the whole of d_z", *_blocks(*PRODUCTS))


def terms_in_one_place() -> Iterator[Mistake]:
    """Parts of d_h and d_c, in some lines and not in others."""
    yield scaled("B4", "the d_h that comes from t+1", *_parts("d_h from t+1", "B1", "B2 output"))
    for line in ("B1", "B2 output"):
        yield scaled(line, "the d_h from t+1 in its d_h", *_parts("d_h from t+1", line))
        yield scaled(line, "the outputs' cotangent in its d_h", *_parts("d_y", line))
    gates = _parts("d_h * dh/dc", *WITH_D_C[:3])
    yield scaled("B1", "the term d_h * dh/dc in the gates' d_c", *gates)
    for line in WITH_D_C:
        yield scaled(line, "the term d_h * dh/dc in its d_c", *_parts("d_h * dh/dc", line))
        yield scaled(line, "the d_c from t+1 in its d_c", *_parts("d_c from t+1", line))


# Another value, slope or cotangent.


def factors(activations: Activations) -> Iterator[Mistake]:
    """Lines with a wrong value or slope."""
    for field, line in itertools.product(("values", "slopes"), LINES):
        right, *others = getattr(LINES[line], field)
        for other in others:
            words = [spelled(name, activations) for name in (other, right)]
            if words[0] != words[1]:
                yield Mistake(line, _instead(*words), _factor(field, line, other))


def factors_of_several_gates() -> Iterator[Mistake]:
    """Gates that all go wrong the same way."""
    swapped = _factor("values", "B2 input", "i") | _factor("values", "B2 candidate", "g")
    yield Mistake("B2 input", "swaps g and i with the candidate's line", swapped)
    for slope, words in (
        ("1", "leaves out every gate's sigmoid'"),
        ("{0}", "uses every gate's value where its sigmoid' belongs"),
        ("1 - {0}", "uses 1 less every gate's value where its sigmoid' belongs"),
        ("1 - {0}^2", "uses tanh' where every gate's sigmoid' belongs"),
        ("sigmoid'({0})", "takes every gate's sigmoid' at its value"),
        ("z_{0} (1 - z_{0})", "uses z (1 - z) where every gate's sigmoid' belongs"),
    ):
        entries: Entries = {}
        for gate in ("input", "forget", "output"):
            entries |= _factor("slopes", f"B2 {gate}", slope.format(LETTERS[gate]))
        yield Mistake("B2", words, entries)
        if slope == "1":
            entries = entries | _factor("slopes", "B2 candidate", "1")
            yield Mistake("B2", "leaves out the derivatives of all four gates", entries)


def cotangents() -> Iterator[Mistake]:
    """Lines that pull back a wrong cotangent."""
    for line, (cotangents, _, _) in LINES.items():
        for other in cotangents[1:]:
            yield Mistake(line, _instead(other, cotangents[0]), _cotangent(line, other))
    for equation, other, words in (
        ("B1", "d_h", "the gates use d_h where d_c belongs"),
        ("B1", "d_c_{t+1}", "the gates use d_c_{t+1} where d_c belongs"),
        ("B3", "d_c_{t-1}", "comes before [B2], whose gates use d_c_{t-1} where d_c belongs"),
    ):
        entries = [_cotangent(line, other) for line in WITH_D_C[:3]]
        yield Mistake(equation, words, functools.reduce(dict.__or__, entries))


def _factor(field: str, line: str, other: str) -> Entries:
    return _difference(field, line, factor_in(other), factor_in(getattr(LINES[line], field)[0]))


def _cotangent(line: str, other: str) -> Entries:
    parts = (dict.fromkeys(PARTS_OF[name], 1) for name in (other, LINES[line].cotangents[0]))
    return _difference("cotangents", line, *parts)


def _difference(field: str, line: str, taken: dict[str, int], right: dict[str, int]) -> Entries:
    return {(field, line, name): taken.get(name, 0) - right.get(name, 0) for name in taken | right}


def _instead(taken: str, right: str) -> str:
    if right == "1":
        return f"multiplies by {taken}"
    return f"leaves out {right}" if taken == "1" else f"uses {taken} where {right} belongs"


def spelled(name: str, activations: Activations) -> str:
    """The name with its derivatives written out and the activations by their names."""
    phi, psi = activations.candidate, activations.cell
    if (phi == "identity" and "phi'" in name) or (psi == "identity" and "psi'" in name):
        return "1"
    derivatives = {"tanh": "1 - {0}^2", "sigmoid": "{0} (1 - {0})", "identity": "1"}
    name = name.replace("phi'(z_g)", derivatives[phi].format("g"))
    name = re.sub(r"psi'\((c_[^()]*)\)", derivatives[psi].format(r"psi(\1)"), name)
    name = name.replace("z_g", "g") if phi == "identity" else name
    name = re.sub(r"psi\(([^()]*)\)", r"\1", name) if psi == "identity" else name
    return name.replace("phi", phi).replace("psi", psi)
