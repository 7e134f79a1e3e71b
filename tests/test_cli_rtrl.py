"""``jaxlstm rtrl``: the tables, the JSON, a stream, and what is refused."""

import itertools
import json
import math
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from jaxlstm import lstm
from jaxlstm.benchmark import Cost, measure_costs
from jaxlstm.benchmark.rtrl import (
    BPTT,
    EXACT,
    Estimate,
    draw_sequence,
    first_carry,
    judge_exact,
    run_stream,
)
from jaxlstm.cli import main
from jaxlstm.rtrl import GradientErrors, gradient_errors, truncated_gradients

SMALL = ["rtrl", "--time", "6", "--batch", "2", "--features", "3", "--hidden", "4"]
PARAMETERS = (3 + 4 + 1) * 4 * 4
TIME = 100


def squared_distance(h_t, target_t):
    return 0.5 * jnp.square(h_t - target_t).sum(-1)


@jax.jit
def bptt(params, inputs, targets):
    def loss(params):
        return squared_distance(lstm(params, inputs)[0], targets).sum()

    return jax.grad(loss)(params)


@pytest.fixture(scope="module")
def drawn():
    return draw_sequence(TIME, 2, 3, 4, seed=0, dtype="float32")


@pytest.fixture(scope="module")
def gradient(drawn):
    return bptt(*drawn)


def test_json_holds_errors_costs_and_ratios(capsys, drawn, gradient):
    options = ["--time", str(TIME), "--window", "3", "--rounds", "2", "--json", "-"]
    assert main([*SMALL, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["time"], result["hidden"], result["dtype"]) == (TIME, 4, "float32")
    assert 0.1 < result["exact"]["rounding_ratio"] < 8
    assert (result["exact"]["passed"], result["passed"]) == (True, True)
    estimates = result["estimates"]
    assert estimates["exact RTRL"]["relative_norm"] < 1e-5
    for name in ("SnAp-1", "cell path alone", "BPTT truncated to 3"):
        assert 0.01 < estimates[name]["relative_norm"] < 2
        assert estimates[name]["cosine"] < 0.9999
    windows = truncated_gradients(squared_distance, *drawn, window=3)[1]
    truncated = gradient_errors(jax.tree.map(lambda leaf: leaf.sum(0), windows), gradient)
    error = estimates["BPTT truncated to 3"]["relative_norm"]
    assert error == pytest.approx(truncated.relative_norm, rel=1e-4)
    last = result["last_step"]
    assert last["RTRL"]["time_ratio"] == 1
    steps, products = last["RTRL step by step"], last["its two products alone"]
    ratio = steps["median_seconds"] / products["median_seconds"]
    assert result["steps_over_products"] == pytest.approx(ratio)
    assert result["every_step"]["jax.jacrev"]["temporary_bytes"] > 0
    for name in set(estimates) - {BPTT}:  # a sum, not a contribution for every step or window
        assert estimates[name]["temporary_bytes"] < TIME / 3 * PARAMETERS * 4


def test_tables(capsys):
    assert main([*SMALL, "--rounds", "2", "--dtype", "float64"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "SnAp-1",
        "BPTT truncated to 8 1.000000",
        "what rounding alone does (8 pass): equal.",
        "jax.jacfwd",
        "jax.jacrev",
        "its two products alone",
        "step by step / two products",
    ):
        assert words in told


def test_exact_is_judged_by_rounding(drawn, gradient):
    """The bias gradient 2e-5 too long is some hundred roundings off; BPTT's own passes."""
    assert judge_exact(drawn, gradient, 0).verdict is True
    wrong = gradient._replace(bias=gradient.bias * (1 + 2e-5))
    judged = judge_exact(drawn, wrong, 0)
    assert judged.verdict is False
    assert 8 < judged.ratio < 1e3


def test_what_is_not_finite_is_null_and_fails(monkeypatch, tmp_path, drawn):
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, drawn.params)
    cost = Cost(1.0, 0.0, 0, 0.0)
    estimate = Estimate(broken, GradientErrors(math.nan, math.inf), cost)
    costs = dict.fromkeys(("RTRL", "RTRL step by step", "its two products alone"), cost)
    for name, found in (
        ("estimate_gradients", {EXACT: estimate}),
        ("sensitivity_costs", costs),
        ("costs_at_every_step", costs),
    ):
        monkeypatch.setattr(f"jaxlstm.cli.rtrl.{name}", lambda *_, found=found: found)
    file = tmp_path / "broken.json"
    assert main([*SMALL, "--time", str(TIME), "--json", str(file)]) == 1
    result = json.loads(file.read_text())
    exact = result["estimates"]["exact RTRL"]
    assert (exact["cosine"], exact["relative_norm"], exact["median_seconds"]) == (None, None, 1)
    assert result["exact"] == {"rounding_ratio": None, "passed": False}


def test_a_stream_tells_its_steps_and_largest_sensitivity(tmp_path, capsys):
    file = tmp_path / "stream.json"
    assert main([*SMALL, "--stream", "1003", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["steps"] == 1003
    assert 0 < result["largest"] < 100
    assert "1,003 steps: largest |dh/dA|" in capsys.readouterr().out


def test_a_stream_of_a_hundred_thousand_steps(capsys):
    sizes = ["--time", "1", "--batch", "1", "--features", "1", "--hidden", "2"]
    assert main(["rtrl", *sizes, "--stream", "100000"]) == 0
    assert "100,000 steps: largest |dh/dA|" in capsys.readouterr().out


def test_an_exploding_stream_is_told(tmp_path, capsys):
    file = tmp_path / "stream.json"
    chaotic = ["--hidden", "16", "--recurrent-scale", "10", "--stream", "4000"]
    assert main([*SMALL, *chaotic, "--json", str(file)]) == 1
    result = json.loads(file.read_text())
    assert 200 < result["steps"] < 4000
    assert (result["largest"], result["passed"]) == (None, False)
    told = f"The sensitivities exploded within {result['steps']:,} steps."
    assert told in capsys.readouterr().out


def test_one_nan_in_the_sensitivities_is_seen(drawn):
    carry = first_carry(drawn.params, drawn.inputs)
    one = carry.sensitivities.hidden.params.bias.at[1, 2, 3].set(jnp.nan)
    hidden = carry.sensitivities.hidden
    hidden = hidden._replace(params=hidden.params._replace(bias=one))
    carry = carry._replace(sensitivities=carry.sensitivities._replace(hidden=hidden))
    assert run_stream(drawn.params, carry, 0, 0, seed=0)[1] == jnp.inf


def test_costs_are_of_rounds_in_balanced_order(monkeypatch):
    """Every function runs once a round, in every place and behind every other equally often."""
    ran = []

    def seconds(program, calls):
        ran.append(calls * int(program.start()))
        return 100.0 if len(ran) <= 4 else ran[-1] * (1.0 + (len(ran) - 1) // 4)

    monkeypatch.setattr("jaxlstm.benchmark.cost._seconds", seconds)
    functions = {str(n): lambda x, n=n: n * x for n in (1, 2, 3, 4)}
    costs = measure_costs(functions, jnp.ones((), int), rounds=7)
    rounds = [ran[k : k + 4] for k in range(0, len(ran), 4)]
    assert [sorted(one) for one in rounds] == [[1, 2, 3, 4]] * 8
    assert set(Counter((n, one[n]) for one in rounds for n in range(4)).values()) == {2}
    neighbours = Counter(pair for one in rounds for pair in itertools.pairwise(one))
    assert list(neighbours.values()) == [2] * 12
    medians = {name: cost.median_seconds for name, cost in costs.items()}
    assert medians == {"1": 5, "2": 10, "3": 15, "4": 20}
    with pytest.raises(ValueError, match="rounds: expected at least 2, got 1"):
        measure_costs(functions, jnp.ones((), int), rounds=1)


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("--window", "0", "a whole number of at least 1"),
        ("--rounds", "1", "a whole number of at least 2"),
        ("--recurrent-scale", "nan", "a finite number above 0"),
    ],
)
def test_bad_input_gets_one_line(capsys, option, given, expected):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, option, given])
    assert stopped.value.code == 2
    assert f"{option}: expected {expected}, got {given!r}." in capsys.readouterr().err


def test_what_does_not_fit_the_machine_is_refused(capsys):
    assert main(["rtrl", "--hidden", "40000"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("jaxlstm rtrl: --hidden 40000: expected sensitivities of at most")
    assert told.endswith(" GB, got 8,195,584 GB.\n")
