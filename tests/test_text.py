"""Text in numbers, and windows of it that a loop over characters tells the same."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm.tasks.corpora import shakespeare
from jaxlstm.tasks.text import (
    code_points,
    encode,
    held_out_windows,
    read_text,
    split,
    spread_window,
    stream_window,
    text_of,
)

LETTERS, POINTS = text_of("abcdefghijklmnopqrstuvwxyz")
ALPHABET = (POINTS, LETTERS)


def spelled(vocabulary, codes):
    """Codes [T, B] as B strings."""
    return ["".join(vocabulary[code] for code in stream) for stream in codes.T]


def in_streams(windows, vocabulary):
    """All characters and all targets of consecutive windows, a string for each stream."""
    characters = [spelled(vocabulary, window.characters) for window in windows]
    targets = [spelled(vocabulary, window.targets) for window in windows]
    return [list(map("".join, zip(*pieces, strict=True))) for pieces in (characters, targets)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("content", "dtype"),
    [
        ("plain\r\nASCII", "uint8"),
        ("Wörter", "uint8"),
        ("d∂ = é", "uint16"),
        ("zwölf Boxkämpfer, 𝄞 und\r\n∂mehr", "uint32"),
    ],
)
def test_a_file_is_mapped_whatever_the_chunk(tmp_path, content, dtype, chunk):
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode())
    vocabulary, points = read_text(path, chunk=chunk)
    assert list(vocabulary) == sorted(set(content))
    assert "".join(map(chr, points)) == content
    assert isinstance(points, np.memmap)
    assert points.dtype == dtype == text_of(content).points.dtype
    assert type(stream_window(points, vocabulary, 0, time=2, batch=2, seed=0).targets) is np.ndarray


def test_an_ascii_file_is_not_copied(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"abc")
    train, _ = split(read_text(path).points, held_out=0.3)
    with path.open("r+b") as file:
        file.write(b"c")
    assert bytes(train) == b"cb"


NOT_TEXTS = {
    b"": "expected a text, got an empty file.",
    b"ab\xff\xfe": "expected UTF-8 text, got byte 0xff at position 2.",
    "aé∂".encode()[:-1]: "expected UTF-8 text, got byte 0xe2 at position 3.",
    "∂∂".encode() + b"\xe2\x88a": "expected UTF-8 text, got byte 0xe2 at position 6.",
    b"\x7fELF\0": "expected a text, got a binary file: a NUL at position 4.",
}


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize(("content", "sentence"), NOT_TEXTS.items(), ids=str)
def test_what_is_no_text_is_told_in_a_sentence(tmp_path, content, sentence, chunk):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {sentence}')}$"):
        read_text(path, chunk=chunk)


def test_what_is_no_file_is_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="none: expected a text file, got: No such file"):
        read_text(tmp_path / "none")
    with pytest.raises(ValueError, match=": expected a text file, got: Is a directory"):
        read_text(tmp_path)
    reading, writing = os.pipe()
    with (
        os.fdopen(reading),
        os.fdopen(writing, "w"),
        pytest.raises(ValueError, match=r"expected a file that can be mapped .*, got a pipe"),
    ):
        read_text(Path(f"/dev/fd/{reading}"))


def test_codes_are_places_in_the_vocabulary():
    codes = encode("acé𝄞", code_points("ca𝄞éca").reshape(2, 3))
    assert codes.dtype == np.int32
    assert codes.tolist() == [[1, 0, 3], [2, 1, 0]]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("abAB", "'A', 'B'"),
        ("∂aé∂", "'é', '∂'"),
        ("\ud800", r"'\ud800'"),
        ("zyxwv", "'v', 'w', 'x', 'y', 'z'"),
        ("zyxwvu", "'u', 'v', 'w', 'x', 'y', …"),
    ],
)
def test_unseen_characters_are_named(content, named):
    sentence = f"text: expected only the 3 characters of the vocabulary, got {named}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        encode("abc", code_points(content))


@pytest.mark.parametrize(("held_out", "size"), [(0.1, 3), (0.0, 0), (0.5, 13)])
def test_the_end_is_held_out(held_out, size):
    train, rest = split(POINTS, held_out)
    assert (len(rest), [*train, *rest]) == (size, list(POINTS))
    assert np.shares_memory(train, POINTS)
    assert train.base is POINTS


@pytest.mark.parametrize("held_out", [-0.1, 1.0, float("nan")])
def test_all_of_a_text_cannot_be_held_out(held_out):
    with pytest.raises(ValueError, match=rf"expected a fraction in \[0, 1\), got {held_out}\."):
        split(POINTS, held_out)


@pytest.mark.parametrize(("time", "batch"), [(3, 2), (4, 3), (26, 1), (1, 26), (5, 5), (1, 1)])
def test_streams_go_on_until_the_epoch_ends(time, batch):
    def windows(epoch):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        return [stream_window(*ALPHABET, k, time=time, batch=batch, seed=3) for k in steps]

    stride = 26 // batch
    per_epoch = stride // time
    for epoch in range(4):
        found = windows(epoch)
        characters, targets = in_streams(found, LETTERS)
        offset = LETTERS.index(characters[0][0])
        circle = [LETTERS[(offset + k) % 26] for k in range(27)]
        for b in range(batch):
            last = b * stride + per_epoch * time
            assert characters[b] == "".join(circle[b * stride : last])
            assert targets[b] == "".join(circle[b * stride + 1 : last + 1])
        assert [window.first for window in found] == [True] + [False] * (per_epoch - 1)
        assert {array.dtype for window in found for array in window[:2]} == {np.dtype("int32")}


def test_a_window_is_a_function_of_step_and_seed():
    def begins(step, seed=0):
        window = stream_window(*ALPHABET, step, time=13, batch=2, seed=seed)
        return window.characters[0, 0].item()

    drawn = [begins(step) for step in range(200)]
    assert drawn == [begins(step) for step in range(200)]
    assert set(drawn) == set(range(26))
    assert drawn != [begins(step, seed=1) for step in range(200)]


@given(size=st.integers(2, 60), time=st.integers(1, 7), batch=st.integers(1, 9))
def test_every_held_out_target_is_met_once(size, time, batch):
    vocabulary, points = text_of("".join(map(chr, range(200, 200 + size))))
    windows = list(held_out_windows(points, vocabulary, time=time, batch=batch))
    assert {w.characters.shape for w in windows} == {w.targets.shape for w in windows}
    assert {w.targets.shape for w in windows} == {(time, batch)}
    met = []
    for b in range(batch):
        stream = [
            (window.characters[t, b], window.targets[t, b])
            for window in windows
            for t in range(window.lengths[b])
        ]
        lengths = [int(window.lengths[b]) for window in windows]
        assert lengths == sorted(lengths, reverse=True)
        assert set(lengths[: len(stream) // time]) <= {time}
        met += stream
    assert met == [(k, k + 1) for k in range(size - 1)]


@pytest.mark.parametrize(
    ("windows", "least"),
    [
        (lambda *text: stream_window(*text, 0, time=4, batch=3, seed=0), 12),
        (lambda *text: held_out_windows(*text, time=4, batch=3), 2),
        (lambda *text: spread_window(*text, time=4, batch=3), 5),
    ],
)
def test_a_text_too_short_is_told_in_a_sentence(windows, least):
    windows(POINTS[:least], LETTERS)
    short = POINTS[: least - 1]
    sentence = rf"text: expected at least {least} characters .*, got {least - 1}\."
    with pytest.raises(ValueError, match=sentence):
        windows(short, LETTERS)


def test_places_spread_over_the_text():
    window = spread_window(*ALPHABET, time=5, batch=3)
    assert spelled(LETTERS, window.characters) == ["abcde", "klmno", "uvwxy"]
    assert spelled(LETTERS, window.targets) == ["bcdef", "lmnop", "vwxyz"]


def test_the_plays_are_plain_text():
    vocabulary, points = shakespeare()
    content = points.astype("<u4").tobytes().decode("utf-32-le")
    assert content.startswith("A Midsummer Night's Dream\n\nACT I\n\nSCENE I. Athens.")
    assert "\nHAMLET\nTo be, or not to be: that is the question:\n" in content
    assert not set("*_#\\") & set(vocabulary)
    assert list(vocabulary) == sorted(set(content))
    assert 4_900_000 < len(points) < 5_100_000
