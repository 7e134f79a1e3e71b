r"""Document 000: an LSTM with sigmoids throughout, differentiated forward in time.

| document | here in equations | library |
|---|---|---|
| x_t, h_t, s_t | column vectors | inputs, hidden, cell (row vectors) |
| o_t, i_t, f_t, s~_t | the gates and the candidate | gates o, i, f, g |
| U_g, W_g, b_g | [H, D], [H, H], [H] of gate g | its columns of U and W, transposed, and of b |
| U, W, b without index | those of the candidate s~ | the gate g |
| sigma | sigmoid, of candidate and cell too | Activations("sigmoid", "sigmoid") |
| d(x), d_2(x) | diag(x); the tensor with x_k at [j, j, k] | |

``d_2(x)`` stands for dz/dA of z = A x: its entry [j, j, k] is x_k, and so it is a slice per unit.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from jaxlstm.sources.arrays import from_zero
from jaxlstm.sources.compiling import quick_jit

GATES = {
    "o": ("W_o", "U_o", "b_o"),
    "i": ("W_i", "U_i", "b_i"),
    "f": ("W_f", "U_f", "b_f"),
    "s~": ("W", "U", "b"),
}
GATE_OF = {parameter: gate for gate, names in GATES.items() for parameter in names}
PARAMETERS = tuple(GATE_OF)
ALL = "all twelve"
"""For A: the parameters one behind the other, as one long vector."""
SIZES = ((4, 3, 5), (3, 5, 6), (5, 2, 4))
"""H, D and T of the draws, in turn."""


def step(params: Mapping[str, Any], state: Any, x_t: Any) -> Any:
    """One step of the document's system, (1) to (6): the new (s, h), and all that it made."""
    s_tm1, h_tm1 = state
    z = {gate: params[W] @ h_tm1 + params[U] @ x_t + params[b] for gate, (W, U, b) in GATES.items()}
    gates = {gate: jax.nn.sigmoid(value) for gate, value in z.items()}  # (1) (2) (3) (4)
    s = gates["f"] * s_tm1 + gates["i"] * gates["s~"]  # (5)
    h = gates["o"] * jax.nn.sigmoid(s)  # (6)
    return (s, h), {**gates, "s": s, "h": h}


def forward(params: Mapping[str, Any], state: Any, inputs: Any) -> Any:
    """The system over time: for every quantity its values [T, H]."""
    return jax.lax.scan(partial(step, params), state, inputs)[1]


class Draw(NamedTuple):
    """A random point, and the true values of what the document's equations mention there.

    Attributes:
        seed: what it was drawn from.
        params: the twelve parameters.
        x: the inputs [T, D].
        values: each quantity at times 0 to T (its gates at 0 are NaN).
        primes: sigma' at each gate's pre-activation, and at s, at times 1 to T; index 0 is NaN.
        by: for each quantity and parameter, its derivative at times 0 to T; at ALL by all [H, n].
        step_by: each quantity's derivative by s_{t-1} and by h_{t-1} alone, at times 0 to T.
        d_loss: dL_t/dh_t at the last time, [H].
        loss_by: dL_t/dA for each parameter.
    """

    seed: int
    params: dict[str, ndarray]
    x: ndarray
    values: dict[str, ndarray]
    primes: dict[str, ndarray]
    by: dict[str, dict[str, ndarray]]
    step_by: dict[tuple[str, str], ndarray]
    d_loss: ndarray
    loss_by: dict[str, ndarray]


def draw(seed: int, forget_bias: float = 0.0) -> Draw:
    """The quantities at a random point; sizes change with the seed."""
    H, D, T = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    shapes = {"W": (H, H), "U": (H, D), "b": (H,)}
    params = {name: rng.standard_normal(shapes[name[0]]) for name in PARAMETERS}
    params["b_f"] = params["b_f"] + forget_bias
    state = (rng.standard_normal(H), rng.standard_normal(H))
    x, weights = rng.standard_normal((T, D)), rng.standard_normal(H)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _quantities(params, state, x, weights))
    values, primes, by, step_by, d_loss, loss_by = found
    first = {"s": state[0], "h": state[1]}
    return Draw(
        seed,
        params,
        from_zero(x),
        {name: from_zero(rows, first.get(name)) for name, rows in values.items()},
        {name: from_zero(rows) for name, rows in primes.items()},
        {name: _with_all(by_A) for name, by_A in by.items()},
        {pair: from_zero(rows) for pair, rows in step_by.items()},
        d_loss,
        loss_by,
    )


def _with_all(by_A: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """Of one quantity: zero at time 0, and ALL."""
    made = {A: from_zero(rows, 0 * rows[0]) for A, rows in by_A.items()}
    flat = [made[A].reshape(*made[A].shape[:2], -1) for A in PARAMETERS]
    return {**made, ALL: np.concatenate(flat, axis=2)}


@quick_jit
def _quantities(params: Any, state: Any, inputs: Any, weights: Any) -> Any:
    """All that a draw holds, by autodiff."""
    values = forward(params, state, inputs)
    by = jax.jacfwd(lambda params: forward(params, state, inputs))(params)
    before = tuple(
        jnp.concatenate([first[None], values[n][:-1]]) for first, n in zip(state, "sh", strict=True)
    )
    z = {
        gate: before[1] @ params[W].T + inputs @ params[U].T + params[b]
        for gate, (W, U, b) in GATES.items()
    }
    prime = jax.vmap(jax.vmap(jax.grad(jax.nn.sigmoid)))
    primes = {name: prime(at) for name, at in {**z, "s": values["s"]}.items()}
    jacobians = jax.vmap(jax.jacfwd(lambda state, x: step(params, state, x)[1]))(before, inputs)
    step_by = {(name, at): jacobians[name][n] for name in values for n, at in enumerate("sh")}

    def loss(h: Any) -> Any:
        return jnp.sin(weights * h).sum()

    d_loss = jax.grad(loss)(values["h"][-1])
    loss_by = jax.grad(lambda params: loss(forward(params, state, inputs)["h"][-1]))(params)
    return values, primes, by, step_by, d_loss, loss_by


def d(x: ndarray) -> ndarray:
    """The diagonal matrix of x."""
    return np.diag(x)


def d_2(x: ndarray, H: int) -> ndarray:
    """The tensor [H, H, n] with x_k at [j, j, k]."""
    return np.eye(H)[:, :, None] * x
