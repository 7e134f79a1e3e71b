"""The report on one's own model: its own numbers, and that its advice does what it says."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from drawing import Problem, assert_close, draw, one_sequence, run
from jax.flatten_util import ravel_pytree

import jaxlstm
from jaxlstm import LSTMParams, lstm_autodiff
from jaxlstm.gradient_flow import (
    PARTS,
    Advice,
    GradientFlowReport,
    advice,
    cancellation,
    curves,
    gradient_flow_report,
    linearize,
    path_bounds,
    path_norms,
    shares,
    spectral_bound,
    state_gradients,
)

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
    whole = gradient_flow_report(params, inputs, state, d_h=d_h, **masks)
    (report,) = whole.layers
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
    found = advice(whole)
    clipping = optax.clip_by_global_norm(found.clipping_norm)
    clipped, _ = clipping.update(by_params[norms.argmax()], clipping.init(params))
    left = np.linalg.norm(ravel_pytree(clipped)[0]) / norms.max()
    assert abs(left - found.clipping_scale) < 1e-13
    assert found.clipping_scale < 1


def test_curves_count_from_each_sequences_own_end():
    """Ragged, one empty, one with a reset: each distance over the sequences that reach it."""
    params, inputs, state, lengths, resets, (_, (d_h, _)) = draw(1, *SMALL, jnp.float64)
    masks = {"lengths": lengths, "resets": resets}
    whole = gradient_flow_report(params, inputs, state, d_h=d_h, **masks, spectral=True)
    layer, ends = whole.layers[0], np.asarray(lengths)
    steps = linearize(params, inputs, state, **masks)
    np.testing.assert_array_equal(layer.spectral, spectral_bound(steps, d_h))
    found = curves(layer)
    assert len(found.hidden) == ends.max() + 1
    share, spread = shares(layer.paths), cancellation(layer.paths).cell
    for k in range(ends.max() + 1):
        at = [(n - k, b) for b, n in enumerate(ends) if n >= max(k, 1)]
        total, kept = layer.paths.total.hidden, layer.log_survival
        assert found.hidden[k] == np.median([total[i] for i in at])
        survived = np.median([kept[i] for i in at], 0) / np.log(10)
        np.testing.assert_allclose(found.survival[k], survived, rtol=1e-14)
        arrives = [i for i in at if layer.paths.total.cell[i] > 0]
        some = bool(arrives)
        assert abs(found.crossings[k].sum() - some) < 1e-14
        assert abs(found.first_gates[k].sum() + found.crossings[k, 0] - some) < 1e-14
        own = np.mean([share.cell_path.cell[i] for i in arrives]) if some else 0
        assert abs(found.crossings[k, 0] - own) < 1e-14
        assert found.cancellation[k] == (np.median([spread[i] for i in arrives]) if some else 0)
        alive = [i for i in at if np.isfinite(layer.bounds.measured[i])]
        for bound, loose in (
            (layer.bounds.uniform, found.looseness[k, 1]),
            (layer.spectral, found.spectral[k]),
        ):
            truth = [bound[i] - layer.bounds.measured[i] for i in alive]
            assert (
                np.isnan(loose) if not alive else abs(loose - np.median(truth) / np.log(10)) < 1e-13
            )
    assert not found.crossings[-1].any()


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
    assert_close(advised(params, jnp.ones((T, D))).layers[0].kernel_gains, (1.0, 1.0), 1e-14)
    kernel = params.recurrent_kernel
    for times, before, told in ((1, 1, "leave it"), (20, 0.05, "start from 0.05 times the kernel")):
        steep = params._replace(recurrent_kernel=times * kernel)
        found = advised(steep, jnp.ones((T, D)))
        assert found.lines[1].endswith(f"{told}.")
        (layer,) = found.layers
        assert_close(layer.kernel_scale, float(before), 1e-13)
        assert (layer.exponent > 0) == (times > 1)
    tame = steep._replace(recurrent_kernel=layer.kernel_scale * steep.recurrent_kernel)
    assert advised(tame, jnp.ones((T, D))).layers[0].exponent < 0
    uneven = advised(
        params._replace(recurrent_kernel=kernel.at[:, :H].multiply(3)), jnp.ones((T, D))
    )
    assert uneven.lines[1].endswith("start from an orthogonal one.")
    still = params._replace(recurrent_kernel=jnp.zeros((H, 4 * H)))
    short = advised(still, jnp.zeros((T, D)))
    (layer,) = short.layers
    assert_close(layer.half_life, np.log(0.5) / np.log(1 / (1 + np.exp(-1.0))), 1e-13)
    assert short.lines[0].endswith(
        f"{layer.forget_bias:.3g} more would make it about the 7 steps of the longest sequence."
    )
    assert len(short.lines) == 2
    bias = still.bias.at[H : 2 * H].add(layer.forget_bias)
    long = advised(still._replace(bias=bias), jnp.zeros((T, D)))
    assert_close(long.layers[0].half_life, float(T), 1e-12)
    assert abs(long.layers[0].forget_bias) < 1e-12
    longer = still._replace(bias=bias.at[H : 2 * H].add(1.0))
    assert "leave it" in advised(longer, jnp.zeros((T, D))).lines[0]


def test_without_batch():
    problem = draw(2, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, _ = problem
    (batch,) = gradient_flow_report(params, inputs, state, lengths=lengths, resets=resets).layers
    one = one_sequence(problem, 1)
    (alone,) = gradient_flow_report(*one[:3], lengths=one.lengths, resets=one.resets).layers
    for field in ("gates", "log_survival"):
        assert_close(jnp.exp(getattr(alone, field)), jnp.exp(getattr(batch, field)[:, 1]), 1e-14)
    assert_close(alone.parameter_gradients, batch.parameter_gradients[1], 1e-14)


def test_stack():
    """What reaches the lower layer comes down from the upper one, at every step."""
    lower, upper = draw(3, *SMALL, jnp.float64), draw(4, 7, 4, 5, 6, jnp.float64)
    layers, states = (lower.params, upper.params), (lower.initial_state, upper.initial_state)
    masks = {"lengths": lower.lengths, "resets": lower.resets}
    d_h, told = upper.cotangents[1].hidden, []
    found = gradient_flow_report(
        layers, lower.inputs, states, d_h=d_h, **masks, progress=told.append
    )

    def last_hidden(layers: Any, outputs_moved: Any) -> jax.Array:
        outputs, _ = lstm_autodiff(layers[0], lower.inputs, states[0], **masks)
        return lstm_autodiff(layers[1], outputs + outputs_moved, states[1], **masks)[1].hidden

    none = jnp.zeros((7, 4, 5))
    d_outputs = jax.vjp(partial(last_hidden, layers), none)[1](d_h)[0]
    steps = linearize(*lower[:3], **masks)
    nothing = jnp.zeros((4, 5))
    assert_close(found.layers[0].paths, path_norms(steps, nothing, d_outputs=d_outputs), 1e-12)
    length = np.asarray(lower.lengths)
    arrives = np.asarray(state_gradients(steps, nothing, d_outputs=d_outputs).hidden)
    last = jnp.asarray(arrives[length, np.arange(4)])
    assert np.abs(last).max() > 0
    assert_close(
        jnp.exp(found.layers[0].bounds.measured), jnp.exp(path_bounds(steps, last).measured), 1e-12
    )

    def of_one(b: int) -> Any:
        only = jnp.zeros_like(d_h).at[b].set(d_h[b])
        by_layers = jax.grad(lambda layers: jnp.vdot(only, last_hidden(layers, none)))(layers)
        return [np.linalg.norm(ravel_pytree(layer)[0]) for layer in by_layers]

    truth = np.array([of_one(b) for b in range(4)]).T
    for flow, norms in zip(found.layers, truth, strict=True):
        assert_close(flow.parameter_gradients, norms, 1e-12)
    assert told[0] == "layer 2: paths"
    assert len(told) == 2 * len(PARTS)
    both = advice(found)
    assert_close(both.clipping_norm, float(np.median(np.hypot(*truth)[length > 0])), 1e-12)
    assert (length == 0).any()
    assert [line[:7] for line in both.lines] == ["Layer 1"] * 2 + ["Layer 2"] * 2 + ["Clippin"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"inputs": np.zeros((0, 4, 2))}, "inputs: expected at least one step, got none"),
        ({"inputs": np.zeros((7, 0, 2))}, "inputs: expected at least one sequence, got none"),
        ({"d_h": np.zeros(5)}, r"d_h: expected shape \[B, H\] = \[4, 5\] .* got \[5\]"),
        ({"d_h": np.full((4, 5), np.inf)}, "d_h: expected finite numbers, got inf"),
        ({"lengths": np.zeros(4, int)}, "lengths: expected at least one above 0, got none"),
        ({"crossings": 0}, "crossings: expected at least 1, got 0"),
        ({"directions": 11}, "directions: expected at most 10, got 11"),
        ({"bias": np.full(20, np.nan)}, "params.bias: expected finite numbers, got nan"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(changed, told, monkeypatch):
    problem, jaxtyped = draw(1, *SMALL, jnp.float64, masks=False), "jaxtyping_disable"
    given = {
        "d_h": None,
        "lengths": None,
        "crossings": 3,
        "directions": 1,
        "inputs": problem.inputs,
    }
    given |= changed
    params = problem.params._replace(bias=given.pop("bias", problem.params.bias))
    monkeypatch.setattr("jaxlstm.gradient_flow.report._linearized", None)
    jaxtyping.config.update(jaxtyped, True)  # it would answer before ours
    try:
        with pytest.raises(ValueError, match=told):
            gradient_flow_report(params, **given)
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), (params, problem.inputs))
        with pytest.raises(
            TypeError, match="inputs: expected dtype float32 or float64, got float16"
        ):
            gradient_flow_report(*half)
        for wrong in (curves, advice, shares, cancellation):
            with pytest.raises(TypeError, match=r"expected .*, got LSTMParams"):
                wrong(params)
    finally:
        jaxtyping.config.update(jaxtyped, False)


def test_padding_may_hold_anything():
    problem = draw(1, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, _ = problem
    past = np.arange(7)[:, None] >= np.asarray(lengths)
    masks = {"lengths": lengths, "resets": resets}
    found = [
        gradient_flow_report(params, x, state, **masks).layers[0].parameter_gradients
        for x in (inputs, jnp.where(past[..., None], jnp.nan, inputs))
    ]
    assert (found[0] == found[1]).all()
    wrong = inputs.at[0, np.argmax(lengths), 0].set(jnp.inf)
    with pytest.raises(ValueError, match=r"inputs: expected finite numbers, got inf"):
        gradient_flow_report(params, wrong, state, **masks)


def test_what_is_not_finite_gets_no_advice():
    """As an overflow would leave it."""
    problem = draw(1, *SMALL, jnp.float64)
    (layer,) = gradient_flow_report(
        *problem[:3], lengths=problem.lengths, resets=problem.resets
    ).layers
    for number in (jnp.nan, jnp.inf):
        broken = layer._replace(
            log_forget=-number * jnp.ones(5),
            spectrum=layer.spectrum._replace(exponents=jnp.full((4, 1), number)),
            parameter_gradients=layer.parameter_gradients.at[:].set(number),
        )
        lines = advice(GradientFlowReport((broken,))).lines
        assert len(lines) == 3
        assert all("nothing can be advised" in line for line in lines)


def test_memory_of_the_parts_is_linear_in_time():
    """What compiled code takes beside its inputs and outputs, twice the steps against once."""
    params = jaxlstm.init_params(jax.random.key(0), 2, 8, dtype=jnp.float64)

    def taken(T: int) -> int:
        inputs, d_h = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((T, 2), (8,)))
        lowered = jax.jit(path_norms).lower(jax.eval_shape(linearize, params, inputs), d_h)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert 0 < taken(400) <= 2.05 * taken(200)
