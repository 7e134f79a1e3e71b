"""What one layer's flow comes to over the batch, by the distance from the loss."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from jaxlstm.gradient_flow.paths import cancellation, shares
from jaxlstm.gradient_flow.report import LayerFlow


class Curves(NamedTuple):
    """At 0, 1, ..., T steps back from the loss, in float64.

    Norms, factors and bounds are medians over the batch. Shares are means, so that they add up to 1
    wherever a gradient arrives in every sequence.

    Attributes:
        hidden: |dL/dh|, [T + 1].
        cell: |dL/dc|, [T + 1].
        crossings: shares of dL/dc with no crossing, which is the cell path, with 1, ..., R, and
            with more: [T + 1, R + 2].
        first_gates: shares of dL/dc by the gate i, f, g, o of the first crossing, [T + 1, 4].
        cancellation: the sum of the norms of dL/dc's parts over the norm of their sum, [T + 1].
        looseness: log10 of each bound over |t_1|: stepwise, uniform, Frobenius, [T + 1, 3].
        survival: log10 of the product of the forget gates, by unit, [T + 1, H].
    """

    hidden: Float[ndarray, " T"]
    cell: Float[ndarray, " T"]
    crossings: Float[ndarray, "T R"]
    first_gates: Float[ndarray, "T 4"]
    cancellation: Float[ndarray, " T"]
    looseness: Float[ndarray, "T 3"]
    survival: Float[ndarray, "T H"]


def curves(layer: LayerFlow) -> Curves:
    """Medians and means over the batch, the last state first.

    Args:
        layer: of the report, with or without a batch.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import curves, gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> report = gradient_flow_report(params, jax.numpy.ones((7, 2, 3)))
    >>> [float(share) for share in curves(report.layers[0]).crossings[0]]
    [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    paths, bounds = layer.paths, layer.bounds
    with jax.enable_x64(True):  # a report in float64 stays so wherever it is read
        part, cancelled = shares(paths), cancellation(paths)
    crossed = part.crossed.cell
    one_sequence = paths.total.hidden.ndim == 1

    def back(x: Array) -> ndarray:
        """The last state first, and the batch second."""
        reversed_ = np.asarray(x, np.float64)[::-1]
        return reversed_[:, None] if one_sequence else reversed_

    by_number = np.concatenate([back(part.cell_path.cell)[..., None], back(crossed).sum(2)], -1)
    with np.errstate(invalid="ignore"):  # where both are lost, neither is looser
        looseness = [back(bound) - back(bounds.measured) for bound in bounds[1:]]
    return Curves(
        hidden=np.median(back(paths.total.hidden), axis=1),
        cell=np.median(back(paths.total.cell), axis=1),
        crossings=by_number.mean(1),
        first_gates=back(crossed).sum(3).mean(1),
        cancellation=np.median(back(cancelled.cell), axis=1),
        looseness=np.median(np.stack(looseness, -1), axis=1) / np.log(10),
        survival=np.median(back(layer.log_survival), axis=1) / np.log(10),
    )
