"""The tasks by name."""

from collections.abc import Callable
from functools import partial

from jaxlstm.tasks.adding import adding
from jaxlstm.tasks.copy_memory import copy_memory
from jaxlstm.tasks.noise_free import noise_free
from jaxlstm.tasks.reber import reber
from jaxlstm.tasks.task import Task
from jaxlstm.tasks.temporal_order import temporal_order

TASKS: dict[str, Callable[..., Task]] = {
    "reber": reber,
    "noise-free": noise_free,
    "adding": adding,
    "temporal-order": temporal_order,
    "temporal-order-3": partial(temporal_order, symbols=3),
    "copy": copy_memory,
}
"""What makes each task; all take a ``time_lag``, and have a default."""
