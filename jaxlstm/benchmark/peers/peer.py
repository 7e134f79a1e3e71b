"""What the benchmark asks of an implementation of the LSTM, ours and others'."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxlstm.benchmark.cost import Program, compile_program
from jaxlstm.initializers import init_params
from jaxlstm.types import LSTMParams, LSTMState

FORWARD, GRADIENT, STEP = TASKS = ("forward", "gradient", "step")
"""Outputs of a sequence; derivatives of mean(outputs^2) by all arguments; one step's state."""


def threads() -> int:
    """As many as this process may have."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Shape(NamedTuple):
    """T, B, D, H."""

    time: int
    batch: int
    features: int
    hidden: int

    def __str__(self) -> str:
        """As the option ``--shape`` takes it."""
        return ",".join(map(str, self))


class Workload(NamedTuple):
    """The arguments of an LSTM, or the derivatives by them.

    Attributes:
        params: of one layer.
        inputs: [T, B, D].
        state: the one before the first step, [B, H].
    """

    params: LSTMParams
    inputs: Float[Array, "T B D"]
    state: LSTMState


class Layer(NamedTuple):
    """An LSTM in JAX, with parameters of its own form, for one workload's sizes and dtype.

    Attributes:
        own: the same weights in that form.
        back: derivatives in that form, as ours.
        sequence: (own, inputs [T, B, D], state) to outputs [T, B, H].
        step: (own, state, x_t [B, D]) to the next state.
    """

    own: Callable[[LSTMParams], Any]
    back: Callable[[Any], LSTMParams]
    sequence: Callable[[Any, Array, LSTMState], Array]
    step: Callable[[Any, LSTMState, Array], LSTMState]


class Prepared(NamedTuple):
    """A task ready to run, and how to read its results.

    Attributes:
        program: takes no arguments.
        read: its results in our form: outputs, derivatives as a ``Workload``, or a state.
    """

    program: Program
    read: Callable[[Any], Any]


class Peer(NamedTuple):
    """An implementation to measure.

    Attributes:
        name: as printed and as ``--only`` takes it.
        prepare: (task, workload) to what runs it.
    """

    name: str
    prepare: Callable[[str, Workload], Prepared]


def draw_workload(shape: Shape, dtype: str, seed: int = 0) -> Workload:
    """Random parameters, biases too, inputs and state."""
    T, B, D, H = shape
    keys = jax.random.split(jax.random.key(seed), 5)
    params = init_params(keys[0], D, H, dtype=jnp.dtype(dtype))
    bias = params.bias + jax.random.normal(keys[1], (4 * H,), dtype) / 4
    hidden, cell = (jax.random.normal(key, (B, H), dtype) / 4 for key in keys[2:4])
    inputs = jax.random.normal(keys[4], (T, B, D), dtype)
    return Workload(params._replace(bias=bias), inputs, LSTMState(hidden, cell))


def jax_peer(name: str, build: Callable[[Workload], Layer]) -> Peer:
    """A peer in JAX: jitted, and differentiated by ``jax.grad`` by its own parameters."""

    def prepare(task: str, workload: Workload) -> Prepared:
        layer = build(workload)
        return _prepare_layer(layer, task, Workload(layer.own(workload.params), *workload[1:]))

    return Peer(name, prepare)


def _prepare_layer(layer: Layer, task: str, workload: Workload) -> Prepared:
    own, inputs, state = workload
    if task == FORWARD:
        return Prepared(compile_program(layer.sequence, *workload), np.asarray)
    if task == STEP:
        return Prepared(compile_program(layer.step, own, state, inputs[0]), _to_numpy)

    def loss(*workload: Any) -> Array:
        return jnp.square(layer.sequence(*workload)).mean()

    def read(gradient: Any) -> Workload:
        return _to_numpy(Workload(layer.back(gradient[0]), *gradient[1:]))

    return Prepared(compile_program(jax.grad(loss, argnums=(0, 1, 2)), *workload), read)


def _to_numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def own_layer(
    lstm: Callable[..., tuple[Array, LSTMState]], step: Callable[..., LSTMState]
) -> Layer:
    """Of functions with the signatures of ``jaxlstm.lstm`` and ``jaxlstm.step``."""
    return Layer(
        own=lambda params: params,
        back=lambda params: params,
        sequence=lambda *workload: lstm(*workload)[0],
        step=step,
    )
