"""Text into characters and windows."""

import numpy as np

from jaxlstm.tasks.text import read_text, windows


def test_codes_spell_the_text(tmp_path):
    content = "zwölf Boxkämpfer, 𝄞 und\r\nmehr"
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode())
    text = read_text(path)
    assert "".join(text.vocabulary[code] for code in text.codes) == content
    assert list(text.vocabulary) == sorted(set(content))


def test_windows_spread_over_the_text_and_targets_follow(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcdefghijklmnopqrstuvwxyz")
    characters, targets = windows(read_text(path), time=5, batch=3)
    np.testing.assert_array_equal(characters[:, 0], range(5))
    np.testing.assert_array_equal(targets[:, 2], range(21, 26))
    np.testing.assert_array_equal(characters[1:], targets[:-1])


def test_one_window_takes_the_whole_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abc")
    characters, targets = windows(read_text(path), time=2, batch=2)
    np.testing.assert_array_equal(characters, [[0, 0], [1, 1]])
    np.testing.assert_array_equal(targets, [[1, 1], [2, 2]])
