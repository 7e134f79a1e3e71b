"""The LSTM whose gradients you can read, check and out-run."""

from jaxlstm.initializers import init_params, init_state
from jaxlstm.layers import bidirectional_lstm, dropout, init_layers, stacked_lstm
from jaxlstm.readout import (
    cross_entropy,
    cross_entropy_autodiff,
    embed,
    embed_autodiff,
    logits,
    logits_autodiff,
)
from jaxlstm.sequence import lstm, lstm_autodiff, step
from jaxlstm.types import (
    GATES,
    Activations,
    BidirectionalParams,
    BidirectionalState,
    LSTMParams,
    LSTMState,
    ReadoutParams,
)

__version__ = "0.1.0"

__all__ = [
    "GATES",
    "Activations",
    "BidirectionalParams",
    "BidirectionalState",
    "LSTMParams",
    "LSTMState",
    "ReadoutParams",
    "bidirectional_lstm",
    "cross_entropy",
    "cross_entropy_autodiff",
    "dropout",
    "embed",
    "embed_autodiff",
    "init_layers",
    "init_params",
    "init_state",
    "logits",
    "logits_autodiff",
    "lstm",
    "lstm_autodiff",
    "stacked_lstm",
    "step",
]
