"""Eight host devices, strict dtype promotion, and shapes and dtypes checked in every call.

Much of the suite's time is XLA's, compiling what runs once: it is told to try less, in the
notebooks and the command line's own processes too. ``compiled_as_for_users`` takes that back.
"""

import os
import subprocess
import sys

import pytest

DEVICES = "--xla_force_host_platform_device_count=8"
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def is_known(flags: str) -> bool:
    """Whether this version of XLA takes the flags, for it aborts at one that it does not know."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}).returncode


if DEVICES not in os.environ.get("XLA_FLAGS", ""):  # a worker has its parent's
    flags = f"{QUICK} {DEVICES}" if is_known(QUICK) else DEVICES
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import checking_types

checking_types.install("jaxlstm")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items):
    """The notebooks first: one that began last would keep one worker busy and the other idle."""
    items.sort(key=lambda item: "test_notebook_runs" not in item.name)


@pytest.fixture(autouse=True, scope="module")
def nothing_compiled_stays():
    """A process may map so many pieces of memory; every compiled program takes some of them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_as_for_users():
    """What the module compiles is optimized: rounding is its subject, or it runs long."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
