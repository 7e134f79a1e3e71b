"""Text as characters in numbers, and windows of it to train and evaluate on."""

import codecs
import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int32, Integer, UInt, UInt32
from numpy import ndarray

from jaxlstm.validation import check_size

NAMED = 5
"""Characters at most that an error names."""


class Text(NamedTuple):
    """A text in numbers.

    Attributes:
        vocabulary: its distinct characters, sorted.
        points: [N], the code point of each character, in the smallest unsigned type that holds all.
    """

    vocabulary: str
    points: UInt[ndarray, " N"]


class Window(NamedTuple):
    """T characters of B streams, and the character that follows each.

    Attributes:
        characters: int32 [T, B], places in the vocabulary.
        targets: int32 [T, B], the next characters.
        first: whether the streams start anew here, else they go on from the window before.
    """

    characters: Int32[ndarray, "time batch"]
    targets: Int32[ndarray, "time batch"]
    first: bool


class HeldOutWindow(NamedTuple):
    """T characters of B streams that may end within.

    Attributes:
        characters: int32 [T, B], places in the vocabulary; any past the lengths.
        targets: int32 [T, B], the next characters; any past the lengths.
        lengths: int32 [B], from 0 to T.
    """

    characters: Int32[ndarray, "time batch"]
    targets: Int32[ndarray, "time batch"]
    lengths: Int32[ndarray, " batch"]


def text_of(content: str) -> Text:
    """A string as a text in memory.

    >>> text_of("banana")
    Text(vocabulary='abn', points=array([ 98,  97, 110,  97, 110,  97], dtype=uint8))
    """
    vocabulary = "".join(sorted(set(content)))
    return Text(vocabulary, code_points(content).astype(_points_type(vocabulary)))


def read_text(path: Path, *, chunk: int = 2**20) -> Text:
    """Maps a UTF-8 file into memory; it must stay as it is while the text is in use.

    An ASCII file is mapped itself. Of any other the code points are written to a temporary file,
    and that is mapped: one, two or four bytes for each character.

    Args:
        path: the file.
        chunk: bytes that are read at a time.

    Raises:
        ValueError: a file that is missing, empty, a pipe, not UTF-8, or binary.
    """
    try:
        with path.open("rb") as file:
            return _mapped_text(file, chunk)
    except OSError as error:
        raise ValueError(f"{path}: expected a text file, got: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def code_points(content: str) -> UInt32[ndarray, " N"]:
    """The number of each character in Unicode."""
    return np.frombuffer(content.encode("utf-32-le", "surrogatepass"), np.uint32)


def encode(
    vocabulary: str, points: Integer[ndarray, "..."], *, name: str = "text"
) -> Int32[ndarray, "..."]:
    """The places of characters in a sorted vocabulary, in the shape of their code points.

    Raises:
        ValueError: a character that the vocabulary lacks.

    >>> encode("abn", code_points("banana"))
    array([1, 0, 2, 0, 2, 0], dtype=int32)
    """
    known = code_points(vocabulary)
    codes = np.searchsorted(known, points)
    unseen = known.take(codes, mode="clip") != points
    if unseen.any():
        distinct = np.unique(points[unseen])
        named = ", ".join(repr(chr(point)) for point in distinct[:NAMED])
        more = ", …" if len(distinct) > NAMED else ""
        raise ValueError(
            f"{name}: expected only the {len(known)} characters of the vocabulary, "
            f"got {named}{more}."
        )
    return codes.astype(np.int32)


def fingerprint(text: Text) -> str:
    """A digest of its characters."""
    return hashlib.sha256(text.points.data).hexdigest()


def split(
    points: UInt[ndarray, " N"], held_out: float = 0.1
) -> tuple[UInt[ndarray, " train"], UInt[ndarray, " rest"]]:
    """Two views: the beginning to train on, and the rest, a fraction ``held_out``, to evaluate on.

    Raises:
        ValueError: a fraction below 0, or not below 1.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected a fraction in [0, 1), got {held_out}.")
    size = len(points) - round(held_out * len(points))
    return points[:size], points[size:]


def stream_window(
    points: UInt[ndarray, " N"],
    vocabulary: str,
    step: int,
    *,
    time: int,
    batch: int,
    seed: int,
    rows: slice = slice(None),
) -> Window:
    """The window of a training step, a pure function of the step: a resumed run finds its place.

    A text is read in ``batch`` streams of N // batch characters, ``time`` at each step, so that a
    state can be carried from one window to the next (truncated BPTT). After an epoch of
    N // batch // time windows they start anew. An epoch takes the text as a circle, and begins at
    a place of its own, drawn from ``seed``. Only the streams in ``rows`` are read.

    Raises:
        ValueError: a text too short for one window, an unseen character, a negative step or seed.
    """
    check_size("time", time)
    check_size("batch", batch)
    stride = len(points) // batch
    if stride < time:
        raise ValueError(
            f"text: expected at least {time * batch} characters to train on, for a window of "
            f"{time} in streams of {batch}, got {len(points)}."
        )
    epoch, window = divmod(step, stride // time)
    offset = np.random.default_rng([seed, epoch]).integers(len(points))
    starts = offset + window * time + stride * np.arange(batch)[rows]
    return Window(*_characters_and_targets(points, vocabulary, starts, time), first=window == 0)


def held_out_windows(
    points: UInt[ndarray, " N"],
    vocabulary: str,
    *,
    time: int,
    batch: int,
    rows: slice = slice(None),
) -> Iterator[HeldOutWindow]:
    """Windows of ``batch`` streams, one after the other, that hold each of N - 1 targets once.

    Each stream goes on from one window to the next; their sizes differ by one at most. Only the
    streams in ``rows`` are read.

    Raises:
        ValueError: a text of fewer than two characters, an unseen character.
    """
    check_size("time", time)
    check_size("batch", batch)
    if len(points) < 2:
        raise ValueError(f"text: expected at least 2 characters to evaluate on, got {len(points)}.")
    edges = np.arange(batch + 1) * (len(points) - 1) // batch
    sizes = np.diff(edges)
    return (
        HeldOutWindow(
            *_characters_and_targets(points, vocabulary, edges[:-1][rows] + done, time),
            lengths=np.clip(sizes[rows] - done, 0, time).astype(np.int32),
        )
        for done in range(0, sizes.max(), time)
    )


def spread_window(points: UInt[ndarray, " N"], vocabulary: str, *, time: int, batch: int) -> Window:
    """A window from ``batch`` places spread over the text; they overlap where it is short.

    Raises:
        ValueError: a text shorter than one sequence and its last target.
    """
    last = len(points) - time - 1
    if last < 0:
        raise ValueError(
            f"text: expected at least {time + 1} characters for a sequence of {time}, "
            f"got {len(points)}."
        )
    starts = np.linspace(0, last, batch).astype(int)
    return Window(*_characters_and_targets(points, vocabulary, starts, time), first=True)


def _characters_and_targets(
    points: ndarray, vocabulary: str, starts: ndarray, time: int
) -> tuple[ndarray, ndarray]:
    """Codes [T, B] from each start on, and those one place further; the text is a circle."""
    places = starts + np.arange(time + 1)[:, None]
    codes = encode(vocabulary, np.asarray(points).take(places, mode="wrap"))
    return codes[:-1], codes[1:]


def _mapped_text(file: BinaryIO, chunk: int) -> Text:
    if not file.seekable():
        raise ValueError("expected a file that can be mapped into memory, got a pipe.")
    distinct: set[str] = set()
    for content in _decoded(file, chunk):
        distinct.update(content)
    if not distinct:
        raise ValueError("expected a text, got an empty file.")
    vocabulary = "".join(sorted(distinct))
    return Text(vocabulary, _mapped_points(file, vocabulary, chunk))


def _mapped_points(file: BinaryIO, vocabulary: str, chunk: int) -> ndarray:
    """The file itself where it is ASCII, else its code points in a file without a name."""
    dtype = _points_type(vocabulary)
    if vocabulary.isascii():
        return np.memmap(file, dtype, "r")
    with TemporaryFile() as copy:
        for content in _decoded(file, chunk):
            copy.write(code_points(content).astype(dtype).data)
        copy.flush()
        return np.memmap(copy, dtype, "r")


def _points_type(vocabulary: str) -> np.dtype:
    return np.min_scalar_type(max(map(ord, vocabulary), default=0))


def _decoded(file: BinaryIO, chunk: int) -> Iterator[str]:
    """The characters of a UTF-8 file from its beginning, some at a time."""
    decoder, end = codecs.getincrementaldecoder("utf-8")(), 0
    file.seek(0)
    for piece in chain(iter(partial(file.read, chunk), b""), [b""]):
        if b"\0" in piece:
            place = end + piece.index(b"\0")
            raise ValueError(f"expected a text, got a binary file: a NUL at position {place}.")
        end += len(piece)
        try:
            content = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            place = end - len(error.object) + error.start
            wrong = f"byte 0x{error.object[error.start]:02x} at position {place}"
            raise ValueError(f"expected UTF-8 text, got {wrong}.") from error
        yield content
