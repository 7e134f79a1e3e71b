"""All derivations of the LSTM's derivative vote; the wrong one is out-voted, whichever it is."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlstm import lstm
from jaxlstm.lstm_check import CheckConfig, agreement, draw_problem, lstm_agreement
from jaxlstm.lstm_check.agreement import by_rtrl
from jaxlstm.types import Activations

CONFIG = CheckConfig(6, 2, 3, 4, seed=2)


@pytest.mark.parametrize("masks", [True, False])
def test_six_derivations_agree(masks):
    config = dataclasses.replace(CONFIG, masks=masks, activations=Activations("sigmoid", "tanh"))
    found = lstm_agreement(draw_problem(config), config)
    assert found.odd == ()
    assert len(found.names) == 6
    assert found.ratios.max() <= 8


def test_a_wrong_candidate_is_out_voted():
    wrong = jax.custom_vjp(lambda params, *rest: lstm(params, *rest))
    wrong.defvjp(
        lambda *args: jax.vjp(lstm, *args),
        lambda back, d: jax.tree.map(lambda leaf: 1.001 * leaf, back(d)),
    )
    config = dataclasses.replace(CONFIG, masks=False)
    problem = draw_problem(config, wrong)
    assert lstm_agreement(problem, config, candidate="wrong").odd == ("wrong",)


def test_a_wrong_rtrl_is_out_voted(monkeypatch):
    def without_resets(activations, inputs, lengths, resets):
        return by_rtrl(activations, inputs, lengths, np.zeros_like(resets))

    monkeypatch.setattr(agreement, "by_rtrl", without_resets)
    assert lstm_agreement(draw_problem(CONFIG), CONFIG).odd == ("RTRL",)


def test_rtrl_too_large_says_so(monkeypatch):
    monkeypatch.setattr(agreement, "LARGEST", 1000)
    found = lstm_agreement(draw_problem(CONFIG), CONFIG)
    assert found.odd == ()
    assert found.raised == {"RTRL": "MemoryError: its sensitivities would take 0 MB"}
