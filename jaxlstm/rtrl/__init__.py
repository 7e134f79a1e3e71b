"""Real-time recurrent learning: gradients forward in time, exact and estimated."""

from jaxlstm.rtrl.exact import (
    ByArgument,
    RTRLState,
    Sensitivities,
    init_rtrl,
    jacobians,
    rtrl_step,
)
from jaxlstm.rtrl.whole import rtrl

__all__ = [
    "ByArgument",
    "RTRLState",
    "Sensitivities",
    "init_rtrl",
    "jacobians",
    "rtrl",
    "rtrl_step",
]
