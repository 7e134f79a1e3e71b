"""Document 003: the vanilla RNN's product formula."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, product
from jaxlstm.sources.compiling import quick_jit
from jaxlstm.sources.document_003.system import Draw, draw, rnn
from jaxlstm.sources.ledger import Condition, Entry

entry = partial(Entry, "003")


def rnn_entries() -> Iterable[Entry]:
    """What is supplied, the product formula in both orders, and what is said of its long path."""
    yield from _supplied_entries()
    yield from _product_entries()
    yield from _far_entries()


def _supplied_entries() -> Iterable[Entry]:
    supplied = partial(entry, printed=None, verdict="supplied")
    yield supplied(
        "s_t of the RNN",
        r"\tanh(W s_{t-1} + U x_t)",
        corrected=lambda q: np.tanh(q.params["W"] @ q.rnn["s"][-2] + q.params["U"] @ q.x[-1]),
        truth=lambda q: q.rnn["s"][-1],
        kind="definition",
    )
    yield supplied(
        "explicit ds_k/dW of the RNN",
        r"\mathcal{D}(1 - s_k \odot s_k) (I \otimes s_{k-1}^\top)",
        corrected=_rnn_own,
        truth=lambda q: q.rnn["d+s_k/dW"][1:],
    )


def _product_entries() -> Iterable[Entry]:
    line = partial(
        entry,
        "RNN product",
        r"\partial\mathcal{L}_t/\partial s_t \sum_{k=1}^t \prod_{j=k}^{t-1}"
        r" \partial s_{j+1}/\partial s_j \, \partial^+ s_k/\partial W",
        truth=lambda q: q.rnn["dL/dW"],
    )
    latest_first = partial(_rnn_sum, factor=partial(_rnn_factor, latest_first=True))
    yield line(
        printed=partial(_rnn_sum, factor=partial(_rnn_factor, latest_first=False)),
        corrected=latest_first,
        reading="j from k up to t - 1, as printed",
        verdict="holds only if",
        condition=Condition(
            "the factors commute, as with a diagonal W", partial(draw, diagonal=True)
        ),
        note="The factors do not commute; the latest must stand first.",
    )
    yield line(printed=latest_first, reading="j from t - 1 down to k")
    yield line(
        printed=partial(_rnn_sum, factor=lambda q, k: q.rnn["ds_t/ds_k"][k]),
        reading="the product as ds_t/ds_k",
    )


def _far_entries() -> Iterable[Entry]:
    limit = partial(entry, "RNN vanishes", truth=None, kind="limit")
    far = r"\|\partial s_t/\partial s_1\| \le 10^{-6}, t = 100"
    yield limit(
        far,
        printed=_rnn_far,
        reading="every W",
        verdict="fails",
        note="It grows at rest where W's spectral radius is above 1.",
    )
    yield limit(
        rf"\|W\| = 0.8 \Rightarrow {far}",
        printed=_rnn_far_contracting,
        reading="norm of W below 1",
        note="tanh' is at most 1, so no factor's norm is above that of W.",
    )


def _rnn_own(q: Draw) -> ndarray:
    s = q.rnn["s"]
    return np.einsum("kj,jl,km->kjlm", 1 - s[1:] ** 2, np.eye(len(s[0])), s[:-1])


def _rnn_factor(q: Draw, k: int, latest_first: bool) -> ndarray:
    factors = list(q.rnn["ds_j/ds_j-1"][k + 1 :])
    return reduce(np.matmul, factors[::-1] if latest_first else factors, np.eye(len(q.rnn["s"][0])))


def _rnn_sum(q: Draw, factor: Callable[[Draw, int], ndarray]) -> ndarray:
    own = q.rnn["d+s_k/dW"]
    terms = [product(factor(q, k), own[k]) for k in range(1, len(own))]
    return product(q.rnn["d_loss"], np.sum(terms, axis=0))


@quick_jit
def _rnn_jacobian(W: Any, U: Any, s: Any, inputs: Any) -> Any:
    return jax.jacfwd(lambda s: rnn(W, U, s, inputs)[-1])(s)


def _rnn_far(q: Draw) -> tuple[float, float]:
    """ds_100/ds_1 at s = x = 0, where W's spectral radius is 1.2."""
    W = 1.2 * q.params["W"] / abs(np.linalg.eigvals(q.params["W"])).max()
    return _rnn_norm(q, W, np.zeros(len(W)), np.zeros((99, q.x.shape[1])))


def _rnn_far_contracting(q: Draw) -> tuple[float, float]:
    """ds_100/ds_1 where W's norm is 0.8, on the draw's own inputs over and over."""
    W = 0.8 * q.params["W"] / np.linalg.norm(q.params["W"], 2)
    return _rnn_norm(q, W, q.rnn["s"][1], np.resize(q.x[1:], (99, q.x.shape[1])))


def _rnn_norm(q: Draw, W: ndarray, s: ndarray, inputs: ndarray) -> tuple[float, float]:
    with jax.enable_x64(True):
        return norm(_rnn_jacobian(W, q.params["U"], s, inputs)), 1e-6
