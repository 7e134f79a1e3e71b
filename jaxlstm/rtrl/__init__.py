"""Real-time recurrent learning: gradients forward in time, exact and estimated."""

from jaxlstm.rtrl.entries import ESTIMATORS
from jaxlstm.rtrl.errors import GradientErrors, gradient_errors
from jaxlstm.rtrl.exact import (
    ByArgument,
    RTRLState,
    Sensitivities,
    init_rtrl,
    jacobians,
    pull_back,
    rtrl_step,
)
from jaxlstm.rtrl.online import online_gradients, online_step
from jaxlstm.rtrl.truncated import truncated_gradients
from jaxlstm.rtrl.whole import rtrl

__all__ = [
    "ESTIMATORS",
    "ByArgument",
    "GradientErrors",
    "RTRLState",
    "Sensitivities",
    "gradient_errors",
    "init_rtrl",
    "jacobians",
    "online_gradients",
    "online_step",
    "pull_back",
    "rtrl",
    "rtrl_step",
    "truncated_gradients",
]
