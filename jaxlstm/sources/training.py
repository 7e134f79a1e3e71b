"""The documents' systems trained on text: by the gradient as printed, corrected, and by autodiff.

Each system gets a softmax over the next character, with the mean cross-entropy as its loss; 001
brings its own. 003 and 004 print no whole backward pass, so autodiff alone trains them.
"""

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from numpy import ndarray

from jaxlstm.gradient_check import relative_error
from jaxlstm.sources import document_000, document_001, document_002, document_003, document_004
from jaxlstm.sources.compiling import quick_jit

By = Literal["printed", "corrected", "autodiff"]


class Model(NamedTuple):
    """A character model on a document's system.

    Attributes:
        init: parameters from a key, the number of characters K and the hidden size H.
        loss: of parameters, inputs [T, K] and targets [T, K], both one-hot, in nats a character.
        gradient: by the document's algorithm, which takes ``corrected``; None where it has none.
    """

    init: Callable[[Array, int, int], Any]
    loss: Callable[[Any, Any, Any], Any]
    gradient: Callable[..., Any] | None


def _model_001() -> Model:
    """001's own softmax; its loss is a sum over the steps."""

    def gradient(params: Any, inputs: Any, targets: Any, *, corrected: bool) -> Any:
        summed = document_001.backward(params, inputs, targets, corrected=corrected)
        return jax.tree.map(lambda leaf: leaf / len(inputs), summed)

    return Model(document_001.init, lambda p, x, y: document_001.loss(p, x, y) / len(x), gradient)


def _model_with_softmax(document: ModuleType, backward: Callable[..., Any] | None) -> Model:
    """A softmax V after the system's hidden states; its gradient is autodiff's, up to dL/dh."""

    def init(key: Array, K: int, H: int) -> Any:
        keys = jax.random.split(key)
        return {
            "system": document.init(keys[0], K, H),
            "V": jax.random.normal(keys[1], (H, K)) * H**-0.5,
        }

    def cost(h: Any, V: Any, targets: Any) -> Any:
        return optax.losses.softmax_cross_entropy(h @ V, targets).mean()

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        return cost(document.hidden_states(params["system"], inputs), params["V"], targets)

    def gradient(params: Any, inputs: Any, targets: Any, *, corrected: bool) -> Any:
        assert backward is not None
        h = document.hidden_states(params["system"], inputs)
        d_h, d_V = jax.grad(cost, argnums=(0, 1))(h, params["V"], targets)
        return {"system": backward(params["system"], inputs, d_h, corrected=corrected), "V": d_V}

    return Model(init, loss, None if backward is None else gradient)


def _backward_002(*args: Any, corrected: bool) -> Any:
    return document_002.backward(*args, corrected=corrected)[0]


MODELS = {
    "000": _model_with_softmax(document_000, document_000.gradient),
    "001": _model_001(),
    "002": _model_with_softmax(document_002, _backward_002),
    "003": _model_with_softmax(document_003, None),
    "004": _model_with_softmax(document_004, None),
}


SENTENCE = (
    ("the", "every", "one", "no"),
    ("small", "open", "old", "quick"),
    ("gate", "cell", "unit", "state"),
    ("keeps", "forgets", "doubles", "hides"),
    ("its", "that", "some", "all"),
    ("past", "input", "sum", "trace"),
)
"""The words of a toy sentence, place by place."""


def toy_text(sentences: int = 300, seed: int = 0) -> Int[ndarray, " N"]:
    """Random sentences of ``SENTENCE``, each character a number.

    >>> codes = toy_text()
    >>> len(codes), len(np.unique(codes))
    (9781, 25)
    """
    rng = np.random.default_rng(seed)
    words = [[rng.choice(place) for place in SENTENCE] for _ in range(sentences)]
    text = "".join(" ".join(sentence) + ".\n" for sentence in words)
    return np.unique(list(text), return_inverse=True)[1]


def gradient_errors(document: str, by: By, seed: int = 0) -> dict[str, float]:
    """The algorithm's relative error against ``jax.grad``, by parameter, in float64."""
    K, H, T = 7, 6, 12
    rng = np.random.default_rng(seed)
    model = MODELS[document]
    with jax.enable_x64(True):
        params = model.init(jax.random.key(seed), K, H)
        inputs, targets = np.eye(K)[rng.integers(0, K, (2, T))]
        truth, ours = (
            _compiled_gradient(document, way)(params, inputs, targets) for way in ("autodiff", by)
        )
        paths = jax.tree.leaves_with_path(jax.tree.map(relative_error, ours, truth))
    return {path[-1].key: error for path, error in paths}


@cache
def _compiled_gradient(document: str, by: By) -> Callable[..., Any]:
    return quick_jit(partial(_gradient, MODELS[document], by))


def train(
    document: str,
    by: By,
    codes: Int[ndarray, " N"],
    *,
    steps: int = 200,
    hidden: int = 16,
    time: int = 16,
    batch: int = 16,
    seed: int = 0,
) -> Float[ndarray, " steps"]:
    """Trains a character model with Adam on random windows of a text.

    Args:
        document: "000" to "004".
        by: which gradient.
        codes: the text in numbers from 0 to K - 1.
        steps: of the optimizer.
        hidden: H.
        time: T of each window.
        batch: windows a step.
        seed: of parameters and windows; the same for every ``by``.

    Returns:
        The loss of every step, in nats a character.
    """
    model, K = MODELS[document], int(codes.max()) + 1
    params = model.init(jax.random.key(seed), K, hidden)
    optimizer = optax.adam(1e-2)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(codes) - time, (steps, batch, 1))
    windows = codes[starts + np.arange(time + 1)]

    def update(carry: Any, window: Any) -> Any:
        params, state = carry
        onehot = jax.nn.one_hot(window, K, dtype=jnp.float32)
        inputs, targets = onehot[:, :-1], onehot[:, 1:]
        losses = jax.vmap(model.loss, (None, 0, 0))(params, inputs, targets)
        each = jax.vmap(partial(_gradient, model, by), (None, 0, 0))(params, inputs, targets)
        mean = jax.tree.map(lambda leaf: leaf.mean(0), each)
        updates, state = optimizer.update(mean, state)
        return (optax.apply_updates(params, updates), state), losses.mean()

    return np.asarray(jax.lax.scan(update, (params, optimizer.init(params)), windows)[1])


def _gradient(model: Model, by: By, params: Any, inputs: Any, targets: Any) -> Any:
    if by == "autodiff":
        return jax.grad(model.loss)(params, inputs, targets)
    assert model.gradient is not None
    return model.gradient(params, inputs, targets, corrected=by == "corrected")
