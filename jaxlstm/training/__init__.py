"""Training a character language model, and networks for tasks with long time lags.

Checkpoints stand in ``jaxlstm.training.checkpoints``, which needs the extra ``train``.
"""

from jaxlstm.training.config import BLOCK, ESTIMATES, TaskConfig, TrainConfig
from jaxlstm.training.evaluation import Evaluation, evaluate
from jaxlstm.training.loop import Report, check_streams, is_due, training
from jaxlstm.training.model import (
    FUNCTIONS,
    ModelParams,
    character_losses,
    init_model,
    model_logits,
)
from jaxlstm.training.sampling import sample
from jaxlstm.training.sharding import make_mesh
from jaxlstm.training.step import (
    Measured,
    TrainState,
    init_train_state,
    make_optimizer,
    train_step,
)
from jaxlstm.training.task_configs import rnn_config, task_config
from jaxlstm.training.task_training import TaskParams, TaskReport, to_criterion

__all__ = [
    "BLOCK",
    "ESTIMATES",
    "FUNCTIONS",
    "Evaluation",
    "Measured",
    "ModelParams",
    "Report",
    "TaskConfig",
    "TaskParams",
    "TaskReport",
    "TrainConfig",
    "TrainState",
    "character_losses",
    "check_streams",
    "evaluate",
    "init_model",
    "init_train_state",
    "is_due",
    "make_mesh",
    "make_optimizer",
    "model_logits",
    "rnn_config",
    "sample",
    "task_config",
    "to_criterion",
    "train_step",
    "training",
]
