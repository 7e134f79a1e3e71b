"""``jaxlstm train``: a character language model on a text, resumed to the bit."""

import argparse
import dataclasses
import itertools
import json
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxlstm.cli.arguments import (
    BadInputError,
    add_json,
    add_text,
    positive,
    text_named,
    text_source,
    users_input,
    users_options,
    writable_file,
    write_json,
    writing,
)
from jaxlstm.cli.checkpoints import orbax
from jaxlstm.cli.distributed import (
    PLACES,
    Stop,
    add_devices,
    check_alike,
    check_shared,
    connected,
    in_words,
    mesh_for,
)
from jaxlstm.cli.plots import plotting
from jaxlstm.cli.progress import told_progress
from jaxlstm.cli.task import learn_reber
from jaxlstm.tasks.text import Text, fingerprint
from jaxlstm.training import (
    Report,
    TrainConfig,
    TrainState,
    check_streams,
    init_train_state,
    is_due,
    training,
)

DESCRIPTION = """Train a character language model: LSTMs one on another, their gradient written by
hand, Adam. Contiguous streams of the text, the recurrent state carried from window to window. With
--checkpoint the run is saved wherever the held-out loss is measured, and goes on after a kill with
--resume, to the bit. Ctrl-C saves. Exit code 0; 1 where the loss is no longer finite; 2 on bad
input; 130 after Ctrl-C or SIGTERM. Without a text, and without any option: jaxlstm task reber."""
EXAMPLE = """example: jaxlstm train --text plays.txt --hidden 256 --checkpoint run --plot run.png;
after a kill: jaxlstm train --text plays.txt --checkpoint run --resume; in two processes: the
first with --coordinator HOST:PORT --num-processes 2 --process-id 0, the other with 1 as its last"""
HELP = {
    "layers": "LSTMs, one on another",
    "hidden": "units of each",
    "embedding": "size of a character's row",
    "dropout": "share of values dropped between layers and before the readout",
    "dtype": "of activations and products: float64, float32 or bfloat16",
    "batch": "contiguous streams of the text",
    "window": "characters a step reads of each stream",
    "steps": "of the optimizer, in all",
    "learning_rate": "of Adam",
    "schedule": "of the rate: cosine or constant",
    "warmup": "steps over which the rate rises",
    "weight_decay": "of AdamW",
    "clip": "largest global norm of a gradient; 0: none",
    "held_out": "last share of the text, not trained on",
    "evaluate_every": "steps between two measurements on it, each with a checkpoint",
    "seed": "of all draws",
    "gradient": "hand or autodiff",
}


class Start(NamedTuple):
    """Where a run starts: from nothing, or from a checkpoint."""

    config: TrainConfig
    state: TrainState
    mesh: Mesh | None


Save = Callable[[TrainState, Report], None]


def add_parser(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "train",
        help="train a character language model on a text",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    add_text(parser)
    for field in dataclasses.fields(TrainConfig):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            metavar=field.name.upper(),
            help=f"{HELP[field.name]} (default {field.default})",
        )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="folder of the checkpoints")
    parser.add_argument(
        "--keep", type=positive, metavar="N", help="last checkpoints kept (default 3)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint; of the options above only --steps may be given, to "
        "train longer, and the schedule then ends there",
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="resume from this one; those after it are deleted"
    )
    parser.add_argument(
        "--log", type=writable_file, metavar="FILE", help="write every report as a line of JSON"
    )
    parser.add_argument(
        "--plot", type=writable_file, metavar="FILE", help="draw the losses (extra: plot)"
    )
    add_json(parser)
    add_devices(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, writes what was asked for, and returns the exit code."""
    fields = (field.name for field in dataclasses.fields(TrainConfig))
    given = {name: getattr(options, name) for name in fields if getattr(options, name) is not None}
    if text_source(options) is None:
        return _without_text(options)
    if options.plot:
        plotting(options.plot)
    with ExitStack() as stack:
        options = stack.enter_context(connected(options))
        stop = Stop(stack.enter_context(_interrupted()))
        with users_input():
            text = text_named(options)
            check_alike(options, text)
            begin = _resumed if options.resume else _fresh
            start = begin(options, text, given)
        stack.enter_context(jax.enable_x64(start.config.dtype == "float64"))
        save = _saving(options, text, start, stack)
        try:
            return _train(options, text, start, save, stop)
        except FloatingPointError as error:
            print(f"jaxlstm train: {error}", file=sys.stderr)
            return 1


def _without_text(options: argparse.Namespace) -> int:
    """The Reber task, which needs no text; no option here is for it."""
    given = {name for name, value in vars(options).items() if value is not None}
    if given - {"command", "run"} - ({"resume"} if not options.resume else set()):
        raise BadInputError("expected --text FILE or --corpus NAME beside these options.")
    return learn_reber()


def _fresh(options: argparse.Namespace, text: Text, given: dict[str, Any]) -> Start:
    """The first state; the checkpoints' folder must hold none yet."""
    if options.step is not None:
        raise BadInputError("--step: expected --resume beside it.")
    saved = options.checkpoint and orbax().steps_saved(options.checkpoint)
    if saved:
        raise BadInputError(
            f"--checkpoint {options.checkpoint}: expected a folder without checkpoints, got one up "
            f"to step {saved[-1]}; give --resume to go on from it, or another folder."
        )
    with users_options():
        config = TrainConfig(**given)
    check_streams(config, text)
    with jax.enable_x64(config.dtype == "float64"):
        mesh = mesh_for(options, config)
        return Start(config, init_train_state(config, len(text.vocabulary), mesh), mesh)


def _resumed(options: argparse.Namespace, text: Text, given: dict[str, Any]) -> Start:
    """The state of a checkpoint; only the steps in all may differ from its run's."""
    if options.checkpoint is None:
        raise BadInputError("--resume: expected --checkpoint DIR beside it.")
    wanted = "latest" if options.step is None else options.step
    state, about = orbax().load(options.checkpoint, wanted, partial(mesh_for, options))
    config = dataclasses.replace(about.config, steps=given.get("steps", about.config.steps))
    for name, value in given.items():
        if value != getattr(config, name):
            option = f"--{name.replace('_', '-')}"
            raise BadInputError(
                f"{option}: expected {getattr(config, name)} as in {options.checkpoint}, "
                f"got {value}; a run goes on as it began."
            )
    if config.steps < int(state.step):
        raise BadInputError(
            f"--steps: expected at least the {int(state.step)} done, got {config.steps}."
        )
    if text.vocabulary != about.vocabulary:
        counts = f"{len(about.vocabulary)} characters, got another of {len(text.vocabulary)}"
        raise BadInputError(f"the text: expected the vocabulary of {options.checkpoint}, {counts}.")
    if fingerprint(text) != about.fingerprint:
        raise BadInputError(f"the text: expected the one that {options.checkpoint} was trained on.")
    return Start(config, state, mesh_for(options, config))


def _saving(options: argparse.Namespace, text: Text, start: Start, stack: ExitStack) -> Save:
    """What saves a checkpoint, or nothing without a folder for it."""
    if options.checkpoint is None:
        return lambda *_: None
    checkpoints = orbax()
    about = checkpoints.describe(start.config, text)
    with users_input():
        if options.step is not None and start.config.steps > options.step:
            checkpoints.forget_after(options.checkpoint, options.step)
        opened = checkpoints.open_checkpoints(options.checkpoint, keep=options.keep or 3)
        manager = stack.enter_context(opened)
    check_shared(options.checkpoint)

    def save(state: TrainState, report: Report) -> None:
        held_out = report.held_out and report.held_out.nats_per_character
        with users_input():
            checkpoints.save(manager, state, about, held_out)

    return save


@contextmanager
def _interrupted() -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM is noted in this list; the second stops at once."""
    noted = list[int]()

    def note(number: Any, _: Any) -> None:
        noted.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train(options: argparse.Namespace, text: Text, start: Start, save: Save, stop: Stop) -> int:
    """Trains, saves, logs and shows; returns the exit code."""
    config, done = start.config, int(start.state.step)
    records = _records_up_to(options, done)
    before, began = records[-1]["seconds"] if records else 0.0, time.monotonic()
    if start.mesh and options.json != "-":
        print(f"{in_words(start.mesh)}.")
    with _progress(config, done) as show, _log(options, records) as write:
        for state, report in training(config, text, start.state, stop=stop, mesh=start.mesh):
            done = report.step
            if stop.agreed or is_due(done, config, config.evaluate_every):
                save(state, report)
            records.append(_record(report, before + time.monotonic() - began))
            write(records[-1])
            show(report)
            if options.json != "-" and is_due(done, config, config.evaluate_every):
                print(_told(report))
    if options.json:
        described = {"config": dataclasses.asdict(config), "steps_done": done}
        write_json(options.json, described | (records[-1] if records else {}))
    if options.plot:
        with writing("--plot", options.plot):
            plotting(options.plot).save_training(records, options.plot)
    if done < config.steps:
        print(_how_to_go_on(options, done), file=sys.stderr)
        return 130
    if options.json != "-":
        print(f"{done:,} of {config.steps:,} steps done.")
    return 0


def _record(report: Report, seconds: float) -> dict[str, Any]:
    """A line of the log."""
    held_out = report.held_out._asdict() if report.held_out else None
    return report._asdict() | {"held_out": held_out, "seconds": seconds}


def _records_up_to(options: argparse.Namespace, step: int) -> list[dict[str, Any]]:
    """What the log of a resumed run holds of the steps that it does not do again."""
    if not (options.resume and options.log and Path(options.log).exists()):
        return []
    records = []
    for line in Path(options.log).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # cut short by a kill; nothing follows it
            break
        if not isinstance(record, dict) or not {"step", "seconds"} <= record.keys():
            raise BadInputError(f"--log {options.log}: expected a log of jaxlstm train.")
        records.append(record)
    return [record for record in records if record["step"] <= step]


@contextmanager
def _log(
    options: argparse.Namespace, records: list[dict[str, Any]]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes records as lines of JSON, after those that stay; nothing without ``--log``."""
    if options.log is None:
        yield lambda _: None
        return
    new = Path(f"{options.log}.new")
    with writing("--log", options.log):
        new.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
        new.replace(options.log)
    with open(options.log, "a", encoding="utf-8") as file:

        def write(record: dict[str, Any]) -> None:
            with writing("--log", options.log):
                print(json.dumps(record), file=file, flush=True)

        yield write


@contextmanager
def _progress(config: TrainConfig, done: int) -> Iterator[Callable[[Report], None]]:
    """A bar with loss, bits a character, speed and the time left."""
    with told_progress() as progress:
        task = progress.add_task("steps", total=config.steps, completed=done, told="compiling")

        def show(report: Report) -> None:
            progress.update(task, completed=report.step, told=_in_short(report))

        yield show


def _in_short(report: Report) -> str:
    bits = report.loss / math.log(2)
    speed = f"{report.characters_per_second:,.0f} characters/s"
    return f"loss {report.loss:.3f} nats, {bits:.3f} bits a character, {speed}"


def _told(report: Report) -> str:
    told = f"step {report.step:,}: {_in_short(report)}"
    if report.held_out is None:
        return f"{told}."
    nats, bits, _ = report.held_out
    return f"{told}; held out {nats:.4f} nats, {bits:.4f} bits."


def _how_to_go_on(options: argparse.Namespace, done: int) -> str:
    stopped = f"jaxlstm train: stopped after step {done:,}"
    if options.checkpoint is None:
        return f"{stopped}; nothing was saved, for there was no --checkpoint."
    files = ("text", "corpus", "checkpoint", "keep", "log", "plot", "json")
    kept = [(name.replace("_", "-"), getattr(options, name)) for name in (*files, *PLACES)]
    given = [(f"--{name}", str(value)) for name, value in kept if value is not None]
    command = shlex.join(["jaxlstm", "train", *itertools.chain(*given), "--resume"])
    return f"{stopped} and saved; go on with: {command}"
