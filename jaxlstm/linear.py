"""A linear map that knows its own transpose, as a JAX primitive.

Rules for evaluation, tangents, transposition and batching are all that JAX asks of a primitive, and
its documentation ("JAX Internals: primitives") has described them for years, where
``jax.custom_derivatives.linear_call`` cannot be batched and ``jax.experimental.hijax`` is an
experiment that changes from release to release. What is met of ``jax.interpreters`` and
``jax.extend``, which promise less than the rest of JAX, stands in this file alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike

Leaves = Callable[[Sequence[ArrayLike], Sequence[ArrayLike]], list[Array]]


def linear(
    push: Callable[[Any, Any], Any], pull: Callable[[Any, Any], Any], residuals: Any, tangents: Any
) -> Any:
    """``push(residuals, tangents)``, linear in the tangents, with ``pull`` for its transpose."""
    leaves, treedef = jax.tree.flatten(jax.tree.map(jnp.asarray, residuals))
    linear_leaves, linear_treedef = jax.tree.flatten(tangents)
    result_treedef = None

    def push_leaves(leaves: Sequence[ArrayLike], linear_leaves: Sequence[ArrayLike]) -> list[Array]:
        nonlocal result_treedef
        result = push(treedef.unflatten(leaves), linear_treedef.unflatten(linear_leaves))
        flat, result_treedef = jax.tree.flatten(result)
        return flat

    def pull_leaves(leaves: Sequence[ArrayLike], cotangents: Sequence[ArrayLike]) -> list[Array]:
        assert result_treedef is not None
        found = pull(treedef.unflatten(leaves), result_treedef.unflatten(cotangents))
        return jax.tree.leaves(found)

    flat = _bind(push_leaves, pull_leaves, leaves, linear_leaves)
    assert result_treedef is not None
    return result_treedef.unflatten(flat)


def _bind(
    push: Leaves, pull: Leaves, residuals: Sequence[ArrayLike], tangents: Sequence[ArrayLike]
) -> list[Array]:
    jaxpr = jax.make_jaxpr(push)(residuals, tangents)
    return linear_p.bind(*residuals, *tangents, jaxpr=jaxpr, pull=pull, residuals=len(residuals))


def _evaluate(*args: ArrayLike, jaxpr: ClosedJaxpr, **_: Any) -> list[Array]:
    return jaxpr_as_fun(jaxpr)(*args)


def _abstract(*_: Any, jaxpr: ClosedJaxpr, **__: Any) -> list[Any]:
    return jaxpr.out_avals


def _tangents(
    primals: Sequence[Any], tangents: Sequence[Any], *, residuals: int, **params: Any
) -> tuple[list[Any], list[Any]]:
    """The map itself along the linear part; JAX's own derivative along the residuals."""
    bind = partial(linear_p.bind, residuals=residuals, **params)
    result = bind(*primals)
    moved = [k for k in range(residuals) if not isinstance(tangents[k], ad.Zero)]
    along = bind(*primals[:residuals], *map(ad.instantiate_zeros, tangents[residuals:]))
    if not moved:
        return result, along

    def of_residuals(*some: ArrayLike) -> list[Array]:
        args = list(primals)
        for k, leaf in zip(moved, some, strict=True):
            args[k] = leaf
        return _evaluate(*args, **params)

    _, across = jax.jvp(of_residuals, [primals[k] for k in moved], [tangents[k] for k in moved])
    return result, [a + b for a, b in zip(along, across, strict=True)]


def _cotangents(
    cotangents: Sequence[Any], *args: Any, residuals: int, pull: Leaves, **_: Any
) -> list[Any]:
    found = pull(args[:residuals], [*map(ad.instantiate_zeros, cotangents)])
    wanted = map(ad.is_undefined_primal, args[residuals:])
    asked = [d if want else None for d, want in zip(found, wanted, strict=True)]
    return [*[None] * residuals, *asked]


def _batched(
    axis: Any, args: Sequence[Any], dims: Sequence[Any], *, jaxpr: Any, pull: Leaves, residuals: int
) -> tuple[list[Any], list[int | None]]:
    """The map of every example; where an argument is shared, its cotangent is the sum of theirs."""
    if all(dim is None for dim in dims):
        result = linear_p.bind(*args, jaxpr=jaxpr, pull=pull, residuals=residuals)
        return result, [None] * len(result)

    over_examples = partial(jax.vmap, axis_size=axis.size, spmd_axis_name=axis.spmd_name)
    shared, linear_dims = list(dims[:residuals]), list(dims[residuals:])

    def push_all(residuals: Sequence[ArrayLike], tangents: Sequence[ArrayLike]) -> list[Array]:
        run = over_examples(jaxpr_as_fun(jaxpr), in_axes=tuple(dims))
        return run(*residuals, *tangents)

    def pull_all(residuals: Sequence[ArrayLike], cotangents: Sequence[ArrayLike]) -> list[Array]:
        found = over_examples(pull, in_axes=(shared, 0))(list(residuals), list(cotangents))
        pairs = zip(found, linear_dims, strict=True)
        return [d.sum(0) if dim is None else jnp.moveaxis(d, 0, dim) for d, dim in pairs]

    result = _bind(push_all, pull_all, args[:residuals], args[residuals:])
    return result, [0] * len(result)


linear_p = Primitive("linear_with_transpose")
linear_p.multiple_results = True
linear_p.def_impl(_evaluate)
linear_p.def_abstract_eval(_abstract)
ad.primitive_jvps[linear_p] = _tangents
ad.primitive_transposes[linear_p] = _cotangents
batching.fancy_primitive_batchers[linear_p] = _batched
mlir.register_lowering(linear_p, mlir.lower_fun(_evaluate, multiple_results=True))


def trace_every_rule() -> None:
    """Traces each rule once, in milliseconds: nothing is compiled, and no device is asked for.

    Raises:
        Exception: whatever JAX raises where it calls rules in another way than we wrote them.
    """

    def product(x: Array, v: Array) -> Array:
        return linear(jnp.multiply, jnp.multiply, x, v)

    one = jax.ShapeDtypeStruct((1,), jnp.float32)
    jax.make_jaxpr(jax.vmap(jax.grad(product, argnums=(0, 1))))(one, one)
