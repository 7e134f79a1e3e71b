"""What the tests of transformations share: problems, alone, stacked and placed on devices."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from drawing import TANH, Problem, draw, pullback, run
from jax.sharding import PartitionSpec as P

from jaxlstm import Activations, LSTMState

SMALL = (5, 3, 2, 4)
SHARDED = (5, 128, 2, 4)
MASKS = pytest.mark.parametrize("masks", [False, True])


def values_and_gradients(f: Any, problem: Problem, activations: Activations = TANH) -> Any:
    return run(f, problem, activations), pullback(f, problem, activations)


def several(*seeds: int, masks: bool = True) -> tuple[list[Problem], Problem]:
    """A problem for each seed, and all of them stacked along a new first axis."""
    problems = [draw(seed, *SMALL, jnp.float64, masks=masks) for seed in seeds]
    return problems, stack(problems)


def stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def mapped_axes(params: int | None, rest: int | None) -> Problem:
    return Problem(params, *[rest] * 5)


def in_windows(f: Any, problem: Problem) -> Any:
    """Two windows of a sequence of four steps, the state carried by an outer scan."""

    def window(state: LSTMState, inputs: jax.Array) -> tuple[LSTMState, jax.Array]:
        outputs, state = f(problem.params, inputs, state)
        return state, outputs

    final, outputs = jax.lax.scan(
        window, problem.initial_state, problem.inputs.reshape(2, 2, *problem.inputs.shape[1:])
    )
    return outputs.reshape(4, *outputs.shape[2:]), final


def placements(problem: Problem) -> Problem:
    """The data-parallel PartitionSpec of every leaf: the batch is cut, the parameters are not."""
    batch, after_time = P("data"), P(None, "data")
    given = problem._replace(params=P(), inputs=after_time, cotangents=(after_time, batch))
    state, lengths, resets = (
        None if leaf is None else spec
        for leaf, spec in zip(problem[2:5], (batch, batch, after_time), strict=True)
    )
    return given._replace(initial_state=state, lengths=lengths, resets=resets)


def draw_sharded(seed: int, masks: bool, given_state: bool) -> Problem:
    problem = draw(seed, *SHARDED, jnp.float64, masks=masks)
    return problem if given_state else problem._replace(initial_state=None)


def assert_placed(tree: Any, shardings: Any) -> None:
    for sharding, part in zip(*flat_prefix(shardings, tree), strict=True):
        for leaf in jax.tree.leaves(part):
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), (leaf.sharding, sharding)


def flat_prefix(prefix: Any, tree: Any) -> tuple[list[Any], list[Any]]:
    leaves, treedef = jax.tree.flatten(prefix)
    return leaves, treedef.flatten_up_to(tree)
