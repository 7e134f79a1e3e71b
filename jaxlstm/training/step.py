"""One step of training: the gradient of a window's mean loss, clipped, into Adam."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxlstm.tasks.text import Window
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.model import (
    ModelParams,
    States,
    character_losses,
    computed_in,
    init_model,
    init_states,
)
from jaxlstm.training.sharding import (
    functions_on,
    made_on,
    replicated,
    shardings_of_params,
    shardings_of_states,
)


class TrainState(NamedTuple):
    """All that a run carries from step to step; the place in the text follows from ``step``.

    Attributes:
        step: optimizer steps done.
        params: of the model.
        optimizer: optax's state.
        states: of every layer [B, H], where the next window goes on.
        key: the PRNG key of the run; a step uses ``fold_in(key, step)``.
    """

    step: Int[Array, ""]
    params: ModelParams
    optimizer: optax.OptState
    states: States
    key: Array


class Measured(NamedTuple):
    """Of one step: the mean loss in nats a character, and the gradient's norm before clipping."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def init_train_state(config: TrainConfig, characters: int, mesh: Mesh | None = None) -> TrainState:
    """The state before the first step, for a vocabulary of ``characters``, where it belongs."""
    make = partial(_init_train_state, config, characters)
    return made_on(mesh, make, partial(shardings_of_state, config))


def _init_train_state(config: TrainConfig, characters: int) -> TrainState:
    of_params, of_steps = jax.random.split(jax.random.key(config.seed))
    params = init_model(of_params, characters, config)
    optimizer = make_optimizer(config).init(params)
    return TrainState(
        jnp.zeros((), jnp.int32), params, optimizer, init_states(config, config.batch), of_steps
    )


def shardings_of_state(config: TrainConfig, mesh: Mesh, state: Any) -> Any:
    """How every leaf is split over a mesh, the optimizer's as the parameters they belong to."""
    whole, params = replicated(mesh), shardings_of_params(mesh, state.params)
    optimizer = optax.tree_map_params(
        make_optimizer(config),
        lambda _, sharding: sharding,
        state.optimizer,
        params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, params, optimizer, shardings_of_states(mesh, state.states), whole)


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW after clipping by the global norm, its rate warmed up and let down by the schedule."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    adam = optax.adamw(
        _learning_rate(config), weight_decay=config.weight_decay, mask=_with_two_axes
    )
    return optax.chain(clip, adam)


def _learning_rate(config: TrainConfig) -> optax.Schedule:
    rate, warmup = config.learning_rate, min(config.warmup, config.steps - 1)
    rising = optax.linear_schedule(0.0 if warmup else rate, rate, max(warmup, 1))
    if config.schedule == "constant":
        return rising
    falling = optax.cosine_decay_schedule(rate, config.steps - warmup, alpha=0.01)
    return optax.join_schedules([rising, falling], [warmup])


def _with_two_axes(params: ModelParams) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim == 2, params)


@partial(jax.jit, static_argnums=(0, 3), donate_argnums=1)
def train_step(
    config: TrainConfig, state: TrainState, window: Window, mesh: Mesh | None = None
) -> tuple[TrainState, Measured]:
    """The state after one step on a window of every stream; the state given is donated.

    On a mesh, the state and the window are in their places there (``init_train_state``,
    ``place_rows``), and so is what comes back.

    The gradient goes back to the window's first character, and the recurrent states go on into the
    next window: truncated backpropagation through time, stateful.
    """

    def mean_loss(params: ModelParams) -> tuple[Array, States]:
        losses, after = character_losses(
            computed_in(config, params),
            window.characters,
            window.targets,
            jax.tree.map(lambda leaf: jnp.where(window.first, 0, leaf), state.states),
            rate=config.dropout,
            key=jax.random.fold_in(state.key, state.step) if config.dropout else None,
            functions=functions_on(mesh, config),
        )
        return losses.mean(), after

    (loss, states), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # which Adam needs, whatever the caller's is
        updates, optimizer = make_optimizer(config).update(gradient, state.optimizer, state.params)
    after = state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        optimizer=optimizer,
        states=states,
    )
    if mesh is not None:
        after = jax.lax.with_sharding_constraint(after, shardings_of_state(config, mesh, after))
    return after, Measured(loss, optax.tree.norm(gradient))
