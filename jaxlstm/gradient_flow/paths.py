"""The gradient split by paths: how often each crosses a gate, and which gate first: [G6] to [G9].

The recursion is that of the gradient itself, with two more axes: the gate of the first crossing,
and the number of crossings, by which a use of the kernel moves one on.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.gradient_flow.reverse import (
    Cotangents,
    StateGradients,
    after_first,
    at_nodes,
    back_over_each_sequence,
    checked_cotangents,
    joined,
    pulled,
    state_gradients,
)
from jaxlstm.gradient_flow.steps import LSTMSteps, Step
from jaxlstm.masks import keep
from jaxlstm.types import LSTMState
from jaxlstm.validation import check_size, check_type


class PathParts(NamedTuple):
    """The parts of dL/dh_k and dL/dc_k for k = 0, ..., T, which add up to them; a pytree.

    Attributes:
        cell_path: no crossing, t_0 [G10]: each [T + 1, B, H] ([T + 1, H] unbatched).
        crossed: the others by the gate i, f, g, o of the first crossing on the way back from the
            loss and by the number of crossings r = 1, ..., R, then all with more than R:
            each [T + 1, B, 4, R + 1, H].
    """

    cell_path: LSTMState
    crossed: LSTMState


class PathNorms(NamedTuple):
    """The Euclidean norms over the units of the parts and of the gradient; a pytree.

    Attributes:
        cell_path: by hidden and cell, each [T + 1, B] ([T + 1] unbatched).
        crossed: each [T + 1, B, 4, R + 1].
        total: of the gradient itself, each [T + 1, B].
    """

    cell_path: LSTMState
    crossed: LSTMState
    total: LSTMState


def path_parts(
    steps: LSTMSteps,
    d_h: ArrayLike,
    d_c: ArrayLike | None = None,
    *,
    d_outputs: ArrayLike | None = None,
    crossings: int = 3,
) -> PathParts:
    """The gradient by every state, split by paths.

    Args:
        steps: from ``linearize``. For L_t, those up to step t.
        d_h: dL/dh of the last step, with lengths of the last valid one, [B, H] ([H] unbatched).
        d_c: what of dL/dc of that step does not come by its h; zeros if None.
        d_outputs: what a layer above sends back to every h, [T, B, H]; zeros if None. Its paths
            are counted from there.
        crossings: R, the highest number of crossings told apart, at least 1.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize, path_parts
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> parts = path_parts(linearize(params, jax.numpy.ones((7, 3))), jax.numpy.ones(5))
    >>> parts.cell_path.cell.shape, parts.crossed.cell.shape
    ((8, 5), (8, 4, 4, 5))
    """
    return _parts(crossings, _themselves, steps, d_h, d_c, d_outputs)


def path_norms(
    steps: LSTMSteps,
    d_h: ArrayLike,
    d_c: ArrayLike | None = None,
    *,
    d_outputs: ArrayLike | None = None,
    crossings: int = 3,
) -> PathNorms:
    """The norms of the parts, step by step, so that the parts themselves are never stored.

    ``total`` is the norm of the gradient by one undivided reverse pass: of the parts' sum it would
    have the rounding of parts that cancel.

    Arguments and errors are those of ``path_parts``.
    """
    whole = state_gradients(steps, d_h, d_c, d_outputs=d_outputs)
    return norms_beside(whole, steps, d_h, d_c, d_outputs, crossings=crossings)


def norms_beside(
    whole: StateGradients, steps: LSTMSteps, *cotangents: Any, crossings: int
) -> PathNorms:
    """The norms of the parts beside that of the gradient, where it is known already."""
    cell_path, crossed = _parts(crossings, _norms, steps, *cotangents)
    return PathNorms(cell_path, crossed, LSTMState(norm(whole.hidden), norm(whole.cell)))


def shares(norms: PathNorms) -> PathNorms:
    """Each part's norm over the sum of all parts' norms, 0 where that is 0.

    Args:
        norms: from ``path_norms``.

    Raises:
        TypeError: something else.

    Returns:
        Shares that add up to 1 over the parts; ``total`` is the inverse of ``cancellation``.
    """
    check_type("norms", norms, PathNorms)
    summed = jax.tree.map(_summed, norms.cell_path, norms.crossed)
    cell_path, total = (jax.tree.map(_ratio, of, summed) for of in (norms.cell_path, norms.total))
    crossed = jax.tree.map(lambda x, s: _ratio(x, s[..., None, None]), norms.crossed, summed)
    return PathNorms(cell_path, crossed, total)


def cancellation(norms: PathNorms) -> LSTMState:
    """How far the parts cancel: the sum of their norms over the norm of their sum.

    Args:
        norms: from ``path_norms``.

    Raises:
        TypeError: something else.

    Returns:
        By hidden and cell, each [T + 1, B]: 1 where nothing cancels, infinite where all of it
        does, 0 where no gradient arrives by any path.
    """
    check_type("norms", norms, PathNorms)
    summed = jax.tree.map(_summed, norms.cell_path, norms.crossed)
    return jax.tree.map(lambda s, t: jnp.where(s == 0, 0, s / t), summed, norms.total)


def norm(x: Array) -> Array:
    """The Euclidean norm over the last axis, of values whose squares may be 0 or infinite too."""
    largest = jnp.abs(x).max(-1, keepdims=True, initial=0)
    scaled = jnp.where(largest > 0, x / largest, x)
    return largest[..., 0] * jnp.sqrt((scaled * scaled).sum(-1))


def _summed(cell_path: Array, crossed: Array) -> Array:
    return cell_path + crossed.sum((-2, -1))


def _ratio(part: Array, whole: Array) -> Array:
    return jnp.where(whole == 0, 0, part / whole)


def _themselves(parts: PathParts) -> PathParts:
    return parts


def _norms(parts: PathParts) -> PathParts:
    return jax.tree.map(norm, parts)


def _parts(crossings: int, kept: Any, steps: LSTMSteps, *cotangents: Any) -> Any:
    checked = checked_cotangents(steps, *cotangents)
    check_size("crossings", crossings)
    return _run(crossings, kept, steps, checked)


@partial(jax.jit, static_argnums=(0, 1))
def _run(crossings: int, kept: Any, steps: LSTMSteps, cotangents: Cotangents) -> Any:
    return back_over_each_sequence(partial(_of_one_sequence, crossings, kept), steps, cotangents)


def _of_one_sequence(crossings: int, kept: Any, steps: LSTMSteps, cotangents: Cotangents) -> Any:
    def back(parts: PathParts, step_t: Any) -> tuple[PathParts, Any]:
        step, d_h_t = step_t
        parts = parts._replace(cell_path=joined(step, parts.cell_path, d_h_t))
        before = keep(step.carried, _crossed_once_more(steps.recurrent_kernel, step, parts))
        return keep(step.valid, before, parts), kept(PathParts(*(at_nodes(step, d) for d in parts)))

    d_final, d_outputs = cotangents
    zeros = jnp.zeros((4, crossings + 1, d_final.hidden.size), d_final.hidden.dtype)
    last = PathParts(d_final, LSTMState(zeros, zeros))
    first, rest = jax.lax.scan(back, last, (steps.each, d_outputs), reverse=True)
    return jax.tree.map(after_first, kept(first), rest)


def _crossed_once_more(W: Float[Array, "H G"], step: Step, parts: PathParts) -> PathParts:
    """One step back: what goes through a gate moves on by one crossing, what stays in c does not.

    The last place takes what moves on past it.
    """
    d_z, d_c = pulled(step, parts.cell_path)  # [G6]
    by_gate = jnp.stack(jnp.split(W, 4, axis=-1))
    once = jnp.einsum("qj,qij->qi", d_z.reshape(4, -1), by_gate)  # [G7]
    d_z_more, d_c_more = pulled(step, parts.crossed)  # [G9]
    moved = jnp.concatenate([once[:, None], d_z_more @ W.T], axis=1)  # [G8]
    d_h_more = moved[:, :-1].at[:, -1].add(moved[:, -1])
    return PathParts(
        LSTMState(jnp.zeros_like(d_c), d_c), LSTMState(d_h_more, d_c_more)
    )  # [G6] [G9]
