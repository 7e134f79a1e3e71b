"""Text as sequences of characters."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray


class Text(NamedTuple):
    """A text in numbers.

    Attributes:
        vocabulary: its distinct characters, sorted.
        codes: int32 [N], for each character its place in the vocabulary.
    """

    vocabulary: str
    codes: Int[ndarray, " N"]


def read_text(path: Path) -> Text:
    """Reads a UTF-8 file.

    Raises:
        ValueError: a file that is missing, empty, or not UTF-8.
    """
    try:
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: expected a text file, got: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ValueError(f"{path}: expected UTF-8 text, got {wrong}.") from error
    if not content:
        raise ValueError(f"{path}: expected a text, got an empty file.")
    points = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    distinct, codes = np.unique(points, return_inverse=True)
    return Text("".join(map(chr, distinct)), codes.astype(np.int32))


def windows(
    text: Text, time: int, batch: int
) -> tuple[Int[ndarray, "time batch"], Int[ndarray, "time batch"]]:
    """Characters [T, B] and the characters after them, from ``batch`` places spread over the text.

    Raises:
        ValueError: a text shorter than one sequence and its last target.
    """
    size = len(text.codes)
    if size < time + 1:
        raise ValueError(
            f"text: expected at least {time + 1} characters for a sequence of {time}, got {size}."
        )
    starts = np.linspace(0, size - time - 1, batch).astype(int)
    places = starts + np.arange(time)[:, None]
    return text.codes[places], text.codes[places + 1]
