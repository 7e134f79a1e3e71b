"""RTRL: exact against reverse and forward autodiff and differences, and itself in other ways."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import (
    ACTIVATION_PAIRS,
    SIGMOID,
    TANH,
    Problem,
    assert_close,
    assert_same_bits,
    draw,
    one_sequence,
    run,
)
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from reference_numpy import lstm_numpy
from stepping import SMALL, compiled, leaves, past_length, stepwise

from jaxlstm import Activations, LSTMParams, LSTMState, lstm_autodiff
from jaxlstm.rtrl import Sensitivities, init_rtrl, jacobians, rtrl

LONG = (200, 3, 2, 4)
BLOCKS = pytest.mark.parametrize("block", [1, 3])


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def by_rtrl(problem: Problem, activations: Activations, block: int) -> tuple[Any, Sensitivities]:
    """The values, and the Jacobians of the final state."""
    outputs, carry = run(partial(rtrl, block=block), problem, activations)
    return (outputs, carry.state), jacobians(carry.sensitivities)


def by_autodiff(problem: Problem, activations: Activations, mode: Any) -> tuple[Any, Any]:
    def final(params: LSTMParams, state: LSTMState) -> LSTMState:
        changed = problem._replace(params=params, initial_state=state)
        return run(lstm_autodiff, changed, activations)[1]

    J = mode(final, (0, 1))(problem.params, problem.initial_state)
    own = jax.tree.map(lambda leaf: jnp.einsum("bjbi->bji", leaf), (J.hidden[1], J.cell[1]))
    by_argument = Sensitivities((J.hidden[0], own[0]), (J.cell[0], own[1]))
    return run(lstm_autodiff, problem, activations), by_argument


@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
@pytest.mark.parametrize("activations", [TANH, SIGMOID], ids=str)
@pytest.mark.parametrize("masks", [False, True])
def test_exact_sensitivities_of_200_steps(mode, activations, masks):
    problem = draw(1, *LONG, jnp.float64, masks=masks)
    truth = compiled(by_autodiff, activations, mode)(problem)
    for block in (1, 16):
        ours = compiled(by_rtrl, activations, block)(problem)
        assert_close(leaves(ours), leaves(truth), 1e-11)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_exact_sensitivities_for_all_activations(activations):
    problem = draw(2, *SMALL, jnp.float64)
    ours = compiled(by_rtrl, activations, 1)(problem)
    assert_close(
        leaves(ours), leaves(compiled(by_autodiff, activations, jax.jacrev)(problem)), 1e-13
    )


@pytest.mark.parametrize("unmasked", ["lengths", "resets"])
@BLOCKS
def test_lengths_alone_and_resets_alone(unmasked, block):
    problem = draw(3, *SMALL, jnp.float64)._replace(**{unmasked: None})
    truth = compiled(by_autodiff, TANH, jax.jacrev)(problem)
    assert_close(leaves(compiled(by_rtrl, TANH, block)(problem)), leaves(truth), 1e-13)


@pytest.mark.parametrize("signature", [(0, 2, 3, 4), (1, 1, 1, 1)], ids=str)
@BLOCKS
def test_no_step_and_one_step(signature, block):
    problem = draw(4, *signature, jnp.float64)
    truth = compiled(by_autodiff, TANH, jax.jacrev)(problem)
    assert_close(leaves(compiled(by_rtrl, TANH, block)(problem)), leaves(truth), 1e-14)


def test_sensitivities_are_the_limit_of_central_differences_of_numpy():
    """A step of 1e-5 leaves a truncation of about 1e-10 and a rounding of about 1e-11."""
    problem = draw(5, *SMALL, jnp.float64)
    _, sensitivities = compiled(by_rtrl, TANH, 1)(problem)
    v = draw(6, *SMALL, jnp.float64)
    arguments = (problem.params, problem.initial_state)

    def final(distance: float) -> np.ndarray:
        params, state = jax.tree.map(
            lambda leaf, dot: np.asarray(leaf + distance * dot), arguments, (v[0], v[2])
        )
        rest = (np.asarray(problem.lengths), np.asarray(problem.resets))
        return np.stack(lstm_numpy(params, np.asarray(problem.inputs), state, *rest)[1])

    def along(by_argument: Any) -> jax.Array:
        by_params, by_state = by_argument
        moved = jax.tree.map(lambda J, dot: jnp.tensordot(J, dot, dot.ndim), by_params, v[0])
        begun = jax.tree.map(partial(jnp.einsum, "bji,bi->bj"), by_state, v[2])
        return sum(leaves((moved, begun)))

    slope = (final(1e-5) - final(-1e-5)) / 2e-5
    assert_close(jnp.stack([along(each) for each in sensitivities]), slope, 1e-9)


@BLOCKS
@pytest.mark.parametrize("b", range(3))
def test_unbatched_is_a_batch_of_one(b, block):
    problem = draw(7, *SMALL, jnp.float64)
    batch, one = (compiled(by_rtrl, TANH, block)(p) for p in (problem, one_sequence(problem, b)))
    (outputs, state), sensitivities = batch
    picked = ((outputs[:, b], *jax.tree.map(lambda leaf: leaf[b], (state, sensitivities))),)
    assert_close(leaves(one), leaves(picked), 1e-14)


def test_steps_in_a_scan_of_ones_own_are_the_whole():
    problem = draw(8, *SMALL, jnp.float64)
    _, carry = run(rtrl, problem)
    assert_close(leaves(compiled(stepwise, "exact")(problem)), leaves(carry), 1e-14)


def through_the_recursion(problem: Problem) -> LSTMParams:
    """The gradient of a sum of sensitivities."""

    def some(params: LSTMParams) -> jax.Array:
        carry = stepwise(problem._replace(params=params), "exact")
        return carry.sensitivities.hidden.params.bias.sum()

    return jax.grad(some)(problem.params)


def test_the_padding_never_matters_to_a_gradient_through_the_recursion():
    problem = draw(9, *SMALL, jnp.float64)
    poison = jnp.where(past_length(problem)[..., None], jnp.nan, problem.inputs)
    answer = compiled(through_the_recursion)
    assert_same_bits(answer(problem._replace(inputs=poison)), answer(problem))


@BLOCKS
def test_the_padding_never_matters_to_the_whole(block):
    problem = draw(10, *SMALL, jnp.float64)
    poison = jnp.where(past_length(problem)[..., None], jnp.nan, problem.inputs)
    answer = compiled(by_rtrl, TANH, block)
    assert_same_bits(answer(problem._replace(inputs=poison)), answer(problem))


@BLOCKS
def test_nothing_before_a_reset_matters(block):
    problem = draw(11, *SMALL, jnp.float64)
    resets = problem.resets.at[0].set(True)
    state = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), problem.initial_state)
    lengths = jnp.array([7, 3, 1, 5], jnp.int32)
    problem = problem._replace(resets=resets, lengths=lengths)
    answer = compiled(by_rtrl, TANH, block)
    assert_same_bits(answer(problem._replace(initial_state=state)), answer(problem))
    assert not any(leaf.any() for leaf in leaves(answer(problem)[1].hidden.initial_state))


def test_snap1_keeps_as_much_as_the_parameters_for_each_sequence():
    problem = draw(21, *SMALL, jnp.float32)
    carry = init_rtrl(problem.params, problem.initial_state, estimator="snap1")
    sizes = [leaf.size for leaf in carry.sensitivities.hidden.params]
    assert sizes == [SMALL[1] * leaf.size for leaf in problem.params]


def test_bfloat16_follows_float32():
    problem = draw(22, *SMALL, jnp.float32)
    halved = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, problem
    )
    ours, truth = (leaves(compiled(by_rtrl, TANH, 3)(each)) for each in (halved, problem))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in ours)
    assert_close([leaf.astype(jnp.float32) for leaf in ours], truth, 0.05)


def test_within_shard_map():
    """Every shard's sequences, with the initial state of zeros."""
    params, inputs, _, lengths, resets, _ = draw(23, 5, 8, 2, 3, jnp.float64)
    batch, after_time = P("data"), P(None, "data")

    def of_shard(params: LSTMParams, inputs: Any, lengths: Any, resets: Any) -> Any:
        return rtrl(params, inputs, lengths=lengths, resets=resets, block=3)

    sharded = jax.shard_map(
        of_shard,
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(P(), after_time, batch, after_time),
        out_specs=(after_time, batch),
    )
    arguments = (params, inputs, lengths, resets)
    assert_close(jax.jit(sharded)(*arguments), of_shard(*arguments), 1e-14)


def emptied(name: str) -> Problem:
    """A problem with B, D or H = 0."""
    sizes = {"T": 4, "B": 2, "D": 1, "H": 1}
    problem = draw(24, *(sizes | ({"B": 0} if name == "B" else {})).values(), jnp.float64)
    (U, W, b), state = problem.params, problem.initial_state
    if name == "D":
        return problem._replace(params=LSTMParams(U[:0], W, b), inputs=problem.inputs[..., :0])
    if name == "H":
        params = LSTMParams(U[:, :0], W[:0, :0], b[:0])
        state = jax.tree.map(lambda leaf: leaf[:, :0], state)
        return problem._replace(params=params, initial_state=state)
    return problem


@pytest.mark.parametrize("name", ["B", "D", "H"])
@BLOCKS
def test_no_sequence_no_input_no_unit(name, block):
    problem = emptied(name)
    truth = compiled(by_autodiff, TANH, jax.jacrev)(problem)
    assert_close(leaves(compiled(by_rtrl, TANH, block)(problem)), leaves(truth), 1e-14)


@pytest.mark.usefixtures("compiled_as_for_users")
@pytest.mark.parametrize("options", [{}, {"block": 1}], ids=str)
def test_memory_does_not_grow_with_time(options):
    """Of temporaries; inputs and outputs are the caller's. Last, for it compiles as for users."""

    def temporaries(T: int) -> int:
        params, inputs, state, *masks, _ = draw(20, T, 2, 3, 4, jnp.float32)

        def whole(params: LSTMParams, inputs: Any, state: Any, lengths: Any, resets: Any) -> Any:
            return rtrl(params, inputs, state, lengths=lengths, resets=resets, **options)

        program = jax.jit(whole).lower(params, inputs, state, *masks).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporaries(10_001) <= temporaries(49)
