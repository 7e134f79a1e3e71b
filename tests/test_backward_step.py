"""A hand-written backward step, judged line by line: the wrong line is blamed, and it alone."""

import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import ACTIVATION_PAIRS, TANH, draw, one_sequence

from jaxlstm.cell import ACTIVATIONS
from jaxlstm.cell_derivatives import DERIVATIVES_BY_VALUE
from jaxlstm.gradient_check import backward_step as module
from jaxlstm.gradient_check.backward_step import check_backward_step
from jaxlstm.gradient_check.interpreter import interpret_rounding, rounding_of, trace
from jaxlstm.gradient_check.recurrence import Recurrence
from jaxlstm.gradient_check.traced_step import Quantities
from jaxlstm.lstm_check.backward_step import check_lstm_backward_step
from jaxlstm.types import GATES

T, B, D, H = 6, 2, 3, 4
LENGTHS = np.array([5, 3])
"""So that step 5 is padding for all."""

LINES = {
    "psi_c": "psi(q.c)",
    "d_o": "q.d_h * psi_c",
    "d_c": "q.d_c_next + q.d_h * q.o * psi_prime(psi_c)",
    "d_i": "d_c * q.g",
    "d_f": "d_c * q.c_tm1",
    "d_g": "d_c * q.i",
    "d_z_i": "d_i * q.i * (1 - q.i)",
    "d_z_f": "d_f * q.f * (1 - q.f)",
    "d_z_g": "d_g * phi_prime(q.g)",
    "d_z_o": "d_o * q.o * (1 - q.o)",
    "d_z": "jnp.concatenate([d_z_i, d_z_f, d_z_g, d_z_o], -1)",
    "d_c_tm1": "d_c * q.f",
    "d_h_tm1": "d_z @ q.recurrent_kernel.T",
    "d_x": "d_z @ q.input_kernel.T",
    "d_input_kernel": "q.x.T @ d_z",
    "d_recurrent_kernel": "q.h_tm1.T @ d_z",
    "d_bias": "d_z.sum(0)",
}
COTANGENTS = [name for name in LINES if name.startswith("d_")]

WRONG = {
    "d_o": "q.d_h * q.c",
    "d_c": "q.d_h * q.o * psi_prime(psi_c)",
    "d_i": "d_c * q.i",
    "d_f": "d_c * q.c",
    "d_g": "d_c * q.f",
    "d_z_i": "1.01 * d_i * q.i * (1 - q.i)",
    "d_z_f": "d_f * q.f",
    "d_z_g": "d_g * q.g * (1 - q.g)",
    "d_z_o": "d_o * q.o * (1 + q.o)",
    "d_z": "jnp.concatenate([d_z_i, d_z_f, d_z_o, d_z_g], -1)",
    "d_c_tm1": "d_c * q.i",
    "d_h_tm1": "d_z[:, :12] @ q.recurrent_kernel.T[:12]",
    "d_x": "-d_z @ q.input_kernel.T",
    "d_input_kernel": "q.x.T @ d_z * 1.0001",
    "d_recurrent_kernel": "q.h.T @ d_z",
    "d_bias": "d_z.mean(0)",
}

UNREPLACED = {
    "d_c": "q.d_c_next",
    "d_z_g": "d_g",
    "d_c_tm1": "d_c",
    "d_h_tm1": "q.d_h",
}
"""Lines that name a variable which there is already, for which later lines take it too."""


def written(activations=TANH, *, returned=COTANGENTS, **wrong):
    """The backward step as a plain function, some of its lines wrong."""
    lines = [f"    {name} = {wrong.get(name, right)}" for name, right in LINES.items()]
    cotangents = ", ".join(f"{name!r}: {name}" for name in returned)
    scope = {
        "jax": jax,
        "jnp": jnp,
        "psi": ACTIVATIONS[activations.cell],
        "psi_prime": DERIVATIVES_BY_VALUE[activations.cell],
        "phi_prime": DERIVATIVES_BY_VALUE[activations.candidate],
    }
    exec("\n".join(["def step(q):", *lines, f"    return {{{cotangents}}}"]), scope)
    return scope["step"]


RESETS = np.zeros((T, B), bool)
RESETS[2, 0] = True
RESETS[4, 1] = True  # in the padding


def judged(step, dtypes=("float32",), activations=TANH):
    problem = draw(0, T, B, D, H, jnp.float32)._replace(lengths=LENGTHS, resets=RESETS)
    return found(check_lstm_backward_step(step, *problem, activations=activations, dtypes=dtypes))


def found(report):
    return report.comparisons, report.mismatches


def failures(comparisons):
    return [comparison for comparison in comparisons if comparison.passed is False]


def blamed(comparisons):
    return {comparison.argument for comparison in failures(comparisons)}


def steps_of(comparisons):
    return [comparison.index for comparison in comparisons if comparison.axis == "step"]


def words(mismatches):
    return [f"{mismatch.kind}: {mismatch.words}" for mismatch in mismatches]


def test_a_correct_step_passes():
    comparisons, mismatches = judged(written(), ("float64", "float32", "bfloat16"))
    assert not mismatches
    assert not failures(comparisons)
    assert {c.passed for c in comparisons if c.dtype != "bfloat16"} == {True}
    assert np.mean([c.passed is True for c in comparisons]) > 0.95
    for dtype, name in itertools.product(("float64", "float32", "bfloat16"), COTANGENTS):
        about = [c for c in comparisons if (c.dtype, c.argument) == (dtype, name)]
        stacked = name in ("d_z", "d_input_kernel", "d_recurrent_kernel", "d_bias")
        gates = [f"{gate} gate" for gate in GATES] if stacked else []
        assert [c.block for c in about] == [None, *gates, *(f"step {t}" for t in range(T))]
        assert steps_of(about) == list(range(T))
        assert {c.criterion for c in about} == {"backward step"}


def test_in_the_padding_every_cotangent_is_exactly_zero():
    comparisons, _ = judged(written())
    padding = [c for c in comparisons if c.index == T - 1]
    assert len(padding) == len(COTANGENTS)
    assert {(c.relative_error, c.rounding_ratio, c.passed) for c in padding} == {(0, None, True)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_is_blamed_alone(name, dtype):
    comparisons, mismatches = judged(written(**{name: WRONG[name]}), [dtype])
    assert not mismatches
    assert blamed(comparisons) == {name}
    assert steps_of(failures(comparisons)) == list(range(max(LENGTHS)))


@pytest.mark.parametrize("name", ["d_f", "d_z", "d_recurrent_kernel"])
def test_a_wrong_line_is_blamed_alone_in_half_precision(name):
    comparisons, _ = judged(written(**{name: WRONG[name]}), ["bfloat16"])
    assert blamed(comparisons) == {name}


@pytest.mark.parametrize("name", UNREPLACED)
def test_a_line_that_takes_another_variable_as_it_is_is_blamed_alone(name):
    comparisons, _ = judged(written(**{name: UNREPLACED[name]}))
    assert blamed(comparisons) == {name}


def test_a_step_whose_truth_is_exactly_zero_stands_apart():
    problem = draw(0, T, B, D, H, jnp.float32)._replace(initial_state=None)
    lines = str(check_lstm_backward_step(written(d_f=WRONG["d_f"]), *problem)).splitlines()
    (line,) = (line for line in lines if "d_f, float32" in line)
    found = re.search(r"error (\S+), ratio \S+ \(step 1 to 5\); not zero where", line)
    assert 0 < float(found[1]) < 100
    assert line.endswith("not zero where the truth is exactly zero (step 0)")


def test_two_wrong_lines_are_both_blamed():
    comparisons, _ = judged(written(d_c=WRONG["d_c"], d_z_f=WRONG["d_z_f"]))
    assert blamed(comparisons) == {"d_c", "d_z_f"}


def test_a_line_that_is_wrong_where_a_reset_stands_is_blamed_there():
    step = written(d_f="d_c * jnp.where(q.c_tm1 == 0, q.c, q.c_tm1)")
    comparisons, _ = judged(step)
    assert blamed(comparisons) == {"d_f"}
    assert steps_of(failures(comparisons)) == [2]


def test_the_wrong_gate_is_named():
    step = written(d_bias="d_z.sum(0).at[H:2 * H].multiply(2)".replace("H", str(H)))
    comparisons, _ = judged(step)
    blocks = [c.block for c in failures(comparisons) if c.axis is None]
    assert blocks == [None, "forget gate"]


def test_any_subset_can_be_returned_and_the_rest_be_read():
    def step(q):
        return {"d_z_f": q.d_f * q.f * (1 - q.f), "d_bias": q["d_z"].sum(0), "d_x": q.d_x + 1}

    comparisons, mismatches = judged(step)
    assert not mismatches
    assert {c.argument for c in comparisons} == {"d_z_f", "d_bias", "d_x"}
    assert blamed(comparisons) == {"d_x"}


def test_what_is_not_returned_is_judged_by_what_uses_it():
    comparisons, _ = judged(written(d_c=WRONG["d_c"], returned=["d_i", "d_z_i", "d_bias", "d_o"]))
    assert blamed(comparisons) == {"d_i", "d_bias"}


def test_a_jit_within_the_step_is_looked_into():
    wrong = written(d_f=WRONG["d_f"])
    inner = jax.jit(lambda quantities: wrong(Quantities(quantities)))
    comparisons, mismatches = judged(lambda q: inner({name: q[name] for name in q}))
    assert not mismatches
    assert blamed(comparisons) == {"d_f"}


def test_unknown_names_are_told():
    comparisons, (mismatch,) = judged(lambda q: {"d_q": q.h, "d_f": q.d_c * q.c_tm1})
    assert mismatch.kind == "structure"
    assert mismatch.words.startswith("'d_q' is not among d_input_kernel, ")
    assert mismatch.words.endswith("d_c, d_h, d_c_next.")
    assert {c.argument for c in comparisons} == {"d_f"}
    assert not blamed(comparisons)


def fails(_):
    raise RuntimeError("no\nsuch luck")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (fails, "raises: the backward step raised RuntimeError: no"),
        (
            lambda q: {"d_f": q.d_y},
            "raises: the backward step raised AttributeError: there is no 'd_y' among "
            "input_kernel, recurrent_kernel, bias, x, h_tm1,",
        ),
        (lambda q: {"d_f": q.h if q.h[0, 0] > 0 else q.c}, "raises: the backward step raised Tr"),
        (lambda q: (q.h,), "structure: expected a dict of cotangents by name, got tuple."),
        (
            lambda _: {},
            "structure: expected cotangents by name, such as d_c_next, got an empty dict.",
        ),
        (lambda _: {"d_f": None}, "structure: d_f: expected an array, got NoneType."),
        (lambda _: {"d_f": 0.0}, "shape: d_f: expected shape [2, 4], got []."),
        (lambda q: {"d_f": q.d_f[0]}, "shape: d_f: expected shape [2, 4], got [4]."),
        (
            lambda q: {"d_f": q.d_f.astype("bfloat16")},
            "dtype: d_f: expected float32, got bfloat16.",
        ),
    ],
)
def test_what_cannot_be_judged_is_told_in_a_sentence(step, expected):
    comparisons, mismatches = judged(step)
    assert not comparisons
    assert len(mismatches) == 1
    assert words(mismatches)[0].startswith(expected)


def test_what_uses_a_wrong_shape_is_not_judged():
    """What uses it in turn gets the truth again."""
    wrong = {"d_f": "(d_c * q.c_tm1).sum(0, keepdims=True)", "d_z": WRONG["d_z"]}
    comparisons, mismatches = judged(written(**wrong))
    assert words(mismatches) == [
        "shape: d_f: expected shape [2, 4], got [1, 4].",
        "shape: d_z_f: not judged, since it uses a cotangent of the wrong shape.",
    ]
    assert {c.argument for c in comparisons} == set(COTANGENTS) - {"d_f", "d_z_f"}
    assert blamed(comparisons) == {"d_z"}


def test_not_a_number_is_told_and_blamed_alone():
    step = written(d_c="jnp.where(q.c_tm1 == 0, jnp.nan, 1) * " + f"({LINES['d_c']})")
    comparisons, mismatches = judged(step)
    assert words(mismatches) == ["not finite: d_c: not finite at 1 of 6 steps: 2."]
    assert blamed(comparisons) == {"d_c"}
    assert steps_of(failures(comparisons)) == [2]


def test_a_step_runs_in_the_callers_own_mode():
    def step(q):
        return {"d_f": q.d_c * q.c_tm1 + jnp.zeros((B, H)), "d_i": q.d_c * q.g * jnp.array(2.0)}

    comparisons, mismatches = judged(step)
    assert not mismatches
    assert blamed(comparisons) == {"d_i"}


def test_one_sequence_is_a_batch_of_one_and_padding_never_matters():
    problem = one_sequence(draw(0, T, B, D, H, jnp.float32), 0)
    inputs = problem.inputs.at[4:].set(jnp.nan)
    problem = problem._replace(inputs=inputs, lengths=np.array(4), resets=RESETS[:, 0])
    comparisons, mismatches = found(check_lstm_backward_step(written(d_f=WRONG["d_f"]), *problem))
    assert not mismatches
    assert blamed(comparisons) == {"d_f"}
    assert steps_of(failures(comparisons)) == [0, 1, 2, 3]


def test_state_cotangents_and_masks_may_be_left_out():
    problem = draw(0, T, B, D, H, jnp.float32)
    comparisons, mismatches = found(
        check_lstm_backward_step(written(), problem.params, problem.inputs)
    )
    assert not mismatches
    assert {c.passed for c in comparisons} == {True}


def test_bad_arguments_are_refused_in_a_sentence():
    params, inputs, state, _, _, cotangents = draw(0, T, B, D, H, jnp.float32)
    with pytest.raises(ValueError, match="inputs: expected shape"):
        check_lstm_backward_step(written(), params, inputs[..., :2], state)
    with pytest.raises(ValueError, match="cotangents: expected shapes"):
        check_lstm_backward_step(
            written(), params, inputs, state, cotangents=(cotangents[0][1:], cotangents[1])
        )
    with pytest.raises(ValueError, match="inputs: expected at least one time step"):
        check_lstm_backward_step(written(), params, inputs[:0], state)


def test_chunks_of_time_change_nothing(monkeypatch):
    step = written(d_f=WRONG["d_f"])
    whole, _ = judged(step)
    monkeypatch.setattr(module, "CHUNK_BYTES", 60_000)
    chunked, _ = judged(step)
    for one, other in zip(whole, chunked, strict=True):
        assert (one.argument, one.block, one.passed) == (other.argument, other.block, other.passed)
        assert other.relative_error == pytest.approx(one.relative_error, rel=0.5)


# --- no false alarm ---------------------------------------------------------------------------

STABLE = {
    "d_z_i": "d_i * jax.nn.sigmoid(q.z_i) * jax.nn.sigmoid(-q.z_i)",
    "d_z_o": "d_o * jax.nn.sigmoid(q.z_o) * jax.nn.sigmoid(-q.z_o)",
}
"""Where a gate is saturated, far better than the same from the gate's rounded value."""


def transformed(problem, *, gain, bias, scale):
    """The problem with kernels and cotangents scaled, and a bias added to every gate."""
    params, cotangents = problem.params, problem.cotangents
    kernels = {name: gain * getattr(params, name) for name in ("input_kernel", "recurrent_kernel")}
    cotangents = jax.tree.map(lambda leaf: scale * np.asarray(leaf, np.float64), cotangents)
    params = params._replace(bias=params.bias + bias, **kernels)
    return problem._replace(params=params, cotangents=cotangents)


@pytest.mark.slow
@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_no_false_alarm(activations):
    steps = [written(activations), written(activations, **STABLE)]
    rng: Any = np.random.default_rng(ACTIVATION_PAIRS.index(activations))
    for seed in range(8):
        problem = transformed(
            draw(seed, T, B, D, H, jnp.float32, masks=seed % 6 != 0),
            gain=float(rng.choice([0.05, 1, 1, 4]))
            / (10 if activations.candidate == "identity" else 1),
            bias=float(rng.choice([0, 3, -8, 16])),
            scale=float(rng.choice([1, 1, 1e-10, 1e-36])),
        )
        comparisons, mismatches = found(
            check_lstm_backward_step(
                steps[seed % 2],
                *problem,
                activations=activations,
                dtypes=("float64", "float32", "bfloat16"),
                seed=seed,
            )
        )
        assert not mismatches
        assert not failures(comparisons)


def test_rounding_at_random_is_as_large_as_rounding():
    """Near 1 a gate's own rounding takes most of 1 - gate, in every dtype."""
    derivative = jax.grad(lambda z: jax.nn.sigmoid(z).sum())
    for dtype, z in (("float64", 30.0), ("float32", 12.0), ("bfloat16", 3.0)):
        with jax.enable_x64(True):
            z = np.array([z, 0.5])
            run = partial(interpret_rounding, trace(derivative, z), [z], rounding_of(dtype))
            drawn = np.array([run(jnp.uint64(salt))[0] for salt in range(8)])
            truth = np.asarray(derivative(z))
        errors = abs(drawn / truth - 1).max(0)
        eps = float(jnp.finfo(dtype).eps)
        assert eps / truth[0] / 8 < errors[0] < 8 * eps / truth[0]
        assert eps / 8 < errors[1] < 8 * eps


def test_rounding_leaves_zeros_alone():
    with jax.enable_x64(True):
        closed = trace(lambda x, y: x * y, np.ones(2), np.ones(2))
        arguments = [np.ones(2), np.array([0.0, 1.0])]
        found = interpret_rounding(closed, arguments, rounding_of("float32"), jnp.uint64(3))
        zero, one = np.asarray(found[0])
    assert zero == 0
    assert one != 1


# --- another net ------------------------------------------------------------------------------


def rnn_step(params, carry, x_t, probe):
    """h_t = tanh(x_t U + h_{t-1} W), read out as y_t = h_t V."""
    h_tm1 = probe("h_tm1", carry)
    z = probe("z", x_t @ params["input"] + h_tm1 @ params["recurrent"])
    h = probe("h", jnp.tanh(z))
    return h, h @ params["readout"]


def rnn_backward(q):
    d_z = q.d_h * (1 - q.h**2)
    return {
        "d_z": d_z,
        "d_h_tm1": d_z @ q.recurrent.T,
        "d_input": q.d_z.T @ q.d_z,
        "d_recurrent": q.h_tm1.T @ d_z,
    }


def rnn_point():
    rng = np.random.default_rng(0)
    shapes = {"input": (3, 3), "recurrent": (3, 3), "readout": (3, 2)}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return params, rng.standard_normal((2, 3)), rng.standard_normal((5, 2, 3))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_another_net(dtype):
    comparisons, mismatches = found(
        check_backward_step(
            rnn_backward, Recurrence(rnn_step, ("h",)), *rnn_point(), dtypes=[dtype]
        )
    )
    assert not mismatches
    assert blamed(comparisons) == {"d_input"}
    assert {c.argument for c in comparisons} == {"d_z", "d_h_tm1", "d_input", "d_recurrent"}


def test_incoming_values_that_are_not_all_the_ways_out_are_refused():
    with pytest.raises(ValueError, match=r"the cotangents of h_tm1 do not give that of 'z'"):
        check_backward_step(rnn_backward, Recurrence(rnn_step, ("h_tm1",)), *rnn_point())
    with pytest.raises(ValueError, match=r"recurrence.incoming: 'y' is not among h_tm1, z, h."):
        check_backward_step(rnn_backward, Recurrence(rnn_step, ("y",)), *rnn_point())
