"""What half precision does to the gradient, beside the exact one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from numpy import ndarray

from jaxlstm.gradient_check.call import Call, Point, make_point
from jaxlstm.gradient_check.modes import derive, in_float64, reverse
from jaxlstm.gradient_check.rounding import relative_error
from jaxlstm.lstm_check.problem import CheckConfig, draw_problem

BY_HAND = "by hand"
LIMIT = 8
"""The largest error that passes, in units of the precision's eps."""


def gradient_errors(config: CheckConfig, lstm: Any = None) -> dict[str, dict[str, float]]:
    """Relative errors of the gradient in ``config.precision``, by the way and by the argument.

    Against autodiff of the plain scan in float64, at the same numbers: ``lstm`` in float32; with
    its products in that precision, by hand and by autodiff; with all arguments in it.

    Args:
        config: with a precision.
        lstm: one whose products are rounded, in place of ``lstm`` by hand.

    >>> errors = gradient_errors(CheckConfig(4, 2, 2, 3, precision="float16"))
    >>> [1e-5 < of["inputs"] < 1e-2 for of in errors.values()]
    [False, True, True, True]
    """
    exact = draw_problem(dataclasses.replace(config, precision=None))
    rounded = draw_problem(config, lstm)
    with jax.enable_x64(True):
        point = make_point(exact.reference, exact.args, exact.cotangents)
        single = point.rounded(jnp.float32)
        truth = _gradient(point.call, single.rounded(jnp.float64))
    half = single.rounded(jnp.dtype(config.precision))
    found = {
        "float32": _gradient(point.call.of(exact.candidate), single),
        BY_HAND: _gradient(point.call.of(rounded.candidate), single),
        "by autodiff": _gradient(point.call.of(rounded.reference), single),
        f"all {config.precision}": _gradient(point.call.of(exact.candidate), half),
    }
    return {
        way: dict(zip(point.arguments, map(relative_error, gradient, truth), strict=True))
        for way, gradient in found.items()
    }


def precise_enough(errors: dict[str, dict[str, float]], config: CheckConfig) -> bool:
    """Whether no argument's gradient by hand is off by more than rounding its products explains."""
    return max(errors[BY_HAND].values()) <= LIMIT * float(jnp.finfo(config.precision).eps)


def _gradient(call: Call, point: Point) -> list[ndarray]:
    return in_float64(derive(reverse, call, point.floats, point.others, point.cotangents))
