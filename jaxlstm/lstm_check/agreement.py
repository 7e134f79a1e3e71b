"""Every derivation of the LSTM's derivative that the library has, held against each other."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from jaxlstm import sequence
from jaxlstm.gradient_check.agreement import (
    Agreement,
    Method,
    by_differences,
    by_forward,
    by_reverse,
    check_agreement,
)
from jaxlstm.gradient_check.call import Point
from jaxlstm.gradient_check.witnesses import pairings
from jaxlstm.lstm_check.check import HAND_WRITTEN
from jaxlstm.lstm_check.problem import CheckConfig, Outputs, Problem, with_all_arguments
from jaxlstm.masks import keep, valid_steps
from jaxlstm.rtrl import ByArgument, RTRLState, Sensitivities, init_rtrl, pull_back, rtrl_step
from jaxlstm.types import Activations

LARGEST = 2**25
"""Bytes of sensitivities up to which RTRL is among the derivations."""


def lstm_agreement(
    problem: Problem, config: CheckConfig, *, candidate: str = HAND_WRITTEN
) -> Agreement:
    """The derivative by the parameters and the initial state, derived in six ways, in float64.

    By the candidate's reverse mode, by the hand-written tangents, by RTRL, by JAX's two modes of
    the plain scan and by differences of its values.

    Args:
        problem: as drawn by ``draw_problem`` for random inputs, not for a text.
        config: the same, without a precision, which not all derivations have.
        candidate: what to call the derivation under test.

    >>> from jaxlstm.lstm_check import CheckConfig, draw_problem, lstm_agreement
    >>> config = CheckConfig(4, 2, 2, 3)
    >>> lstm_agreement(draw_problem(config), config).odd
    ()
    """
    params, inputs, state, lengths, resets = problem.args
    by_hand = with_all_arguments(sequence.lstm, config.activations)

    def of_two(function: Any) -> Any:
        return lambda params, state: function(params, inputs, state, lengths, resets)

    reference = of_two(problem.reference)
    methods = {
        candidate: by_reverse(of_two(problem.candidate)),
        "hand-written tangents": by_forward(of_two(by_hand)),
        "RTRL": by_rtrl(config.activations, inputs, lengths, resets),
        "reverse mode of the plain scan": by_reverse(reference),
        "forward mode of the plain scan": by_forward(reference),
        "differences of its values": by_differences(reference),
    }
    return check_agreement(
        methods, reference, (params, state), cotangents=problem.cotangents, seed=config.seed
    )


def by_rtrl(
    activations: Activations, inputs: ndarray, lengths: ndarray | None, resets: ndarray | None
) -> Method:
    """Real-time recurrent learning along the directions."""

    def method(point: Point, directions: list[list[ndarray]]) -> tuple[ndarray, ndarray]:
        params, state = point.call.treedef.unflatten(point.floats)
        size = 2 * sum(leaf.size for leaf in params) * state.hidden.size * params.bias.itemsize
        if size > LARGEST:
            raise MemoryError(f"its sensitivities would take {size / 1e6:.0f} MB")
        cotangents = Outputs(point.cotangents[0], type(state)(*point.cotangents[1:]))
        gradient = _gradient(activations, (params, inputs, state, lengths, resets), cotangents)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
        return np.array(pairings(leaves, directions)), np.zeros(len(directions))

    return method


@partial(jax.jit, static_argnums=0)
def _gradient(activations: Activations, args: Any, cotangents: Outputs) -> ByArgument:
    """The sensitivities of every step and of the final state, each times its cotangent."""
    params, inputs, state, lengths, resets = args
    valid = valid_steps(lengths, len(inputs))

    def body(before: tuple[RTRLState, ByArgument], step_t: Any) -> Any:
        (carry, gradient), (x_t, valid_t, reset_t, d_h_t) = before, step_t
        carry = rtrl_step(
            params, carry, x_t, valid_t=valid_t, reset_t=reset_t, activations=activations
        )
        d_h_t = keep(valid_t, d_h_t)
        return (carry, _plus(gradient, _pulled(carry, d_h_t))), None

    zeros = jax.tree.map(jnp.zeros_like, ByArgument(params, state))
    steps = inputs, valid, resets, cotangents.outputs
    (carry, gradient), _ = jax.lax.scan(body, (init_rtrl(params, state), zeros), steps)
    cell = carry.sensitivities.cell
    by_cell = carry._replace(sensitivities=Sensitivities(hidden=cell, cell=cell))
    d_h, d_c = cotangents.final_state
    return _plus(gradient, _pulled(carry, d_h), _pulled(by_cell, d_c))


def _pulled(carry: RTRLState, d_h: Float[Array, "B H"]) -> ByArgument:
    """The parameters' gradient, summed over the batch, and that of each initial state."""
    by_state = carry.sensitivities.hidden.initial_state
    d_state = jax.tree.map(lambda leaf: jnp.einsum("bih,bh->bi", leaf, d_h), by_state)
    return ByArgument(pull_back(carry, d_h), d_state)


def _plus(*trees: ByArgument) -> ByArgument:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *trees)
