"""The memory that one implementation takes, in a process of its own."""

import contextlib
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax

from jaxlstm.benchmark.peers import find_peers
from jaxlstm.benchmark.peers.peer import Shape, draw_workload

STATUS = Path("/proc/self/status")
"""Linux's own count; ``getrusage`` there carries over the parent's."""
FORGET = Path("/proc/self/clear_refs")
UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes, of what ``getrusage`` counts in."""


class Peak(NamedTuple):
    """The largest memory held at once.

    Attributes:
        process_bytes: by the whole process while the program ran, libraries and arguments included.
        added_bytes: of these, beyond what it held before, all compiled: results and temporaries.
        device_bytes: on the accelerator since the process began, where JAX counts it.
    """

    process_bytes: int
    added_bytes: int
    device_bytes: int | None


def peak_memory(name: str, task: str, shape: Shape, dtype: str) -> Peak | None:
    """Runs a peer's task twice in a new process; None where that was killed, or raised."""
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), **quiet) as pool:
        try:
            return pool.submit(_measure, name, task, shape, dtype).result()
        except Exception:  # killed, out of memory, or whatever a library raises
            return None


def _measure(name: str, task: str, shape: Shape, dtype: str) -> Peak:
    with jax.enable_x64(dtype == "float64"):
        program = find_peers([name])[0][name].prepare(task, draw_workload(shape, dtype)).program
        _forget_peak()
        before = _peak()
        for _ in range(2):
            program.wait(program.start())
        after = _peak()
        counted = jax.local_devices()[0].memory_stats() or {}
    return Peak(after, after - before, counted.get("peak_bytes_in_use"))


def _peak() -> int:
    """Of the resident memory, since the process began or the peak was last forgotten."""
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    import resource  # which not every system has

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def _forget_peak() -> None:
    """Linux counts afresh from here; elsewhere the compiler's own peak may hide the program's."""
    with contextlib.suppress(OSError):
        FORGET.write_text("5")
