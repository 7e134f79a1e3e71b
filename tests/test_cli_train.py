"""``jaxlstm train``, ``sample`` and ``evaluate`` as a user meets them."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxlstm import cli
from jaxlstm.cli import train
from jaxlstm.training import checkpoints
from jaxlstm.training.checkpoints import load, steps_saved

rng = np.random.default_rng(0)
CONTENT = "".join(rng.choice(list("abcdefgh \n"), 3000))
SIZES = [
    *("--layers", "2", "--hidden", "4", "--embedding", "3", "--batch", "3", "--window", "5"),
    *("--steps", "12", "--warmup", "2", "--evaluate-every", "4", "--dropout", "0.2"),
]

ORBAX_FAILS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Its tasks that fail are told of when they are collected, at some later time."""


ONE_DEVICE = ["--devices", "1"]
"""Of the suite's eight; test_scale_out.py takes more."""


def main(given):
    return cli.main([*given, *ONE_DEVICE] if given[0] == "train" else given)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(CONTENT)
    return path


@pytest.fixture(scope="module")
def trained(text):
    """A run to the end: its folder, with log, picture and JSON beside."""
    folder = text.parent / "run"
    outputs = ["--log", f"{folder}.jsonl", "--plot", f"{folder}.png", "--json", f"{folder}.json"]
    assert main(["train", "--text", str(text), *SIZES, "--checkpoint", str(folder), *outputs]) == 0
    return folder


def beside(folder, ending):
    return folder.with_name(folder.name + ending)


def log_of(folder):
    return [json.loads(line) for line in beside(folder, ".jsonl").read_text().splitlines()]


def state_bytes(folder):
    state, _ = load(folder)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state[:-1])]


def test_a_run_leaves_checkpoints_log_picture_and_json(trained):
    assert steps_saved(trained) == [4, 8, 12]
    lines = log_of(trained)
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(1.5 < line["held_out"]["nats_per_character"] < 3 for line in lines)
    result = json.loads(beside(trained, ".json").read_text())
    assert (result["steps_done"], result["config"]["hidden"]) == (12, 4)
    assert result["held_out"] == lines[-1]["held_out"]
    assert beside(trained, ".png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_finds_what_the_run_measured(trained, text, capsys):
    given = ["evaluate", "--checkpoint", str(trained), "--text", str(text)]
    assert main([*given, "--held-out", "--step", "8", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    logged = log_of(trained)[1]
    assert result == {"step": 8, **logged["held_out"]}
    assert main(given) == 0
    assert "Step 12: " in capsys.readouterr().out


def test_sample_continues_the_prompt(trained, capsys):
    given = ["sample", "--checkpoint", str(trained), "--prompt", "ab", "--length", "40"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ab")
    assert main([*given, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert shown == f"ab{result['text']}\n"
    assert len(result["text"]) == 40
    assert set(result["text"]) <= set(CONTENT)


def test_the_corpus_is_trained_on(capsys):
    assert (
        main(["train", "--corpus", "shakespeare", *SIZES, "--steps", "1", "--held-out", "0"]) == 0
    )
    assert "1 of 1 steps done." in capsys.readouterr().out


def run_in(folder, text, *options):
    """A run's folder, and the command that starts it."""
    return folder, ["train", "--text", str(text), *SIZES, *options, "--checkpoint", str(folder)]


def interrupted_after(monkeypatch, number, saves):
    """Raises a signal within the checkpoint after so many; the rest is the real thing."""
    real, seen = checkpoints.save, []

    def save(*args):
        real(*args)
        seen.append(args)
        if len(seen) == saves:
            signal.raise_signal(number)

    monkeypatch.setattr(checkpoints, "save", save)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_resume_to_the_same_bits(
    trained, text, tmp_path, capsys, monkeypatch, number
):
    folder, command = run_in(tmp_path / "run", text)
    log = ["--log", str(beside(folder, ".jsonl"))]
    interrupted_after(monkeypatch, number, 2)
    assert main([*command, *log, "--keep", "5"]) == 130
    told = capsys.readouterr().err
    assert "stopped after step 9 and saved; go on with: jaxlstm train --text" in told
    again = shlex.split(told.split("go on with: jaxlstm ")[1])
    kept = [*command[1:3], *command[-2:], "--keep", "5", *log, *ONE_DEVICE]
    assert again == ["train", *kept, "--resume"]
    assert steps_saved(folder) == [4, 8, 9]
    assert main(again) == 0
    assert state_bytes(folder) == state_bytes(trained)
    assert [line["step"] for line in log_of(folder)] == [4, 8, 9, 12]
    assert np.all(np.diff([line["seconds"] for line in log_of(folder)]) > 0)
    assert main([*again, "--step", "8"]) == 0
    assert state_bytes(folder) == state_bytes(trained)


def test_an_interrupted_run_without_a_folder_says_that_nothing_is_saved(text, capsys, monkeypatch):
    _, command = run_in("unused", text)
    reports = []

    def stop(report):
        reports.append(report)
        signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(train, "_told", stop)
    assert main(command[:-2]) == 130
    assert len(reports) == 1
    assert "stopped after step 5; nothing was saved" in capsys.readouterr().err


def test_a_longer_run_goes_on_from_the_end(trained, text, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "run")
    resumed = ["train", "--text", str(text), "--checkpoint", str(folder), "--resume"]
    assert main([*resumed, "--steps", "11"]) == 2
    assert "--steps: expected at least the 12 done, got 11." in capsys.readouterr().err
    assert main([*resumed, "--steps", "14"]) == 0
    assert steps_saved(folder)[-1] == 14


def test_a_log_cut_short_is_gone_on_with(trained, text, tmp_path, capsys):
    folder, log = shutil.copytree(trained, tmp_path / "run"), tmp_path / "run.jsonl"
    lines = beside(trained, ".jsonl").read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    resumed = ["train", "--text", str(text), "--checkpoint", str(folder), "--resume"]
    assert main([*resumed, "--step", "8", "--log", str(log)]) == 0
    assert [line["step"] for line in log_of(folder)] == [4, 8, 12]
    log.write_text("{}\n")
    assert main([*resumed, "--log", str(log)]) == 2
    assert "expected a log of jaxlstm train" in capsys.readouterr().err
    assert log.read_text() == "{}\n"


@ORBAX_FAILS
def test_a_full_disk_is_told_in_a_sentence(text, tmp_path, capsys):
    """Files may not grow."""
    _, command = run_in(tmp_path / "run", text)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        assert main(command) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = capsys.readouterr().err
    assert "step 4 cannot be saved: " in told
    assert told.endswith("none was written before.\n")


@ORBAX_FAILS
def test_a_damaged_checkpoint_is_refused_and_the_one_before_offered(
    trained, text, tmp_path, capsys
):
    folder = shutil.copytree(trained, tmp_path / "run")
    next((folder / "12").glob("state/d/*")).write_bytes(b"")
    resumed = ["train", "--text", str(text), "--checkpoint", str(folder), "--resume"]
    assert main(resumed) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("; before it stands step 8: --step 8.\n")
    assert main([*resumed, "--step", "8"]) == 0
    assert state_bytes(folder) == state_bytes(trained)


def test_a_loss_that_is_not_finite_ends_with_a_sentence(text, capsys):
    command = ["train", "--text", str(text), *SIZES, "--learning-rate", "1e38", "--clip", "0"]
    assert main(command) == 1
    assert "no longer finite within the 4 steps up to 4" in capsys.readouterr().err


def start(command, *options):
    code = "import sys; from jaxlstm.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command, *options, *ONE_DEVICE],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_bit(text, tmp_path):
    assert kill_again_and_again(text, tmp_path, steps=6) >= 2


def kill_again_and_again(text, tmp_path, steps):
    """SIGKILL at random moments, with a checkpoint after every step; how many it took."""
    often = ["--steps", str(steps), "--evaluate-every", "1", "--keep", "2"]
    whole, command = run_in(tmp_path / "whole", text, *often)
    assert main(command) == 0
    folder, command = run_in(tmp_path / "killed", text, *often)
    kills, before, moments = 0, 0, np.random.default_rng(1)
    while True:
        resume = ["--resume"] if steps_saved(folder) else []
        code, told = killed(start(command, *resume), folder, before, moments.uniform(0, 0.3))
        assert last_step(folder) >= before
        before = last_step(folder)
        if code != -signal.SIGKILL:
            break
        kills += 1
    assert code == 0, told
    assert state_bytes(folder) == state_bytes(whole)
    return kills


def killed(process, folder, step, seconds):
    """The exit code and what was said, once killed some time after the first new checkpoint."""
    with process:
        wait_until(lambda: last_step(folder) > step or process.poll() is not None)
        time.sleep(seconds)
        process.kill()
        told = process.stderr.read()
    return process.returncode, told


def last_step(folder):
    """Without orbax, which may see a folder vanish while the run cleans up."""
    names = os.listdir(folder) if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def changed(path, content):
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--text", "missing.txt"], "missing.txt: expected a text file, got: No such file"),
        (["--text", "{empty}"], "empty: expected a text, got an empty file."),
        (["--text", "{binary}"], "binary: expected a text, got a binary file"),
        (["--text", "{short}"], "text: expected at least 15 characters to train on"),
        (["--text", "{text}", "--hidden", "0"], "hidden: expected at least 1, got 0."),
        (["--text", "{text}", "--dropout", "1.5"], "dropout: expected a number from 0 and below 1"),
        (["--text", "{text}", "--dtype", "int8"], "dtype: expected one of"),
        (["--text", "{text}", "--seed", "-1"], "seed: expected from 0 to 4,294,967,295"),
        (["--text", "{text}", "--checkpoint", "{empty}"], "empty: expected a folder for"),
        (["--text", "{text}", "--checkpoint", "{run}"], "expected a folder without checkpoints"),
        (["--text", "{text}", "--resume"], "--resume: expected --checkpoint DIR beside it."),
        (["--text", "{text}", "--step", "3"], "--step: expected --resume beside it."),
        (
            ["--text", "{text}", "--resume", "--checkpoint", "{none}"],
            "none: expected a folder with",
        ),
        (["--text", "{text}", "--plot", "a.gif"], "--plot: expected a .png, .pdf or .svg file"),
    ],
)
def test_bad_input_to_train(trained, text, tmp_path, capsys, options, told):
    places = {
        "text": text,
        "run": trained,
        "none": tmp_path / "none",
        "empty": changed(tmp_path / "empty", b""),
        "binary": changed(tmp_path / "binary", b"ab\0\1\2"),
        "short": changed(tmp_path / "short", b"abcdefgh"),
    }
    defaults = ["--window", "5", "--batch", "3", "--steps", "2", "--layers", "1"]
    given = [option.format_map(places) for option in options]
    if "--resume" not in given:
        given += [
            o for k in range(0, 8, 2) if defaults[k] not in given for o in defaults[k : k + 2]
        ]
    assert main(["train", *given]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1
    assert error.startswith("jaxlstm train: ")
    assert told in error
    assert out == ""


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("train", ["--text", "{text}", "--resume", "--hidden", "8"], "--hidden: expected 4 as in"),
        ("train", ["--text", "{other}", "--resume"], "the text: expected the vocabulary of"),
        ("train", ["--text", "{longer}", "--resume"], "the text: expected the one that"),
        ("evaluate", ["--text", "{other}"], "expected only the 10 characters of the vocabulary"),
        ("evaluate", ["--text", "{longer}", "--held-out"], "--held-out: expected the text of the"),
        ("evaluate", ["--text", "{text}", "--step", "5"], "expected one of the steps [4, 8, 12]"),
        (
            "sample",
            ["--prompt", "aé∂"],
            "prompt: expected only the 10 characters of the vocabulary, got 'é', '∂'.",
        ),
        ("sample", ["--temperature", "-1"], "temperature: expected a number of at least 0"),
        ("sample", ["--top-p", "2"], "top_p: expected a number above 0 and up to 1, got 2.0."),
    ],
)
def test_what_does_not_fit_the_checkpoint(trained, text, tmp_path, capsys, command, options, told):
    places = {
        "text": text,
        "other": changed(tmp_path / "other", b"0123456789" * 300),
        "longer": changed(tmp_path / "longer", CONTENT.encode() * 2),
    }
    given = [option.format_map(places) for option in options]
    assert main([command, "--checkpoint", str(trained), *given]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1
    assert told in error
    assert out == ""
