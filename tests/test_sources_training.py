"""The documents' systems train; their algorithms against jax.grad, printed and corrected."""

from functools import lru_cache

import jax
import numpy as np
import pytest

from jaxlstm.sources.training import MODELS, gradient_errors, toy_text, train

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


@pytest.mark.parametrize("document", MISPRINTED)
def test_corrected_algorithms_give_the_gradient(document):
    for seed in range(3):
        assert max(gradient_errors(document, "corrected", seed).values()) < 1e-13


@pytest.mark.parametrize("document", MISPRINTED)
def test_misprints_cost_the_parameters_that_they_touch(document):
    errors = gradient_errors(document, "printed")
    assert {name for name, error in errors.items() if error > 1e-2} == MISPRINTED[document]
    assert all(error < 1e-13 for name, error in errors.items() if name not in MISPRINTED[document])


@lru_cache
def losses(document, by):
    """By step, with eight windows a step; 000, dear to differentiate forward, has fewer units."""
    hidden = 8 if document == "000" else 12
    return train(document, by, toy_text(), steps=150, hidden=hidden, batch=8)


def entropy_of_characters():
    """What a model loses that knows how frequent each character is, and nothing else."""
    share = np.bincount(toy_text()) / len(toy_text())
    return -(share * np.log(share)).sum()


@pytest.mark.parametrize("document", MODELS)
def test_every_system_trains(document):
    found = losses(document, "autodiff")[:120]
    assert found[-10:].mean() < entropy_of_characters() - 0.3 < found[0] - 0.3


@pytest.mark.parametrize("document", MISPRINTED)
def test_training_by_the_corrected_gradient_is_training_by_autodiff(document):
    ours, truth = (losses(document, by)[:30] for by in ("corrected", "autodiff"))
    np.testing.assert_allclose(ours, truth, rtol=1e-4)


@pytest.mark.parametrize(
    ("document", "least", "most"), [("000", 0.03, 0.3), ("001", -0.25, 0.25), ("002", 1.0, 2.0)]
)
def test_what_the_misprints_cost_in_training(document, least, most):
    """In nats a character after 150 steps: 001's printed gradient is no worse than the true one."""
    printed, corrected = (losses(document, by)[-20:].mean() for by in ("printed", "corrected"))
    assert least < printed - corrected < most


def test_the_printed_gradient_of_002_learns_hardly_more_than_frequencies():
    printed = losses("002", "printed")
    assert entropy_of_characters() - 0.3 < printed[-20:].mean() < printed[0] - 0.1
