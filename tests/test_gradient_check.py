"""The judge is judged: on functions whose right and wrong gradients are known."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlstm.gradient_check import check_gradients, relative_error
from jaxlstm.gradient_check.witnesses import STEPS, extrapolate

DTYPES = ("float64", "float32", "bfloat16")


def network(weights, inputs):
    hidden = jnp.tanh(inputs.astype(weights["first"].dtype) @ weights["first"])
    return jnp.sin(hidden @ weights["second"])


@cache
def with_column_scaled(factor):
    """The network, with one column of its first gradient scaled."""

    @jax.custom_vjp
    def scaled(weights, inputs):
        return network(weights, inputs)

    def forward(weights, inputs):
        return network(weights, inputs), (weights, inputs)

    def backward(residuals, cotangents):
        weights, inputs = residuals
        gradient = jax.vjp(network, weights, inputs)[1](cotangents)[0]
        first = gradient["first"]
        first = first.at[:, 1].multiply(jnp.asarray(factor, first.dtype))
        return gradient | {"first": first}, None

    scaled.defvjp(forward, backward)
    return scaled


def point(seed=0):
    rng = np.random.default_rng(seed)
    weights = {"first": rng.uniform(-0.3, 0.3, (3, 4)), "second": rng.standard_normal((4, 2))}
    return (weights, rng.integers(-3, 4, (5, 3))), rng.standard_normal((5, 2))


def check(candidate, *dtypes, seed=0, also=()):
    args, cotangents = point(seed)
    blocks = {"weights.first": {f"column {k}": np.s_[:, k] for k in range(4)}}
    return check_gradients(
        candidate, network, args, cotangents=cotangents, dtypes=dtypes, blocks=blocks, also=also
    )


def verdicts(report, **fields):
    """The verdicts by argument and block of the comparisons with these fields."""
    rows = report.comparisons
    for name, value in fields.items():
        rows = [c for c in rows if getattr(c, name) == value]
    return {(c.argument, c.block): c.passed for c in rows}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_gradient_passes(dtype):
    for seed in range(20):
        report = check(with_column_scaled(1.0), dtype, seed=seed)
        assert report.passed
        assert all(c.passed is True for c in report.comparisons)


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float64", 1 + 1e-13), ("float32", 1 + 1e-4), ("bfloat16", 1.2)]
)
def test_a_scaled_block_is_blamed_alone(dtype, factor):
    """In 19 draws of 20; in one the gradient itself cancels to less than bfloat16 tells."""
    blamed = 0
    for seed in range(20):
        report = check(with_column_scaled(factor), dtype, seed=seed)
        failed = {(c.argument, c.block) for c in report.failures}
        assert failed <= {("weights.first", "column 1"), ("weights.first", None)}
        blamed += ("weights.first", "column 1") in failed
    assert blamed >= 19


def test_the_report_says_it_all():
    report = check(with_column_scaled(1.5), "float64", "float32", also=["witnesses"])
    with pytest.raises(AssertionError) as raised:
        report.raise_if_failed()
    for text in (str(raised.value), report._repr_html_()):
        assert "FAILED" in text
    assert "weights.first, float32" in str(raised.value)
    assert "(column 1)" in str(raised.value)
    ratios = [c.rounding_ratio for c in report.failures if c.rounding_ratio is not None]
    assert ratios == sorted(ratios, reverse=True)
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["passed"] is False
    assert len(found["comparisons"]) == len(report.comparisons)


def test_not_a_number_fails_and_is_no_number_in_json():
    report = check(with_column_scaled(float("nan")), "float32")
    wrong = next(c for c in report.comparisons if c.block == "column 1")
    assert wrong.passed is False
    assert wrong.to_json()["relative_error"] is None
    (mismatch,) = report.mismatches
    where = "at entries (0, 1), (1, 1), (2, 1)"
    assert mismatch.words == f"weights.first: the candidate's gradient is not finite {where}."


def test_where_the_truth_is_zero_only_zero_passes():
    def partly_unused(weights, inputs):
        return network(weights | {"first": weights["first"].at[:, 1].set(0)}, inputs)

    def leaking(weights, inputs):
        column = weights["first"][:, 1]
        return partly_unused(weights, inputs) + jnp.sum(column - jax.lax.stop_gradient(column))

    args, cotangents = point()
    blocks = {"weights.first": {"unused": np.s_[:, 1], "used": np.s_[:, 0]}}

    def unused(candidate, reference):
        report = check_gradients(
            candidate, reference, args, cotangents=cotangents, blocks=blocks, also=()
        )
        (found,) = {(c.rounding_ratio, c.passed) for c in report.comparisons if c.block == "unused"}
        return found

    assert unused(partly_unused, partly_unused) == (None, True)
    assert unused(leaking, partly_unused) == (None, False)


def test_a_truth_that_is_not_finite_is_unresolved():
    args = (np.array([1.5, 2500.0]),)
    report = check_gradients(jnp.exp, jnp.exp, args, dtypes=["float64"], also=())
    assert {c.passed for c in report.comparisons} == {"unresolved"}


def test_where_the_reference_is_not_finite_nothing_is_told():
    def root(x):
        return jnp.sqrt(x**2)

    report = check_gradients(root, root, (np.array([0.0, 1.0, 2.0]),))
    assert report.passed
    told = "x: the reference's own gradient is not finite at entry (0,), so nothing is told of it"
    assert sum(note.startswith(told) for note in report.notes) == 1
    wrong = check_gradients(lambda x: root(x) * 1.1, root, (np.array([0.0, 1.0, 2.0]),))
    assert [m.kind for m in wrong.mismatches] == ["values", "values"]


def test_where_the_reference_overflows_alone_it_is_no_fault_of_the_candidate():
    def large(x):
        return x * 1e300

    report = check_gradients(large, large, (np.array([1.0, 2.0]),))
    assert report.passed
    assert any("gradient is not finite in float32 at entries (0,)" in note for note in report.notes)


def test_an_array_without_entries_passes():
    assert check_gradients(jnp.sin, jnp.sin, (np.zeros((0, 2)),)).passed


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.0001, False), (-1.0, False)])
def test_witnesses_tell_right_from_wrong(factor, passed):
    report = check(with_column_scaled(factor), "float64", also=["witnesses"])
    for criterion in ("finite differences", "Taylor remainder", "adjoint identity"):
        found = verdicts(report, criterion=criterion)
        assert found == {("weights.first", None): passed, ("weights.second", None): True}
    slopes = {c.argument: c.slope for c in report.comparisons if c.slope is not None}
    assert slopes["weights.second"] == pytest.approx(2, abs=0.1)
    assert slopes["weights.first"] == pytest.approx(2 if passed else 1, abs=0.1)


def test_differences_of_a_rough_function_are_unresolved():
    def rough(x):
        return jnp.sin(1e6 * x)

    args, also = (np.array([0.3, -1.7, 2.2]),), ["witnesses"]
    report = check_gradients(rough, rough, args, dtypes=["float64"], also=also)
    assert verdicts(report, criterion="finite differences") == {("x", None): "unresolved"}


def test_extrapolation_is_as_good_as_it_says():
    for place in np.linspace(-2, 2, 41):
        ahead, behind = np.exp(np.sin(place + STEPS)), np.exp(np.sin(place - STEPS))
        rounding = np.finfo(np.float64).eps * ahead / STEPS
        derivative, estimate = extrapolate((ahead - behind) / (2 * STEPS), rounding, base=4)
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
