"""What one layer's flow comes to over the batch, by the distance from the loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from jaxlstm.gradient_flow.paths import cancellation, shares
from jaxlstm.gradient_flow.report import LayerFlow
from jaxlstm.validation import check_type


class Curves(NamedTuple):
    """At 0, 1, ..., T steps back from the loss, T the longest length, in float64.

    With lengths each sequence is counted back from its own last valid step, and only the sequences
    that are so long count at a distance, none of length 0. Norms, factors and bounds are medians
    over them. Shares are means, and with the cancellation leave out sequences in which no gradient
    arrives, so that shares add up to 1 wherever one arrives in any, and all are 0 elsewhere.

    Attributes:
        hidden: |dL/dh|, [T + 1].
        cell: |dL/dc|, [T + 1].
        crossings: shares of dL/dc with no crossing, which is the cell path, with 1, ..., R, and
            with more: [T + 1, R + 2].
        first_gates: shares of dL/dc by the gate i, f, g, o of the first crossing, [T + 1, 4].
        cancellation: the sum of the norms of dL/dc's parts over the norm of their sum, [T + 1].
        looseness: log10 of each bound over |t_1|: stepwise, uniform, Frobenius, [T + 1, 3]; of the
            sequences in which |t_1| is not 0, NaN if in none.
        survival: log10 of the product of the forget gates, by unit, [T + 1, H].
        spectral: the looseness of the tight bound, [T + 1]; None if the report has none.
    """

    hidden: Float[ndarray, " T"]
    cell: Float[ndarray, " T"]
    crossings: Float[ndarray, "T R"]
    first_gates: Float[ndarray, "T 4"]
    cancellation: Float[ndarray, " T"]
    looseness: Float[ndarray, "T 3"]
    survival: Float[ndarray, "T H"]
    spectral: Float[ndarray, " T"] | None = None


def curves(layer: LayerFlow) -> Curves:
    """Medians and means over the batch, the last state of each sequence first.

    Args:
        layer: of the report, with or without a batch.

    Raises:
        TypeError: something else than a layer's flow.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import curves, gradient_flow_report
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> report = gradient_flow_report(params, jax.numpy.ones((7, 2, 3)))
    >>> [float(share) for share in curves(report.layers[0]).crossings[0]]
    [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    check_type("layer", layer, LayerFlow)
    with jax.enable_x64(True):  # a report in float64 stays so wherever it is read
        part, cancelled = shares(layer.paths), cancellation(layer.paths).cell
    at, reached = _aligned(layer)
    crossed = at(part.crossed.cell)
    by_number = np.concatenate([at(part.cell_path.cell)[..., None], crossed.sum(2)], -1)
    arrives = reached & (by_number.sum(-1) != 0)
    measured = at(layer.bounds.measured)
    alive = reached & np.isfinite(measured)

    def loose(bound: Any) -> ndarray:
        beyond = np.where(alive, at(bound), 0) - np.where(alive, measured, 0)
        return _over(np.median, beyond, alive, np.nan) / np.log(10)

    return Curves(
        hidden=_over(np.median, at(layer.paths.total.hidden), reached),
        cell=_over(np.median, at(layer.paths.total.cell), reached),
        crossings=_over(np.mean, by_number, arrives),
        first_gates=_over(np.mean, crossed.sum(3), arrives),
        cancellation=_over(np.median, at(cancelled), arrives),
        looseness=np.stack([loose(bound) for bound in layer.bounds[1:]], -1),
        survival=_over(np.median, at(layer.log_survival), reached) / np.log(10),
        spectral=None if layer.spectral is None else loose(layer.spectral),
    )


def _aligned(layer: LayerFlow) -> tuple[Callable[[Any], ndarray], Bool[ndarray, "T B"]]:
    """What turns [T + 1, B, ...] to distances from each sequence's end, and which of them it has.

    Without a batch there is one of one sequence.
    """
    times, *batch = layer.bounds.measured.shape
    lengths = np.full(batch, times - 1) if layer.lengths is None else np.asarray(layer.lengths)
    lengths = lengths.reshape(-1)
    distance = np.arange(lengths.max() + 1)[:, None]
    reached = (distance <= lengths) & (lengths > 0)
    state = np.where(reached, lengths - distance, 0)

    def at(x: Any) -> ndarray:
        values = np.asarray(x, np.float64)
        return (values if batch else values[:, None])[state, np.arange(len(lengths))]

    return at, reached


def _over(
    statistic: Callable[..., Any], x: ndarray, counted: Bool[ndarray, "T B"], of_none: float = 0.0
) -> ndarray:
    """The statistic of the sequences that count, at every distance of [T + 1, B, ...]."""
    if counted.all():
        return statistic(x, axis=1)
    rows = zip(x, counted, strict=True)
    none = np.full(x.shape[2:], of_none)
    return np.stack([statistic(row[some], axis=0) if some.any() else none for row, some in rows])
