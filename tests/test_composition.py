"""``lstm`` under every transformation of JAX: the values and gradients of the plain call."""

import re
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from composing import (
    MASKS,
    SMALL,
    assert_placed,
    draw_sharded,
    in_windows,
    mapped_axes,
    placements,
    several,
    stack,
    values_and_gradients,
)
from drawing import (
    ACTIVATION_PAIRS,
    Problem,
    assert_close,
    assert_same_bits,
    compiled,
    draw,
    one_sequence,
    pullback,
    run,
)
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxlstm
from jaxlstm import Activations, LSTMParams, init_params, lstm, lstm_autodiff


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def plain(problem: Problem) -> Any:
    return compiled(values_and_gradients, lstm_autodiff)(problem)


def test_jit_and_no_jit():
    problem = draw(0, *SMALL, jnp.float64)
    assert_close(values_and_gradients(lstm, problem), plain(problem), 1e-13)
    assert_close(compiled(values_and_gradients, lstm)(problem), plain(problem), 1e-13)


def test_activations_are_hashable_and_pass_jit_as_an_argument():
    jitted = jax.jit(lstm)
    assert len(set(ACTIVATION_PAIRS) | {Activations("tanh", "tanh")}) == 9
    problem = draw(1, *SMALL, jnp.float64, masks=False)
    for activations in ACTIVATION_PAIRS[:2]:
        outputs, _ = jitted(*problem[:3], activations=activations)
        assert_close(outputs, compiled(run, lstm_autodiff, activations)(problem)[0], 1e-13)


@MASKS
@pytest.mark.parametrize(
    ("params", "rest"), [(0, 0), (0, None), (None, 0)], ids=["both", "params", "sequences"]
)
def test_vmap(masks, params, rest):
    problems, stacked = several(2, 3, 4, masks=masks)
    chosen = [Problem(p.params, *q[1:]) for p, q in ((problems[0], q) for q in problems)]
    if params == 0:
        chosen = [Problem(p.params, *(p if rest == 0 else problems[0])[1:]) for p in problems]
    given = Problem(
        stacked.params if params == 0 else problems[0].params,
        *(stacked if rest == 0 else problems[0])[1:],
    )
    mapped = jax.vmap(partial(values_and_gradients, lstm), (mapped_axes(params, rest),))
    assert_close(jax.jit(mapped)(given), stack([plain(p) for p in chosen]), 1e-13)


@MASKS
def test_vmap_of_the_unbatched_call_over_the_batch(masks):
    problem = draw(5, *SMALL, jnp.float64, masks=masks)
    alone = [one_sequence(problem, b) for b in range(SMALL[1])]
    sequences = stack(alone)._replace(params=problem.params)
    mapped = jax.jit(jax.vmap(partial(values_and_gradients, lstm), (mapped_axes(None, 0),)))
    assert_close(mapped(sequences), stack([plain(p) for p in alone]), 1e-13)


def rerun_with(wrapped: Any, problem: Problem) -> Any:
    """Values and gradients of ``wrapped(problem)``, a function of its first three fields."""
    values, back = jax.vjp(
        lambda *floating: wrapped(Problem(*floating, *problem[3:])), *problem[:3]
    )
    return values, back(problem.cotangents)


def test_scan_around_lstm():
    problem = draw(6, 4, 3, 2, 4, jnp.float64, masks=False)
    answers = jax.jit(partial(rerun_with, partial(in_windows, lstm)))(problem)
    assert_close(answers, plain(problem), 1e-13)


@MASKS
def test_checkpoint(masks):
    problem = draw(7, *SMALL, jnp.float64, masks=masks)
    answers = jax.jit(partial(rerun_with, jax.checkpoint(partial(run, lstm))))(problem)
    assert_close(answers, plain(problem), 1e-13)


def gradient(f: Any, problem: Problem, *floating: Any) -> Any:
    return pullback(f, Problem(*floating, *problem[3:]))


def hessian_vector(f: Any, problem: Problem, v: Any) -> Any:
    """The gradient of <gradient, v>, by the parameters, the inputs and the initial state."""
    _, back = jax.vjp(partial(gradient, f, problem), *problem[:3])
    return back(v)


def derivative_of_gradient(f: Any, problem: Problem, v: Any) -> Any:
    return jax.jvp(partial(gradient, f, problem), problem[:3], v)[1]


@MASKS
@pytest.mark.parametrize("second", [hessian_vector, derivative_of_gradient])
def test_second_derivatives(second, masks):
    problem, v = (draw(seed, *SMALL, jnp.float64, masks=masks) for seed in (8, 9))
    ours, theirs = (jax.jit(partial(second, f)) for f in (lstm, lstm_autodiff))
    assert_close(ours(problem, v[:3]), theirs(problem, v[:3]), 1e-12)


def gradients_within(problem: Problem, psum: bool) -> Any:
    """The gradients in a shard, those of the parameters summed over the shards."""
    d_params, *rest = pullback(lstm, problem)
    return (jax.lax.psum(d_params, "data") if psum else d_params), *rest


@pytest.mark.parametrize("given_state", [True, False])
@MASKS
@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_within_shard_map(check_vma, masks, given_state):
    """With its check, JAX sums the gradient of what is replicated; without, the caller does."""
    problem = draw_sharded(12, masks, given_state)
    specs = placements(problem)
    sharded = jax.shard_map(
        partial(gradients_within, psum=not check_vma),
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(specs,),
        out_specs=specs[:3],
        check_vma=check_vma,
    )
    assert_close(jax.jit(sharded)(problem), compiled(pullback, lstm_autodiff)(problem), 1e-13)


@pytest.mark.parametrize("given_state", [True, False])
@MASKS
@pytest.mark.parametrize("check_vma", [True, False])
def test_values_and_gradients_through_shard_map(check_vma, masks, given_state):
    problem = draw_sharded(13, masks, given_state)
    specs = placements(problem)
    sharded = jax.shard_map(
        partial(run, lstm),
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(specs,),
        out_specs=specs.cotangents,
        check_vma=check_vma,
    )
    assert_close(jax.jit(partial(rerun_with, sharded))(problem), plain(problem), 1e-13)


@pytest.mark.parametrize("given_state", [True, False])
@MASKS
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_meshes(axis_type, masks, given_state):
    """The gradients are right, and placed as what they are gradients of."""
    problem = draw_sharded(14, masks, given_state)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    specs = placements(problem)
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(partial(NamedSharding, mesh), specs)
        placed = jax.device_put(problem, shardings)
        answers = jax.jit(partial(values_and_gradients, lstm))(placed)
    assert_close(jax.device_get(answers), plain(problem), 1e-13)
    assert_placed(answers, (shardings.cotangents, shardings[:3]))


def descend(params: LSTMParams, problem: Problem) -> LSTMParams:
    """One step of gradient descent."""
    d_params, _, _ = pullback(lstm, problem._replace(params=params))
    return jax.tree.map(lambda p, d: p - 0.1 * d, params, d_params)


def test_donated_parameters():
    problem = draw(15, *SMALL, jnp.float64)
    donated = jax.tree.map(jnp.copy, problem.params)
    new = jax.jit(descend, donate_argnums=0)(donated, problem)
    assert all(leaf.is_deleted() for leaf in donated)
    d_params = plain(problem)[1][0]
    truth = jax.tree.map(lambda p, d: p - 0.1 * d, problem.params, d_params)
    assert_close(new, truth, 1e-13)


def test_ahead_of_time_compilation():
    problem, other = (draw(seed, *SMALL, jnp.float64) for seed in (16, 17))
    executable = jax.jit(partial(values_and_gradients, lstm)).lower(problem).compile()
    assert_close(executable(other), plain(other), 1e-13)


@MASKS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_lowers_for_tpu_and_cuda(dtype, masks):
    problem = draw(18, *SMALL, dtype, masks=masks)
    traced = jax.jit(partial(values_and_gradients, lstm)).trace(problem)
    lowered = traced.lower(lowering_platforms=("tpu", "cuda"))
    element = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    assert f"tensor<5x3x2x{element}>" in lowered.as_text()


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
def test_the_trace_does_not_grow_with_time(f):
    sizes, texts = [], []
    for T in (250, 500):
        problem = draw(19, T, 3, 2, 4, jnp.float64)
        traced = jax.jit(partial(values_and_gradients, f)).trace(problem)
        sizes.append(count_equations(traced.jaxpr.jaxpr))
        texts.append(re.sub(r"\d+", "", traced.lower().as_text()))
    assert sizes[0] == sizes[1] > 20
    assert texts[0] == texts[1]


def count_equations(jaxpr: Any) -> int:
    """All equations, those of the functions called within included."""
    inner = [sub for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params)]
    return len(jaxpr.eqns) + sum(map(count_equations, inner))


def train(f: Any, problem: Problem) -> tuple[list[float], LSTMParams]:
    """Losses and last parameters of ten steps of Adam towards the outputs of other parameters."""
    targets, _ = run(lstm_autodiff, problem)
    optimizer = optax.adam(0.02)
    params = init_params(jax.random.key(0), SMALL[2], SMALL[3], dtype=jnp.float64)

    def loss_of(params: LSTMParams) -> jax.Array:
        return jnp.mean((run(f, problem._replace(params=params))[0] - targets) ** 2)

    @jax.jit
    def train_step(params: LSTMParams, opt_state: Any) -> Any:
        loss, d_params = jax.value_and_grad(loss_of)(params)
        updates, opt_state = optimizer.update(d_params, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    losses, opt_state = [], optimizer.init(params)
    for _ in range(10):
        params, opt_state, loss = train_step(params, opt_state)
        losses.append(float(loss))
    return losses, params


def test_training_with_optax_follows_autodiff():
    problem = draw(20, *SMALL, jnp.float64)
    with jax.numpy_dtype_promotion("standard"):  # optax's own chains mix dtypes
        losses, params = train(lstm, problem)
        expected_losses, expected_params = train(lstm_autodiff, problem)
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert_close((losses, params), (expected_losses, expected_params), 1e-10)


def test_params_and_state_are_pytrees_with_named_paths():
    problem = draw(21, *SMALL, jnp.float64)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(problem[:3])]
    assert paths[:3] == ["[0].input_kernel", "[0].recurrent_kernel", "[0].bias"]
    assert paths[4:] == ["[2].hidden", "[2].cell"]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, problem.params)
    np.testing.assert_array_equal(doubled.bias, 2 * problem.params.bias)
    assert float(optax.tree.norm(doubled)) == pytest.approx(
        2 * float(optax.tree.norm(problem.params)), rel=1e-14
    )


def on_explicit_mesh(f: Any, problem: Problem, spec_of_kernels: P) -> Any:
    """Gradients with the batch of the inputs sharded, the state not, the kernels as given."""
    mesh = jax.make_mesh((4, 2), ("data", "rows"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        inputs = jax.device_put(problem.inputs, NamedSharding(mesh, P(None, "data")))
        specs = LSTMParams(spec_of_kernels, spec_of_kernels, P())
        params = jax.device_put(
            problem.params, LSTMParams(*(NamedSharding(mesh, s) for s in specs))
        )
        state = jax.device_put(problem.initial_state, NamedSharding(mesh, P()))
        loss = lambda *args: (f(*args)[0] ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, inputs, state)


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
@pytest.mark.parametrize("spec", [P(), P("rows")], ids=str)
def test_replicated_state_and_kernels_sharded_by_rows(f, spec):
    problem = draw(3, 5, 8, 2, 4, jnp.float64, masks=False)
    params, inputs, state = problem.params, problem.inputs, problem.initial_state
    loss = lambda *args: (lstm_autodiff(*args)[0] ** 2).sum()  # noqa: E731
    truth = jax.grad(loss, argnums=(0, 1, 2))(params, inputs, state)
    ours = on_explicit_mesh(f, problem, spec)
    assert_close(jax.device_get(ours), jax.device_get(truth), 1e-13)


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
def test_a_second_call_outside_jit_compiles_nothing(f):
    events: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    problem = draw(4, *SMALL, jnp.float64)
    run(f, problem)
    jax.monitoring.register_event_duration_secs_listener(listen)
    run(f, draw(5, *SMALL, jnp.float64))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not [event for event in events if "compile" in event]


def test_values_alone_keep_no_gates():
    """Beside arguments and results, not much more than the projected inputs [T, B, 4H]."""
    T, B, D, H = 64, 8, 16, 32
    problem = draw(6, T, B, D, H, jnp.float32, masks=False)
    program = jax.jit(lstm).lower(problem.params, problem.inputs).compile()
    projected = T * B * 4 * H * 4
    assert program.memory_analysis().temp_size_in_bytes < 1.2 * projected


def test_step_keeps_the_dtype_of_numpy_arrays():
    problem = draw(7, *SMALL, jnp.bfloat16)
    arrays = jax.tree.map(np.asarray, (problem.params, problem.initial_state, problem.inputs[0]))
    state = jaxlstm.step(*arrays)
    truth = jaxlstm.step(problem.params, problem.initial_state, problem.inputs[0])
    assert_same_bits(state, truth)
