"""Shapes and types checked in every call, as jaxtyping's import hook has it, at less cost.

The hook writes ``@jaxtyping.jaxtyped(typechecker=...)`` over every function, nested ones included.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(violation_type=TypeError))
_jaxtyped = jaxtyping.jaxtyped
_checked: dict[tuple, Callable] = {}


def install(package: str) -> None:
    """Checks what is imported of the package from now on."""
    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(package, "checking_types.checked_once")


def jaxtyped(*, typechecker: Callable) -> Callable:
    """jaxtyping's decorator, but beartype alone where no shapes need to be kept apart by call."""
    with_shapes = _jaxtyped(typechecker=typechecker)

    def decorate(function: Callable) -> Callable:
        if not inspect.isfunction(function) or has_shapes(function):
            return with_shapes(function)
        if not function.__annotations__:
            return function
        is_nested = "<locals>" in function.__qualname__
        return with_shapes(function) if is_nested else _without_shapes(function)

    return decorate


def _without_shapes(function: Callable) -> Callable:
    checked = _beartype(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if jaxtyping.config.jaxtyping_disable else checked)(*args, **kwargs)

    return call


def has_shapes(function: Callable) -> bool:
    """Whether an annotation names one; a string may."""
    annotations = function.__annotations__.values()
    return any(isinstance(a, str) or _names_shapes(a) for a in annotations)


def _names_shapes(annotation: Any) -> bool:
    return "jaxtyping" in repr(annotation)


def checked_once(function: Callable) -> Callable:
    """beartype of what jaxtyping checks with: a function of no body, known by its signature.

    A nested function is decorated again whenever the one around it is called, and beartype would
    write and compile the same code anew. Its annotations are new each time, too, but read the same.
    """
    presence = len(function.__defaults__ or ()), frozenset(function.__kwdefaults__ or ())
    annotations = tuple(
        (name, repr(a) if _names_shapes(a) else a) for name, a in function.__annotations__.items()
    )
    key = function.__module__, function.__qualname__, function.__code__, presence, annotations
    if key not in _checked:
        _checked[key] = beartype(function)
    return _checked[key]
