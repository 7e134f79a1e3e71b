"""Named changes to a right derivation, fitted to a wrong one: which equation, and what about it.

A catalogue holds one right backward pass with amounts in it: all zero, it gives the gradient; each
hypothesis is a direction of the amounts, along which one equation goes wrong in one way.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxlstm.gradient_check.comparison import finite_fields


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One named change to one equation.

    Attributes:
        equation: which, such as "B2 forget".
        words: of a "replace", what is done in its whole ("uses c_t where c_{t-1} belongs"); of a
            "scale", the term that is scaled ("d_c * dc/dz_f").
        change: the amounts of the whole change, a pytree like the catalogue's amounts; of a
            "scale" those that double the term.
        kind: whether an amount mixes two formulas or scales a term by one plus itself.
    """

    equation: str
    words: str
    change: Any
    kind: Literal["replace", "scale"] = "replace"

    def told(self, amount: float) -> str:
        """What is wrong, at this amount."""
        if self.kind == "replace":
            return self.words if amount == 1 else f"{self.words}, its effect times {amount:.3g}"
        whole = {-1.0: "leaves out {}", 1.0: "counts {} twice", -2.0: "{} has the wrong sign"}
        return whole.get(amount, "{} is scaled by " + f"{1 + amount:.6g}").format(self.words)


class Catalogue(NamedTuple):
    """A derivation with amounts, and the hypotheses about it.

    Attributes:
        gradient: ``f(amounts, args, cotangents) -> gradient``; ``args`` all the arguments of the
            function under test, ``cotangents`` like its outputs, the gradient a list for its
            floating argument leaves in order.
        hypotheses: the likelier of two that do the same comes first.
    """

    gradient: Callable[[Any, Any, Any], Any]
    hypotheses: tuple[Hypothesis, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """How well one hypothesis explains a wrong gradient.

    Attributes:
        equation: as the hypothesis names it.
        words: what is wrong, with the fitted amount. "Its effect times 0.5": half of what the
            mistake would change in the gradient.
        amount: the fitted amount, 1 for the mistake as a whole.
        reproduces: whether the change gives the candidate's gradient, to rounding.
        explained: of the squared error, the part that is gone once the change is made, at most 1.
        pattern: of the parts (blocks and steps) that are wrong or would be by this change, those
            that are both; 1 where it reaches what is wrong and nothing else.
    """

    equation: str
    words: str
    amount: float
    reproduces: bool
    explained: float
    pattern: float

    def __str__(self) -> str:
        share = f"explains {self.explained:.0%} of the error, {self.pattern:.0%} of its places"
        found = "reproduces the candidate's gradient" if self.reproduces else share
        return f"{self.equation}: {self.words} ({found})"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return finite_fields(self)
