"""Imports point one way, and importing the library is light."""

import subprocess
import sys

from importlinter.cli import lint_imports


def test_imports_point_one_way():
    assert lint_imports(no_cache=True) == 0


def test_import_needs_jax_alone():
    heavy = ("rich", "optax", "matplotlib", "hypothesis", "beartype")
    program = f"import sys, jaxlstm; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
