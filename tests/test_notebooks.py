"""Every notebook runs from top to bottom, keeps its outputs and stays small."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

TRAINS = "05_shakespeare"
"""It takes some hundred steps: what the compiler saves by trying less, these would lose."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    if path.stem == TRAINS:
        monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    NotebookClient(nbformat.read(path, as_version=4), timeout=300).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_its_outputs_and_is_small(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert path.stat().st_size < 300_000
    assert all(cell.execution_count for cell in code)
    assert all(cell.outputs for cell in code if re.search(r"^print\(", cell.source, re.MULTILINE))


def test_there_are_notebooks():
    assert "01_derivation" in [path.stem for path in NOTEBOOKS]
