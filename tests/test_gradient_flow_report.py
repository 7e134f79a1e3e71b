"""The report on one's own model: its own numbers, and that its advice does what it says."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawing import Problem, assert_close, draw, one_sequence, run
from jax.flatten_util import ravel_pytree

import jaxlstm
from jaxlstm import LSTMParams, lstm_autodiff
from jaxlstm.gradient_flow import Advice, advice, gradient_flow_report, linearize, path_norms

SMALL = (7, 4, 2, 5)


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@jax.jit
def parameter_gradient(problem: Problem, d_h: jax.Array) -> LSTMParams:
    def loss(params: LSTMParams) -> jax.Array:
        return jnp.vdot(d_h, run(lstm_autodiff, problem._replace(params=params))[1].hidden)

    return jax.grad(loss)(problem.params)


def test_report():
    problem = draw(1, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, (_, (d_h, _)) = problem
    masks = {"lengths": lengths, "resets": resets}
    report = gradient_flow_report(params, inputs, state, d_h=d_h, **masks)
    steps = linearize(params, inputs, state, **masks)
    truth = path_norms(steps, d_h)
    assert_close(report.paths, truth, 0.0)
    f, survival = np.asarray(steps.each.derivatives.dc_dc_tm1), np.ones((8, 4, 5))
    valid = np.arange(7)[:, None] < np.asarray(lengths)
    for t in reversed(range(7)):
        kept = f[t] * ~np.asarray(resets[t])[:, None]
        survival[t] = survival[t + 1] * np.where(valid[t][:, None], kept, 1)
    assert_close(jnp.exp(report.log_survival), survival, 1e-14)
    assert_close(report.log_forget, np.log(f[valid]).mean(0), 1e-14)
    by_params = [parameter_gradient(one_sequence(problem, b), d_h[b]) for b in range(4)]
    norms = np.stack([np.linalg.norm(ravel_pytree(each)[0]) for each in by_params])
    assert_close(report.parameter_gradients, norms, 1e-13)
    found = advice(report)
    clipping = optax.clip_by_global_norm(found.clipping_norm)
    clipped, _ = clipping.update(by_params[norms.argmax()], clipping.init(params))
    left = np.linalg.norm(ravel_pytree(clipped)[0]) / norms.max()
    assert abs(left - found.clipping_scale) < 1e-13
    assert found.clipping_scale < 1


def advised(params: LSTMParams, inputs: jax.Array) -> Advice:
    """All of one sequence, with every argument given, so that one compilation serves."""
    T, H = len(inputs), len(params.recurrent_kernel)
    state = jaxlstm.init_state(H, dtype=jnp.float64)
    masks = {"lengths": jnp.asarray(T, jnp.int32), "resets": jnp.zeros(T, bool)}
    return advice(gradient_flow_report(params, inputs, state, **masks))


def test_advice_does_what_it_says():
    """With f constant, the advised bias makes the half-life T; and orthogonal kernels need none."""
    T, D, H = 7, 2, 5
    params = jaxlstm.init_params(jax.random.key(0), D, H, forget_bias=1.0, dtype=jnp.float64)
    assert_close(advised(params, jnp.ones((T, D))).kernel_gains, (1.0, 1.0), 1e-14)
    still = params._replace(recurrent_kernel=jnp.zeros((H, 4 * H)))
    short = advised(still, jnp.zeros((T, D)))
    assert_close(short.half_life, np.log(0.5) / np.log(1 / (1 + np.exp(-1.0))), 1e-13)
    assert short.lines[0].endswith(
        f"{short.forget_bias:.3g} more would make it the 7 of these inputs."
    )
    bias = still.bias.at[H : 2 * H].add(short.forget_bias)
    long = advised(still._replace(bias=bias), jnp.zeros((T, D)))
    assert_close(long.half_life, float(T), 1e-12)
    assert abs(long.forget_bias) < 1e-12
    longer = still._replace(bias=bias.at[H : 2 * H].add(1.0))
    assert "leave it" in advised(longer, jnp.zeros((T, D))).lines[0]


def test_without_batch():
    problem = draw(2, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, _ = problem
    batch = gradient_flow_report(params, inputs, state, lengths=lengths, resets=resets)
    one = one_sequence(problem, 1)
    alone = gradient_flow_report(*one[:3], lengths=one.lengths, resets=one.resets)
    for field in ("gates", "log_survival"):
        assert_close(jnp.exp(getattr(alone, field)), jnp.exp(getattr(batch, field)[:, 1]), 1e-14)
    assert_close(alone.parameter_gradients, batch.parameter_gradients[1], 1e-14)
