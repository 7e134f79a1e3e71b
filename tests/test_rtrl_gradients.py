"""Online gradients, the estimators against what they leave out, truncated BPTT, bad input."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from drawing import (
    TANH,
    Problem,
    assert_close,
    assert_same_bits,
    draw,
    one_sequence,
    run,
)
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from stepping import SMALL, compilations, compiled, leaves, past_length, stepwise

from jaxlstm import LSTMParams, LSTMState, lstm_autodiff
from jaxlstm.cell import cell_step
from jaxlstm.rtrl import (
    RTRLState,
    gradient_errors,
    init_rtrl,
    online_gradients,
    pull_back,
    rtrl,
    rtrl_step,
    truncated_gradients,
)

ESTIMATES = pytest.mark.parametrize("estimator", ["snap1", "cell"])
ALL = pytest.mark.parametrize("estimator", ["exact", "snap1", "cell"])


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def loss_fn(h_t: jax.Array, target_t: jax.Array) -> jax.Array:
    return (h_t @ jnp.linspace(-1.0, 2.0, h_t.shape[-1]) - target_t) ** 2


def targets_of(problem: Problem) -> jax.Array:
    """With NaN in the padding."""
    targets = jnp.sin(jnp.arange(problem.resets.size, dtype=float)).reshape(problem.resets.shape)
    return jnp.where(past_length(problem), jnp.nan, targets)


def every_gradient(problem: Problem, estimator: str) -> tuple[Any, LSTMParams, RTRLState]:
    params, inputs, state, lengths, resets, _ = problem
    masks = {"lengths": lengths, "resets": resets}
    targets = targets_of(problem)
    return online_gradients(loss_fn, params, inputs, targets, state, **masks, estimator=estimator)


@ALL
def test_the_padding_never_matters(estimator):
    problem = draw(9, *SMALL, jnp.float64)
    poison = jnp.where(past_length(problem)[..., None], jnp.nan, problem.inputs)
    answer = compiled(every_gradient, estimator)
    assert_same_bits(answer(problem._replace(inputs=poison)), answer(problem))


def every_window(problem: Problem, window: int) -> tuple[Any, LSTMParams, LSTMState]:
    params, inputs, state, lengths, resets, _ = problem
    masks = {"lengths": lengths, "resets": resets}
    targets = targets_of(problem)
    return truncated_gradients(loss_fn, params, inputs, targets, state, **masks, window=window)


def by_bptt(problem: Problem) -> tuple[jax.Array, LSTMParams, LSTMState]:
    """The losses of every step, the gradient of their sum, the final state."""

    def loss(params: LSTMParams) -> tuple[jax.Array, Any]:
        hidden, final = run(lstm_autodiff, problem._replace(params=params))
        losses = loss_fn(hidden, jnp.nan_to_num(targets_of(problem)))
        losses = jnp.where(past_length(problem), 0.0, losses).reshape(len(losses), -1).sum(1)
        return losses.sum(), (losses, final)

    gradient, (losses, final) = jax.grad(loss, has_aux=True)(problem.params)
    return losses, gradient, final


def summed(gradients: LSTMParams) -> LSTMParams:
    return jax.tree.map(lambda leaf: leaf.sum(0), gradients)


@pytest.mark.parametrize("b", [None, 0])
def test_online_gradients_sum_to_the_gradient_of_bptt(b):
    problem = draw(12, *SMALL, jnp.float64)
    problem = problem if b is None else one_sequence(problem, b)
    losses, gradients, carry = compiled(every_gradient, "exact")(problem)
    truth = compiled(by_bptt)(problem)
    assert_close((losses, summed(gradients), carry.state), truth, 1e-13)


def test_each_contribution_is_that_of_its_own_step():
    problem = draw(13, *SMALL, jnp.float64)
    _, gradients, _ = compiled(every_gradient, "exact")(problem)
    for t in range(1, SMALL[0] + 1):
        shorter = problem._replace(lengths=jnp.minimum(problem.lengths, t))
        so_far = jax.tree.map(lambda leaf, t=t: leaf[:t].sum(0), gradients)
        assert_close(so_far, compiled(by_bptt)(shorter)[1], 1e-13)


def masked_dense(problem: Problem, estimator: str) -> list[np.ndarray]:
    """The recursion S' = J S + I of the whole state by autodiff, the forbidden entries masked.

    The final d(h, c)/dA of each sequence, [2H, N]: for the parameters, then for the initial state.
    """
    params, inputs, state, lengths, resets, _ = problem
    H = state.hidden.shape[-1]
    flat, unflatten = ravel_pytree(params)
    units = np.concatenate([np.arange(leaf.size) % H for leaf in params])
    units = np.concatenate([units, np.arange(2 * H) % H])
    own = units == np.arange(2 * H)[:, None] % H

    def one_step(flat: jax.Array, s: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.concatenate(cell_step(unflatten(flat), LSTMState(s[:H], s[H:]), x, TANH))

    jacobian = jax.jit(jax.jacfwd(one_step, (0, 1)))

    def of_sequence(b: int) -> np.ndarray:
        s = jnp.concatenate([state.hidden[b], state.cell[b]])
        S = np.concatenate([np.zeros((2 * H, flat.size)), np.eye(2 * H)], 1)
        for t in range(int(lengths[b])):
            s, S = (s * 0, S * 0) if resets[t, b] else (s, S)
            V, J = (np.array(each) for each in jacobian(flat, s, inputs[t, b]))
            if estimator == "cell":
                J[:, :H] = 0.0
            S = own * (J @ S + np.concatenate([V, np.zeros((2 * H, 2 * H))], 1))
            s = one_step(flat, s, inputs[t, b])
        return S

    return [of_sequence(b) for b in range(len(lengths))]


@ESTIMATES
def test_estimators_are_the_dense_recursion_with_entries_masked(estimator):
    problem = draw(14, *SMALL, jnp.float64)
    carry = compiled(stepwise, estimator)(problem)
    H = SMALL[-1]
    for b, S in enumerate(masked_dense(problem, estimator)):
        for kept, rows in zip(carry.sensitivities, (S[:H], S[H:]), strict=True):
            mine = jnp.concatenate([leaf[b].reshape(-1) for leaf in leaves(kept)])
            assert_close(mine, rows.sum(0), 1e-13)


@ESTIMATES
def test_estimators_differ_from_exact_and_point_its_way(estimator):
    problem = draw(15, *SMALL, jnp.float64)
    exact, estimate = (
        summed(compiled(every_gradient, name)(problem)[1]) for name in ("exact", estimator)
    )
    errors = gradient_errors(estimate, exact)
    assert 0.5 < errors.cosine < 0.999
    assert 0.01 < errors.relative_norm < 1.0


@ALL
def test_an_estimate_is_pulled_back_from_its_own_sensitivities(estimator):
    """By the sum that defines it, sequence for sequence and unit for unit."""
    problem = draw(16, *SMALL, jnp.float64)
    carry = compiled(stepwise, estimator)(problem)
    d_h = problem.cotangents[1].hidden
    letters = "bpj,bj->p" if estimator == "exact" else "bpj,bj->pj"
    for gradient, S_h, leaf in zip(
        pull_back(carry, d_h, estimator=estimator),
        carry.sensitivities.hidden.params,
        problem.params,
        strict=True,
    ):
        columns = np.asarray(S_h).reshape(len(d_h), -1, d_h.shape[1])
        truth = np.einsum(letters, columns, d_h).reshape(leaf.shape)
        assert_close(gradient, truth, 1e-14)


def test_one_unit_knows_no_other():
    """With H = 1 SnAp-1 leaves nothing out."""
    problem = draw(17, 6, 3, 2, 1, jnp.float64)
    exact, snap1 = (compiled(every_gradient, name)(problem)[1] for name in ("exact", "snap1"))
    assert_close(snap1, exact, 1e-14)


# Truncation.


@pytest.mark.parametrize("b", [None, 0])
@pytest.mark.parametrize("window", [7, 9])
def test_a_window_of_all_steps_is_bptt(window, b):
    problem = draw(18, *SMALL, jnp.float64)
    problem = problem if b is None else one_sequence(problem, b)
    losses, gradients, final = compiled(every_window, window)(problem)
    assert_close((losses, summed(gradients), final), compiled(by_bptt)(problem), 1e-13)


def with_state_stopped(problem: Problem, window: int) -> LSTMParams:
    """The gradient of a loop over steps with the state stopped before every window."""
    losses, valid = targets_of(problem), ~past_length(problem)

    def loss(params: LSTMParams) -> jax.Array:
        state, total = problem.initial_state, 0.0
        for t, x_t in enumerate(problem.inputs):
            state = jax.lax.stop_gradient(state) if t % window == 0 else state
            zeroed = partial(jnp.where, problem.resets[t][:, None], 0.0)
            new = cell_step(params, jax.tree.map(zeroed, state), x_t, TANH)
            state = jax.tree.map(partial(jnp.where, valid[t][:, None]), new, state)
            of_step = loss_fn(state.hidden, jnp.nan_to_num(losses[t]))
            total += jnp.where(valid[t], of_step, 0.0).sum()
        return total

    return jax.grad(loss)(problem.params)


@pytest.mark.parametrize("window", [1, 3])
def test_no_gradient_passes_the_edge_of_a_window(window):
    problem = draw(19, *SMALL, jnp.float64)
    losses, gradients, final = compiled(every_window, window)(problem)
    truth = compiled(with_state_stopped, window)(problem)
    assert_close(summed(gradients), truth, 1e-13)
    assert_close((losses, final), compiled(by_bptt)(problem)[::2], 1e-13)
    assert len(gradients.bias) == -(-SMALL[0] // window)


def test_gradient_errors():
    exact = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    estimate = {"a": np.array([3.0, 5.0]), "b": np.array([[4.0]])}
    assert gradient_errors(exact, exact) == pytest.approx((1.0, 0.0))
    assert gradient_errors(estimate, exact) == pytest.approx((0.5**0.5, 1.0))
    tiny, half = (jax.tree.map(lambda leaf, f=f: f * leaf, estimate) for f in (1e-300, 0.5))
    assert gradient_errors(tiny, estimate) == pytest.approx((1.0, 1.0))
    assert gradient_errors(tiny, jax.tree.map(lambda leaf: 1e-300 * leaf, exact)) == pytest.approx(
        (0.5**0.5, 1.0)
    )
    assert gradient_errors(half, estimate) == pytest.approx((1.0, 0.5))
    zeros = jax.tree.map(np.zeros_like, exact)
    assert gradient_errors(zeros, exact) == (0.0, 1.0)
    assert gradient_errors(exact, zeros) == (0.0, np.inf)
    assert gradient_errors(zeros, zeros) == (1.0, 0.0)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, exact)
    assert np.isnan(gradient_errors(broken, exact).cosine)
    assert gradient_errors(broken, exact).relative_norm == np.inf


@pytest.fixture
def _unchecked_types() -> Any:
    """The checks of annotations, a help under pytest only, would answer before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


GOOD = draw(22, *SMALL, jnp.float32, masks=False)
CARRY = init_rtrl(GOOD.params, GOOD.initial_state)
SNAP1 = init_rtrl(GOOD.params, GOOD.initial_state, estimator="snap1")
D_H = GOOD.cotangents[1].hidden
TARGETS = np.zeros(SMALL[:2], np.float32)


def whole(**changed: Any) -> Any:
    return rtrl(**({"params": GOOD.params, "inputs": GOOD.inputs} | changed))


def one_step(**changed: Any) -> Any:
    return rtrl_step(**({"params": GOOD.params, "carry": CARRY, "x_t": GOOD.inputs[0]} | changed))


def online(loss_fn: Any = loss_fn, targets: Any = TARGETS, **changed: Any) -> Any:
    return online_gradients(loss_fn, GOOD.params, GOOD.inputs, targets, **changed)


def truncated(loss_fn: Any = loss_fn, targets: Any = TARGETS, window: Any = 3) -> Any:
    return truncated_gradients(loss_fn, GOOD.params, GOOD.inputs, targets, window=window)


def mean_loss(h_t: jax.Array, target_t: jax.Array) -> jax.Array:
    return (h_t.sum(-1) - target_t).mean()


BAD = [
    (ValueError, partial(whole, inputs=np.zeros((7, 4, 3), np.float32)), "inputs: expected shape"),
    (TypeError, partial(whole, inputs=GOOD.inputs.astype(jnp.bfloat16)), "inputs: expected dtype"),
    (ValueError, partial(whole, lengths=np.array([8, 1, 1, 1])), "lengths: expected values from"),
    (ValueError, partial(whole, block=0), "block: expected at least 1, got 0."),
    (TypeError, partial(whole, block=1.5), "block: expected a whole number, got 1.5."),
    (TypeError, partial(one_step, carry=GOOD.initial_state), "carry: expected RTRLState, got LSTM"),
    (ValueError, partial(one_step, carry=SNAP1), "carry.sensitivities: expected leaves as init"),
    (ValueError, partial(one_step, x_t=GOOD.inputs), "x_t: expected shape [B, 2] or [2]"),
    (ValueError, partial(one_step, valid_t=np.array(True)), "valid_t: expected shape [B] = [4]"),
    (TypeError, partial(one_step, reset_t=np.ones(4)), "reset_t: expected dtype bool, got float64"),
    (TypeError, partial(one_step, reset_t=True), "reset_t: expected an array, got bool"),
    (
        ValueError,
        partial(one_step, estimator="snap2"),
        "estimator: expected one of 'exact', 'snap1', 'cell', got 'snap2'.",
    ),
    (
        ValueError,
        partial(init_rtrl, GOOD.params, LSTMState(np.zeros((4, 6)), np.zeros((4, 6)))),
        "state.hidden: expected shape [B, H] = [4, 5]",
    ),
    (TypeError, partial(pull_back, GOOD.initial_state, D_H), "carry: expected RTRLState, got LSTM"),
    (ValueError, partial(pull_back, SNAP1, D_H), "carry.sensitivities: expected shape [4, 20, 5]"),
    (ValueError, partial(pull_back, CARRY, D_H[0]), "d_h: expected shape [4, 5] as carry.state"),
    (ValueError, partial(online, estimator="rtrl"), "estimator: expected one of"),
    (ValueError, partial(online, targets=TARGETS[1:]), "targets: expected a leading axis T = 7"),
    (ValueError, partial(truncated, targets=TARGETS[1:]), "targets: expected a leading axis T = 7"),
    (ValueError, partial(online, mean_loss), "loss_fn: expected one loss for each sequence"),
    (ValueError, partial(truncated, mean_loss), "loss_fn: expected one loss for each sequence"),
    (ValueError, partial(truncated, window=0), "window: expected at least 1, got 0."),
    (ValueError, partial(gradient_errors, GOOD.params, GOOD.params[:2]), "estimate: expected the"),
]


@pytest.mark.usefixtures("_unchecked_types")
@pytest.mark.parametrize(("kind", "call", "sentence"), BAD, ids=[row[-1] for row in BAD])
def test_bad_input_gets_a_sentence(kind, call, sentence):
    with pytest.raises(kind, match="^" + re.escape(sentence)):
        call()


def summed_contributions(gradient: Any, params: LSTMParams, inputs: Any, targets: Any) -> Any:
    contributions = gradient(squares, params, inputs, targets)[1]
    return jax.tree.map(lambda leaf: leaf.sum(0), contributions)


def squares(h_t: jax.Array, target_t: jax.Array) -> jax.Array:
    return (h_t.sum(-1) - target_t) ** 2


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(
    "gradient",
    [online_gradients, partial(truncated_gradients, window=5)],
    ids=["online", "truncated"],
)
def test_gradients_within_shard_map(gradient, check_vma):
    """Each shard's own contributions, summed over the shards, are those of the whole batch."""
    params, inputs, *_ = draw(24, 5, 8, 2, 3, jnp.float64, masks=False)
    targets = jnp.cos(jnp.arange(40.0)).reshape(5, 8)
    split = P(None, "data")

    def of_all(params: LSTMParams, inputs: Any, targets: Any) -> Any:
        return jax.lax.psum(summed_contributions(gradient, params, inputs, targets), "data")

    sharded = jax.shard_map(
        of_all,
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(P(), split, split),
        out_specs=P(),
        check_vma=check_vma,
    )
    truth = summed_contributions(gradient, params, inputs, targets)
    assert_close(jax.jit(sharded)(params, inputs, targets), truth, 1e-13)


OVER_TIME = {
    "rtrl": partial(rtrl, block=3),
    "online": partial(online_gradients, squares, targets=np.ones((5, 8))),
    "truncated": partial(truncated_gradients, squares, targets=np.ones((5, 8)), window=3),
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_explicit_meshes_with_masks_replicated_and_no_initial_state(name):
    """And a second call outside jit compiles nothing."""
    problem = draw(27, 5, 8, 2, 3, jnp.float64)

    def answer(params: LSTMParams, inputs: Any, lengths: Any, resets: Any) -> Any:
        masks = {"lengths": lengths, "resets": resets}
        return OVER_TIME[name](params=params, inputs=inputs, **masks)

    arguments = (problem.params, problem.inputs, problem.lengths, problem.resets)
    truth = answer(*arguments)
    assert compilations(partial(answer, *arguments)) == []
    mesh = jax.make_mesh((4, 2), ("data", "rows"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(arguments, NamedSharding(mesh, P()))
        inputs = jax.device_put(problem.inputs, NamedSharding(mesh, P(None, "data")))
        ours = jax.jit(answer)(placed[0], inputs, *placed[2:])
    assert_close(jax.device_get(ours), jax.device_get(truth), 1e-13)


@pytest.mark.parametrize("estimator", ["exact", "snap1"])
@pytest.mark.parametrize("B", [0, 2])
def test_gradients_of_no_sequence_and_of_no_unit(B, estimator):
    """With B = 0, or H = D = 0 and a loss that is the target."""
    H = D = 0 if B else 3
    params = LSTMParams(jnp.ones((D, 4 * H)), jnp.ones((H, 4 * H)), jnp.ones(4 * H))
    inputs, targets = jnp.ones((3, B, D)), jnp.ones((3, B))
    for losses, gradients, _ in (
        online_gradients(squares, params, inputs, targets, estimator=estimator),
        truncated_gradients(squares, params, inputs, targets, window=1),
    ):
        assert losses.tolist() == [B] * 3
        assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(lambda p: (3, *p.shape), params)
        assert not any(leaf.any() for leaf in leaves(gradients))


@pytest.mark.parametrize("block", [1, 4])
def test_a_traced_length_beyond_the_end_is_clipped(block):
    params, inputs, *_ = draw(25, 7, 2, 3, 4, jnp.float64, masks=False)
    run_to = jax.jit(lambda lengths: rtrl(params, inputs, lengths=lengths, block=block))
    assert_close(run_to(jnp.array([100, 7])), run_to(jnp.array([7, 7])), 1e-15)


def test_a_traced_length_beyond_the_end_is_clipped_for_windows():
    params, inputs, *_ = draw(26, 7, 2, 3, 4, jnp.float64, masks=False)
    targets = jnp.ones((7, 2))

    @jax.jit
    def of_lengths(lengths: jax.Array) -> Any:
        return truncated_gradients(squares, params, inputs, targets, window=4, lengths=lengths)

    assert_close(of_lengths(jnp.array([100, 7])), of_lengths(jnp.array([7, 7])), 1e-15)
