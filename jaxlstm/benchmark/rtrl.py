"""What real-time recurrent learning gives and costs, beside autodiff and its own two products."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxlstm.benchmark.cost import Cost, measure_costs
from jaxlstm.gradient_check.call import make_point
from jaxlstm.gradient_check.modes import in_float64, reverse, trust
from jaxlstm.gradient_check.parts import Judged, judge_parts
from jaxlstm.initializers import init_params, init_state
from jaxlstm.rtrl import (
    GradientErrors,
    RTRLState,
    gradient_errors,
    init_rtrl,
    online_step,
    rtrl,
    rtrl_step,
    truncated_gradients,
)
from jaxlstm.rtrl.arguments import in_windows
from jaxlstm.sequence import lstm, lstm_autodiff
from jaxlstm.types import LSTMParams, LSTMState, at_least_float32

EXACT = "exact RTRL"
RTRL = "RTRL"
STEPS = "RTRL step by step"
PRODUCTS = "its two products alone"
BPTT = "BPTT"


class Estimate(NamedTuple):
    """A gradient, its errors against BPTT, and its cost."""

    gradient: LSTMParams
    errors: GradientErrors
    cost: Cost


class Drawn(NamedTuple):
    """Random parameters, inputs [T, B, D] and targets [T, B, H]."""

    params: LSTMParams
    inputs: Float[Array, "T B D"]
    targets: Float[Array, "T B H"]


def draw_sequence(
    time: int,
    batch: int,
    features: int,
    hidden: int,
    *,
    recurrent_scale: float = 1.0,
    seed: int,
    dtype: str,
) -> Drawn:
    """What the measurements below take, the recurrent kernel ``recurrent_scale`` times its size."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = init_params(keys[0], features, hidden, dtype=jnp.dtype(dtype))
    params = params._replace(recurrent_kernel=recurrent_scale * params.recurrent_kernel)
    inputs = jax.random.normal(keys[1], (time, batch, features), dtype)
    return Drawn(params, inputs, jax.random.normal(keys[2], (time, batch, hidden), dtype))


def estimate_gradients(drawn: Drawn, window: int, rounds: int) -> dict[str, Estimate]:
    """The gradient of ``sum_t |h_t - target_t|^2 / 2``, summed up while the sequence runs."""
    functions: dict[str, Callable[..., LSTMParams]] = {
        BPTT: jax.grad(_loss),
        EXACT: partial(_estimate, "exact"),
        "SnAp-1": partial(_estimate, "snap1"),
        "cell path alone": partial(_estimate, "cell"),
        f"BPTT truncated to {window}": partial(_truncated, window),
    }
    gradients = {name: jax.jit(function)(*drawn) for name, function in functions.items()}
    costs = measure_costs(functions, *drawn, rounds=rounds)
    return {
        name: Estimate(gradient, gradient_errors(gradient, gradients[BPTT]), costs[name])
        for name, gradient in gradients.items()
    }


def judge_exact(drawn: Drawn, gradient: LSTMParams, seed: int) -> Judged:
    """Exact RTRL's gradient against BPTT's in units of what rounding does: the worst leaf."""
    dtype = drawn.inputs.dtype
    point = make_point(_loss, tuple(drawn), jnp.ones((), dtype)).rounded(dtype)
    sets = [cotangent[None] for cotangent in point.cotangents]
    with jax.enable_x64(True):
        trusted = trust(reverse, point.call, point.floats, point.others, sets, dtype, seed)
    judged = [
        one
        for n, leaf in enumerate(in_float64(jax.tree.leaves(gradient)))
        for one in judge_parts(leaf[None], trusted, n, dtype, {}, {})
    ]
    return max(
        judged, key=lambda one: (one.verdict is False, one.verdict is not True, one.ratio or 0.0)
    )


def sensitivity_costs(drawn: Drawn, rounds: int) -> dict[str, Cost]:
    """Of dh_T/dA for every parameter A: by RTRL and by JAX's modes; and two products a step."""

    def last(params: LSTMParams, inputs: Array) -> Array:
        return lstm_autodiff(params, inputs)[1].hidden

    functions = {
        RTRL: lambda *drawn: rtrl(*drawn)[1].sensitivities.hidden.params,
        STEPS: lambda *drawn: rtrl(*drawn, block=1)[1].sensitivities.hidden.params,
        PRODUCTS: _two_products,
        "jax.jacrev": jax.jacrev(last),
        "jax.jacfwd": jax.jacfwd(last),
    }
    return measure_costs(functions, drawn.params, drawn.inputs, rounds=rounds)


def costs_at_every_step(drawn: Drawn, rounds: int) -> dict[str, Cost]:
    """Of dh_t/dA for every parameter A and step t: by RTRL, by reverse mode."""
    functions = {
        RTRL: _sensitivities_at_every_step,
        "jax.jacrev": jax.jacrev(lambda params, inputs: lstm_autodiff(params, inputs)[0]),
    }
    return measure_costs(functions, drawn.params, drawn.inputs, rounds=rounds)


def first_carry(
    params: LSTMParams, inputs: Float[Array, "T B D"], estimator: str = "exact"
) -> RTRLState:
    """Before the first step, from the zero state."""
    return init_rtrl(params, _zero_state(params, inputs), estimator=estimator)


def run_stream(
    params: LSTMParams, carry: RTRLState, done: int, end: int, seed: int
) -> tuple[RTRLState, Array]:
    """The steps from ``done`` to ``end`` of a random stream, and the largest magnitude in dh/dA.

    Infinite where any is not finite; NaNs are looked for, since XLA's maximum passes over them.
    """
    carry = _stream(params, carry, jax.random.key(seed), done, end)
    leaves = jax.tree.leaves(carry.sensitivities.hidden.params)
    sizes = [jnp.where(jnp.isfinite(leaf), jnp.abs(leaf), jnp.inf).max() for leaf in leaves]
    return carry, jnp.max(jnp.array(sizes))


@jax.jit
def _stream(
    params: LSTMParams, carry: RTRLState, key: Array, done: ArrayLike, end: ArrayLike
) -> RTRLState:
    shape = (*carry.state.hidden.shape[:-1], params.input_kernel.shape[0])

    def body(t: Array, carry: RTRLState) -> RTRLState:
        x_t = jax.random.normal(jax.random.fold_in(key, t), shape, params.bias.dtype)
        return rtrl_step(params, carry, x_t)

    return jax.lax.fori_loop(done, end, body, carry)


def _zero_state(params: LSTMParams, inputs: Float[Array, "T B D"]) -> LSTMState:
    H, B = params.recurrent_kernel.shape[0], inputs.shape[1]
    return init_state(H, batch_size=B, dtype=inputs.dtype)


def _squared_distance(h_t: Float[Array, "*B H"], target_t: Float[Array, "*B H"]) -> Array:
    return 0.5 * jnp.square(h_t - target_t).sum(-1)


def _loss(params: LSTMParams, inputs: Array, targets: Array) -> Array:
    return _squared_distance(lstm(params, inputs)[0], targets).sum()


def _estimate(estimator: str, params: LSTMParams, inputs: Array, targets: Array) -> LSTMParams:
    """The sum over the steps of what each adds."""

    def body(before: tuple[RTRLState, LSTMParams], step_t: tuple) -> tuple[tuple, None]:
        (carry, total), (x_t, target_t) = before, step_t
        carry, _, gradient = online_step(
            _squared_distance, params, carry, x_t, target_t, estimator=estimator
        )
        return (carry, _plus(total, gradient)), None

    before = first_carry(params, inputs, estimator), _no_gradient(params)
    (_, total), _ = jax.lax.scan(body, before, (inputs, targets))
    return total


def _truncated(window: int, params: LSTMParams, inputs: Array, targets: Array) -> LSTMParams:
    """The sum over the windows of what each adds."""

    def body(before: tuple[LSTMState, Array, LSTMParams], steps: tuple) -> tuple[tuple, None]:
        (state, left, total), (xs, targets) = before, steps
        _, gradients, state = truncated_gradients(
            _squared_distance, params, xs, targets, state, window=window, lengths=left
        )
        gradient = jax.tree.map(lambda leaf: leaf[0], gradients)
        return (state, left - window, _plus(total, gradient)), None

    lengths = jnp.full(inputs.shape[1], len(inputs))
    before = _zero_state(params, inputs), lengths, _no_gradient(params)
    (_, _, total), _ = jax.lax.scan(body, before, in_windows((inputs, targets), window))
    return total


def _no_gradient(params: LSTMParams) -> LSTMParams:
    """Zeros to sum onto, of float32 at least as reverse mode's own sums."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, at_least_float32(leaf.dtype)), params)


def _plus(total: LSTMParams, gradient: LSTMParams) -> LSTMParams:
    return jax.tree.map(lambda one, other: one + other.astype(one.dtype), total, gradient)


def _sensitivities_at_every_step(params: LSTMParams, inputs: Float[Array, "T B D"]) -> LSTMParams:
    """dh_t/dA for all t, each leaf [T, B, *parameter, H]."""

    def body(carry: RTRLState, x_t: Array) -> tuple[RTRLState, LSTMParams]:
        carry = rtrl_step(params, carry, x_t)
        return carry, carry.sensitivities.hidden.params

    return jax.lax.scan(body, first_carry(params, inputs), inputs)[1]


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
