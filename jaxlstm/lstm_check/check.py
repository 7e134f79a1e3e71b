"""The hand-written gradient, or a user's, under ``gradient_check``."""

import dataclasses
from collections.abc import Callable

from jaxlstm.gradient_check import GradientReport, check_gradients
from jaxlstm.lstm_check.catalogue import lstm_catalogue
from jaxlstm.lstm_check.problem import CheckConfig, Problem

HAND_WRITTEN = "hand-written VJP"
AUTODIFF = "autodiff of the plain scan"
MASKS = (
    "the candidate was called with drawn lengths and resets, and must honour them; a plain LSTM is "
    "checked without: CheckConfig(masks=False), or --no-masks of jaxlstm check."
)


def check_lstm(
    problem: Problem,
    config: CheckConfig,
    *,
    candidate: str = HAND_WRITTEN,
    progress: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Compares the problem's gradient with autodiff in every dtype, and with the witnesses.

    Args:
        problem: as drawn by ``draw_problem``.
        config: the one that it was drawn by.
        candidate: what to call the derivation under test.
        progress: told what is compared next.
    """
    report = check_gradients(
        problem.candidate,
        problem.reference,
        problem.args,
        cotangents=problem.cotangents,
        dtypes=config.dtypes,
        blocks=problem.blocks,
        axes=problem.axes,
        hypotheses=lstm_catalogue(config.time, config.activations) if not config.text else None,
        names=(candidate, AUTODIFF),
        seed=config.seed,
        progress=progress,
    )
    if config.masks and any(mismatch.kind == "values" for mismatch in report.mismatches):
        return dataclasses.replace(report, notes=(*report.notes, MASKS))
    return report
