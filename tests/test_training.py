"""The character model and its training: against NumPy, by hand and by autodiff, in the loop."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import assert_close, assert_same_bits
from jax.flatten_util import ravel_pytree
from reference_numpy import lstm_numpy

from jaxlstm.tasks.text import split, stream_window, text_of
from jaxlstm.training import (
    FUNCTIONS,
    TrainConfig,
    character_losses,
    evaluate,
    init_train_state,
    make_optimizer,
    sample,
    train_step,
    training,
)
from jaxlstm.training.sampling import draw_code

rng = np.random.default_rng(0)
TEXT = text_of("".join(rng.choice(list("abcdefg"), 900, p=np.arange(1, 8) / 28)))
CONFIG = TrainConfig(
    layers=2,
    hidden=5,
    embedding=3,
    batch=4,
    window=6,
    steps=12,
    warmup=3,
    learning_rate=0.02,
    weight_decay=0.01,
    clip=0.3,
    evaluate_every=5,
    dtype="float64",
)
ZEROS = [(np.zeros((1, 5)), np.zeros((1, 5)))] * 2
"""States of one stream."""


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def _standard_promotion():
    """Adam mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def start(config=CONFIG):
    """A first state that differs from others in every leaf, the states too."""
    state = init_train_state(config, len(TEXT.vocabulary))
    leaves, treedef = jax.tree.flatten(state.states)
    drawn = [
        0.5 * jax.random.normal(jax.random.key(k), leaf.shape, leaf.dtype)
        for k, leaf in enumerate(leaves)
    ]
    return state._replace(states=treedef.unflatten(drawn))


def window(step, config=CONFIG):
    trained_on, _ = split(TEXT.points, config.held_out)
    return stream_window(
        trained_on, TEXT.vocabulary, step, time=config.window, batch=config.batch, seed=config.seed
    )


def losses_numpy(params, characters, targets, states):
    """The losses [T, B], and the last states."""
    hidden, after = np.asarray(params.embedding)[characters], []
    for layer, state in zip(params.layers, states, strict=True):
        hidden, final = lstm_numpy(layer, hidden, state)
        after.append(final)
    scores = hidden @ np.asarray(params.readout.kernel) + np.asarray(params.readout.bias)
    logs = np.log(np.exp(scores).sum(-1))
    return logs - np.take_along_axis(scores, targets[..., None], -1)[..., 0], after


@pytest.mark.parametrize("gradient", ["hand", "autodiff"])
def test_losses_are_those_of_a_numpy_loop(gradient):
    state, (characters, targets, _) = start(), window(1)
    found = character_losses(
        state.params, characters, targets, state.states, functions=FUNCTIONS[gradient]
    )
    losses, after = losses_numpy(state.params, characters, targets, state.states)
    assert_close(found[0], losses, 1e-14)
    assert_close([tuple(state) for state in found[1]], [tuple(pair) for pair in after], 1e-14)


@pytest.mark.parametrize("first", [True, False])
def test_a_step_is_clipped_adam_on_the_mean_loss(first):
    """By autodiff's gradient, and Adam's first step written out."""
    state, given = start(), window(0)._replace(first=first)
    flat, unravel = ravel_pytree(state.params)
    states = jax.tree.map(jnp.zeros_like, state.states) if first else state.states

    def loss(flat):
        with_autodiff = {"functions": FUNCTIONS["autodiff"]}
        return character_losses(unravel(flat), *given[:2], states, **with_autodiff)[0].mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(flat)
    norm, before = np.linalg.norm(gradient), np.asarray(flat)
    leaves = jax.tree.leaves(state.params)
    decayed = before * np.concatenate([np.full(leaf.size, leaf.ndim == 2) for leaf in leaves])
    after, measured = train_step(dataclasses.replace(CONFIG, warmup=0), state, given)
    clipped = np.asarray(gradient) * min(1.0, CONFIG.clip / norm)
    update = clipped / (abs(clipped) + 1e-8) + CONFIG.weight_decay * decayed
    expected = before - CONFIG.learning_rate * update
    rounded = 1e-7 * CONFIG.learning_rate * 4  # optax's schedule is in float32
    np.testing.assert_allclose(ravel_pytree(after.params)[0], expected, rtol=0, atol=rounded)
    assert abs(measured.loss - value) < 1e-14
    assert int(after.step) == 1
    assert abs(measured.gradient_norm - norm) < 1e-13 * norm
    assert norm > CONFIG.clip


def test_five_hundred_steps_by_hand_and_by_autodiff():
    config = dataclasses.replace(CONFIG, steps=500, dropout=0.2, learning_rate=2e-3)
    ends = {}
    for gradient in ("hand", "autodiff"):
        of_gradient = dataclasses.replace(config, gradient=gradient)
        state = init_train_state(of_gradient, len(TEXT.vocabulary))
        *_, (state, _) = training(of_gradient, TEXT, state, report_every=500)
        ends[gradient] = state.params
    assert_close(ends["hand"], ends["autodiff"], 1e-9)
    first = init_train_state(config, len(TEXT.vocabulary)).params
    assert (
        max(abs(a - b).max() for a, b in zip(first.layers[0], ends["hand"].layers[0], strict=True))
        > 0.1
    )


def test_a_window_goes_on_where_the_one_before_ended():
    """Two windows of six have the losses of one of twelve."""
    still = dataclasses.replace(CONFIG, learning_rate=0.0, weight_decay=0.0)
    state, pair = start(), (window(0), window(1))
    assert [given.first for given in pair] == [True, False]
    long = [np.concatenate(leaves) for leaves in zip(*(w[:2] for w in pair), strict=True)]
    zeros = jax.tree.map(jnp.zeros_like, state.states)
    expected = character_losses(state.params, *long, zeros)[0].mean()
    state, first = train_step(still, state, pair[0])
    _, second = train_step(still, state, pair[1])
    assert abs((first.loss + second.loss) / 2 - expected) < 1e-14


@pytest.mark.usefixtures("_standard_promotion")
def test_rate_rises_and_falls():
    """By the size of Adam's updates to a constant gradient."""
    config = dataclasses.replace(CONFIG, clip=0.0, weight_decay=0.0)
    params = start(config).params
    gradient = jax.tree.map(jnp.ones_like, params)

    def rates(config):
        optimizer = make_optimizer(config)
        state, found = optimizer.init(params), []
        for _ in range(config.steps):
            updates, state = optimizer.update(gradient, state, params)
            found.append(-float(updates.readout.bias[0]) / config.learning_rate)
        return np.array(found)

    cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * np.arange(9) / 9)) / 2
    np.testing.assert_allclose(rates(config), [0, 1 / 3, 2 / 3, *cosine], atol=1e-6)
    constant = rates(dataclasses.replace(config, schedule="constant"))
    np.testing.assert_allclose(constant, [0, 1 / 3, 2 / 3, *[1] * 9], atol=1e-6)


def test_dropout_follows_the_key_and_the_step():
    config = dataclasses.replace(CONFIG, dropout=0.5)
    same = window(0)
    losses = [
        train_step(config, start(config)._replace(step=jnp.int32(step)), same)[1].loss
        for step in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert train_step(CONFIG, start(), same)[1].loss not in losses


def test_the_loop_reports_and_evaluates():
    reports = [report for _, report in training(CONFIG, TEXT, start(), report_every=4)]
    assert [report.step for report in reports] == [4, 5, 8, 10, 12]
    assert [bool(report.held_out) for report in reports] == [False, True, False, True, True]
    state, losses = start(), []
    for step in range(4):
        state, measured = train_step(CONFIG, state, window(step))
        losses.append(float(measured.loss))
    assert reports[0].loss == math.fsum(losses) / 4
    assert reports[0].gradient_norm == float(measured.gradient_norm)
    assert reports[0].characters_per_second > 0


def test_the_loop_stops_when_told_and_goes_on_to_the_bit():
    asked = iter([False, False, True])
    *_, (state, report) = training(CONFIG, TEXT, start(), stop=lambda: next(asked))
    assert report.step == int(state.step) == 3
    *_, (resumed, _) = training(CONFIG, TEXT, state)
    *_, (whole, _) = training(CONFIG, TEXT, start())
    assert_same_bits(resumed[:-1], whole[:-1])


def test_a_loss_that_is_not_finite_ends_the_run():
    wrong = jax.tree.map(lambda leaf: leaf * np.nan, start().params)
    with pytest.raises(FloatingPointError, match="no longer finite within the 4 steps up to 4"):
        list(training(CONFIG, TEXT, start()._replace(params=wrong), report_every=4))


@pytest.mark.parametrize("batch", [1, 4])
def test_evaluation_is_the_mean_over_streams(batch):
    config = dataclasses.replace(CONFIG, batch=batch)
    params, points = start().params, TEXT.points[:48]
    found = evaluate(config, params, TEXT.vocabulary, points)
    codes = np.searchsorted([ord(c) for c in TEXT.vocabulary], points)
    edges = np.arange(batch + 1) * 47 // batch
    total = 0.0
    for low, high in itertools.pairwise(edges):
        characters, targets = codes[low:high, None], codes[low + 1 : high + 1, None]
        total += losses_numpy(params, characters, targets, ZEROS)[0].sum()
    assert found.characters == 47
    assert abs(found.nats_per_character - total / 47) < 1e-14
    assert abs(found.bits_per_character - total / 47 / np.log(2)) < 1e-14


def test_drawn_characters_follow_temperature_and_top_p():
    scores = jnp.array([0.3, 2.0, -1.0, 1.0])
    draws = jax.vmap(draw_code, (0, None, None, None))
    keys = jax.random.split(jax.random.key(0), 20_000)
    for temperature, top_p, kept in ((1.0, 1.0, 4), (0.7, 0.7, 1), (2.0, 0.7, 2), (0.0, 1.0, 1)):
        tilted = np.exp(np.asarray(scores) / (temperature or 0.01))
        order = np.argsort(-tilted)[:kept]
        expected = np.zeros(4)
        expected[order] = tilted[order] / tilted[order].sum()
        found = np.bincount(draws(keys, scores, temperature, top_p), minlength=4) / 20_000
        np.testing.assert_allclose(found, expected, atol=0.015)
        assert (found[expected == 0] == 0).all()


def test_a_sample_is_what_the_whole_model_draws():
    """The likeliest character, read again from the beginning each time."""
    params, text = start().params, "cab"
    for _ in range(40):
        codes = np.array([[TEXT.vocabulary.index(c)] for c in text])
        scores = [
            losses_numpy(params, codes, np.full_like(codes, k), ZEROS)[0][-1, 0] for k in range(7)
        ]
        text += TEXT.vocabulary[int(np.argmin(scores))]
    given = (CONFIG, params, TEXT.vocabulary, "cab", 40)
    assert "cab" + "".join(sample(*given, key=jax.random.key(0), temperature=0.0)) == text
    drawn = ["".join(sample(*given, key=jax.random.key(k))) for k in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(text) for text in drawn] == [40, 40, 40]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hidden": 0}, "hidden: expected at least 1, got 0."),
        ({"dropout": 1.0}, "dropout: expected a number from 0 and below 1, got 1.0."),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number from 0, got nan."),
        ({"dtype": "int8"}, "dtype: expected one of 'float64', .*, got 'int8'."),
        ({"seed": -1}, "seed: expected from 0 to 4,294,967,295, got -1."),
        ({"schedule": "linear"}, "schedule: expected one of 'cosine', 'constant', got 'linear'."),
    ],
)
def test_configuration_errors(changed, told):
    with pytest.raises(ValueError, match=told):
        TrainConfig(**changed)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prompt": ""}, "prompt: expected at least one character, got none."),
        ({"prompt": "xa!"}, "got '!', 'x'"),
        ({"temperature": -1.0}, "temperature: expected a number of at least 0, got -1.0."),
        ({"length": 0}, "length: expected at least 1, got 0."),
        ({"top_p": 0.0}, "top_p: expected a number above 0 and up to 1, got 0.0."),
    ],
)
def test_sampling_errors(changed, told):
    given = {"prompt": "a", "length": 3, "key": jax.random.key(0)} | changed
    with pytest.raises(ValueError, match=told):
        sample(CONFIG, start().params, TEXT.vocabulary, **given)


def test_states_that_do_not_fit():
    state = start()
    larger = dataclasses.replace(CONFIG, hidden=6)
    for config, text in ((CONFIG, TEXT._replace(vocabulary="abc")), (larger, TEXT)):
        with pytest.raises(ValueError, match="state: expected the shapes of this configuration"):
            next(training(config, text, state))
    train_step(CONFIG, state, window(0))
    with pytest.raises(ValueError, match="one that was donated to an earlier step"):
        next(training(CONFIG, TEXT, state))


def test_half_precision_trains_parameters_in_float32():
    """And follows float32's losses."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16", window=20, steps=20, learning_rate=2e-2)
    runs = []
    for dtype in ("bfloat16", "float32"):
        of_dtype = dataclasses.replace(config, dtype=dtype)
        state = init_train_state(of_dtype, len(TEXT.vocabulary))
        runs.append([report for state, report in training(of_dtype, TEXT, state, report_every=1)])
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        assert {leaf.dtype for leaf in jax.tree.leaves(state.states)} == {jnp.dtype(dtype)}
    losses = np.array([[report.loss for report in run] for run in runs])
    assert abs(losses[0] - losses[1]).max() < 0.02
    assert losses[0, -1] < losses[0, 0]
