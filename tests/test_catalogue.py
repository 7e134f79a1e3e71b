"""The catalogue's backward pass is right without amounts, and wrong as its words say with them."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import NAMES, TANH, draw, pullback

from jaxlstm import Activations, LSTMState, lstm_autodiff
from jaxlstm.gradient_check import check_gradients, relative_error
from jaxlstm.lstm_check.catalogue import lstm_catalogue
from jaxlstm.lstm_check.choices import LINES, amounts, factor_in
from jaxlstm.lstm_check.signals import SIGNALS, Masks, signals
from jaxlstm.types import GATES

SIZES = (12, 5, 4, 3)
ALIKE = tuple(Activations(name, name) for name in NAMES)
LABELS = {
    *("B1", "B3", "outputs cotangent", "lengths", "resets", "truncation", "precision"),
    *(
        f"{line} {gate}".strip()
        for line in ("B2", "B4", "B5", "B6", "B7", "B8")
        for gate in ("", *GATES)
    ),
    *(f"final {state} cotangent" for state in ("hidden", "cell")),
    *(f"initial {state} gradient" for state in ("hidden", "cell")),
}


@functools.cache
def problem():
    """All sequences but one are padded, and the cotangents are large enough to be clipped."""
    with jax.enable_x64(True):
        drawn = jax.tree.map(np.asarray, draw(0, *SIZES, jnp.float64))
    cotangents = jax.tree.map(lambda leaf: 20 * leaf, drawn.cotangents)
    return drawn._replace(lengths=np.array([12, 7, 10, 0, 9], np.int32), cotangents=cotangents)


@functools.cache
def gradients(activations=TANH):
    """The gradient without amounts, and by its sentence that with each hypothesis in full."""
    catalogue, drawn = lstm_catalogue(SIZES[0], activations), problem()
    args = (drawn.params, drawn.inputs, drawn.initial_state, drawn.lengths, drawn.resets)
    whole = [
        jax.tree.map(lambda leaf, h=h: in_full(h) * leaf, h.change) for h in catalogue.hypotheses
    ]
    changes = jax.tree.map(lambda *leaves: np.stack(leaves), amounts({}, SIZES[0]), *whole)

    evaluate = jax.jit(jax.vmap(catalogue.gradient, (0, None, None)))
    with jax.enable_x64(True):
        leaves = map(np.asarray, evaluate(changes, args, drawn.cotangents))
        right, *others = zip(*leaves, strict=True)
    sentences = [f"{h.equation}: {h.words}" for h in catalogue.hypotheses]
    return right, dict(zip(sentences, others, strict=True))


def in_full(hypothesis):
    """The amount of the mistake in full: a term left out, or one formula for another."""
    return -1 if hypothesis.kind == "scale" else 1


def truth(cotangents=None):
    """The gradient by autodiff."""
    drawn = problem()
    with jax.enable_x64(True):
        drawn = drawn._replace(cotangents=cotangents or drawn.cotangents)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(pullback(lstm_autodiff, drawn))]


def assert_is(sentence, gradient):
    """The hypothesis's gradient is this one, and not the right one."""
    right, wrong = gradients()
    errors = list(map(relative_error, wrong[sentence], gradient))
    assert max(errors) < 1e-12, errors
    assert max(map(relative_error, right, gradient)) > 1e-3


@pytest.mark.parametrize("activations", ALIKE, ids=NAMES)
def test_without_amounts_it_is_the_gradient(activations):
    right, _ = gradients(activations)
    with jax.enable_x64(True):
        reference = jax.tree.leaves(pullback(lstm_autodiff, problem(), activations))
    assert max(map(relative_error, right, reference)) < 1e-12


@pytest.mark.parametrize("activations", ALIKE, ids=NAMES)
def test_every_hypothesis_changes_the_gradient(activations):
    right, wrong = gradients(activations)
    for sentence, gradient in wrong.items():
        assert all(np.isfinite(leaf).all() for leaf in gradient), sentence
        assert max(map(relative_error, gradient, right)) > 1e-9, sentence


@pytest.mark.parametrize("time", [1, 2, 6, 40, 150, 300])
@pytest.mark.parametrize("activations", ALIKE, ids=NAMES)
def test_hypotheses_are_labelled_and_distinct(time, activations):
    hypotheses = lstm_catalogue(time, activations).hypotheses
    sentences = {(h.equation, h.words) for h in hypotheses}
    assert len(sentences) == len(hypotheses) >= 120
    assert {h.equation for h in hypotheses} <= LABELS
    cuts = [h for h in hypotheses if "stops at step" in h.words]
    assert len(cuts) <= 40
    assert not any("psi" in words or "phi" in words for _, words in sentences)


@pytest.mark.parametrize("number", [3, 4])
def test_lengths_and_resets_may_be_left_out(number):
    drawn = problem()
    args = (drawn.params, drawn.inputs, drawn.initial_state, drawn.lengths)[:number]

    def plain(params, inputs, initial_state, lengths=None):
        return lstm_autodiff(params, inputs, initial_state, lengths=lengths)

    def backward(pull, cotangents):
        d_params, *others = pull(cotangents)
        return d_params._replace(bias=-d_params.bias), *others

    wrong = jax.custom_vjp(plain)
    wrong.defvjp(lambda *args: jax.vjp(plain, *args), backward)
    report = check_gradients(
        wrong, plain, args, hypotheses=lstm_catalogue(SIZES[0]), dtypes=["float32"], also=()
    )
    assert report.explanations[0].equation == "B7"
    assert report.explanations[0].reproduces


def explanations(**factors):
    """The report on a gradient whose named parameters are scaled."""
    drawn = problem()
    args = drawn.params, drawn.inputs, drawn.initial_state

    def backward(pull, cotangents):
        d_params, *others = pull(cotangents)
        scaled = {name: factor * getattr(d_params, name) for name, factor in factors.items()}
        return d_params._replace(**scaled), *others

    wrong = jax.custom_vjp(lstm_autodiff)
    wrong.defvjp(lambda *args: jax.vjp(lstm_autodiff, *args), backward)
    catalogue = lstm_catalogue(SIZES[0])
    return check_gradients(
        wrong, lstm_autodiff, args, hypotheses=catalogue, dtypes=["float32"], also=()
    )


def test_what_reproduces_the_gradient_stands_alone():
    report = explanations(bias=-1)
    assert all(one.reproduces for one in report.explanations)
    assert "Most likely wrong:\n  1. B7: " in str(report)


def test_where_nothing_reproduces_it_that_is_said_first():
    report = explanations(bias=-1, recurrent_kernel=0.3, input_kernel=3)
    assert all(one.explained >= 0.1 for one in report.explanations[1:])
    assert not any(one.reproduces for one in report.explanations)
    assert "\nNo single known mistake reproduces this: there may be several, or" in str(report)


def test_a_catalogue_of_another_time_is_refused():
    drawn = problem()
    args = drawn.params, drawn.inputs, drawn.initial_state
    with pytest.raises(ValueError, match="hypotheses: expected a gradient of the shapes"):
        check_gradients(lstm_autodiff, lstm_autodiff, args, hypotheses=lstm_catalogue(5))


def test_the_catalogue_is_made_once():
    assert lstm_catalogue(5) is lstm_catalogue(5)


def test_every_factor_is_known():
    for line in LINES.values():
        assert all(map(factor_in, line.values + line.slopes))


# Mistakes that autodiff makes too, where the forward pass stops or lets through a gradient.


def stop(tree):
    return jax.lax.stop_gradient(tree)


def straight_through(value, like):
    """The value, with the gradient of ``like``."""
    return like + stop(value - like)


def where(mask, tree, otherwise):
    return jax.tree.map(lambda a, b: jnp.where(mask[:, None], a, b), tree, otherwise)


RIGHT = {
    "carried": lambda state, _: state,
    "entered": lambda entered, _: entered,
    "output": lambda h, valid: jnp.where(valid[:, None], h, 0),
    "kept": lambda c: c,
    "sigmoid_f": jax.nn.sigmoid,
    "psi": jnp.tanh,
}


def by_autodiff(**changes):
    """The gradient by autodiff of an LSTM with the same values, part of it replaced."""
    part, drawn = SimpleNamespace(**RIGHT | changes), problem()

    def values(params, inputs, state):
        def step(before, step_t):
            x, valid, reset, t = step_t
            before = part.carried(before, t)
            h, c = part.entered(where(~reset, before, zeros), before)
            z = x @ params.input_kernel + h @ params.recurrent_kernel + params.bias
            z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=-1)
            c = part.sigmoid_f(z_f) * part.kept(c) + jax.nn.sigmoid(z_i) * jnp.tanh(z_g)
            stepped = LSTMState(jax.nn.sigmoid(z_o) * part.psi(c), c)
            after = where(valid, stepped, before)
            return after, part.output(after.hidden, valid)

        zeros, steps = jax.tree.map(jnp.zeros_like, state), jnp.arange(len(inputs))
        valid = steps[:, None] < drawn.lengths.astype(int)
        inputs = jnp.where(valid[..., None], inputs, 0)
        final, outputs = jax.lax.scan(step, state, (inputs, valid, drawn.resets, steps))
        return outputs, final

    with jax.enable_x64(True):
        args = drawn.params, drawn.inputs, drawn.initial_state
        return jax.tree.leaves(jax.jit(lambda: jax.vjp(values, *args)[1](drawn.cotangents))())


AS_AUTODIFF = {
    "B4: the product d_z W'": {
        "entered": lambda state, _: LSTMState(stop(state.hidden), state.cell)
    },
    "B3: the term d_c * f": {"kept": stop},
    "B2 forget: leaves out f (1 - f)": {
        "sigmoid_f": lambda z: straight_through(jax.nn.sigmoid(z), z)
    },
    "B1: leaves out 1 - tanh(c_t)^2": {"psi": lambda c: straight_through(jnp.tanh(c), c)},
    "truncation: d_h stops at every step but the first": {
        "carried": lambda s, t: LSTMState(jnp.where(t > 0, stop(s.hidden), s.hidden), s.cell)
    },
    "truncation: the state's cotangent stops at step 5": {
        "carried": lambda s, t: jax.tree.map(lambda leaf: jnp.where(t == 5, stop(leaf), leaf), s)
    },
    "resets: are ignored by the state's cotangent": {
        "entered": functools.partial(jax.tree.map, straight_through)
    },
    "lengths: are ignored by the outputs' cotangent": {"output": lambda h, _: h},
}


def test_the_autodiff_whose_parts_go_wrong_is_right():
    assert max(map(relative_error, by_autodiff(), truth())) < 1e-12


@pytest.mark.parametrize("sentence", AS_AUTODIFF)
def test_as_autodiff_goes_wrong(sentence):
    assert_is(sentence, by_autodiff(**AS_AUTODIFF[sentence]))


# Mistakes in a loop over sequences and steps.

LOOP = {
    "d_y": lambda d_outputs, t: d_outputs[t],
    "o": lambda s: s.o,
    "slope_i": lambda s: s.i * (1 - s.i),
    "c_tm1": lambda s: s.c_tm1,
    "d_h": lambda s: s.d_h,
    "f": lambda s: s.f,
    "d_z": lambda d_z: d_z,
    "W": lambda W: W,
    "h_tm1": lambda s: s.h_tm1,
    "in_bias": lambda _: True,
}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_loop(**changes):
    """The gradient by [B1] to [B8], part of it replaced."""
    part, drawn = SimpleNamespace(**LOOP | changes), problem()
    U, W, bias = (leaf.reshape(*leaf.shape[:-1], 4, -1) for leaf in drawn.params)
    d_U, d_W, d_b, d_x = map(np.zeros_like, (U, W, bias, drawn.inputs))
    d_initial = [np.zeros_like(leaf) for leaf in drawn.initial_state]
    for b, length in enumerate(drawn.lengths):
        d_h, d_c = (leaf[b] for leaf in drawn.cotangents[1])
        for t, s in reversed(list(enumerate(steps_of(U, W, bias, drawn, b, length)))):
            s.d_h = d_h + part.d_y(drawn.cotangents[0][:, b], t)
            s.d_c = d_c + s.d_h * part.o(s) * (1 - np.tanh(s.c) ** 2)
            d_i, d_f = s.d_c * s.g * part.slope_i(s), s.d_c * part.c_tm1(s) * s.f * (1 - s.f)
            d_g, d_o = s.d_c * s.i * (1 - s.g**2), part.d_h(s) * np.tanh(s.c) * s.o * (1 - s.o)
            d_z = part.d_z(np.stack([d_i, d_f, d_g, d_o]))
            d_U += np.multiply.outer(s.x, d_z)
            d_W += np.multiply.outer(part.h_tm1(s), d_z)
            d_b += d_z * part.in_bias(t)
            d_x[t, b] = np.einsum("kg,dkg->d", d_z, U)
            d_h = s.carried * np.einsum("kg,hkg->h", d_z, part.W(W))
            d_c = s.carried * s.d_c * part.f(s)
        d_initial[0][b], d_initial[1][b] = d_h, d_c
    d_params = (
        d.reshape(leaf.shape) for d, leaf in zip((d_U, d_W, d_b), drawn.params, strict=True)
    )
    return [*d_params, d_x, *d_initial]


def steps_of(U, W, bias, drawn, b, length):
    """What every step of a sequence holds."""
    steps, (h, c) = [], (leaf[b] for leaf in drawn.initial_state)
    for x, reset in zip(drawn.inputs[:length, b], drawn.resets[:, b], strict=False):
        s = SimpleNamespace(x=x, carried=float(not reset))
        s.h_tm1, s.c_tm1 = h * s.carried, c * s.carried
        s.h_before, s.c_before = h, c
        s.z = z = np.tensordot(x, U, 1) + np.tensordot(s.h_tm1, W, 1) + bias
        s.i, s.f, s.g, s.o = sigmoid(z[0]), sigmoid(z[1]), np.tanh(z[2]), sigmoid(z[3])
        s.c = c = s.f * s.c_tm1 + s.i * s.g
        s.h = h = s.o * np.tanh(c)
        s.before = steps[-1] if steps else s
        steps.append(s)
    return steps


AS_IN_A_LOOP = {
    "B1: uses f where o belongs": {"o": lambda s: s.f},
    "B2 input: uses sigmoid'(i) where i (1 - i) belongs": {
        "slope_i": lambda s: sigmoid(s.i) * (1 - sigmoid(s.i))
    },
    "B2 input: uses 1 - i^2 where i (1 - i) belongs": {"slope_i": lambda s: 1 - s.i**2},
    "B2 forget: uses c_t where c_{t-1} belongs": {"c_tm1": lambda s: s.c},
    "B2 output: uses d_c where d_h belongs": {"d_h": lambda s: s.d_c},
    "B3: uses f_{t-1} where f belongs": {"f": lambda s: s.before.f},
    "B3: uses 1 - f where f belongs": {"f": lambda s: 1 - s.f},
    "B4: uses W where W' belongs": {"W": lambda W: W.transpose(2, 1, 0)},
    "B4 forget: uses the block of i in W": {"W": lambda W: W[:, [0, 0, 2, 3]]},
    "B4 output: the output gate's part of the product d_z W'": {
        "W": lambda W: W * np.array([1, 1, 1, 0])[:, None]
    },
    "B5: uses h_t where h_{t-1} belongs": {"h_tm1": lambda s: s.h},
    "B7: leaves out the last step": {"in_bias": lambda t: t < SIZES[0] - 1},
    "B2: takes the gates in the order i, o, f, g in all of d_z": {
        "d_z": lambda d_z: d_z[[0, 3, 1, 2]]
    },
    "outputs cotangent: uses d_y_{t+1} where d_y_t belongs": {
        "d_y": lambda d_y, t: d_y[t + 1] if t + 1 < len(d_y) else np.zeros_like(d_y[t])
    },
    "outputs cotangent: leaves out the first step": {"d_y": lambda d_y, t: d_y[t] * (t > 0)},
}


def test_the_loop_whose_parts_go_wrong_is_right():
    assert max(map(relative_error, by_loop(), truth())) < 1e-12


@pytest.mark.parametrize("sentence", AS_IN_A_LOOP)
def test_as_a_loop_goes_wrong(sentence):
    assert_is(sentence, by_loop(**AS_IN_A_LOOP[sentence]))


def test_signals_bear_their_names():
    drawn, T = problem(), SIZES[0]
    U, W, bias = (leaf.reshape(*leaf.shape[:-1], 4, -1) for leaf in drawn.params)
    steps = steps_of(U, W, bias, drawn, 0, T)
    s = SimpleNamespace(**{part: np.stack([vars(s)[part] for s in steps]) for part in PARTS})
    expected = signals_by_loop(s) | {f"z_{y}": s.z[:, k] for k, y in enumerate("ifgo")}
    expected |= {name: expected[name[:-2]] ** 2 for name in SIGNALS if name.endswith("^2")}
    expected |= {name: expected[name[:-6]] ** 2 for name in SIGNALS if name.endswith(" twice")}
    assert expected.keys() == set(SIGNALS)
    with jax.enable_x64(True):
        masks = Masks(jnp.ones((T, 1), bool), jnp.asarray(~drawn.resets[:, :1]))
        state = jax.tree.map(lambda leaf: leaf[:1], drawn.initial_state)
        found = jax.jit(signals)(TANH, drawn.params, drawn.inputs[:, :1], state, masks)
    for n, name in enumerate(SIGNALS):
        assert relative_error(found[:, n, 0], expected[name]) < 1e-12, name


PARTS = ("z", "i", "f", "g", "o", "c", "h", "c_tm1", "h_tm1", "c_before", "h_before")


def signals_by_loop(s):
    earlier, later = (lambda x: np.stack([x[0], *x[:-1]])), (lambda x: np.stack([*x[1:], x[-1]]))
    gates = {y: vars(s)[y] for y in "ifgo"}
    cells = {"c_{t-1}": s.c_tm1, "c_t": s.c, "c_{t+1}": later(s.c)}
    return {
        **gates,
        **{f"{y}_{{t-1}}": earlier(value) for y, value in gates.items()},
        **{f"{y}_{{t+1}}": later(value) for y, value in gates.items()},
        **{f"{y} (1 - {y})": gates[y] * (1 - gates[y]) for y in "ifo"},
        **{f"sigmoid'({y})": sigmoid(gates[y]) * sigmoid(-gates[y]) for y in "ifo"},
        **cells,
        **{f"psi({name})": np.tanh(c) for name, c in cells.items()},
        **{f"psi'({name})": 1 - np.tanh(c) ** 2 for name, c in cells.items()},
        "psi'(psi(c_t))": 1 - np.tanh(np.tanh(s.c)) ** 2,
        "phi'(z_g)": 1 - s.g**2,
        "phi'(g)": 1 - np.tanh(s.g) ** 2,
        "c_{t-2}": earlier(s.c_tm1),
        "h_{t-2}": earlier(s.h_tm1),
        "h_{t-1}": s.h_tm1,
        "h_t": s.h,
        "c_{t-1} from before the reset": s.c_before,
        "h_{t-1} from before the reset": s.h_before,
        "c_{t-1} with a zero initial state": np.stack([0 * s.c[0], *s.c_tm1[1:]]),
        "1": np.ones_like(s.c),
    }


# Right gradients of other cotangents, and right ones that are moved or rounded.


def test_of_other_cotangents():
    d_outputs, (d_h, d_c) = problem().cotangents
    sentence = "final hidden cotangent: is swapped with the cell state's"
    assert_is(sentence, truth((d_outputs, LSTMState(d_c, d_h))))
    full = problem().lengths[:, None] == SIZES[0]
    sentence = (
        "final hidden cotangent: the final hidden state's cotangent in sequences shorter than T"
    )
    assert_is(sentence, truth((d_outputs, LSTMState(d_h * full, d_c))))


def test_moved_or_rounded():
    d_U, d_W, d_b, d_x, d_h, d_c = truth()
    shifted = np.concatenate([d_x[1:], np.zeros_like(d_x[:1])])
    assert_is("B8: uses d_x_{t+1} where d_x_t belongs", [d_U, d_W, d_b, shifted, d_h, d_c])
    rounded = [leaf.astype(jnp.bfloat16).astype(np.float64) for leaf in (d_U, d_W, d_b)]
    sentence = "precision: the parameters' gradients are rounded through bfloat16"
    assert_is(sentence, [*rounded, d_x, d_h, d_c])
