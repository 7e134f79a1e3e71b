"""Text from a model, a character after another."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxlstm.tasks.text import code_points, encode
from jaxlstm.training.config import TrainConfig
from jaxlstm.training.model import ModelParams, States, computed_in, init_states, model_logits
from jaxlstm.validation import check_size

CHUNK = 32
"""Characters that one call of the compiled program draws."""


def sample(
    config: TrainConfig,
    params: ModelParams,
    vocabulary: str,
    prompt: str,
    length: int,
    *,
    key: Array,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[str]:
    """Continues a prompt, some characters at a time.

    Args:
        config: of the run.
        params: of the model.
        vocabulary: the characters that the model knows.
        prompt: at least one character, all of them known.
        length: how many to draw.
        key: a PRNG key; the same key gives the same text.
        temperature: divides the logits; 0 takes the likeliest character always.
        top_p: drawn from the fewest characters that together have at least this probability.

    Raises:
        ValueError: an empty prompt, one with unknown characters, or numbers out of range.
    """
    if not prompt:
        raise ValueError("prompt: expected at least one character, got none.")
    if not temperature >= 0:
        raise ValueError(f"temperature: expected a number of at least 0, got {temperature}.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0 and up to 1, got {top_p}.")
    check_size("length", length)
    codes = encode(vocabulary, code_points(prompt), name="prompt")
    return _continue(
        config, computed_in(config, params), vocabulary, codes, length, key, temperature, top_p
    )


def _continue(
    config: TrainConfig,
    params: ModelParams,
    vocabulary: str,
    codes: Int[np.ndarray, " N"],
    length: int,
    key: Array,
    temperature: float,
    top_p: float,
) -> Iterator[str]:
    scores, states = _read(params, codes[:, None], init_states(config, 1))
    for start in range(0, length, CHUNK):
        drawn, scores, states = _draw(
            params, scores, states, jax.random.fold_in(key, start), temperature, top_p
        )
        yield "".join(vocabulary[code] for code in np.asarray(drawn)[: length - start])


@jax.jit
def _read(
    params: ModelParams, codes: Int[Array, "N 1"], states: States
) -> tuple[Float[Array, " K"], States]:
    """The logits and the states after the prompt."""
    scores, states = model_logits(params, codes, states)
    return scores[-1, 0], states


@jax.jit
def _draw(
    params: ModelParams,
    scores: Float[Array, " K"],
    states: States,
    key: Array,
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
) -> tuple[Int[Array, " CHUNK"], Float[Array, " K"], States]:
    """``CHUNK`` characters, and where to go on."""

    def body(carry: tuple[Array, States], key: Array) -> tuple[tuple[Array, States], Array]:
        scores, states = carry
        code = draw_code(key, scores, temperature, top_p)
        following, states = model_logits(params, code[None, None], states)
        return (following[-1, 0], states), code

    (scores, states), codes = jax.lax.scan(body, (scores, states), jax.random.split(key, CHUNK))
    return codes, scores, states


def draw_code(
    key: Array,
    scores: Float[Array, " K"],
    temperature: Float[Array, ""] | float,
    top_p: Float[Array, ""] | float,
) -> Int[Array, ""]:
    """Draws from ``softmax(scores / temperature)``, cut to the likeliest that make up ``top_p``."""
    greedy = temperature == 0
    scaled = (scores - scores.max()).astype(jnp.float32) / jnp.where(greedy, 1.0, temperature)
    order = jnp.argsort(-scaled)
    ordered = scaled[order]
    before = jnp.cumsum(jax.nn.softmax(ordered)) - jax.nn.softmax(ordered)
    kept = jnp.where((before < top_p) | (top_p >= 1), ordered, -jnp.inf)  # the first always
    place = jnp.where(greedy, 0, jax.random.categorical(key, kept))
    return order[place].astype(jnp.int32)
