"""Whether a function has a float64 self: the same mathematics when its arguments are float64."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from jaxlstm.gradient_check.call import Call, rounded, traced


def narrowest_inside(call: Call, floats: Any, others: Any, dtype: Any) -> tuple[Any, str | None]:
    """The narrowest floating dtype that the function computes in, and why it has no float64 self.

    The reason is None where it has one. Found in the function's own traced program: a cast of a
    floating array to a narrower one, or random bits, which differ with the dtype they are drawn in.
    """
    with jax.enable_x64(True):
        program = traced.trace(call, rounded(floats, np.float64), others).jaxpr
    found = list(_equations(program.jaxpr))
    casts = [eqn.params["new_dtype"] for eqn in found if _narrows(eqn)]
    if casts:
        narrowest = min([*casts, jnp.dtype(dtype)], key=lambda cast: jnp.finfo(cast).bits)
        return narrowest, f"casts to {min(casts, key=lambda cast: jnp.finfo(cast).bits)} inside"
    draws = any(eqn.params.get("bit_width") == 64 for eqn in found)
    return jnp.dtype(dtype), "draws random numbers by dtype" if draws else None


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations, those of nested programs included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from _equations(getattr(inner, "jaxpr", inner))


def _narrows(eqn: Any) -> bool:
    if eqn.primitive.name != "convert_element_type":
        return False
    before, after = eqn.invars[0].aval.dtype, eqn.params["new_dtype"]
    if not (jnp.issubdtype(before, jnp.floating) and jnp.issubdtype(after, jnp.floating)):
        return False
    return jnp.finfo(after).bits < jnp.finfo(before).bits
