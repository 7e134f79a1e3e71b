"""What to do about a model's gradient flow: a line on each of three remedies, by its numbers."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_flow.paths import norm
from jaxlstm.gradient_flow.report import GradientFlowReport, LayerFlow
from jaxlstm.validation import check_type

STEADY = 0.01
"""Growth for each step up to which no direction counts as growing: e in 100 steps."""
EVEN = 2.0
"""How far from 1 singular values may be, as a factor, without a word."""


class LayerAdvice(NamedTuple):
    """The numbers of one layer.

    Attributes:
        half_life: in how many steps the median unit forgets half of its cell state.
        forget_bias: what to add to the forget gate's bias for it to become the longest length of
            the inputs, were the gates to change by nothing else; not positive where it is longer
            already.
        exponent: the largest growth for each step in any direction, the median over the sequences
            as in the tables of ``jaxlstm flow``.
        kernel_gains: the smallest and the largest singular value of the gates' recurrent kernels.
        kernel_scale: what to multiply the recurrent kernel by: 1, or less where ``exponent`` is
            above ``STEADY``, for no gain above 1 and, to first order, no growth.
    """

    half_life: float
    forget_bias: float
    exponent: float
    kernel_gains: tuple[float, float]
    kernel_scale: float


class Advice(NamedTuple):
    """What to do, and the numbers of this model that say so.

    Attributes:
        layers: the numbers of each layer, the first layer first.
        clipping_norm: the median norm of single sequences' gradients, of all layers together, for
            the dL/dh that the report was given. That of a batch's mean is no larger than the
            sequences' mean norm.
        clipping_scale: what clipping there leaves of the largest of them, of 1.
        lines: for each layer on the forget bias and on the recurrent kernel, then, of two sequences
            and more, one on clipping.
    """

    layers: tuple[LayerAdvice, ...]
    clipping_norm: float
    clipping_scale: float
    lines: tuple[str, ...]


def advice(report: GradientFlowReport) -> Advice:
    """What the report's numbers suggest; sequences of length 0 do not count.

    Args:
        report: from ``gradient_flow_report``.

    Raises:
        TypeError: something else than a report.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import advice, gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> print(advice(gradient_flow_report(params, jax.numpy.ones((7, 2, 3)))).lines[0])
    Forget bias: ...
    """
    check_type("report", report, GradientFlowReport)
    lengths = _lengths(report.layers[0])
    T, some = int(lengths.max()), lengths > 0
    layers = tuple(_of_layer(layer, T, some) for layer in report.layers)
    by_layer = jnp.stack([layer.parameter_gradients for layer in report.layers], axis=-1)
    norms = np.asarray(norm(by_layer), np.float64).reshape(-1)[some]
    median, largest = float(np.median(norms)), float(norms.max())
    scale = 1.0 if largest == 0 else float(np.minimum(1.0, median / largest))
    lines = [
        line if len(layers) == 1 else f"Layer {k}. {line}"
        for k, layer in enumerate(layers, start=1)
        for line in (_on_forgetting(T, layer), _on_the_kernel(layer))
    ]
    if len(norms) > 1:
        lines.append(_on_clipping(median, largest, scale))
    return Advice(layers, median, scale, tuple(lines))


def _lengths(layer: LayerFlow) -> ndarray:
    """Of all sequences, one if there is no batch."""
    T, *batch, _ = layer.gates.shape
    given = np.full(batch, T) if layer.lengths is None else np.asarray(layer.lengths)
    return given.reshape(-1)


def _of_layer(layer: LayerFlow, T: int, some: ndarray) -> LayerAdvice:
    log_f = float(np.median(layer.log_forget))
    half_life = math.log(0.5) / log_f if log_f else math.inf
    forget_bias = _logit(math.log(0.5) / T) - _logit(log_f)
    exponents = np.asarray(layer.spectrum.exponents, np.float64)
    exponent = float(np.median(exponents.reshape(len(some), -1).max(1)[some]))
    gains = np.asarray(layer.kernel_singular_values, np.float64)
    low, high = float(gains.min()), float(gains.max())
    scale = min(math.exp(-exponent), 1 / high) if exponent > STEADY and high else 1.0
    return LayerAdvice(half_life, forget_bias, exponent, (low, high), scale)


def _on_forgetting(T: int, layer: LayerAdvice) -> str:
    if math.isnan(layer.half_life) or layer.half_life <= 0:
        return _unknown("Forget bias", "the median unit's half-life", layer.half_life)
    forgets = f"Forget bias: the median unit forgets half in {layer.half_life:.3g} steps"
    if layer.forget_bias <= 0:
        return f"{forgets}, no fewer than the {T} of the longest sequence; leave it."
    return (
        f"{forgets}; before training, {layer.forget_bias:.3g} more would make it about the {T} "
        "steps of the longest sequence."
    )


def _on_the_kernel(layer: LayerAdvice) -> str:
    (low, high), exponent = layer.kernel_gains, layer.exponent
    if math.isnan(exponent) or exponent == math.inf or not math.isfinite(high):
        return _unknown("Recurrent kernel", "the fastest direction's growth", exponent)
    found = (
        f"Recurrent kernel: singular values from {low:.3g} to {high:.3g}, where an orthogonal one "
        f"has 1; the fastest direction is multiplied by {math.exp(exponent):.3g} a step"
    )
    if exponent > STEADY:
        return f"{found}; before training, start from {layer.kernel_scale:.3g} times the kernel."
    if low >= 1 / EVEN and high <= EVEN:
        return f"{found}; leave it."
    return f"{found}; once trained, leave it; before training, start from an orthogonal one."


def _on_clipping(median: float, largest: float, scale: float) -> str:
    if not math.isfinite(largest):
        return _unknown("Clipping", "the largest gradient's norm", largest)
    return (
        f"Clipping: the largest gradient of a single sequence has norm {largest:.3g}; clipping at "
        f"their median, {median:.3g}, leaves {scale:.3g} of it."
    )


def _unknown(remedy: str, what: str, number: float) -> str:
    """There is nothing to say by this number."""
    return f"{remedy}: {what} is {number} in this dtype, by which nothing can be advised."


def _logit(log_p: float) -> float:
    """log(p / (1 - p)), of log p."""
    return log_p - math.log(-math.expm1(log_p)) if log_p else math.inf
