"""Judges one derivation of a gradient by another, in units of what rounding alone does.

Generic: it serves any JAX functions and knows nothing of LSTMs.
"""

from jaxlstm.gradient_check.comparison import RATIO_LIMIT, Comparison
from jaxlstm.gradient_check.gradients import compare_gradients, pull_back
from jaxlstm.gradient_check.rounding import relative_error
from jaxlstm.gradient_check.witnesses import check_adjoint_identity, check_finite_differences

__all__ = [
    "RATIO_LIMIT",
    "Comparison",
    "check_adjoint_identity",
    "check_finite_differences",
    "compare_gradients",
    "pull_back",
    "relative_error",
]
