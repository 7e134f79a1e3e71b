"""Checkpoints of a run, by orbax: written whole or not at all, checked when they are read.

Beside the state of the run stand its configuration, the vocabulary, a fingerprint of the text, and
a digest of the state, by which a damaged checkpoint is known.
"""

import dataclasses
import gc
import hashlib
import logging
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlstm.tasks.text import Text
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.step import TrainState, init_train_state

try:
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import (
        AnyPreservationPolicy,
        BestN,
        LatestN,
    )
except ImportError as error:
    raise ImportError("checkpoints need orbax: pip install 'jaxlstm[train]'.") from error

STATE, ABOUT, HELD_OUT = "state", "about", "held_out"


class About(NamedTuple):
    """What a checkpoint says of its run.

    Attributes:
        config: of the run.
        vocabulary: the text's distinct characters, sorted.
        fingerprint: of the text.
    """

    config: TrainConfig
    vocabulary: str
    fingerprint: str


def describe(config: TrainConfig, text: Text) -> About:
    """What a checkpoint of a run on this text says."""
    return About(config, text.vocabulary, hashlib.sha256(text.points.data).hexdigest())


@contextmanager
def open_checkpoints(folder: Path, *, keep: int = 3) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints in a folder, which is made if it is not there.

    Args:
        folder: for checkpoints alone.
        keep: how many of the last ones stay; the best on the held-out text stays too.

    Raises:
        ValueError: the held-out loss of one of them cannot be read.
    """
    best = BestN(get_metric_fn=_held_out, reverse=True, n=1)
    kept = AnyPreservationPolicy([LatestN(keep), best])
    options = {"preservation_policy": kept, "cleanup_tmp_directories": True}
    with _ranked(folder, **options) as manager:
        yield manager


def save(
    manager: ocp.CheckpointManager, state: TrainState, about: About, held_out: float | None
) -> None:
    """Writes a checkpoint of the state's step, and lets go of the ones not kept.

    Raises:
        ValueError: it cannot be written; those before it are as they were.
    """
    arrays, step = _with_key_data(state), int(state.step)
    described = about._asdict() | {
        "config": dataclasses.asdict(about.config),
        "digest": _digest(arrays),
    }
    try:
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(described)
            ),
            metrics={HELD_OUT: math.inf if held_out is None else held_out},
            force=True,
        )
    except Exception as error:
        last = manager.latest_step()
        stands = "none was written before" if last is None else f"the last good one is step {last}"
        raise ValueError(
            f"{manager.directory}: step {step} cannot be saved: {_first_line(error)}; {stands}."
        ) from error


def load(folder: Path, step: int | str = "latest") -> tuple[TrainState, About]:
    """Reads a checkpoint: a step, "latest" or "best" on the held-out text.

    Raises:
        ValueError: none is there, or it is damaged; then the one before it is named.
    """
    wanted = _wanted(folder, step)
    with _unranked(folder) as manager:
        try:
            with _asyncio_silenced():
                return _read(manager, wanted)
        except Exception as error:
            before = max((s for s in manager.all_steps() if s < wanted), default=None)
            offered = "" if before is None else f"; before it stands step {before}: --step {before}"
            damaged = f"the checkpoint of step {wanted} is damaged ({_first_line(error)})"
            raise ValueError(f"{folder}: {damaged}{offered}.") from error


def steps_saved(folder: Path) -> list[int]:
    """The steps of which a folder holds a checkpoint, in order; none where it is not there."""
    if not folder.is_dir():
        return []
    with _unranked(folder) as manager:
        return sorted(manager.all_steps())


def _manager(folder: Path, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        folder.absolute(),
        options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options),
        item_names=(STATE, ABOUT),
    )


def _unranked(folder: Path) -> ocp.CheckpointManager:
    """Reads nothing of a checkpoint that is not asked for: another one may be damaged."""
    return _manager(folder, create=False, lightweight_initialize=True)


def _ranked(folder: Path, **options: Any) -> ocp.CheckpointManager:
    """With the held-out loss of each checkpoint, infinite where it was not measured."""
    try:
        return _manager(folder, best_fn=_held_out, best_mode="min", **options)
    except ValueError as error:
        raise ValueError(
            f"{folder}: the held-out loss of a checkpoint is damaged ({_first_line(error)}); "
            f"expected it beside each of the steps {steps_saved(folder)}."
        ) from error


def _held_out(metrics: dict[str, float]) -> float:
    return metrics[HELD_OUT]


def _wanted(folder: Path, step: int | str) -> int:
    saved = steps_saved(folder)
    if not saved:
        raise ValueError(f"{folder}: expected a folder with checkpoints, got none.")
    if step == "latest":
        return saved[-1]
    if step == "best":
        with _ranked(folder, create=False) as manager:
            best = manager.best_step()
            return saved[-1] if best is None else best
    if step not in saved:
        raise ValueError(f"{folder}: expected one of the steps {saved}, got {step}.")
    return int(step)


def _read(manager: ocp.CheckpointManager, step: int) -> tuple[TrainState, About]:
    described = manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))[ABOUT]
    config = TrainConfig(**described["config"])
    with jax.enable_x64(config.dtype == "float64"):
        expected = jax.eval_shape(
            lambda: _with_key_data(init_train_state(config, len(described["vocabulary"])))
        )
        arrays = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(expected))
        )[STATE]
    if _digest(arrays) != described["digest"]:
        raise ValueError("its arrays are not those that were saved")
    state = arrays._replace(key=jax.random.wrap_key_data(arrays.key))
    return state, About(config, described["vocabulary"], described["fingerprint"])


def _with_key_data(state: TrainState) -> TrainState:
    return state._replace(key=jax.random.key_data(state.key))


def _digest(arrays: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def _asyncio_silenced() -> Iterator[None]:
    """Of a damaged checkpoint each array fails by itself; asyncio would log every one of them."""
    logger = logging.getLogger("asyncio")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        gc.collect()
        logger.disabled = before


def _first_line(error: Exception) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 200)
