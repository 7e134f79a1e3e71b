"""``jaxlstm bench``: every peer is the same function; ratios, memory, tables, what is refused."""

import json
import time

import jax
import numpy as np
import pytest

from jaxlstm import lstm, step
from jaxlstm.benchmark.alone import STATUS, _forget_peak, _peak, peak_memory
from jaxlstm.benchmark.compare import (
    BEST,
    Comparison,
    Entry,
    compare,
    geometric_means,
    relative_error,
)
from jaxlstm.benchmark.cost import Program, run_in_turn
from jaxlstm.benchmark.peers import LSTM, ORACLE, PEERS, find_peers
from jaxlstm.benchmark.peers.peer import Shape, Workload, draw_workload, jax_peer, own_layer
from jaxlstm.cli import main

SHAPE = Shape(5, 3, 4, 6)
SMALL = ["bench", "--shape", "4,2,3,5", "--only", ORACLE, "--rounds", "2", "--no-peak"]


@pytest.fixture(scope="module")
def workload():
    return draw_workload(SHAPE, "float32", seed=1)


@pytest.fixture(scope="module")
def expected(workload):
    def loss(*workload):
        return (lstm(*workload)[0] ** 2).mean()

    return {
        "forward": lstm(*workload)[0],
        "gradient": Workload(*jax.grad(loss, argnums=(0, 1, 2))(*workload)),
        "step": step(workload.params, workload.state, workload.inputs[0]),
    }


@pytest.mark.filterwarnings("ignore")  # other libraries' own
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_is_the_same_function(name, workload, expected):
    with jax.numpy_dtype_promotion("standard"):
        peers, missing = find_peers([name])
        if missing:
            pytest.skip(missing[name])
        for task, result in expected.items():
            prepared = peers[name].prepare(task, workload)
            found = prepared.read(prepared.program.start())
            assert jax.tree.structure(found) == jax.tree.structure(result)
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(result), strict=True):
                assert one.shape == other.shape
                assert abs(one - other).max() < 1e-5 * abs(other).max()


def test_what_differs_or_raises_is_left_out():
    def off(params, inputs, state):
        return lstm(params._replace(bias=params.bias * 1.01), inputs, state)

    def refusing(*_):
        raise NotImplementedError("no such LSTM\nand more")

    peers = {
        name: jax_peer(name, lambda _, function=function: own_layer(function, step))
        for name, function in {LSTM: lstm, "off": off, "refusing": refusing}.items()
    }
    fractions = []
    found = compare("forward", SHAPE, "float32", peers, rounds=3, advance=fractions.append)
    assert list(found.entries) == [LSTM]
    assert len(found.entries[LSTM].seconds) == len(found.product_seconds) == 3
    assert 0 < found.entries[LSTM].error < 1e-6
    words, error = found.left_out["off"].rsplit(" ", 1)
    assert words == "differs from the float64 result by"
    assert 1e-3 < float(error) < 1e-2
    assert found.left_out["refusing"] == "raised NotImplementedError: no such LSTM"
    assert sum(fractions) == pytest.approx(1)


def test_a_timing_is_of_all_calls_that_were_enqueued():
    log = []
    program = Program(lambda: log.append("start"), lambda _: time.sleep(0.02), 0.0, 0)
    seconds = next(run_in_turn({"it": program}, {"it": 4}))["it"]
    assert log == ["start"] * 4
    assert seconds >= 0.005


def timed(*milliseconds, temporary=10**6):
    return Entry(1e-7, tuple(one / 1e3 for one in milliseconds), 0.5, temporary)


def comparison(task="gradient", shape=SHAPE, scale=1):
    entries = {
        LSTM: timed(2 * scale, 4 * scale, 3 * scale, 12 * scale),  # median 3.5
        "haiku": timed(8, 4, 4, 6),  # median 5
        "torch": timed(1, 2, 3, 4, temporary=None),  # median 2.5
        "equinox": timed(10, 10, 10, 10),
    }
    return Comparison(task, shape, entries, {"keras": "raised it"}, (1e-3, 1e-3, 1e-3, 1e-3))


def test_ratios_shares_and_means():
    found = comparison()
    assert found.ratio("haiku") == pytest.approx(0.7)
    assert found.ratio_in_rounds("haiku") == pytest.approx(0.875)  # of 1/4, 1, 3/4, 2
    assert found.best == "haiku"
    assert found.ceiling == pytest.approx(2 * 5 * 3 * (4 + 6) * 24 / 1e-3)
    assert found.share("torch") == pytest.approx(3 / 2.5)
    assert comparison("forward").share("torch") == pytest.approx(1 / 2.5)
    without = comparison()
    del without.entries["haiku"]
    means = geometric_means([found, comparison(scale=4), without, comparison("forward")])
    assert means["gradient"]["haiku"] == {"ratio": pytest.approx(1.4), "shapes": 2}
    assert means["gradient"][BEST]["ratio"] == pytest.approx((0.7 * 2.8 * 0.35) ** (1 / 3))
    assert means["forward"]["torch"] == {"ratio": pytest.approx(1.4), "shapes": 1}


def test_peak_memory_is_of_the_run_alone():
    """The outputs and what a gradient saves are held at once; libraries are not counted."""
    shape = Shape(50, 64, 8, 256)
    numbers = np.prod([shape.time, shape.batch, shape.hidden])
    peak = peak_memory(ORACLE, "forward", shape, "float32")
    assert 4 * numbers <= peak.added_bytes < 40 * numbers < peak.process_bytes


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone forgets a peak")
def test_a_peak_is_forgotten():
    np.ones(25_000_000).sum()
    before = _peak()
    _forget_peak()
    assert _peak() < before - 100_000_000


def test_json_table_and_plot(tmp_path, capsys):
    file, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    options = ["--task", "gradient", "--json", str(file), "--plot", str(plot)]
    assert main([*SMALL, *options, "--dtype", "float64"]) == 0
    result = json.loads(file.read_text())
    assert (result["dtype"], result["passed"], result["not_measured"]) == ("float64", True, {})
    [found] = result["comparisons"]
    assert (found["task"], found["batch"], found["hidden"], found["axis"]) == (
        "gradient",
        2,
        5,
        None,
    )
    ours, theirs = (found["entries"][name] for name in (LSTM, ORACLE))
    assert theirs["ratio_of_medians"] == ours["median_seconds"] / theirs["median_seconds"]
    assert 0 < max(ours["relative_error"], theirs["relative_error"]) < 1e-14
    assert theirs["temporary_bytes"] > 0
    assert ours["rounds"] == 2
    mean = result["geometric_means"]["gradient"][ORACLE]
    assert mean == {"ratio": pytest.approx(theirs["ratio_of_medians"]), "shapes": 1}
    assert "gradient at T,B,D,H = 4,2,3,5" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000


@pytest.fixture
def canned(monkeypatch):
    """Comparisons in which the time of lstm is proportional to every size."""

    def canned(task, shape, *_, **__):
        return comparison(task, shape, scale=float(np.prod(shape)) / 1e6)

    monkeypatch.setattr("jaxlstm.cli.bench.compare", canned)


@pytest.mark.usefixtures("canned")
def test_tables_name_what_was_left_out(monkeypatch, capsys):
    monkeypatch.setattr("jaxlstm.cli.bench.find_peers", lambda _: ({}, {"keras": "no Keras"}))
    assert main(["bench", "--no-peak"]) == 0
    told = capsys.readouterr().out
    assert "Not measured: keras: no Keras." in told
    assert told.count("keras: raised it.") == 11  # five shapes twice, and a step
    assert "step at T,B,D,H = 1,1,256,256" in told
    assert "the best JAX peer" in told
    assert "…" not in told


@pytest.mark.usefixtures("canned")
def test_a_sweep_doubles_each_size(tmp_path, capsys):
    file, plot = tmp_path / "sweep.json", tmp_path / "sweep.svg"
    options = ["--sweep", "--shape", "3,2,4,5", "--json", str(file), "--plot", str(plot)]
    assert main(["bench", *options]) == 0
    found = json.loads(file.read_text())["comparisons"]
    hidden = [one["hidden"] for one in found if one["axis"] == "hidden"]
    assert (len(found), hidden) == (12, [5, 10, 20, 40])
    told = capsys.readouterr().out
    assert told.count("2.00") == 9
    assert "At 3,2,4,40 keras: raised it." in told
    assert "temporary memory" in plot.read_text()


def test_lstm_left_out_fails_and_the_others_are_told(monkeypatch, tmp_path, capsys):
    def wrong(task, shape, *_, **__):
        found = comparison(task, shape)
        del found.entries[LSTM]
        return found._replace(left_out={LSTM: "[/red] differs"})

    monkeypatch.setattr("jaxlstm.cli.bench.compare", wrong)
    file = tmp_path / "bench.json"
    assert main([*SMALL, "--task", "forward", "--json", str(file)]) == 1
    assert "lstm: [/red] differs." in capsys.readouterr().out
    haiku = json.loads(file.read_text())["comparisons"][0]["entries"]["haiku"]
    assert (haiku["ratio_of_medians"], haiku["median_seconds"]) == (None, 0.005)


def test_a_library_that_cannot_be_imported_is_told(monkeypatch):
    def broken(_):
        raise AttributeError("jax has no such attribute\nand more")

    monkeypatch.setitem(PEERS, "haiku", broken)
    assert find_peers(["haiku"]) == ({}, {"haiku": "AttributeError: jax has no such attribute"})


def test_what_has_no_forward_pass_of_its_own_is_timed_by_gradient_alone():
    peers = find_peers([LSTM, "lstm.outputs"])[0]
    tasks = {
        task: compare(task, SHAPE, "float32", peers, rounds=2) for task in ("step", "gradient")
    }
    assert {task: list(one.entries) for task, one in tasks.items()} == {
        "step": [LSTM],
        "gradient": [LSTM, "lstm.outputs"],
    }


def test_results_of_another_shape_do_not_agree():
    with pytest.raises(ValueError, match=r"expected a result of shape \(3, 2\), got \(1, 2\)"):
        relative_error(np.ones((1, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        (
            "--shape",
            "3,4,0,5",
            "expected T,B,D,H, four whole numbers of at least 1, got '3,4,0,5'.",
        ),
        ("--rounds", "1", "expected a whole number of at least 2, got '1'."),
        ("--only", "pytorch", "invalid choice: 'pytorch'"),
    ],
)
def test_bad_options_get_one_line(capsys, option, given, expected):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", option, given])
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_what_is_asked_for_and_missing_gets_one_sentence(monkeypatch, capsys):
    missing = {"torch": "No module named 'torch'"}
    monkeypatch.setattr("jaxlstm.cli.bench.find_peers", lambda _: ({}, missing))
    assert main(["bench", "--only", "torch"]) == 2
    assert capsys.readouterr().err == "jaxlstm bench: --only torch: No module named 'torch'.\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--shape", "9999999,99,9,999"],
            "--shape 9999999,99,9,999: expected float64 reference of",
        ),
        (["--sweep", "--task", "forward"], "--sweep: expected one --shape at most and no --task."),
        (["--plot", "costs.txt"], "--plot: expected a .png, .pdf or .svg file, got 'costs.txt'."),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, tmp_path, capsys, options, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *options]) == 2
    assert capsys.readouterr().err.startswith(f"jaxlstm bench: {expected}")
