"""A run on many devices: the mesh, what lives where on it, and the rows that a process reads.

Two layouts, each a mesh whose one axis has its name:

    "data"      the streams and their states are split along the batch; every device has the
                parameters and the optimizer, and their gradients are summed once a step
    "hidden"    kernels, optimizer and states are split by hidden units; every device reads every
                stream, and at each time step the devices exchange the hidden state

Without a mesh, None, everything is on one device.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxlstm.sequence import lstm_of_units
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.model import FUNCTIONS, Functions, ModelParams, States
from jaxlstm.types import GATES, LSTMParams, LSTMState, ReadoutParams
from jaxlstm.validation import check_size

LAYOUTS = ("data", "hidden")
P: Any = PartitionSpec
"""Typed as the arrays whose places it takes in a tree."""


def make_mesh(config: TrainConfig, layout: str = "data", devices: int | None = None) -> Mesh | None:
    """The mesh of a run, or None where it has one device.

    Args:
        config: whose batch, or hidden units, are split.
        layout: "data" or "hidden".
        devices: of each process; all that it has by default.

    Raises:
        ValueError: fewer devices than were asked for; sizes that do not divide over them.

    >>> make_mesh(TrainConfig(batch=8), devices=1) is None
    True
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}.")
    chosen = _devices(devices)
    if len(chosen) == 1:
        return None
    name = {"data": "batch", "hidden": "hidden"}[layout]
    size = getattr(config, name)
    if size % len(chosen):
        raise ValueError(
            f"{name}: expected a multiple of the {len(chosen)} devices, got {size}; a smaller "
            "number of devices can be chosen."
        )
    return Mesh(np.array(chosen), (layout,), axis_types=(AxisType.Auto,))


def _devices(count: int | None) -> list[Any]:
    """Those of a process stand together."""
    if count is not None:
        check_size("devices", count)
        if count > jax.local_device_count():
            raise ValueError(
                f"devices: expected at most the {jax.local_device_count()} of this process, "
                f"got {count}."
            )
    of_processes: dict[int, list[Any]] = {}
    for device in sorted(jax.devices(), key=lambda device: (device.process_index, device.id)):
        of_processes.setdefault(device.process_index, []).append(device)
    return [device for found in of_processes.values() for device in found[:count]]


def layout_of(mesh: Mesh) -> str:
    """Which of ``LAYOUTS``."""
    return mesh.axis_names[0]


def batch_axis(mesh: Mesh) -> str | None:
    """The mesh axis over which the batch is split, if any."""
    return "data" if layout_of(mesh) == "data" else None


def rows_read(mesh: Mesh | None, batch: int) -> slice:
    """The streams that this process reads: those of its own devices."""
    if mesh is None or batch_axis(mesh) is None:
        return slice(None)
    own = [device.process_index == jax.process_index() for device in mesh.devices.flat]
    each, first = batch // mesh.size, own.index(True)
    return slice(first * each, (first + sum(own)) * each)


def place_rows(mesh: Mesh | None, window: Any, batch: int) -> Any:
    """Arrays [..., B] of all processes, each from the rows that a process read."""
    if mesh is None:
        return window

    def placed(leaf: Any) -> Any:
        if np.ndim(leaf) == 0:
            return leaf
        *before, _ = leaf.shape
        sharding = NamedSharding(mesh, P(*(None for _ in before), batch_axis(mesh)))
        return jax.make_array_from_process_local_data(sharding, leaf, (*before, batch))

    return jax.tree.map(placed, window)


def made_on(
    mesh: Mesh | None, make: Callable[[], Any], shardings: Callable[[Mesh, Any], Any]
) -> Any:
    """What ``make`` returns, made where it belongs, so that it need not fit one device.

    Args:
        mesh: to make it on.
        make: a function without arguments.
        shardings: of its result, from the mesh and the shapes.
    """
    if mesh is None:
        return make()
    return jax.jit(make, out_shardings=shardings(mesh, jax.eval_shape(make)))()


def replicated(mesh: Mesh) -> Any:
    """The whole on every device."""
    return NamedSharding(mesh, P())


def shardings_of_params(mesh: Mesh, params: ModelParams) -> ModelParams:
    """How the parameters are split, and what is shaped like them."""
    if layout_of(mesh) == "data":
        return jax.tree.map(lambda _: replicated(mesh), params)
    columns, rows, whole = P(None, "hidden"), P("hidden"), P()
    layers = tuple(LSTMParams(columns, columns, rows) for _ in params.layers)
    specs = ModelParams(whole, layers, ReadoutParams(rows, whole))
    return jax.tree.map(partial(NamedSharding, mesh), specs)


def shardings_of_states(mesh: Mesh, states: States) -> States:
    """How the recurrent states [B, H] are split."""
    spec = P("data") if layout_of(mesh) == "data" else P(None, "hidden")
    return jax.tree.map(lambda _: NamedSharding(mesh, spec), states)


def functions_on(mesh: Mesh | None, config: TrainConfig) -> Functions:
    """What the model is made of, its LSTM run in shards."""
    functions = FUNCTIONS[config.gradient]
    if mesh is None:
        return functions
    if layout_of(mesh) == "data":
        return functions._replace(lstm=partial(_by_rows, mesh, functions.lstm))
    return functions._replace(lstm=partial(_by_units, mesh, config.gradient == "hand"))


def _by_rows(
    mesh: Mesh,
    lstm: Any,
    params: LSTMParams,
    inputs: Array,
    initial_state: LSTMState,
    *,
    lengths: Array | None = None,
    **options: Any,
) -> tuple[Array, LSTMState]:
    """``lstm`` on each device's rows, so that the kernels' gradients are summed once, at the end.

    Left to the compiler, they are summed over the devices after every chunk of time.
    """

    def run(
        params: LSTMParams, inputs: Array, state: LSTMState, lengths: Array | None
    ) -> tuple[Array, LSTMState]:
        return lstm(params, inputs, state, lengths=lengths, **options)

    rows, after_time = P("data"), P(None, "data")
    specs = {"in_specs": (P(), after_time, rows, rows), "out_specs": (after_time, rows)}
    return jax.shard_map(run, mesh=mesh, **specs)(params, inputs, initial_state, lengths)


def _by_units(
    mesh: Mesh,
    by_hand: bool,
    params: LSTMParams,
    inputs: Array,
    initial_state: LSTMState,
    *,
    lengths: Array | None = None,
    **_: Any,
) -> tuple[Array, LSTMState]:
    """The LSTM with each device's hidden units on it, in all four gates."""

    def run(
        params: LSTMParams, inputs: Array, state: LSTMState, lengths: Array | None
    ) -> tuple[Array, LSTMState]:
        own = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-2], -1), params)
        return lstm_of_units("hidden", own, inputs, state, lengths, by_hand=by_hand)

    by_gate = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], len(GATES), -1), params)
    kernel, state = P(None, None, "hidden"), P(None, "hidden")
    specs = {
        "in_specs": (LSTMParams(kernel, kernel, state), P(), state, P()),
        "out_specs": (P(None, None, "hidden"), state),
    }
    return jax.shard_map(run, mesh=mesh, **specs)(by_gate, inputs, initial_state, lengths)
