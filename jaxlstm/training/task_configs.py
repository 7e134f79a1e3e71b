"""A configuration for each task of ``jaxlstm.tasks``.

With theirs, ten seeds of the LSTM learn each task at its default lag.
"""

import dataclasses
import math
from typing import Any

from jaxlstm.tasks.task import Task
from jaxlstm.training.config import TaskConfig

CONFIGS = {
    "reber": TaskConfig(hidden=8, batch=8, budget=9_000, readout_rate=3e-2, closed=False),
    "noise-free": TaskConfig(
        hidden=8, batch=4, budget=5_000, learning_rate=1e-3, readout_rate=1e-1
    ),
    "adding": TaskConfig(hidden=16, batch=32, budget=40_000),
    "temporal-order": TaskConfig(hidden=16, batch=16, budget=10_000),
    "temporal-order-3": TaskConfig(hidden=16, batch=16, budget=20_000),
    "copy": TaskConfig(
        hidden=128, batch=8, budget=100_000, learning_rate=5e-3, readout_rate=1e-1, closed=False
    ),
}
"""By the task's name; the time scale and the window are those of the task's lag."""


def task_config(task: Task, **given: Any) -> TaskConfig:
    """The configuration for a task, but for what is given.

    Args:
        task: from ``jaxlstm.tasks``, or one of your own, which gets the defaults.
        given: fields of ``TaskConfig``.

    Raises:
        ValueError, TypeError: values out of range, in one sentence.

    >>> from jaxlstm.tasks.adding import adding
    >>> config = task_config(adding(500), hidden=4)
    >>> config.hidden, config.time_scale, config.window
    (4, 500, 250)
    """
    of_lag = {"time_scale": task.time_lag, "window": task.shortest_lag}
    return dataclasses.replace(CONFIGS.get(task.name, TaskConfig()), **of_lag | given)


def rnn_config(task: Task, config: TaskConfig) -> TaskConfig:
    """The same for a vanilla RNN of about as many weights: those of an LSTM are 4 H (H + D + 1).

    >>> from jaxlstm.tasks.reber import reber
    >>> rnn_config(reber(), task_config(reber(), hidden=8)).hidden
    19
    """
    weights = 4 * config.hidden * (config.hidden + task.input_size + 1)
    half = (task.input_size + 1) / 2
    hidden = round(math.sqrt(half**2 + weights) - half)
    return dataclasses.replace(config, cell="rnn", gradient="bptt", hidden=hidden)
