"""Characters in, loss out: embedding, logits, softmax cross-entropy, with their gradients by hand.

    x_t = E[k_t]                            the row of character k_t          [R1]
    y_t = h_t V + a                         logits                            [R2]
    p_t = softmax(y_t)                      probabilities                     [R3]
    L_t = -log p_t[k_{t+1}]                 cross-entropy in nats             [R4]

and backward:

    d_y_t = d_L_t (p_t - onehot(k_{t+1}))                                     [R5]
    d_h_t = d_y_t V'                                                          [R6]
    d_V   = sum_t h_t' d_y_t,  d_a = sum_t d_y_t                              [R7]
    d_E   = sum_t onehot(k_t)' d_x_t        each d_x_t added to its row       [R8]

and the tangents forward:

    dot_x_t = dot_E[k_t]                                                      [R9]
    dot_y_t = dot_h_t V + h_t dot_V + dot_a                                   [R10]
    dot_L_t = sum_k dot_y_t (p_t - onehot(k_{t+1}))                           [R11]

In the source documents (``jaxlstm sources`` shows them, with what is misprinted there):

    [R2]  001 (forward o_t)
    [R3]  001 (forward p_t)
    [R4]  001 (L)
    [R5]  001 (dL/do_t)
    [R6]  001 (dL/dh_T)
    [R7]  001 (9)

Beside each function stands the same one left to JAX's autodiff, as its oracle.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxlstm.both_modes import differentiated_by_hand
from jaxlstm.placement import (
    product_with_transpose,
    rows_of,
    sum_into_rows,
    sum_of_outer_products,
    vary_together,
)
from jaxlstm.types import ReadoutParams
from jaxlstm.validation import check_cross_entropy, check_embedding, check_logits


def embed(table: ArrayLike, characters: ArrayLike) -> Array:
    """The table's row of each character [R1], with the gradient [R8].

    Equals the product of one-hot rows with the table, without the one-hot rows.

    Args:
        table: ``E`` [K, D], floating.
        characters: integers [...] from 0 to K - 1.

    Returns:
        [..., D] of the table's dtype.

    Raises:
        ValueError, TypeError: shapes, dtypes or characters that do not fit.
    """
    check_embedding(table, characters)
    return _embed(None, *vary_together((jnp.asarray(characters), jnp.asarray(table))))


def embed_autodiff(table: ArrayLike, characters: ArrayLike) -> Array:
    """The same function as ``embed``, left to JAX's autodiff."""
    check_embedding(table, characters)
    return _rows(jnp.asarray(table), jnp.asarray(characters))


def logits(params: ReadoutParams, hidden: ArrayLike) -> Array:
    """The logits ``h V + a`` [R2], with the gradient [R6] and [R7].

    Args:
        params: kernel [H, K] and bias [K].
        hidden: [..., H], of the parameters' dtype.

    Returns:
        [..., K].

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit.
    """
    check_logits(params, hidden)
    return _logits(None, None, *vary_together(jax.tree.map(jnp.asarray, (params, hidden))))


def logits_autodiff(params: ReadoutParams, hidden: ArrayLike) -> Array:
    """The same function as ``logits``, left to JAX's autodiff."""
    check_logits(params, hidden)
    return _affine(*jax.tree.map(jnp.asarray, (params, hidden)))


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> Array:
    """The softmax cross-entropy of each target in nats, [R3] and [R4], with the gradient [R5].

    Args:
        logits: ``y`` [..., K], floating.
        targets: integers [...] from 0 to K - 1; where traced, -1 counts as K - 1.

    Returns:
        [...] of the logits' dtype.

    Raises:
        ValueError, TypeError: shapes, dtypes or targets that do not fit.

    >>> import jax, jaxlstm
    >>> scores, target = jax.numpy.array([1.0, 2.0, 0.5]), jax.numpy.array(1)
    >>> [f"{entry:.2f}" for entry in jax.grad(jaxlstm.cross_entropy)(scores, target)]
    ['0.23', '-0.37', '0.14']
    """
    check_cross_entropy(logits, targets)
    return _cross_entropy(None, *vary_together((jnp.asarray(targets), jnp.asarray(logits))))


def cross_entropy_autodiff(logits: ArrayLike, targets: ArrayLike) -> Array:
    """The same function as ``cross_entropy``, left to JAX's autodiff."""
    check_cross_entropy(logits, targets)
    return _negative_log_likelihood(jnp.asarray(logits), jnp.asarray(targets))


def _rows(table: Float[Array, "K D"], characters: Int[Array, "*T"]) -> Float[Array, "*T D"]:
    return rows_of(table, characters)  # [R1]


def _affine(params: ReadoutParams, hidden: Float[Array, "*T H"]) -> Float[Array, "*T K"]:
    return hidden @ params.kernel + params.bias  # [R2]


def _negative_log_likelihood(
    values: Float[Array, "*T K"], targets: Int[Array, "*T"]
) -> Float[Array, "*T"]:
    of_target = jnp.take_along_axis(values, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(values, axis=-1) - of_target  # [R3] [R4]


def _embed_forward(_: None, characters: Array, table: Array) -> tuple[Array, Any]:
    return _rows(table, characters), (characters, table)


def _embed_push(_: None, residuals: Any, tangents: tuple[Array]) -> Array:
    (characters, _table), (dot_table,) = residuals, tangents
    return rows_of(dot_table, characters)  # [R9]


def _embed_pull(_: None, residuals: Any, d_rows: Array) -> tuple[Array]:
    characters, table = residuals
    return (sum_into_rows(d_rows, characters, table),)  # [R8]


def _logits_forward(
    _: None, _others: None, params: ReadoutParams, hidden: Array
) -> tuple[Array, Any]:
    return _affine(params, hidden), (params, hidden)


def _logits_push(_: None, residuals: Any, tangents: tuple[ReadoutParams, Array]) -> Array:
    (params, hidden), (dot_params, dot_hidden) = residuals, tangents
    return dot_hidden @ params.kernel + _affine(dot_params, hidden)  # [R10]


def _logits_pull(_: None, residuals: Any, d_logits: Array) -> tuple[ReadoutParams, Array]:
    params, hidden = residuals
    d_params = ReadoutParams(  # [R7]
        kernel=sum_of_outer_products(hidden, d_logits, params.kernel),
        bias=d_logits.sum(tuple(range(d_logits.ndim - 1))),
    )
    return d_params, product_with_transpose(d_logits, params.kernel, hidden)  # [R6]


def _cross_entropy_forward(_: None, targets: Array, values: Array) -> tuple[Array, Any]:
    return _negative_log_likelihood(values, targets), (targets, values)


def _slope(residuals: Any) -> Array:
    """p_t - onehot(k_{t+1})."""
    targets, values = residuals
    K = values.shape[-1]
    return jax.nn.softmax(values) - jax.nn.one_hot(targets % K, K, dtype=values.dtype)


def _cross_entropy_push(_: None, residuals: Any, tangents: tuple[Array]) -> Array:
    return (tangents[0] * _slope(residuals)).sum(-1)  # [R11]


def _cross_entropy_pull(_: None, residuals: Any, d_loss: Array) -> tuple[Array]:
    return (d_loss[..., None] * _slope(residuals),)  # [R5]


_embed = differentiated_by_hand(
    lambda _, characters, table: _rows(table, characters), _embed_forward, _embed_push, _embed_pull
)
_logits = differentiated_by_hand(
    lambda _, _others, *args: _affine(*args), _logits_forward, _logits_push, _logits_pull
)
_cross_entropy = differentiated_by_hand(
    lambda _, targets, values: _negative_log_likelihood(values, targets),
    _cross_entropy_forward,
    _cross_entropy_push,
    _cross_entropy_pull,
)
