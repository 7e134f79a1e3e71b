"""Training on eight devices and in two processes: the losses of one device, nothing replicated."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import assert_close, draw
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from jaxlstm import lstm
from jaxlstm.cli import main
from jaxlstm.cli.arguments import BadInputError
from jaxlstm.cli.distributed import check_alike, check_shared
from jaxlstm.tasks.text import split, stream_window, text_of
from jaxlstm.training import (
    TrainConfig,
    init_train_state,
    make_mesh,
    train_step,
    training,
)
from jaxlstm.training.checkpoints import load, steps_saved
from jaxlstm.training.sharding import functions_on, place_rows, rows_read
from jaxlstm.training.step import shardings_of_state

rng = np.random.default_rng(0)
CONTENT = "".join(rng.choice(list("abcdefg"), 3000, p=np.arange(1, 8) / 28))
TEXT = text_of(CONTENT)
CONFIG = TrainConfig(
    layers=2,
    hidden=8,
    embedding=3,
    dropout=0.2,
    dtype="float64",
    batch=16,
    window=6,
    steps=8,
    warmup=2,
    learning_rate=0.02,
    schedule="constant",
    evaluate_every=4,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def reports(config, mesh):
    """The numbers of a run on a mesh, and where it ends."""
    first = init_train_state(config, len(TEXT.vocabulary), mesh)
    given, numbers = training(config, TEXT, first, report_every=1, mesh=mesh), []
    for state, report in given:
        last = state
        held_out = report.held_out.nats_per_character if report.held_out else 0.0
        numbers.append((report.loss, report.gradient_norm, held_out))
    return np.array(numbers), (last.params, last.optimizer, last.states)


@pytest.fixture(scope="module")
def on_one_device():
    with jax.enable_x64(True):
        return reports(CONFIG, None)


def on_each(tree):
    """The shapes that a device has of the leaves."""
    return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data.shape, tree)


@pytest.mark.parametrize(
    ("layout", "kernels", "states"),
    [("data", [(8, 32), (8, 32), (32,)], (2, 8)), ("hidden", [(8, 4), (8, 4), (4,)], (16, 1))],
)
def test_eight_devices_have_the_losses_of_one(on_one_device, layout, kernels, states):
    found = reports(CONFIG, make_mesh(CONFIG, layout))
    assert_close(jax.device_get(found), jax.device_get(on_one_device), 1e-11)
    _, (params, optimizer, last_states) = found
    adam = optimizer[1][0]
    for like_params in (params, adam.mu, adam.nu):
        assert list(on_each(like_params.layers[1])) == kernels
    assert on_each(last_states) == ((states, states), (states, states))


def test_autodiff_through_split_hidden_units():
    """With lengths; the gradient by hand is that of the test before."""
    problem = draw(0, 5, 3, 2, 8, "float64")

    def values_and_gradients(f):
        values, back = jax.vjp(lambda *args: f(*args, lengths=problem.lengths), *problem[:3])
        return values, back(problem.cotangents)

    assert_same_in_units(values_and_gradients, "autodiff")


def test_forward_mode_through_split_hidden_units():
    """By hand, and over its gradient by hand; three chunks of time."""
    problem, v = (draw(seed, 9, 64, 2, 8, "float64") for seed in (1, 2))

    def tangents(f):
        def values(*args):
            return f(*args, lengths=problem.lengths)

        def curved(*args):
            outputs, final = values(*args)
            return jnp.sin(outputs).sum() + (final.hidden * final.cell).sum()

        gradient = jax.grad(curved, (0, 1, 2))
        _, hessian_times = jax.linearize(gradient, *problem[:3])
        return jax.jvp(values, problem[:3], v[:3]), hessian_times(*v[:3])

    assert_same_in_units(tangents, "hand")


def assert_same_in_units(of, gradient):
    """``of(f)`` where eight devices have a hidden unit each, as where one has all."""
    config = replace(CONFIG, gradient=gradient)
    split_units = functions_on(make_mesh(config, "hidden"), config).lstm
    found, expected = (jax.jit(of, static_argnums=0)(f) for f in (split_units, lstm))
    assert_close(jax.device_get(found), jax.device_get(expected), 1e-12)


def compiled_step(config, mesh):
    shapes = jax.eval_shape(lambda: init_train_state(config, len(TEXT.vocabulary)))
    state = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings_of_state(config, mesh, shapes),
    )
    trained_on, _ = split(TEXT.points)
    rows, sizes = rows_read(mesh, config.batch), {"time": config.window, "batch": config.batch}
    window = stream_window(trained_on, TEXT.vocabulary, 0, seed=0, rows=rows, **sizes)
    return train_step.lower(config, state, place_rows(mesh, window, config.batch), mesh).compile()


def collectives(program):
    return re.findall(
        r" (all-[a-z-]+?|collective-\w+|reduce-scatter)(?:-start)?\(", program.as_text()
    )


def specs(shardings):
    return jax.tree.map(lambda sharding: sharding.spec, shardings)


def test_rows_are_split_and_gradients_summed_once():
    """At a batch whose time is cut into chunks, so that a sum within the loop would show."""
    config = replace(CONFIG, batch=256, layers=1, dropout=0.0)
    program = compiled_step(config, make_mesh(config))
    (state, window), _ = program.input_shardings
    assert specs(window[:2]) == (P(None, "data"), P(None, "data"))
    after, _ = program.output_shardings
    for placed in (state, after):
        assert {leaf.spec for leaf in jax.tree.leaves(placed.states)} == {P("data")}
        assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(placed.params))
    assert set(collectives(program)) == {"all-reduce"}
    entry = next(line for line in program.as_text().splitlines() if line.startswith("ENTRY"))
    assert "s32[6,32]" in entry
    assert not re.search(r"\[(\d+,)*256[,\]]", program.as_text())  # nothing of the whole batch
    within_loops = program.as_text().split("\nENTRY")[0]
    assert "all-reduce(" not in within_loops


def test_kernels_are_split_by_hidden_units():
    """So is what belongs to them, and no device ever has all four gates of a kernel.

    Of the hidden states of all units, none has those of the whole sequence, three chunks of time.
    """
    config = replace(CONFIG, hidden=64, layers=1, dropout=0.0, batch=128)
    program = compiled_step(config, make_mesh(config, "hidden"))
    (before, _), _ = program.input_shardings
    after, _ = program.output_shardings
    columns = P(None, "hidden")
    for state in (before, after):
        adam = state.optimizer[1][0]
        for params in (state.params, adam.mu, adam.nu):
            assert specs(params.layers) == ((columns, columns, P("hidden")),)
            assert params.readout.kernel.spec == P("hidden")
        assert {leaf.spec for leaf in jax.tree.leaves(state.states)} == {columns}
    assert not re.search(r"f64\[(64,256|256,64|64,4,64|4,64,64|128,256)\]", program.as_text())
    assert "f64[2,128,64]" in program.as_text()
    assert not re.search(r"f64\[(6,128,64|6,64,128|384,64|64,384)\]", program.as_text())
    assert {"all-gather", "reduce-scatter", "all-to-all"} <= set(collectives(program))


SIZES = [
    *("--layers", "1", "--hidden", "8", "--embedding", "3", "--batch", "8", "--window", "6"),
    *("--dtype", "float64", "--warmup", "2", "--schedule", "constant"),
    *("--evaluate-every", "40"),
]
PROCESS = "import sys; from jaxlstm.cli import main; sys.exit(main(sys.argv[1:]))"


@contextmanager
def two_processes(command, folder, devices=1):
    """With so many devices each; what each says goes to a file, and none outlives the test.

    A {} in the command stands for the number of the process.
    """
    joined = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id"]
    with ExitStack() as stack:
        processes = []
        for number in "01":
            told = stack.enter_context(open(folder / f"told_{number}", "w"))
            own = [part.format(number) for part in command]
            given = [*own, "--devices", str(devices), *joined, number]
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, *given], stderr=told, stdout=told
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield processes


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def log_of(path):
    """The numbers of every report, without what differs from run to run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["step"]: numbers(line) for line in lines}


def numbers(line):
    held_out = line["held_out"] or {"nats_per_character": 0.0}
    return np.array([line["loss"], line["gradient_norm"], held_out["nats_per_character"]])


def told_by(number, folder):
    """The lines that one of two processes said, after that it waits."""
    first, *lines = filter(None, (folder / f"told_{number}").read_text().splitlines())
    assert first.startswith(f"process {number} of 2 waits for the others at 127.0.0.1:")
    return lines


def wait_for(condition, processes=(), seconds=120):
    """Until it holds, while all of the processes run."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


def test_a_run_in_two_processes_is_stopped_killed_and_resumes_on_eight_devices(tmp_path):
    """With the losses of a run on one device all the way."""
    text = tmp_path / "text"
    text.write_text(CONTENT)
    command = ["train", "--text", str(text), *SIZES]
    moving, log = tmp_path / "moving", ["--log", str(tmp_path / "moving.jsonl")]

    def reported(step):
        return lambda: max(log_of(tmp_path / "moving.jsonl"), default=0) >= step

    fresh = [*command, "--steps", "99999", "--checkpoint", str(moving), *log]
    with two_processes(fresh, tmp_path, devices=2) as processes:
        wait_for(reported(20), processes)
        processes[1].terminate()
        assert [process.wait(100) for process in processes] == [130, 130]
    (where, *_, told), by_other = told_by(0, tmp_path), told_by(1, tmp_path)
    assert where == "4 devices in 2 processes, layout data."
    stopped = steps_saved(moving)[-1]
    assert told.startswith(f"jaxlstm train: stopped after step {stopped} and saved; go on with: ")
    assert told.endswith("--num-processes 2 --process-id 0 --resume")
    assert by_other == []
    assert stopped % 20 == 0
    assert [step for step in steps_saved(moving) if step % 40] == [stopped] * (stopped % 40 > 0)
    assert max(log_of(tmp_path / "moving.jsonl")) == stopped

    resumed = ["train", "--text", str(text), "--checkpoint", str(moving), *log, "--resume"]
    with two_processes(resumed, tmp_path) as processes:
        wait_for(reported(stopped + 1), processes)
        processes[1].kill()
        code = processes[0].wait(100)
    wait_for(lambda: "lost" in (tmp_path / "told_0").read_text())
    assert code in (1, -signal.SIGABRT)  # which comes first, JAX's error or its abort
    where, *measured, told = told_by(0, tmp_path)
    assert where == "2 devices in 2 processes, layout data."
    assert re.fullmatch(
        "jaxlstm train: process 0 of 2 ended: (it was killed, or )?another process was lost; start "
        "all of them again with --resume to go on from the last checkpoint.",
        told,
    )
    assert all(line.startswith("step ") for line in measured)
    assert "step" not in (tmp_path / "told_1").read_text()

    last = steps_saved(moving)[-1]
    end, still = ["--steps", str(last + 20)], tmp_path / "still"
    assert main([*resumed, *end]) == 0
    alone = [*command, *end, "--devices", "1"]
    assert main([*alone, "--checkpoint", str(still), "--log", f"{still}.jsonl"]) == 0
    found, expected = log_of(tmp_path / "moving.jsonl"), log_of(tmp_path / "still.jsonl")
    assert_close(found, expected, 1e-11)
    assert_close(load(moving)[0].params, load(still)[0].params, 1e-11)


OTHERS = "--process-id 1: expected the text and the options of process 0, got another --"


def test_two_processes_with_other_texts(tmp_path):
    """Of the same characters."""
    for number, content in enumerate((CONTENT, CONTENT[::-1])):
        (tmp_path / f"text_{number}").write_text(content)
    with two_processes(["train", "--text", f"{tmp_path}/text_{{}}", *SIZES], tmp_path) as processes:
        assert [process.wait(100) for process in processes] == [2, 2]
    assert told_by(0, tmp_path) == told_by(1, tmp_path) == [f"jaxlstm train: {OTHERS}text."]


@pytest.fixture
def two(monkeypatch):
    """As if the caller were process 1 of two, and the first that all of them asked process 0."""
    asked = []

    def gathered(array):
        asked.append(array)
        return np.stack([asked[0], array])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: min(len(asked), 1))
    monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
    monkeypatch.setattr(multihost_utils, "sync_global_devices", lambda _: None)


@pytest.mark.usefixtures("two")
def test_processes_differ_in_their_own_options_alone():
    def check(text, **options):
        given = {"seed": 3, "layout": None, "checkpoint": "here", "log": "here", "process_id": 0}
        check_alike(Namespace(**given | options), text)

    check(TEXT)
    check(TEXT, log=None, process_id=1, checkpoint="there")
    others = {"seed": 4}, {"layout": "hidden"}, {"checkpoint": None}
    for options in others:
        with pytest.raises(BadInputError, match=f"^{OTHERS}{next(iter(options))}.$"):
            check(TEXT, **options)
    with pytest.raises(BadInputError, match=f"^{OTHERS}seed and another --text.$"):
        check(text_of(CONTENT[::-1]), seed=5)


@pytest.mark.usefixtures("two")
def test_processes_that_see_other_folders(tmp_path):
    mine, same, other = tmp_path / "mine", tmp_path / "same", tmp_path / "other"
    mine.mkdir()
    same.symlink_to(mine)
    other.mkdir()
    check_shared(mine)
    with pytest.raises(BadInputError, match=r"other: expected a folder .* one in process 1\.$"):
        check_shared(other)
    assert not [*mine.iterdir(), *other.iterdir()]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch", "12"], "--batch: expected a multiple of the 8 devices, got 12;"),
        (["--batch", "4"], "--batch: expected a multiple of the 8 devices, got 4;"),
        (["--batch", "4", "--devices", "9"], "--devices: expected at most the 8 of this process"),
        (["--coordinator", "a:1"], "--coordinator, --num-processes and --process-id: expected all"),
        (
            ["--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"],
            "--process-id: expected a number below the 2 of --num-processes, got 2.",
        ),
        (
            ["--coordinator", "..:1", "--num-processes", "2", "--process-id", "1"],
            "--coordinator ..:1: UnicodeError: ",
        ),
        (
            ["--coordinator", "127.0.0.1:{used}", "--num-processes", "2", "--process-id", "0"],
            "--coordinator 127.0.0.1:{used}: OSError: ",
        ),
    ],
)
def test_bad_input(tmp_path, capsys, options, told):
    text = tmp_path / "text"
    text.write_text(CONTENT)
    with socket.create_server(("", 0)) as listener:
        used = listener.getsockname()[1]
        given = [option.format(used=used) for option in options]
        assert main(["train", "--text", str(text), "--steps", "1", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxlstm train: {told.format(used=used)}")
    assert error.count("\n") == 1
