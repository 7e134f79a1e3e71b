"""What a check finds: comparisons with their verdicts, and what forbids a comparison."""

import dataclasses
import math
from typing import Any, Literal

RATIO_LIMIT = 8.0
"""An error of more than this many yardsticks is no rounding error."""


BACKWARD_STEP = "backward step"
"""The criterion of one line of a backward step."""

ALL_ARGUMENTS = "all arguments"
"""What a comparison of forward mode along a direction of all arguments names as its argument."""

Verdict = bool | Literal["unresolved", "kink"]
"""Whether the error is a rounding error; "unresolved" where the reference cannot tell, "kink" where
the function has no derivative and both sides lie between its one-sided ones."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One candidate against one reference, for one argument or a part of it.

    Attributes:
        candidate: the derivation under test.
        reference: what it is held against.
        criterion: how the two are compared.
        dtype: the working dtype, by name.
        argument: the argument (a leaf such as ``params.bias``) whose gradient is compared.
        block: the named part of the argument, or None for all of it.
        relative_error: the norm of the difference over the norm of the truth.
        rounding_ratio: the error over the yardstick; None where the truth is exactly zero, or
            where the criterion has no yardstick.
        passed: the verdict.
        output: the output whose cotangent alone is pulled back, None for all outputs together.
        axis: the name of the axis along which the block is one index, else None.
        index: that index.
        slope: of the Taylor remainder's logarithm, where that is the criterion.
    """

    candidate: str
    reference: str
    criterion: str
    dtype: str
    argument: str
    block: str | None
    relative_error: float
    rounding_ratio: float | None
    passed: Verdict
    output: str | None = None
    axis: str | None = None
    index: int | None = None
    slope: float | None = None

    @property
    def badness(self) -> tuple[bool, float]:
        """A key that sorts comparisons from good to bad: failures last, by rounding ratio."""
        ratio = self.rounding_ratio
        size = self.relative_error if ratio is None else ratio
        return self.passed is False, math.inf if math.isnan(size) else size

    @property
    def truth_is_zero(self) -> bool:
        """Whether there is an error where the truth is exactly zero, which no ratio measures."""
        return self.rounding_ratio is None and self.relative_error == math.inf

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; a number that is not finite becomes None."""
        return finite_fields(self)


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """Why a candidate cannot be compared, or how it differs in more than rounding.

    Attributes:
        kind: "raises", "structure", "shape", "dtype", "not finite" or "values".
        dtype: the working dtype, by name.
        words: what was expected and what came, in a sentence.
    """

    kind: str
    dtype: str
    words: str

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)


def finite_fields(record: Any) -> dict[str, Any]:
    """A dataclass's fields by name, None in place of a number that is not finite."""
    fields = dataclasses.asdict(record)
    return {name: _finite_or_none(value) for name, value in fields.items()}


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
