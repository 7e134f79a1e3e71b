"""The public edge: every ValueError and TypeError about arguments, before anything is compiled.

Each says in one sentence what was expected and what came.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import DTypeLike

from jaxlstm.types import (
    Activations,
    BidirectionalParams,
    BidirectionalState,
    LSTMParams,
    LSTMState,
    ReadoutParams,
)

ACTIVATION_NAMES = ("tanh", "sigmoid", "identity")
DTYPES = ("float64", "float32", "float16", "bfloat16")

RESIDUALS = ("gates", "states", "outputs", "chunks")
"""What ``lstm`` may save for its derivatives, the fastest first, the leanest last."""
PRECISIONS = ("bfloat16", "float16")
"""What the operands of ``lstm``'s products may be rounded to."""


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


def check_type(name: str, value: Any, kind: type) -> None:
    """Requires a value of this type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}.")


def check_inputs(inputs: Any, name: str, params: Any) -> None:
    """Requires inputs [T, B, D] or [T, D] that fit the parameters of an LSTM or an RNN."""
    _check_array("inputs", inputs)
    D = params.input_kernel.shape[0]
    if inputs.ndim not in (2, 3) or inputs.shape[-1] != D:
        raise ValueError(
            f"inputs: expected shape [T, B, {D}] or [T, {D}] (D = {D} from the rows of "
            f"{name}.input_kernel), got {_shape(inputs)}."
        )
    _check_floating("inputs", inputs)
    _check_same_dtype("inputs", inputs, f"{name}.input_kernel", params.input_kernel)


def is_known(value: Any) -> bool:
    """Whether the values can be read here: not traced, and none on another process."""
    return not isinstance(value, Tracer) and getattr(value, "is_fully_addressable", True)


def check_like(
    name: str, value: Any, shape: tuple[int, ...], letters: str, because: str, like: tuple[str, Any]
) -> None:
    """Requires an array of this shape, and of the dtype of another: its name, and itself."""
    _check_array(name, value)
    _check_shape(name, value, shape, letters, because)
    _check_floating(name, value)
    _check_same_dtype(name, value, *like)


def check_rank(name: str, value: Any, rank: int) -> None:
    """Requires a floating array of so many dimensions."""
    _check_array(name, value)
    if value.ndim != rank:
        dimensions = "1 dimension" if rank == 1 else f"{rank} dimensions"
        raise ValueError(f"{name}: expected {dimensions}, got {value.ndim}, shape {_shape(value)}.")
    _check_floating(name, value)


def check_activations(activations: Any) -> None:
    """Requires an Activations of known names."""
    check_type("activations", activations, Activations)
    for role in ("candidate", "cell"):
        check_choice(f"activations.{role}", getattr(activations, role), ACTIVATION_NAMES)


def check_params(params: Any, name: str = "params") -> tuple[int, int]:
    """Requires parameters that fit each other; returns D and H."""
    check_type(name, params, LSTMParams)
    for field, rank in zip(LSTMParams._fields, (2, 2, 1), strict=True):
        check_rank(f"{name}.{field}", getattr(params, field), rank)
    D, H = params.input_kernel.shape[0], params.recurrent_kernel.shape[0]
    because = f"with H = {H} from the rows of {name}.recurrent_kernel"
    _check_shape(f"{name}.input_kernel", params.input_kernel, (D, 4 * H), "[D, 4H]", because)
    _check_shape(
        f"{name}.recurrent_kernel", params.recurrent_kernel, (H, 4 * H), "[H, 4H]", because
    )
    _check_shape(f"{name}.bias", params.bias, (4 * H,), "[4H]", because)
    for field in ("recurrent_kernel", "bias"):
        _check_same_dtype(
            f"{name}.{field}", getattr(params, field), f"{name}.input_kernel", params.input_kernel
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
    check_type(name, state, LSTMState)
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
    _, H = check_params(params)
    check_inputs(inputs, "params", params)
    if initial_state is not None:
        _check_state("initial_state", initial_state, (*inputs.shape[1:-1], H), params)
    _check_lengths_and_resets(lengths, resets, inputs)


def check_choice(name: str, choice: Any, known: Sequence[str]) -> None:
    """Requires one of the known names."""
    if choice not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {choice!r}.")


def check_precision(precision: Any, params: LSTMParams) -> None:
    """Requires None or the name of a half precision, which is for parameters of a wider one."""
    if precision is None:
        return
    check_choice("precision", precision, PRECISIONS)
    if params.bias.dtype in PRECISIONS:
        raise ValueError(f"precision: expected float32 parameters, got {params.bias.dtype}.")


def check_bidirectional(
    params: Any, inputs: Any, initial_state: Any, lengths: Any, resets: Any, activations: Any
) -> None:
    """Requires arguments that ``bidirectional_lstm`` takes."""
    check_activations(activations)
    check_type("params", params, BidirectionalParams)
    _check_layer("params", params)
    check_inputs(inputs, *_directions("params", params)[0])
    if initial_state is not None:
        _check_layer_state("initial_state", initial_state, "params", params, inputs)
    _check_lengths_and_resets(lengths, resets, inputs)


def check_stack(
    layers: Any, inputs: Any, initial_states: Any, lengths: Any, resets: Any, activations: Any
) -> None:
    """Requires arguments that ``stacked_lstm`` takes, but for its dropout."""
    check_activations(activations)
    check_type("layers", layers, Sequence)
    if not layers:
        raise ValueError(f"layers: expected at least one layer, got {layers}.")
    _check_layers_fit(layers)
    check_inputs(inputs, *_directions("layers[0]", layers[0])[0])
    if initial_states is not None:
        _check_layer_states(initial_states, layers, inputs)
    _check_lengths_and_resets(lengths, resets, inputs)


def check_one_direction(layers: Sequence[Any]) -> None:
    """Requires layers of which none reads in both directions."""
    for k, layer in enumerate(layers):
        check_type(f"layers[{k}]", layer, LSTMParams)


def check_dropout(name: str, rate: Any, key: Any) -> None:
    """Requires a rate of at least 0 and below 1, and a key where it is above 0."""
    if not isinstance(rate, Real) or isinstance(rate, bool):
        raise TypeError(f"{name}: expected a number, got {rate!r}.")
    if not 0 <= float(rate) < 1:
        raise ValueError(f"{name}: expected at least 0 and below 1, got {rate}.")
    if float(rate) > 0 and key is None:
        raise ValueError(f"key: expected a PRNG key where {name} is above 0, got None.")


def check_values(values: Any) -> None:
    """Requires a floating array."""
    _check_array("values", values)
    _check_floating("values", values)


def check_embedding(table: Any, characters: Any) -> None:
    """Requires arguments that ``embed`` takes."""
    check_rank("table", table, 2)
    _check_classes("characters", characters, table.shape[0], "from the rows of table")


def check_logits(params: Any, hidden: Any) -> None:
    """Requires arguments that ``logits`` takes."""
    check_type("params", params, ReadoutParams)
    for name, rank in zip(ReadoutParams._fields, (2, 1), strict=True):
        check_rank(f"params.{name}", getattr(params, name), rank)
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


def _directions(name: str, layer: Any) -> list[tuple[str, Any]]:
    """The name and the part of each direction that a layer's parameters or its state hold."""
    if not isinstance(layer, (BidirectionalParams, BidirectionalState)):
        return [(name, layer)]
    return [(f"{name}.{field}", getattr(layer, field)) for field in layer._fields]


def _check_layer(name: str, layer: Any) -> int:
    """Requires a layer of one direction, or of two of one size; returns its outputs' size."""
    if not isinstance(layer, (LSTMParams, BidirectionalParams)):
        got = type(layer).__name__
        raise TypeError(f"{name}: expected LSTMParams or BidirectionalParams, got {got}.")
    (first, params), *second = _directions(name, layer)
    D, H = check_params(params, first)
    for other, others in second:
        check_params(others, other)
        named = (f"{other}.input_kernel", others.input_kernel)
        because = f"as {first}.input_kernel has"
        _check_shape(*named, (D, 4 * H), "[D, 4H]", because)
        _check_same_dtype(*named, f"{first}.input_kernel", params.input_kernel)
    return H * (1 + len(second))


def _check_layers_fit(layers: Sequence[Any]) -> None:
    """Requires that each layer takes the outputs of the one before."""
    sizes = [_check_layer(f"layers[{k}]", layer) for k, layer in enumerate(layers)]
    first_name, first = _directions("layers[0]", layers[0])[0]
    for k, (layer, size) in enumerate(zip(layers[1:], sizes[:-1], strict=True), start=1):
        name, params = _directions(f"layers[{k}]", layer)[0]
        named = (f"{name}.input_kernel", params.input_kernel)
        because = f"with D = {size} from the outputs of layers[{k - 1}]"
        _check_shape(*named, (size, *params.input_kernel.shape[1:]), "[D, 4H]", because)
        _check_same_dtype(*named, f"{first_name}.input_kernel", first.input_kernel)


def _check_layer_states(states: Any, layers: Sequence[Any], inputs: Any) -> None:
    check_type("initial_states", states, Sequence)
    if len(states) != len(layers):
        raise ValueError(
            f"initial_states: expected {len(layers)}, one for each layer, got {len(states)}."
        )
    for k, (state, layer) in enumerate(zip(states, layers, strict=True)):
        _check_layer_state(f"initial_states[{k}]", state, f"layers[{k}]", layer, inputs)


def _check_layer_state(name: str, state: Any, layer_name: str, layer: Any, inputs: Any) -> None:
    kind = BidirectionalState if isinstance(layer, BidirectionalParams) else LSTMState
    check_type(name, state, kind)
    parts = zip(_directions(name, state), _directions(layer_name, layer), strict=True)
    for (part_name, part), (params_name, params) in parts:
        shape = (*inputs.shape[1:-1], params.recurrent_kernel.shape[0])
        _check_state(part_name, part, shape, params, params_name)


def _check_lengths_and_resets(lengths: Any, resets: Any, inputs: Any) -> None:
    if lengths is not None:
        _check_lengths(lengths, inputs.shape[0], inputs.shape[1:-1])
    if resets is not None:
        _check_resets(resets, inputs.shape[:-1])


def _check_state(
    name: str, state: Any, shape: tuple[int, ...], params: LSTMParams, params_name: str = "params"
) -> None:
    check_type(name, state, LSTMState)
    letters = "[B, H]" if len(shape) == 2 else "[H]"
    because = f"from the inputs and {params_name}.recurrent_kernel"
    like = (f"{params_name}.input_kernel", params.input_kernel)
    for field, leaf in zip(LSTMState._fields, state, strict=True):
        check_like(f"{name}.{field}", leaf, shape, letters, because, like)


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


def _check_array(name: str, value: Any) -> None:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}.")


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
    if not is_known(value):
        return
    values = np.asarray(value)
    wrong = values[(values < low) | (values > high)]
    if wrong.size:
        raise ValueError(f"{name}: expected values from {low} to {high_in_words}, got {wrong[0]}.")


def _check_same_dtype(name: str, value: Any, model_name: str, model: Any) -> None:
    if value.dtype != model.dtype:
        raise TypeError(
            f"{name}: expected dtype {model.dtype} as {model_name} has, got {value.dtype}."
        )


def _shape(value: Any) -> list[int]:
    return list(value.shape)
