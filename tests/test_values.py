"""The forward pass against an independent NumPy loop."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import (
    ACTIVATION_PAIRS,
    SIGNATURES,
    TANH,
    Problem,
    assert_close,
    compiled,
    draw,
    one_sequence,
    padding,
    run,
)
from reference_numpy import lstm_numpy, lstm_numpy_unbatched

import jaxlstm
from jaxlstm import Activations, LSTMState

SMALL = (7, 3, 2, 5)
EDGES = {"T=1": (1, 3, 2, 4), "B=1": (4, 1, 3, 2), "H=1": (4, 3, 2, 1)}
FUNCTIONS = (jaxlstm.lstm, jaxlstm.lstm_autodiff)


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def truth_of(problem: Problem, activations: Activations = TANH) -> Any:
    """What the NumPy loop says, batched or not."""
    loop = lstm_numpy if problem.inputs.ndim == 3 else lstm_numpy_unbatched
    roles = (activations.candidate, activations.cell)
    outputs, final = loop(*jax.tree.map(np.asarray, problem)[:-1], *roles)
    return outputs, LSTMState(*final)


@functools.cache
def compiled_step(activations: Activations) -> Any:
    return jax.jit(functools.partial(jaxlstm.step, activations=activations))


def cut_at(sequence: Problem, length: int) -> Problem:
    inputs, resets = sequence.inputs[:length], sequence.resets[:length]
    return sequence._replace(inputs=inputs, resets=resets, lengths=None)


def loop_over_step(problem: Problem, activations: Activations) -> tuple[jax.Array, LSTMState]:
    state, outputs = problem.initial_state, []
    for x_t in problem.inputs:
        state = compiled_step(activations)(problem.params, state, x_t)
        outputs.append(state.hidden)
    return jnp.stack(outputs), state


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS)
def test_values_for_all_activations(f, activations):
    problem = draw(0, *SMALL, jnp.float64)
    assert_close(compiled(run, f, activations)(problem), truth_of(problem, activations), 1e-13)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_a_loop_over_step_gives_the_values(activations):
    problem = draw(1, *SMALL, jnp.float64, masks=False)
    assert_close(loop_over_step(problem, activations), truth_of(problem, activations), 1e-13)


def test_a_loop_over_step_gives_the_values_unbatched():
    problem = one_sequence(draw(1, *SMALL, jnp.float64, masks=False), 1)
    assert_close(loop_over_step(problem, TANH), truth_of(problem), 1e-13)


@pytest.mark.parametrize("signature", [*EDGES.values(), *SIGNATURES], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("masks", [False, True])
def test_values_for_all_signatures(f, signature, masks):
    problem = draw(2, *signature, jnp.float64, masks=masks)
    assert_close(compiled(run, f)(problem), truth_of(problem), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("b", range(SMALL[1]))
def test_values_unbatched(f, masks, b):
    problem = one_sequence(draw(3, *SMALL, jnp.float64, masks=masks), b)
    assert_close(compiled(run, f)(problem), truth_of(problem), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("masked", ["lengths", "resets"])
def test_lengths_alone_and_resets_alone(f, masked):
    problem = draw(4, *SMALL, jnp.float64)
    other = {"lengths": "resets", "resets": "lengths"}[masked]
    problem = problem._replace(**{other: None})
    assert_close(compiled(run, f)(problem), truth_of(problem), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_no_initial_state_is_the_zero_state(f):
    problem = draw(5, *SMALL, jnp.float64)
    zeros = jax.tree.map(jnp.zeros_like, problem.initial_state)
    without = compiled(run, f)(problem._replace(initial_state=None))
    assert_close(without, truth_of(problem._replace(initial_state=zeros)), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_length_zero_returns_the_initial_state(f):
    problem = draw(6, *SMALL, jnp.float64)
    problem = problem._replace(lengths=jnp.zeros_like(problem.lengths))
    outputs, final = compiled(run, f)(problem)
    assert_close(final, problem.initial_state, 0.0)
    assert not outputs.any()


@pytest.mark.parametrize("f", FUNCTIONS)
def test_the_final_state_is_the_state_at_the_length_and_padding_is_zero(f):
    problem = draw(7, *SMALL, jnp.float64)
    problem = problem._replace(lengths=jnp.array([2, 7, 5], jnp.int32))
    outputs, final = compiled(run, f)(problem)
    assert_close(final.hidden, outputs[problem.lengths - 1, jnp.arange(SMALL[1])], 0.0)
    assert not np.asarray(outputs)[padding(problem)].any()
    for b, length in enumerate((2, 7, 5)):
        _, final_alone = truth_of(cut_at(one_sequence(problem, b), length))
        assert_close((final.hidden[b], final.cell[b]), tuple(final_alone), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("t", range(SMALL[0]))
def test_a_reset_starts_the_rest_from_zero(f, t):
    problem = one_sequence(draw(8, *SMALL, jnp.float64), 0)
    at_t = jnp.arange(SMALL[0]) == t
    outputs, final = compiled(run, f)(problem._replace(lengths=None, resets=at_t))
    zeros = jax.tree.map(jnp.zeros_like, problem.initial_state)
    rest = problem._replace(
        inputs=problem.inputs[t:], initial_state=zeros, lengths=None, resets=None
    )
    assert_close((outputs[t:], final), truth_of(rest), 1e-13)
    assert_close(outputs[:t], truth_of(problem._replace(lengths=None, resets=None))[0][:t], 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("past", [0, 1, 2])
def test_a_reset_at_or_past_the_length_is_ignored(f, past):
    problem = one_sequence(draw(9, *SMALL, jnp.float64), 0)
    problem = problem._replace(lengths=jnp.int32(4), resets=jnp.arange(SMALL[0]) == 4 + past)
    outputs, final = compiled(run, f)(problem)
    assert_close((outputs[:4], final), truth_of(cut_at(problem, 4)), 1e-13)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int64, jnp.uint32])
def test_lengths_may_be_of_any_integer_dtype(dtype):
    """A length of 100 fits every one of them; the number of steps, 300, does not."""
    problem = draw(11, 300, 2, 3, 4, jnp.float64)
    problem = problem._replace(lengths=jnp.array([100, 7], dtype))
    assert_close(compiled(run, jaxlstm.lstm)(problem), truth_of(problem), 1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("signature", [SMALL, (12, 5, 4, 3)], ids=str)
def test_lower_precision_stays_within_eight_roundings(f, dtype, signature):
    """The truth starts from the rounded arguments, and the cell forgets what it rounds wrongly."""
    problem = draw(10, *signature, dtype)
    values = compiled(run, f)(problem)
    assert {leaf.dtype for leaf in jax.tree.leaves(values)} == {jnp.dtype(dtype)}
    assert_close(values, truth_of(problem), 8 * float(jnp.finfo(dtype).eps))
