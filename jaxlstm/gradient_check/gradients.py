"""``check_gradients``: one derivation of a function's derivative judged by another."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.gradient_check.call import Point, make_point
from jaxlstm.gradient_check.candidate import Candidate
from jaxlstm.gradient_check.explain import check_catalogue, explain
from jaxlstm.gradient_check.float64_self import narrowest_inside
from jaxlstm.gradient_check.hypotheses import Catalogue, Explanation
from jaxlstm.gradient_check.kinks import mark_kinks
from jaxlstm.gradient_check.one_dtype import CONSISTENCY, Settings, check_dtype
from jaxlstm.gradient_check.parts import Axes, Blocks
from jaxlstm.gradient_check.places import wrong_places
from jaxlstm.gradient_check.report import REVERSE, GradientReport, joined
from jaxlstm.gradient_check.witnesses import witness

MODES = ("forward mode", "second order")


@np.errstate(all="ignore")
def check_gradients(
    candidate: Callable[..., Any],
    reference: Callable[..., Any],
    args: Any,
    *,
    cotangents: Any = None,
    dtypes: Sequence[Any] = ("float64", "float32"),
    blocks: Blocks | None = None,
    axes: Axes | None = None,
    also: Sequence[str] = (*MODES, *CONSISTENCY, "witnesses"),
    hypotheses: Catalogue | None = None,
    names: tuple[str, str] = ("candidate", "reference"),
    jit: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Judges the candidate's derivative by the reference's, in units of what rounding alone does.

    For each dtype: the values; then, with each output's cotangent alone and with all together, the
    gradient of each floating argument, of each of its blocks and each index of its named axes.

    Args:
        candidate: the function whose derivative is under test.
        reference: the same function, its derivative trusted (left to JAX's autodiff).
        args: the positional arguments of both, a tuple of pytrees. Floating leaves are
            differentiated; integers, booleans and PRNG keys are handed on.
        cotangents: like the outputs; drawn from ``seed`` if None.
        dtypes: the working dtypes, which the floating leaves are rounded to.
        blocks: for a leaf's name (``params.bias``), its named blocks as indices.
        axes: for a leaf's name (``inputs``), its named axes by number.
        also: what else to compare, in the first dtype: "forward mode" and "second order" where
            defined, "jit against eager", "vmap against a loop", "repeated runs"; and, in float64,
            "witnesses" (central differences, the slope of the Taylor remainder, the adjoint
            identity).
        hypotheses: what may be wrong, to explain a failure by; made for these arguments.
        names: what to call candidate and reference.
        jit: whether the candidate can be traced; if not, a backward pass in NumPy is judged too.
        seed: of all that is drawn.
        progress: told what is compared next.

    Returns:
        The report. Whatever the candidate does wrong, raising included, stands in it.

    Raises:
        TypeError, ValueError: arguments that cannot be differentiated, names that do not exist,
            hypotheses about another function.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x**2
    >>> square.defvjp(lambda x: (x**2, x), lambda x, d_y: (x * d_y,))
    >>> report = check_gradients(square, lambda x: x**2, (jnp.array([1.0, -3.0]),))
    >>> print(report.failures[0].argument, report.failures[0].relative_error)
    x 0.5
    """
    settings = Settings(blocks or {}, axes or {}, names, jit, seed, progress)
    _check_also(also)
    dtypes = _checked_dtypes(dtypes)
    with jax.enable_x64(True):
        point = make_point(reference, args, cotangents, np.random.default_rng(seed))
    _check_names(settings, point)
    _check_parts(settings, point)
    if hypotheses is not None:
        check_catalogue(hypotheses, point)
    tested = Candidate(point.call.of(candidate), jit)
    report = joined(
        check_dtype(tested, point, settings, dtype, also if n == 0 else ())
        for n, dtype in enumerate(dtypes)
    )
    if "witnesses" in also and not report.mismatches:
        progress("witnesses")
        report = joined([report, witness(tested, point, names, seed)])
    report = mark_kinks(report, tested, point)
    wrong_in = [c.dtype for c in report.comparisons if c.criterion == REVERSE and c.passed is False]
    if not wrong_in or report.mismatches or not _has_float64_self(point):
        return report
    progress("the explanations")
    why = _explained(tested, point, settings, jnp.dtype(wrong_in[0]), hypotheses)
    return dataclasses.replace(report, explanations=why[0], places=why[1])


def _explained(
    tested: Candidate, point: Point, settings: Settings, dtype: Any, hypotheses: Catalogue | None
) -> tuple[tuple[Explanation, ...], tuple[str, ...]]:
    """The explanations and, where none reproduces the gradient, the places that are wrong."""
    where = tested, point, settings.blocks, settings.axes, dtype
    explanations = explain(hypotheses, *where) if hypotheses else []
    reproduced = any(explanation.reproduces for explanation in explanations)
    return tuple(explanations), () if reproduced else tuple(wrong_places(*where))


def _check_also(also: Sequence[str]) -> None:
    known = (*MODES, *CONSISTENCY, "witnesses")
    unknown = [name for name in also if name not in known]
    if unknown:
        raise ValueError(f"also: expected some of {', '.join(known)}; got {unknown[0]!r}.")


def _checked_dtypes(dtypes: Sequence[Any]) -> list[Any]:
    if isinstance(dtypes, str) or not len(dtypes):
        raise ValueError(f"dtypes: expected a list of floating dtypes, got {dtypes!r}.")
    return list(map(_checked_dtype, dtypes))


def _checked_dtype(given: Any) -> Any:
    try:
        dtype = jnp.dtype(given)
    except TypeError:
        raise ValueError(f"dtypes: expected floating dtypes, got {given!r}.") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtypes: expected floating dtypes, got {dtype.name}.")
    return dtype


def _has_float64_self(point: Point) -> bool:
    return narrowest_inside(point.call, point.floats, point.others, np.float64)[1] is None


def _check_parts(settings: Settings, point: Point) -> None:
    """Before anything is computed: blocks that can be taken, axes that are there."""
    leaves = zip(
        (*point.arguments, *point.outputs), (*point.floats, *point.cotangents), strict=True
    )
    for name, leaf in leaves:
        for block, index in settings.blocks.get(name, {}).items():
            try:
                leaf[index]
            except IndexError as error:
                raise ValueError(f"blocks: {block!r} of {name}: {error}.") from error
        for axis, number in settings.axes.get(name, {}).items():
            if not 0 <= number < leaf.ndim:
                raise ValueError(
                    f"axes: {axis!r} of {name}: expected 0 to {leaf.ndim - 1}, got {number}."
                )


def _check_names(settings: Settings, point: Point) -> None:
    for argument, given in (("blocks", settings.blocks), ("axes", settings.axes)):
        for name in given:
            if name not in (*point.arguments, *point.outputs):
                known = ", ".join((*point.arguments, *point.outputs))
                raise ValueError(f"{argument}: expected names among {known}; got {name!r}.")
