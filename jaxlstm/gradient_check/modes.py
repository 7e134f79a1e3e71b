"""The derivatives that are compared, each a function of one set of weights, and the trusted ones.

A mode takes ``(call, floats, others, weights)`` and gives a list of leaves: ``reverse`` pulls
cotangents back to the arguments, ``values_and_reverse`` gives the outputs before that,
``forward`` pushes tangents to the outputs, ``second_order`` differentiates the gradient's product
with a direction.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.gradient_check.call import Call, rounded
from jaxlstm.gradient_check.rounding import moved_by_half_ulps, moved_by_ulps

Mode = Callable[[Call, Any, Any, Any], list[Any]]

DRAWS = 8
"""How often inputs are moved by half-ulps; one draw alone can be zero by luck."""


def reverse(call: Call, floats: Any, others: Any, cotangents: Any) -> list[Any]:
    """The gradient of the product of outputs and cotangents."""
    return jax.vjp(lambda floats: call(floats, others), floats)[1](cotangents)[0]


def values_and_reverse(call: Call, floats: Any, others: Any, cotangents: Any) -> list[Any]:
    """The outputs, then the gradient."""
    outputs, pull = jax.vjp(lambda floats: call(floats, others), floats)
    return [*outputs, *pull(cotangents)[0]]


def forward(call: Call, floats: Any, others: Any, tangents: Any) -> list[Any]:
    """The outputs' derivative along the tangents."""
    return jax.jvp(lambda floats: call(floats, others), (floats,), (tangents,))[1]


def second_order(call: Call, floats: Any, others: Any, weights: Any) -> list[Any]:
    """The gradient of the product of gradient and directions; weights: (cotangents, directions)."""
    cotangents, directions = weights

    def product(floats: Any) -> Any:
        gradient = reverse(call, floats, others, cotangents)
        pairs = zip(gradient, directions, strict=True)
        return sum(jnp.sum(leaf * direction) for leaf, direction in pairs)

    return jax.grad(product)(floats)


@partial(jax.jit, static_argnums=(0, 1))
def derive(mode: Mode, call: Call, floats: Any, others: Any, weights: Any) -> list[Any]:
    """One mode at one point with one set of weights, compiled."""
    return mode(call, floats, others, weights)


@partial(jax.jit, static_argnums=(0, 1))
def derive_sets(mode: Mode, call: Call, floats: Any, others: Any, sets: Any) -> list[Any]:
    """One mode at one point with many sets of weights, their number the first axis."""
    return jax.vmap(partial(mode, call, floats, others))(sets)


@partial(jax.jit, static_argnums=(0, 1))
def derive_draws(mode: Mode, call: Call, floats: Any, others: Any, sets: Any) -> list[Any]:
    """``derive_sets`` at many points, one after the other."""
    return jax.lax.map(
        lambda point: jax.vmap(partial(mode, call, point[0], others))(point[1]), (floats, sets)
    )


class Trusted(NamedTuple):
    """A trusted derivative, each leaf [sets, ...], and what rounding does to it.

    Attributes:
        truth: in float64 at the rounded point.
        rounded: other values of it [draws, sets, ...], each off by rounding alone.
    """

    truth: list[ndarray]
    rounded: list[ndarray]

    def known(self, leaf: int) -> ndarray:
        """Where a leaf is finite, in the working dtype too."""
        return np.isfinite(self.truth[leaf]) & np.isfinite(self.rounded[leaf]).all(0)

    def of_leaves(self, some: slice) -> "Trusted":
        """Some leaves alone."""
        return Trusted(self.truth[some], self.rounded[some])

    def of_all_together(self) -> "Trusted":
        """The first set alone."""
        return Trusted([leaf[:1] for leaf in self.truth], [leaf[:, :1] for leaf in self.rounded])


def trust(
    mode: Mode, call: Call, floats: Any, others: Any, sets: Any, dtype: Any, seed: int
) -> Trusted:
    """The reference's derivative in float64, beside that in ``dtype`` and at moved points.

    Args:
        mode: which derivative.
        call: the reference.
        floats: the point, in ``dtype``.
        others: what is not differentiated.
        sets: sets of weights, in ``dtype``.
        dtype: the working dtype.
        seed: of the half-ulps.
    """
    rng = np.random.default_rng(seed)
    exact = rounded((floats, sets), np.float64)
    moved = moved_by_half_ulps(rng, exact, dtype, DRAWS)
    draws = jax.tree.map(lambda one, many: np.concatenate([one[None], many]), exact, moved)
    found = in_float64(derive_draws(mode, call, draws[0], others, draws[1]))
    truth, moves = [leaf[0] for leaf in found], [leaf[1:] for leaf in found]
    if jnp.dtype(dtype) == np.float64:
        return Trusted(truth, moves)
    own = in_float64(derive_sets(mode, call, floats, others, sets))
    pairs = zip(own, moves, strict=True)
    return Trusted(truth, [np.concatenate([one[None], leaf]) for one, leaf in pairs])


def trust_without_float64(
    mode: Mode, call: Call, floats: Any, others: Any, sets: Any, narrowest: Any, seed: int
) -> Trusted:
    """The reference's derivative as it is, beside that at neighbouring points.

    The stated rule where a function has no float64 self: a yardstick is what the derivative changes
    by when inputs and weights move by an ulp of the narrowest dtype inside, and at least its eps.
    """
    rng = np.random.default_rng(seed)
    near = [moved_by_ulps(rng, (floats, sets), narrowest) for _ in range(DRAWS)]
    points = [(floats, sets), *near]
    own, *moved = [in_float64(derive_sets(mode, call, p[0], others, p[1])) for p in points]
    eps = float(jnp.finfo(narrowest).eps)
    columns = zip(own, *moved, strict=True)
    return Trusted(own, [np.stack([(1 + eps) * leaf, *others]) for leaf, *others in columns])


def in_float64(leaves: list[Any]) -> list[ndarray]:
    """NumPy leaves in float64."""
    return [np.asarray(leaf, np.float64) for leaf in leaves]
