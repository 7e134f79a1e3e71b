"""Functions run one primitive at a time: to watch a value, to replace it, to round it.

A function is traced to its primitives, the jits within it opened; ``interpret`` then runs them and
lets a visitor see and replace every value before anything uses it. ``interpret_rounding`` is one
such visitor: it rounds every result at random, so that a few runs tell what rounding alone does.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.typing import DTypeLike

Visitor = Callable[[Var, Any, JaxprEqn | None], Any]
"""``visit(variable, value, equation) -> value``, what to go on with; no equation: an argument."""

EXACT = frozenset(
    {"broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice", "gather"}
    | {"neg", "pad", "reshape", "rev", "select_n", "slice", "split", "squeeze", "transpose"}
)
"""Primitives that move values about and round nothing."""


def trace(function: Callable[..., Any], *arguments: Any) -> ClosedJaxpr:
    """The primitives of ``function`` at arguments or shapes, with the jits within it opened."""
    with jax.disable_jit():
        return jax.make_jaxpr(function)(*arguments)


def interpret(closed: ClosedJaxpr, arguments: Sequence[Any], visit: Visitor) -> list[Any]:
    """Runs the primitives in order, each value replaced by what ``visit`` makes of it.

    Args:
        closed: the primitives, from ``trace``.
        arguments: the leaves of the function's arguments.
        visit: called with every argument, then with every result as soon as it is there.

    Returns:
        The leaves of the function's outputs.
    """
    jaxpr = closed.jaxpr
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for variable, argument in zip(jaxpr.invars, arguments, strict=True):
        values[variable] = visit(variable, argument, None)
    for equation in jaxpr.eqns:
        primitive = equation.primitive
        parameters = primitive.get_bind_params(equation.params)
        results = primitive.bind(*map(read, equation.invars), **parameters)
        results = results if primitive.multiple_results else [results]
        for variable, result in zip(equation.outvars, results, strict=True):
            values[variable] = visit(variable, result, equation)
    return [read(atom) for atom in jaxpr.outvars]


class Rounding(NamedTuple):
    """How far a dtype's rounding takes a number: at most ``relative`` of it, or ``smallest``."""

    relative: float
    smallest: float


def rounding_of(dtype: DTypeLike) -> Rounding:
    """The rounding of a dtype; of float64, in which all is computed, twice as much.

    The smallest number is a normal one, since XLA flushes the others to zero, but for float16.
    """
    limits, name = jnp.finfo(dtype), jnp.dtype(dtype).name
    relative = float(limits.eps) / (1 if name == "float64" else 2)
    return Rounding(
        relative, float(limits.smallest_subnormal if name == "float16" else limits.tiny)
    )


def interpret_rounding(
    closed: ClosedJaxpr, arguments: Sequence[Any], rounding: Rounding, salt: Any
) -> list[Any]:
    """Runs the primitives in float64, every argument and result rounded at random.

    Each entry moves up or down by the rounding; zeros stay. Which way depends on the entry, the
    primitive and the salt.

    Args:
        closed: the primitives, from ``trace``, in float64.
        arguments: the leaves of the function's arguments.
        rounding: how far.
        salt: a uint64, drawn.
    """
    relative, smallest = rounding
    order = iter(range(1 << 30))

    def visit(_: Var, value: Any, equation: JaxprEqn | None) -> Any:
        exact = equation is not None and equation.primitive.name in EXACT
        if exact or jnp.asarray(value).dtype != jnp.float64:
            return value
        up = _coin(value, salt ^ jnp.uint64(next(order) * 0x2545F4914F6CDD1D % (1 << 64)))
        size = jnp.where(value == 0, 0.0, jnp.maximum(relative * abs(value), smallest))
        return value + jnp.where(up, size, -size)

    return interpret(closed, arguments, visit)


def _coin(value: Any, salt: Any) -> Any:
    """A fair coin for each float64 entry, by its bits and the salt."""
    bits = jax.lax.bitcast_convert_type(value, jnp.uint64) ^ salt
    bits = bits * jnp.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> jnp.uint64(32))) * jnp.uint64(0xD6E8FEB86659FD93)
    return (bits >> jnp.uint64(63)).astype(bool)
