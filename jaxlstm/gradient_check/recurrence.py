"""The true cotangents inside a recurrent net, by autodiff through zero-valued probes.

A probe is a zero added to a value; the derivative by the probe is the value's cotangent.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CUT_STEPS = 8
CUT_TOLERANCE = 1e-6


class Recurrence(NamedTuple):
    """A recurrent forward step whose values can be probed.

    Attributes:
        forward_step: ``f(params, carry, x_t, probe) -> (carry, y_t)``, a pure function that passes
            each of its values through ``probe``: ``h = probe("h", o * tanh(c))``.
        incoming: the values through which alone the step's parameters and values reach its outputs
            and the next steps. Of an LSTM the hidden state, and the cell state on its way into the
            carry.
    """

    forward_step: Callable[[Any, Any, Any, Callable[[str, Any], Any]], tuple[Any, Any]]
    incoming: tuple[str, ...]

    def run(
        self, params: Any, carry: Any, x_t: Any, probes: Mapping[str, Any]
    ) -> tuple[Any, Any, dict[str, Any]]:
        """The next carry, the output and all the values, those named in ``probes`` added to."""
        values: dict[str, Any] = {}

        def probe(name: str, value: Any) -> Any:
            values[name] = value + probes[name] if name in probes else value
            return values[name]

        return *self.forward_step(params, carry, x_t, probe), values


def cotangent_name(name: str) -> str:
    """What the cotangent of a value or parameter is called: "d_h" for "h"."""
    return f"d_{name}"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their dotted names, such as ``bias`` or ``first.bias``."""
    paths = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def rounded(tree: Any, dtype: Any) -> Any:
    """Every floating leaf rounded to ``dtype``, as a NumPy array; the others as they are."""

    def round_leaf(leaf: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(leaf).astype(dtype) if _is_floating(leaf) else leaf

    return jax.tree.map(round_leaf, tree)


def at(tree: Any, t: Any) -> Any:
    """One time step of arrays [T, ...], or a stretch of them."""
    return jax.tree.map(lambda leaf: leaf[t], tree)


def value_shapes(
    recurrence: Recurrence, params: Any, carry: Any, x_t: Any
) -> dict[str, jax.ShapeDtypeStruct]:
    """The values' shapes, in the order in which the forward step gives them.

    Raises:
        ValueError: incoming names that are not among the values.
    """
    order: list[str] = []

    def values(params: Any, carry: Any, x_t: Any) -> dict[str, Any]:
        found = recurrence.run(params, carry, x_t, {})[2]
        order.extend(found)
        return found

    shapes = jax.eval_shape(values, params, carry, x_t)
    for name in recurrence.incoming:
        if name not in shapes:
            raise ValueError(f"recurrence.incoming: {name!r} is not among {', '.join(order)}.")
    return {name: shapes[name] for name in order}


def complete_cotangents(
    rng: np.random.Generator,
    recurrence: Recurrence,
    params: Any,
    carry: Any,
    inputs: Any,
    cotangents: Any,
) -> Any:
    """Float64 cotangents of outputs and final carry: those given, or random ones if None.

    Raises:
        ValueError: cotangents unlike the outputs and the final carry.
    """

    def run(carry: Any, inputs: Any) -> Any:
        def body(carry: Any, x_t: Any) -> tuple[Any, Any]:
            return recurrence.run(params, carry, x_t, {})[:2]

        final, outputs = jax.lax.scan(body, carry, inputs)
        return outputs, final

    shapes = jax.eval_shape(run, carry, inputs)
    if cotangents is None:
        return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), shapes)
    expected, came = (
        jax.tree.map(lambda leaf: list(np.shape(leaf)), tree) for tree in (shapes, cotangents)
    )
    if expected != came:
        raise ValueError(
            f"cotangents: expected shapes {expected} as outputs and final carry have, got {came}."
        )
    return rounded(cotangents, np.float64)


@partial(jax.jit, static_argnums=(0, 1))
def unroll(
    recurrence: Recurrence,
    probed: tuple[str, ...],
    params: Any,
    carry: Any,
    inputs: Any,
    cotangents: Any,
) -> tuple[Any, dict[str, Any]]:
    """The carry that enters every step, and every step's cotangents of the probed values.

    Args:
        recurrence: the forward step.
        probed: the values' names.
        params: a pytree of floating arrays.
        carry: what the first step starts from.
        inputs: arrays [T, ...].
        cotangents: of the outputs [T, ...] and the final carry.
    """
    time = len(jax.tree.leaves(inputs)[0])
    shapes = value_shapes(recurrence, params, carry, at(inputs, 0))
    zeros = {name: jnp.zeros((time, *shapes[name].shape)) for name in probed}

    def product(probes: Any) -> tuple[Any, Any]:
        def body(carry: Any, step_t: Any) -> tuple[Any, Any]:
            x_t, probes_t = step_t
            after, y_t, _ = recurrence.run(params, carry, x_t, probes_t)
            return after, (carry, y_t)

        final, (carries, outputs) = jax.lax.scan(body, carry, (inputs, probes))
        pairs = zip(jax.tree.leaves((outputs, final)), jax.tree.leaves(cotangents), strict=True)
        return sum(jnp.sum(y * d_y) for y, d_y in pairs if _is_floating(y)), carries

    d_probes, carries = jax.grad(product, has_aux=True)(zeros)
    return carries, d_probes


def step_cotangents(
    recurrence: Recurrence, params: Any, carry: Any, x_t: Any, incoming: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of one step, and the cotangents of its values and parameters by name.

    Args:
        recurrence: the forward step.
        params: a pytree of floating arrays.
        carry: what the step starts from.
        x_t: the input.
        incoming: the cotangents of the incoming values, by the values' names.
    """
    shapes = value_shapes(recurrence, params, carry, x_t)
    zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}

    def outward(params: Any, probes: Any) -> tuple[Any, Any]:
        values = recurrence.run(params, carry, x_t, probes)[2]
        return {name: values[name] for name in recurrence.incoming}, values

    _, pull_back, values = jax.vjp(outward, params, zeros, has_aux=True)
    d_params, d_values = pull_back(incoming)
    named = {**named_leaves(d_params), **d_values}
    return values, {cotangent_name(name): leaf for name, leaf in named.items()}


@partial(jax.jit, static_argnums=0)
def all_cotangents(recurrence: Recurrence, params: Any, steps: Any) -> Any:
    """``step_cotangents`` of many steps: ``steps`` are carries, inputs and incoming [t, ...]."""
    return jax.vmap(lambda step: step_cotangents(recurrence, params, *step))(steps)


def check_recurrence(
    recurrence: Recurrence, params: Any, carry: Any, inputs: Any, cotangents: Any
) -> None:
    """Requires, over a few steps, that the incoming cotangents give all the others.

    Raises:
        ValueError: they do not.
    """
    d_outputs, d_final = cotangents
    inputs, d_outputs = at((inputs, d_outputs), slice(CUT_STEPS))
    names = tuple(value_shapes(recurrence, params, carry, at(inputs, 0)))
    carries, whole = unroll(recurrence, names, params, carry, inputs, (d_outputs, d_final))
    incoming = {name: whole[name] for name in recurrence.incoming}
    single = all_cotangents(recurrence, params, (carries, inputs, incoming))[1]
    for name in names:
        truth = np.asarray(whole[name])
        difference = abs(np.asarray(single[cotangent_name(name)]) - truth).max(initial=0.0)
        if difference > CUT_TOLERANCE * abs(truth).max(initial=0.0):
            raise ValueError(
                f"recurrence.incoming: the cotangents of {', '.join(recurrence.incoming)} do not "
                f"give that of {name!r}; expected the values through which alone a step reaches "
                "its outputs and its carry."
            )


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
