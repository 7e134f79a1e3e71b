"""What ``jaxlstm flow`` measures, told of on a bar as it goes."""

import argparse
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console
from rich.progress import Progress

from jaxlstm.cli.arguments import BadInputError, users_input
from jaxlstm.cli.flow.problem import Problem
from jaxlstm.gradient_flow import (
    Advice,
    Curves,
    GradientFlowReport,
    RNNFlow,
    advice,
    curves,
    gradient_flow_report,
    rnn_flow,
)
from jaxlstm.gradient_flow.report import PARTS
from jaxlstm.layers import stacked_lstm
from jaxlstm.rnn import init_rnn
from jaxlstm.types import LSTMParams

DIRECTIONS = 4


class Clipped(NamedTuple):
    """The norm of a gradient before and after it is clipped."""

    before: float
    after: float


class Clipping(NamedTuple):
    """What clipping at a norm does to the sequences' mean gradient, and to the largest."""

    norm: float
    mean: Clipped
    largest: Clipped


class Found(NamedTuple):
    """All that is shown; the curves are the layers'."""

    report: GradientFlowReport
    curves: tuple[Curves, ...]
    rnn: RNNFlow
    clipping: Clipping
    advice: Advice


def check_directions(options: argparse.Namespace, problem: Problem) -> None:
    """Requires no more directions than the state has."""
    size = 2 * problem.d_h.shape[-1]
    if (options.directions or 1) > size:
        raise BadInputError(
            f"--directions: expected at most 2H = {size}, got {options.directions}."
        )


def measured(options: argparse.Namespace, problem: Problem) -> Found:
    """The report, and beside it an RNN of the same size, with the same inputs and dL/dh."""
    layers, inputs, d_h = problem
    D, H = inputs.shape[-1], d_h.shape[-1]
    directions = options.directions or min(DIRECTIONS, 2 * H)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        total = (len(PARTS) + options.spectral) * len(layers) + 2
        task, done = progress.add_task("", total=total), itertools.count()

        def begin(part: str) -> None:
            progress.update(task, completed=next(done), description=part)

        asked = {"crossings": options.crossings, "spectral": options.spectral}
        with users_input():
            report = gradient_flow_report(
                layers, inputs, d_h=d_h, **asked, directions=directions, progress=begin
            )
        begin("vanilla RNN")
        rnn_params = init_rnn(jax.random.key(options.seed), D, H, dtype=options.dtype)
        rnn = rnn_flow(rnn_params, inputs, d_h=d_h, directions=min(directions, H))
        begin("clipping")
        advised = advice(report)
        clipping = _clipping(problem, report, advised.clipping_norm)
    return Found(report, tuple(map(curves, report.layers)), rnn, clipping, advised)


def _clipping(problem: Problem, report: GradientFlowReport, norm: float) -> Clipping:
    """What optax makes of two gradients of all layers' parameters."""
    layers, inputs, d_h = problem
    clip = optax.clip_by_global_norm(norm)

    @jax.jit
    def clipped(inputs: Array, d_h: Array) -> tuple[Array, Array]:
        def loss(layers: tuple[LSTMParams, ...]) -> Array:
            return jnp.vdot(d_h, stacked_lstm(layers, inputs)[0][-1]) / len(d_h)

        gradient = jax.grad(loss)(layers)
        update, _ = clip.update(gradient, clip.init(gradient))
        return optax.tree.norm(gradient), optax.tree.norm(update)

    def norms(inputs: Array, d_h: Array) -> Clipped:
        return Clipped(*map(float, clipped(inputs, d_h)))

    by_layer = np.stack([layer.parameter_gradients for layer in report.layers])
    largest = np.array([np.linalg.norm(by_layer, axis=0).argmax()])
    return Clipping(norm, norms(inputs, d_h), norms(inputs[:, largest], d_h[largest]))
