"""The mutants: right where nothing is changed, and each of them wrong."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import Problem, assert_close, assert_same_bits, draw
from jax.test_util import check_grads
from mutants import ALL, COMMON, DOCUMENTS, HELD_APART, LABELS, as_function, differentiated_by
from mutants.template import BackwardPass

from jaxlstm import lstm_autodiff
from jaxlstm.gradient_check import relative_error

SMALL = (6, 2, 3, 4)
LARGE = (40, 8, 16, 32)


def masked(seed: int, T: int, B: int, D: int, H: int, dtype: Any) -> Problem:
    """A drawn problem with one whole and one short sequence, and a reset inside of each."""
    problem = draw(seed, T, B, D, H, dtype)
    lengths = np.array(problem.lengths)
    lengths[:2] = T, T // 2 + 1
    resets = problem.resets.at[T - 2, 0].set(True).at[1, 1].set(True)
    return problem._replace(lengths=jnp.asarray(lengths), resets=resets)


def oracle(params, inputs, initial_state, lengths, resets):
    return lstm_autodiff(params, inputs, initial_state, lengths=lengths, resets=resets)


def gradients(f: Any, problem: Problem) -> Any:
    params, inputs, initial_state, lengths, resets, cotangents = problem
    _, back = jax.vjp(lambda *args: f(*args, lengths, resets), params, inputs, initial_state)
    return back(cotangents)


def worst_error(gradient: Any, truth: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(relative_error, gradient, truth)))


@pytest.mark.parametrize("drawn", [draw, masked])
@pytest.mark.parametrize("signature", [SMALL, LARGE])
def test_nothing_changed_is_right(drawn, signature):
    with jax.enable_x64(True):
        problem = drawn(0, *signature, jnp.float64)
        found = gradients(differentiated_by(BackwardPass), problem)
        assert_close(found, gradients(oracle, problem), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_have_the_dtype_of_the_arguments(dtype):
    problem = masked(0, *SMALL, dtype)
    found, truth = gradients(differentiated_by(BackwardPass), problem), gradients(oracle, problem)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
    assert worst_error(found, truth) <= 64 * float(jnp.finfo(dtype).eps)


def test_there_are_enough_of_them():
    assert len(COMMON) >= 50
    assert len(HELD_APART) >= 15
    assert len(ALL) == len(COMMON) + len(DOCUMENTS) + len(HELD_APART) >= 75
    assert {label for mutant in ALL.values() for label in mutant.equation} <= LABELS


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        yield masked(0, *SMALL, jnp.float64)


@pytest.fixture(scope="module")
def truth(problem):
    return gradients(oracle, problem)


@pytest.mark.parametrize("mutant", ALL.values(), ids=ALL.keys())
def test_only_the_gradients_are_wrong(mutant, problem, truth):
    f = as_function(mutant)
    assert_same_bits(f(*problem[:5]), oracle(*problem[:5]))
    assert worst_error(gradients(f, problem), truth) > 1e-9


def test_no_two_are_the_same(problem):
    found = [gradients(as_function(mutant), problem) for mutant in ALL.values()]
    vectors = np.stack([np.concatenate([*map(np.ravel, jax.tree.leaves(g))]) for g in found])
    distances = abs(vectors[:, None] - vectors).max(-1)
    assert (distances[~np.eye(len(vectors), dtype=bool)] > 1e-9).all()


def test_other_checkers_take_them():
    """The mutants' functions as they are, to first order in reverse."""
    with jax.enable_x64(True):
        *args, lengths, resets, _ = masked(1, *SMALL, jnp.float64)
        right, wrong = differentiated_by(BackwardPass), as_function(ALL["b4_untransposed"])
        check_grads(lambda *a: right(*a, lengths, resets), args, order=1, modes=["rev"])
        with pytest.raises(AssertionError):
            check_grads(lambda *a: wrong(*a, lengths, resets), args, order=1, modes=["rev"])
