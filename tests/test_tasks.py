"""Tasks with long time lags: what is drawn, against witnesses; when it counts as learned."""

import dataclasses
import re
from collections import defaultdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlstm.readout import cross_entropy, logits
from jaxlstm.rtrl import gradient_errors, online_gradients, truncated_gradients
from jaxlstm.tasks.adding import adding
from jaxlstm.tasks.copy_memory import chance, copy_memory
from jaxlstm.tasks.long_lag import TASKS
from jaxlstm.tasks.noise_free import noise_free
from jaxlstm.tasks.reber import SYMBOLS, reber
from jaxlstm.tasks.task import Batch, sequences
from jaxlstm.tasks.temporal_order import temporal_order
from jaxlstm.training import TaskConfig, task_config, to_criterion
from jaxlstm.training.task_training import init_task_state, task_outputs

INNER = "B(?:TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:PXT*V)*(?:V|PS))E"
EMBEDDED = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")
SMALL = {"reber": 6, "noise-free": 4, "adding": 30, "temporal-order": 40, "copy": 3}


def draw(task, batch=50, seed=0):
    """The first sequences of a task, in NumPy."""
    return jax.tree.map(np.asarray, next(sequences(task, batch=batch, seed=seed)))


def spelled(batch, b):
    """A string of the Reber grammar, and what is allowed after each of its symbols."""
    length = batch.lengths[b]
    places = [*batch.inputs[:length, b].argmax(-1), batch.targets.symbols[length - 1, b]]
    assert (batch.targets.symbols[:length, b] == places[1:]).all()
    allowed = [{SYMBOLS[k] for k in np.flatnonzero(a)} for a in batch.targets.allowed[:length, b]]
    return "".join(SYMBOLS[place] for place in places), allowed


@pytest.mark.parametrize("lag", [6, 15])
def test_reber_strings_are_those_of_the_grammar(lag):
    batch, followed, told = draw(reber(lag), 2000), defaultdict(list), {}
    strings = [spelled(batch, b) for b in range(2000)]
    ended = [string for string, _ in strings if len(string) < len(batch.inputs)]
    assert len(ended) > 1980
    assert all(EMBEDDED.fullmatch(string) for string in ended)
    assert min(map(len, ended)) == 9
    assert batch.lengths.mean() == pytest.approx({6: 10.96, 15: 16.6}[lag], abs=0.6)
    for string, allowed in strings:
        for k, symbols in enumerate(allowed, start=1):
            followed[string[:k]].append(string[k])
            assert told.setdefault(string[:k], symbols) == symbols
    assert all(set(followed[prefix]) <= told[prefix] for prefix in followed)
    often = [prefix for prefix in followed if len(followed[prefix]) > 100]
    assert len(often) > 20
    assert all(set(followed[prefix]) == told[prefix] for prefix in often)


def test_adding_asks_for_the_sum_of_the_marked_numbers():
    inputs, targets, lengths = draw(adding(40), 2000)
    assert (lengths.min(), lengths.max()) == (40, 44)
    places = []
    for numbers, markers, target, length in zip(*inputs.T, targets, lengths, strict=True):
        assert markers[0] == markers[length - 1] == -1
        marked = np.flatnonzero(markers == 1)
        assert target == pytest.approx(0.5 + sum(numbers[place] for place in marked) / 4, abs=1e-6)
        assert np.abs(markers[:length]).sum() == 2 + len(marked)
        places.append([0] * (2 - len(marked)) + list(marked))
    places = np.array(places)
    assert (places[:, 0] < 10).all()
    assert (places[:, 0] == 0).mean() == pytest.approx(0.1 + 0.9 / 19, abs=0.02)
    assert places.max() == 19  # T/2 - 1 are left beside the first
    assert (np.diff(places[places[:, 0] > 0]) > 0).all()
    assert np.abs(inputs[..., 0]).max() <= 1


@pytest.mark.parametrize(("symbols", "places"), [(2, [10, 50]), (3, [10, 33, 66])])
def test_the_class_is_the_symbols_in_their_order(symbols, places):
    inputs, classes, lengths = draw(temporal_order(symbols=symbols), 300)
    for steps, kind, length in zip(inputs.argmax(-1).T, classes, lengths, strict=True):
        letters = "".join("abcdXYEB"[step] for step in steps[:length])
        assert re.fullmatch("E[abcdXY]*B", letters)
        found = [place for place, letter in enumerate(letters) if letter in "XY"]
        assert all(a <= place <= a + 10 for a, place in zip(places, found, strict=True))
        assert kind == int("".join("01"[letters[place] == "Y"] for place in found), 2)
    assert (lengths.min(), lengths.max()) == (100, 110)
    assert set(classes) == set(range(2**symbols))


def test_noise_free_sequences_end_as_they_begin():
    inputs, targets, lengths = draw(noise_free(5), 20)
    strings = set(map(tuple, np.vstack([inputs.argmax(-1), targets[-1:]]).T))
    assert strings == {(4, 0, 1, 2, 3, 4), (5, 0, 1, 2, 3, 5)}
    assert (inputs.argmax(-1)[1:] == targets[:-1]).all()
    assert (lengths == 5).all()


def test_copies_are_of_the_first_ten_symbols():
    inputs, targets, lengths = draw(copy_memory(7), 30)
    symbols = inputs.argmax(-1)
    assert symbols.shape == targets.shape == (27, 30)
    assert (symbols[:10] == targets[-10:]).all()
    assert set(symbols[:10].flat) == set(range(8))
    assert (symbols[10:, 0] == [8] * 6 + [9] + [8] * 10).all()
    assert (targets[:-10] == 8).all()
    assert (lengths == 27).all()


@pytest.mark.parametrize("name", ["reber", "adding"])
def test_a_seed_draws_the_same_sequences(name):
    def drawn(seed):
        numbers = sequences(TASKS[name](SMALL[name]), batch=3, seed=seed)
        return np.concatenate([np.ravel(next(numbers).inputs) for _ in range(2)])

    first = drawn(1)
    assert (first == drawn(1)).all()
    assert not np.array_equal(first, drawn(2))
    one, other = np.split(first, 2)
    assert not np.array_equal(one, other)


def rightly_answered(name, batch):
    """Outputs that are perfect before the lengths, and any past them."""
    if name == "adding":
        outputs = np.full((*batch.inputs.shape[:2], 1), np.nan, np.float32)
        outputs[batch.lengths - 1, np.arange(len(batch.lengths)), 0] = batch.targets
        return outputs
    if name == "temporal-order":
        return np.broadcast_to(20 * np.eye(4)[batch.targets], (*batch.inputs.shape[:2], 4)).copy()
    if name == "reber":
        outputs = np.where(batch.targets.allowed, 5.0, 0.0)
        past = np.arange(len(outputs))[:, None] >= batch.lengths
        return np.where(past[..., None], -outputs, outputs)
    return 20 * np.eye(TASKS[name](SMALL[name]).output_size)[batch.targets]


def logit(probability, others):
    """Above zeros of so many others, that gives this probability."""
    return np.log(probability / (1 - probability) * others)


NEARLY = {
    "reber": [(lambda outputs: outputs[3, 1, :].fill(0), False)],
    "noise-free": [
        (lambda outputs: set_right(outputs, 2, logit(0.76, 4)), True),
        (lambda outputs: set_right(outputs, 2, logit(0.74, 4)), False),
    ],
    "adding": [
        (lambda outputs: np.add(outputs, 0.039, out=outputs), True),
        (lambda outputs: np.add(outputs[:, 1], 0.041, out=outputs[:, 1]), False),
    ],
    "temporal-order": [
        (lambda outputs: set_right(outputs, slice(None), logit(0.71, 3)), True),
        (lambda outputs: set_right(outputs, slice(None), logit(0.69, 3)), False),
        (lambda outputs: np.multiply(outputs, logit(0.89, 3) / 20, out=outputs), False),
    ],
    "copy": [
        (lambda outputs: set_right(outputs, -1, -1), False),
        (lambda outputs: np.multiply(outputs, 0.1, out=outputs), False),
    ],
}
"""Changes in perfect outputs, and whether the criterion still holds. The last of two tasks leave
every sequence right, and the mean loss too large."""


def set_right(outputs, steps, value):
    """Gives the right answer of one sequence another logit."""
    outputs[steps, 1] = np.where(outputs[steps, 1] > 0, value, 0)


@pytest.mark.parametrize("name", NEARLY)
def test_a_criterion_is_met_by_perfect_outputs_and_not_by_nearly_perfect_ones(name):
    task = TASKS[name](SMALL[name])
    batch = draw(task)
    given = Batch(*jax.tree.map(jnp.asarray, batch))

    def met(outputs):
        outputs = jnp.asarray(outputs, jnp.float32)
        return bool(task.criterion.is_met(task.error(outputs, given), task.loss(outputs, given)))

    assert met(rightly_answered(name, batch))
    for change, expected in NEARLY[name]:
        outputs = rightly_answered(name, batch)
        change(outputs)
        assert met(outputs) == expected


def test_chance_is_the_loss_of_who_guesses_the_copies():
    task = copy_memory(3)
    batch = draw(task)
    outputs = np.where(np.arange(23)[:, None, None] < 13, 30 * np.eye(9)[8], -30 * np.eye(9)[8])
    outputs = jnp.asarray(np.broadcast_to(outputs, (23, 50, 9)), jnp.float32)
    given = Batch(*jax.tree.map(jnp.asarray, batch))
    assert np.allclose(task.loss(outputs, given), chance(3), rtol=1e-5)


def test_the_gradient_is_the_one_that_is_named():
    task = noise_free(5)
    batch = next(sequences(task, batch=2, seed=0))
    params = init_task_state(task, TaskConfig(hidden=3), 0).params

    def gradient(**given):
        def loss(params):
            return task.loss(task_outputs(TaskConfig(**given), params, batch), batch).sum()

        return jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(params))

    def loss_t(h_t, of_t):
        x_t, symbol = of_t
        return cross_entropy(logits(params.readout, jnp.concatenate([h_t, x_t], -1)), symbol) / 5

    bptt = gradient()
    for name, estimate in {
        "exact": partial(online_gradients, estimator="exact"),
        "snap1": partial(online_gradients, estimator="snap1"),
        "cell": partial(online_gradients, estimator="cell"),
        "truncated": partial(truncated_gradients, window=2),
    }.items():
        found = gradient(gradient=name, window=2)
        _, expected, _ = estimate(loss_t, params.cell, batch.inputs, (batch.inputs, batch.targets))
        expected = jax.tree.map(lambda leaf: leaf.sum(0), expected)
        assert gradient_errors(found.cell, expected).relative_norm < 1e-5
        assert gradient_errors(found.readout, bptt.readout).relative_norm < 1e-5
        assert (gradient_errors(found.cell, bptt.cell).relative_norm < 1e-5) == (name == "exact")


def test_training_begins_with_gates_of_the_lag_and_steps_of_the_rates():
    task = reber(20)
    config = task_config(task, hidden=3, batch=2, closed=True, learning_rate=0.01, readout_rate=0.2)
    before = init_task_state(task, config, 0)
    bias = np.log([1 / 20, 20, 1, 1]).repeat(3)  # input gate, forget gate, candidate, output gate
    assert np.allclose(before.params.cell.bias, bias)
    config = dataclasses.replace(config, budget=50)
    ((params, _),) = to_criterion(task, config, seed=0)
    moved = jax.tree.map(lambda old, new: np.abs(new - old).max(), before.params, params)
    assert 0.01 < moved.cell.bias < 0.25 < moved.readout.bias < 5


def test_the_criterion_is_tested_on_sequences_of_its_own():
    task, drawn = noise_free(2), {11: set(), 41: set()}
    criterion = task.criterion._replace(sequences=11)

    def draw(key, batch):
        def note(words):
            drawn[batch].add(tuple(words.tolist()))

        jax.debug.callback(note, jax.random.key_data(key))
        return task.draw(key, batch)

    spied = task._replace(draw=draw, criterion=criterion)
    *_, (_, report) = to_criterion(spied, task_config(task, hidden=3, batch=41), seed=1)
    jax.effects_barrier()
    assert report.met
    assert len(drawn[41]) == report.sequences / 41
    assert len(drawn[11]) >= 1
    assert not drawn[11] & drawn[41]


@pytest.mark.parametrize(
    ("task", "published", "lag", "tested", "error"),
    [
        (reber(), 8_440, 5, 512, 0),
        (reber(50), None, 5, 512, 0),
        (noise_free(), 5_040, 99, 100, 0.25),
        (noise_free(50), None, 49, 100, 0.25),
        (adding(), 74_000, 50, 2000, 0.04),
        (adding(500), 209_000, 250, 2000, 0.04),
        (adding(1000), 853_000, 500, 2000, 0.04),
        (temporal_order(), 31_390, 39, 2000, 0.3),
        (temporal_order(symbols=3), 571_100, 23, 2000, 0.3),
        (copy_memory(), None, 20, 100, 0),
    ],
)
def test_the_numbers_are_the_published_ones(task, published, lag, tested, error):
    assert (task.published and task.published.sequences) == published
    assert task.shortest_lag == lag
    assert (task.criterion.sequences, task.criterion.error) == (tested, error)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: adding(19), "time_lag: expected from 20 to 100,000, got 19"),
        (lambda: reber(5), "time_lag: expected from 6 to 100,000, got 5"),
        (lambda: temporal_order(symbols=4), "symbols: expected 2 or 3, got 4"),
        (lambda: sequences(reber(), batch=0, seed=0), "batch: expected at least 1, got 0"),
        (lambda: TaskConfig(cell="rnn", gradient="snap1"), "gradient: expected one of 'bptt', got"),
        (lambda: sequences(reber(), batch=1, seed=2**32), "seed: expected from 0 to 4,294,967,295"),
        (lambda: to_criterion(reber(), TaskConfig(), seed=-1), "seed: expected from 0 to"),
        (lambda: TaskConfig(clip=0.0), "clip: expected a number above 0, got 0.0"),
        (lambda: TaskConfig(batch=8, budget=199), "budget: expected at least 200 sequences"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, told):
    with pytest.raises(ValueError, match=told):
        make()
