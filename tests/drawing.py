"""Random problems drawn from a seed, their gradients, and how far two answers are apart."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxlstm import Activations, LSTMParams, LSTMState
from jaxlstm.gradient_check import relative_error

SIGNATURES = ((0, 2, 3, 4), (1, 1, 1, 1), (7, 3, 2, 5), (41, 64, 4, 3), (300, 3, 2, 4))
"""The few (T, B, D, H) that drawn tests take, so that they share compilations.

The last two go through time in chunks, of 4 steps and a rest, and of 75.
"""

NAMES = ("tanh", "sigmoid", "identity")
ACTIVATION_PAIRS = tuple(Activations(phi, psi) for phi in NAMES for psi in NAMES)
TANH = Activations()
SIGMOID = Activations("sigmoid", "sigmoid")


class Problem(NamedTuple):
    """Arguments of ``lstm``, and the cotangents of its outputs and its final state."""

    params: LSTMParams
    inputs: Array
    initial_state: LSTMState | None
    lengths: Array | None
    resets: Array | None
    cotangents: tuple[Array, LSTMState]


def draw(seed: int, T: int, B: int, D: int, H: int, dtype: Any, *, masks: bool = True) -> Problem:
    """Random everything: kernels of gain about 1, ragged lengths with 0 and T, one reset in five.

    The same seed draws the same numbers whatever the dtype, and with masks or without.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return jnp.asarray(scale * rng.standard_normal(shape), dtype)

    def state() -> LSTMState:
        return LSTMState(normal(B, H), normal(B, H))

    params = LSTMParams(
        normal(D, 4 * H, scale=D**-0.5), normal(H, 4 * H, scale=H**-0.5), normal(4 * H)
    )
    inputs, initial_state, cotangents = normal(T, B, D), state(), (normal(T, B, H), state())
    lengths, resets = _ragged(rng, T, B), jnp.asarray(rng.random((T, B)) < 0.2)
    if not masks:
        lengths = resets = None
    return Problem(params, inputs, initial_state, lengths, resets, cotangents)


def _ragged(rng: np.random.Generator, T: int, B: int) -> Array:
    lengths = rng.integers(0, T + 1, B)
    if B > 1:
        lengths[rng.permutation(B)[:2]] = (0, T)
    return jnp.asarray(lengths, jnp.int32)


def one_sequence(problem: Problem, b: int) -> Problem:
    """Sequence ``b`` of the batch, unbatched."""
    params, inputs, initial_state, lengths, resets, (d_outputs, d_final) = problem
    pick, pick_after_time = (lambda leaf: leaf[b]), (lambda leaf: leaf[:, b])
    inputs, resets, d_outputs = jax.tree.map(pick_after_time, (inputs, resets, d_outputs))
    initial_state, lengths, d_final = jax.tree.map(pick, (initial_state, lengths, d_final))
    return Problem(params, inputs, initial_state, lengths, resets, (d_outputs, d_final))


def padding(problem: Problem) -> np.ndarray:
    """Which steps [T, B] lie at or past the length."""
    return np.arange(problem.inputs.shape[0])[:, None] >= np.asarray(problem.lengths)


def run(f: Callable, problem: Problem, activations: Activations = TANH) -> tuple[Array, LSTMState]:
    """The values of ``f``, one of ``lstm`` and ``lstm_autodiff``."""
    params, inputs, initial_state, lengths, resets, _ = problem
    return f(params, inputs, initial_state, lengths=lengths, resets=resets, activations=activations)


def pullback(
    f: Callable, problem: Problem, activations: Activations = TANH
) -> tuple[LSTMParams, Array, LSTMState]:
    """The gradients of <cotangents, f(...)> by parameters, inputs and initial state."""

    def values(params: LSTMParams, inputs: Array, initial_state: LSTMState) -> Any:
        changed = problem._replace(params=params, inputs=inputs, initial_state=initial_state)
        return run(f, changed, activations)

    _, back = jax.vjp(values, problem.params, problem.inputs, problem.initial_state)
    return back(problem.cotangents)


@functools.cache
def compiled(of: Callable, f: Callable, activations: Activations = TANH) -> Callable:
    """``of(f, problem, activations)``, ``of`` one of ``run`` and ``pullback``, as one jit."""
    return jax.jit(lambda problem: of(f, problem, activations))


def assert_close(tree: Any, truth: Any, tolerance: float) -> None:
    """Every leaf of the same shape as its truth, and within a relative error of it."""
    assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, truth)
    errors = jax.tree.map(relative_error, tree, truth)
    assert all(error <= tolerance for error in jax.tree.leaves(errors)), errors


def assert_same_bits(tree: Any, other: Any) -> None:
    """Every leaf the same to the last bit, without a NaN."""
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.isfinite(np.asarray(b, np.float64)).all()
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
