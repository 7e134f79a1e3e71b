"""The documents' bounds and asymptotic claims, and spectra against closed forms."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from drawing import SIGMOID, TANH, assert_close, draw
from jax import Array

from jaxlstm import Activations, LSTMParams
from jaxlstm.gradient_flow import (
    LSTMSteps,
    PathBounds,
    jacobian_product,
    linearize,
    lstm_spectrum,
    matrices,
    output_gate_path,
    path_bounds,
    path_parts,
    rnn_flow,
    rnn_spectrum,
    spectral_bound,
    step_jacobians,
)
from jaxlstm.rnn import (
    RNNParams,
    RNNSteps,
    init_rnn,
    linearize_rnn,
    rnn,
    rnn_jacobians,
    rnn_state_gradients,
)

SMALL = (7, 4, 2, 5)
DRAWS = 10_000
ENDLESS = 10_000


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def output_gate_factors(steps: LSTMSteps) -> np.ndarray:
    """dh_t/dh_{t-1} by the output gate alone: [T, B, H, H]."""
    W_o = np.split(np.asarray(steps.recurrent_kernel), 4, axis=1)[3]
    return np.asarray(steps.each.derivatives.dh_dzo)[..., None] * W_o.T


def test_output_gate_path_is_the_documents_t_1():
    problem = draw(1, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, (_, (row, _)) = problem
    steps = linearize(params, inputs, state, lengths=lengths, resets=resets)
    path = output_gate_path(steps, row)
    factors, truth = output_gate_factors(steps), [np.asarray(row)]
    for t in reversed(range(len(inputs))):
        before = np.einsum("bi,bij->bj", truth[0], factors[t]) * ~np.asarray(resets[t])[:, None]
        truth.insert(0, np.where((t < lengths)[:, None], before, truth[0]))
    assert_close(path.direction * jnp.exp(path.log_norm)[..., None], np.stack(truth), 1e-14)


def test_bounds_are_the_documents():
    """Over the valid steps after k alone; a reset among them has K_j = 0."""
    problem = draw(1, *SMALL, jnp.float64)
    params, inputs, state, lengths, resets, (_, (row, _)) = problem
    steps = linearize(params, inputs, state, lengths=lengths, resets=resets)
    W_o = np.split(np.asarray(params.recurrent_kernel), 4, axis=1)[3]
    K = np.abs(steps.each.derivatives.dh_dzo).max(-1) * ~np.asarray(resets)
    truth, H = np.empty((3, 8, 4)), len(W_o)
    for k, b in np.ndindex(8, 4):
        path, size = K[k : lengths[b], b], np.linalg.norm(row[b])
        truth[0, k, b] = size * np.prod(path * np.linalg.norm(W_o, 2))
        truth[1, k, b] = size * (path.max(initial=0) * np.linalg.norm(W_o, 2)) ** len(path)
        truth[2, k, b] = size * (H / 2 * np.linalg.norm(W_o)) ** len(path)
    found = path_bounds(steps, row)
    for bound, known in zip(found[1:], truth, strict=True):
        assert_close(
            jnp.exp(bound) / np.maximum(known, 1e-300), known / np.maximum(known, 1e-300), 1e-13
        )


def random_bounds(seed: Array, activations: Activations) -> tuple[PathBounds, Array, Array]:
    """Of one draw: the bounds, the tight one, and |K_j| of every step."""
    keys = iter(jax.random.split(jax.random.key(seed), 6))

    def normal(*shape: int) -> Array:
        return jax.random.normal(next(keys), shape, float)

    T, D, H = 5, 2, 3
    scale = jnp.exp(2 * normal())
    params = LSTMParams(normal(D, 4 * H), scale * normal(H, 4 * H), normal(4 * H))
    steps = linearize(params, 3 * normal(T, D), activations=activations)
    d_h = normal(H)
    K = jnp.abs(steps.each.derivatives.dh_dzo).max(-1)
    return path_bounds(steps, d_h), spectral_bound(steps, d_h), K


@pytest.mark.parametrize("activations", [TANH, SIGMOID], ids=str)
def test_bounds_hold_on_many_draws(activations):
    """003's K is the largest over the steps: no one step's will do, and 1/4 always does."""
    seeds = jnp.arange(DRAWS)
    bounds, tight, K = jax.jit(jax.vmap(lambda seed: random_bounds(seed, activations)))(seeds)
    rising = [bounds.measured, tight, bounds.stepwise, bounds.uniform, bounds.frobenius]
    for lower, upper in pairwise(rising):
        assert (lower[:, -1] == upper[:, -1]).all()
        assert (lower <= upper + 1e-12).all()
    alive = np.isfinite(tight[:, 0])
    assert alive.mean() > 0.99
    looseness = [np.median((bound - tight)[alive, 0]) for bound in rising[2:]]
    assert (np.diff(looseness) > 0).all()
    assert looseness[0] > 0
    assert K.max() <= 0.25
    spectral = (bounds.uniform[:, 0] - bounds.uniform[:, -1]) / 5 - jnp.log(K.max(1))
    for j in range(5):
        by_one_step = bounds.uniform[:, -1] + 5 * (jnp.log(K[:, j]) + spectral)
        assert (bounds.measured[:, 0] > by_one_step).mean() > 1e-3


def test_spectral_bound_is_attained():
    problem = draw(2, *SMALL, jnp.float64, masks=False)
    steps = linearize(problem.params, problem.inputs, problem.initial_state)
    product = np.linalg.multi_dot
    rows = [
        np.linalg.svd(product(list(factors[::-1])))[0][:, 0]
        for factors in np.moveaxis(output_gate_factors(steps), 1, 0)
    ]
    d_h = jnp.asarray(np.stack(rows))
    assert_close(spectral_bound(steps, d_h)[0], path_bounds(steps, d_h).measured[0], 1e-13)


def slope(log: Any) -> np.ndarray:
    """Of the least-squares line through the values [T, ...], by steps back from the last."""
    log = np.asarray(log)[::-1]
    distance = np.arange(len(log)) - (len(log) - 1) / 2
    return np.tensordot(distance, log, 1) / (distance @ distance)


def test_cell_path_decays_at_each_units_mean_of_log_f():
    """The fit to a random walk of n steps is off by about 1.1 sd/sqrt(n) for steps apart."""
    T, H = 1000, 4
    params, inputs, *_ = draw(3, T, 1, 3, H, jnp.float64, masks=False)
    bias = params.bias.at[H : 2 * H].set(jnp.array([1.0, 1.5, 2.0, 2.5]))
    steps = linearize(params._replace(bias=bias), inputs[:, 0])
    log_f = np.log(steps.each.derivatives.dc_dc_tm1)
    parts = path_parts(steps, jnp.ones(H), crossings=1)
    fitted = slope(np.log(np.abs(parts.cell_path.cell)))
    assert (np.abs(fitted - log_f.mean(0)) < 5 * log_f.std(0) / T**0.5).all()
    assert np.ptp(log_f.mean(0)) > 0.1
    first, *_, last = np.log(np.abs(parts.cell_path.cell))
    assert_close((first - last) / T, log_f.mean(0), 1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_t_1_grows_at_the_spectral_radius_with_constant_gates(seed):
    T, H = 2000, 4
    params, inputs, state, *_ = draw(seed, 1, 1, 3, H, jnp.float64, masks=False)
    large = params._replace(recurrent_kernel=20 * params.recurrent_kernel)
    steps = linearize(large, inputs, state)
    each = jax.tree.map(lambda leaf: jnp.repeat(leaf, T, axis=0), steps.each)
    bounds = path_bounds(steps._replace(each=each), jnp.ones((1, H)))
    rate = np.log(np.abs(np.linalg.eigvals(output_gate_factors(steps)[0, 0])).max())
    assert abs(slope(bounds.measured[:, 0]) - rate) < 10 / T
    for bound in bounds[1:]:
        assert slope(bound[:, 0]) > rate


def without_recurrence(T: int) -> tuple[LSTMSteps, np.ndarray, np.ndarray]:
    """Constant diagonal maps: c is multiplied by f, h is dh/dc times c; f and dh/dc."""
    D, H = 2, 3
    params = draw(4, 1, 1, D, H, jnp.float64, masks=False).params
    params = params._replace(recurrent_kernel=jnp.zeros((H, 4 * H)))
    f = np.array([0.97, 0.5, 0.8])
    bias = jnp.zeros(4 * H).at[H : 2 * H].set(np.log(f / (1 - f)))
    steps = linearize(params._replace(bias=bias), jnp.zeros((T, D)))
    return steps, f, np.asarray(steps.each.derivatives.dh_dc[-1])


def test_exponents_of_a_diagonal_map_at_10000_steps():
    """H of log f, H of minus infinity, and each singular value sqrt(1 + (dh/dc)^2) f^T."""
    steps, f, dh_dc = without_recurrence(ENDLESS)
    growth, exponents, log_singular_values = lstm_spectrum(steps)
    truth = np.sort(np.log(f))[::-1]
    assert_close((growth[-1, :3] - growth[100, :3]) / (ENDLESS - 101), truth, 1e-12)
    assert_close(exponents[:3], truth, 1e-3)
    closed = np.sort(ENDLESS * np.log(f) + np.log1p(dh_dc**2) / 2)[::-1]
    assert_close(log_singular_values[:3], closed, 1e-12)
    for lost in (growth[:, 3:], exponents[3:], log_singular_values[3:]):
        assert (lost == -np.inf).all()


def test_growth_of_a_random_lstm_at_10000_steps_is_its_volumes():
    """All directions together grow by the product of all determinants, to about e^-100000."""
    params, inputs, *_ = draw(4, ENDLESS, 1, 2, 3, jnp.float64, masks=False)
    steps = linearize(params, inputs[:, 0])
    found = lstm_spectrum(steps)
    log_det = np.linalg.slogdet(matrices(step_jacobians(steps)))[1].sum()
    assert log_det < -50_000
    assert abs(found.growth[-1].sum() / log_det - 1) < 1e-12
    assert abs(found.log_singular_values.sum() / log_det - 1) < 1e-12
    assert (np.diff(found.exponents) < 0).all()


def test_spectrum_of_a_short_product_is_its_svd():
    """And that of one with a reset in it is minus infinity from there on."""
    params, inputs, state, lengths, *_ = draw(5, *SMALL, jnp.float64)
    never = jnp.zeros(inputs.shape[:2], bool)
    steps = linearize(params, inputs, state, lengths=lengths, resets=never)
    product, found = np.asarray(jacobian_product(steps)), lstm_spectrum(steps)
    truth = np.linalg.svd(product, compute_uv=False)
    assert_close(np.exp(found.log_singular_values), truth, 1e-13)
    log_det = np.linalg.slogdet(matrices(step_jacobians(steps)))[1].sum(0)
    assert_close(found.log_singular_values.sum(-1), log_det, 1e-12)
    some = np.asarray(lengths) > 0
    mean = (found.growth[-1] / lengths[:, None].astype(float)).sum(-1)
    assert_close(found.exponents.sum(-1)[some], mean[some], 1e-14)
    assert (np.isnan(found.exponents).all(-1) == ~some).all()
    once = never.at[3, 0].set(lengths[0] > 3)
    growth = lstm_spectrum(linearize(params, inputs, state, lengths=lengths, resets=once)).growth
    assert (growth[3:, 0] == -np.inf).all()
    assert (growth[:3, 0] == found.growth[:3, 0]).all()
    assert (growth[:, 1:] == found.growth[:, 1:]).all()


def rnn_problem(seed: int, T: int = 7, B: int = 3, D: int = 2, H: int = 4) -> Any:
    rng = np.random.default_rng(seed)
    shapes = ((D, H), (H, H), (H,), (T, B, D), (B, H), (B, H))
    U, W, b, inputs, state, d_h = (jnp.asarray(rng.standard_normal(s)) for s in shapes)
    return RNNParams(U, W, b), inputs, state, d_h


def test_first_parameters_of_an_rnn():
    params = init_rnn(jax.random.key(6), 40, 5, dtype=jnp.float64)
    assert_close(params.recurrent_kernel @ params.recurrent_kernel.T, np.eye(5), 1e-15)
    largest, limit = np.abs(params.input_kernel).max(), np.sqrt(6 / (40 + 5))
    assert params.input_kernel.shape == (40, 5)
    assert 0.95 * limit < largest < limit
    assert (params.bias == np.zeros(5)).all()
    assert {leaf.dtype for leaf in params} == {jnp.dtype("float64")}
    with pytest.raises(ValueError, match=r"hidden_size: expected at least 1, got 0"):
        init_rnn(jax.random.key(6), 3, 0)


def test_rnn_against_numpy_and_autodiff():
    """Values, Jacobians, gradients by every state, and document 003's formula of dL_t/dW."""
    params, inputs, state, d_h = rnn_problem(1)
    U, W, b = map(np.asarray, params)
    states = [np.asarray(state)]
    for x in np.asarray(inputs):
        states.append(np.tanh(x @ U + states[-1] @ W + b))
    assert_close(rnn(params, inputs, state), np.stack(states[1:]), 1e-15)
    steps = linearize_rnn(params, inputs, state)

    def one_step(h: Array, x_t: Array) -> Array:
        return rnn(params, x_t[None], h)[0]

    jacobian = jax.vmap(jax.vmap(jax.jacfwd(one_step)))
    assert_close(rnn_jacobians(steps), jacobian(jnp.stack(states[:-1]), inputs), 1e-14)

    def loss(W: Array, state: Array, k: int = 0) -> Array:
        return jnp.vdot(d_h, rnn(params._replace(recurrent_kernel=W), inputs[k:], state)[-1])

    by_states = rnn_state_gradients(steps, d_h)
    for k in (0, 3):
        by_state = jax.grad(loss, 1)(params.recurrent_kernel, states[k], k)
        assert_close(by_states[k], by_state, 1e-14)
    by_W = jnp.einsum("tbi,tbj->ij", np.stack(states[:-1]), by_states[1:] * steps.derivative)
    assert_close(by_W, jax.grad(loss)(params.recurrent_kernel, state), 1e-14)


def still(W: np.ndarray, T: int) -> RNNSteps:
    """An RNN at rest at zero, where every Jacobian is W'."""
    H = len(W)
    params = RNNParams(jnp.ones((1, H)), jnp.asarray(W), jnp.zeros(H))
    return linearize_rnn(params, jnp.zeros((T, 1)))


def test_rnn_exponents_in_closed_form_at_10000_steps():
    """A rotation times s, and a triangular kernel, where eigenvalues and singular values differ."""
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    found = rnn_spectrum(still(1.1 * rotation, ENDLESS))
    for leaf in (found.exponents, found.growth[-1] / ENDLESS, found.log_singular_values / ENDLESS):
        assert_close(leaf, np.full(4, np.log(1.1)), 1e-12)
    triangle = np.triu(np.random.default_rng(3).standard_normal((4, 4)), 1)
    found = rnn_spectrum(still(triangle + np.diag([1.5, -0.7, 1.1, 0.0]), ENDLESS))
    late = (found.growth[-1] - found.growth[1000]) / (ENDLESS - 1001)
    assert_close(late[:3], np.log([1.5, 1.1, 0.7]), 1e-12)
    assert_close(found.exponents[:3], np.log([1.5, 1.1, 0.7]), 1e-2)
    for lost in (found.exponents[3], found.log_singular_values[3]):
        assert lost == -np.inf


@pytest.mark.parametrize("unit", [0, 1])
def test_a_lost_direction_leaves_the_others_alone(unit):
    """A unit apart is the fastest, is cut off, and does not come back from rounding."""
    others = [k for k in range(3) if k != unit]
    W, d = np.eye(3), np.random.default_rng(4).uniform(0.05, 0.2, (80, 3))
    W[np.ix_(others, others)] = [[0.6, 0.3], [-0.2, 0.7]]
    d[:, unit] = np.where(np.arange(80) == 40, 0, 0.9)
    found = rnn_spectrum(RNNSteps(jnp.asarray(W), jnp.asarray(d)))
    each = d[:, others, None] * W[np.ix_(others, others)].T
    truth = np.log(np.linalg.svd(np.linalg.multi_dot(list(each[::-1])), compute_uv=False))
    assert_close(found.log_singular_values[:2], truth, 1e-12)
    assert_close(truth.sum(), np.log(d[:, others]).sum() + 80 * np.log(0.48), 1e-12)
    for leaf in (found.growth[-1], *found[1:]):
        assert leaf[2] == -np.inf


def test_rnn_spectrum_of_a_short_product_is_its_svd():
    params, inputs, state, _ = rnn_problem(4)
    steps = linearize_rnn(params, inputs, state)
    J = np.moveaxis(np.asarray(rnn_jacobians(steps)), 1, 0)
    truth = [np.linalg.svd(np.linalg.multi_dot(list(each[::-1])), compute_uv=False) for each in J]
    assert_close(np.exp(rnn_spectrum(steps).log_singular_values), np.stack(truth), 1e-13)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bias": np.zeros(3)}, r"params.bias: expected shape \[H\] = \[4\] .* got \[3\]"),
        ({"input_kernel": np.zeros(2)}, r"params.input_kernel: expected 2 dimensions, got 1"),
        ({"inputs": np.zeros(2)}, r"inputs: expected shape \[T, B, 2\] or \[T, 2\] .* got \[2\]"),
        ({"inputs": np.zeros((1, 7, 2, 2))}, r"inputs: expected shape .* got \[1, 7, 2, 2\]"),
        ({"inputs": np.zeros((7, 3, 2), np.float32)}, r"inputs: expected dtype float64 .* float32"),
        ({"state": np.zeros(4)}, r"initial_state: expected shape \[B, H\] = \[3, 4\] .* \[4\]"),
        ({"d_h": np.zeros(4)}, r"d_h: expected shape \[B, H\] = \[3, 4\] .* got \[4\]"),
        ({"d_h": np.zeros((3, 4), np.float32)}, r"d_h: expected dtype float64 .* got float32"),
        ({"d_h": 1.0}, r"d_h: expected an array, got float"),
        ({"directions": 5}, r"directions: expected at most 4, got 5"),
    ],
)
def test_bad_input(changed, told):
    params, inputs, state, d_h = rnn_problem(5)
    given = {**params._asdict(), "inputs": inputs, "state": state, "d_h": d_h, "directions": 1}
    U, W, b, inputs, state, d_h, directions = (given | changed).values()
    jaxtyping.config.update("jaxtyping_disable", True)  # it would answer before ours
    try:
        with pytest.raises((ValueError, TypeError), match=told):
            rnn_flow(RNNParams(U, W, b), inputs, state, d_h=d_h, directions=directions)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_spectra_of_nothing_and_of_half_precision():
    params, inputs, _, _ = rnn_problem(5)
    for wrong, told in (
        (inputs[:0], "at least one step, got none"),
        (inputs[:, :0], "at least one sequence, got none"),
    ):
        with pytest.raises(ValueError, match=f"steps: expected {told}"):
            rnn_spectrum(linearize_rnn(params, wrong))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw(1, *SMALL, jnp.float64)[:2])
    steps, told = linearize(*half), "steps: expected dtype float32 or float64, got bfloat16"
    with pytest.raises(TypeError, match=told):
        lstm_spectrum(steps)
    with pytest.raises(TypeError, match=told):
        path_bounds(steps, jnp.ones((4, 5), jnp.bfloat16))
