"""Hundreds of drawn LSTMs, each in three dtypes, under the yardstick: no false alarm."""

import itertools

import pytest

from jaxlstm.gradient_check import check_gradients
from jaxlstm.lstm_check import CheckConfig, draw_problem
from jaxlstm.types import Activations
from jaxlstm.validation import ACTIVATION_NAMES

SIGNATURES = ((6, 2, 3, 4), (1, 1, 2, 1), (12, 3, 5, 2), (25, 4, 3, 6))
PAIRS = [Activations(*names) for names in itertools.product(ACTIVATION_NAMES, repeat=2)]
CASES = [(SIGNATURES[k % 4], PAIRS[k % 9]) for k in range(9)]
DRAWS = 15
DTYPES = ("float64", "float32", "bfloat16")

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")


def judged(problem, functions, dtypes, seed):
    report = check_gradients(
        *functions,
        problem.args,
        cotangents=problem.cotangents,
        dtypes=dtypes,
        blocks=problem.blocks,
        axes=problem.axes,
        also=(),
        seed=seed,
    )
    assert report.mismatches == ()
    return report.comparisons


def sweep(signature, activations, dtypes, draws):
    """All comparisons of ``draws`` drawn LSTMs that share one compilation."""
    first = draw_problem(CheckConfig(*signature, activations=activations))
    functions = first.candidate, first.reference
    comparisons = []
    for seed in range(draws):
        problem = draw_problem(CheckConfig(*signature, activations=activations, seed=seed))
        comparisons += judged(problem, functions, dtypes, seed)
    return comparisons


@pytest.mark.slow
@pytest.mark.parametrize(("signature", "activations"), CASES)
def test_no_false_alarm(signature, activations):
    comparisons = sweep(signature, activations, DTYPES, DRAWS)
    assert [c for c in comparisons if c.passed is False] == []
    resolved = sum(c.passed is True for c in comparisons)
    assert resolved > 0.8 * len(comparisons)


def test_float16():
    comparisons = sweep(SIGNATURES[0], PAIRS[0], ["float16"], 20)
    assert [c for c in comparisons if c.passed is False] == []


LONG = [Activations(*names) for names in (("tanh", "sigmoid"), ("identity", "identity"))]


@pytest.mark.slow
@pytest.mark.parametrize("activations", LONG)
def test_long_sequences(activations):
    comparisons = sweep((300, 2, 3, 4), activations, DTYPES, 5)
    assert [c for c in comparisons if c.passed is False] == []
