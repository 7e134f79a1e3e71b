"""The documents' systems train; their algorithms against jax.grad, printed and corrected."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlstm.sources.training import MODELS, gradient_errors, train
from jaxlstm.tasks.text import read_text

MISPRINTED = {
    "000": {"W_o", "U_o", "b_o"},
    "001": {f"{A}_{gate}" for A in "WU" for gate in "ifec"},
    "002": {f"{A}_{gate}" for A in "WU" for gate in "aifo"},
}


@pytest.fixture(autouse=True)
def _standard_promotion():
    """optax's Adam mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def codes():
    return read_text(Path(__file__).parent.parent / "README.md").codes


@pytest.mark.parametrize("document", MISPRINTED)
def test_corrected_algorithms_give_the_gradient(document):
    for seed in range(3):
        assert max(gradient_errors(document, "corrected", seed).values()) < 1e-13


@pytest.mark.parametrize("document", MISPRINTED)
def test_misprints_cost_the_parameters_that_they_touch(document):
    errors = gradient_errors(document, "printed")
    assert {name for name, error in errors.items() if error > 1e-2} == MISPRINTED[document]
    assert all(error < 1e-13 for name, error in errors.items() if name not in MISPRINTED[document])


@pytest.mark.parametrize("document", MODELS)
def test_every_system_trains(codes, document):
    losses = train(document, "autodiff", codes, steps=80)
    assert losses[-10:].mean() < losses[0] - 1


def test_training_by_the_corrected_gradient_is_training_by_autodiff(codes):
    for document in ("001", "002"):
        ours, truth = (train(document, by, codes, steps=30) for by in ("corrected", "autodiff"))
        np.testing.assert_allclose(ours, truth, rtol=1e-4)


def test_the_printed_gradient_of_002_learns_worse(codes):
    printed, corrected = (train("002", by, codes, steps=150) for by in ("printed", "corrected"))
    assert printed[-20:].mean() > corrected[-20:].mean() + 0.2
    assert printed[-20:].mean() < printed[0] - 0.5
