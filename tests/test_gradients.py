"""The hand-written gradients in float64: against autodiff, finite differences and the adjoint."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import (
    ACTIVATION_PAIRS,
    SIGMOID,
    SIGNATURES,
    TANH,
    Problem,
    assert_close,
    compiled,
    draw,
    one_sequence,
    padding,
    pullback,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm import Activations, LSTMState, lstm, lstm_autodiff
from jaxlstm.cell import gate_values, next_state
from jaxlstm.cell_derivatives import CellDerivatives, cell_derivatives, cell_jvp, cell_vjp
from jaxlstm.validation import RESIDUALS

SMALL = (7, 3, 2, 5)
COTANGENTS = ("outputs", "final hidden", "final cell")
KEPT = (*COTANGENTS, "all")
LEAVES = ("input_kernel", "recurrent_kernel", "bias", "inputs", "hidden", "cell")


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def only(problem: Problem, kept: str) -> Problem:
    """The problem with zeros for the cotangents of all other results."""
    leaves, treedef = jax.tree.flatten(problem.cotangents)
    named = zip(COTANGENTS, leaves, strict=True)
    leaves = [d if kept in (name, "all") else jnp.zeros_like(d) for name, d in named]
    return problem._replace(cotangents=treedef.unflatten(leaves))


def assert_gradients_agree(problem: Problem, activations: Activations = TANH) -> None:
    """To 1e-12 for each leaf, and for each time step of the inputs' gradient."""
    ours = compiled(pullback, lstm, activations)(problem)
    truth = compiled(pullback, lstm_autodiff, activations)(problem)
    assert_close((ours, list(ours[1])), (truth, list(truth[1])), 1e-12)


SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, len(SIGNATURES) - 1), SEEDS, st.booleans(), st.sampled_from(KEPT))
def test_gradients_are_those_of_autodiff(number, seed, masks, kept):
    """A signature has one activation with masks, and the other without."""
    problem = draw(seed, *SIGNATURES[number], jnp.float64, masks=masks)
    assert_gradients_agree(only(problem, kept), (TANH, SIGMOID)[(number + masks) % 2])


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("masks", [False, True])
def test_each_result_takes_its_own_cotangent(kept, masks):
    assert_gradients_agree(only(draw(1, *SMALL, jnp.float64, masks=masks), kept))


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_gradients_for_all_activations(activations):
    assert_gradients_agree(draw(2, *SMALL, jnp.float64), activations)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("b", range(SMALL[1]))
def test_gradients_unbatched(masks, b):
    assert_gradients_agree(one_sequence(draw(3, *SMALL, jnp.float64, masks=masks), b))


@pytest.mark.parametrize("residuals", RESIDUALS)
def test_gradients_whatever_is_saved(residuals):
    """In both modes of differentiation, from chunk to chunk."""
    problem, v = (draw(seed, *SIGNATURES[3], jnp.float64) for seed in (14, 15))
    ours = partial(lstm, residuals=residuals)
    assert_close(
        compiled(pullback, ours)(problem), compiled(pullback, lstm_autodiff)(problem), 1e-12
    )
    assert_close(pushed(ours, problem, v), pushed(lstm_autodiff, problem, v), 1e-12)


@partial(jax.jit, static_argnums=0)
def pushed(f: Any, problem: Problem, v: Problem) -> Any:
    """The tangents along another problem's arguments."""

    def values(*args: Any) -> Any:
        params, inputs, initial_state = args
        changed = problem._replace(params=params, inputs=inputs, initial_state=initial_state)
        return run(f, changed)

    return jax.jvp(values, problem[:3], v[:3])[1]


def test_the_less_is_saved_the_less_memory_it_takes():
    problem = draw(16, 144, 64, 4, 32, jnp.float32, masks=False)
    programs = [
        jax.jit(partial(pullback, partial(lstm, residuals=residuals))).lower(problem).compile()
        for residuals in RESIDUALS
    ]
    sizes = [program.memory_analysis().temp_size_in_bytes for program in programs]
    state = 144 * 64 * 32 * 4
    least = (6 * state, 2 * state, state, 0)
    assert sizes == sorted(sizes, reverse=True)
    assert all(low < size < low + 3 * state for low, size in zip(least, sizes, strict=True)), sizes


def test_residuals_are_named():
    problem = draw(17, *SMALL, jnp.float64)
    with pytest.raises(ValueError, match=r"^residuals: expected one of 'gates', .*, got 'all'\.$"):
        run(partial(lstm, residuals="all"), problem)


@pytest.mark.parametrize("unmasked", ["lengths", "resets"])
def test_gradients_with_lengths_alone_and_resets_alone(unmasked):
    assert_gradients_agree(draw(4, *SMALL, jnp.float64)._replace(**{unmasked: None}))


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
def test_no_gradient_reaches_the_padding(f):
    problem = draw(5, *SMALL, jnp.float64)
    _, d_inputs, _ = compiled(pullback, f)(problem)
    reached = np.asarray(d_inputs).any(-1)
    np.testing.assert_array_equal(reached, ~padding(problem))


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
def test_no_gradient_passes_a_reset(f):
    """Sequence 0 is reset at once, 1 never, 2 would be but has length 0."""
    problem = draw(6, *SMALL, jnp.float64)
    resets = jnp.zeros(SMALL[:2], bool).at[0].set([True, False, True])
    problem = problem._replace(lengths=jnp.array([4, 7, 0], jnp.int32), resets=resets)
    _, _, d_initial = compiled(pullback, f)(problem)
    for leaf, d_final in zip(d_initial, problem.cotangents[1], strict=True):
        assert not leaf[0].any()
        assert leaf[1].all()
        assert_close(leaf[2], d_final[2], 0.0)


@pytest.mark.parametrize("f", [lstm, lstm_autodiff])
def test_nothing_to_forget_gives_the_forget_gate_no_gradient(f):
    problem = draw(7, 1, 3, 2, 5, jnp.float64, masks=False)
    empty_cell = problem.initial_state._replace(cell=jnp.zeros((3, 5)))
    d_params, _, _ = compiled(pullback, f)(problem._replace(initial_state=empty_cell))
    for leaf in d_params:
        d_i, d_f, d_g, d_o = jnp.split(leaf, 4, axis=-1)
        assert not d_f.any()
        assert all(d.all() for d in (d_i, d_g, d_o))


def draw_cell(seed: int) -> tuple[jax.Array, ...]:
    """Pre-activations [3, 4H], cell state before [3, H], and a cotangent each of h and c."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal((3, size))) for size in (20, 5, 5, 5))


def pointwise(activations: Activations, z: jax.Array, c_tm1: jax.Array) -> LSTMState:
    return next_state(gate_values(z, activations), c_tm1, activations)


def diagonals(z: jax.Array, c_tm1: jax.Array, activations: Activations) -> CellDerivatives:
    gates = gate_values(z, activations)
    c = pointwise(activations, z, c_tm1).cell
    return cell_derivatives(gates, c_tm1, c, activations)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_cell_vjp_is_that_of_the_pointwise_map(activations):
    z, c_tm1, d_h, d_c = draw_cell(8)
    _, back = jax.vjp(partial(pointwise, activations), z, c_tm1)
    gradients = cell_vjp(diagonals(z, c_tm1, activations), d_h, d_c)
    assert_close(gradients, back(LSTMState(d_h, d_c)), 1e-14)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_cell_jvp_is_that_of_the_pointwise_map_and_the_adjoint_of_cell_vjp(activations):
    z, c_tm1, d_h, d_c = draw_cell(14)
    dot_z, dot_c_tm1, _, _ = draw_cell(15)
    derivatives = diagonals(z, c_tm1, activations)
    dot_h, dot_c = cell_jvp(derivatives, dot_z, dot_c_tm1)
    _, truth = jax.jvp(partial(pointwise, activations), (z, c_tm1), (dot_z, dot_c_tm1))
    assert_close(LSTMState(dot_h, dot_c), truth, 1e-14)

    pulled = cell_vjp(derivatives, d_h, d_c)
    pushed_side = inner((d_h, d_c), (dot_h, dot_c))
    scale = np.sqrt(inner((d_h, d_c), (d_h, d_c)) * inner((dot_h, dot_c), (dot_h, dot_c)))
    assert abs(pushed_side - inner(pulled, (dot_z, dot_c_tm1))) <= 1e-14 * scale


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_the_six_diagonals_are_those_of_the_pointwise_map(activations):
    """Each is the answer to a tangent of ones; a tangent 1 / f makes a ``dot_c`` of ones."""
    z, c_tm1, _, _ = draw_cell(9)

    def dot(gate: int | None, dot_c_tm1: jax.Array) -> LSTMState:
        dot_z = jnp.zeros((3, 4, 5)) if gate is None else jnp.zeros((3, 4, 5)).at[:, gate].set(1.0)
        tangents = (dot_z.reshape(3, 20), dot_c_tm1)
        return jax.jvp(partial(pointwise, activations), (z, c_tm1), tangents)[1]

    zeros, ones, f = jnp.zeros((3, 5)), jnp.ones((3, 5)), gate_values(z, activations).forget
    dot_i, dot_f, dot_g, dot_o = (dot(gate, zeros) for gate in range(4))
    truth = CellDerivatives(
        *(dot_i.cell, dot_f.cell, dot_g.cell, dot(None, ones).cell),
        *(dot_o.hidden, dot(None, 1 / f).hidden),
    )
    assert_close(diagonals(z, c_tm1, activations), truth, 1e-14)


def split(problem: Problem) -> tuple[list[jax.Array], Any]:
    """The floating arguments as leaves in the order of LEAVES, and how to put them back."""
    leaves, treedef = jax.tree.flatten(problem[:3])
    return leaves, lambda new: Problem(*treedef.unflatten(new), *problem[3:])


def inner(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(x, y) for x, y in pairs))


@pytest.mark.parametrize("leaf", range(len(LEAVES)), ids=LEAVES)
@pytest.mark.parametrize("masks", [False, True])
def test_gradients_are_the_limit_of_central_differences(leaf, masks):
    """A step of 1e-5 leaves a truncation of about 1e-10 and a rounding of about 1e-11."""
    problem = draw(10, *SMALL, jnp.float64, masks=masks)
    leaves, join = split(problem)
    direction = jnp.asarray(np.random.default_rng(11).standard_normal(leaves[leaf].shape))

    def objective(distance: float) -> float:
        moved = [*leaves[:leaf], leaves[leaf] + distance * direction, *leaves[leaf + 1 :]]
        return inner(problem.cotangents, compiled(run, lstm)(join(moved)))

    gradient = jax.tree.leaves(compiled(pullback, lstm)(problem))[leaf]
    slope = (objective(1e-5) - objective(-1e-5)) / 2e-5
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(slope - inner(gradient, direction)) <= 1e-9 * scale


@jax.jit
def pushforward(problem: Problem, v: Any) -> Any:
    """The tangent of the values along ``v``, by JAX's forward mode."""

    def values(*arguments: Any) -> Any:
        return run(lstm_autodiff, Problem(*arguments, *problem[3:]))

    return jax.jvp(values, problem[:3], v)[1]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("signature", [SMALL, (300, 2, 3, 4)], ids=str)
def test_the_pullback_is_the_adjoint_of_the_pushforward(masks, signature):
    """<u, J v> = <J' u, v>."""
    problem = draw(12, *signature, jnp.float64, masks=masks)
    v = draw(13, *signature, jnp.float64)[:3]

    u, Jv = problem.cotangents, pushforward(problem, v)
    scale = np.sqrt(inner(u, u) * inner(Jv, Jv))
    assert abs(inner(u, Jv) - inner(compiled(pullback, lstm)(problem), v)) <= 1e-14 * scale
