"""Document 000: what its sketches in 5.2 and 6.2 claim of one path among many.

The paths by cells and by output gates, with all others vanishing and with all others at work.
"""

from collections.abc import Callable, Iterable
from functools import partial

from jaxlstm.sources import resting
from jaxlstm.sources.document_000.generic import entry
from jaxlstm.sources.document_000.system import Draw, forward
from jaxlstm.sources.ledger import Entry, Verdict

Path = Callable[..., tuple[float, float]]

CELLS = r"\|d(o_t) d(\sigma'(s_t)) D\| \not\to 0"
OUTPUTS = r"\|\prod_{j=k+1}^t d(\sigma(s_j)) d(o'_j) W_o\| \to \infty"
ALONE = 2.0**-resting.STEPS
"""The others' share at which they have vanished."""
TRIANGLE = "The triangle inequality, true of any sum."


def claim_entries() -> Iterable[Entry]:
    """One path that does not vanish, one that explodes, and the exploding sum."""
    whole = r"\Rightarrow \|\partial h_t/\partial s_k\| \not\to 0"
    readings: tuple[tuple[str, float, Verdict, str], ...] = (
        ("the other paths vanish in sum", ALONE, "holds", TRIANGLE),
        (
            "whatever the other paths do",
            1.0,
            "fails",
            "Paths may cancel: those by o_t can undo the one by cells, with every f_j = 0.999.",
        ),
    )
    for reading in readings:
        yield _claim("one path flows", f"{CELLS} {whole}", resting.cell_path, *reading)
    whole = r"\Rightarrow \|\partial h_t/\partial h_k\| \to \infty"
    readings = (
        ("the other paths stay bounded in sum", ALONE, "holds", TRIANGLE),
        (
            "whatever the other paths do",
            1.0,
            "fails",
            "Paths may cancel: those by i_t can undo the one by o_t, 2^n along it and 0 in sum.",
        ),
    )
    for reading in readings:
        yield _claim("one path explodes", f"{OUTPUTS} {whole}", resting.output_path, *reading)
    yield entry(
        "explosion",
        r"\exists W_o: \|\partial h_t/\partial h_k\| \ge 10^6, t - k = 41",
        printed=partial(_exploded, resting.output_path, ALONE),
        truth=None,
        kind="claim",
        reading="for some W_o, all paths together",
    )


def _claim(
    label: str, statement: str, path: Path, reading: str, share: float, verdict: Verdict, note: str
) -> Entry:
    return entry(
        label,
        statement,
        printed=partial(_not_undone, path, share),
        truth=None,
        kind="claim",
        reading=reading,
        verdict=verdict,
        note=note,
    )


def _not_undone(path: Path, share: float, q: Draw) -> tuple[float, float]:
    """A millionth of the one path, and all together."""
    one, whole = _norms(path, share, q)
    return resting.SMALL * one, whole


def _exploded(path: Path, share: float, q: Draw) -> tuple[float, float]:
    """A million, and all paths together."""
    return 1 / resting.SMALL, _norms(path, share, q)[1]


def _norms(path: Path, share: float, q: Draw) -> tuple[float, float]:
    """The one path's norm and that of all, with the draw's input and without biases."""
    params = {A: 0 * value if A[0] == "b" else value for A, value in q.params.items()}
    return path(forward, params, q.x[-1], share)
