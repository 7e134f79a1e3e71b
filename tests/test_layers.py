"""Stacked and bidirectional LSTMs against NumPy, run on each piece between two resets alone."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from composing import assert_placed, placements, values_and_gradients
from drawing import (
    SIGMOID,
    Problem,
    assert_close,
    assert_same_bits,
    compiled,
    draw,
    one_sequence,
    padding,
    run,
)
from jax.sharding import AxisType, NamedSharding
from reference_numpy import lstm_numpy_unbatched
from test_bad_input import assert_refuses, rows

from jaxlstm import (
    BidirectionalParams,
    BidirectionalState,
    LSTMParams,
    LSTMState,
    bidirectional_lstm,
    dropout,
    init_layers,
    lstm_autodiff,
    stacked_lstm,
)

T, B, D = 7, 8, 2
STACK = (("both", D, 5), ("forward", 10, 4))
LENGTHS = (5, 0, 7, 1, 4, 7, 2, 6)
KEY = jax.random.key(1)
by_hand = partial(stacked_lstm, dropout=0.4, key=KEY)
by_autodiff = partial(by_hand, lstm=lstm_autodiff)


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def draw_layer(seed: int, kind: str, D: int, H: int) -> tuple[Any, Any]:
    """The parameters and the initial state of one layer."""
    forward, backward = (draw(10 * seed + k, T, B, D, H, jnp.float64) for k in (1, 2))
    if kind == "forward":
        return forward.params, forward.initial_state
    params = BidirectionalParams(forward.params, backward.params)
    return params, BidirectionalState(forward.initial_state, backward.initial_state)


def draw_stack(seed: int) -> Problem:
    """Both kinds of layer; resets at the first and the last valid step, at the length and past."""
    drawn = [draw_layer(seed + k, *layer) for k, layer in enumerate(STACK)]
    layers, states = zip(*drawn, strict=True)
    given = draw(seed, T, B, D, STACK[-1][-1], jnp.float64)
    resets = given.resets.at[jnp.array([0, 4, 5, 6]), 0].set(True)
    cotangents = (given.cotangents[0], jax.tree.map(lambda leaf: 1 + leaf[::-1], states))
    return Problem(layers, given.inputs, states, jnp.array(LENGTHS), resets, cotangents)


def read(params: Any, inputs: Any, state: Any, length: int, resets: Any, backward: bool) -> Any:
    """One direction of one sequence, piece by piece: a reset begins one, the length ends all."""
    outputs, final, zero = np.zeros((len(inputs), len(state[0]))), state, np.zeros_like(state)
    begins = [0, *(t for t in range(1, length) if resets[t])] if length else []
    pieces, along = list(pairwise([*begins, length])), (-1 if backward else 1)
    for n, (begin, end) in enumerate(pieces[::along]):
        anew = n > 0 or (resets[0] and not backward)
        piece = inputs[begin:end][::along]
        answers, final = lstm_numpy_unbatched(params, piece, zero if anew else state)
        outputs[begin:end] = answers[::along]
    return outputs, final


def layer_truth(params: Any, inputs: Any, state: Any, length: int, resets: Any) -> Any:
    if not isinstance(params, BidirectionalParams):
        return read(params, inputs, state, length, resets, backward=False)
    ahead, final = read(params.forward, inputs, state.forward, length, resets, backward=False)
    back, first = read(params.backward, inputs, state.backward, length, resets, backward=True)
    return np.concatenate([ahead, back], axis=-1), (final, first)


def sequence_truth(problem: Problem) -> tuple[np.ndarray, list[Any]]:
    """The outputs and the final states of an unbatched stack."""
    layers, outputs, states, length, resets, _ = jax.tree.map(np.asarray, problem)
    length = len(outputs) if length is None else int(length)
    resets, finals = (np.zeros(len(outputs), bool) if resets is None else resets), []
    for params, state in zip(layers, states, strict=True):
        outputs, final = layer_truth(params, outputs, state, length, resets)
        finals.append(final)
    return outputs, finals


def assert_true(values: Any, problem: Problem) -> None:
    """Each sequence of the batch is what NumPy says of it alone."""
    outputs, finals = values
    for b in range(problem.inputs.shape[1]):
        truth, final_truth = sequence_truth(one_sequence(problem, b))
        assert_close(outputs[:, b], truth, 1e-13)
        ours = [leaf[b] for leaf in jax.tree.leaves(finals)]
        assert_close(ours, jax.tree.leaves(final_truth), 1e-13)


@pytest.mark.parametrize("given", [(), ("lengths",), ("resets",), ("lengths", "resets")], ids=str)
def test_values(given):
    problem = draw_stack(0)
    problem = problem._replace(**dict.fromkeys({"lengths", "resets"}.difference(given)))
    assert_true(compiled(run, stacked_lstm)(problem), problem)


def test_values_of_one_layer_without_states():
    problem = draw_stack(1)
    layer, zeros = problem.params[0], jax.tree.map(jnp.zeros_like, problem.initial_state[0])
    outputs, final = compiled(run, bidirectional_lstm)(
        problem._replace(params=layer, initial_state=None)
    )
    alone = problem._replace(params=(layer,), initial_state=(zeros,))
    assert_true((outputs, (final,)), alone)


def test_unbatched_and_vmap_are_the_batch():
    problem = draw_stack(2)._replace(cotangents=None)
    batched = compiled(run, stacked_lstm)(problem)
    axes = Problem(None, 1, 0, 0, 1, None)
    mapped = jax.vmap(partial(run, stacked_lstm), in_axes=(axes,), out_axes=(1, 0))
    assert_close(jax.jit(mapped)(problem), batched, 1e-13)
    for b in (0, 1):
        alone = Problem(problem.params, *one_sequence(draw_stack(2), b)[1:5], None)
        row = (batched[0][:, b], jax.tree.map(lambda leaf, b=b: leaf[b], batched[1]))
        assert_close(compiled(run, stacked_lstm)(alone), row, 1e-13)


def test_no_steps_and_traced_lengths_past_the_end():
    problem = draw_stack(3)
    longer = problem._replace(lengths=jnp.where(problem.lengths == T, T + 2, problem.lengths))
    assert_same_bits(*(compiled(run, stacked_lstm)(given) for given in (longer, problem)))
    nothing = problem._replace(inputs=problem.inputs[:0], resets=problem.resets[:0])
    outputs, finals = compiled(run, stacked_lstm)(nothing)
    assert outputs.shape == (0, B, 4)
    assert_same_bits(finals, problem.initial_state)


def test_gradients_are_those_of_autodiff():
    problem = draw_stack(4)
    ours, truth = (compiled(values_and_gradients, f)(problem) for f in (by_hand, by_autodiff))
    assert_close(ours, truth, 1e-12)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(ours))


def inner(tree: Any, other: Any) -> Any:
    """The sum of the products of all entries."""
    return sum(map(jnp.vdot, jax.tree.leaves(tree), jax.tree.leaves(other)))


def test_tangents_are_the_slopes_and_the_adjoints_of_the_gradients():
    problem, direction = draw_stack(5), draw_stack(6)
    moved = (problem.params, problem.inputs, problem.initial_state)
    along = (direction.params, direction.inputs, direction.initial_state)

    def values(params: Any, inputs: Any, initial_state: Any) -> Any:
        return run(by_hand, Problem(params, inputs, initial_state, *problem[3:]))

    def at(step: float) -> Any:
        there = jax.tree.map(lambda leaf, v: leaf + step * v, moved, along)
        return compiled(values_and_gradients, by_hand)(Problem(*there, *problem[3:]))[0]

    def slope(step: float) -> Any:
        return jax.tree.map(lambda plus, minus: (plus - minus) / (2 * step), at(step), at(-step))

    tangents = jax.jit(partial(jax.jvp, values))(moved, along)[1]
    slopes = jax.tree.map(lambda half, whole: (4 * half - whole) / 3, slope(5e-5), slope(1e-4))
    assert_close(tangents, slopes, 1e-9)
    _, gradients = compiled(values_and_gradients, by_hand)(problem)
    there, back = inner(problem.cotangents, tangents), inner(gradients, along)
    squared = inner(problem.cotangents, problem.cotangents) * inner(tangents, tangents)
    assert abs(there - back) <= 1e-13 * jnp.sqrt(squared)


def test_what_the_padding_holds_never_matters():
    problem = draw_stack(7)
    past = jnp.asarray(padding(problem))
    inputs, d_outputs = (
        jnp.where(past[..., None], jnp.nan, array)
        for array in (problem.inputs, problem.cotangents[0])
    )
    cotangents, resets = (d_outputs, problem.cotangents[1]), problem.resets ^ past
    spoilt = problem._replace(inputs=inputs, resets=resets, cotangents=cotangents)
    answers, truth = (compiled(values_and_gradients, by_hand)(p) for p in (spoilt, problem))
    assert_same_bits(answers, truth)
    assert not np.asarray(answers[0][0])[padding(problem)].any()


def test_a_mesh_with_explicit_axes():
    """Values and gradients are right, and placed as the batch and the parameters are."""
    problem = draw_stack(8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(partial(NamedSharding, mesh), placements(problem))
        placed = jax.device_put(problem, shardings)
        answers = jax.jit(partial(values_and_gradients, by_hand))(placed)
    truth = compiled(values_and_gradients, by_hand)(problem)
    assert_close(jax.device_get(answers), truth, 1e-13)
    assert_placed(answers, (shardings.cotangents, shardings[:3]))


def test_first_parameters_fit_and_differ():
    layers = init_layers(KEY, D, 5, 2, bidirectional=True, forget_bias=2.0, dtype="float64")
    kernels = [leaf for leaf in jax.tree.leaves(layers) if leaf.ndim == 2]
    assert [kernel.shape[0] for kernel in kernels] == [D, 5, D, 5, 10, 5, 10, 5]
    assert len({float(kernel[0, 0]) for kernel in kernels}) == len(kernels)
    assert {float(b) for layer in layers for b in layer.backward.bias[5:10]} == {2.0}
    forward = jax.eval_shape(lambda key: init_layers(key, D, 5, 2), KEY)
    assert [params.input_kernel.shape for params in forward] == [(D, 20), (5, 20)]


ONES = np.ones((40, 50), np.float32)


def test_dropout_zeroes_some_and_scales_the_rest():
    values = np.random.default_rng(0).normal(size=ONES.shape)
    dropped = np.asarray(dropout(KEY, values, 0.25))
    kept = dropped != 0
    assert abs(kept.mean() - 0.75) < 0.03
    assert_close(dropped[kept], values[kept] / 0.75, 1e-15)
    assert abs(float(dropout(KEY, ONES, 0.25).mean()) - 1) < 0.03
    assert_same_bits(dropout(KEY, values, 0.25), dropped)
    assert np.any(dropout(jax.random.key(2), values, 0.25) != dropped)
    assert_same_bits(dropout(KEY, values, 0.0), values)
    gradient = jax.grad(lambda values: (values * dropout(KEY, values, 0.25)).sum())(values)
    assert_close(gradient, 2 * dropped, 1e-15)


def one(D: int, H: int, dtype: Any = np.float32) -> LSTMParams:
    return LSTMParams(*(np.zeros(shape, dtype) for shape in ((D, 4 * H), (H, 4 * H), 4 * H)))


def both(D: int, H: int) -> BidirectionalParams:
    return BidirectionalParams(one(D, H), one(D, H))


def zero_state(H: int) -> LSTMState:
    return LSTMState(np.zeros((3, H), np.float32), np.zeros((3, H), np.float32))


def entering(layers: Any, inputs: Any, **given: Any) -> tuple[list[np.ndarray], Any]:
    """What enters each LSTM of layers that hand on what enters, and what leaves the last."""
    entered: list[np.ndarray] = []

    def hand_on(_: Any, inputs: jax.Array, *__: Any, activations: Any, **___: Any) -> Any:
        assert activations == SIGMOID
        entered.append(np.asarray(inputs))
        return inputs, LSTMState(inputs[0], inputs[0])

    outputs, _ = stacked_lstm(layers, inputs, activations=SIGMOID, lstm=hand_on, **given)
    return entered, outputs


def test_both_directions_run_the_lstm_given():
    inputs = np.random.default_rng(0).normal(size=ONES.shape).astype(np.float32)
    entered, outputs = entering((both(50, 50),), inputs)
    assert_same_bits(entered, [inputs, inputs[::-1]])
    assert_same_bits(outputs, np.concatenate([inputs, inputs], axis=1))


def test_dropout_is_between_layers_only_and_each_time_another():
    dropped = partial(entering, (one(50, 50),) * 3, ONES, key=KEY)
    (first, second, third), outputs = dropped(dropout=0.5)
    assert_same_bits(first, ONES)
    assert_same_bits(third, outputs)
    assert set(np.unique(second)) == {0.0, 2.0}
    assert set(np.unique(third)) == {0.0, 4.0}
    assert abs((third != 0)[second != 0].mean() - 0.5) < 0.05
    assert_same_bits(dropped(dropout=0.5)[0][1], second)
    assert np.any(dropped(dropout=0.5, key=jax.random.key(2))[0][1] != second)
    assert_same_bits(dropped(dropout=0.0), ([ONES] * 3, ONES))


def call(**changed: Any) -> Any:
    """Two layers of D, H = 2, 5 and 10, 4, the first bidirectional; with one argument changed."""
    zeros = zero_state(5)
    good = {
        "layers": (both(2, 5), one(10, 4)),
        "inputs": np.ones((T, 3, 2), np.float32),
        "initial_states": (BidirectionalState(zeros, zeros), zero_state(4)),
    }
    return stacked_lstm(**{**good, **changed})


def first(*layers: Any) -> dict[str, Any]:
    return {"layers": layers, "initial_states": None}


RATE = "dropout: expected at least 0 and below 1"
WRONG_VALUES = [
    (
        first(one(2, 5), one(2, 5), one(5, 5)),
        "layers[1].input_kernel: expected shape [D, 4H] = [5, 20] with D = 5 from the outputs of "
        "layers[0]",
        "[2, 20]",
    ),
    (
        first(one(2, 5), both(3, 4)),
        "layers[1].forward.input_kernel: expected shape [D, 4H] = [5, 16]",
        "[3, 16]",
    ),
    (
        first(BidirectionalParams(one(2, 5), one(2, 6))),
        "layers[0].backward.input_kernel: expected shape [D, 4H] = [2, 20] as layers[0].forward",
        "[2, 24]",
    ),
    (
        first(one(2, 5)._replace(bias=np.ones(5, np.float32))),
        "layers[0].bias: expected shape [4H] = [20] with H = 5 from the rows of layers[0].recurr",
        "[5]",
    ),
    (
        first(one(3, 5)),
        "inputs: expected shape [T, B, 3] or [T, 3] (D = 3 from the rows of layers[0].input_kernel",
        "[7, 3, 2]",
    ),
    (first(), "layers: expected at least one layer", "()"),
    ({"initial_states": (zero_state(5),)}, "initial_states: expected 2, one for each layer", "1"),
    (
        {"initial_states": (BidirectionalState(*[zero_state(6)] * 2), None)},
        "initial_states[0].forward.hidden: expected shape [B, H] = [3, 5] from the inputs and "
        "layers[0].forward.recurrent_kernel",
        "[3, 6]",
    ),
    ({"lengths": np.array([1, 8, 2])}, "lengths: expected values from 0 to T = 7", "8"),
    ({"dropout": 1.0}, RATE, "1.0"),
    ({"dropout": -0.1, "key": KEY}, RATE, "-0.1"),
    ({"dropout": 0.5}, "key: expected a PRNG key where dropout is above 0", "None"),
]
WRONG_TYPES = [
    ({"layers": one(2, 5)}, "layers[0]: expected LSTMParams or BidirectionalParams", "ndarray"),
    ({"layers": {}}, "layers: expected Sequence", "dict"),
    (
        first(one(2, 5), one(5, 5, dtype=jnp.bfloat16)),
        "layers[1].input_kernel: expected dtype float32 as layers[0].input_kernel has",
        "bfloat16",
    ),
    (
        first(BidirectionalParams(one(2, 5), one(2, 5, dtype=jnp.bfloat16))),
        "layers[0].backward.input_kernel: expected dtype float32 as layers[0].forward.input_kern",
        "bfloat16",
    ),
    (
        {"initial_states": (zero_state(5), zero_state(4))},
        "initial_states[0]: expected BidirectionalState",
        "LSTMState",
    ),
    ({"resets": np.ones((T, 3), np.float32)}, "resets: expected dtype bool", "float32"),
    ({"dropout": "0.5"}, "dropout: expected a number", "'0.5'"),
]


@pytest.fixture
def _unchecked_types() -> Any:
    """The checks of annotations, a help under pytest only, would answer before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_unchecked_types")
@rows(WRONG_VALUES, WRONG_TYPES)
def test_bad_stacks(changed, expected, got, error):
    assert_refuses(error, expected, got, partial(call, **changed))


@pytest.mark.usefixtures("_unchecked_types")
def test_other_bad_calls():
    inputs, params = np.ones((T, 2), np.float32), both(2, 5)
    for error, expected, got, args in (
        (TypeError, "params: expected BidirectionalParams", "LSTMParams", (one(2, 5), inputs)),
        (TypeError, "initial_state: expected BidirectionalState", "int", (params, inputs, 3)),
        (ValueError, "inputs: expected shape [T, B, 2]", "[2, 7]", (params, inputs.T)),
    ):
        assert_refuses(error, expected, got, partial(bidirectional_lstm, *args))
    for error, expected, got, args in (
        (ValueError, "rate: expected at least 0 and below 1", "1", (KEY, ONES, 1)),
        (ValueError, "key: expected a PRNG key where rate is above 0", "None", (None, ONES, 0.1)),
        (TypeError, "values: expected a dtype", "int64", (KEY, ONES.astype(int), 0.1)),
    ):
        assert_refuses(error, expected, got, partial(dropout, *args))
    for name in ("input_size", "hidden_size", "layers"):
        sizes = {"input_size": 2, "hidden_size": 5, "layers": 2, name: 0}
        bad = partial(init_layers, KEY, **sizes)
        assert_refuses(ValueError, f"{name}: expected at least 1", "0", bad)
