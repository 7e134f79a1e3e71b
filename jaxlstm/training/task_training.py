"""Training on a task of ``jaxlstm.tasks`` until its criterion holds, on fresh sequences throughout.

    h_t = LSTM(x_t),   y_t = [h_t, x_t] V + a,   L = mean over a batch of the task's loss

The LSTM's gradient is BPTT by hand, or one of the estimates of ``jaxlstm.rtrl`` in its place; the
readout's is always exact. The contrast is a vanilla RNN.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxlstm.initializers import init_params
from jaxlstm.readout import logits
from jaxlstm.rnn import RNNParams, init_rnn, rnn
from jaxlstm.rtrl import online_gradients, truncated_gradients
from jaxlstm.sequence import lstm
from jaxlstm.tasks.task import Batch, Task
from jaxlstm.training.config import BLOCK, TaskConfig
from jaxlstm.types import LSTMParams, ReadoutParams
from jaxlstm.validation import check_seed


class TaskParams(NamedTuple):
    """The parameters of a network for a task.

    Attributes:
        cell: the LSTM's or the RNN's.
        readout: kernel [H + D, K] and bias [K].
    """

    cell: LSTMParams | RNNParams
    readout: ReadoutParams


class TaskState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
        step: optimizer steps done.
        params: of the network.
        optimizer: optax's state.
        key: the sequences of a step are drawn with ``fold_in(key, step)``.
        test_key: and so are those that the criterion is tested on.
    """

    step: Int[Array, ""]
    params: TaskParams
    optimizer: optax.OptState
    key: Array
    test_key: Array


class TaskReport(NamedTuple):
    """Where a run stands after some steps.

    Attributes:
        sequences: trained on so far.
        loss: the mean training loss since the report before.
        right: the share of the sequences since then whose error is within the criterion's.
        met: whether the criterion holds on fresh sequences.
    """

    sequences: int
    loss: float
    right: float
    met: bool


def to_criterion(
    task: Task, config: TaskConfig, *, seed: int = 0
) -> Iterator[tuple[TaskParams, TaskReport]]:
    """Trains until the criterion holds or the budget is spent; the last report says which.

    The criterion is tested on fresh sequences with the weights held, wherever all of the last batch
    were right before the step that learned from them.

    Args:
        task: from ``jaxlstm.tasks``.
        config: of the network and its training.
        seed: of all draws; another one compiles nothing anew.

    Raises:
        ValueError, TypeError: a seed that is not a whole number from 0 to 2^32 - 1.

    >>> from jaxlstm.tasks.reber import reber
    >>> *_, (params, report) = to_criterion(reber(), TaskConfig(hidden=4, batch=2, budget=100))
    >>> report.sequences, report.met
    (100, False)
    """
    check_seed(seed)
    return _blocks(task, config, init_task_state(task, config, seed))


def _blocks(
    task: Task, config: TaskConfig, state: TaskState
) -> Iterator[tuple[TaskParams, TaskReport]]:
    for done in range(config.batch * BLOCK, config.budget + 1, config.batch * BLOCK):
        state, losses, right = _train(task, config, state)
        met = bool(right[-1].all()) and bool(_meets(task, config, state))
        yield state.params, TaskReport(done, float(losses.mean()), float(right.mean()), met)
        if met:
            return


def init_task_state(task: Task, config: TaskConfig, seed: int) -> TaskState:
    """The state before the first step."""
    of_cell, of_readout, *of_sequences = jax.random.split(jax.random.key(seed), 4)
    glorot = jax.nn.initializers.glorot_uniform()
    kernel = glorot(of_readout, (config.hidden + task.input_size, task.output_size))
    readout = ReadoutParams(kernel, jnp.zeros(task.output_size))
    params = TaskParams(_init_cell(of_cell, task.input_size, config), readout)
    optimizer = _optimizer(config).init(params)
    return TaskState(jnp.zeros((), jnp.int32), params, optimizer, *of_sequences)


def _init_cell(key: Array, input_size: int, config: TaskConfig) -> LSTMParams | RNNParams:
    if config.cell == "rnn":
        return init_rnn(key, input_size, config.hidden)
    kept = math.log(config.time_scale)
    params = init_params(key, input_size, config.hidden, forget_bias=kept)
    closed = params.bias.at[: config.hidden].set(-kept)
    return params._replace(bias=closed) if config.closed else params


def _optimizer(config: TaskConfig) -> optax.GradientTransformation:
    """Adam after clipping by the global norm, with a rate of the readout's own."""
    rates = {"cell": config.learning_rate, "readout": config.readout_rate}
    scaled: Any = {part: optax.scale(-rate) for part, rate in rates.items()}
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(),
        optax.partition(scaled, TaskParams._make(rates)),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _train(
    task: Task, config: TaskConfig, state: TaskState
) -> tuple[TaskState, Float[Array, " BLOCK"], Bool[Array, "BLOCK B"]]:
    """A block of steps: the loss of each, and which of its batch were right before it."""

    def body(state: TaskState, _: None) -> tuple[TaskState, tuple[Array, Array]]:
        batch = task.draw(jax.random.fold_in(state.key, state.step), config.batch)

        def mean_loss(params: TaskParams) -> tuple[Array, Array]:
            outputs = task_outputs(config, params, batch)
            return task.loss(outputs, batch).mean(), task.error(outputs, batch)

        (loss, errors), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer = _optimizer(config).update(gradient, state.optimizer)
        params: Any = optax.apply_updates(state.params, updates)
        after = state._replace(step=state.step + 1, params=params, optimizer=optimizer)
        return after, (loss, errors < task.criterion.error)

    state, (losses, right) = jax.lax.scan(body, state, length=BLOCK)
    return state, losses, right


@partial(jax.jit, static_argnums=(0, 1))
def _meets(task: Task, config: TaskConfig, state: TaskState) -> Bool[Array, ""]:
    """Whether the criterion holds on sequences that no step trains on."""
    key = jax.random.fold_in(state.test_key, state.step)
    batch = task.draw(key, task.criterion.sequences)
    outputs = task_outputs(config, state.params, batch)
    return task.criterion.is_met(task.error(outputs, batch), task.loss(outputs, batch))


def task_outputs(config: TaskConfig, params: TaskParams, batch: Batch) -> Float[Array, "T B K"]:
    """What the network makes of a batch, with the gradient that ``config`` names."""
    hidden: Any
    if isinstance(params.cell, RNNParams):
        hidden = rnn(params.cell, batch.inputs)
    elif config.gradient == "bptt":
        hidden, _ = lstm(params.cell, batch.inputs, lengths=batch.lengths)
    else:
        hidden = _with_estimate(_estimate(config), params.cell, batch.inputs, batch.lengths)
    return logits(params.readout, jnp.concatenate([hidden, batch.inputs], axis=-1))


def _estimate(config: TaskConfig) -> Callable[..., Any]:
    """What estimates the gradient of a loss that is a sum over steps."""
    if config.gradient == "truncated":
        return partial(truncated_gradients, window=config.window)
    return partial(online_gradients, estimator=config.gradient)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_estimate(
    _: Callable[..., Any], params: LSTMParams, inputs: Array, lengths: Array
) -> Float[Array, "T B H"]:
    """The outputs of ``lstm``; the gradient of its parameters is left to an estimate."""
    return lstm(params, inputs, lengths=lengths)[0]


def _forward(estimate: Callable[..., Any], *args: Any) -> tuple[Array, Any]:
    return _with_estimate(estimate, *args), args


def _backward(
    estimate: Callable[..., Any], args: Any, d_hidden: Float[Array, "T B H"]
) -> tuple[LSTMParams, None, None]:
    params, inputs, lengths = args
    _, contributions, _ = estimate(_inner_product, params, inputs, d_hidden, lengths=lengths)
    return jax.tree.map(lambda leaf: leaf.sum(0), contributions), None, None


_with_estimate.defvjp(_forward, _backward)


def _inner_product(h_t: Float[Array, "B H"], d_h_t: Float[Array, "B H"]) -> Float[Array, " B"]:
    """A loss whose cotangent by the hidden state is ``d_h_t``."""
    return (h_t * d_h_t).sum(-1)
