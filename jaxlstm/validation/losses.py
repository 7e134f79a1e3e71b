"""What embedding, logits and cross-entropy take."""

from typing import Any

from jaxlstm.types import ReadoutParams
from jaxlstm.validation.arrays import (
    check_array,
    check_classes,
    check_floating,
    check_rank,
    check_same_dtype,
    check_shape,
    check_type,
    shape_of,
)


def check_embedding(table: Any, characters: Any) -> None:
    """Requires arguments that ``embed`` takes."""
    check_rank("table", table, 2)
    check_classes("characters", characters, table.shape[0], "from the rows of table")


def check_logits(params: Any, hidden: Any) -> None:
    """Requires arguments that ``logits`` takes."""
    check_type("params", params, ReadoutParams)
    for name, rank in zip(ReadoutParams._fields, (2, 1), strict=True):
        check_rank(f"params.{name}", getattr(params, name), rank)
    H, K = params.kernel.shape
    check_shape("params.bias", params.bias, (K,), "[K]", "from the columns of params.kernel")
    check_array("hidden", hidden)
    if hidden.ndim == 0 or hidden.shape[-1] != H:
        raise ValueError(
            f"hidden: expected shape [..., {H}] (H = {H} from the rows of params.kernel), "
            f"got {shape_of(hidden)}."
        )
    for name, value in (("params.bias", params.bias), ("hidden", hidden)):
        check_floating(name, value)
        check_same_dtype(name, value, "params.kernel", params.kernel)


def check_cross_entropy(values: Any, targets: Any) -> None:
    """Requires arguments that ``cross_entropy`` takes."""
    check_array("logits", values)
    check_floating("logits", values)
    if values.ndim == 0:
        raise ValueError("logits: expected shape [..., K], got [].")
    check_classes("targets", targets, values.shape[-1], "from the last axis of the logits")
    check_shape("targets", targets, values.shape[:-1], "[...]", "from the logits' leading axes")
