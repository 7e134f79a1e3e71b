"""Which entries of the sensitivities an estimator keeps: all of them, or each unit's own.

``exact``
    Every unit's sensitivity to every number: [B, *argument, H].

``snap1``
    SnAp-1 (Menick et al., 2020, "A practical sparse approximation for real time recurrent
    learning"): a unit's sensitivity to its own columns of the parameters alone, and of the two
    H x H matrices the diagonals. A unit is its hidden and cell state together: dc_t by the output
    gate's own column, zero within one step, is carried too. A leaf has the size of its argument
    for each sequence, [B, ..., 4, H], and all is pointwise.

``cell``
    The same entries without any path through the recurrent kernel: what is carried is the cell
    state's alone, dc_t/dA = dc_{t-1}/dA * f + V_c, the truncation of Hochreiter and Schmidhuber
    (1997) with a forget gate.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float


class Entries(NamedTuple):
    """What the recursion asks of an estimator; all but ``pull`` is said of one sequence.

    Attributes:
        of_matrix: what is used of an H x H matrix.
        passed: sensitivities [..., H] carried through what is used of a matrix.
        spread: v [4, H], a diagonal for each gate, as the sensitivity to the bias.
        pull: the gradient of a parameter from the hidden state's sensitivity to it and from the
            cotangent d_h [B, H].
    """

    of_matrix: Callable[[Array], Array]
    passed: Callable[[Array, Array], Array]
    spread: Callable[[Array], Array]
    pull: Callable[[Array, Array], Array]


def _over_all_units(v: Float[Array, "4 H"]) -> Float[Array, "4*H H"]:
    H = v.shape[-1]
    return (v[..., None] * jnp.eye(H, dtype=v.dtype)).reshape(4 * H, H)


def _summed(letters: str, S_h: Float[Array, "B *M H"], d_h: Float[Array, "B H"]) -> Array:
    """Over the batch, however it is placed: the same on every device."""
    everywhere = NamedSharding(jax.typeof(d_h).sharding.mesh, PartitionSpec())
    return jnp.einsum(letters, S_h, d_h, out_sharding=everywhere)


def _pull_own(S_h: Float[Array, "B *M 4 H"], d_h: Float[Array, "B H"]) -> Float[Array, "*M 4*H"]:
    gradient = _summed("b...h,bh->...h", S_h, d_h)
    return gradient.reshape(*gradient.shape[:-2], 4 * d_h.shape[-1])


_EXACT = Entries(
    of_matrix=lambda matrix: matrix,
    passed=jnp.matmul,
    spread=_over_all_units,
    pull=partial(_summed, "b...h,bh->..."),
)
_SNAP1 = Entries(of_matrix=jnp.diagonal, passed=jnp.multiply, spread=lambda v: v, pull=_pull_own)
_CELL = _SNAP1._replace(passed=lambda S_h, _: jnp.zeros_like(S_h))

ESTIMATORS = {"exact": _EXACT, "snap1": _SNAP1, "cell": _CELL}
"""The estimators by name."""


def entries_of(estimator: Any) -> Entries:
    """Requires the name of an estimator, and returns what it keeps."""
    if estimator not in ESTIMATORS:
        expected = ", ".join(map(repr, ESTIMATORS))
        raise ValueError(f"estimator: expected one of {expected}, got {estimator!r}.")
    return ESTIMATORS[estimator]
