"""Compiling what is small and runs a few times, where the compiler takes nearly all the time."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""What makes XLA compile sooner, for slower code; another version may not know them all."""


def quick_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``jax.jit`` in less than half of its compile time; never inside another jit."""

    @cache
    def compiled() -> Any:
        return jax.jit(function, compiler_options=_known_options(), **options)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return run


@cache
def _known_options() -> dict[str, Any]:
    return {name: value for name, value in OPTIONS.items() if is_known(name, value)}


def is_known(name: str, value: Any) -> bool:
    """Whether the compiler takes the option.

    >>> is_known("xla_backend_optimization_level", 0), is_known("xla_nonsense", 0)
    (True, False)
    """
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
