"""The LSTM whose gradients you can read, check and out-run."""

from jaxlstm.initializers import init_params, init_state
from jaxlstm.sequence import lstm, lstm_autodiff, step
from jaxlstm.types import GATES, Activations, LSTMParams, LSTMState

__version__ = "0.1.0"

__all__ = [
    "GATES",
    "Activations",
    "LSTMParams",
    "LSTMState",
    "init_params",
    "init_state",
    "lstm",
    "lstm_autodiff",
    "step",
]
