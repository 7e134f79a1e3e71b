"""Assertions for other people's test suites."""

from collections.abc import Callable
from typing import Any

from jaxlstm.gradient_check import check_gradients


def assert_gradients_match(
    candidate: Callable[..., Any],
    reference: Callable[..., Any],
    args: tuple[Any, ...],
    **options: Any,
) -> None:
    """Asserts that ``candidate`` has the reference's derivative, to rounding.

    Args:
        candidate: the function whose derivative is under test.
        reference: the same function, its derivative trusted.
        args: the positional arguments of both.
        **options: of ``jaxlstm.gradient_check.check_gradients``.

    Raises:
        AssertionError: with the whole report, where it does not pass.

    >>> import jax.numpy as jnp
    >>> assert_gradients_match(jnp.sin, jnp.sin, (jnp.array([0.3, 2.0]),), dtypes=["float32"])
    """
    check_gradients(candidate, reference, args, **options).raise_if_failed()
