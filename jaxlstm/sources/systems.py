"""What the documents' forward systems share, in JAX."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def draw_matrices(key: Any, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Random matrices of the shapes, each scaled by its width."""
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {A: jax.random.normal(keys[A], s) / s[1] ** 0.5 for A, s in shapes.items()}


def forward(
    step: Callable[..., Any],
    names: Iterable[str],
    params: Mapping[str, Any],
    state: Any,
    inputs: Any,
    probes: Any = None,
) -> Any:
    """A system over time: for every quantity its values [T, n].

    Args:
        step: from the parameters, a state, x_t and a number for each probe, the new state and all
            that it made.
        names: of the probes.
        params: the parameters.
        state: at time 0.
        inputs: x [T, D].
        probes: what is added to the named quantities [T, n], or None for nothing.
    """
    if probes is None:
        probes = dict.fromkeys(names, jnp.zeros(len(inputs), inputs.dtype))
    return jax.lax.scan(lambda s, now: step(params, s, *now), state, (inputs, probes))[1]


def before(state: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """c and h at times 0 to T - 1, from the state (c, h) at 0 and the values at 1 to T."""
    first = zip("ch", state, strict=True)
    return {name: jnp.concatenate([row[None], values[name][:-1]]) for name, row in first}
