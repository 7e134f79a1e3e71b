"""beartype, once for every signature."""

from collections.abc import Callable

from beartype import beartype

_checked: dict[tuple, Callable] = {}


def checked_once(function: Callable) -> Callable:
    """``beartype`` of what jaxtyping checks with: a function of no body, known by its signature.

    A nested function is decorated again whenever the one around it is called, which beartype
    answers with the same code, written and compiled anew.
    """
    presence = len(function.__defaults__ or ()), frozenset(function.__kwdefaults__ or ())
    annotations = tuple(function.__annotations__.items())
    key = function.__module__, function.__qualname__, function.__code__, presence, annotations
    if key not in _checked:
        _checked[key] = beartype(function)
    return _checked[key]
