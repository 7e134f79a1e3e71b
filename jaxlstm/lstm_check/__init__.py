"""The LSTM under gradient_check: what is drawn, what is compared, what is likely to be wrong."""

from jaxlstm.lstm_check.agreement import lstm_agreement
from jaxlstm.lstm_check.backward_step import check_lstm_backward_step
from jaxlstm.lstm_check.catalogue import lstm_catalogue
from jaxlstm.lstm_check.check import AUTODIFF, HAND_WRITTEN, check_lstm
from jaxlstm.lstm_check.precision import gradient_errors, precise_enough
from jaxlstm.lstm_check.problem import CheckConfig, Problem, draw_problem, gate_blocks

__all__ = [
    "AUTODIFF",
    "HAND_WRITTEN",
    "CheckConfig",
    "Problem",
    "check_lstm",
    "check_lstm_backward_step",
    "draw_problem",
    "gate_blocks",
    "gradient_errors",
    "lstm_agreement",
    "lstm_catalogue",
    "precise_enough",
]
