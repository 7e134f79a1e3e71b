"""Functions whose derivative is written by hand for both modes: tangents forward, cotangents back.

``jax.custom_vjp`` takes a rule for reverse mode alone, and forward mode raises. ``jax.custom_jvp``
takes a rule for forward mode, and for reverse mode JAX transposes that rule by itself. Here the
rule of a ``custom_jvp`` runs a linear map whose transpose is the pullback by hand (``linear.py``),
so that JAX finds each rule where it looks for it, and composes them as it does its own.

Should a later JAX lack what that map is made of, or call its rules in another way,
``jax.custom_vjp`` is the fallback: the same values and gradients, and where forward mode is asked
for JAX says in a sentence that it cannot be applied to a custom_vjp function. Which of the two it
is, is found by tracing every rule once at import: a bound on JAX's version would take forward mode
away where it still works, and leave it where it no longer does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

try:
    from jaxlstm.linear import linear, trace_every_rule

    trace_every_rule()
except Exception:  # there is no saying what a later JAX raises
    linear = None

Rule = Callable[[Any, Any, Any], Any]


def differentiated_by_hand(
    values: Callable[..., Any],
    forward: Callable[..., Any],
    push: Rule,
    pull: Rule,
    *,
    linear: Callable[..., Any] | None = linear,
) -> Callable[..., Any]:
    """``values`` with its derivative by hand.

    All take a static argument first.

    Args:
        values: ``values(static, others, *args)``, where ``args`` are floating pytrees; ``others``,
            arrays that are no numbers to differentiate by, have neither tangents nor cotangents.
        forward: the values and residuals, ``forward(static, others, *args)``.
        push: the tangents of the values, ``push(static, residuals, tangents of args)``.
        pull: the cotangents of args, ``pull(static, residuals, cotangents of the values)``: the
            transpose of ``push``.
        linear: ``jaxlstm.linear.linear``; without it there is no forward mode.

    >>> function = differentiated_by_hand(
    ...     values=lambda power, _, x: x**power,
    ...     forward=lambda power, _, x: (x**power, power * x ** (power - 1)),
    ...     push=lambda _, slope, tangents: slope * tangents[0],
    ...     pull=lambda _, slope, d: (slope * d,),
    ... )
    >>> cube = partial(function, 3, None)
    >>> print(jax.grad(cube)(2.0), jax.jvp(cube, (2.0,), (1.0,))[1], jax.hessian(cube)(2.0))
    12.0 12.0 12.0
    """
    if linear is None:
        function = jax.custom_vjp(values, nondiff_argnums=(0,))
        function.defvjp(forward, lambda *args: (None, *pull(*args)))
        return function

    function = jax.custom_jvp(values, nondiff_argnums=(0,))

    @function.defjvp
    def tangents_of(static: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
        result, residuals = forward(static, *primals)
        return result, linear(partial(push, static), partial(pull, static), residuals, tangents[1:])

    return function
