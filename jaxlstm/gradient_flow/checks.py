"""What the gradient's flow asks of its arguments beyond ``jaxlstm.lstm``, one sentence each."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.types import LSTMParams
from jaxlstm.validation import check_like, check_size, is_known


def check_flow(
    layers: Sequence[LSTMParams],
    inputs: Any,
    states: Sequence[Any],
    d_h: Any,
    lengths: Any,
    crossings: Any,
    directions: Any,
) -> None:
    """Requires arguments of a report, of which ``lstm`` takes the first, before it runs."""
    check_precision("inputs", inputs)
    check_some("inputs", inputs)
    if lengths is not None and is_known(lengths) and not np.any(lengths):
        raise ValueError("lengths: expected at least one above 0, got none.")
    last = layers[-1].recurrent_kernel
    if d_h is not None:
        shape, letters = _of_state(inputs.shape[1:-1], len(last))
        check_like("d_h", d_h, shape, letters, "as the last layer has", ("inputs", inputs))
    check_size("crossings", crossings)
    check_directions(directions, 2 * min(len(layer.recurrent_kernel) for layer in layers))
    _check_all_finite(layers, inputs, states, d_h, lengths)


def check_precision(name: str, value: Any) -> None:
    """Requires a dtype of which QR and singular values are known."""
    if value.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name}: expected dtype float32 or float64, got {value.dtype}.")


def check_some(name: str, value: Any) -> None:
    """Requires of [T, B, ...] or [T, ...] a step and, in a batch, a sequence."""
    for size, counted in zip(value.shape[:-1], ("step", "sequence"), strict=False):
        if not size:
            raise ValueError(f"{name}: expected at least one {counted}, got none.")


def check_directions(directions: Any, size: int) -> None:
    """Requires a number of directions that a state of this size has."""
    check_size("directions", directions)
    if directions > size:
        raise ValueError(f"directions: expected at most {size}, got {directions}.")


def check_cotangent(name: str, cotangent: Any, like: Any, *, every: bool = False) -> None:
    """Requires an array of the shape and dtype of the states [T, B, H] after the last step."""
    shape, letters = _of_state(like.shape[1:-1], like.shape[-1])
    if every:
        shape, letters = like.shape, letters.replace("[", "[T, ")
    check_like(name, cotangent, shape, letters, "as the steps have", ("the state", like))


def _of_state(batch: tuple[int, ...], H: int) -> tuple[tuple[int, ...], str]:
    """The shape of a state, and its letters."""
    return (*batch, H), "[B, H]" if batch else "[H]"


def _check_all_finite(layers: Any, inputs: Any, states: Any, d_h: Any, lengths: Any) -> None:
    """Requires finite numbers, of the inputs in valid steps, where they are known."""
    for k, (layer, state) in enumerate(zip(layers, states, strict=True)):
        of, number = ("params", "") if len(layers) == 1 else (f"layers[{k}]", f"s[{k}]")
        named = {of: layer, f"initial_state{number}": state}
        for name, leaves in named.items():
            for field, leaf in {} if leaves is None else leaves._asdict().items():
                _check_finite(f"{name}.{field}", leaf)
    if d_h is not None:
        _check_finite("d_h", d_h)
    if lengths is None:
        _check_finite("inputs", inputs)
    elif is_known(inputs) and is_known(lengths):
        valid = np.arange(len(inputs)).reshape(-1, *(1,) * np.ndim(lengths)) < np.asarray(lengths)
        _check_finite("inputs", np.asarray(inputs)[valid])


def _check_finite(name: str, values: jax.Array | np.ndarray) -> None:
    if not is_known(values):
        return
    numbers = np.asarray(values, np.float64)
    wrong = numbers[~np.isfinite(numbers)]
    if wrong.size:
        raise ValueError(f"{name}: expected finite numbers, got {wrong[0]}.")
