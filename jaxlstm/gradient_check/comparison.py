"""What one comparison found, and the rule that decides it."""

import dataclasses
import math
from typing import Any, Literal

RATIO_LIMIT = 8.0
"""An error of more than this many yardsticks is no rounding error."""


Verdict = bool | Literal["unresolved"]
"""Whether the error is a rounding error; "unresolved" where the reference cannot tell."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One candidate against one reference, for one argument or a block of it.

    Attributes:
        candidate: the derivation under test.
        reference: what it is held against.
        criterion: how the two are compared.
        dtype: the working dtype, by name.
        argument: the argument (a leaf such as ``params.bias``) whose gradient is compared.
        block: the named part of the argument, or None for all of it.
        relative_error: the norm of the difference over the norm of the truth.
        rounding_ratio: the error over the yardstick, None where the truth is exactly zero.
        passed: the verdict.
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

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; a number that is not finite becomes None."""
        fields = dataclasses.asdict(self)
        return {name: _finite_or_none(value) for name, value in fields.items()}


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
