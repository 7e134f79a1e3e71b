"""How a long product of Jacobians stretches space: exponents and singular values by QR.

The product itself is never formed: it would overflow, or lose all but its largest singular values.
It is kept as an orthogonal matrix, the logarithms of a diagonal, and a triangular matrix with 1
or -1 on its diagonal, [G16] to [G18], and no step's Jacobian is stored. The singular values are
those of ``diag(exp(growth)) V``, by Jacobi rotations, which turn rows of whatever scales.

The QR is by Gram-Schmidt, done twice, which makes each column of those before it and nothing else:
what J_t maps to zero stays exactly zero, however fast it grew and would grow again. Growth in a
direction q counts as lost, minus infinity, once that of one step is below the rounding of J_t q,
N eps ||J_t| |q|| with J_t [N, N] and |.| of entries: that is zero as far as the arithmetic can
tell. A lost direction is zero from there on, and no other is made orthogonal to it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.gradient_flow.checks import check_directions, check_precision, check_some
from jaxlstm.gradient_flow.jacobians import blocks, matrices
from jaxlstm.gradient_flow.paths import norm
from jaxlstm.gradient_flow.steps import LSTMSteps, Step, check_steps, for_each_sequence
from jaxlstm.rnn import RNNSteps, rnn_jacobians
from jaxlstm.validation import check_type

SWEEPS = 8
"""Jacobi sweeps over all pairs of rows; near the end each squares the cosines between them."""


class Spectrum(NamedTuple):
    """Of the product P = J_T ... J_1 on n directions; a pytree.

    Attributes:
        growth: after every step, the logarithms by which the directions have grown, each across
            those before it, most often the largest first: [T, B, n] ([T, n] unbatched).
        exponents: the last growth for each step, the largest first: [B, n]. As T grows they become
            the n largest Lyapunov exponents; their error falls as 1/T.
        log_singular_values: of P, or with fewer directions than P has of P on these alone, which
            are at most P's own; the largest first: [B, n].
    """

    growth: Float[Array, "*T N"]
    exponents: Float[Array, "*B N"]
    log_singular_values: Float[Array, "*B N"]


_AXES = Spectrum(1, 0, 0)  # pyright: ignore[reportArgumentType]


def lstm_spectrum(steps: LSTMSteps, *, directions: int | None = None) -> Spectrum:
    """The spectrum of an LSTM's map from its first to its last state (h, c).

    Args:
        steps: from ``linearize``, at least one, of float32 or float64. Padding does not count as
            steps of an exponent; where there is nothing else, the exponents are NaN.
        directions: n, at most 2H, which is what None stands for: a few are much cheaper.

    Raises:
        ValueError, TypeError: no steps, no sequence, half precision, too many directions, or what
            ``linearize`` did not make.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize, lstm_spectrum
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> lstm_spectrum(linearize(params, jax.numpy.ones((7, 3)))).exponents.shape
    (10,)
    """
    check_steps(steps)
    of_steps = steps.each.derivatives.dh_dc
    return _lstm_spectrum(_checked(of_steps, 2 * of_steps.shape[-1], directions), steps)


def rnn_spectrum(steps: RNNSteps, *, directions: int | None = None) -> Spectrum:
    """The spectrum of a vanilla RNN's map from its first to its last state, by the same QR.

    Args:
        steps: from ``jaxlstm.rnn.linearize_rnn``, at least one, of float32 or float64.
        directions: n, at most H, which is what None stands for.

    Raises:
        ValueError, TypeError: no steps, no sequence, half precision, too many directions, or what
            ``linearize_rnn`` did not make.
    """
    check_type("steps", steps, RNNSteps)
    return _rnn_spectrum(_checked(steps.derivative, steps.derivative.shape[-1], directions), steps)


def _checked(of_steps: Array, size: int, directions: int | None) -> int:
    """How many directions to take, of steps of which there is one and that have ``size``."""
    check_precision("steps", of_steps)
    check_some("steps", of_steps)
    if directions is None:
        return size
    check_directions(directions, size)
    return directions


@partial(jax.jit, static_argnums=0)
def _lstm_spectrum(directions: int, steps: LSTMSteps) -> Spectrum:
    def of_one(steps: LSTMSteps) -> Spectrum:
        W, (derivatives, valid, _) = steps

        def jacobian(step: Step) -> Array:
            return matrices(blocks(W, step))

        count = jnp.asarray(len(derivatives.dh_dc) if valid is None else valid.sum(), W.dtype)
        return _spectrum(jacobian, steps.each, (2 * len(W), directions), count)

    return for_each_sequence(of_one, steps, out_axes=_AXES)


@partial(jax.jit, static_argnums=0)
def _rnn_spectrum(directions: int, steps: RNNSteps) -> Spectrum:
    def of_one(derivative: Array) -> Spectrum:
        W = steps.recurrent_kernel

        def jacobian(derivative: Array) -> Array:
            return rnn_jacobians(RNNSteps(W, derivative))

        count = jnp.asarray(len(derivative), W.dtype)
        return _spectrum(jacobian, derivative, (len(W), directions), count)

    one_sequence = steps.derivative.ndim == 2
    return (of_one if one_sequence else jax.vmap(of_one, 1, _AXES))(steps.derivative)


def _spectrum(
    jacobian: Callable[[Any], Array], steps: Any, shape: tuple[int, int], count: Array
) -> Spectrum:
    """Of one sequence's steps, each with its ``jacobian``, from directions of this shape."""
    size, n = shape

    def extend(product: tuple[Array, Array, Array], step: Any) -> tuple[Any, Array]:
        Q, growth, V = product
        J = jacobian(step)
        rounding = size * jnp.finfo(J.dtype).eps * norm((jnp.abs(J) @ jnp.abs(Q)).T)
        Q, R = _orthogonalized(J @ Q, rounding)  # [G16]
        growth, mixed = _graded(R, growth)
        return (Q, growth, mixed @ V), growth  # [G18]

    generic = jax.random.orthogonal(jax.random.key(0), size, dtype=count.dtype)[:, :n]
    start = (generic, jnp.zeros(n, count.dtype), jnp.eye(n, dtype=count.dtype))
    (_, growth, V), growths = jax.lax.scan(extend, start, steps)
    exponents = jnp.sort(jnp.where(count > 0, growth / count, jnp.nan), descending=True)
    return Spectrum(growths, exponents, _log_singular_values(growth, V))


def _orthogonalized(A: Array, rounding: Array) -> tuple[Array, Array]:
    """Q and R of A = Q R, zeros for a column of which no more than ``rounding`` is left."""

    def column(k: Array, QR: tuple[Array, Array]) -> tuple[Array, Array]:
        Q, R = QR  # zeros from column k on
        once = A[:, k] @ Q
        left = A[:, k] - Q @ once
        again = left @ Q
        left = left - Q @ again
        size = norm(left)
        kept = size > rounding[k]
        Q = Q.at[:, k].set(jnp.where(kept, left / jnp.where(kept, size, 1), 0))
        return Q, R.at[:, k].set(once + again).at[k, k].set(jnp.where(kept, size, 0))

    n = A.shape[1]
    return jax.lax.fori_loop(0, n, column, (jnp.zeros_like(A), jnp.zeros((n, n), A.dtype)))


def _graded(R: Array, growth: Array) -> tuple[Array, Array]:
    """``R diag(exp(growth))``, R upper triangular, as ``diag(exp(grown)) V``: grown and V.

    V has 1 or -1 on its diagonal, and nothing else in a row whose growth is lost.
    """
    diagonal = jnp.abs(jnp.diagonal(R))
    kept = diagonal > 0
    grown = jnp.where(kept, growth + jnp.log(diagonal), -jnp.inf)  # [G17]
    both = (grown[:, None] > -jnp.inf) & (growth > -jnp.inf)
    ratio = jnp.exp(jnp.where(both, growth - growth[:, None], -jnp.inf))
    V = R / jnp.where(kept, diagonal, 1)[:, None] * ratio
    return grown, jnp.triu(V, 1) + jnp.diag(jnp.where(jnp.diagonal(R) < 0, -1, 1).astype(R.dtype))


def _log_singular_values(growth: Array, V: Array) -> Array:
    """Of ``diag(exp(growth)) V``, the largest first: its rows are turned until orthogonal."""
    growth, V = _graded(jnp.linalg.qr(V.T, mode="r"), growth)
    order = jnp.argsort(growth, descending=True)
    growth, rows = growth[order], V[order]
    pairs = jnp.triu_indices(len(V), 1)

    def sweep(_: Any, rows: Array) -> Array:
        return jax.lax.scan(lambda rows, pair: (_turned(growth, rows, *pair), None), rows, pairs)[0]

    rows = jax.lax.fori_loop(0, SWEEPS, sweep, rows)
    return jnp.sort(growth + jnp.log(norm(rows)), descending=True)


def _turned(growth: Array, rows: Array, i: Array, j: Array) -> Array:
    """Rows i and j of ``diag(exp(growth)) rows`` turned in their plane until orthogonal.

    With a and b the rows before their scales and rho = exp(growth_j - growth_i) <= 1, the tangent
    t of the angle solves t^2 + 2 zeta t - 1 = 0 with zeta = (rho^2 b b' - a a') / (2 rho a b').
    """
    a, b = rows[i], rows[j]
    rho = jnp.where(growth[j] > -jnp.inf, jnp.exp(growth[j] - growth[i]), 0)
    difference, twice = rho**2 * (b @ b) - a @ a, 2 * (a @ b)
    size = jnp.abs(difference) + jnp.hypot(difference, rho * twice)
    t = jnp.where(difference < 0, -1, 1) * jnp.where(size > 0, twice / size, 0)  # over rho
    cosine = 1 / jnp.hypot(1, rho * t)
    return rows.at[i].set(cosine * (a - rho**2 * t * b)).at[j].set(cosine * (b + t * a))
