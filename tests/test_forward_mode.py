"""``lstm`` in forward mode, under every transformation of JAX: the tangents of the plain scan."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from composing import (
    MASKS,
    SMALL,
    assert_placed,
    draw_sharded,
    in_windows,
    mapped_axes,
    placements,
    several,
    stack,
)
from drawing import ACTIVATION_PAIRS, Problem, assert_close, draw, run
from jax.sharding import AxisType, NamedSharding

from jaxlstm import lstm, lstm_autodiff


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def pushforward(f: Any, problem: Problem, v: Any) -> Any:
    """The values and their tangents along ``v``, a tangent of the first three fields."""
    return jax.jvp(lambda *floating: run(f, Problem(*floating, *problem[3:])), problem[:3], v)


def linearized(f: Any, problem: Problem, v: Any) -> Any:
    values, push = jax.linearize(
        lambda *floating: run(f, Problem(*floating, *problem[3:])), *problem[:3]
    )
    return values, push(*v)


def pushed_through_a_scan(f: Any, problem: Problem, v: Any) -> Any:
    again = jax.checkpoint(partial(in_windows, f))
    return jax.jvp(lambda *floating: again(Problem(*floating, *problem[3:])), problem[:3], v)


@MASKS
@pytest.mark.parametrize("forward", [pushforward, linearized])
def test_forward_mode(forward, masks):
    problem, v = (draw(seed, *SMALL, jnp.float64, masks=masks) for seed in (10, 11))
    truth = jax.jit(partial(pushforward, lstm_autodiff))(problem, v[:3])
    assert_close(jax.jit(partial(forward, lstm))(problem, v[:3]), truth, 1e-13)
    assert_close(forward(lstm, problem, v[:3]), truth, 1e-13)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_forward_mode_with_every_activation(activations):
    problem, v = (draw(seed, *SMALL, jnp.float64) for seed in (22, 23))
    f, oracle = (partial(g, activations=activations) for g in (lstm, lstm_autodiff))
    truth = jax.jit(partial(pushforward, oracle))(problem, v[:3])
    assert_close(jax.jit(partial(pushforward, f))(problem, v[:3]), truth, 1e-13)


def test_forward_mode_through_scan_and_checkpoint():
    problem, v = (draw(seed, 4, 3, 2, 4, jnp.float64, masks=False) for seed in (24, 25))
    pushed = jax.jit(partial(pushed_through_a_scan, lstm))(problem, v[:3])
    assert_close(pushed, jax.jit(partial(pushforward, lstm_autodiff))(problem, v[:3]), 1e-13)


@pytest.mark.parametrize(("params", "rest"), [(0, 0), (None, 0)], ids=["both", "sequences"])
def test_vmap_of_forward_mode(params, rest):
    problems, stacked = several(26, 27)
    given = stacked if params == 0 else stacked._replace(params=problems[0].params)
    along, v = several(28, 29)[0], several(28, 29)[1]
    axes = (mapped_axes(params, rest), (0, 0, 0))
    mapped = jax.jit(jax.vmap(partial(pushforward, lstm), axes))(given, v[:3])
    chosen = [p if params == 0 else p._replace(params=problems[0].params) for p in problems]
    pushed = jax.jit(partial(pushforward, lstm_autodiff))
    truth = stack([pushed(p, t[:3]) for p, t in zip(chosen, along, strict=True)])
    assert_close(mapped, truth, 1e-13)


def of_bias(f: Any, problem: Problem, bias: jax.Array) -> jax.Array:
    """A curved function of the bias alone."""
    outputs, final = run(f, problem._replace(params=problem.params._replace(bias=bias)))
    return jnp.sin(outputs).sum() + (final.hidden * final.cell).sum()


@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
def test_hessian_in_all_four_orders(outer, inner):
    problem = draw(30, *SMALL, jnp.float64)
    ours, theirs = (
        jax.jit(outer(inner(partial(of_bias, f, problem))))(problem.params.bias)
        for f in (lstm, lstm_autodiff)
    )
    assert_close(ours, theirs, 1e-12)


def test_jacobians_of_forward_and_reverse_mode_agree():
    problem = draw(31, *SMALL, jnp.float64)

    def outputs(f: Any, *floating: Any) -> Any:
        return run(f, Problem(*floating, *problem[3:]))[0]

    def jacobian(mode: Any, f: Any) -> Any:
        return jax.jit(mode(partial(outputs, f), argnums=(0, 1, 2)))(*problem[:3])

    truth = jacobian(jax.jacrev, lstm_autodiff)
    assert_close(jacobian(jax.jacfwd, lstm), truth, 1e-13)
    assert_close(jacobian(jax.jacrev, lstm), truth, 1e-13)


@MASKS
@pytest.mark.parametrize("check_vma", [True, False])
def test_forward_mode_through_shard_map(check_vma, masks):
    problem, v = (draw_sharded(seed, masks, given_state=True) for seed in (34, 35))
    specs = placements(problem)
    sharded = jax.shard_map(
        partial(pushforward, lstm),
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(specs, specs[:3]),
        out_specs=(specs.cotangents, specs.cotangents),
        check_vma=check_vma,
    )
    pushed = jax.jit(sharded)(problem, v[:3])
    assert_close(pushed, jax.jit(partial(pushforward, lstm_autodiff))(problem, v[:3]), 1e-13)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_forward_mode_on_meshes(axis_type):
    problem, v = (draw_sharded(seed, masks=True, given_state=True) for seed in (36, 37))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    shardings = jax.tree.map(partial(NamedSharding, mesh), placements(problem))
    with jax.set_mesh(mesh):
        placed, along = jax.device_put((problem, v[:3]), (shardings, shardings[:3]))
        pushed = jax.jit(partial(pushforward, lstm))(placed, along)
    truth = jax.jit(partial(pushforward, lstm_autodiff))(problem, v[:3])
    assert_close(jax.device_get(pushed), truth, 1e-13)
    assert_placed(pushed, (shardings.cotangents,) * 2)
