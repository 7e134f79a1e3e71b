"""A vanilla RNN, the LSTM's contrast, with its derivatives by hand.

    h_t       = tanh(x_t U + h_{t-1} W + b)                                 [R1]
    dh_t/dh_{t-1} = diag(1 - h_t^2) W'                                      [R2]
    dL/dh_{k-1}   = dL/dh_k dh_k/dh_{k-1}                                   [R3]
    dL/dW         = sum_k h_{k-1}' (dL/dh_k * (1 - h_k^2))                  [R4]

[R3] and [R4] are document 003's formula: dL_t/ds_t times the sum over k of the product of the
Jacobians from k to t times the explicit derivative of s_k by W.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxlstm.initializers import draw_kernels
from jaxlstm.types import at_least_float32
from jaxlstm.validation import (
    check_dtype,
    check_inputs,
    check_like,
    check_rank,
    check_size,
    check_type,
)


class RNNParams(NamedTuple):
    """The parameters of a vanilla RNN; a pytree.

    Attributes:
        input_kernel: ``U`` [D, H].
        recurrent_kernel: ``W`` [H, H].
        bias: ``b`` [H].
    """

    input_kernel: Float[Array, "D H"]
    recurrent_kernel: Float[Array, "H H"]
    bias: Float[Array, " H"]


class RNNSteps(NamedTuple):
    """All steps of an RNN over its inputs as linear maps of h; a pytree.

    Attributes:
        recurrent_kernel: ``W`` [H, H].
        derivative: 1 - h_t^2 for every step, [T, B, H] ([T, H] unbatched).
    """

    recurrent_kernel: Float[Array, "H H"]
    derivative: Float[Array, "*T H"]


def init_rnn(
    key: Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> RNNParams:
    """Draws parameters as ``init_params`` does: Glorot input kernel, orthogonal recurrent kernel.

    Args:
        key: a PRNG key.
        input_size: D.
        hidden_size: H.
        dtype: as in ``init_params``.

    Raises:
        ValueError, TypeError: a size below 1, or a dtype that is no floating one.

    >>> import jax
    >>> from jaxlstm.rnn import init_rnn
    >>> init_rnn(jax.random.key(0), 3, 5).recurrent_kernel.shape
    (5, 5)
    """
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    dtype = check_dtype(dtype)
    drawn = at_least_float32(dtype)  # QR knows no half precision
    input_key, recurrent_key = jax.random.split(key)
    U, W = draw_kernels(input_key, recurrent_key, input_size, hidden_size, drawn)
    return RNNParams(U.astype(dtype), W.astype(dtype), jnp.zeros(hidden_size, dtype))


def rnn(
    params: RNNParams, inputs: ArrayLike, initial_state: ArrayLike | None = None
) -> Float[Array, "*T H"]:
    """The hidden states of all steps [R1]; what differentiates it is JAX.

    Args:
        params: input kernel [D, H], recurrent kernel [H, H], bias [H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        initial_state: [B, H] ([H] unbatched); zeros if None.

    Returns:
        h_1, ..., h_T: [T, B, H] ([T, H] unbatched).

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, in one sentence.

    >>> import jax.numpy as jnp
    >>> from jaxlstm.rnn import RNNParams, rnn
    >>> rnn(RNNParams(jnp.ones((3, 5)), jnp.eye(5), jnp.zeros(5)), jnp.ones((7, 2, 3))).shape
    (7, 2, 5)
    """
    _check(params, inputs, initial_state)
    return _rnn(*jax.tree.map(jnp.asarray, (params, inputs, initial_state)))


def linearize_rnn(
    params: RNNParams, inputs: ArrayLike, initial_state: ArrayLike | None = None
) -> RNNSteps:
    """Runs the RNN and keeps what is linear in each step.

    Arguments and errors are those of ``rnn``.
    """
    hidden = rnn(params, inputs, initial_state)
    return RNNSteps(jnp.asarray(params.recurrent_kernel), (1 + hidden) * (1 - hidden))


def rnn_jacobians(steps: RNNSteps) -> Float[Array, "*T H H"]:
    """dh_t/dh_{t-1} of every step [R2], the output's unit before the input's: [T, B, H, H].

    Args:
        steps: from ``linearize_rnn``.
    """
    return steps.derivative[..., None] * steps.recurrent_kernel.T  # [R2]


def rnn_state_gradients(steps: RNNSteps, d_h: ArrayLike) -> Float[Array, "*T H"]:
    """dL/dh_k for k = 0, ..., T of a loss on the last state [R3]: [T + 1, B, H].

    Args:
        steps: from ``linearize_rnn``. For L_t, those up to step t.
        d_h: dL/dh_t, [B, H] ([H] unbatched).

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.
    """
    check_type("steps", steps, RNNSteps)
    shape = steps.derivative.shape[1:]
    letters = ("[B, H]", "[H]")[len(shape) == 1]
    check_like("d_h", d_h, shape, letters, "as the steps have", ("the state", steps.derivative))
    return _rnn_state_gradients(steps, jnp.asarray(d_h))


@jax.jit
def _rnn_state_gradients(steps: RNNSteps, d_h: Array) -> Array:
    def back(d_h: Array, derivative: Array) -> tuple[Array, Array]:
        return (d_h * derivative) @ steps.recurrent_kernel.T, d_h  # [R3]

    d_first, rest = jax.lax.scan(back, d_h, steps.derivative, reverse=True)
    return jnp.concatenate([d_first[None], rest])


@jax.jit
def _rnn(params: RNNParams, inputs: Array, initial_state: Array | None) -> Array:
    if initial_state is None:
        shape = (*inputs.shape[1:-1], len(params.recurrent_kernel))
        initial_state = jnp.zeros(shape, inputs.dtype)

    def forward_step(h: Array, x_t: Array) -> tuple[Array, Array]:
        h = jnp.tanh(x_t @ params.input_kernel + h @ params.recurrent_kernel + params.bias)  # [R1]
        return h, h

    return jax.lax.scan(forward_step, initial_state, inputs)[1]


def _check(params: Any, inputs: Any, initial_state: Any) -> None:
    """Requires arguments that ``rnn`` takes."""
    check_type("params", params, RNNParams)
    check_rank("params.input_kernel", params.input_kernel, 2)
    D, H = params.input_kernel.shape
    like = ("params.input_kernel", params.input_kernel)
    because = "with D, H from params.input_kernel"
    kernels = zip(RNNParams._fields, params, ((D, H), (H, H), (H,)), strict=True)
    for (name, leaf, shape), letters in zip(kernels, ("[D, H]", "[H, H]", "[H]"), strict=True):
        check_like(f"params.{name}", leaf, shape, letters, because, like)
    check_inputs(inputs, "params", params)
    if initial_state is not None:
        shape = (*inputs.shape[1:-1], H)
        letters, because = ("[B, H]", "[H]")[len(shape) == 1], "from the inputs and H"
        check_like("initial_state", initial_state, shape, letters, because, like)
