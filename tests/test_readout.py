"""Embedding, logits, cross-entropy: values by NumPy, gradients by autodiff and differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxlstm
from jaxlstm.gradient_check import check_gradients, relative_error

T, B, D, K = 6, 8, 3, 11
BY_HAND = (jaxlstm.embed, jaxlstm.logits, jaxlstm.cross_entropy)
AUTODIFF = (jaxlstm.embed_autodiff, jaxlstm.logits_autodiff, jaxlstm.cross_entropy_autodiff)


def point(seed=0):
    rng = np.random.default_rng(seed)
    readout = jaxlstm.ReadoutParams(rng.standard_normal((D, K)), rng.standard_normal(K))
    args = {"table": rng.standard_normal((K, D)), "readout": readout}
    characters, targets = rng.integers(0, K - 2, (2, T, B))
    return args, rng.standard_normal((T, B)), (characters, targets)


def losses(functions, args, context):
    embed, logits, cross_entropy = functions
    characters, targets = context
    hidden = jnp.tanh(embed(args["table"], characters))
    return cross_entropy(logits(args["readout"], hidden), targets)


def weighted_sum(functions, args, weights, context):
    return (weights * losses(functions, args, context)).sum()


@pytest.mark.parametrize("functions", [BY_HAND, AUTODIFF])
def test_values_are_minus_the_log_of_the_softmax(functions):
    args, _, (characters, targets) = point()
    with jax.enable_x64(True):
        ours = losses(functions, args, (characters, targets))
    hidden = np.tanh(np.eye(K)[characters] @ args["table"])
    powers = np.exp(hidden @ args["readout"].kernel + args["readout"].bias)
    probabilities = powers / powers.sum(-1, keepdims=True)
    truth = -np.log((probabilities * np.eye(K)[targets]).sum(-1))
    np.testing.assert_allclose(ours, truth, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("seed", range(5))
def test_gradient_equals_autodiff(dtype, seed):
    args, weights, context = point(seed)
    report = check_gradients(
        partial(losses, BY_HAND),
        partial(losses, AUTODIFF),
        (args, context),
        cotangents=weights,
        dtypes=[dtype],
        blocks={"args.table": {str(k): k for k in range(K)}},
        also=["second order", "witnesses"] if seed == 0 else (),
    )
    assert report.passed
    assert all(c.passed is True for c in report.comparisons)


def test_half_precision_rows_are_summed_in_float32():
    table = jnp.full((2, 1), 0.5, jnp.bfloat16)
    characters = jnp.zeros(3000, int)
    gradient = jax.grad(
        lambda table: (jaxlstm.embed(table, characters) * table.dtype.type(0.01)).sum()
    )
    expected = 3000 * np.float64(jnp.bfloat16(0.01))
    assert relative_error(gradient(table)[0], np.array([expected])) < 1 / 256


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("functions", [BY_HAND, AUTODIFF])
def test_gradient_on_a_mesh(functions, axis_type):
    args, weights, context = jax.tree.map(jnp.asarray, point())
    alone = jax.grad(partial(weighted_sum, functions))(args, weights, context)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    along_batch = NamedSharding(mesh, P(None, "data"))
    with jax.set_mesh(mesh):
        args = jax.device_put(args, NamedSharding(mesh, P()))
        weights, context = jax.device_put((weights, context), along_batch)
        together = jax.jit(jax.grad(partial(weighted_sum, functions)))(args, weights, context)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(together))
    for ours, truth in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        assert relative_error(jax.device_get(ours), jax.device_get(truth)) < 1e-6


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradient_under_shard_map(check_vma):
    args, weights, context = jax.tree.map(jnp.asarray, point())
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    along_batch = P(None, "data")
    total = jax.shard_map(
        lambda *point: jax.lax.psum(weighted_sum(BY_HAND, *point), "data"),
        mesh=mesh,
        in_specs=(P(), along_batch, along_batch),
        out_specs=P(),
        check_vma=check_vma,
    )
    alone = jax.grad(partial(weighted_sum, AUTODIFF))(args, weights, context)
    together = jax.jit(jax.grad(total))(args, weights, context)
    for ours, truth in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        assert relative_error(jax.device_get(ours), jax.device_get(truth)) < 1e-6


@pytest.fixture
def without_type_checks():
    """Wrong types reach our own errors instead of the type checker's."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BAD = [
    (lambda a: jaxlstm.embed(a["table"][0], np.array([1])), "table: expected 2 dimensions, got 1"),
    (lambda a: jaxlstm.embed(a["table"], np.array([0, 11])), "from 0 to K - 1 = 10"),
    (lambda a: jaxlstm.embed(a["table"], np.array([0.5])), "characters: expected an integer dtype"),
    (lambda a: jaxlstm.logits(a["readout"], np.ones((2, 4))), "hidden: expected shape [..., 3]"),
    (
        lambda a: jaxlstm.logits(a["readout"], np.ones((2, 3), np.float32)),
        "hidden: expected dtype float64 as params.kernel has, got float32.",
    ),
    (lambda a: jaxlstm.logits(tuple(a["readout"]), np.ones(3)), "params: expected ReadoutParams"),
    (
        lambda _: jaxlstm.cross_entropy(np.ones((2, 3)), np.array([0])),
        "targets: expected shape [...] = [2] from the logits' leading axes, got [1].",
    ),
    (lambda _: jaxlstm.cross_entropy(np.ones((1, 3)), np.array([-1])), "got -1."),
    (
        lambda _: jaxlstm.cross_entropy(np.ones((1, 3), int), np.array([1])),
        "logits: expected a dtype",
    ),
]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_bad_input_gets_one_sentence(call, sentence):
    with jax.enable_x64(True), pytest.raises((ValueError, TypeError)) as refused:
        call(point()[0])
    message = str(refused.value)
    assert sentence in message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_traced_target_of_minus_one_is_the_last_class():
    values = jax.random.normal(jax.random.key(0), (4, K))
    targets = jnp.array([-1, 3, -1, 0])
    gradients = [
        jax.jit(jax.grad(lambda values, targets, f=f: f(values, targets).sum()))(values, targets)
        for f in (jaxlstm.cross_entropy, jaxlstm.cross_entropy_autodiff)
    ]
    assert relative_error(*gradients) < 1e-6


@partial(jax.jit, static_argnums=0)
def transforms(functions, args, weights, context):
    """What users do to the loss: both modes, second order, remat, batches, one row at a time."""
    return list(transformed(functions, args, weights, context))


def transformed(functions, args, weights, context):
    loss = partial(weighted_sum, functions)
    direction = jax.tree.map(jnp.cos, args)
    gradient = jax.grad(lambda args: loss(args, weights, context))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), args)
    yield jax.jvp(gradient, (args,), (direction,))[1]
    yield jax.grad(lambda args: _dot(gradient(args), direction))(args)
    yield jax.grad(jax.checkpoint(loss))(args, weights, context)
    yield jax.vmap(jax.grad(loss), (0, None, None))(batch, weights, context)
    yield jax.vmap(jax.grad(loss), (None, 0, 0))(args, weights, context)
    pushed = lambda args: jax.jvp(lambda a: loss(a, weights, context), (args,), (direction,))[1]  # noqa: E731
    yield pushed(args)
    yield jax.grad(pushed)(args)
    yield jax.vmap(pushed)(batch)
    yield jax.linearize(lambda a: loss(a, weights, context), args)[1](direction)


def _dot(left, right):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), left, right)))


def test_transforms_agree_with_autodiff():
    with jax.enable_x64(True):
        at = jax.tree.map(jnp.asarray, point())
        for ours, truth in zip(transforms(BY_HAND, *at), transforms(AUTODIFF, *at), strict=True):
            errors = jax.tree.map(relative_error, ours, truth)
            assert max(jax.tree.leaves(errors)) < 1e-13


def test_lowers_for_tpu_and_cuda():
    args, weights, context = jax.tree.map(jnp.asarray, point())
    traced = jax.jit(jax.grad(partial(weighted_sum, BY_HAND))).trace(args, weights, context)
    assert traced.lower(lowering_platforms=("tpu", "cuda")).as_text()
