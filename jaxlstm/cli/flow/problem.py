"""The model that ``jaxlstm flow`` was asked for, its inputs, and its loss."""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt
from numpy import ndarray

from jaxlstm.cli.arguments import (
    BadInputError,
    check_fits,
    positive,
    positive_real,
    real,
    text_named,
    text_source,
)
from jaxlstm.cli.checkpoints import loaded
from jaxlstm.layers import init_layers, stacked_lstm
from jaxlstm.readout import cross_entropy, embed, logits
from jaxlstm.tasks.text import spread_window
from jaxlstm.training import TrainConfig
from jaxlstm.training.model import ModelParams, init_model
from jaxlstm.types import LSTMParams

MODEL = {
    "hidden": (positive, "H", 64, "units of each layer"),
    "layers": (positive, "L", 1, "LSTMs, one on another"),
    "features": (positive, "D", 16, "inputs, of a text the size of a character's row"),
    "forget_bias": (real, "X", 1.0, "of every forget gate"),
    "recurrent_scale": (positive_real, "X", 1.0, "multiplies the orthogonal recurrent kernels"),
}
"""The options of a drawn model: type, letter, default and help."""


class Problem(NamedTuple):
    """Layers, their inputs, and the gradient of each sequence's loss by the last hidden state."""

    layers: tuple[LSTMParams, ...]
    inputs: Float[Array, "T B D"]
    d_h: Float[Array, "B H"]


def check_together(options: argparse.Namespace) -> None:
    """Requires options that go together."""
    if options.checkpoint is None:
        if options.step != "latest":
            raise BadInputError("--step: expected --checkpoint DIR beside it.")
        return
    for name in MODEL:
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise BadInputError(f"{option}: expected no --checkpoint beside it, which settles it.")
    if not options.checkpoint.is_dir():
        raise BadInputError(f"--checkpoint: expected a folder, got {str(options.checkpoint)!r}.")
    if text_source(options) is None:
        raise BadInputError("--checkpoint: expected --text FILE or --corpus NAME beside it.")


def problem_of(options: argparse.Namespace) -> Problem:
    """Of a checkpoint or of a drawn model, on a text or on standard normal inputs."""
    if options.checkpoint is not None:
        text, (state, about) = text_named(options), loaded(options)
        _check_steps_fit(options, about.config)
        return _on_text(options, state.params, text.points, about.vocabulary)
    sizes, dtype = {name: _asked(options, name) for name in MODEL}, options.dtype
    config = TrainConfig(sizes["layers"], sizes["hidden"], sizes["features"], dtype=dtype)
    _check_drawn_fits(options, config)
    _check_steps_fit(options, config)
    keys = jax.random.split(jax.random.key(options.seed), 2)
    layers = _drawn(keys[0], dtype, **sizes)
    if text_source(options) is None:
        inputs = jax.random.normal(keys[1], (options.time, options.batch, sizes["features"]), dtype)
        even = jnp.full((options.batch, sizes["hidden"]), sizes["hidden"] ** -0.5, dtype)
        return Problem(layers, inputs, even)
    text = text_named(options)
    model = init_model(keys[1], len(text.vocabulary), config)._replace(layers=layers)
    return _on_text(options, model, text.points, text.vocabulary)


def described(options: argparse.Namespace, problem: Problem) -> dict[str, Any]:
    """What was run, for JSON."""
    (T, B, D), H = problem.inputs.shape, problem.d_h.shape[-1]
    found = {"time": T, "batch": B, "features": D, "hidden": H, "text": text_source(options)}
    if options.checkpoint is not None:
        found |= {"checkpoint": str(options.checkpoint), "step": options.step}
    else:
        found |= {name: _asked(options, name) for name in ("forget_bias", "recurrent_scale")}
    return found | {"seed": options.seed, "dtype": options.dtype}


def _asked(options: argparse.Namespace, name: str) -> Any:
    given = getattr(options, name)
    return MODEL[name][2] if given is None else given


def _check_drawn_fits(options: argparse.Namespace, config: TrainConfig) -> None:
    """Requires numbers that the dtype holds, and parameters that the machine does."""
    largest = float(jnp.finfo(config.dtype).max)
    for name in ("forget_bias", "recurrent_scale"):
        if abs(given := _asked(options, name)) > largest:
            told = f"expected at most {largest:.3g} in {config.dtype}, got {given:.3g}."
            raise BadInputError(f"--{name.replace('_', '-')}: {told}")
    L, H, D = config.layers, config.hidden, config.embedding
    parameters = 4 * H * (D + H + 1 + (L - 1) * (2 * H + 1))
    size = 3 * parameters * jnp.dtype(config.dtype).itemsize
    asked = f"--layers {L} --hidden {H} --features {D}"
    check_fits(asked, "parameters and two gradients", size)


def _check_steps_fit(options: argparse.Namespace, config: TrainConfig) -> None:
    """Requires that the machine holds what is kept of every step: no less than this."""
    L, H, D, R = config.layers, config.hidden, config.embedding, options.crossings
    steps = options.time * options.batch * jnp.dtype(options.dtype).itemsize
    asked = f"--time {options.time} --batch {options.batch}"
    check_fits(asked, "states and gradients", steps * (D + 16 * L * H))
    check_fits(f"{asked} --crossings {R}", "norms", steps * 8 * L * (R + 1))


def _drawn(
    key: Array,
    dtype: str,
    *,
    hidden: int,
    layers: int,
    features: int,
    forget_bias: float,
    recurrent_scale: float,
) -> tuple[LSTMParams, ...]:
    """Layers as ``init_layers`` draws them, their recurrent kernels scaled."""

    def scaled(layer: Any) -> LSTMParams:
        return layer._replace(recurrent_kernel=recurrent_scale * layer.recurrent_kernel)

    drawn = init_layers(key, features, hidden, layers, forget_bias=forget_bias, dtype=dtype)
    return tuple(map(scaled, drawn))


def _on_text(
    options: argparse.Namespace, params: ModelParams, points: UInt[ndarray, " N"], vocabulary: str
) -> Problem:
    """Windows spread over a text; the loss is the cross-entropy of each one's last target."""
    window = spread_window(points, vocabulary, time=options.time, batch=options.batch)
    model: Any = jax.tree.map(lambda leaf: jnp.asarray(leaf, options.dtype), params)
    inputs = embed(model.embedding, window.characters)
    outputs, _ = stacked_lstm(model.layers, inputs)

    def loss(hidden: Array) -> Array:
        return cross_entropy(logits(model.readout, hidden), window.targets[-1]).sum()

    return Problem(model.layers, inputs, jax.grad(loss)(outputs[-1]))
