"""What a function under check takes and gives: its floating leaves, by name.

Floating leaves are differentiated; integers, booleans and PRNG keys are handed on as they are.
Complex numbers are refused.
"""

import dataclasses
import inspect
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

CHECKER = Path(__file__).parent
NOT_THEIRS = (CHECKER.parent, Path(jax.__file__).parent, Path(np.__file__).parent)


@dataclasses.dataclass(frozen=True)
class Call:
    """A function of positional arguments, as one of floating leaves and of the others.

    Hashable, so that it can be a static argument of a jitted function, and equal for all points
    with the same function and structure.
    """

    function: Callable[..., Any]
    treedef: Any
    floating: tuple[bool, ...]

    def whole(self, floats: Any, others: Any) -> Any:
        """The function's outputs."""
        floats, others = iter(floats), iter(others)
        leaves = [next(floats if floating else others) for floating in self.floating]
        return self.function(*self.treedef.unflatten(leaves))

    def __call__(self, floats: Any, others: Any) -> list[Any]:
        """The floating leaves of the outputs."""
        return floating_leaves(self.whole(floats, others))

    def of(self, function: Callable[..., Any]) -> "Call":
        """Another function of the same arguments."""
        return dataclasses.replace(self, function=_hashable(function))


@partial(jax.jit, static_argnums=0)
def traced(call: Call, floats: Any, others: Any) -> Any:
    """The function's outputs; its traces and shapes are found once for all points of these shapes.

    >>> call = Call(lambda x: 2 * x, jax.tree.structure((0,)), (True,))
    >>> traced.eval_shape(call, [np.ones(3)], [])
    ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    return call.whole(floats, others)


class Point(NamedTuple):
    """Where functions are compared.

    Attributes:
        call: the reference.
        floats: the floating leaves of the arguments.
        others: the other leaves.
        arguments: the floating leaves' names.
        outputs: the names of the outputs' floating leaves.
        cotangents: one for each of these.
    """

    call: Call
    floats: list[ndarray]
    others: list[Any]
    arguments: list[str]
    outputs: list[str]
    cotangents: list[ndarray]

    def rounded(self, dtype: Any) -> "Point":
        """The point with its floats and cotangents in another dtype."""
        floats, cotangents = rounded((self.floats, self.cotangents), dtype)
        return self._replace(floats=floats, cotangents=cotangents)


def make_point(
    function: Callable[..., Any], args: Any, cotangents: Any, rng: np.random.Generator | None = None
) -> Point:
    """The point ``args`` of a function, with cotangents drawn where none are given.

    Args:
        function: of positional arguments, their names those of its signature.
        args: a tuple of pytrees.
        cotangents: like the outputs, or None.
        rng: draws what is not given; that of seed 0 if None.

    Raises:
        TypeError: ``args`` that are no tuple, or leaves that are no arrays or complex.
        ValueError: arguments that are not finite, a reference that raises, no floating leaf in
            arguments or outputs, or cotangents unlike the outputs.
    """
    if type(args) not in (tuple, list):
        raise TypeError(
            f"args: expected a tuple of positional arguments, got {type(args).__name__}."
        )
    paths, treedef = jax.tree.flatten_with_path(tuple(args))
    names = [_name(_parameters(function), path) for path, _ in paths]
    leaves = [_as_array(name, leaf) for name, (_, leaf) in zip(names, paths, strict=True)]
    mask = tuple(map(is_floating, leaves))
    call = Call(_hashable(function), treedef, mask)
    floats = [leaf for leaf, floating in zip(leaves, mask, strict=True) if floating]
    others = [leaf for leaf, floating in zip(leaves, mask, strict=True) if not floating]
    if not floats:
        raise ValueError("args: expected a floating array to differentiate by, got none.")
    arguments = [name for name, floating in zip(names, mask, strict=True) if floating]
    for name, leaf in zip(arguments, floats, strict=True):
        _refuse_not_finite(name, leaf)
    try:
        shapes = traced.eval_shape(call, floats, others)
    except Exception as error:
        raise ValueError(f"the reference raised {first_line(error)}") from error
    outputs = output_names(shapes)
    cotangents = (
        _draw_like(shapes, rng or np.random.default_rng(0))
        if cotangents is None
        else _checked(cotangents, shapes)
    )
    return Point(
        call,
        floats,
        others,
        arguments,
        outputs,
        cotangents,
    )


def first_line(error: BaseException) -> str:
    """An exception's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def place_of(error: BaseException) -> str:
    """The last line of a user's code that an exception came through: ", at FILE:LINE"; or empty.

    Only what the checker called is theirs, and nothing of this library, JAX and NumPy.
    """
    frames = traceback.extract_tb(error.__traceback__)
    called = max((k for k, f in enumerate(frames) if _is_in(f, CHECKER)), default=len(frames))
    theirs = [f for f in frames[called:] if not any(_is_in(f, folder) for folder in NOT_THEIRS)]
    return f", at {Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else ""


def _is_in(frame: traceback.FrameSummary, folder: Path) -> bool:
    return Path(frame.filename).is_relative_to(folder)


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is a real floating array."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def floating_leaves(tree: Any) -> list[Any]:
    """The real floating leaves of a tree."""
    return [leaf for leaf in map(with_dtype, jax.tree.leaves(tree)) if is_floating(leaf)]


def output_names(shapes: Any) -> list[str]:
    """The names of the floating leaves of outputs: "output" alone, or with the path behind it."""
    paths = jax.tree.leaves_with_path(shapes)
    for path, leaf in paths:
        _refuse_complex(_dotted("output", path), leaf)
    return [output_name(shapes, path) for path, leaf in paths if is_floating(leaf)]


def output_name(outputs: Any, path: Any) -> str:
    """The name of one leaf of outputs."""
    named = hasattr(outputs, "_fields") or isinstance(outputs, dict)
    return _dotted("" if named else "output", path)


def rounded(tree: Any, dtype: Any) -> Any:
    """NumPy leaves in another dtype."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), tree)


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in positional]


def _name(parameters: list[str], path: Any) -> str:
    number, *rest = path
    known = number.idx < len(parameters)
    return _dotted(parameters[number.idx] if known else f"argument {number.idx}", rest)


def _dotted(first: str, path: Any) -> str:
    rest = jax.tree_util.keystr(tuple(path), simple=True, separator=".")
    return ".".join(filter(None, (first, rest)))


def _as_array(name: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind in "OUSMm":
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}.")
    _refuse_complex(name, array)
    return array


def _refuse_complex(name: str, leaf: Any) -> None:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: expected real numbers, got {leaf.dtype}; give the real and the imaginary "
            "part as two arrays."
        )


def _refuse_not_finite(name: str, leaf: ndarray) -> None:
    strange = leaf[~np.isfinite(leaf)]
    if strange.size:
        raise ValueError(
            f"{name}: expected finite numbers, got {strange.size} of {leaf.size} that are not, the "
            f"first {strange[0]}."
        )


def with_dtype(leaf: Any) -> Any:
    """An array as it is, a number as an array."""
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _hashable(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        hash(function)
    except TypeError:
        return partial(function)
    return function


def _draw_like(shapes: Any, rng: np.random.Generator) -> list[ndarray]:
    drawn = [rng.standard_normal(leaf.shape) for leaf in floating_leaves(shapes)]
    if not drawn:
        raise ValueError("the reference: expected a floating output, got none.")
    return drawn


def _checked(cotangents: Any, shapes: Any) -> list[ndarray]:
    given = [np.asarray(leaf) for leaf in floating_leaves(cotangents)]
    came, expected = [c.shape for c in given], [leaf.shape for leaf in floating_leaves(shapes)]
    if came != expected:
        raise ValueError(f"cotangents: expected the outputs' shapes {expected}, got {came}.")
    return given
