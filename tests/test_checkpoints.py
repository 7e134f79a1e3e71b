"""Checkpoints: the same bits back, the last ones and the best kept, a damaged one refused."""

import dataclasses
import itertools
import os
import resource
import shutil

import jax
import numpy as np
import pytest
from drawing import assert_same_bits

from jaxlstm.tasks.text import text_of
from jaxlstm.training import TrainConfig, init_train_state
from jaxlstm.training.checkpoints import describe, load, open_checkpoints, save, steps_saved

TEXT = text_of("the quick brown fox jumps over the lazy dog")
CONFIG = TrainConfig(layers=1, hidden=4, embedding=3, batch=2, window=5)


def drawn(step, config=CONFIG):
    """A state with random leaves."""
    with jax.enable_x64(config.dtype == "float64"):
        state = init_train_state(config, len(TEXT.vocabulary))
        rng = np.random.default_rng(step)
        changed = jax.tree.map(
            lambda leaf: leaf + rng.standard_normal(leaf.shape).astype(leaf.dtype), state.params
        )
        return state._replace(step=np.int32(step), params=changed)


ORBAX_FAILS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Its tasks that fail are told of when they are collected, at some later time."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Six checkpoints written, the third the best."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with open_checkpoints(folder, keep=2) as manager:
        for step, held_out in enumerate((3.0, 2.5, 1.5, None, 2.0, 1.9)):
            save(manager, drawn(step), describe(CONFIG, TEXT), held_out)
    return folder


def test_the_last_ones_and_the_best_stay(saved):
    assert steps_saved(saved) == [2, 4, 5]
    assert [int(load(saved, step)[0].step) for step in ("latest", "best", 4)] == [5, 2, 4]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_every_bit_comes_back(tmp_path, dtype):
    config = dataclasses.replace(CONFIG, dtype=dtype)
    state = drawn(7, config)
    with open_checkpoints(tmp_path / "new") as manager:
        save(manager, state, describe(config, TEXT), None)
    found, about = load(tmp_path / "new")
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert_same_bits(found[:-1], state[:-1])
    assert jax.random.key_data(found.key).tolist() == jax.random.key_data(state.key).tolist()
    assert about == describe(config, TEXT)
    assert about != describe(config, text_of("another text"))


def files_of(folder, step):
    return sorted(p for p in (folder / str(step)).rglob("*") if p.stat().st_size and p.is_file())


@ORBAX_FAILS
def test_no_damage_goes_unseen(saved, tmp_path):
    """Each file of a checkpoint cut to half, or with a bit turned: the same bits, or a sentence."""
    (truth, about), told = load(saved), []
    for path, damage in zip(files_of(saved, 5), itertools.cycle([turned, halved])):
        copy = shutil.copytree(saved, tmp_path / "copy", dirs_exist_ok=True)
        (copy / path.relative_to(saved)).write_bytes(damage(path.read_bytes()))
        try:
            found = load(copy)
            assert_same_bits(found[0][:-1], truth[:-1])
            assert found[1] == about
        except ValueError as error:
            told.append(str(error))
    assert len(told) >= 4
    for sentence in told:
        assert "the checkpoint of step 5 is damaged" in sentence
        assert sentence.endswith("; before it stands step 4: --step 4.")
        assert "\n" not in sentence


def halved(content):
    return content[: len(content) // 2]


def turned(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@ORBAX_FAILS
def test_what_cannot_be_written_leaves_the_last_good_one(saved, tmp_path):
    """Files may not grow: what a full disk does."""
    folder = shutil.copytree(saved, tmp_path / "copy")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_checkpoints(folder, keep=2) as manager:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        try:
            with pytest.raises(
                ValueError, match=r"6 cannot be saved: .*; the last good one is step 5"
            ):
                save(manager, drawn(6), describe(CONFIG, TEXT), 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps_saved(folder) == [2, 4, 5]
    assert_same_bits(load(folder)[0][:-1], load(saved)[0][:-1])
    with open_checkpoints(folder, keep=2) as manager:
        save(manager, drawn(6), describe(CONFIG, TEXT), 1.0)
    assert int(load(folder, "best")[0].step) == 6


@pytest.mark.parametrize(
    ("step", "told"),
    [(3, r"expected one of the steps \[2, 4, 5\], got 3."), (-1, "got -1.")],
)
def test_steps_that_are_not_there(saved, step, told):
    with pytest.raises(ValueError, match=told):
        load(saved, step)


def test_folders_without_checkpoints(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="expected a folder with checkpoints, got none"):
            load(folder)
        assert steps_saved(folder) == []
    assert os.listdir(tmp_path) == []


@ORBAX_FAILS
def test_a_damaged_held_out_loss(saved, tmp_path):
    """Only what is chosen by it cannot be had."""
    folder = shutil.copytree(saved, tmp_path / "copy")
    (folder / "4" / "metrics" / "metrics").write_text("{")
    assert int(load(folder)[0].step) == 5
    for ask in (lambda: load(folder, "best"), lambda: open_checkpoints(folder).__enter__()):
        with pytest.raises(ValueError, match=r"the held-out loss of a checkpoint is damaged \("):
            ask()
