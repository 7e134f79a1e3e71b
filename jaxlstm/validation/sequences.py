"""What one LSTM takes: parameters, inputs, states, lengths and resets."""

from typing import Any

from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation.arrays import (
    check_array,
    check_choice,
    check_floating,
    check_integers,
    check_like,
    check_mask,
    check_range,
    check_rank,
    check_same_dtype,
    check_shape,
    check_type,
    shape_of,
)

ACTIVATION_NAMES = ("tanh", "sigmoid", "identity")
RESIDUALS = ("gates", "states", "outputs", "chunks")
"""What ``lstm`` may save for its derivatives, the fastest first, the leanest last."""
PRECISIONS = ("bfloat16", "float16")
"""What the operands of ``lstm``'s products may be rounded to."""


def check_activations(activations: Any) -> None:
    """Requires an Activations of known names."""
    check_type("activations", activations, Activations)
    for role in ("candidate", "cell"):
        check_choice(f"activations.{role}", getattr(activations, role), ACTIVATION_NAMES)


def check_precision(precision: Any, params: LSTMParams) -> None:
    """Requires None or the name of a half precision, which is for parameters of a wider one."""
    if precision is None:
        return
    check_choice("precision", precision, PRECISIONS)
    if params.bias.dtype in PRECISIONS:
        raise ValueError(
            f"precision: expected float32 or float64 parameters, got {params.bias.dtype}."
        )


def check_params(params: Any, name: str = "params") -> tuple[int, int]:
    """Requires parameters that fit each other; returns D and H."""
    check_type(name, params, LSTMParams)
    for field, rank in zip(LSTMParams._fields, (2, 2, 1), strict=True):
        check_rank(f"{name}.{field}", getattr(params, field), rank)
    D, H = params.input_kernel.shape[0], params.recurrent_kernel.shape[0]
    because = f"with H = {H} from the rows of {name}.recurrent_kernel"
    check_shape(f"{name}.input_kernel", params.input_kernel, (D, 4 * H), "[D, 4H]", because)
    check_shape(f"{name}.recurrent_kernel", params.recurrent_kernel, (H, 4 * H), "[H, 4H]", because)
    check_shape(f"{name}.bias", params.bias, (4 * H,), "[4H]", because)
    for field in ("recurrent_kernel", "bias"):
        check_same_dtype(
            f"{name}.{field}", getattr(params, field), f"{name}.input_kernel", params.input_kernel
        )
    return D, H


def check_inputs(inputs: Any, name: str, params: Any) -> None:
    """Requires inputs [T, B, D] or [T, D] that fit the parameters of an LSTM or an RNN."""
    check_array("inputs", inputs)
    D = params.input_kernel.shape[0]
    if inputs.ndim not in (2, 3) or inputs.shape[-1] != D:
        raise ValueError(
            f"inputs: expected shape [T, B, {D}] or [T, {D}] (D = {D} from the rows of "
            f"{name}.input_kernel), got {shape_of(inputs)}."
        )
    check_floating("inputs", inputs)
    check_same_dtype("inputs", inputs, f"{name}.input_kernel", params.input_kernel)


def check_step(params: Any, state: Any, x_t: Any, activations: Any) -> None:
    """Requires arguments that ``step`` takes."""
    check_activations(activations)
    D, H = check_params(params)
    check_array("x_t", x_t)
    if x_t.ndim not in (1, 2) or x_t.shape[-1] != D:
        raise ValueError(
            f"x_t: expected shape [B, {D}] or [{D}] (D = {D} from the rows of "
            f"params.input_kernel), got {shape_of(x_t)}."
        )
    check_floating("x_t", x_t)
    check_same_dtype("x_t", x_t, "params.input_kernel", params.input_kernel)
    check_state_of("state", state, (*x_t.shape[:-1], H), params)


def check_state(name: str, state: Any, params: LSTMParams) -> None:
    """Requires a state, of one sequence or of a batch, that fits the parameters."""
    check_type(name, state, LSTMState)
    check_array(f"{name}.hidden", state.hidden)
    H = params.recurrent_kernel.shape[0]
    check_state_of(name, state, (*state.hidden.shape[:-1][-1:], H), params)


def check_step_masks(valid_t: Any, reset_t: Any, batch: tuple[int, ...]) -> None:
    """Requires masks of one step: a bool for each sequence, or None."""
    letters = "[B]" if batch else "[]"
    for name, mask in (("valid_t", valid_t), ("reset_t", reset_t)):
        if mask is not None:
            check_array(name, mask)
            check_mask(name, mask, batch, letters, "from x_t's batch")


def check_sequence(
    params: Any, inputs: Any, initial_state: Any, lengths: Any, resets: Any, activations: Any
) -> None:
    """Requires arguments that ``lstm`` takes."""
    check_activations(activations)
    _, H = check_params(params)
    check_inputs(inputs, "params", params)
    if initial_state is not None:
        check_state_of("initial_state", initial_state, (*inputs.shape[1:-1], H), params)
    check_lengths_and_resets(lengths, resets, inputs)


def check_state_of(
    name: str, state: Any, shape: tuple[int, ...], params: LSTMParams, params_name: str = "params"
) -> None:
    """Requires a state of this shape that fits the parameters, which are named too."""
    check_type(name, state, LSTMState)
    letters = "[B, H]" if len(shape) == 2 else "[H]"
    because = f"from the inputs and {params_name}.recurrent_kernel"
    like = (f"{params_name}.input_kernel", params.input_kernel)
    for field, leaf in zip(LSTMState._fields, state, strict=True):
        check_like(f"{name}.{field}", leaf, shape, letters, because, like)


def check_lengths_and_resets(lengths: Any, resets: Any, inputs: Any) -> None:
    """Requires lengths and resets that fit the inputs, or None."""
    if lengths is not None:
        _check_lengths(lengths, inputs.shape[0], inputs.shape[1:-1])
    if resets is not None:
        _check_resets(resets, inputs.shape[:-1])


def _check_lengths(lengths: Any, time: int, batch: tuple[int, ...]) -> None:
    check_array("lengths", lengths)
    check_integers("lengths", lengths)
    letters = "[B]" if batch else "[]"
    check_shape("lengths", lengths, batch, letters, "from the inputs' batch")
    check_range("lengths", lengths, 0, time, f"T = {time}")


def _check_resets(resets: Any, shape: tuple[int, ...]) -> None:
    check_array("resets", resets)
    letters = "[T, B]" if len(shape) == 2 else "[T]"
    check_mask("resets", resets, shape, letters, "from the inputs")
