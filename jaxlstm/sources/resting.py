r"""The LSTM of documents 000 and 003 where it rests, and what one path says there of all together.

x_t, s_t and h_t are constant, o_t = 1/2, and the recurrent matrices are of choice: so are the
paths. STEPS steps from k to t, with D(g) = diag(g), have

    by cells    dh_t/ds_k = D(o_t sigma'(s_t)) D(f_t) ... D(f_{k+1}) + other paths
    by outputs  dh_t/dh_k = D(sigma(s_t) o'_t) W_o ... D(sigma(s_{k+1}) o'_{k+1}) W_o + other paths
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import norm, sigma
from jaxlstm.sources.compiling import quick_jit

STEPS = 41
"""How many steps are followed; odd, so that cancelling paths cancel."""
SMALL = 1e-6
"""What has vanished; its inverse has exploded."""
INDEX = {"o": "_o", "i": "_i", "f": "_f", "s~": ""}
"""The index of each gate's matrices."""

Values = dict[str, ndarray]
Forward = Callable[[Any, Any, Any], Any]
"""The system over time, from parameters, the state (s, h) and inputs."""


def at_rest(
    params: Mapping[str, ndarray],
    x: ndarray,
    matrices: Callable[[Values], Values],
    **inner: float,
) -> tuple[Values, Values]:
    """Parameters at which constant inputs x change nothing, and the gates, s and h there.

    Args:
        params: the system's, without biases.
        x: x_t.
        matrices: from the gates, s and h, the recurrent matrices that are not zero.
        **inner: a gate's pre-activation in every unit, where it is not to be U_g x.
    """
    z = {gate: params[f"U{index}"] @ x for gate, index in INDEX.items()}
    z |= {gate: np.full_like(z[gate], value) for gate, value in {**inner, "o": 0.0}.items()}
    values = {gate: sigma(row) for gate, row in z.items()}
    values["s"] = values["i"] * values["s~"] / (1 - values["f"])
    values["h"] = values["o"] * sigma(values["s"])
    zero = np.zeros((len(values["s"]),) * 2)
    W = {f"W{index}": zero for index in INDEX.values()} | matrices(values)
    rest = {index: z[gate] - W[f"W{index}"] @ values["h"] for gate, index in INDEX.items()}
    U = {f"U{index}": np.outer(row, x) / (x @ x) for index, row in rest.items()}
    return {**params, **W, **U}, values


def output_matrix(v: Values, M: ndarray) -> ndarray:
    """W_o for which D(sigma(s_t) o'_t) W_o is M, at rest."""
    return 4 * M / sigma(v["s"])[:, None]


def by_cell_and_hidden(
    forward: Forward, params: Values, values: Values, x: ndarray
) -> tuple[ndarray, ndarray]:
    """dh_t/ds_k, h_k = o_k sigma(s_k) moving along, and dh_t/dh_k, at rest."""
    state = values["s"], values["h"]
    with jax.enable_x64(True):
        found = _jacobians(forward, params, state, np.resize(x, (STEPS, len(x))))
        return np.asarray(found[0]), np.asarray(found[1])


@partial(quick_jit, static_argnames="forward")
def _jacobians(forward: Forward, params: Any, state: Any, inputs: Any) -> Any:
    def last(s: Any, h: Any) -> Any:
        return forward(params, (s, h), inputs)["h"][-1]

    by_cell = jax.jacrev(lambda s: last(s, jax.nn.sigmoid(s) / 2))(state[0])
    return by_cell, jax.jacrev(last, 1)(*state)


def cell_path(
    forward: Forward, params: Mapping[str, ndarray], x: ndarray, share: float
) -> tuple[float, float]:
    """The norms of the path by cells and of dh_t/ds_k, with paths by W_o alone beside it.

    Every f_j is 0.999 and s_t moderate, so that the path does not vanish. By W_o,
    dh_t/dh_{t-1} = -share D(f): at 1 the paths alternate in sign and cancel, at 0 there is but one.
    """

    def matrices(v: Values) -> Values:
        return {"W_o": output_matrix(v, np.diag(-share * v["f"]))}

    params, v = at_rest(params, x, matrices, f=7.0, i=-7.0)
    by_cell, _ = by_cell_and_hidden(forward, params, v, x)
    return norm(_cell_to_hidden(v) * v["f"] ** STEPS), norm(by_cell)


def output_path(
    forward: Forward, params: Mapping[str, ndarray], x: ndarray, share: float
) -> tuple[float, float]:
    """The norms of the path by output gates, 2^STEPS I, and of dh_t/dh_k.

    Every f_j is near 0. By W_i, h_{t-1} acts on h_t -2 share times: at 1 the two ways cancel in
    every step, at 0 there is but one.
    """

    def matrices(v: Values) -> Values:
        to_cell = v["s~"] * v["i"] * (1 - v["i"])
        by_input = np.diag(-2 * share / (_cell_to_hidden(v) * to_cell))
        return {"W_o": output_matrix(v, 2 * np.eye(len(v["o"]))), "W_i": by_input}

    params, v = at_rest(params, x, matrices, f=-40.0, i=0.0)
    factor = (sigma(v["s"]) * v["o"] * (1 - v["o"]))[:, None] * params["W_o"]
    _, by_hidden = by_cell_and_hidden(forward, params, v, x)
    return norm(np.linalg.matrix_power(factor, STEPS)), norm(by_hidden)


def _cell_to_hidden(v: Values) -> ndarray:
    """The diagonal of dh_t/ds_t."""
    return v["o"] * sigma(v["s"]) * sigma(-v["s"])
