"""Wrong backward passes of the LSTM: what a gradient checker is to catch, and to name.

All in NumPy, so that none needs compiling.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxlstm import lstm_autodiff
from jaxlstm.types import at_least_float32
from mutants.around_the_loop import AROUND_THE_LOOP
from mutants.documents import DOCUMENTS
from mutants.held_apart import HELD_APART
from mutants.mutant import LABELS, Mutant
from mutants.of_a_step import OF_A_STEP
from mutants.of_sums import OF_SUMS
from mutants.template import BackwardPass

__all__ = ["ALL", "COMMON", "DOCUMENTS", "HELD_APART", "LABELS", "Mutant", "as_function"]

COMMON = (*OF_A_STEP, *OF_SUMS, *AROUND_THE_LOOP)
ALL: dict[str, Mutant] = {m.name: m for m in (*COMMON, *DOCUMENTS, *HELD_APART)}


def as_function(mutant: Mutant) -> Callable:
    """The LSTM with the mutant's gradients.

    ``f(params, inputs, initial_state, lengths, resets)`` gives the values of ``lstm_autodiff``. Its
    backward pass takes concrete arrays: differentiate it outside jit.
    """
    return differentiated_by(mutant.backward)


def differentiated_by(backward: type[BackwardPass]) -> Callable:
    """The LSTM with this backward pass."""

    @jax.custom_vjp
    def f(params: Any, inputs: Any, initial_state: Any, lengths: Any, resets: Any) -> Any:
        return lstm_autodiff(params, inputs, initial_state, lengths=lengths, resets=resets)

    def pull_back(args: Any, cotangents: Any) -> Any:
        *floating, lengths, resets = args
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = jax.tree.map(_working, tuple(floating))
            passed = backward(*arrays, np.asarray(lengths), np.asarray(resets))
            gradients = passed(*jax.tree.map(_working, cotangents))
            rounded = jax.tree.map(_as_argument, gradients, tuple(floating))
        return (*rounded, None, None)

    f.defvjp(lambda *args: (f(*args), args), pull_back)
    return f


def _working(leaf: Array) -> np.ndarray:
    """In its own dtype, half precisions in float32."""
    return np.asarray(leaf).astype(at_least_float32(leaf.dtype))


def _as_argument(gradient: np.ndarray, argument: Array) -> Array:
    return jnp.asarray(gradient, argument.dtype)
