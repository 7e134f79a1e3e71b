"""``lstm`` in forward mode, under every transformation of JAX: the tangents of the plain scan."""

from functools import cache, partial
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
from drawing import (
    ACTIVATION_PAIRS,
    Problem,
    assert_close,
    assert_same_bits,
    draw,
    one_sequence,
    padding,
    run,
)
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding

from jaxlstm import lstm, lstm_autodiff


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@cache
def jitted(of: Any, *args: Any) -> Any:
    """``of`` of these and of what comes later: one compilation for all tests of a shape."""
    return jax.jit(partial(of, *args))


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
    truth = jitted(pushforward, lstm_autodiff)(problem, v[:3])
    assert_close(jitted(forward, lstm)(problem, v[:3]), truth, 1e-13)
    assert_close(forward(lstm, problem, v[:3]), truth, 1e-13)


@pytest.mark.parametrize("activations", ACTIVATION_PAIRS, ids=str)
def test_forward_mode_with_every_activation(activations):
    problem, v = (draw(seed, *SMALL, jnp.float64) for seed in (22, 23))
    f, oracle = (partial(g, activations=activations) for g in (lstm, lstm_autodiff))
    truth = jax.jit(partial(pushforward, oracle))(problem, v[:3])
    assert_close(jax.jit(partial(pushforward, f))(problem, v[:3]), truth, 1e-13)


def test_forward_mode_through_scan_and_checkpoint():
    problem, v = (draw(seed, 4, 3, 2, 4, jnp.float64, masks=False) for seed in (24, 25))
    pushed = jitted(pushed_through_a_scan, lstm)(problem, v[:3])
    assert_close(pushed, jitted(pushforward, lstm_autodiff)(problem, v[:3]), 1e-13)


@pytest.mark.parametrize(("params", "rest"), [(0, 0), (None, 0)], ids=["both", "sequences"])
def test_vmap_of_forward_mode(params, rest):
    problems, stacked = several(26, 27)
    given = stacked if params == 0 else stacked._replace(params=problems[0].params)
    along, v = several(28, 29)[0], several(28, 29)[1]
    axes = (mapped_axes(params, rest), (0, 0, 0))
    mapped = jax.jit(jax.vmap(partial(pushforward, lstm), axes))(given, v[:3])
    chosen = [p if params == 0 else p._replace(params=problems[0].params) for p in problems]
    pushed = jitted(pushforward, lstm_autodiff)
    truth = stack([pushed(p, t[:3]) for p, t in zip(chosen, along, strict=True)])
    assert_close(mapped, truth, 1e-13)


def curved(f: Any, problem: Problem, flat: jax.Array) -> jax.Array:
    """A curved function of all floating arguments in one vector."""
    outputs, final = run(f, Problem(*ravel_pytree(problem[:3])[1](flat), *problem[3:]))
    return jnp.sin(outputs).sum() + (final.hidden * final.cell).sum()


def hessian(outer: Any, inner: Any, f: Any, problem: Problem) -> jax.Array:
    return outer(inner(partial(curved, f, problem)))(ravel_pytree(problem[:3])[0])


def jacobian(f: Any, problem: Problem) -> jax.Array:
    return jax.jacfwd(partial(curved, f, problem))(ravel_pytree(problem[:3])[0])


forward_over_reverse = partial(hessian, jax.jacfwd, jax.jacrev)


@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
def test_hessian_in_all_four_orders(outer, inner):
    problem = draw(30, *SMALL, jnp.float64)
    truth = jitted(forward_over_reverse, lstm_autodiff)(problem)
    assert_close(jitted(hessian, outer, inner, lstm)(problem), truth, 1e-12)


@pytest.mark.parametrize(
    ("transformed", "takes"), [(linearized, 2), (jacobian, 1), (forward_over_reverse, 1)]
)
def test_vmap_along_the_second_axis(transformed, takes):
    (problems, stacked), (along, v) = several(26, 27), several(28, 29)
    moved = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), (stacked, v[:3])[:takes])
    mapped = jax.jit(jax.vmap(partial(transformed, lstm), in_axes=1))(*moved)
    oracle = jitted(transformed, lstm_autodiff)
    each = zip(problems, along, strict=True)
    truth = stack([oracle(*(problem, t[:3])[:takes]) for problem, t in each])
    assert_close(mapped, truth, 1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), SMALL], ids=["T=0", "unbatched"])
def test_edges(shape):
    problem, v = (draw(seed, *shape, jnp.float64) for seed in (42, 43))
    if shape == SMALL:
        longest = int(problem.lengths.argmax())
        problem, v = one_sequence(problem, longest), one_sequence(v, longest)
    truth = jitted(pushforward, lstm_autodiff)(problem, v[:3])
    assert_close(jitted(pushforward, lstm)(problem, v[:3]), truth, 1e-13)


def test_tangents_of_the_padding_never_matter():
    problem, v = (draw(seed, *SMALL, jnp.float64) for seed in (10, 11))
    nan = jnp.where(padding(problem)[..., None], jnp.nan, v.inputs)
    assert jnp.isnan(nan).any()
    push = jitted(pushforward, lstm)
    assert_same_bits(push(problem, v._replace(inputs=nan)[:3]), push(problem, v[:3]))


def test_half_precision():
    dtype = jnp.bfloat16
    problem, v = (draw(seed, *SMALL, dtype) for seed in (44, 45))
    in_float64 = partial(jax.tree.map, lambda leaf: leaf.astype(jnp.float64))
    exact = Problem(*in_float64(problem[:3]), *problem[3:])
    truth = jitted(pushforward, lstm_autodiff)(exact, in_float64(v[:3]))
    pushed = jitted(pushforward, lstm)(problem, v[:3])
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(pushed))
    assert_close(pushed, truth, 8 * float(jnp.finfo(dtype).eps))


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
    assert_close(pushed, jitted(pushforward, lstm_autodiff)(problem, v[:3]), 1e-13)


def pushforward_by_each(f: Any, problem: Problem, v: Any) -> Any:
    """The tangents where one field alone moves: parameters, inputs, initial state."""

    def along(name: str) -> Any:
        values = lambda field: run(f, problem._replace(**{name: field}))  # noqa: E731
        return jax.jvp(values, (getattr(problem, name),), (getattr(v, name),))[1]

    return [along(name) for name in ("params", "inputs", "initial_state")]


@pytest.mark.parametrize("check_vma", [True, False])
def test_forward_mode_of_some_arguments_within_shard_map(check_vma):
    problem, v = (draw_sharded(seed, masks=True, given_state=True) for seed in (34, 35))
    specs = placements(problem)
    sharded = jax.shard_map(
        partial(pushforward_by_each, lstm),
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(specs, specs),
        out_specs=[specs.cotangents] * 3,
        check_vma=check_vma,
    )
    truth = jitted(pushforward_by_each, lstm_autodiff)(problem, v)
    assert_close(jax.jit(sharded)(problem, v), truth, 1e-13)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_forward_mode_on_meshes(axis_type):
    problem, v = (draw_sharded(seed, masks=True, given_state=True) for seed in (36, 37))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    shardings = jax.tree.map(partial(NamedSharding, mesh), placements(problem))
    with jax.set_mesh(mesh):
        placed, along = jax.device_put((problem, v[:3]), (shardings, shardings[:3]))
        pushed = jitted(pushforward, lstm)(placed, along)
    truth = jitted(pushforward, lstm_autodiff)(problem, v[:3])
    assert_close(jax.device_get(pushed), truth, 1e-13)
    assert_placed(pushed, (shardings.cotangents,) * 2)
