r"""Document 001: an LSTM without biases, a softmax over its outputs, cross-entropy at every step.

| document | here in equations | library |
|---|---|---|
| x_t, h_t, c_t | column vectors | inputs, hidden, cell (row vectors) |
| i_t, f_t, e_t, c~_t | the gates (e: the output gate) and the candidate | gates i, f, o, g |
| a_{i,t}, ..., a_{c,t} | pre-activations | z_i, z_f, z_o, z_g |
| U_g, W_g | [H, D], [H, H] of gate g, that of c~ named c | its columns of U and W, transposed |
| V, o_t, p_t | [K, H]; the logits; their softmax | V', y_t, p_t of the readout, without bias |
| g_t, g~_t, g^_t | rows dL/do_t, dL/dh_t, dL/dc_t | d_y, d_h, d_c |
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.sources import systems
from jaxlstm.sources.arrays import from_zero
from jaxlstm.sources.compiling import quick_jit

INDEX = {"i": "i", "f": "f", "e": "e", "c~": "c"}
"""The index of each gate's matrices and pre-activation."""
MADE = ("a_i", "a_f", "a_e", "a_c", *INDEX, "c", "h", "o")
RECURRENT = ("W_i", "W_f", "W_e", "W_c")
SIZES = ((4, 3, 6, 5), (3, 5, 2, 4), (5, 2, 3, 6))
"""H, D, K and T of the draws, in turn."""


def shapes(H: int, D: int, K: int) -> dict[str, tuple[int, int]]:
    """The shape of each of the nine parameters."""
    inner = {f"{A}_{g}": (H, n) for g in INDEX.values() for A, n in (("W", H), ("U", D))}
    return inner | {"V": (K, H)}


def init(
    key: Any, input_size: int, hidden_size: int, output_size: int | None = None
) -> dict[str, Any]:
    """The nine parameters, drawn, each matrix scaled by its width; K is D unless given."""
    return systems.draw_matrices(key, shapes(hidden_size, input_size, output_size or input_size))


def step(params: Mapping[str, Any], state: Any, x_t: Any, probes: Mapping[str, Any]) -> Any:
    """One step: the new (c, h), and all that it made, each with its probe added."""
    c_tm1, h_tm1 = state
    made = {}
    for gate, g in INDEX.items():
        a = params[f"W_{g}"] @ h_tm1 + params[f"U_{g}"] @ x_t + probes[f"a_{g}"]
        made[f"a_{g}"] = a
        made[gate] = (jnp.tanh(a) if g == "c" else jax.nn.sigmoid(a)) + probes[gate]
    made["c"] = made["f"] * c_tm1 + made["i"] * made["c~"] + probes["c"]
    made["h"] = made["e"] * jnp.tanh(made["c"]) + probes["h"]
    made["o"] = params["V"] @ made["h"] + probes["o"]
    return (made["c"], made["h"]), made | {"p": jax.nn.softmax(made["o"])}


forward = partial(systems.forward, step, MADE)
"""The system over time, from params, state, inputs and probes: all that is made, [T, n] each."""


def rest(params: Mapping[str, Any]) -> Any:
    """The zero state (c_0, h_0)."""
    zero = jnp.zeros_like(params["V"][0])
    return zero, zero


def hidden_states(params: Mapping[str, Any], inputs: Any) -> Any:
    """h_1 to h_T [T, H] from the zero state."""
    return forward(params, rest(params), inputs)["h"]


def cross_entropy(o: Any, targets: Any) -> Any:
    """L: minus the sum of y_t log p_t over the steps."""
    return -(targets * jax.nn.log_softmax(o)).sum()


def loss(params: Mapping[str, Any], inputs: Any, targets: Any) -> Any:
    """L of a sequence [T, D] and its targets [T, K], from the zero state."""
    return cross_entropy(forward(params, rest(params), inputs)["o"], targets)


class Draw(NamedTuple):
    """A random point, and the true values of what the document's equations mention there.

    Attributes:
        t: the time of which the equations for t < T speak.
        params: the nine parameters.
        x: the inputs at times 0 to T (NaN at 0).
        y: the targets, likewise.
        values: each quantity at times 0 to T (NaN at 0, but for c and h).
        loss_by: dL by each quantity at times 0 to T (NaN at 0), by each parameter, and "L" itself.
        total: for (a, b), da_s/db_t at [s - 1, :, t - 1], with all that b_t moves moving along.
        cell_by_cell: dc_s/dc_{s-1} with h_{s-1} held, at [s - 1].
    """

    t: int
    params: dict[str, ndarray]
    x: ndarray
    y: ndarray
    values: dict[str, ndarray]
    loss_by: dict[str, ndarray]
    total: dict[str, dict[str, ndarray]]
    cell_by_cell: ndarray


def draw(seed: int, steps_to_end: int = 2, without: tuple[str, ...] = ()) -> Draw:
    """The quantities at a random point with t = T - steps_to_end, the matrices ``without`` zero."""
    H, D, K, T = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    params = {A: rng.standard_normal(s) / s[1] ** 0.5 for A, s in shapes(H, D, K).items()}
    params |= {A: np.zeros((H, H)) for A in without}
    state = (rng.standard_normal(H), rng.standard_normal(H))
    x, y = rng.standard_normal((T, D)), rng.dirichlet(np.ones(K), T)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _quantities(params, state, x, y))
    values, by_params, by_values, total, cell_by_cell = found
    first = dict(zip("ch", state, strict=True))
    return Draw(
        T - steps_to_end,
        params,
        from_zero(x),
        from_zero(y),
        {name: from_zero(rows, first.get(name)) for name, rows in values.items()},
        {name: from_zero(rows) for name, rows in by_values.items()} | by_params,
        total,
        cell_by_cell,
    )


@quick_jit
def _quantities(params: Any, state: Any, inputs: Any, targets: Any) -> Any:
    """All that a draw holds, by autodiff."""
    values = forward(params, state, inputs)
    probes = {name: jnp.zeros_like(values[name]) for name in MADE}

    def cost(params: Any, probes: Any) -> Any:
        return cross_entropy(forward(params, state, inputs, probes)["o"], targets)

    def next_cell(c: Any, h: Any, x: Any) -> Any:
        return step(params, (c, h), x, dict.fromkeys(MADE, 0.0))[0][0]

    whole, (by_params, by_values) = jax.value_and_grad(cost, (0, 1))(params, probes)
    total = jax.jacfwd(partial(forward, params, state, inputs))(probes)
    before = systems.before(state, values)
    cell_by_cell = jax.vmap(jax.jacfwd(next_cell))(before["c"], before["h"], inputs)
    return values, by_params | {"L": whole}, by_values, total, cell_by_cell
