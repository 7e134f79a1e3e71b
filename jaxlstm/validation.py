"""The public edge: every ValueError and TypeError about arguments, before anything is compiled.

Each says in one sentence what was expected and what came.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import DTypeLike

from jaxlstm.types import Activations, LSTMParams, LSTMState, ReadoutParams

ACTIVATION_NAMES = ("tanh", "sigmoid", "identity")
DTYPES = ("float64", "float32", "float16", "bfloat16")


def check_size(name: str, size: Any) -> None:
    """Requires a whole number of at least 1."""
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
        raise TypeError(f"{name}: expected a whole number, got {size!r}.")
    if size < 1:
        raise ValueError(f"{name}: expected at least 1, got {size}.")


def check_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Requires a floating dtype that JAX can hold now, and returns it."""
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known.name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}.")
    _check_64_bits("dtype", known)
    return known


def _check_64_bits(name: str, dtype: Any) -> None:
    if dtype == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"{name}: float64 needs 64-bit mode: `with jax.enable_x64(True):`.")


def check_activations(activations: Any) -> None:
    """Requires an Activations of known names."""
    _check_type("activations", activations, Activations)
    for role in ("candidate", "cell"):
        name = getattr(activations, role)
        if name not in ACTIVATION_NAMES:
            expected = ", ".join(map(repr, ACTIVATION_NAMES))
            raise ValueError(f"activations.{role}: expected one of {expected}, got {name!r}.")


def check_params(params: Any) -> tuple[int, int]:
    """Requires parameters that fit each other; returns D and H."""
    _check_type("params", params, LSTMParams)
    for name, rank in zip(LSTMParams._fields, (2, 2, 1), strict=True):
        _check_array(f"params.{name}", getattr(params, name))
        _check_rank(f"params.{name}", getattr(params, name), rank)
        _check_floating(f"params.{name}", getattr(params, name))
    D, H = params.input_kernel.shape[0], params.recurrent_kernel.shape[0]
    because = f"with H = {H} from the rows of params.recurrent_kernel"
    _check_shape("params.input_kernel", params.input_kernel, (D, 4 * H), "[D, 4H]", because)
    _check_shape("params.recurrent_kernel", params.recurrent_kernel, (H, 4 * H), "[H, 4H]", because)
    _check_shape("params.bias", params.bias, (4 * H,), "[4H]", because)
    for name in ("recurrent_kernel", "bias"):
        _check_same_dtype(
            f"params.{name}", getattr(params, name), "params.input_kernel", params.input_kernel
        )
    return D, H


def check_step(params: Any, state: Any, x_t: Any, activations: Any) -> None:
    """Requires arguments that ``step`` takes."""
    check_activations(activations)
    D, H = check_params(params)
    _check_array("x_t", x_t)
    if x_t.ndim not in (1, 2) or x_t.shape[-1] != D:
        raise ValueError(
            f"x_t: expected shape [B, {D}] or [{D}] (D = {D} from the rows of "
            f"params.input_kernel), got {_shape(x_t)}."
        )
    _check_floating("x_t", x_t)
    _check_same_dtype("x_t", x_t, "params.input_kernel", params.input_kernel)
    _check_state("state", state, (*x_t.shape[:-1], H), params)


def check_state(name: str, state: Any, params: LSTMParams) -> None:
    """Requires a state, of one sequence or of a batch, that fits the parameters."""
    _check_type(name, state, LSTMState)
    _check_array(f"{name}.hidden", state.hidden)
    H = params.recurrent_kernel.shape[0]
    _check_state(name, state, (*state.hidden.shape[:-1][-1:], H), params)


def check_step_masks(valid_t: Any, reset_t: Any, batch: tuple[int, ...]) -> None:
    """Requires masks of one step: a bool for each sequence, or None."""
    letters = "[B]" if batch else "[]"
    for name, mask in (("valid_t", valid_t), ("reset_t", reset_t)):
        if mask is not None:
            _check_array(name, mask)
            _check_mask(name, mask, batch, letters, "from x_t's batch")


def check_sequence(
    params: Any, inputs: Any, initial_state: Any, lengths: Any, resets: Any, activations: Any
) -> None:
    """Requires arguments that ``lstm`` takes."""
    check_activations(activations)
    D, H = check_params(params)
    _check_array("inputs", inputs)
    if inputs.ndim not in (2, 3) or inputs.shape[-1] != D:
        raise ValueError(
            f"inputs: expected shape [T, B, {D}] or [T, {D}] (D = {D} from the rows of "
            f"params.input_kernel), got {_shape(inputs)}."
        )
    _check_floating("inputs", inputs)
    _check_same_dtype("inputs", inputs, "params.input_kernel", params.input_kernel)
    time, batch = inputs.shape[0], inputs.shape[1:-1]
    if initial_state is not None:
        _check_state("initial_state", initial_state, (*batch, H), params)
    if lengths is not None:
        _check_lengths(lengths, time, batch)
    if resets is not None:
        _check_resets(resets, (time, *batch))


def check_embedding(table: Any, characters: Any) -> None:
    """Requires arguments that ``embed`` takes."""
    _check_array("table", table)
    _check_rank("table", table, 2)
    _check_floating("table", table)
    _check_classes("characters", characters, table.shape[0], "from the rows of table")


def check_logits(params: Any, hidden: Any) -> None:
    """Requires arguments that ``logits`` takes."""
    _check_type("params", params, ReadoutParams)
    for name, rank in zip(ReadoutParams._fields, (2, 1), strict=True):
        _check_array(f"params.{name}", getattr(params, name))
        _check_rank(f"params.{name}", getattr(params, name), rank)
        _check_floating(f"params.{name}", getattr(params, name))
    H, K = params.kernel.shape
    _check_shape("params.bias", params.bias, (K,), "[K]", "from the columns of params.kernel")
    _check_array("hidden", hidden)
    if hidden.ndim == 0 or hidden.shape[-1] != H:
        raise ValueError(
            f"hidden: expected shape [..., {H}] (H = {H} from the rows of params.kernel), "
            f"got {_shape(hidden)}."
        )
    for name, value in (("params.bias", params.bias), ("hidden", hidden)):
        _check_floating(name, value)
        _check_same_dtype(name, value, "params.kernel", params.kernel)


def check_cross_entropy(values: Any, targets: Any) -> None:
    """Requires arguments that ``cross_entropy`` takes."""
    _check_array("logits", values)
    _check_floating("logits", values)
    if values.ndim == 0:
        raise ValueError("logits: expected shape [..., K], got [].")
    _check_classes("targets", targets, values.shape[-1], "from the last axis of the logits")
    _check_shape("targets", targets, values.shape[:-1], "[...]", "from the logits' leading axes")


def _check_classes(name: str, classes: Any, count: int, because: str) -> None:
    _check_array(name, classes)
    _check_integers(name, classes)
    _check_range(name, classes, 0, count - 1, f"K - 1 = {count - 1} {because}")


def _check_state(name: str, state: Any, shape: tuple[int, ...], params: LSTMParams) -> None:
    _check_type(name, state, LSTMState)
    letters = "[B, H]" if len(shape) == 2 else "[H]"
    for field, leaf in zip(LSTMState._fields, state, strict=True):
        _check_array(f"{name}.{field}", leaf)
        because = "from the inputs and params.recurrent_kernel"
        _check_shape(f"{name}.{field}", leaf, shape, letters, because)
        _check_floating(f"{name}.{field}", leaf)
        _check_same_dtype(f"{name}.{field}", leaf, "params.input_kernel", params.input_kernel)


def _check_lengths(lengths: Any, time: int, batch: tuple[int, ...]) -> None:
    _check_array("lengths", lengths)
    _check_integers("lengths", lengths)
    letters = "[B]" if batch else "[]"
    _check_shape("lengths", lengths, batch, letters, "from the inputs' batch")
    _check_range("lengths", lengths, 0, time, f"T = {time}")


def _check_resets(resets: Any, shape: tuple[int, ...]) -> None:
    _check_array("resets", resets)
    letters = "[T, B]" if len(shape) == 2 else "[T]"
    _check_mask("resets", resets, shape, letters, "from the inputs")


def _check_mask(name: str, mask: Any, shape: tuple[int, ...], letters: str, because: str) -> None:
    if mask.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected dtype bool, got {mask.dtype}.")
    _check_shape(name, mask, shape, letters, because)


def _check_type(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}.")


def _check_array(name: str, value: Any) -> None:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}.")


def _check_rank(name: str, value: Any, rank: int) -> None:
    if value.ndim != rank:
        dimensions = "1 dimension" if rank == 1 else f"{rank} dimensions"
        raise ValueError(f"{name}: expected {dimensions}, got {value.ndim}, shape {_shape(value)}.")


def _check_shape(name: str, value: Any, shape: tuple[int, ...], letters: str, because: str) -> None:
    if value.shape != shape:
        expected = f"{letters} = {list(shape)}" if shape else letters
        raise ValueError(f"{name}: expected shape {expected} {because}, got {_shape(value)}.")


def _check_floating(name: str, value: Any) -> None:
    if getattr(value.dtype, "name", None) not in DTYPES:
        raise TypeError(f"{name}: expected a dtype among {', '.join(DTYPES)}, got {value.dtype}.")
    _check_64_bits(name, value.dtype)


def _check_integers(name: str, value: Any) -> None:
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: expected an integer dtype, got {value.dtype}.")


def _check_range(name: str, value: Any, low: int, high: int, high_in_words: str) -> None:
    if isinstance(value, Tracer) or not getattr(value, "is_fully_addressable", True):
        return
    values = np.asarray(value)
    wrong = values[(values < low) | (values > high)]
    if wrong.size:
        raise ValueError(f"{name}: expected values from {low} to {high_in_words}, got {wrong[0]}.")


def _check_same_dtype(name: str, value: Any, model_name: str, model: Any) -> None:
    expected = model.dtype
    if value.dtype != expected:
        raise TypeError(
            f"{name}: expected dtype {expected} as {model_name} has, got {value.dtype}."
        )


def _shape(value: Any) -> list[int]:
    return list(value.shape)
