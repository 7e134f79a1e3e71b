"""The path through the output gates alone, t_1, and what bounds it: [G11] to [G15], in logarithms.

Over long times t_1 and its bounds leave the range of any float, so each is given by its logarithm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.gradient_flow.checks import check_precision
from jaxlstm.gradient_flow.paths import norm
from jaxlstm.gradient_flow.reverse import after_first, checked_cotangents
from jaxlstm.gradient_flow.steps import LSTMSteps, Step, for_each_sequence
from jaxlstm.masks import keep


class OutputGatePath(NamedTuple):
    """t_1 at h_k for k = 0, ..., T: ``direction * exp(log_norm)``; a pytree.

    Attributes:
        direction: of norm 1, zeros where t_1 is: [T + 1, B, H] ([T + 1, H] unbatched).
        log_norm: log |t_1|, minus infinity where it is zero: [T + 1, B].
    """

    direction: Float[Array, "*T H"]
    log_norm: Float[Array, "*T"]


class PathBounds(NamedTuple):
    """Logarithms of |t_1| and of bounds on it for k = 0, ..., T, each [T + 1, B]; a pytree.

    A bound less ``measured`` is how loose it is, in natural logarithms.

    Attributes:
        measured: log |t_1|.
        stepwise: [G14], each step's own |K_j| |W_o| in spectral norms.
        uniform: [G13], document 003's, with K the largest over the steps of the path.
        frobenius: [G12], (33) of document 000, for |psi| <= 1: not for psi = "identity".
    """

    measured: Float[Array, "*T"]
    stepwise: Float[Array, "*T"]
    uniform: Float[Array, "*T"]
    frobenius: Float[Array, "*T"]


def output_gate_path(steps: LSTMSteps, d_h: ArrayLike) -> OutputGatePath:
    """t_1, the gradient along the one path through every step's output gate [G11].

    Args:
        steps: from ``linearize``. For L_t, those up to step t.
        d_h: dL/dh of the last step, with lengths of the last valid one, [B, H] ([H] unbatched).

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.
    """
    return _output_gate_path(steps, _checked(steps, d_h))


def path_bounds(steps: LSTMSteps, d_h: ArrayLike) -> PathBounds:
    """|t_1| beside both documents' bounds and one of each step's own norms.

    Arguments and errors are those of ``output_gate_path``.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import linearize, path_bounds
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> found = path_bounds(linearize(params, jax.numpy.ones((7, 3))), jax.numpy.ones(5))
    >>> rising = jax.numpy.stack(found)[:, 0]
    >>> bool((rising[:-1] < rising[1:]).all())
    True
    """
    return _path_bounds(steps, _checked(steps, d_h))


def spectral_bound(steps: LSTMSteps, d_h: ArrayLike) -> Float[Array, "*T"]:
    """The logarithm of the tight bound [G15], [T + 1, B]: some L' of the same norm attains it.

    It takes an H x H product and its singular values at every step.

    Arguments and errors are those of ``output_gate_path``.
    """
    return _spectral_bound(steps, _checked(steps, d_h))


def _checked(steps: LSTMSteps, d_h: ArrayLike) -> Array:
    checked = checked_cotangents(steps, d_h, None, None).final.hidden
    check_precision("steps", checked)
    return checked


@jax.jit
def _output_gate_path(steps: LSTMSteps, d_h: Array) -> OutputGatePath:
    def of_one(steps: LSTMSteps, d_h: Array) -> OutputGatePath:
        W_o = _output_kernel(steps)

        def back(path: OutputGatePath, step: Step) -> tuple[OutputGatePath, OutputGatePath]:
            row = (path.direction * step.derivatives.dh_dzo) @ W_o.T  # [G11]
            before = _unit(keep(step.carried, row), path.log_norm)
            return keep(step.valid, before, path), path

        first, rest = jax.lax.scan(back, _unit(d_h, 0.0), steps.each, reverse=True)
        return jax.tree.map(after_first, first, rest)

    return for_each_sequence(of_one, steps, d_h)


def _unit(row: Array, log_scale: Any) -> OutputGatePath:
    """exp(log_scale) row, taken apart."""
    size = norm(row)
    direction = jnp.where(size > 0, row / size, 0)
    return OutputGatePath(direction, log_scale + jnp.log(size))


@jax.jit
def _path_bounds(steps: LSTMSteps, d_h: Array) -> PathBounds:
    measured = _output_gate_path(steps, d_h).log_norm
    stepwise, uniform, frobenius = for_each_sequence(_bounds_of_one, steps, d_h)
    return PathBounds(measured, stepwise, uniform, frobenius)


def _bounds_of_one(steps: LSTMSteps, d_h: Array) -> tuple[Array, Array, Array]:
    valid, carried = steps.each.valid, steps.each.carried
    K = keep(valid, keep(carried, jnp.abs(steps.each.derivatives.dh_dzo).max(-1)))
    used = jnp.ones_like(K) if valid is None else valid.astype(K.dtype)
    W_o = _output_kernel(steps)
    n, spectral = len(W_o), jnp.log(jnp.linalg.norm(W_o, 2))
    distance = _sum_from_end(used)
    stepwise = _sum_from_end(_times(used, jnp.log(K) + spectral))  # [G14]
    largest = jax.lax.cummax(K, reverse=True)
    uniform = _times(distance, jnp.log(largest) + spectral)  # [G13]
    frobenius = _times(distance, jnp.log(n / 2 * jnp.linalg.norm(W_o)))  # [G12]
    from_loss = jnp.log(norm(d_h))
    stepwise, uniform, frobenius = (
        from_loss + jnp.append(log, jnp.zeros_like(from_loss))
        for log in (stepwise, uniform, frobenius)
    )
    return stepwise, uniform, frobenius


def _times(count: Array, log: Array) -> Array:
    """``count * log``, 0 for none even of minus infinity."""
    return jnp.where(count > 0, count * log, 0)


def _sum_from_end(x: Array) -> Array:
    return jnp.cumsum(x[::-1])[::-1]


@jax.jit
def _spectral_bound(steps: LSTMSteps, d_h: Array) -> Array:
    def of_one(steps: LSTMSteps, d_h: Array) -> Array:
        W_o = _output_kernel(steps)

        def back(scaled: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
            product, log_scale = scaled
            longer = keep(step.carried, (product * step.derivatives.dh_dzo) @ W_o.T)
            size = jnp.abs(longer).max()
            longer = jnp.where(size > 0, longer / size, 0)
            before = keep(step.valid, (longer, log_scale + jnp.log(size)), scaled)
            return before, _log_norm(scaled)

        one = (jnp.eye(len(W_o), dtype=W_o.dtype), jnp.zeros((), W_o.dtype))
        first, rest = jax.lax.scan(back, one, steps.each, reverse=True)
        return jnp.log(norm(d_h)) + after_first(_log_norm(first), rest)  # [G15]

    return for_each_sequence(of_one, steps, d_h)


def _log_norm(scaled: tuple[Array, Array]) -> Array:
    """The logarithm of the spectral norm of exp(log_scale) product."""
    product, log_scale = scaled
    return log_scale + jnp.log(jnp.linalg.norm(product, 2))


def _output_kernel(steps: LSTMSteps) -> Float[Array, "H H"]:
    return jnp.split(steps.recurrent_kernel, 4, axis=-1)[3]
