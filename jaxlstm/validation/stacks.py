"""What layers of LSTMs take, in one direction or in two."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

from jaxlstm.types import BidirectionalParams, BidirectionalState, LSTMParams, LSTMState
from jaxlstm.validation.arrays import check_same_dtype, check_shape, check_type
from jaxlstm.validation.sequences import (
    check_activations,
    check_inputs,
    check_lengths_and_resets,
    check_params,
    check_state_of,
)


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
    check_lengths_and_resets(lengths, resets, inputs)


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
    check_lengths_and_resets(lengths, resets, inputs)


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
        check_shape(*named, (D, 4 * H), "[D, 4H]", because)
        check_same_dtype(*named, f"{first}.input_kernel", params.input_kernel)
    return H * (1 + len(second))


def _check_layers_fit(layers: Sequence[Any]) -> None:
    """Requires that each layer takes the outputs of the one before."""
    sizes = [_check_layer(f"layers[{k}]", layer) for k, layer in enumerate(layers)]
    first_name, first = _directions("layers[0]", layers[0])[0]
    for k, (layer, size) in enumerate(zip(layers[1:], sizes[:-1], strict=True), start=1):
        name, params = _directions(f"layers[{k}]", layer)[0]
        named = (f"{name}.input_kernel", params.input_kernel)
        because = f"with D = {size} from the outputs of layers[{k - 1}]"
        check_shape(*named, (size, *params.input_kernel.shape[1:]), "[D, 4H]", because)
        check_same_dtype(*named, f"{first_name}.input_kernel", first.input_kernel)


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
        check_state_of(part_name, part, shape, params, params_name)
