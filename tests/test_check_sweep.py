"""A thousand drawn LSTMs in three dtypes under the yardstick: no false alarm."""

import itertools

import jax.numpy as jnp
import pytest

from jaxlstm.gradient_check import compare_gradients
from jaxlstm.lstm_check import CheckConfig, draw_problem
from jaxlstm.types import Activations
from jaxlstm.validation import ACTIVATION_NAMES

SIGNATURES = ((6, 2, 3, 4), (1, 1, 2, 1), (12, 3, 5, 2), (25, 4, 3, 6))
PAIRS = [Activations(*names) for names in itertools.product(ACTIVATION_NAMES, repeat=2)]
CASES = [(SIGNATURES[k % 4], PAIRS[k % 9]) for k in range(12)]
DRAWS = 28


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("signature", "activations"), CASES)
def test_no_false_alarm(signature, activations, dtype):
    first = draw_problem(CheckConfig(*signature, activations=activations))
    failed = []
    for seed in range(DRAWS):
        problem = draw_problem(CheckConfig(*signature, activations=activations, seed=seed))
        comparisons = compare_gradients(
            first.candidate,
            first.reference,
            problem.args,
            problem.cotangents,
            context=problem.context,
            dtype=jnp.dtype(dtype),
            blocks=problem.blocks,
            seed=seed,
        )
        failed += [(seed, c) for c in comparisons if c.passed is not True]
    assert failed == []


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("activations", [Activations("identity", "tanh"), Activations()])
def test_long_sequences(activations, dtype):
    problem = draw_problem(CheckConfig(300, 2, 3, 4, activations=activations, seed=7))
    comparisons = compare_gradients(
        problem.candidate,
        problem.reference,
        problem.args,
        problem.cotangents,
        context=problem.context,
        dtype=jnp.dtype(dtype),
        blocks=problem.blocks,
    )
    assert [c for c in comparisons if c.passed is not True] == []
