"""The gradient's flow in a layer of one's own on real inputs, and what to do about it."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.gradient_flow.bounds import PathBounds, path_bounds
from jaxlstm.gradient_flow.paths import PathNorms, norm, path_norms
from jaxlstm.gradient_flow.reverse import state_gradients
from jaxlstm.gradient_flow.spectra import Spectrum, lstm_spectrum
from jaxlstm.gradient_flow.steps import LSTMSteps, linearize
from jaxlstm.masks import keep
from jaxlstm.sequence import lstm
from jaxlstm.types import Activations, LSTMParams, LSTMState


class GradientFlowReport(NamedTuple):
    """Of a loss on the last hidden state, by the states k = 0, ..., T; a pytree.

    Attributes:
        paths: the norms of the gradient and of its parts, from which ``shares`` and
            ``cancellation`` follow.
        gates: |dL/dz_k| by gate, in the order i, f, g, o: [T, B, 4] ([T, 4] unbatched).
        bounds: log |t_1| and its bounds, [T + 1, B].
        log_survival: the logarithm of f_{k+1} * ... * f_T by unit, [T + 1, B, H].
        log_forget: the mean of log f over all valid steps, by unit: [H].
        spectrum: of as many directions as asked for.
        parameter_gradients: the norm of each sequence's gradient of all parameters, [B].
        kernel_singular_values: of each gate's recurrent kernel, the largest first: [4, H].
    """

    paths: PathNorms
    gates: Float[Array, "*T 4"]
    bounds: PathBounds
    log_survival: Float[Array, "*T H"]
    log_forget: Float[Array, " H"]
    spectrum: Spectrum
    parameter_gradients: Float[Array, "*B"]
    kernel_singular_values: Float[Array, "4 H"]


class Advice(NamedTuple):
    """What to do, one line each, and the numbers of this model that say so.

    Attributes:
        half_life: in how many steps the median unit forgets half of its cell state.
        forget_bias: what to add to the forget gate's bias for it to become the T of the inputs;
            not positive where it is longer already.
        clipping_norm: the median norm of the sequences' gradients.
        clipping_scale: what clipping there leaves of the largest of them, of 1.
        exponent: the largest growth for each step in any direction, over the sequences.
        kernel_gains: the smallest and the largest singular value of the gates' recurrent kernels.
        lines: on the forget bias, on clipping, on an orthogonal recurrent kernel.
    """

    half_life: float
    forget_bias: float
    clipping_norm: float
    clipping_scale: float
    exponent: float
    kernel_gains: tuple[float, float]
    lines: tuple[str, str, str]


def gradient_flow_report(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    d_h: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    crossings: int = 3,
    directions: int = 1,
    activations: Activations = Activations(),
) -> GradientFlowReport:
    """What becomes of the gradient in one layer, on its way back from its last hidden state.

    Memory is linear in T. Of a stack, give each layer its own inputs: the outputs of the one below.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), T at least 1, of float32 or float64.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        d_h: dL/dh of the last valid step; if None, the same for all units and of norm 1.
        lengths: as in ``jaxlstm.lstm``.
        resets: as in ``jaxlstm.lstm``.
        crossings: as in ``path_parts``.
        directions: as in ``lstm_spectrum``.
        activations: of the candidate and the cell.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> gradient_flow_report(params, jax.numpy.ones((7, 2, 3))).gates.shape
    (7, 2, 4)
    """
    masks = {"lengths": lengths, "resets": resets}
    steps = linearize(params, inputs, initial_state, **masks, activations=activations)
    d_h = _even_cotangent(steps) if d_h is None else d_h
    log_survival, log_forget = _log_forgets(steps)
    return GradientFlowReport(
        path_norms(steps, d_h, crossings=crossings),
        norm(state_gradients(steps, d_h).gates),
        path_bounds(steps, d_h),
        log_survival,
        log_forget,
        lstm_spectrum(steps, directions=directions),
        _parameter_gradients(activations, params, inputs, initial_state, lengths, resets, d_h),
        _singular_values_by_gate(steps.recurrent_kernel),
    )


def _even_cotangent(steps: LSTMSteps) -> Array:
    """The same for all units, of norm 1."""
    like = steps.each.derivatives.dh_dc
    return jnp.full(like.shape[1:], like.shape[-1] ** -0.5, like.dtype)


def _singular_values_by_gate(W: Float[Array, "H G"]) -> Float[Array, "4 H"]:
    return jnp.linalg.svd(jnp.stack(jnp.split(W, 4, axis=-1)), compute_uv=False)


@jax.jit
def _log_forgets(steps: LSTMSteps) -> tuple[Array, Array]:
    """By unit: the sum of log f from k + 1 to T, [T + 1, B, H], and the mean of it all, [H]."""
    f, (_, valid, carried) = steps.each.derivatives.dc_dc_tm1, steps.each
    from_end = jnp.cumsum(keep(valid, jnp.log(keep(carried, f)))[::-1], axis=0)[::-1]
    log_survival = jnp.concatenate([from_end, jnp.zeros_like(from_end[:1])])
    log_f = keep(valid, jnp.log(f)).reshape(-1, f.shape[-1])
    count = jnp.asarray(len(log_f) if valid is None else valid.sum(), f.dtype)
    return log_survival, log_f.sum(0) / count


@partial(jax.jit, static_argnums=0)
def _parameter_gradients(activations: Activations, params: LSTMParams, *sequences: Any) -> Array:
    """The norm of each sequence's own gradient of the parameters.

    Of the sequences come inputs, initial state, lengths, resets and the cotangent d_h.
    """

    def of_one(x: Array, state: Any, length: Any, reset: Any, d_h: Array) -> Array:
        def loss(params: LSTMParams) -> Array:
            masks = {"lengths": length, "resets": reset}
            return jnp.vdot(d_h, lstm(params, x, state, **masks, activations=activations)[1].hidden)

        return norm(ravel_pytree(jax.grad(loss)(params))[0])

    of_all = of_one if sequences[0].ndim == 2 else jax.vmap(of_one, (1, 0, 0, 1, 0))
    return of_all(*sequences)


def advice(report: GradientFlowReport) -> Advice:
    """What the report's numbers suggest, a line on each of three remedies.

    Args:
        report: from ``gradient_flow_report``.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import advice, gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> print(advice(gradient_flow_report(params, jax.numpy.ones((7, 2, 3)))).lines[0])
    Forget bias: ...
    """
    T = len(report.gates)
    log_f = float(np.median(report.log_forget))
    half_life = math.log(0.5) / log_f if log_f < 0 else math.inf
    wanted = math.log(0.5) / T
    forget_bias = _logit(wanted) - _logit(log_f)
    norms = np.asarray(report.parameter_gradients, np.float64)
    median, largest = float(np.median(norms)), float(norms.max())
    scale = min(1.0, median / largest) if largest > 0 else 1.0
    exponent = float(np.fmax.reduce(report.spectrum.exponents, axis=None))
    gains = np.asarray(report.kernel_singular_values)
    low, high = float(gains.min()), float(gains.max())
    lines = (
        _on_forgetting(T, half_life, forget_bias),
        f"Clipping: the largest gradient of a sequence has norm {largest:.3g}; clipping at the "
        f"median, {median:.3g}, leaves {scale:.3g} of it.",
        f"Recurrent kernel: singular values from {low:.3g} to {high:.3g}, where an orthogonal one "
        f"has 1; the fastest direction grows by exp({exponent:.3g}) a step.",
    )
    return Advice(half_life, forget_bias, median, scale, exponent, (low, high), lines)


def _on_forgetting(T: int, half_life: float, forget_bias: float) -> str:
    forgets = f"Forget bias: the median unit forgets half in {half_life:.3g} steps"
    if forget_bias <= 0:
        return f"{forgets}, no fewer than the {T} of these inputs; leave it."
    return f"{forgets}; {forget_bias:.3g} more would make it the {T} of these inputs."


def _logit(log_p: float) -> float:
    """log(p / (1 - p)), of log p."""
    return log_p - math.log(-math.expm1(log_p)) if log_p < 0 else math.inf
