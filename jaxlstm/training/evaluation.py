"""The loss on text that was not trained on."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt
from numpy import ndarray

from jaxlstm.masks import keep, valid_steps
from jaxlstm.tasks.text import HeldOutWindow, held_out_windows
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.model import (
    ModelParams,
    States,
    character_losses,
    computed_in,
    init_states,
)
from jaxlstm.training.sharding import (
    functions_on,
    made_on,
    place_rows,
    rows_read,
    shardings_of_states,
)


class Evaluation(NamedTuple):
    """The mean cross-entropy of a text's characters, each given those before it.

    Attributes:
        nats_per_character: natural logarithms.
        bits_per_character: the same in bits.
        characters: how many were predicted.
    """

    nats_per_character: float
    bits_per_character: float
    characters: int


def evaluate(
    config: TrainConfig,
    params: ModelParams,
    vocabulary: str,
    points: UInt[ndarray, " N"],
    mesh: Mesh | None = None,
) -> Evaluation:
    """Predicts every character of a text but the first, in ``config.batch`` streams.

    Each stream starts from the zero state, so its first characters are predicted from few others.

    Args:
        config: of the run.
        params: of the model.
        vocabulary: the characters that the model knows.
        points: the text's code points [N].
        mesh: of ``make_mesh``, where the parameters are in their place there.

    Raises:
        ValueError: a text of fewer than two characters, or with characters that are not known.
    """
    states = made_on(mesh, partial(init_states, config, config.batch), shardings_of_states)
    totals = []
    rows, sizes = rows_read(mesh, config.batch), {"time": config.window, "batch": config.batch}
    for window in held_out_windows(points, vocabulary, rows=rows, **sizes):
        placed = place_rows(mesh, window, config.batch)
        total, states = _window_loss(config, params, states, placed, mesh)
        totals.append(total)
    nats = math.fsum(map(float, totals)) / (len(points) - 1)
    return Evaluation(nats, nats / math.log(2), len(points) - 1)


@partial(jax.jit, static_argnums=(0, 4))
def _window_loss(
    config: TrainConfig,
    params: ModelParams,
    states: States,
    window: HeldOutWindow,
    mesh: Mesh | None,
) -> tuple[Float[Array, ""], States]:
    """The sum of a window's losses, and the states at each stream's length."""
    losses, states = character_losses(
        computed_in(config, params),
        window.characters,
        window.targets,
        states,
        lengths=window.lengths,
        functions=functions_on(mesh, config),
    )
    return keep(valid_steps(jnp.asarray(window.lengths), config.window), losses).sum(), states
