"""The checker serves any function: nets, integers, keys, kinks, and candidates that misbehave."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlstm.gradient_check import check_gradients
from jaxlstm.gradient_check.agreement import by_differences, by_forward, by_reverse, check_agreement
from jaxlstm.gradient_check.display import heat_maps
from jaxlstm.plotting import plot_gradient_report
from jaxlstm.testing import assert_gradients_match

RNG = np.random.default_rng(7)


def with_gradient(function, gradient):
    """The function, its gradient ``gradient(cotangents, *args)``."""
    wrong = jax.custom_vjp(function)
    wrong.defvjp(
        lambda *args: (function(*args), args),
        lambda args, cotangents: gradient(cotangents, *args),
    )
    return wrong


def autodiff(function, cotangents, *args):
    return jax.vjp(function, *args)[1](cotangents)


def test_convolution_with_pytrees_in_and_out():
    def convolve(image, weights):
        features = jax.lax.conv(image, weights["kernel"], (1, 1), "SAME")
        return {
            "features": jnp.tanh(features),
            "sums": (features.sum((2, 3)), weights["scale"] ** 2),
        }

    def flipped(cotangents, image, weights):
        d_image, d_weights = autodiff(convolve, cotangents, image, weights)
        return d_image, d_weights | {"kernel": d_weights["kernel"][..., ::-1]}

    weights = {"kernel": RNG.standard_normal((2, 3, 3, 3)), "scale": 1.5}
    args = RNG.standard_normal((2, 3, 5, 4)), weights
    assert_gradients_match(convolve, convolve, args)
    report = check_gradients(with_gradient(convolve, flipped), convolve, args, also=())
    assert {(c.argument, c.output) for c in report.failures} == {
        ("weights.kernel", output) for output in (None, "features", "sums.0")
    }


def test_integer_and_key_arguments():
    def dropped(x, rate_percent, key, train):
        kept = jax.random.bernoulli(key, 1 - rate_percent / 100, x.shape)
        return jnp.where(train & ~kept, 0, jnp.sin(x)), rate_percent

    args = RNG.standard_normal((4, 3)), 30, jax.random.key(1), np.array(True)
    report = check_gradients(dropped, dropped, args)
    assert report.passed
    assert {c.argument for c in report.comparisons if c.criterion == "rounding ratio"} == {"x"}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, key: x * jax.random.normal(key, x.shape, x.dtype), "draws random numbers"),
        (lambda x, _: jnp.sin(x.astype(jnp.bfloat16)).astype(x.dtype) * x, "casts to bfloat16"),
    ],
)
def test_without_a_float64_self_there_is_no_yardstick(function, reason):
    args = RNG.standard_normal((4, 3)), jax.random.key(2)
    right = check_gradients(function, function, args)
    assert right.passed
    assert any("no yardstick" in note and reason in note for note in right.notes)
    wrong = with_gradient(
        function, lambda d_y, *args: (1.2 * autodiff(function, d_y, *args)[0], None)
    )
    assert {c.dtype for c in check_gradients(wrong, function, args, also=()).failures} == {
        "float64",
        "float32",
    }


def test_a_kink_is_no_wrong_gradient():
    def left(x):
        return jnp.where(x < 0, -x, jnp.where(x == 0, -x, 2 * x)) * 3

    def right(x):
        return jnp.where(x < 0, -x, jnp.where(x == 0, 2 * x, 2 * x)) * 3

    at_kink, elsewhere = np.array([0.0, 0.7, -0.4]), np.array([0.2, 0.7, -0.4])
    report = check_gradients(left, right, (at_kink,))
    assert report.passed
    kinks = {c.criterion for c in report.comparisons if c.passed == "kink"}
    assert kinks >= {"rounding ratio", "finite differences", "Taylor remainder"}
    (note,) = {note for note in report.notes if "kink" in note}
    assert note.startswith("x: at a kink at entry (0,); any derivative between")
    assert "6 kinks; worst ratio 0.667 of 8." in report.verdict()
    outside = with_gradient(right, lambda d_y, _: (9 * d_y,))
    assert not check_gradients(outside, right, (at_kink,)).passed
    assert check_gradients(left, right, (elsewhere,)).passed


def test_a_kink_that_the_witnesses_alone_meet_excuses_nothing():
    wrong = with_gradient(jax.nn.relu, lambda d_y, x: (d_y * jnp.where(x == 0, 7.0, x > 0),))
    assert not check_gradients(wrong, jax.nn.relu, (np.array([0.0, 0.7]),)).passed
    report = check_gradients(jax.nn.relu, jax.nn.relu, (np.array([0.0, 0.7]),))
    assert any(note.startswith("x: at a kink at entry (0,)") for note in report.notes)


def test_second_order_at_a_kink_is_a_kink():
    def network(kernel, x):
        return jnp.sum(jax.nn.relu(x @ kernel))

    def backward(d_y, kernel, x, factor=1.0):
        d_z = jnp.where(x @ kernel >= 0, d_y, 0)
        return factor * x.T @ d_z, d_z @ kernel.T

    args = RNG.standard_normal((3, 4)), np.vstack([RNG.standard_normal((2, 3)), np.zeros((1, 3))])
    report = check_gradients(with_gradient(network, backward), network, args)
    assert report.passed
    assert ("kernel", "second order") in {
        (c.argument, c.criterion) for c in report.comparisons if c.passed == "kink"
    }
    wrong = with_gradient(network, lambda *of: backward(*of, factor=1.5))
    assert {c.argument for c in check_gradients(wrong, network, args).failures} == {"kernel"}


def test_second_order_alone_is_wrong():
    def cube(x):
        return x**3

    def half_hidden(d_y, x):
        return (d_y * 3 * x * jax.lax.stop_gradient(x),)

    report = check_gradients(with_gradient(cube, half_hidden), cube, (np.array([0.3, -1.2]),))
    assert {c.criterion for c in report.failures} == {"second order"}


def test_forward_mode_alone_is_wrong():
    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvp(lambda x, dot_x: (x[0] ** 2, 2.5 * x[0] * dot_x[0]))
    report = check_gradients(square, jnp.square, (np.array([0.3, -1.2]),))
    assert {"forward mode", "rounding ratio"} <= {c.criterion for c in report.failures}


def test_jit_vmap_and_repeated_runs_that_differ():
    counter = iter(range(1000))

    def restless(d_y, x):
        return (d_y * jnp.cos(x) * (1 + 0.1 * next(counter)),)

    candidate = with_gradient(jnp.sin, restless)
    report = check_gradients(candidate, jnp.sin, (np.array([0.3, -1.2]),), jit=False)
    assert "repeated runs" in {c.criterion for c in report.failures}
    report = check_gradients(candidate, jnp.sin, (np.array([0.3, -1.2]),))
    assert "jit against eager" in {c.criterion for c in report.failures}

    @jax.custom_batching.custom_vmap
    def cosine(x):
        return jnp.cos(x)

    cosine.def_vmap(lambda _size, _batched, x: (jnp.cos(x[::-1]), True))
    batched = with_gradient(jnp.sin, lambda d_y, x: (d_y * cosine(x),))
    report = check_gradients(batched, jnp.sin, (np.array([0.3, -1.2]),))
    assert {c.criterion for c in report.failures} == {"vmap against a loop"}


def test_a_backward_pass_in_numpy():
    def backward(d_y, x):
        return (np.asarray(d_y) * np.cos(np.asarray(x)),)

    candidate, args = with_gradient(jnp.sin, backward), (np.array([0.3, -1.2]),)
    assert check_gradients(candidate, jnp.sin, args, jit=False).passed
    (mismatch, *_) = check_gradients(candidate, jnp.sin, args).mismatches
    assert mismatch.kind == "raises"
    assert "the candidate's backward pass raised TracerArrayConversionError" in mismatch.words


def raising(_):
    raise KeyError("no such thing")


def raising_backward(_d_y, _x):
    raise ZeroDivisionError("in the backward pass")


def line_of(function):
    """Where its one line is."""
    code = function.__code__
    return f"{pathlib.Path(code.co_filename).name}:{code.co_firstlineno + 1}"


MISBEHAVING = {
    "raises": (
        raising,
        "raises",
        f"the candidate raised KeyError: 'no such thing', at {line_of(raising)}",
    ),
    "raises backward": (
        with_gradient(jnp.sin, raising_backward),
        "raises",
        "the candidate's backward pass raised ZeroDivisionError: in the backward pass, at "
        f"{line_of(raising_backward)}",
    ),
    "shape": (lambda x: jnp.sin(x)[None], "shape", "output: expected shape (2,), got (1, 2)."),
    "structure": (lambda x: (x, x), "structure", "outputs: expected (*), got ((*, *))."),
    "dtype": (
        lambda x: jnp.sin(x).astype(jnp.float16),
        "dtype",
        "output: expected float64, got float16; of a function for float16 alone, give "
        'dtypes=["float16"].',
    ),
}


@pytest.mark.parametrize(("candidate", "kind", "words"), MISBEHAVING.values(), ids=MISBEHAVING)
def test_misbehaviour_is_reported_in_a_sentence(candidate, kind, words):
    report = check_gradients(candidate, jnp.sin, (np.array([0.3, -1.2]),))
    assert not report.passed
    assert report.mismatches[0].kind == kind
    assert report.mismatches[0].words == words
    assert str(report).count(words) == 1


def test_a_candidate_for_float32_alone():
    def backward(d_y, x):
        if d_y.dtype != np.float32:
            raise TypeError("float32 only")
        return (d_y * jnp.cos(x),)

    candidate, args = with_gradient(jnp.sin, backward), (np.array([0.3, -1.2]),)
    report = check_gradients(candidate, jnp.sin, args, dtypes=["float32"])
    assert report.passed
    assert any(
        "no witnesses, which need float64: the candidate raised" in note for note in report.notes
    )


def test_other_values_are_reported_before_and_without_any_gradient():
    def early(x):
        return jnp.cumsum(x), jnp.sum(x)

    def late(x):
        running, whole = early(x)
        return jnp.where(jnp.arange(4) > 1, running + 1, running), whole + 1

    axes = {"output.0": {"step": 0}}
    report = check_gradients(late, early, (RNG.standard_normal(4),), axes=axes)
    assert {c.criterion for c in report.comparisons} == {"values"}
    verdict, first, *_ = str(report).splitlines()
    assert verdict.startswith("FAILED")
    where = "output.0 from step 2 on; output.1. Its gradient is not compared."
    assert first == f"float64, float32: the candidate's values differ from the reference's: {where}"


def test_values_that_differ_at_some_steps_are_placed():
    args, axes = (np.array([-1.0, 1.0, -2.0]),), {"output": {"step": 0}}
    report = check_gradients(lambda x: jnp.maximum(x, 0.5 * x), lambda x: 0.5 * x, args, axes=axes)
    assert "reference's: output at step 1." in report.mismatches[0].words


BAD_CALLS = {
    "no tuple": (
        lambda: check_gradients(jnp.sin, jnp.sin, np.ones(2)),
        "args: expected a tuple of",
    ),
    "complex": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.ones(2, complex),)),
        "x: expected real numbers, got complex128; give the real and the imaginary part",
    ),
    "complex output": (
        lambda: check_gradients(jnp.fft.fft, jnp.fft.fft, (np.ones(2),)),
        "output: expected real numbers, got complex128",
    ),
    "reference raises": (
        lambda: check_gradients(jnp.sin, raising, (np.ones(2),)),
        "the reference raised KeyError: 'no such thing'",
    ),
    "no floats": (lambda: check_gradients(jnp.sin, jnp.sin, (3,)), "expected a floating array"),
    "not finite": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.array([np.nan, 1.0]),)),
        "x: expected finite numbers, got 1 of 2 that are not, the first nan.",
    ),
    "no dtype": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.ones(2),), dtypes=["float31"]),
        "dtypes: expected floating dtypes, got 'float31'.",
    ),
    "text": (
        lambda: check_gradients(jnp.sin, jnp.sin, ("three",)),
        "x: expected an array, got str.",
    ),
    "cotangents": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.ones(2),), cotangents=np.ones(3)),
        r"cotangents: expected the outputs' shapes [(2,)], got [(3,)].",
    ),
    "block": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.ones(2),), blocks={"y": {"first": 0}}),
        "blocks: expected names among x, output; got 'y'.",
    ),
    "also": (
        lambda: check_gradients(jnp.sin, jnp.sin, (np.ones(2),), also=["third order"]),
        "also: expected some of forward mode, second order,",
    ),
}


@pytest.mark.parametrize(("call", "sentence"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises((TypeError, ValueError)) as raised:
        call()
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_odd_one_is_out_voted():
    def network(weights, x):
        return jnp.tanh(x @ weights)

    def off(d_y, weights, x):
        d_weights, d_x = autodiff(network, d_y, weights, x)
        return 1.0001 * d_weights, d_x

    args = RNG.standard_normal((3, 4)), RNG.standard_normal((5, 3))
    methods = {
        "autodiff": by_reverse(network),
        "by hand": by_reverse(with_gradient(network, off)),
        "forward mode": by_forward(network),
        "differences": by_differences(network),
        "raises": by_reverse(raising),
    }
    agreement = check_agreement(methods, network, args)
    assert agreement.odd == ("by hand",)
    assert set(agreement.groups[0]) == {"autodiff", "forward mode", "differences"}
    assert agreement.ratios[0, 1] > 1e6 > 8 > agreement.ratios[0, 2]
    assert "out-voted: by hand" in str(agreement)
    assert set(agreement.raised) == {"raises"}


def test_what_no_hypothesis_reproduces_is_placed():
    """A running sum whose gradient is right from the last output alone."""

    def running(kernel, x):
        return jnp.cumsum(jnp.sin(x @ kernel), axis=0)

    def wrong(d_y, kernel, x):
        noise = jnp.sin(7 * kernel) * jnp.sum(d_y[:-1])
        d_kernel, d_x = autodiff(running, d_y, kernel, x)
        return d_kernel.at[:, 0].add(noise[:, 0]), d_x

    args = RNG.standard_normal((3, 2)), RNG.standard_normal((5, 3))
    report = check_gradients(
        with_gradient(running, wrong),
        running,
        args,
        blocks={"kernel": {"first unit": np.s_[:, 0], "second unit": np.s_[:, 1]}},
        axes={"output": {"step": 0}},
        also=(),
    )
    assert report.places == ("kernel, first unit: wrong from output of every step but the last",)
    assert report.places[0] in str(report)


def test_the_map_shows_parts_and_steps():
    def doubled(d_y, x):
        return (d_y * jnp.cos(x) * jnp.array([[1.0], [2.0]], d_y.dtype),)

    report = check_gradients(
        with_gradient(jnp.sin, doubled),
        jnp.sin,
        (RNG.standard_normal((2, 3)),),
        blocks={"x": {"first": 0, "second": 1}},
        axes={"x": {"step": 1}},
        dtypes=["float32"],
        also=(),
    )
    parts, steps = heat_maps(report)
    assert (parts.by, parts.rows) == ("part", ["x, float32"])
    assert parts.columns == ["as a whole", "first", "second"]
    assert (parts.ratios > 8).tolist() == [[True, False, True]]
    assert (steps.by, steps.columns) == ("step", ["0", "1", "2"])
    assert (steps.ratios > 8).all()
    figure = plot_gradient_report(report)
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["part", "step"]
    assert figure.axes[0].images[0].norm.vmax == pytest.approx(np.log10(parts.ratios.max()))


def test_a_picture_of_what_raised_holds_the_sentence():
    report = check_gradients(raising, jnp.sin, (np.ones(2),), also=())
    figure = plot_gradient_report(report)
    assert figure.axes == []
    assert "the candidate raised KeyError: 'no such thing'" in figure.get_suptitle()


def test_without_named_axes_the_map_has_a_column_for_each_argument():
    def area(width, height):
        return width * height

    def doubled(d, width, height):
        return 2 * d * height, d * width

    args = RNG.standard_normal((3, 2)), RNG.standard_normal((3, 2))
    report = check_gradients(with_gradient(area, doubled), area, args, also=())
    ((_, rows, columns, heat),) = heat_maps(report)
    assert columns == ["as a whole"]
    failed = {row.split(",")[0] for row, (ratio,) in zip(rows, heat, strict=True) if ratio > 8}
    assert failed == {"width"}
    assert "purple passes" in report._repr_html_()
