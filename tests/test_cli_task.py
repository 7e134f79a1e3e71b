"""``jaxlstm task``, and ``jaxlstm train`` without a text, as a user meets them."""

import json

import pytest

from jaxlstm.cli import main

SHORT = ["task", "noise-free", "--time-lag", "2", "--hidden", "3", "--trials", "2"]


def test_a_table_a_picture_and_a_json_of_all_three_methods(tmp_path, capsys):
    file, picture = tmp_path / "task.json", tmp_path / "task.png"
    assert main([*SHORT, "--json", str(file), "--plot", str(picture)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("noise-free, T = 2", "LSTM 2 of 2", "vanilla RNN", "BPTT truncated to 1", "1997"):
        assert words in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = json.loads(file.read_text())
    lstm, rnn, truncated = result["methods"]
    assert (lstm["met"], lstm["config"]["time_scale"], result["published"]) == (2, 2, None)
    assert rnn["config"]["cell"] == "rnn"
    assert truncated["config"]["gradient"] == "truncated"
    needed = [trial["sequences"][-1] for trial in lstm["trials"]]
    assert lstm["quartiles"][1] == sum(needed) / 2
    assert [trial["seed"] for trial in lstm["trials"]] == [0, 1]
    for trial in lstm["trials"]:
        assert trial["sequences"] == list(range(100, trial["sequences"][-1] + 1, 100))
        assert len(trial["loss"]) == len(trial["right"]) == len(trial["sequences"])
        assert trial["right"][-1] > trial["right"][0]


def test_an_lstm_that_does_not_meet_the_criterion_is_exit_code_1(capsys):
    one_block = ["--budget", "150", "--trials", "1", "--gradient", "truncated", "--json", "-"]
    assert main([*SHORT, *one_block]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in result["methods"]] == [
        "LSTM, BPTT truncated to 1",
        "vanilla RNN",
    ]
    (trial,) = result["methods"][0]["trials"]
    assert (trial["met"], trial["sequences"]) == (False, [100])
    assert result["methods"][0]["quartiles"] is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["task", "adding", "--time-lag", "5"], "--time-lag: expected from 20 to 100,000, got 5."),
        (
            ["task", "reber", "--budget", "10"],
            "--budget: expected at least 200 sequences, 25 batches",
        ),
        (
            ["task", "adding", "--seed", "4294967295"],
            "--seed: expected from 0 to 4,294,967,295, got",
        ),
        (
            ["task", "noise-free", "--time-lag", "99999"],
            "--time-lag: expected test sequences of at",
        ),
        (["task", "reber", "--hidden", "999999"], "--hidden: expected parameters and optimizer of"),
        (["task", "reber", "--plot", "a.gif"], "--plot: expected a .png, .pdf or .svg file"),
        (["train", "--hidden", "8"], "expected --text FILE or --corpus NAME beside these options."),
        (["train", "--seed", "0"], "expected --text FILE or --corpus NAME beside these options."),
        (["train", "--resume"], "expected --text FILE or --corpus NAME beside these options."),
    ],
)
def test_bad_input_gets_one_line(capsys, command, told):
    assert main(command) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"jaxlstm {command[0]}: {told}")
    assert (error.count("\n"), out) == (1, "")


def test_train_without_a_text_is_the_reber_task(monkeypatch):
    given = []
    monkeypatch.setattr("jaxlstm.cli.task.run", lambda options: given.append(options) or 0)
    assert main(["train"]) == 0
    assert (given[0].task, given[0].time_lag, given[0].trials) == ("reber", None, 3)
