"""Learning while the sequence runs: a gradient after every step, for any estimator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.masks import keep, valid_steps
from jaxlstm.rtrl.arguments import (
    Arguments,
    arguments_of_sequence,
    check_losses,
    check_targets,
)
from jaxlstm.rtrl.entries import entries_of
from jaxlstm.rtrl.exact import RTRLState, init_rtrl, pull_back, rtrl_step
from jaxlstm.types import Activations, LSTMParams, LSTMState

LossFn = Callable[[Array, Any], Array]
"""``loss_fn(h_t, target_t)``: from hidden [B, H] the loss of every sequence, [B] (unbatched: from
[H] a scalar). Hashable, as functions are."""


def online_step(
    loss_fn: LossFn,
    params: LSTMParams,
    carry: RTRLState,
    x_t: ArrayLike,
    target_t: Any,
    *,
    valid_t: ArrayLike | None = None,
    reset_t: ArrayLike | None = None,
    activations: Activations = Activations(),
    estimator: str = "exact",
) -> tuple[RTRLState, Float[Array, ""], LSTMParams]:
    """One step, its loss, and what that loss adds to the gradient: pure, for a loop of one's own.

    Where the parameters are updated between steps, the sensitivities carried are those along the
    parameters as they were, the usual approximation of online learning.

    Args:
        loss_fn: ``loss_fn(h_t, target_t)`` gives the loss of every sequence, [B] (a scalar
            unbatched); its own parameters are constants here.
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        carry: from ``init_rtrl`` or the step before, of the same estimator.
        x_t: the input [B, D] ([D] unbatched), of the parameters' dtype.
        target_t: what ``loss_fn`` takes.
        valid_t: bool [B] (a scalar unbatched). Where false, the step is padding: it leaves the
            carry as it is and has neither loss nor gradient.
        reset_t: bool [B] (a scalar unbatched). Where true, the step starts from the zero state.
        activations: of the candidate and the cell.
        estimator: "exact", "snap1" or "cell".

    Returns:
        The next carry, the loss summed over the batch, and its gradient d loss_t / d params.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.
    """
    keywords: dict[str, Any] = {"activations": activations, "estimator": estimator}
    carry = rtrl_step(params, carry, x_t, valid_t=valid_t, reset_t=reset_t, **keywords)
    hidden = carry.state.hidden
    losses, back = jax.vjp(lambda h: loss_fn(h, target_t), hidden)
    check_losses(losses, hidden.shape[:-1])
    (d_h,) = back(jnp.ones_like(losses))
    losses, d_h = keep(jax.tree.map(jnp.asarray, valid_t), (losses, d_h))
    return carry, losses.sum(), pull_back(carry, d_h, estimator=estimator)


def online_gradients(
    loss_fn: LossFn,
    params: LSTMParams,
    inputs: ArrayLike,
    targets: Any,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    estimator: str = "exact",
) -> tuple[Float[Array, " T"], LSTMParams, RTRLState]:
    """The gradient of L = sum_t loss_fn(h_t, target_t), a contribution after every step.

    The sum of the exact contributions over the steps is the gradient of BPTT. ``loss_fn`` is a
    static argument of a jit within: the same function again compiles nothing, a lambda written anew
    is another one.

    Args:
        loss_fn: ``loss_fn(h_t, target_t)`` gives the loss of every sequence, [B] (a scalar
            unbatched).
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        targets: a pytree with a leading axis T, of what ``loss_fn`` takes.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        lengths: int [B] (a scalar unbatched), as ``lstm`` takes them; padding has no loss.
        resets: bool [T, B] ([T] unbatched), as ``lstm`` takes them.
        activations: of the candidate and the cell.
        estimator: "exact", "snap1" or "cell".

    Returns:
        losses [T], summed over the batch; the contributions, leaves [T, *leaf.shape] of the
        parameters; and the final carry. Where [T, ...] is too much, scan ``online_step``.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import online_gradients
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> inputs, targets = jax.random.normal(jax.random.key(1), (7, 2, 3)), jax.numpy.ones((7, 2))
    >>> loss_fn = lambda h_t, target_t: (h_t.sum(-1) - target_t) ** 2
    >>> losses, gradients, _ = online_gradients(loss_fn, params, inputs, targets)
    >>> losses.shape, gradients.bias.shape
    ((7,), (7, 20))
    """
    entries_of(estimator)
    arguments = arguments_of_sequence(params, inputs, initial_state, lengths, resets, activations)
    targets = jax.tree.map(jnp.asarray, targets)
    check_targets(targets, len(arguments.inputs))
    return _run(loss_fn, estimator, activations, arguments, targets)


@partial(jax.jit, static_argnums=(0, 1))
def _run(
    loss_fn: LossFn, estimator: str, activations: Activations, arguments: Arguments, targets: Any
) -> tuple[Float[Array, " T"], LSTMParams, RTRLState]:
    params, inputs, state, lengths, resets = arguments

    def body(carry: RTRLState, step_t: tuple) -> tuple[RTRLState, tuple[Array, LSTMParams]]:
        x_t, target_t, valid_t, reset_t = step_t
        keywords: dict[str, Any] = {"activations": activations, "estimator": estimator}
        keywords |= {"valid_t": valid_t, "reset_t": reset_t}
        carry, loss, gradient = online_step(loss_fn, params, carry, x_t, target_t, **keywords)
        return carry, (loss, gradient)

    carry = init_rtrl(params, state, estimator=estimator)
    steps = (inputs, targets, valid_steps(lengths, len(inputs)), resets)
    carry, (losses, gradients) = jax.lax.scan(body, carry, steps)
    return losses, gradients, carry
