"""What to do about a model's gradient flow: a line on each of three remedies, by its numbers."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlstm.gradient_flow.paths import norm
from jaxlstm.gradient_flow.report import GradientFlowReport, LayerFlow


class LayerAdvice(NamedTuple):
    """The numbers of one layer.

    Attributes:
        half_life: in how many steps the median unit forgets half of its cell state.
        forget_bias: what to add to the forget gate's bias for it to become the T of the inputs;
            not positive where it is longer already.
        exponent: the largest growth for each step in any direction, over the sequences.
        kernel_gains: the smallest and the largest singular value of the gates' recurrent kernels.
    """

    half_life: float
    forget_bias: float
    exponent: float
    kernel_gains: tuple[float, float]


class Advice(NamedTuple):
    """What to do, and the numbers of this model that say so.

    Attributes:
        layers: the numbers of each layer, the first layer first.
        clipping_norm: the median norm of the sequences' gradients, of all layers together.
        clipping_scale: what clipping there leaves of the largest of them, of 1.
        lines: for each layer on the forget bias and on an orthogonal recurrent kernel, then one on
            clipping.
    """

    layers: tuple[LayerAdvice, ...]
    clipping_norm: float
    clipping_scale: float
    lines: tuple[str, ...]


def advice(report: GradientFlowReport) -> Advice:
    """What the report's numbers suggest.

    Args:
        report: from ``gradient_flow_report``.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import advice, gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> print(advice(gradient_flow_report(params, jax.numpy.ones((7, 2, 3)))).lines[0])
    Forget bias: ...
    """
    layers = tuple(map(_of_layer, report.layers))
    by_layer = [layer.parameter_gradients for layer in report.layers]
    norms = np.asarray(norm(jnp.stack(by_layer, axis=-1)), np.float64)
    median, largest = float(np.median(norms)), float(norms.max())
    scale = min(1.0, median / largest) if largest > 0 else 1.0
    T = len(report.layers[0].gates)
    lines = [
        line if len(layers) == 1 else f"Layer {k}. {line}"
        for k, layer in enumerate(layers, start=1)
        for line in (_on_forgetting(T, layer), _on_the_kernel(layer))
    ]
    lines.append(
        f"Clipping: the largest gradient of a sequence has norm {largest:.3g}; clipping at the "
        f"median, {median:.3g}, leaves {scale:.3g} of it."
    )
    return Advice(layers, median, scale, tuple(lines))


def _of_layer(layer: LayerFlow) -> LayerAdvice:
    log_f = float(np.median(layer.log_forget))
    half_life = math.log(0.5) / log_f if log_f < 0 else math.inf
    forget_bias = _logit(math.log(0.5) / len(layer.gates)) - _logit(log_f)
    exponent = float(np.fmax.reduce(layer.spectrum.exponents, axis=None))
    gains = np.asarray(layer.kernel_singular_values)
    return LayerAdvice(half_life, forget_bias, exponent, (float(gains.min()), float(gains.max())))


def _on_forgetting(T: int, layer: LayerAdvice) -> str:
    forgets = f"Forget bias: the median unit forgets half in {layer.half_life:.3g} steps"
    if layer.forget_bias <= 0:
        return f"{forgets}, no fewer than the {T} of these inputs; leave it."
    return f"{forgets}; {layer.forget_bias:.3g} more would make it the {T} of these inputs."


def _on_the_kernel(layer: LayerAdvice) -> str:
    low, high = layer.kernel_gains
    return (
        f"Recurrent kernel: singular values from {low:.3g} to {high:.3g}, where an orthogonal one "
        f"has 1; the fastest direction grows by exp({layer.exponent:.3g}) a step."
    )


def _logit(log_p: float) -> float:
    """log(p / (1 - p)), of log p."""
    return log_p - math.log(-math.expm1(log_p)) if log_p < 0 else math.inf
