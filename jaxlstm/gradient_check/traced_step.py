"""A backward step under test, traced, and run with true cotangents in place of its own.

The step is an ordinary function with local variables. Among its traced primitives the variables
that it returns under the cotangents' names are known; each is recorded once it is computed, and
whatever uses it from then on gets the truth.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from jaxlstm.gradient_check.call import first_line, place_of
from jaxlstm.gradient_check.comparison import Mismatch
from jaxlstm.gradient_check.interpreter import interpret, trace

MAX_READINGS = 16

Shapes = Mapping[str, jax.ShapeDtypeStruct]

Step = Callable[[Any], Mapping[str, Any]]
"""``step(q) -> {"d_" + name: cotangent}``, ``q`` the ``Quantities`` of one time step."""


class Quantities:
    """The true quantities of one time step, as attributes or by index: ``q.h`` or ``q["h"]``."""

    def __init__(self, known: Mapping[str, Any]):
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no {name!r} among {', '.join(self)}")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)


@dataclasses.dataclass(frozen=True)
class TracedStep:
    """A backward step's primitives, and which variables it returns under which names.

    Two are equal, and share a compilation, when their primitives read the same.

    Attributes:
        text: the primitives, as text.
        names: of the returned cotangents, in the order of the outputs.
        judged: those of them that fit, sorted.
        closed: the primitives.
        groups: for each returned variable the fitting names that it is returned under, whose truth
            may take its place; where it is an argument also None, for its own value.
    """

    text: str
    names: tuple[str, ...]
    judged: tuple[str, ...]
    closed: ClosedJaxpr = dataclasses.field(compare=False)
    groups: dict[Var, list[str | None]] = dataclasses.field(compare=False)

    def readings(self) -> list[tuple[str | None, ...]]:
        """For each group, whose truth to substitute.

        One reading, unless a variable has several names: then nothing tells which of them a later
        line means by it.
        """
        options = list(self.groups.values())
        if math.prod(map(len, options)) <= MAX_READINGS:
            return list(itertools.product(*options))
        longest = max(map(len, options))
        return [tuple(names[min(k, len(names) - 1)] for names in options) for k in range(longest)]

    def run(self, quantities: dict[str, Any], substitutes: list[Any]) -> dict[str, Any]:
        """The judged cotangents of one time step, each as the step computes it from true ones.

        Args:
            quantities: the true ones, by name.
            substitutes: for each group the truth, or None to leave the variable as it is.
        """
        truths = dict(zip(self.groups, substitutes, strict=True))
        own: dict[Var, Any] = {}

        def visit(variable: Var, value: Any, _: JaxprEqn | None) -> Any:
            if truths.get(variable) is None:
                return value
            own[variable] = value
            return truths[variable].astype(value.dtype)

        outputs = interpret(self.closed, jax.tree.leaves(quantities), visit)
        returned = zip(self.names, self.closed.jaxpr.outvars, outputs, strict=True)
        return {
            name: jnp.asarray(output if isinstance(atom, Literal) else own.get(atom, output))
            for name, atom, output in returned
            if name in self.judged
        }


@partial(jax.jit, static_argnums=0)
def run_steps(step: TracedStep, params: Any, values: Any, substitutes: Any) -> dict[str, Any]:
    """The judged cotangents of many steps; values and substitutes are [t, ...]."""

    def run(values: Any, substitutes: Any) -> dict[str, Any]:
        return step.run({**params, **values}, substitutes)

    return jax.vmap(run)(values, substitutes)


def trace_step(
    step: Step, known: Shapes, expected: Shapes, dtype: str
) -> tuple[TracedStep | None, list[Mismatch]]:
    """Traces the step, and tells what about it does not fit.

    Args:
        step: the step under test.
        known: the quantities that it may read.
        expected: the cotangents that it may return.
        dtype: of all of these, by name.

    Returns:
        None where nothing can be judged.
    """
    screened: list[_Screened] = []

    def arrays(quantities: dict[str, Any]) -> dict[str, Any]:
        returned = step(Quantities({name: quantities[name] for name in known}))
        screened.append(_screen(returned, expected, dtype))
        return screened[-1].arrays

    try:
        closed = trace(arrays, dict(known))
    except Exception as error:
        return None, [Mismatch("raises", dtype, raised(error))]
    found = screened[-1]
    mismatches = list(found.mismatches)
    names = tuple(sorted(found.arrays))
    variables = dict(zip(names, closed.jaxpr.outvars, strict=True))
    groups = _groups(closed, variables, [name for name in expected if name in found.fitting])
    spoilt = _spoilt(closed, groups)
    unjudged = [name for name in found.judged if _is_variable(variables[name], spoilt)]
    for name in unjudged:
        words = f"{name}: not judged, since it uses a cotangent of the wrong shape."
        mismatches.append(Mismatch("shape", dtype, words))
    judged = tuple(sorted(set(found.judged) - set(unjudged)))
    traced = TracedStep(_text(closed), names, judged, closed, groups)
    return traced if judged else None, mismatches


def _text(closed: ClosedJaxpr) -> str:
    """The primitives as text, with the constants that they read."""
    constants = [(np.shape(c), np.asarray(c).dtype, np.asarray(c).tobytes()) for c in closed.consts]
    return f"{closed.jaxpr} {constants}"


def raised(error: Exception) -> str:
    """What the step raised, in words."""
    return f"the backward step raised {first_line(error)}{place_of(error)}"


class _Screened(NamedTuple):
    """What a step returned: its arrays, those of the right shape, those of the right dtype too."""

    arrays: dict[str, Any]
    fitting: list[str]
    judged: list[str]
    mismatches: list[Mismatch]


def _screen(returned: Any, expected: Shapes, dtype: str) -> _Screened:
    """Sorts what a step returned."""
    if not isinstance(returned, Mapping):
        words = f"expected a dict of cotangents by name, got {type(returned).__name__}."
        return _Screened({}, [], [], [Mismatch("structure", dtype, words)])
    if not returned:
        words = f"expected cotangents by name, such as {list(expected)[-1]}, got an empty dict."
        return _Screened({}, [], [], [Mismatch("structure", dtype, words)])
    screened = _Screened({}, [], [], [])
    for name, value in returned.items():
        fault = _fault(name, value, expected, dtype)
        if fault is not None:
            screened.mismatches.append(Mismatch(fault[0], dtype, fault[1]))
        if fault is None or fault[0] != "structure":
            screened.arrays[name] = value
        if fault is None or fault[0] == "dtype":
            screened.fitting.append(name)
        if fault is None:
            screened.judged.append(name)
    return screened


def _fault(name: Any, value: Any, expected: Shapes, dtype: str) -> tuple[str, str] | None:
    """What kind of mismatch a returned cotangent is, in words; None if it fits."""
    if name not in expected:
        return "structure", f"{name!r} is not among {', '.join(expected)}."
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, bool, int, float)):
        return "structure", f"{name}: expected an array, got {type(value).__name__}."
    shape, came = expected[name].shape, jnp.result_type(value).name
    if np.shape(value) != shape:
        words = f"expected shape {list(shape)}, got {list(np.shape(value))}."
        return "shape", f"{name}: {words}"
    return None if came == dtype else ("dtype", f"{name}: expected {dtype}, got {came}.")


def _groups(
    closed: ClosedJaxpr, variables: dict[str, Any], fitting: list[str]
) -> dict[Var, list[str | None]]:
    """For each returned variable, the fitting names that it is returned under."""
    groups: dict[Var, list[str | None]] = {}
    for name in fitting:
        if not isinstance(variables[name], Literal):
            groups.setdefault(variables[name], []).append(name)
    for argument in closed.jaxpr.invars:
        if argument in groups:
            groups[argument].append(None)
    return groups


def _spoilt(closed: ClosedJaxpr, groups: dict[Var, list[str | None]]) -> set[Var]:
    """What is computed from a returned variable of the wrong shape, which no truth can replace.

    It goes as far as a variable that the truth does replace.
    """
    jaxpr = closed.jaxpr
    faithful = {*jaxpr.invars, *groups}
    sources = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)} - faithful
    spoilt: set[Var] = set()
    for equation in jaxpr.eqns:
        if any(_is_variable(atom, sources | spoilt - faithful) for atom in equation.invars):
            spoilt.update(equation.outvars)
    return spoilt


def _is_variable(atom: Any, variables: set[Var]) -> bool:
    return not isinstance(atom, Literal) and atom in variables
