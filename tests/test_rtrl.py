"""RTRL: exact against reverse and forward autodiff, the estimators against what they leave out."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from drawing import (
    ACTIVATION_PAIRS,
    SIGMOID,
    TANH,
    Problem,
    assert_close,
    draw,
    run,
)

from jaxlstm import Activations, LSTMParams, LSTMState, lstm_autodiff
from jaxlstm.rtrl import Sensitivities, jacobians, rtrl

SMALL = (7, 4, 2, 5)
LONG = (200, 3, 2, 4)


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@cache
def compiled(f: Any, activations: Activations = TANH) -> Any:
    return jax.jit(lambda problem: f(problem, activations))


def by_rtrl(problem: Problem, activations: Activations) -> tuple[Any, Sensitivities]:
    """The values, and the Jacobians of the final state."""
    outputs, carry = run(rtrl, problem, activations)
    return (outputs, carry.state), jacobians(carry.sensitivities)


def by_autodiff(mode: Any, problem: Problem, activations: Activations) -> tuple[Any, Any]:
    def final(params: LSTMParams, state: LSTMState) -> LSTMState:
        changed = problem._replace(params=params, initial_state=state)
        return run(lstm_autodiff, changed, activations)[1]

    J = mode(final, (0, 1))(problem.params, problem.initial_state)
    own = jax.tree.map(lambda leaf: jnp.einsum("bjbi->bji", leaf), (J.hidden[1], J.cell[1]))
    by_argument = Sensitivities((J.hidden[0], own[0]), (J.cell[0], own[1]))
    return run(lstm_autodiff, problem, activations), by_argument


def by_reverse(problem: Problem, activations: Activations) -> tuple[Any, Any]:
    return by_autodiff(jax.jacrev, problem, activations)


def by_forward(problem: Problem, activations: Activations) -> tuple[Any, Any]:
    return by_autodiff(jax.jacfwd, problem, activations)


def leaves(tree: Any) -> list[jax.Array]:
    return jax.tree.leaves(tree)


@pytest.mark.parametrize("truth", [by_reverse, by_forward])
@pytest.mark.parametrize("activations", [TANH, SIGMOID], ids=str)
@pytest.mark.parametrize("masks", [False, True])
def test_exact_sensitivities_of_200_steps(truth, activations, masks):
    problem = draw(1, *LONG, jnp.float64, masks=masks)
    ours, other = (compiled(f, activations)(problem) for f in (by_rtrl, truth))
    assert_close(leaves(ours), leaves(other), 1e-11)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_exact_sensitivities_for_all_activations(activations):
    problem = draw(2, *SMALL, jnp.float64)
    ours, other = (compiled(f, activations)(problem) for f in (by_rtrl, by_reverse))
    assert_close(leaves(ours), leaves(other), 1e-13)
