"""Truncated BPTT: reverse mode within windows of k steps, nothing through their edges."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.masks import keep, valid_steps
from jaxlstm.rtrl.arguments import (
    Arguments,
    along_batch,
    arguments_of_sequence,
    check_losses,
    check_targets,
    in_windows,
)
from jaxlstm.rtrl.online import LossFn
from jaxlstm.sequence import lstm
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_size


def truncated_gradients(
    loss_fn: LossFn,
    params: LSTMParams,
    inputs: ArrayLike,
    targets: Any,
    initial_state: LSTMState | None = None,
    *,
    window: int,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
) -> tuple[Float[Array, " T"], LSTMParams, LSTMState]:
    """The gradient of L = sum_t loss_fn(h_t, target_t), each window's own part of it.

    The state passes from window to window, its gradient does not: with ``window`` >= T it is the
    gradient of BPTT, with 1 the gradient through a single step. ``loss_fn`` is a static argument
    of a jit within: the same function again compiles nothing, a lambda written anew is another one.

    Args:
        loss_fn: ``loss_fn(h_t, target_t)`` gives the loss of every sequence, [B] (a scalar
            unbatched).
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        targets: a pytree with a leading axis T, of what ``loss_fn`` takes.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        window: k, the steps of a window; the last may be shorter.
        lengths: int [B] (a scalar unbatched), as ``lstm`` takes them; padding has no loss.
        resets: bool [T, B] ([T] unbatched), as ``lstm`` takes them.
        activations: of the candidate and the cell.

    Returns:
        losses [T], summed over the batch; the contribution of every window, leaves
        [ceil(T / k), *leaf.shape] of the parameters; and the final state.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import truncated_gradients
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> inputs, targets = jax.random.normal(jax.random.key(1), (7, 2, 3)), jax.numpy.ones((7, 2))
    >>> loss_fn = lambda h_t, target_t: (h_t.sum(-1) - target_t) ** 2
    >>> losses, gradients, _ = truncated_gradients(loss_fn, params, inputs, targets, window=3)
    >>> losses.shape, gradients.bias.shape
    ((7,), (3, 20))
    """
    check_size("window", window)
    arguments = arguments_of_sequence(params, inputs, initial_state, lengths, resets, activations)
    targets = jax.tree.map(jnp.asarray, targets)
    check_targets(targets, len(arguments.inputs))
    return _run(loss_fn, window, activations, arguments, targets)


@partial(jax.jit, static_argnums=(0, 1))
def _run(
    loss_fn: LossFn, window: int, activations: Activations, arguments: Arguments, targets: Any
) -> tuple[Float[Array, " T"], LSTMParams, LSTMState]:
    params, inputs, state, lengths, resets = arguments
    T, batch = len(inputs), inputs.shape[1:-1]
    lengths = along_batch(jnp.full(batch, T), inputs) if lengths is None else lengths

    def loss(params: LSTMParams, state: LSTMState, left: Array, steps: tuple) -> tuple[Array, Any]:
        xs, ys, resets = steps
        hidden, final = lstm(
            params, xs, state, lengths=left, resets=resets, activations=activations
        )
        losses = jax.vmap(loss_fn)(hidden, ys)
        check_losses(losses[0], batch)
        losses = keep(valid_steps(left, window), losses).reshape(window, -1).sum(1)
        return losses.sum(), (final, losses)

    def body(before: tuple, steps: tuple) -> tuple[tuple, tuple[Array, LSTMParams]]:
        state, left = before
        gradient, (state, losses) = jax.grad(loss, has_aux=True)(params, state, left, steps)
        return (state, left - window), (losses, gradient)

    windows = in_windows((inputs, targets, resets), window)
    (final, _), (losses, gradients) = jax.lax.scan(body, (state, lengths), windows)
    return losses.reshape(-1)[:T], gradients, final
