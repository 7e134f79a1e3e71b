"""Training a character language model: configuration, model, step, loop, evaluation, sampling.

Checkpoints stand in ``jaxlstm.training.checkpoints``, which needs the extra ``train``.
"""

from jaxlstm.training.config import TrainConfig
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

__all__ = [
    "FUNCTIONS",
    "Evaluation",
    "Measured",
    "ModelParams",
    "Report",
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
    "sample",
    "train_step",
    "training",
]
