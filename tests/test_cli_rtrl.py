"""``jaxlstm rtrl``: the tables, the JSON, a stream, and what is refused."""

import json

import pytest

from jaxlstm.cli import main

SMALL = ["rtrl", "--time", "6", "--batch", "2", "--features", "3", "--hidden", "4"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_json_holds_errors_costs_and_ratios(capsys, dtype):
    options = ["--window", "2", "--rounds", "2", "--dtype", dtype, "--json", "-"]
    assert main([*SMALL, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["time"], result["hidden"], result["dtype"]) == (6, 4, dtype)
    estimates = result["estimates"]
    limit = {"float32": 1e-5, "float64": 1e-13}[dtype]
    assert estimates["exact RTRL"]["relative_norm"] < limit
    for name in ("SnAp-1", "cell path alone", "BPTT truncated to 2"):
        assert 0.01 < estimates[name]["relative_norm"] < 2
        assert estimates[name]["cosine"] < 0.9999
    assert result["last_step"]["RTRL"]["time_ratio"] == 1
    assert result["every_step"]["jax.jacrev"]["temporary_bytes"] > 0


def test_tables(capsys):
    assert main([*SMALL, "--rounds", "2"]) == 0
    told = capsys.readouterr().out
    for words in ("SnAp-1", "BPTT truncated to 8", "jax.jacfwd", "jax.jacrev", "two products"):
        assert words in told


def test_a_stream_tells_its_steps_and_largest_sensitivity(tmp_path, capsys):
    file = tmp_path / "stream.json"
    assert main([*SMALL, "--stream", "1003", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["steps"] == 1003
    assert 0 < result["largest"] < 100
    assert "1,003 steps: largest |dh/dA|" in capsys.readouterr().out


def test_an_exploding_stream_is_told(monkeypatch, capsys):
    monkeypatch.setattr("jaxlstm.cli.rtrl.run_stream", lambda _, __, carry, **___: (carry, "inf"))
    assert main([*SMALL, "--stream", "1000"]) == 1
    assert "50 steps: the sensitivities exploded." in capsys.readouterr().out


def test_bad_input_gets_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--window", "0"])
    assert stopped.value.code == 2
    assert "--window: expected a whole number of at least 1, got '0'." in capsys.readouterr().err
