"""Document 003: what it claims in words of vanishing, exploding and clipping.

Where the LSTM rests, dh_t/dh_{k-1} = M^{t-k+1}: whether every path vanishes, or only their sum, can
be chosen. A path runs through units.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, product, sigma
from jaxlstm.sources.document_003.cell_path import paths_to_cell
from jaxlstm.sources.document_003.system import GATES, Draw, forward, output
from jaxlstm.sources.ledger import Entry, Line, Verdict

entry = partial(Entry, "003")

Claim = tuple[str, str | None, str, Line, Verdict, str]
"""Label, reading, statement, (what is bounded, the bound), verdict and note."""

STEPS = 41
"""How many steps are followed where the LSTM rests; odd, so that cancelling paths cancel."""
SMALL = 1e-6
"""What has vanished; its inverse has exploded."""


def claim_entries() -> Iterable[Entry]:
    """The claims, each as a share that must not pass 1."""
    for label, reading, statement, printed, verdict, note in (*_VANISHING, *_EXPLODING, *_FLOWING):
        yield entry(
            label,
            statement,
            printed=printed,
            truth=None,
            kind="claim",
            reading=reading,
            verdict=verdict,
            note=note,
        )
    yield entry(
        "clipping",
        r"\|g \min(1, \theta/\|g\|)\| \le \theta",
        printed=_clipped,
        truth=None,
        kind="bound",
        reading="norm over all parameters",
    )


def at_rest(
    q: Draw, M: Callable[[ndarray], ndarray], held: tuple[str, ...] = (), **changed: ndarray
) -> tuple[ndarray, ndarray]:
    """The LSTM at rest with dh_t/dh_{t-1} = M(f): dh_t/ds_k and dh_t/dh_{k-1}."""
    x, params = q.x[-1], q.params | changed
    f, i, candidate = (sigma(params[GATES[gate][1]] @ x) for gate in ("f", "i", "s~"))
    s = i * candidate / (1 - f)
    W_o = 4 * M(f) / sigma(s)[:, None]
    params |= {W: np.zeros_like(W_o) for W in ("W", "W_i", "W_f")}
    params |= {"W_o": W_o, "U_o": -np.outer(W_o @ sigma(s) / 2, x) / (x @ x)}
    with jax.enable_x64(True):
        by_cell, by_hidden = _rest_jacobians(params, s, np.resize(x, (STEPS, len(x))), held)
    return np.asarray(by_cell), np.asarray(by_hidden)


@partial(jax.jit, static_argnames="held")
def _rest_jacobians(params: Any, s: Any, inputs: Any, held: tuple[str, ...]) -> Any:
    """dh_t/ds_k with h_k moving along and o_k = 1/2, and dh_t/dh_{k-1}, over all inputs."""

    def last(s: Any, h: Any) -> Any:
        return forward(params, (s, h), inputs, held)["h"][-1]

    by_cell = jax.jacrev(lambda s: last(s, output(0.5, s)))(s)
    return by_cell, jax.jacrev(last, 1)(s, output(0.5, s))


# The matrices M.


def _crowd(f: ndarray) -> ndarray:
    """1.5/H everywhere: every path of n steps is (1.5/H)^n, their sum 1.5^n/H."""
    return np.full((len(f), len(f)), 1.5 / len(f))


def _opposed(f: ndarray) -> ndarray:
    """2 and -2 in two units: every path of n steps is 2^n or -2^n, their sum 0."""
    M = np.zeros((len(f), len(f)))
    M[:2, :2] = [[2.0, -2.0], [2.0, -2.0]]
    return M


def _cancelling(f: ndarray) -> ndarray:
    """The path by the output gate undoes that by the forget gate."""
    return np.diag(-f)


def _permutation(f: ndarray, scale: float) -> ndarray:
    """A permutation of the units, scaled."""
    return scale * np.roll(np.eye(len(f)), 1, axis=0)


# The claims, each with (what is bounded, the bound).


def _few_paths(q: Draw) -> tuple[float, float]:
    norms = [norm(row) for row in paths_to_cell(q)]
    return norm(q.true["dL/ds_k"]), len(norms) * max(norms)


def _many_paths(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, _crowd)
    return norm(by_hidden), SMALL


def _one_path_flows(q: Draw) -> tuple[float, float]:
    whole, _ = at_rest(q, _cancelling)
    t_0, _ = at_rest(q, _cancelling, tuple(GATES))
    return SMALL * norm(t_0), norm(whole)


def _one_path_explodes(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, _opposed)
    return SMALL * 2.0**STEPS, norm(by_hidden)


def _some_W_o(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, partial(_permutation, scale=2.0))
    return 1 / SMALL, norm(by_hidden)


def _opposed_W_o(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, _opposed)
    return 1 / SMALL, norm(by_hidden)


def _forgotten(q: Draw, held: tuple[str, ...]) -> tuple[float, float]:
    """dh_t/ds_k with f near 0 and M a permutation."""
    by_cell, _ = at_rest(q, partial(_permutation, scale=1.0), held, U_f=_forget_kernel(q, -40.0))
    return norm(by_cell), SMALL


def _remembered(q: Draw) -> tuple[float, float]:
    """The part of t_0 in dh_t/ds_k with f near 1."""
    t_0, _ = at_rest(q, partial(_permutation, scale=1.0), tuple(GATES), U_f=_forget_kernel(q, 30.0))
    return SMALL, norm(t_0)


def _remembered_from_own_state(q: Draw) -> tuple[float, float]:
    """The same from the draw's own state, with W_f = 0 and every f_j = sigma(3) = 0.953."""
    params, x = q.params | {"U_f": _forget_kernel(q, 3.0)}, q.x[-1]
    params |= {"W_f": np.zeros_like(params["W_f"])}
    state = q.values["s"][0], q.values["h"][0]
    with jax.enable_x64(True):
        t_0 = _own_part(params, *state, np.resize(x, (STEPS - 1, len(x))))
    return SMALL, norm(t_0)


@jax.jit
def _own_part(params: Any, s: Any, h: Any, inputs: Any) -> Any:
    """The part of t_0 in dh_t/ds_k over all inputs."""
    return jax.jacrev(lambda s: forward(params, (s, h), inputs, tuple(GATES))["h"][-1])(s)


def _forget_kernel(q: Draw, z: float) -> ndarray:
    """U_f that adds z to every forget gate's pre-activation."""
    x = q.x[-1]
    return np.outer(np.full(len(q.values["h"][0]), z), x) / (x @ x)


def _fitted(q: Draw) -> tuple[float, float]:
    """dL_t/dh_t with the target the likeliest class, its logit 40 above all others."""
    V, h = q.params["W"], q.values["h"][-1]
    logits = np.sort(V @ h)
    V = 40 / (logits[-1] - logits[-2]) * V
    return SMALL, norm(_by_softmax(V, h, int(np.argmax(V @ h))))


def _missed(q: Draw) -> tuple[float, float]:
    """dL_t/dh_t with the target the least likely class."""
    V, h = q.params["W"], q.values["h"][-1]
    return SMALL, norm(_by_softmax(V, h, int(np.argmin(V @ h))))


def _by_softmax(V: ndarray, h: ndarray, target: int) -> ndarray:
    """V'(p - y), by h of the cross-entropy under the softmax of Vh."""
    shares = np.exp(V @ h - (V @ h).max())
    return (shares / shares.sum() - np.eye(len(V))[target]) @ V


def _reaches_W_f(q: Draw, name: str) -> tuple[float, float]:
    return SMALL * norm(q.true["dL/ds_k"]), norm(product(q.true["dL/ds_k"], q.true[name]))


def _clipped(q: Draw) -> tuple[float, float]:
    g = q.true["dL/dtheta"]
    return norm(g * min(1.0, q.threshold / norm(g))), q.threshold


_VANISHING: tuple[Claim, ...] = (
    (
        "vanishes when every path does",
        "a given number of paths",
        r"\|\partial\mathcal{L}_t/\partial s_k\| \le |P| \max_{p \in P} \|p\|",
        _few_paths,
        "holds",
        "",
    ),
    (
        "vanishes when every path does",
        "t - k grows",
        r"\max_p |p| \to 0 \Rightarrow \|\partial h_t/\partial h_{k-1}\| \to 0",
        _many_paths,
        "fails",
        "The paths multiply as they shrink: (1.5/H)^n along each, 1.5^n in sum.",
    ),
    (
        "vanishes only when every path does",
        None,
        r"\|t_0\| \ne 0 \Rightarrow \|\partial\mathcal{L}_t/\partial s_k\| \ne 0",
        _one_path_flows,
        "fails",
        "The path by o_t can undo t_0: dropping the implicit part is no worst case.",
    ),
)
_EXPLODING: tuple[Claim, ...] = (
    (
        "explodes when one path does",
        None,
        r"\max_p |p| \to \infty \Rightarrow \|\partial h_t/\partial h_{k-1}\| \to \infty",
        _one_path_explodes,
        "fails",
        "Paths of opposite sign cancel: 2^n along each, 0 in sum.",
    ),
    (
        "explosion",
        "for some W_o",
        r"\exists W_o: \|\partial h_t/\partial h_{k-1}\| \ge 10^6, t - k + 1 = 41",
        _some_W_o,
        "holds",
        "",
    ),
    (
        "explosion",
        "for every W_o of a large enough norm",
        r"\|K\| \|W_o\| \ge 4 \Rightarrow \|\partial h_t/\partial h_{k-1}\| \ge 10^6",
        _opposed_W_o,
        "fails",
        "A bound above 1 explodes nothing: here M is nilpotent.",
    ),
)
_FLOWING: tuple[Claim, ...] = (
    (
        "dL_t/dh_t does not vanish",
        "cross-entropy of a softmax, the target likely",
        r"\|V^\top (p_t - y_t)\| \ge 10^{-6}",
        _fitted,
        "fails",
        "Where p_t goes to y_t it vanishes, as it should: nothing is left to learn.",
    ),
    (
        "dL_t/dh_t does not vanish",
        "cross-entropy of a softmax, the target least likely",
        r"\|V^\top (p_t - y_t)\| \ge 10^{-6}",
        _missed,
        "holds",
        "Where the loss is high, as the document supposes; V is the draw's W, of full rank.",
    ),
    (
        "f_t to 0",
        "along t_0",
        r"f_j \to 0 \Rightarrow t_0 \to 0",
        partial(_forgotten, held=tuple(GATES)),
        "holds",
        "",
    ),
    (
        "f_t to 0",
        "the whole gradient",
        r"f_j \to 0 \Rightarrow \partial\mathcal{L}_t/\partial s_k \to 0",
        partial(_forgotten, held=()),
        "fails",
        "s_k still acts through h_k, forward and backward.",
    ),
    (
        "t_0 does not vanish",
        "f_j near 1, at rest",
        r"f_j \to 1 \Rightarrow \|\mathcal{D}(o_t \odot \sigma'(s_t)) \mathcal{D}(\odot_i f_i)\|"
        r" \not\to 0",
        _remembered,
        "fails",
        "With f_j near 1, s_t rises to i * s~/(1 - f) and sigma'(s_t) vanishes.",
    ),
    (
        "t_0 does not vanish",
        "f_j = 0.953 over 40 steps, from the draw's own state",
        r"\|\mathcal{D}(o_t \odot \sigma'(s_t)) \mathcal{D}(\odot_i f_i)\| \ge 10^{-6}, t - k = 40",
        _remembered_from_own_state,
        "holds",
        "All units together. With f_j = 1 up to 10^-13, 2 of 124 draws are below 10^-6 even so.",
    ),
    (
        "dL_t/ds_k reaches W_f",
        "s_{k-1} nonzero",
        r"\partial\mathcal{L}_t/\partial s_k \, \partial^+ s_k/\partial W_f \ne 0",
        partial(_reaches_W_f, name="ds_k/dW_f"),
        "holds",
        "",
    ),
    (
        "dL_t/ds_k reaches W_f",
        "k = 1 from the zero state",
        r"\partial\mathcal{L}_t/\partial s_k \, \partial^+ s_k/\partial W_f \ne 0",
        partial(_reaches_W_f, name="ds_k/dW_f from zero"),
        "fails",
        "The factors s_{k-1} and h_{k-1} are zero.",
    ),
)
