"""Document 003: what it claims in words of vanishing, exploding and clipping.

Where the LSTM rests with W = W_i = W_f = 0, dh_t/dh_{k-1} = M^{t-k+1}: whether every path through
units vanishes, or only their sum, can be chosen. t_0 and t_1, paths through gates, are undone there
by other gates.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources import resting
from jaxlstm.sources.arrays import norm, product
from jaxlstm.sources.compiling import quick_jit
from jaxlstm.sources.document_003.cell_path import paths_to_cell
from jaxlstm.sources.document_003.system import GATES, Draw, forward
from jaxlstm.sources.ledger import Entry, Line, Verdict
from jaxlstm.sources.resting import SMALL, STEPS

entry = partial(Entry, "003")

Claim = tuple[str, str | None, str, Line, Verdict, str]
"""Label, reading, statement, (what is bounded, the bound), verdict and note."""

_gates_held = partial(forward, held=tuple(GATES))


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
    q: Draw, M: Callable[[int], ndarray], run: resting.Forward = forward, **inner: float
) -> tuple[ndarray, ndarray]:
    """The LSTM at rest with dh_t/dh_{t-1} = M(H): dh_t/ds_k and dh_t/dh_{k-1}."""

    def matrices(v: resting.Values) -> resting.Values:
        return {"W_o": resting.output_matrix(v, M(len(v["h"])))}

    params, values = resting.at_rest(q.params, q.x[-1], matrices, **inner)
    return resting.by_cell_and_hidden(run, params, values, q.x[-1])


# The matrices M.


def _crowd(H: int) -> ndarray:
    """1.5/H everywhere: every path of n steps is (1.5/H)^n, their sum 1.5^n/H."""
    return np.full((H, H), 1.5 / H)


def _opposed(H: int) -> ndarray:
    """2 and -2 in two units: every path of n steps is 2^n or -2^n, their sum 0."""
    M = np.zeros((H, H))
    M[:2, :2] = [[2.0, -2.0], [2.0, -2.0]]
    return M


def _permutation(H: int, scale: float) -> ndarray:
    """A permutation of the units, scaled."""
    return scale * np.roll(np.eye(H), 1, axis=0)


# The claims, each with (what is bounded, the bound).


def _few_paths(q: Draw) -> tuple[float, float]:
    norms = [norm(row) for row in paths_to_cell(q)]
    return norm(q.true["dL/ds_k"]), len(norms) * max(norms)


def _many_paths(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, _crowd)
    return norm(by_hidden), SMALL


def _undone(path: Callable[..., tuple[float, float]], q: Draw) -> tuple[float, float]:
    """A millionth of t_0 or t_1, and all paths together where they cancel."""
    one, whole = path(forward, q.params, q.x[-1], share=1.0)
    return SMALL * one, whole


def _some_W_o(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, partial(_permutation, scale=2.0))
    return 1 / SMALL, norm(by_hidden)


def _opposed_W_o(q: Draw) -> tuple[float, float]:
    _, by_hidden = at_rest(q, _opposed)
    return 1 / SMALL, norm(by_hidden)


def _forgotten(q: Draw, run: resting.Forward) -> tuple[float, float]:
    """dh_t/ds_k with f near 0 and M a permutation."""
    by_cell, _ = at_rest(q, partial(_permutation, scale=1.0), run, f=-40.0)
    return norm(by_cell), SMALL


def _remembered(q: Draw) -> tuple[float, float]:
    """The part of t_0 in dh_t/ds_k with f near 1."""
    t_0, _ = at_rest(q, partial(_permutation, scale=1.0), _gates_held, f=30.0)
    return SMALL, norm(t_0)


def _remembered_from_own_state(q: Draw) -> tuple[float, float]:
    """The same from the draw's own state, with W_f = 0 and every f_j = sigma(3) = 0.953."""
    x = q.x[-1]
    U_f = np.outer(np.full(len(q.values["h"][0]), 3.0), x) / (x @ x)
    params = q.params | {"U_f": U_f, "W_f": np.zeros_like(q.params["W_f"])}
    state = q.values["s"][0], q.values["h"][0]
    with jax.enable_x64(True):
        t_0 = _own_part(params, *state, np.resize(x, (STEPS - 1, len(x))))
    return SMALL, norm(t_0)


@quick_jit
def _own_part(params: Any, s: Any, h: Any, inputs: Any) -> Any:
    """The part of t_0 in dh_t/ds_k over all inputs."""
    return jax.jacrev(lambda s: _gates_held(params, (s, h), inputs)["h"][-1])(s)


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
        partial(_undone, resting.cell_path),
        "fails",
        "The paths by o_t can undo t_0: dropping the implicit part is no worst case.",
    ),
)
_EXPLODING: tuple[Claim, ...] = (
    (
        "explodes when one path does",
        None,
        r"\max_p |p| \to \infty \Rightarrow \|\partial h_t/\partial h_{k-1}\| \to \infty",
        partial(_undone, resting.output_path),
        "fails",
        "The paths by i_t can undo t_1: 2^n along t_1, 0 in sum.",
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
        partial(_forgotten, run=_gates_held),
        "holds",
        "",
    ),
    (
        "f_t to 0",
        "the whole gradient",
        r"f_j \to 0 \Rightarrow \partial\mathcal{L}_t/\partial s_k \to 0",
        partial(_forgotten, run=forward),
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
