"""What the tests of RTRL share: problems run step by step, compiled once."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from drawing import Problem

from jaxlstm.rtrl import RTRLState, init_rtrl, rtrl_step

SMALL = (7, 4, 2, 5)


@cache
def compiled(f: Any, *arguments: Any) -> Any:
    return jax.jit(lambda problem: f(problem, *arguments))


def leaves(tree: Any) -> list[jax.Array]:
    return jax.tree.leaves(tree)


def compilations(call: Callable[[], Any]) -> list[str]:
    """The events of tracing and compiling while it runs."""
    events: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    call()
    jax.monitoring.unregister_event_duration_listener(listen)
    return [event for event in events if "compile" in event]


def past_length(problem: Problem) -> jax.Array:
    """Which steps are padding, in a batch or not."""
    steps = jnp.arange(len(problem.inputs), dtype=jnp.int32).reshape(
        -1, *(1,) * problem.lengths.ndim
    )
    return steps >= problem.lengths


def stepwise(problem: Problem, estimator: str) -> RTRLState:
    """The final carry of a scan of one's own."""
    params, inputs, state, _, resets, _ = problem
    valid = ~past_length(problem)

    def body(carry: RTRLState, step_t: Any) -> tuple[RTRLState, None]:
        x_t, valid_t, reset_t = step_t
        masks = {"valid_t": valid_t, "reset_t": reset_t}
        return rtrl_step(params, carry, x_t, **masks, estimator=estimator), None

    carry = init_rtrl(params, state, estimator=estimator)
    return jax.lax.scan(body, carry, (inputs, valid, resets))[0]
