"""Checkpoints of a run, by orbax: written whole or not at all, checked when they are read.

The processes of a run write one together, and it can be read onto any number of devices.

Beside the state of the run stand its configuration, the vocabulary, a fingerprint of the text, and
a digest of the state, by which a damaged checkpoint is known.
"""

import dataclasses
import gc
import hashlib
import json
import logging
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, SingleDeviceSharding

from jaxlstm.tasks.text import Text, fingerprint
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.step import TrainState, init_train_state, shardings_of_state

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


def _held_out(metrics: dict[str, float]) -> float:
    """Infinite where it was not measured."""
    return metrics[HELD_OUT]


RANKED = {"best_fn": _held_out, "best_mode": "min"}
"""Orbax reads the held-out loss of every checkpoint."""
UNREAD = {"create": False, "lightweight_initialize": True}
"""Nothing is read of a checkpoint that is not asked for: another one may be damaged."""


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
    return About(config, text.vocabulary, fingerprint(text))


@contextmanager
def open_checkpoints(folder: Path, *, keep: int = 3) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints in a folder, which is made if it is not there.

    Args:
        folder: for checkpoints alone.
        keep: how many of the last ones stay; the best on the held-out text stays too.

    Raises:
        ValueError: the folder cannot be used, or the held-out loss of a checkpoint cannot be read.
    """
    best = BestN(get_metric_fn=_held_out, reverse=True, n=1, keep_checkpoints_without_metrics=False)
    kept = AnyPreservationPolicy([LatestN(keep), best])
    _make(folder)
    options = {"preservation_policy": kept, "cleanup_tmp_directories": True}
    with _opened(folder, **RANKED, **options) as manager:
        yield manager


def save(
    manager: ocp.CheckpointManager, state: TrainState, about: About, held_out: float | None
) -> None:
    """Writes a checkpoint of the state's step, and lets go of the ones not kept.

    Raises:
        ValueError: it cannot be written; those before it are as they were.
    """
    arrays, step = _with_key_data(state), int(state.step)
    described = about._asdict() | {"config": dataclasses.asdict(about.config)}
    described["digest"] = _digest(described, arrays)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(described)
    )
    measured = {HELD_OUT: math.inf if held_out is None else held_out}
    try:
        with _one_error_alone():
            manager.save(step, args=items, metrics=measured, force=True)
    except Exception as error:
        last = manager.latest_step()
        stands = "none was written before" if last is None else f"the last good one is step {last}"
        raise ValueError(
            f"{manager.directory}: step {step} cannot be saved: {_first_line(error)}; {stands}."
        ) from error


def load(
    folder: Path,
    step: int | str = "latest",
    mesh_of: Callable[[TrainConfig], Mesh | None] = lambda _: None,
) -> tuple[TrainState, About]:
    """Reads a checkpoint: a step, "latest" or "best" on the held-out text.

    Args:
        folder: of the checkpoints.
        step: which of them.
        mesh_of: the mesh to place a run of this configuration on; one device by default.

    Raises:
        ValueError: none is there, or it is damaged; then the one before it is named. Whatever
            ``mesh_of`` raises.
    """
    wanted = _wanted(folder, step)
    with _opened(folder, **UNREAD) as manager:
        with _told_if_damaged(folder, manager, wanted):
            described = _read_described(manager, wanted)
            config = TrainConfig(**described["config"])
        mesh = mesh_of(config)
        with _told_if_damaged(folder, manager, wanted):
            state = _read_state(manager, wanted, config, described, mesh)
        return state, About(config, described["vocabulary"], described["fingerprint"])


def steps_saved(folder: Path) -> list[int]:
    """The steps of which a folder holds a checkpoint, in order; none where it is not there."""
    if not folder.is_dir():
        return []
    with _opened(folder, **UNREAD) as manager:
        return sorted(manager.all_steps())


def forget_after(folder: Path, step: int) -> None:
    """Deletes the checkpoints of later steps, whatever state they are in."""
    with _opened(folder, **UNREAD) as manager:
        for later in manager.all_steps():
            if later > step:
                manager.delete(later)


@contextmanager
def _told_if_damaged(folder: Path, manager: ocp.CheckpointManager, wanted: int) -> Iterator[None]:
    try:
        with _one_error_alone():
            yield
    except Exception as error:
        before = max((s for s in manager.all_steps() if s < wanted), default=None)
        offered = "" if before is None else f"; before it stands step {before}: --step {before}"
        damaged = f"the checkpoint of step {wanted} is damaged ({_first_line(error)})"
        raise ValueError(f"{folder}: {damaged}{offered}.") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder}: expected a folder for checkpoints, got: {error.strerror}."
        ) from error


def _opened(folder: Path, **options: Any) -> ocp.CheckpointManager:
    try:
        return ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options),
            item_names=(STATE, ABOUT),
        )
    except ValueError as error:
        raise ValueError(
            f"{folder}: the held-out loss of a checkpoint is damaged ({_first_line(error)}); it "
            f"stands in metrics, under one of the steps {steps_saved(folder)}: delete that step."
        ) from error


def _wanted(folder: Path, step: int | str) -> int:
    saved = steps_saved(folder)
    if not saved:
        raise ValueError(f"{folder}: expected a folder with checkpoints, got none.")
    if step == "latest":
        return saved[-1]
    if step == "best":
        with _opened(folder, **RANKED, create=False) as manager:
            best = manager.best_step()
            return saved[-1] if best is None else best
    if step not in saved:
        raise ValueError(f"{folder}: expected one of the steps {saved}, got {step}.")
    return int(step)


def _read_described(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    return manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))[ABOUT]


def _read_state(
    manager: ocp.CheckpointManager,
    step: int,
    config: TrainConfig,
    described: dict[str, Any],
    mesh: Mesh | None,
) -> TrainState:
    """Each process reads what its own devices hold."""
    with jax.enable_x64(config.dtype == "float64"):
        shapes = jax.eval_shape(
            lambda: _with_key_data(init_train_state(config, len(described["vocabulary"])))
        )
        expected = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            shapes,
            _places(config, mesh, shapes),
        )
        arrays = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(expected))
        )[STATE]
    if _digest(described, arrays) != described["digest"]:
        raise ValueError("its contents are not those that were saved")
    return arrays._replace(key=jax.random.wrap_key_data(arrays.key))


def _places(config: TrainConfig, mesh: Mesh | None, state: TrainState) -> Any:
    """A sharding for every leaf."""
    if mesh is None:
        return jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), state)
    return shardings_of_state(config, mesh, state)


def _with_key_data(state: TrainState) -> TrainState:
    return state._replace(key=jax.random.key_data(state.key))


def _digest(described: dict[str, Any], arrays: Any) -> str:
    """Of what a checkpoint says and of every bit of its arrays."""
    told = {name: value for name, value in described.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for leaf in jax.tree.leaves(arrays):
        array = _whole(leaf)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _whole(leaf: Any) -> np.ndarray:
    """The array, the parts that other processes have included."""
    if getattr(leaf, "is_fully_addressable", True) or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)


@contextmanager
def _one_error_alone() -> Iterator[None]:
    """Each array that cannot be read or written fails by itself, and would be told of by itself."""
    loggers = [logging.getLogger(name) for name in ("asyncio", "absl")]
    before = [logger.disabled for logger in loggers], sys.unraisablehook
    sys.unraisablehook = lambda _: None
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        gc.collect()
        disabled, sys.unraisablehook = before
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was


def _first_line(error: Exception) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 200)
