"""First parameters and first states."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike

from jaxlstm.types import GATES, LSTMParams, LSTMState, at_least_float32
from jaxlstm.validation import check_dtype, check_size


def init_params(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Draws parameters: each gate's input kernel Glorot uniform, its recurrent kernel orthogonal.

    Args:
        key: a PRNG key.
        input_size: D.
        hidden_size: H.
        forget_bias: what the forget gate's bias starts from; the other biases start from 0. At 1
            the cell state is at first kept rather than forgotten, so that gradients reach back
            from the first update on.
        dtype: float64 (inside ``jax.enable_x64(True)``), float32, float16 or bfloat16.

    Raises:
        ValueError, TypeError: a size below 1, or a dtype that is no floating one.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> jax.tree.map(jax.numpy.shape, params)
    LSTMParams(input_kernel=(3, 20), recurrent_kernel=(5, 20), bias=(20,))
    """
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    dtype = check_dtype(dtype)
    drawn = at_least_float32(dtype)  # QR knows no half precision
    input_key, recurrent_key = jax.random.split(key)
    input_keys, recurrent_keys = (
        jax.random.split(each, len(GATES)) for each in (input_key, recurrent_key)
    )
    kernels = [
        draw_kernels(for_input, for_recurrent, input_size, hidden_size, drawn)
        for for_input, for_recurrent in zip(input_keys, recurrent_keys, strict=True)
    ]
    input_kernel, recurrent_kernel = zip(*kernels, strict=True)
    forgets = jnp.repeat(jnp.array([gate == "forget" for gate in GATES]), hidden_size)
    return LSTMParams(
        input_kernel=jnp.concatenate(input_kernel, axis=1).astype(dtype),
        recurrent_kernel=jnp.concatenate(recurrent_kernel, axis=1).astype(dtype),
        bias=jnp.where(forgets, jnp.asarray(forget_bias, dtype), jnp.zeros((), dtype)),
    )


def draw_kernels(
    input_key: Array, recurrent_key: Array, input_size: int, hidden_size: int, dtype: DTypeLike
) -> tuple[Array, Array]:
    """An input kernel [D, H], Glorot uniform, and a recurrent kernel [H, H], orthogonal."""
    glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()
    input_kernel = glorot(input_key, (input_size, hidden_size), dtype)
    return input_kernel, orthogonal(recurrent_key, (hidden_size, hidden_size), dtype)


def init_state(
    hidden_size: int, batch_size: int | None = None, *, dtype: DTypeLike = jnp.float32
) -> LSTMState:
    """The zero state: hidden and cell [B, H], or [H] where ``batch_size`` is None.

    >>> import jaxlstm
    >>> jaxlstm.init_state(5, 2).cell.shape
    (2, 5)
    """
    check_size("hidden_size", hidden_size)
    shape: tuple[int, ...] = (hidden_size,)
    if batch_size is not None:
        check_size("batch_size", batch_size)
        shape = (batch_size, hidden_size)
    dtype = check_dtype(dtype)
    return LSTMState(hidden=jnp.zeros(shape, dtype), cell=jnp.zeros(shape, dtype))
