"""The public edge: every ValueError and TypeError about arguments, before anything is compiled.

Each says in one sentence what was expected and what came.
"""

from jaxlstm.validation.arrays import (
    DTYPES,
    check_choice,
    check_dtype,
    check_like,
    check_rank,
    check_seed,
    check_size,
    check_type,
    check_values,
    is_known,
)
from jaxlstm.validation.losses import check_cross_entropy, check_embedding, check_logits
from jaxlstm.validation.sequences import (
    ACTIVATION_NAMES,
    PRECISIONS,
    RESIDUALS,
    check_inputs,
    check_params,
    check_precision,
    check_sequence,
    check_state,
    check_step,
    check_step_masks,
)
from jaxlstm.validation.stacks import (
    check_bidirectional,
    check_dropout,
    check_one_direction,
    check_stack,
)

__all__ = [
    "ACTIVATION_NAMES",
    "DTYPES",
    "PRECISIONS",
    "RESIDUALS",
    "check_bidirectional",
    "check_choice",
    "check_cross_entropy",
    "check_dropout",
    "check_dtype",
    "check_embedding",
    "check_inputs",
    "check_like",
    "check_logits",
    "check_one_direction",
    "check_params",
    "check_precision",
    "check_rank",
    "check_seed",
    "check_sequence",
    "check_size",
    "check_stack",
    "check_state",
    "check_step",
    "check_step_masks",
    "check_type",
    "check_values",
    "is_known",
]
