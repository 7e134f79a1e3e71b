"""What is required of any argument: its type, dtype, shape and values."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import DTypeLike

DTYPES = ("float64", "float32", "float16", "bfloat16")


def check_size(name: str, size: Any) -> None:
    """Requires a whole number of at least 1."""
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
        raise TypeError(f"{name}: expected a whole number, got {size!r}.")
    if size < 1:
        raise ValueError(f"{name}: expected at least 1, got {size}.")


def check_seed(seed: Any) -> None:
    """Requires a whole number that no other one has the draws of."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"seed: expected a whole number, got {seed!r}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected from 0 to {2**32 - 1:,}, got {seed:,}.")


def check_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Requires a floating dtype that JAX can hold now, and returns it."""
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known.name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}.")
    _check_64_bits("dtype", known)
    return known


def _check_64_bits(name: str, dtype: Any) -> None:
    if dtype == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"{name}: float64 needs 64-bit mode: `with jax.enable_x64(True):`.")


def check_type(name: str, value: Any, kind: type) -> None:
    """Requires a value of this type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}.")


def check_choice(name: str, choice: Any, known: Sequence[str]) -> None:
    """Requires one of the known names."""
    if choice not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {choice!r}.")


def is_known(value: Any) -> bool:
    """Whether the values can be read here: not traced, and none on another process."""
    return not isinstance(value, Tracer) and getattr(value, "is_fully_addressable", True)


def check_like(
    name: str, value: Any, shape: tuple[int, ...], letters: str, because: str, like: tuple[str, Any]
) -> None:
    """Requires an array of this shape, and of the dtype of another: its name, and itself."""
    check_array(name, value)
    check_shape(name, value, shape, letters, because)
    check_floating(name, value)
    check_same_dtype(name, value, *like)


def check_rank(name: str, value: Any, rank: int) -> None:
    """Requires a floating array of so many dimensions."""
    check_array(name, value)
    if value.ndim != rank:
        dimensions = "1 dimension" if rank == 1 else f"{rank} dimensions"
        raise ValueError(
            f"{name}: expected {dimensions}, got {value.ndim}, shape {shape_of(value)}."
        )
    check_floating(name, value)


def check_values(values: Any) -> None:
    """Requires a floating array."""
    check_array("values", values)
    check_floating("values", values)


def check_array(name: str, value: Any) -> None:
    """Requires an array."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}.")


def check_shape(name: str, value: Any, shape: tuple[int, ...], letters: str, because: str) -> None:
    """Requires this shape, which ``because`` explains."""
    if value.shape != shape:
        expected = f"{letters} = {list(shape)}" if shape else letters
        raise ValueError(f"{name}: expected shape {expected} {because}, got {shape_of(value)}.")


def check_floating(name: str, value: Any) -> None:
    """Requires a floating dtype that JAX can hold now."""
    if getattr(value.dtype, "name", None) not in DTYPES:
        raise TypeError(f"{name}: expected a dtype among {', '.join(DTYPES)}, got {value.dtype}.")
    _check_64_bits(name, value.dtype)


def check_integers(name: str, value: Any) -> None:
    """Requires an integer dtype."""
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: expected an integer dtype, got {value.dtype}.")


def check_classes(name: str, classes: Any, count: int, because: str) -> None:
    """Requires integers from 0 to ``count`` - 1."""
    check_array(name, classes)
    check_integers(name, classes)
    check_range(name, classes, 0, count - 1, f"K - 1 = {count - 1} {because}")


def check_range(name: str, value: Any, low: int, high: int, high_in_words: str) -> None:
    """Requires values within bounds, where they are known."""
    if not is_known(value):
        return
    values = np.asarray(value)
    wrong = values[(values < low) | (values > high)]
    if wrong.size:
        raise ValueError(f"{name}: expected values from {low} to {high_in_words}, got {wrong[0]}.")


def check_mask(name: str, mask: Any, shape: tuple[int, ...], letters: str, because: str) -> None:
    """Requires bools of this shape."""
    if mask.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected dtype bool, got {mask.dtype}.")
    check_shape(name, mask, shape, letters, because)


def check_same_dtype(name: str, value: Any, model_name: str, model: Any) -> None:
    """Requires the dtype of the model's array."""
    if value.dtype != model.dtype:
        raise TypeError(
            f"{name}: expected dtype {model.dtype} as {model_name} has, got {value.dtype}."
        )


def shape_of(value: Any) -> list[int]:
    """A shape as it is told."""
    return list(value.shape)
