"""Where arrays live: what a hand-written VJP must say that autodiff says by itself.

Inside ``jax.shard_map`` an array either varies over a mesh axis or is the same on every device, and
a custom VJP must return cotangents of just the kind of its arguments. On meshes with Explicit axes
a product that contracts a sharded batch must name the sharding of its result.

The LSTM's products take their other operand in the kernel's dtype, which may be narrower, and
accumulate in the dtype that this operand came in.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, DTypeLike, Float, Int

from jaxlstm.types import at_least_float32


def vary_together(tree: Any) -> Any:
    """Casts every array of ``tree`` to vary over all mesh axes that any of them varies over.

    JAX transposes the cast to the sum over those axes, which is the gradient of a replicated array.
    The identity outside ``shard_map``.
    """
    varying = frozenset[str]().union(*(_varying_axes(leaf) for leaf in jax.tree.leaves(tree)))

    def cast(leaf: Array) -> Array:
        missing = tuple(sorted(varying - _varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def _varying_axes(leaf: Array) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying


def sum_of_outer_products(
    rows: Float[Array, "*T M"], columns: Float[Array, "*T N"], like: Float[Array, "M N"]
) -> Float[Array, "M N"]:
    """The sum over all leading axes of ``rows' columns`` [M, N], sharded like ``like``.

    One large product that contracts time and batch together: the form of every weight gradient.
    """
    leading = tuple(range(rows.ndim - 1))
    return jax.lax.dot_general(
        rows,
        columns,
        dimension_numbers=((leading, leading), ((), ())),
        out_sharding=jax.typeof(like).sharding,
    )


def product_with_transpose(
    rows: Float[Array, "*T N"], kernel: Float[Array, "M N"], like: Float[Array, "*T M"]
) -> Float[Array, "*T M"]:
    """``rows kernel'`` [..., M], placed like ``like``: the form of every cotangent of a product."""
    return jax.lax.dot_general(
        rows,
        kernel,
        dimension_numbers=(((rows.ndim - 1,), (1,)), ((), ())),
        out_sharding=jax.typeof(like).sharding,
    )


def product_of_rows(
    rows: Float[Array, "*T N"], kernel: Float[Array, "N M"]
) -> Float[Array, "*T M"]:
    """``rows kernel``."""
    contracted = ((rows.ndim - 1,), (0,))
    return _dot(rows.astype(kernel.dtype), kernel, contracted, None, rows.dtype)


def product(kernel: Float[Array, "M N"], columns: Float[Array, "N B"]) -> Float[Array, "M B"]:
    """``kernel columns``, its columns placed as these are."""
    sharding = jax.typeof(columns).sharding
    placed = NamedSharding(sharding.mesh, PartitionSpec(None, sharding.spec[1]))
    return _dot(kernel, columns.astype(kernel.dtype), ((1,), (0,)), placed, columns.dtype)


def gathered(units: Float[Array, "..."], mesh_axis: str | None, axis: int) -> Float[Array, "..."]:
    """The hidden units of all devices along ``axis``, where a mesh axis splits them."""
    if mesh_axis is None:
        return units
    return jax.lax.all_gather(units, mesh_axis, axis=axis, tiled=True)


def own_sum(columns: Float[Array, "N B"], mesh_axis: str | None) -> Float[Array, "M B"]:
    """The sum of what all devices found, each with the rows of its own hidden units."""
    if mesh_axis is None:
        return columns
    return jax.lax.psum_scatter(columns, mesh_axis, scatter_dimension=0, tiled=True)


def product_of_columns(
    columns: Float[Array, "T N B"], kernel: Float[Array, "M N"]
) -> Float[Array, "T B M"]:
    """``kernel columns`` of every step, as rows."""
    sharding = jax.typeof(columns).sharding
    placed = NamedSharding(sharding.mesh, PartitionSpec(None, sharding.spec[2], None))
    return _dot(columns.astype(kernel.dtype), kernel, ((1,), (1,)), placed, columns.dtype)


def sum_of_columns(
    columns: Float[Array, "T M B"],
    rows: Float[Array, "T B N"],
    dtype: DTypeLike,
    like: Float[Array, "M N"],
) -> Float[Array, "M N"]:
    """The sum over all steps and sequences of ``column row'``, placed and typed as ``like`` is.

    One large product that contracts time and batch together, its operands in ``dtype``: the form of
    every weight gradient.
    """
    columns, rows = columns.astype(dtype), rows.astype(dtype)
    return _dot(columns, rows, ((0, 2), (0, 1)), jax.typeof(like).sharding, like.dtype)


def _dot(left: Array, right: Array, contracted: Any, placed: Any, dtype: Any) -> Array:
    """The product over the contracted axes of both, accumulated in ``dtype``.

    XLA for CPUs lacks some products of narrower operands: there they are widened before.
    """

    def dot(left: Array, right: Array) -> Array:
        return jax.lax.dot_general(
            left,
            right,
            dimension_numbers=(contracted, ((), ())),
            preferred_element_type=dtype,
            out_sharding=placed,
        )

    def dot_of_widened(left: Array, right: Array) -> Array:
        return dot(left.astype(dtype), right.astype(dtype))

    if left.dtype == dtype:
        return dot(left, right)
    return jax.lax.platform_dependent(left, right, cpu=dot_of_widened, default=dot)


def rows_of(table: Float[Array, "K D"], indices: Int[Array, "*T"]) -> Float[Array, "*T D"]:
    """The table's row of each index, placed as the indices are."""
    sharding = jax.typeof(indices).sharding
    placed = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None))
    return table.at[indices].get(out_sharding=placed)


def sum_into_rows(
    rows: Float[Array, "*T D"], indices: Int[Array, "*T"], like: Float[Array, "K D"]
) -> Float[Array, "K D"]:
    """The table [K, D] whose row k is the sum of the rows with index k, placed like ``like``.

    Summed in float32 at least.
    """
    summed = at_least_float32(rows.dtype)
    zeros = jnp.zeros_like(like, dtype=summed)
    placed = jax.typeof(like).sharding
    return zeros.at[indices].add(rows.astype(summed), out_sharding=placed).astype(like.dtype)


def zeros_along_batch(inputs: Float[Array, "T B D"], size: int) -> Float[Array, "B size"]:
    """Zeros [B, size] of the inputs' dtype, their batch axis sharded as the inputs' is."""
    shape = (inputs.shape[1], size)
    return jnp.zeros(shape, inputs.dtype, out_sharding=_along_batch(inputs))


def place_along_batch(tree: Any, inputs: Float[Array, "T B D"]) -> Any:
    """On a mesh with Explicit axes, arrays [B, ...] sharded along the batch as the inputs are."""
    sharding = _along_batch(inputs)
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return tree
    return jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, sharding), tree)


def _along_batch(inputs: Float[Array, "T B D"]) -> NamedSharding:
    sharding = jax.typeof(inputs).sharding
    return NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[1]))
