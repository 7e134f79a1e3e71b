"""What ``jaxlstm flow`` found, in numbers: medians over the sequences, and all of it as JSON."""

from typing import Any

import numpy as np

from jaxlstm.cli.flow.measures import Found
from jaxlstm.gradient_flow import Spectrum


def median(of_sequences: Any) -> np.ndarray:
    """Over the batch, the second axis."""
    return np.median(of_sequences, axis=1)


def exponents(spectrum: Spectrum) -> np.ndarray:
    """The medians over the batch."""
    return np.median(spectrum.exponents, axis=0)


def as_json(found: Found) -> dict[str, Any]:
    """Everything printed, and the curves, at 0, 1, ..., T steps back."""
    layers = []
    for flow, curves, advised in zip(
        found.report.layers, found.curves, found.advice.layers, strict=True
    ):
        by_distance = {name: x for name, x in curves._asdict().items() if name != "survival"}
        numbers = by_distance | {"exponents": exponents(flow.spectrum)} | advised._asdict()
        layers.append({name: plain(value) for name, value in numbers.items()})
    rnn = {"hidden": median(found.rnn.hidden)[::-1], "exponents": exponents(found.rnn.spectrum)}
    norm, mean, largest = found.clipping
    return {
        "layers": layers,
        "rnn": {name: plain(value) for name, value in rnn.items()},
        "clipping": {
            "norm": plain(norm),
            "mean": {name: plain(value) for name, value in mean._asdict().items()},
            "largest": {name: plain(value) for name, value in largest._asdict().items()},
        },
        "advice": found.advice.lines,
    }


def plain(values: Any) -> Any:
    """Numbers, or lists of them, with None in place of what JSON has no number for."""
    numbers = np.asarray(values, np.float64)
    plain = numbers.astype(object)
    plain[~np.isfinite(numbers)] = None
    return plain.tolist()
