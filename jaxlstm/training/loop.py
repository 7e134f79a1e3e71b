"""The loop around the step: it feeds windows, measures, and keeps the device busy.

Nothing in it waits for the device but a report, so that a run is as fast as its compiled step.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from numpy import ndarray

from jaxlstm.tasks.text import Text, Window, split, stream_window
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.evaluation import Evaluation, evaluate
from jaxlstm.training.sharding import place_rows, rows_read
from jaxlstm.training.step import Measured, TrainState, init_train_state, train_step
from jaxlstm.validation import check_size


class Report(NamedTuple):
    """What happened since the report before.

    Attributes:
        step: optimizer steps done.
        loss: mean of the training losses since then, in nats a character.
        gradient_norm: of the last step, before clipping.
        characters_per_second: trained on since then; compiling and evaluating do not count.
        held_out: the loss on the held-out part, where it was measured now.
    """

    step: int
    loss: float
    gradient_norm: float
    characters_per_second: float
    held_out: Evaluation | None


def training(
    config: TrainConfig,
    text: Text,
    state: TrainState,
    *,
    report_every: int = 20,
    stop: Callable[[], bool] = lambda: False,
    mesh: Mesh | None = None,
) -> Iterator[tuple[TrainState, Report]]:
    """Trains to ``config.steps``, and gives the state and a report every few steps.

    Args:
        config: of the run.
        text: split into what is trained on and what is held out.
        state: where the run stands: ``init_train_state``, or a checkpoint's. It is donated; so is
            every state given here, once the next one is asked for.
        report_every: steps between two reports; where the held-out part is measured there is one
            too, and at the last step.
        stop: asked after every step; where true the run ends with a report.
        mesh: of ``make_mesh``, where the state is in its place there (``init_train_state``).

    Raises:
        ValueError: a text too short for the streams; a state of another configuration or
            vocabulary, or one that was donated.
        FloatingPointError: a loss or a gradient that is not finite, with the step.
    """
    check_size("report_every", report_every)
    _check_state(config, text, state)
    trained_on, held_out = split(text.points, config.held_out)

    def window_at(step: int) -> Window:
        window = _window(config, text.vocabulary, trained_on, step, rows_read(mesh, config.batch))
        return place_rows(mesh, window, config.batch)

    def held_out_loss(step: int) -> Evaluation | None:
        if not is_due(step, config, config.evaluate_every) or len(held_out) < 2:
            return None
        return evaluate(config, state.params, text.vocabulary, held_out, mesh)

    done = int(state.step)
    if done >= config.steps:
        return
    compiled = train_step.lower(config, state, window_at(done), mesh).compile()
    measured, start = list[Measured](), time.perf_counter()
    for step in range(done + 1, config.steps + 1):
        state, of_step = compiled(state, window_at(step - 1))
        measured.append(of_step)
        stopped = stop()
        if not (stopped or is_due(step, config, report_every, config.evaluate_every)):
            continue
        loss, norm = _mean_loss(measured), float(of_step.gradient_norm)
        speed = len(measured) / (time.perf_counter() - start)
        _check_finite(loss + norm, step, len(measured))
        evaluation = held_out_loss(step)
        yield state, Report(step, loss, norm, speed * config.window * config.batch, evaluation)
        if stopped:
            return
        measured, start = list[Measured](), time.perf_counter()


def check_streams(config: TrainConfig, text: Text) -> None:
    """Requires a text long enough for the streams of ``config``."""
    trained_on, _ = split(text.points, config.held_out)
    _window(config, text.vocabulary, trained_on, 0)


def _check_state(config: TrainConfig, text: Text, state: TrainState) -> None:
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)):
        raise ValueError("state: expected one in use, got one that was donated to an earlier step.")
    count = len(text.vocabulary)
    expected = jax.eval_shape(lambda: init_train_state(config, count))
    if jax.tree.map(jnp.shape, state) != jax.tree.map(jnp.shape, expected):
        raise ValueError(
            f"state: expected the shapes of this configuration and of {count} characters, got "
            "those of another."
        )


def _window(
    config: TrainConfig, vocabulary: str, points: ndarray, step: int, rows: slice = slice(None)
) -> Window:
    sizes = {"time": config.window, "batch": config.batch}
    return stream_window(points, vocabulary, step, seed=config.seed, rows=rows, **sizes)


def is_due(step: int, config: TrainConfig, *every: int) -> bool:
    """Whether a step is the run's last, or a multiple of one of these numbers."""
    return step == config.steps or any(step % each == 0 for each in every)


def _mean_loss(measured: list[Measured]) -> float:
    return math.fsum(float(of_step.loss) for of_step in measured) / len(measured)


def _check_finite(value: float, step: int, count: int) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"loss or gradient no longer finite within the {count} steps up to {step}: in a new "
            "run, a lower learning rate or a lower clip may help."
        )
