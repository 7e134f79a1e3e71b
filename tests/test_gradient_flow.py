"""Jacobians, gradients and their paths against autodiff, and against every path one by one."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from drawing import SIGMOID, TANH, Problem, assert_close, draw, one_sequence
from jax.flatten_util import ravel_pytree

import jaxlstm
from jaxlstm import Activations, LSTMState
from jaxlstm.gradient_flow import (
    LSTMSteps,
    cancellation,
    gradient_flow_report,
    jacobian_product,
    linearize,
    matrices,
    path_norms,
    path_parts,
    shares,
    state_gradients,
    step_jacobians,
)
from jaxlstm.gradient_flow.paths import norm

SMALL = (7, 4, 2, 5)
LONG = (300, 3, 2, 4)
ACTIVATIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "identity": lambda z: z}


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def steps_of(problem: Problem, activations: Activations = TANH) -> LSTMSteps:
    params, inputs, state, lengths, resets, _ = problem
    return linearize(params, inputs, state, lengths=lengths, resets=resets, activations=activations)


def masks(problem: Problem) -> tuple[Any, Any]:
    """Which steps count, and which take the state over: [T, B]."""
    shape = problem.inputs.shape[:-1]
    if problem.lengths is None or problem.resets is None:
        return jnp.ones(shape, bool), jnp.ones(shape, bool)
    return jnp.arange(shape[0], dtype=jnp.int32)[:, None] < problem.lengths, ~problem.resets


def jacobians_by_autodiff(problem: Problem, activations: Activations) -> Any:
    """Of every step [T, B, 2H, 2H], hidden before cell, and of the final by the first state."""

    def one_step(state: Any, x_t: Any, valid: Any, carried: Any) -> Any:
        h, c = jnp.split(state, 2)
        entered = LSTMState(jnp.where(carried, h, 0), jnp.where(carried, c, 0))
        after = jaxlstm.step(problem.params, entered, x_t, activations=activations)
        return jnp.where(valid, ravel_pytree(after)[0], state)

    def of_one(state: Any, x: Any, valid: Any, carried: Any) -> Any:
        def run(state: Any) -> Any:
            return jax.lax.scan(lambda s, xs: (one_step(s, *xs), s), state, (x, valid, carried))

        _, entered = run(state)
        each = jax.vmap(jax.jacfwd(one_step))(entered, x, valid, carried)
        return each, jax.jacfwd(lambda state: run(state)[0])(state)

    state = jnp.concatenate(problem.initial_state, axis=-1)
    return jax.jit(jax.vmap(of_one, (0, 1, 1, 1), (1, 0)))(state, problem.inputs, *masks(problem))


@pytest.mark.parametrize("activations", [TANH, SIGMOID, Activations("identity", "tanh")], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_step_jacobians_and_their_product(activations, masked):
    problem = draw(1, *SMALL, jnp.float64, masks=masked)
    each, product = jacobians_by_autodiff(problem, activations)
    steps = steps_of(problem, activations)
    assert_close(matrices(step_jacobians(steps)), each, 1e-13)
    assert_close(jacobian_product(steps), product, 1e-13)


def test_dh_by_h_is_document_004s():
    """tanh(c) o' U_o + o (1 - tanh(c)^2) (c_{t-1} f' U_f + u i' U_i + i u' U_u)."""
    problem = one_sequence(draw(2, *SMALL, jnp.float64, masks=False), 0)
    i, f, u, o, c = numpy_gates(problem)
    U_i, U_f, U_u, U_o = np.split(np.asarray(problem.params.recurrent_kernel), 4, axis=1)
    found = step_jacobians(steps_of(problem)).dh_dh
    for t in range(len(found)):
        by_o = (np.tanh(c[t + 1]) * o[t] * (1 - o[t]))[:, None] * U_o.T
        by_f = (c[t] * f[t] * (1 - f[t]))[:, None] * U_f.T
        by_i = (u[t] * i[t] * (1 - i[t]))[:, None] * U_i.T
        by_u = (i[t] * (1 - u[t] ** 2))[:, None] * U_u.T
        outer = (o[t] * (1 - np.tanh(c[t + 1]) ** 2))[:, None]
        assert_close(found[t], by_o + outer * (by_f + by_i + by_u), 1e-14)


def gradients_by_autodiff(problem: Problem, activations: Activations) -> Any:
    """By a change of every h_k, c_k and z_k in place: [T + 1, B, H] twice, and [T, B, 4, H]."""
    params, inputs, state, _, _, (d_outputs, d_final) = problem
    phi, psi = ACTIVATIONS[activations.candidate], ACTIVATIONS[activations.cell]

    def one_step(state: LSTMState, step_t: Any) -> tuple[LSTMState, Any]:
        x, valid, carried, by_h, by_c, by_z = step_t
        h, c = (jnp.where(carried[:, None], leaf, 0) for leaf in state)
        z = x @ params.input_kernel + h @ params.recurrent_kernel + params.bias + by_z
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * phi(g) + by_c
        after = LSTMState(jax.nn.sigmoid(o) * psi(c) + by_h, c)
        padded = LSTMState(state.hidden + by_h, state.cell + by_c)
        after = jax.tree.map(lambda a, b: jnp.where(valid[:, None], a, b), after, padded)
        return after, jnp.where(valid[:, None], after.hidden, 0)

    def loss(by_h: Any, by_c: Any, by_z: Any) -> Any:
        first = LSTMState(state.hidden + by_h[0], state.cell + by_c[0])
        xs = (inputs, *masks(problem), by_h[1:], by_c[1:], by_z)
        final, outputs = jax.lax.scan(one_step, first, xs)
        on_final = sum(jnp.vdot(d, leaf) for d, leaf in zip(d_final, final, strict=True))
        return on_final + (0 if d_outputs is None else jnp.vdot(d_outputs, outputs))

    (T, B, _), H = inputs.shape, len(params.recurrent_kernel)
    zeros = [jnp.zeros(shape) for shape in ((T + 1, B, H), (T + 1, B, H), (T, B, 4 * H))]
    by_h, by_c, by_z = jax.jit(jax.grad(loss, (0, 1, 2)))(*zeros)
    return by_h, by_c, by_z.reshape(T, B, 4, H)


def assert_close_at_each_step(ours: Any, truth: Any, tolerance: float) -> None:
    """Relative to the largest entry of each step and sequence, for later ones hide earlier."""
    axes = tuple(range(2, truth.ndim))
    error, size = (np.abs(x).max(axes, initial=0) for x in (ours - truth, truth))
    assert (error <= tolerance * size).all()


def from_the_end_alone(problem: Problem) -> Problem:
    return problem._replace(cotangents=(None, problem.cotangents[1]))


@pytest.mark.parametrize("activations", [TANH, SIGMOID], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_by_every_state_and_gate(activations, masked):
    """With masks, every output has a cotangent too, as a layer above would give it."""
    problem = draw(3, *LONG, jnp.float64, masks=masked)
    if not masked:
        problem = from_the_end_alone(problem)
    d_outputs, (d_h, d_c) = problem.cotangents
    ours = state_gradients(steps_of(problem, activations), d_h, d_c, d_outputs=d_outputs)
    for leaf, truth in zip(ours, gradients_by_autodiff(problem, activations), strict=True):
        assert np.abs(truth[0]).max() > 0 or masked
        assert_close_at_each_step(leaf, truth, 1e-10)


@pytest.mark.parametrize("activations", [TANH, SIGMOID], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_parts_add_up_to_the_gradient(activations, masked):
    """Within 1e-12 of the sum of their norms, at every step; with masks, of all outputs."""
    problem = draw(4, *LONG, jnp.float64, masks=masked)
    if not masked:
        problem = from_the_end_alone(problem)
    d_outputs, (d_h, d_c) = problem.cotangents
    steps, options = steps_of(problem, activations), {"d_outputs": d_outputs, "crossings": 4}
    parts, norms = (of(steps, d_h, d_c, **options) for of in (path_parts, path_norms))
    truth = gradients_by_autodiff(problem, activations)[:2]
    for cell_path, crossed, whole in zip(*parts, truth, strict=True):
        each = np.concatenate([cell_path[:, :, None], crossed.reshape(*whole.shape[:2], 20, -1)], 2)
        summed_norms = np.linalg.norm(each, axis=-1).sum(-1)
        error = np.linalg.norm(each.sum(2) - whole, axis=-1)
        assert (error <= 1e-12 * summed_norms).all()
        assert (summed_norms[0, [-1]] > 0).all() or masked
    truths = LSTMState(*truth)
    assert_close(norms.total, jax.tree.map(partial(np.linalg.norm, axis=-1), truths), 1e-12)
    assert_close(norms.crossed.cell, np.linalg.norm(parts.crossed.cell, axis=-1), 1e-12)


def test_total_is_the_gradients_where_the_parts_cancel():
    """By millions here, and by so much more is their sum off."""
    problem = from_the_end_alone(draw(4, *LONG, jnp.float64, masks=False))
    _, W, bias = problem.params
    params = problem.params._replace(recurrent_kernel=5 * W, bias=bias.at[4:8].add(6.0))
    problem = problem._replace(params=params)
    d_h, d_c = problem.cotangents[1]
    norms = path_norms(steps_of(problem), d_h, d_c, crossings=4)
    assert cancellation(norms).cell.max() > 1e6
    for total, truth in zip(norms.total, gradients_by_autodiff(problem, TANH), strict=False):
        assert_close_at_each_step(
            total[..., None], np.linalg.norm(truth, axis=-1)[..., None], 1e-12
        )


@pytest.mark.parametrize("psi", ["tanh", "identity"])
@pytest.mark.parametrize("crossings", [1, 3, 7])
def test_parts_are_the_sums_over_all_paths(psi, crossings):
    problem = one_sequence(draw(5, 6, 2, 3, 2, jnp.float64, masks=False), 0)
    d_h, d_c = problem.cotangents[1]
    steps = steps_of(problem, Activations("tanh", psi))
    parts = path_parts(steps, d_h, d_c, crossings=crossings)
    truth, count = sums_over_paths(problem, psi, crossings)
    assert count > 500_000
    for cell_path, crossed, (no_crossing, by_gate) in zip(*parts, truth, strict=True):
        assert_close(cell_path, no_crossing, 1e-14)
        assert_close(crossed, by_gate, 1e-13)


NUMPY_PSI = {
    "tanh": (np.tanh, lambda c: 1 - np.tanh(c) ** 2),
    "identity": (lambda c: c, np.ones_like),
}


def numpy_gates(problem: Problem, psi: str = "tanh") -> Any:
    """i, f, g, o [T, H] and c [T + 1, H] of one sequence, by a loop."""
    U, W, b = map(np.asarray, problem.params)
    h, c = map(np.asarray, problem.initial_state)
    gates, cells = [], [c]
    for x in np.asarray(problem.inputs):
        z_i, z_f, z_g, z_o = np.split(x @ U + h @ W + b, 4)
        i, f, o = (1 / (1 + np.exp(-z)) for z in (z_i, z_f, z_o))
        c = f * c + i * np.tanh(z_g)
        h = o * NUMPY_PSI[psi][0](c)
        gates.append((i, f, np.tanh(z_g), o))
        cells.append(c)
    return *np.stack(gates, axis=1), np.stack(cells)


class Paths:
    """Many paths that have come back to the hidden, or to the cell states of one step."""

    def __init__(self, unit: Any, weight: Any, crossings: Any, first: Any):
        self.unit, self.weight, self.crossings, self.first = unit, weight, crossings, first

    @classmethod
    def from_loss(cls, row: Any) -> "Paths":
        H = len(row)
        return cls(np.arange(H), np.asarray(row), np.zeros(H, int), np.full(H, -1))

    def __add__(self, other: "Paths") -> "Paths":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Paths(*(np.concatenate(pair) for pair in pairs))

    def along(self, diagonal: Any) -> "Paths":
        """To the same unit of another layer of the graph."""
        return Paths(self.unit, self.weight * diagonal[self.unit], self.crossings, self.first)

    def across(self, gate: int, diagonal: Any, kernel: Any) -> "Paths":
        """Through a gate, by the kernel [from, to], to every unit."""
        first, found = np.where(self.crossings == 0, gate, self.first), self.along(diagonal)
        reached = [
            Paths(
                np.full_like(found.unit, v),
                found.weight * row[found.unit],
                self.crossings + 1,
                first,
            )
            for v, row in enumerate(kernel)
        ]
        return sum(reached[1:], reached[0])

    def sums(self, H: int, R: int) -> Any:
        """[H] of no crossing, and [4, R + 1, H] by first gate and by crossings."""
        none, by_gate = np.zeros(H), np.zeros((4, R + 1, H))
        crossed = self.crossings > 0
        np.add.at(none, self.unit[~crossed], self.weight[~crossed])
        at = (self.first, np.minimum(self.crossings, R + 1) - 1, self.unit)
        np.add.at(by_gate, tuple(index[crossed] for index in at), self.weight[crossed])
        return none, by_gate


def sums_over_paths(problem: Problem, psi: str, R: int) -> Any:
    """Every path from unit to unit, one by one; by hidden and by cell; and how many there are."""
    i, f, g, o, c = numpy_gates(problem, psi)
    W_i, W_f, W_g, W_o = np.split(np.asarray(problem.params.recurrent_kernel), 4, axis=1)
    value, prime = (function(c[1:]) for function in NUMPY_PSI[psi])
    hidden, cell = map(Paths.from_loss, problem.cotangents[1])
    found = []
    for t in reversed(range(len(f))):
        cell = cell + hidden.along(o[t] * prime[t])
        found.append([paths.sums(len(f[t]), R) for paths in (hidden, cell)])
        by_o = hidden.across(3, value[t] * o[t] * (1 - o[t]), W_o)
        by_i = cell.across(0, g[t] * i[t] * (1 - i[t]), W_i)
        by_f = cell.across(1, c[t] * f[t] * (1 - f[t]), W_f)
        by_g = cell.across(2, i[t] * (1 - g[t] ** 2), W_g)
        hidden, cell = by_o + by_i + by_f + by_g, cell.along(f[t])
    found.append([paths.sums(len(f[0]), R) for paths in (hidden, cell)])
    by_node = [map(np.stack, zip(*node, strict=True)) for node in zip(*found[::-1], strict=True)]
    return by_node, len(hidden.unit) + len(cell.unit)


def test_cell_path_is_the_documents_t_0():
    """L' o psi'(c_t) f_t ... f_{k+1}, and nothing of h_k but at the loss."""
    problem = one_sequence(draw(6, *SMALL, jnp.float64, masks=False), 1)
    _, f, _, o, c = numpy_gates(problem)
    d_h = np.asarray(problem.cotangents[1].hidden)
    parts = path_parts(steps_of(problem), problem.cotangents[1].hidden)
    forgotten = np.cumprod(np.append(f, np.ones((1, 5)), axis=0)[::-1], axis=0)[::-1]
    t_0 = d_h * o[-1] * (1 - np.tanh(c[-1]) ** 2) * forgotten
    assert_close(parts.cell_path.cell, t_0, 1e-14)
    assert (parts.cell_path.hidden[:-1] == 0).all()
    assert (parts.cell_path.hidden[-1] == d_h).all()


def test_shares_and_cancellation():
    problem = draw(7, *LONG, jnp.float64)
    norms = path_norms(steps_of(problem), problem.cotangents[1].hidden)
    share, factor = shares(norms), cancellation(norms)
    arrives = np.asarray(norms.total.cell) > 0
    summed = np.asarray(share.cell_path.cell + share.crossed.cell.sum((-2, -1)))
    assert_close(summed, arrives.astype(float), 1e-14)
    assert (np.asarray(factor.cell)[arrives] >= 1 - 1e-14).all()
    assert np.asarray(factor.cell).max() > 1.2
    assert_close(share.total.cell[arrives] * factor.cell[arrives], np.ones(arrives.sum()), 1e-14)
    assert not factor.cell[~arrives].any()
    assert not arrives.all()
    broken = norms._replace(cell_path=jax.tree.map(lambda x: x.at[0].set(jnp.nan), norms.cell_path))
    for leaf in (shares(broken).crossed.cell, cancellation(broken).cell):
        assert np.isnan(leaf[0]).all()
        assert not np.isnan(leaf[1:]).any()


@pytest.mark.parametrize("size", [1e-30, 1e30, 0.0])
def test_norms_of_small_and_large(size):
    x = jnp.full((2, 3), size, jnp.float32)
    assert_close(norm(x), np.full(2, 3**0.5 * size, np.float32), 1e-6)


def test_without_batch_and_without_steps():
    problem = draw(8, *SMALL, jnp.float64)
    d_h, d_c = problem.cotangents[1]
    batch = path_parts(steps_of(problem), d_h, d_c)
    one = one_sequence(problem, 2)
    alone = path_parts(steps_of(one), d_h[2], d_c[2])
    assert_close(alone, jax.tree.map(lambda leaf: leaf[:, 2], batch), 1e-14)
    empty = steps_of(draw(8, 0, 2, 3, 4, jnp.float64, masks=False))
    found = state_gradients(empty, jnp.ones((2, 4)))
    assert found.hidden.shape == (1, 2, 4)
    assert (found.hidden == 1).all()


@pytest.fixture
def unchecked_types() -> Any:
    """The checks of annotations, a help under pytest only, would answer before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input():
    problem = draw(9, *SMALL, jnp.float64)
    steps, d_h = steps_of(problem), problem.cotangents[1].hidden
    with pytest.raises(TypeError, match=r"steps: expected LSTMSteps, got tuple"):
        state_gradients(tuple(steps), d_h)
    with pytest.raises(
        ValueError, match=r"d_h: expected shape \[B, H\] = \[4, 5\] as the steps have, got \[5\]"
    ):
        state_gradients(steps, d_h[0])
    with pytest.raises(TypeError, match=r"d_c: expected dtype float64 .* got float32"):
        path_parts(steps, d_h, d_h.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"crossings: expected at least 1, got 0"):
        path_parts(steps, d_h, crossings=0)
    with pytest.raises(ValueError, match=r"d_outputs: expected shape \[T, B, H\] = \[7, 4, 5\] as"):
        state_gradients(steps, d_h, d_outputs=d_h)
    (both,) = jaxlstm.init_layers(jax.random.key(0), 3, 5, layers=1, bidirectional=True)
    with pytest.raises(TypeError, match=r"layers\[0\]: expected LSTMParams, got Bidirectional"):
        gradient_flow_report((both,), jnp.ones((7, 2, 3), jnp.float32))
