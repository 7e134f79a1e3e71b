"""Judges one derivation of a gradient by another, in units of what rounding alone does.

Generic: it serves any JAX functions and knows nothing of LSTMs.
"""

from jaxlstm.gradient_check.agreement import (
    Agreement,
    by_differences,
    by_forward,
    by_reverse,
    check_agreement,
)
from jaxlstm.gradient_check.backward_step import check_backward_step
from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Comparison, Mismatch
from jaxlstm.gradient_check.gradients import check_gradients
from jaxlstm.gradient_check.hypotheses import Catalogue, Explanation, Hypothesis
from jaxlstm.gradient_check.recurrence import Recurrence
from jaxlstm.gradient_check.report import GradientReport
from jaxlstm.gradient_check.rounding import relative_error

__all__ = [
    "RATIO_LIMIT",
    "Agreement",
    "Catalogue",
    "Comparison",
    "Explanation",
    "GradientReport",
    "Hypothesis",
    "Mismatch",
    "Recurrence",
    "by_differences",
    "by_forward",
    "by_reverse",
    "check_agreement",
    "check_backward_step",
    "check_gradients",
    "relative_error",
]
