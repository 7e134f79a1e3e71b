"""The judge is judged: on functions whose right and wrong gradients are known."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlstm.gradient_check import (
    check_adjoint_identity,
    check_finite_differences,
    compare_gradients,
    relative_error,
)
from jaxlstm.gradient_check.witnesses import STEPS, extrapolate

DTYPES = ("float64", "float32", "bfloat16")


def network(args, context):
    hidden = jnp.tanh(context.astype(args["first"].dtype) @ args["first"])
    return jnp.sin(hidden @ args["second"])


@cache
def with_column_scaled(factor):
    """The network, with one column of its first gradient scaled."""

    @jax.custom_vjp
    def scaled(args, context):
        return network(args, context)

    def forward(args, context):
        return network(args, context), (args, context)

    def backward(residuals, cotangents):
        args, context = residuals
        gradient = jax.vjp(lambda args: network(args, context), args)[1](cotangents)[0]
        first = gradient["first"]
        first = first.at[:, 1].multiply(jnp.asarray(factor, first.dtype))
        return gradient | {"first": first}, None

    scaled.defvjp(forward, backward)
    return scaled


def point(seed=0):
    rng = np.random.default_rng(seed)
    args = {"first": rng.uniform(-0.3, 0.3, (3, 4)), "second": rng.standard_normal((4, 2))}
    return args, rng.standard_normal((5, 2)), rng.standard_normal((5, 3))


def compare(candidate, dtype, seed=0):
    args, cotangents, context = point(seed)
    context = context.astype(jnp.bfloat16)
    blocks = {"first": {f"column {k}": np.s_[:, k] for k in range(4)}}
    return compare_gradients(
        candidate, network, args, cotangents, context=context, dtype=dtype, blocks=blocks
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_gradient_passes(dtype):
    for seed in range(20):
        assert all(c.passed is True for c in compare(with_column_scaled(1.0), dtype, seed))


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float64", 1 + 1e-13), ("float32", 1 + 1e-4), ("bfloat16", 1.2)]
)
def test_a_scaled_block_is_blamed_alone(dtype, factor):
    """In 19 draws of 20; in one the gradient itself cancels to less than bfloat16 tells."""
    blamed = 0
    for seed in range(20):
        comparisons = compare(with_column_scaled(factor), dtype, seed)
        failed = {(c.argument, c.block) for c in comparisons if not c.passed}
        assert failed <= {("first", "column 1"), ("first", None)}
        blamed += ("first", "column 1") in failed
    assert blamed >= 19


def test_not_a_number_fails_and_is_no_number_in_json():
    comparisons = compare(with_column_scaled(float("nan")), "float32")
    wrong = next(c for c in comparisons if c.block == "column 1")
    assert wrong.passed is False
    assert wrong.to_json()["relative_error"] is None


def test_where_the_truth_is_zero_only_zero_passes():
    def partly_unused(args, context):
        return network(args | {"first": args["first"].at[:, 1].set(0)}, context)

    args, cotangents, context = point()
    blocks = {"first": {"unused": np.s_[:, 1], "used": np.s_[:, 0]}}
    run = partial(compare_gradients, reference=partly_unused, args=args, cotangents=cotangents)
    right = run(partly_unused, context=context, blocks=blocks)
    wrong = run(network, context=context, blocks=blocks)
    assert verdicts(right)["unused"] == (None, True)
    assert verdicts(wrong)["unused"] == (None, False)


def verdicts(comparisons):
    return {c.block: (c.rounding_ratio, c.passed) for c in comparisons}


def test_a_truth_that_is_not_finite_is_unresolved():
    def explodes(args, _):
        return jnp.exp(args["x"])

    args = {"x": np.array([1.5, 2500.0])}
    (comparison,) = compare_gradients(explodes, explodes, args, np.array([0.3, 0.7]))
    assert comparison.passed == "unresolved"


@pytest.mark.parametrize("witness", [check_finite_differences, check_adjoint_identity])
@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.0001, False), (-1.0, False)])
def test_witnesses_tell_right_from_wrong(witness, factor, passed):
    args, cotangents, context = point()
    functions = [with_column_scaled(factor), network][: 1 + (witness is check_adjoint_identity)]
    comparisons = witness(*functions, args, cotangents, context=context)
    assert {c.argument: c.passed for c in comparisons} == {"first": passed, "second": True}


def test_differences_of_a_rough_function_are_unresolved():
    def rough(args, _):
        return jnp.sin(1e6 * args["x"])

    args = {"x": np.array([0.3, -1.7, 2.2])}
    (comparison,) = check_finite_differences(rough, args, np.array([1.3, 0.4, -0.7]))
    assert comparison.passed == "unresolved"


def test_extrapolation_is_as_good_as_it_says():
    for place in np.linspace(-2, 2, 41):
        values = np.stack([np.exp(np.sin(place + STEPS)), np.exp(np.sin(place - STEPS))])
        derivative, estimate = extrapolate(values, magnitude=float(values[0, -1]))
        truth = np.cos(place) * np.exp(np.sin(place))
        assert abs(derivative - truth) <= 2 * estimate
        assert estimate < 1e-11


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1.0, 1e200])
def test_relative_error_neither_underflows_nor_overflows(size):
    truth = size * np.array([3.0, -4.0])
    assert relative_error(1.5 * truth, truth) == pytest.approx(0.5, rel=1e-3)


def test_relative_error_of_nothing():
    zeros, ones = np.zeros(2), np.array([0.0, 1e-300])
    assert relative_error(zeros, zeros) == 0
    assert relative_error(ones, zeros) == np.inf
    assert relative_error(np.array([np.nan, 1.0]), np.array([2.0, 1.0])) == np.inf
