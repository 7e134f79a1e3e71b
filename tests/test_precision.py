"""Products in half precision: what is rounded, and that nothing else is."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from composing import values_and_gradients
from drawing import TANH, assert_close, draw, pullback, run

from jaxlstm import LSTMParams, LSTMState, lstm, lstm_autodiff, step
from jaxlstm.cell import gate_values, next_state
from jaxlstm.cli import check, main
from jaxlstm.gradient_check import check_gradients
from jaxlstm.lstm_check import CheckConfig, gradient_errors
from jaxlstm.validation import PRECISIONS, RESIDUALS

ONE_STEP = (1, 3, 2, 5)
MANY_SEQUENCES = (1, 70, 2, 5)
ALL = [(precision, shape) for precision in PRECISIONS for shape in (ONE_STEP, MANY_SEQUENCES)]


def rounded(array: Any, precision: str) -> np.ndarray:
    return np.asarray(jnp.asarray(array, jnp.float32).astype(precision), np.float64)


def by_numpy(problem: Any, precision: str) -> Any:
    """One step and its pullback in float64, every product's operands rounded, nothing else."""
    (U, W, b), x, (h, c), *_, (d_outputs, d_final) = problem
    U, W, x, h = (rounded(array, precision) for array in (U, W, x[0], h))

    def pointwise(z: Any, c: Any) -> Any:
        return tuple(next_state(gate_values(z, TANH), c, TANH))

    with jax.enable_x64(True):
        z, c = np.asarray(x @ U + h @ W + np.asarray(b), np.float64), np.asarray(c, np.float64)
        values, pull = jax.vjp(pointwise, jnp.asarray(z), jnp.asarray(c))
        d_h = jnp.asarray(d_outputs[0] + d_final.hidden, jnp.float64)
        d_z, d_c = map(np.asarray, pull((d_h, jnp.asarray(d_final.cell, jnp.float64))))
    in_products = rounded(d_z, precision)
    d_params = LSTMParams(x.T @ in_products, h.T @ in_products, d_z.sum(0))
    return values, (d_params, (in_products @ U.T)[None], LSTMState(in_products @ W.T, d_c))


@pytest.mark.parametrize(("precision", "shape"), ALL)
def test_the_operands_of_products_are_rounded_and_nothing_else(precision, shape):
    problem = draw(31, *shape, jnp.float32, masks=False)
    values, gradients = by_numpy(problem, precision)
    found = step(problem.params, problem.initial_state, problem.inputs[0], precision=precision)
    assert_close(tuple(found), values, 1e-6)
    for residuals in RESIDUALS:
        ours = partial(lstm, precision=precision, residuals=residuals)
        assert_close(tuple(run(ours, problem)[1]), values, 1e-6)
        assert_close(pullback(ours, problem), gradients, 1e-6)
    assert_close(tuple(run(partial(lstm_autodiff, precision=precision), problem)[1]), values, 1e-6)


@pytest.mark.usefixtures("compiled_as_for_users")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_step_rounds_what_the_one_before_left(precision):
    """Compiled as for users, in a loop and with masks, against a loop of NumPy's."""
    problem = draw(36, 6, 8, 3, 5, jnp.float32)
    (U, W, b), inputs, (h, c), lengths, resets, _ = problem
    U, W, h, c = rounded(U, precision), rounded(W, precision), np.float64(h), np.float64(c)
    outputs, _ = run(partial(lstm, precision=precision), problem)
    unrounded, _ = run(lstm, problem)
    for t, x_t in enumerate(inputs):
        h, c = (np.where(resets[t][:, None], 0, leaf) for leaf in (h, c))
        z = rounded(x_t, precision) @ U + rounded(h, precision) @ W + np.float64(b)
        gates = gate_values(jnp.asarray(z, jnp.float32), TANH)
        h, c = map(np.asarray, next_state(gates, jnp.asarray(c, jnp.float32), TANH))
        reached = np.asarray(t < lengths)
        error = abs(np.asarray(outputs[t]) - h)[reached].max()
        assert error < 1e-6 < 5e-5 < abs(np.asarray(unrounded[t]) - h)[reached].max()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_gradient_is_off_by_the_rounding_of_products(precision):
    """Far less than with everything in that precision; float32 alone is far better."""
    errors = gradient_errors(CheckConfig(30, 4, 3, 5, precision=precision))
    eps = float(jnp.finfo(precision).eps)
    for argument, error in errors["by hand"].items():
        assert eps / 50 < error < eps
        assert error < errors[f"all {precision}"][argument] / 1.5
        assert errors["float32"][argument] < 1e-6


def test_tangents_are_rounded_like_cotangents():
    """The adjoint identity, to what rounding of the products leaves of it."""
    problem, v = (draw(seed, 9, 3, 2, 5, jnp.float32, masks=False) for seed in (32, 33))

    def outputs(params: Any, inputs: Any) -> Any:
        return lstm(params, inputs, precision="bfloat16")[0]

    primals, tangents = (problem.params, problem.inputs), (v.params, v.inputs)
    pushed = jax.jvp(outputs, primals, tangents)[1]
    pulled = jax.vjp(outputs, *primals)[1](v.cotangents[0])
    one = float(jnp.vdot(pushed, v.cotangents[0]))
    pairs = zip(jax.tree.leaves(pulled), jax.tree.leaves(tangents), strict=True)
    other = sum(float(jnp.vdot(a, b)) for a, b in pairs)
    assert 1e-6 < abs(one / other - 1) < 1e-2


def test_products_stay_narrow_on_accelerators():
    problem = draw(34, 5, 3, 2, 4, jnp.float32)
    gradient = jax.jit(partial(values_and_gradients, partial(lstm, precision="bfloat16")))
    text = gradient.trace(problem).lower(lowering_platforms=("tpu", "cuda")).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all(line.count("bf16>") == 2 and line.rstrip().endswith("f32>") for line in products)


def test_precision_is_a_half_one_for_wider_parameters():
    problem = draw(35, *ONE_STEP, jnp.float32)
    with pytest.raises(
        ValueError, match=r"^precision: expected one of 'bfloat16', 'float16', got 'half'\.$"
    ):
        run(partial(lstm, precision="half"), problem)
    halved = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), problem.params)
    with pytest.raises(
        ValueError, match=r"^precision: expected float32 or float64 parameters, got bfloat16\.$"
    ):
        lstm_autodiff(halved, problem.inputs.astype("bfloat16"), precision="bfloat16")


@pytest.mark.parametrize(("error", "code"), [(1e-3, 0), (1e-2, 1)])
def test_check_reports_what_it_does_to_the_gradient(capsys, monkeypatch, error, code):
    checked = []
    errors = {"by hand": {"inputs": error}, "float32": {"inputs": 1e-7}}
    monkeypatch.setattr(check, "gradient_errors", lambda *given: checked.append(given) or errors)
    agreed = check_gradients(jnp.sin, jnp.sin, (1.0,), dtypes=["float32"], also=())
    monkeypatch.setattr(check, "check_lstm", lambda *_, **__: agreed)
    sizes = ["--time", "5", "--batch", "3", "--features", "2", "--hidden", "4", "--no-masks"]
    options = ["--precision", "float16", "--residuals", "outputs", "--json", "-"]
    assert main(["check", *sizes, *options]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["precision"], found["passed"]) == (errors, not code)
    [(config, candidate)] = checked
    assert (config.precision, config.dtypes) == ("float16", ("float32",))
    assert candidate.keywords == {"residuals": "outputs", "precision": "float16"}
