"""Several devices and several processes on the command line."""

import argparse
import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from numpy import ndarray

from jaxlstm.cli.arguments import BadInputError, not_negative, positive, users_options
from jaxlstm.gradient_check.call import first_line
from jaxlstm.tasks.text import Text, fingerprint
from jaxlstm.training import TrainConfig
from jaxlstm.training.sharding import LAYOUTS, layout_of, make_mesh

MEETING = 300
"""Seconds in which all processes must have been started."""
HEARTBEAT = 30
"""Seconds without a sign of life after which a process is lost; one that died is lost earlier."""
SHUTDOWN = 15
"""Seconds that a process waits for the others at its end."""
GRACE = 5
"""Seconds that it waits where its input is bad, which the others most often find too."""
ASKED_EVERY = 20
"""Steps after which the processes ask each other whether to stop."""
LOST = re.compile("Gloo|NCCL|[Cc]oordination ?[Ss]ervice|UNAVAILABLE|DEADLINE_EXCEEDED")
"""What JAX's errors hold where another process was lost."""
WITNESS = "import sys; sys.stdin.read() or print('jaxlstm train:', sys.argv[1], file=sys.stderr)"
NOT_MET = f"it was killed, or not all of them met at {{}} within {MEETING} seconds"


PLACES = ("devices", "layout", "coordinator", "num_processes", "process_id")
"""The options here."""
OWN = {"process_id", "coordinator", "text", "corpus", "checkpoint", "log", "plot", "json", "run"}
"""The options that may differ from process to process; the texts may not."""


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Adds what says on which devices, and in how many processes, a run is."""
    group = parser.add_argument_group("devices and processes")
    group.add_argument(
        "--devices", type=positive, metavar="N", help="of each process (default: all that it has)"
    )
    group.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="what is split over the devices: the batch (data, the default), or the hidden units "
        "of a model too big for one (hidden)",
    )
    group.add_argument(
        "--coordinator",
        type=_address,
        metavar="HOST:PORT",
        help="of process 0, where the run has several processes: each reads its own rows of the "
        "batch, process 0 alone prints, and --checkpoint is a folder that all of them see",
    )
    group.add_argument("--num-processes", type=positive, metavar="N", help="in all")
    group.add_argument("--process-id", type=not_negative, metavar="N", help="from 0, of this one")


def _address(text: str) -> str:
    _, _, port = text.rpartition(":")
    if not (re.fullmatch(r".+:\d{1,5}", text) and 0 < int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}.")
    return text


def mesh_for(options: argparse.Namespace, config: TrainConfig) -> Mesh | None:
    """The mesh that was asked for."""
    with users_options():
        return make_mesh(config, options.layout or "data", options.devices)


def in_words(mesh: Mesh) -> str:
    """Where a run is."""
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{mesh.size} devices{processes}, layout {layout_of(mesh)}"


@contextlib.contextmanager
def connected(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """Joins the run's other processes, and gives the options of this one.

    Processes other than the first are silent within. Where another one is lost, this one ends with
    a sentence and exit code 1, or in JAX's own abort.
    """
    if not _several(options):
        yield options
        return
    with _witness(_ended(options, NOT_MET.format(options.coordinator))):
        _initialize(options)
    with _witness(_ended(options, f"it was killed, or {_lost(options)}")) as dismiss:
        try:
            with _silent() if options.process_id else contextlib.nullcontext():
                yield _of_this_process(options)
            jax.distributed.shutdown()
        except Exception as error:
            dismiss()
            if LOST.search(str(error)):
                _leave(_ended(options, _lost(options)), 1)
            if isinstance(error, BadInputError):
                _leave(str(error), 2)
            raise


def _leave(told: str, code: int) -> NoReturn:
    """At once, for what JAX does at a process's end waits for the others."""
    print(f"jaxlstm train: {told}", file=sys.stderr, flush=True)
    if code == 2:
        threading.Timer(GRACE, os._exit, (code,)).start()
        with contextlib.suppress(Exception):
            jax.distributed.shutdown()
    os._exit(code)


def _several(options: argparse.Namespace) -> bool:
    given = options.coordinator, options.num_processes, options.process_id
    if given == (None, None, None):
        return False
    if None in given:
        raise BadInputError(
            "--coordinator, --num-processes and --process-id: expected all three or none."
        )
    if options.process_id >= options.num_processes:
        raise BadInputError(
            f"--process-id: expected a number below the {options.num_processes} of "
            f"--num-processes, got {options.process_id}."
        )
    return True


def _ended(options: argparse.Namespace, why: str) -> str:
    return f"{_place(options)} ended: {why}."


def _place(options: argparse.Namespace) -> str:
    return f"process {options.process_id} of {options.num_processes}"


def _lost(options: argparse.Namespace) -> str:
    saved = "nothing was saved, for there was no --checkpoint"
    if options.checkpoint:
        saved = "start all of them again with --resume to go on from the last checkpoint"
    return f"another process was lost; {saved}"


@contextlib.contextmanager
def _witness(message: str) -> Iterator[Callable[[], int]]:
    """A process that says the message where JAX aborts this one, unless it was dismissed.

    What JAX says itself, a trace of its own, is not shown.
    """
    command = [sys.executable, "-S", "-c", WITNESS, message]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as witness,
        _descriptors_to(log.fileno()),
    ):
        assert witness.stdin
        dismiss = partial(os.write, witness.stdin.fileno(), b"ended in order")
        try:
            yield dismiss
        finally:
            dismiss()
            witness.stdin.close()


@contextlib.contextmanager
def _descriptors_to(log: int) -> Iterator[None]:
    """What is not written by Python goes to the log."""
    streams = sys.stdout, sys.stderr
    kept = [os.dup(number) for number in (1, 2)]
    sys.stdout, sys.stderr = (open(number, "w", buffering=1) for number in kept)  # noqa: SIM115
    for number in (1, 2):
        os.dup2(log, number)
    try:
        yield
    finally:
        for number, stream in zip((1, 2), (sys.stdout, sys.stderr), strict=True):
            stream.flush()
            os.dup2(stream.fileno(), number)
            stream.close()
        sys.stdout, sys.stderr = streams


def _initialize(options: argparse.Namespace) -> None:
    """Waits for the other processes; a Ctrl-C meanwhile ends this one at once."""
    host, _, port = options.coordinator.rpartition(":")
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        socket.getaddrinfo(host.strip("[]"), port)
        if options.process_id == 0:
            socket.create_server(("", int(port))).close()
        print(f"{_place(options)} waits for the others at {options.coordinator}.", file=sys.stderr)
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            cluster_detection_method="deactivate",
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (OSError, UnicodeError, RuntimeError) as error:
        raise BadInputError(f"--coordinator {options.coordinator}: {first_line(error)}") from error
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _of_this_process(options: argparse.Namespace) -> argparse.Namespace:
    """Files are for the first process alone."""
    own = {} if options.process_id == 0 else {"log": None, "plot": None, "json": None}
    return argparse.Namespace(**vars(options) | own)


def check_alike(options: argparse.Namespace, text: Text) -> None:
    """Requires the same run in every process."""
    if jax.process_count() == 1:
        return
    alike = {name: value for name, value in vars(options).items() if name not in OWN}
    alike |= {"checkpoint": options.checkpoint is None, "text": fingerprint(text)}
    digests = multihost_utils.process_allgather(np.stack([*map(_digest, alike.values())]))
    differ = (digests != digests[0]).any(-1)
    if differ.any():
        process = int(differ.any(-1).argmax())
        names = [name for name, other in zip(alike, differ[process], strict=True) if other]
        told = " and another ".join(f"--{name.replace('_', '-')}" for name in names)
        raise BadInputError(
            f"--process-id {process}: expected the text and the options of process 0, "
            f"got another {told}."
        )


def _digest(value: Any) -> ndarray:
    return np.frombuffer(hashlib.sha256(repr(value).encode()).digest(), np.uint32)


def check_shared(folder: Path) -> None:
    """Requires a folder, which is there, to be one and the same in every process."""
    if jax.process_count() == 1:
        return
    mark = folder / ".process_0"
    if jax.process_index() == 0:
        mark.touch()
    multihost_utils.sync_global_devices("marked")
    seen = multihost_utils.process_allgather(np.array(mark.exists()))
    mark.unlink(missing_ok=True)
    if not seen.all():
        raise BadInputError(
            f"--checkpoint {folder}: expected a folder that all processes see, got another one in "
            f"process {int(seen.argmin())}."
        )


class Stop:
    """Whether to stop, asked after every step: what a signal noted in any of the processes.

    Attributes:
        agreed: the last answer.
    """

    def __init__(self, noted: list[int]) -> None:
        self.noted, self.agreed, self.asked = noted, False, 0

    def __call__(self) -> bool:
        """Asks the other processes, where there are some, now and then."""
        self.asked += 1
        if jax.process_count() == 1:
            self.agreed = bool(self.noted)
        elif self.asked % ASKED_EVERY == 0:
            self.agreed = bool(multihost_utils.process_allgather(np.array(bool(self.noted))).any())
        return self.agreed
