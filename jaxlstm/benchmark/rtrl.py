"""What real-time recurrent learning gives and costs, beside autodiff and its own two products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.benchmark.cost import Cost, measure_costs
from jaxlstm.initializers import init_params, init_state
from jaxlstm.rtrl import (
    GradientErrors,
    RTRLState,
    gradient_errors,
    init_rtrl,
    online_gradients,
    rtrl,
    rtrl_step,
    truncated_gradients,
)
from jaxlstm.sequence import lstm, lstm_autodiff
from jaxlstm.types import LSTMParams

RTRL = "RTRL"
STEPS = "RTRL step by step"
PRODUCTS = "its two products alone"
BPTT = "BPTT"


class Drawn(NamedTuple):
    """Random parameters, inputs [T, B, D] and targets [T, B, H]."""

    params: LSTMParams
    inputs: Float[Array, "T B D"]
    targets: Float[Array, "T B H"]


def draw_sequence(
    time: int, batch: int, features: int, hidden: int, *, seed: int, dtype: str
) -> Drawn:
    """What the measurements below take."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = init_params(keys[0], features, hidden, dtype=jnp.dtype(dtype))
    inputs = jax.random.normal(keys[1], (time, batch, features), dtype)
    return Drawn(params, inputs, jax.random.normal(keys[2], (time, batch, hidden), dtype))


def estimator_costs(
    drawn: Drawn, window: int, rounds: int
) -> dict[str, tuple[GradientErrors, Cost]]:
    """Of each gradient of ``sum_t |h_t - target_t|^2 / 2``: its errors against BPTT, its cost."""
    functions: dict[str, Callable[..., LSTMParams]] = {
        BPTT: jax.grad(_loss),
        "exact RTRL": _estimated("exact"),
        "SnAp-1": _estimated("snap1"),
        "cell path alone": _estimated("cell"),
        f"BPTT truncated to {window}": _truncated(window),
    }
    gradients = {name: jax.jit(function)(*drawn) for name, function in functions.items()}
    costs = measure_costs(functions, *drawn, rounds=rounds)
    return {
        name: (gradient_errors(gradient, gradients[BPTT]), costs[name])
        for name, gradient in gradients.items()
    }


def sensitivity_costs(drawn: Drawn, rounds: int) -> dict[str, Cost]:
    """Of dh_T/dA for every parameter A: by RTRL and by JAX's modes; and two products a step."""

    def last(params: LSTMParams, inputs: Array) -> Array:
        return lstm_autodiff(params, inputs)[1].hidden

    functions = {  # the largest first, and RTRL farthest from what it leaves of memory and caches
        "jax.jacfwd": jax.jacfwd(last),
        "jax.jacrev": jax.jacrev(last),
        PRODUCTS: _two_products,
        STEPS: lambda *drawn: rtrl(*drawn, block=1)[1].sensitivities.hidden.params,
        RTRL: lambda *drawn: rtrl(*drawn)[1].sensitivities.hidden.params,
    }
    return measure_costs(functions, drawn.params, drawn.inputs, rounds=rounds)


def costs_at_every_step(drawn: Drawn, rounds: int) -> dict[str, Cost]:
    """Of dh_t/dA for every parameter A and step t: by RTRL, by reverse mode."""
    functions = {
        RTRL: _sensitivities_at_every_step,
        "jax.jacrev": jax.jacrev(lambda params, inputs: lstm_autodiff(params, inputs)[0]),
    }
    return measure_costs(functions, drawn.params, drawn.inputs, rounds=rounds)


def run_stream(drawn: Drawn, steps: int, carry: RTRLState, seed: int) -> tuple[RTRLState, Array]:
    """Some more steps of a stream of random inputs, and the largest magnitude in dh/dA."""
    carry = _stream(drawn.params, carry, jax.random.key(seed), steps)
    return carry, _largest(carry.sensitivities.hidden.params)


def first_carry(drawn: Drawn) -> RTRLState:
    """Before the first step, from the zero state."""
    H, B = drawn.params.recurrent_kernel.shape[0], drawn.inputs.shape[1]
    return init_rtrl(drawn.params, init_state(H, batch_size=B, dtype=drawn.inputs.dtype))


@jax.jit
def _stream(params: LSTMParams, carry: RTRLState, key: Array, steps: ArrayLike) -> RTRLState:
    shape = (*carry.state.hidden.shape[:-1], params.input_kernel.shape[0])

    def body(t: Array, carry: RTRLState) -> RTRLState:
        x_t = jax.random.normal(jax.random.fold_in(key, t), shape, params.bias.dtype)
        return rtrl_step(params, carry, x_t)

    return jax.lax.fori_loop(0, steps, body, carry)


def _largest(tree: Any) -> Array:
    return jnp.max(jnp.array([jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree)]))


def _squared_distance(h_t: Float[Array, "*B H"], target_t: Float[Array, "*B H"]) -> Array:
    return 0.5 * jnp.square(h_t - target_t).sum(-1)


def _loss(params: LSTMParams, inputs: Array, targets: Array) -> Array:
    return _squared_distance(lstm(params, inputs)[0], targets).sum()


def _estimated(estimator: str) -> Callable[..., LSTMParams]:
    def gradient(*drawn: Any) -> LSTMParams:
        return _total(online_gradients(_squared_distance, *drawn, estimator=estimator)[1])

    return gradient


def _truncated(window: int) -> Callable[..., LSTMParams]:
    def gradient(*drawn: Any) -> LSTMParams:
        return _total(truncated_gradients(_squared_distance, *drawn, window=window)[1])

    return gradient


def _total(contributions: LSTMParams) -> LSTMParams:
    return jax.tree.map(lambda leaf: leaf.sum(0), contributions)


def _sensitivities_at_every_step(params: LSTMParams, inputs: Float[Array, "T B D"]) -> LSTMParams:
    """dh_t/dA for all t, each leaf [T, B, *parameter, H]."""

    def body(carry: RTRLState, x_t: Array) -> tuple[RTRLState, LSTMParams]:
        carry = rtrl_step(params, carry, x_t)
        return carry, carry.sensitivities.hidden.params

    return jax.lax.scan(body, first_carry(Drawn(params, inputs, inputs)), inputs)[1]


def _two_products(params: LSTMParams, inputs: Float[Array, "T B D"]) -> tuple[Array, Array]:
    """The products in [S5] and [S6] alone: [N, H] by [H, H], twice a step and sequence."""
    H, B = params.recurrent_kernel.shape[0], inputs.shape[1]
    N = sum(leaf.size for leaf in params) + 2 * H
    W_o = jnp.linalg.qr(params.recurrent_kernel[:, -H:].astype(jnp.float32))[0]  # keeps the size
    K_h = jnp.broadcast_to(W_o.astype(inputs.dtype), (B, H, H))
    S_h = jnp.broadcast_to(inputs[0, :, :1, None], (B, N, H))

    def body(carry: tuple[Array, Array], x_t: Array) -> tuple[tuple[Array, Array], None]:
        K_c = K_h * jnp.sign(x_t[:, :1, None])
        return (carry[0] @ K_h, carry[0] @ K_c), None

    return jax.lax.scan(body, (S_h, S_h), inputs)[0]
