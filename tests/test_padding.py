"""What the padding holds never matters, not by a bit: not to values, not to gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from drawing import Problem, assert_same_bits, compiled, draw, one_sequence, padding, pullback, run

from jaxlstm import LSTMState, lstm, lstm_autodiff

SMALL = (7, 4, 2, 5)
FUNCTIONS = pytest.mark.parametrize("f", [lstm, lstm_autodiff])
DTYPES = pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
FILLINGS = pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def filled(problem: Problem, array: jax.Array, filling: float) -> jax.Array:
    """The array [T, B, ...] with its padding overwritten."""
    return jnp.where(padding(problem)[..., None], jnp.asarray(filling, array.dtype), array)


def assert_same_answers(f: Any, problem: Problem, other: Problem) -> None:
    for of in (run, pullback):
        assert_same_bits(compiled(of, f)(problem), compiled(of, f)(other))


@FUNCTIONS
@DTYPES
@FILLINGS
def test_inputs_in_the_padding(f, dtype, filling):
    problem = draw(0, *SMALL, dtype)
    inputs = filled(problem, problem.inputs, filling)
    assert_same_answers(f, problem._replace(inputs=inputs), problem)


@FUNCTIONS
@DTYPES
@FILLINGS
def test_cotangents_of_padded_outputs(f, dtype, filling):
    problem = draw(1, *SMALL, dtype)
    d_outputs, d_final = problem.cotangents
    cotangents = (filled(problem, d_outputs, filling), d_final)
    assert_same_answers(f, problem._replace(cotangents=cotangents), problem)


@FUNCTIONS
@DTYPES
def test_inputs_in_the_padding_unbatched(f, dtype):
    batch = draw(2, *SMALL, dtype)
    batch = batch._replace(lengths=jnp.array([3, 0, 7, 5], jnp.int32))
    poisoned = batch._replace(inputs=filled(batch, batch.inputs, float("nan")))
    assert_same_answers(f, one_sequence(poisoned, 0), one_sequence(batch, 0))


@FUNCTIONS
@DTYPES
def test_resets_past_the_length(f, dtype):
    problem = draw(3, *SMALL, dtype)
    past = jnp.asarray(padding(problem))
    none, everywhere = problem.resets & ~past, problem.resets | past
    assert bool((none != everywhere).any())
    assert_same_answers(f, problem._replace(resets=everywhere), problem._replace(resets=none))


@FUNCTIONS
@DTYPES
@FILLINGS
def test_a_state_that_is_reset_at_once(f, dtype, filling):
    """The same holds of the initial state of a sequence whose first step is reset."""
    problem = draw(4, *SMALL, dtype)
    first = jnp.array([True, False, False, True])
    lengths = jnp.array([7, 3, 0, 1], jnp.int32)
    problem = problem._replace(lengths=lengths, resets=problem.resets.at[0].set(first))
    fill = jnp.asarray(filling, dtype)
    state = LSTMState(*(jnp.where(first[:, None], fill, leaf) for leaf in problem.initial_state))
    assert_same_answers(f, problem._replace(initial_state=state), problem)
