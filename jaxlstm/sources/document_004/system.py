r"""Document 004: one step's dh_t/dh_{t-1}, the sigmoid's derivative, and a forget gate's maximum.

| document | here in equations | library |
|---|---|---|
| x_t, h_t, c_t | column vectors | inputs, hidden, cell (row vectors) |
| o_t, f_t, i_t, u_t | the gates and the candidate | gates o, f, i, g |
| W_g | [H, D], on the input (W_f printed; the rest supplied) | columns of U, transposed |
| U_g | [H, H], on the state (U_f printed; the rest supplied) | columns of W, transposed |
| sigma, tanh | of the gates; of the cell and (supplied) of u_t | Activations("tanh", "tanh") |
| v o M | row i of M times v_i, where M is a derivative | |
| f_t^(d), U_f^(d), W_f^(d) | unit d of f_t; row d of U_f, of W_f | |

The document prints f_t and no other gate, and of c_t only tanh(c_t).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from jaxlstm.sources import systems
from jaxlstm.sources.compiling import quick_jit

GATES = {"o": "F4", "f": "F3", "i": "F2", "u": "F5"}
"""Each gate's label in the library."""
SIZES = ((4, 3, 3), (3, 5, 2), (5, 2, 4))
"""H, D and T of the draws, in turn."""


# The system.


def shapes(H: int, D: int) -> dict[str, tuple[int, int]]:
    """The shape of each of the eight parameters."""
    return {f"{A}_{g}": (H, n) for g in GATES for A, n in (("W", D), ("U", H))}


def init(key: Array, input_size: int, hidden_size: int) -> dict[str, Array]:
    """The eight parameters, drawn, each matrix scaled by its width."""
    return systems.draw_matrices(key, shapes(hidden_size, input_size))


def hidden_states(params: Mapping[str, Array], inputs: Float[Array, "T D"]) -> Float[Array, "T H"]:
    """h_1 to h_T from the zero state."""
    zero = jnp.zeros_like(params["U_f"][0])
    return forward(params, (zero, zero), inputs)["h"]


def step(params: Mapping[str, Any], state: Any, x_t: Any) -> tuple[Any, dict[str, Any]]:
    """The new (c, h), and all that was made."""
    c_tm1, h_tm1 = state
    z = {g: params[f"W_{g}"] @ x_t + params[f"U_{g}"] @ h_tm1 for g in GATES}
    made = {g: jnp.tanh(z[g]) if g == "u" else jax.nn.sigmoid(z[g]) for g in GATES}
    c = made["f"] * c_tm1 + made["i"] * made["u"]
    tanh_c = jnp.tanh(c)
    h = made["o"] * tanh_c
    return (c, h), {**made, "c": c, "tanh(c)": tanh_c, "h": h}


def forward(params: Mapping[str, Any], state: Any, inputs: Any) -> dict[str, Any]:
    """The system over time: for every quantity its values [T, H]."""
    return jax.lax.scan(partial(step, params), state, inputs)[1]


# A random point.


class Draw(NamedTuple):
    """A random point, and the true values of what the document's equations mention there.

    Attributes:
        params: the eight parameters.
        x: x_t, at the last time t.
        before: c_{t-1}, h_{t-1}, o_{t-1} and tanh(c_{t-1}).
        values: each quantity at time t.
        by_h: its derivative by h_{t-1}, with c_{t-1} an input of the step.
        moving: that of c_{t-1} and of tanh(c_t) by h_{t-1}, with c_{t-1} the cell that made it
            and o_{t-1} held.
        over_time: derivatives by x_{t-1} of h_t, h_{t-1} and c_{t-1}, and dh_t/dc_{t-1}.
        z: random numbers, sigma and sigma' of them.
        argmax: for each objective, row d its maximiser of length 1 for unit d.
        reached: each objective's value there, and that of f_t at the others [256, H].
        others: random vectors of length 1, [256, H].
    """

    params: dict[str, ndarray]
    x: ndarray
    before: dict[str, ndarray]
    values: dict[str, ndarray]
    by_h: dict[str, ndarray]
    moving: dict[str, ndarray]
    over_time: dict[str, ndarray]
    z: tuple[ndarray, ndarray, ndarray]
    argmax: dict[str, ndarray]
    reached: dict[str, ndarray]
    others: ndarray


def draw(seed: int, input_scale: float = 1.0) -> Draw:
    """The quantities at a random point; sizes change with the seed."""
    H, D, T = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    params = {A: rng.standard_normal(s) / s[1] ** 0.5 for A, s in shapes(H, D).items()}
    state = (rng.standard_normal(H), rng.standard_normal(H))
    x = rng.standard_normal((T, D)) * np.append(np.ones(T - 1), input_scale)[:, None]
    z, others = rng.standard_normal(9), rng.standard_normal((256, H))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    with jax.enable_x64(True):
        made = jax.tree.map(np.asarray, _quantities(params, state, x, z))
        argmax, reached = jax.tree.map(np.asarray, _maxima(params, x[-1], others))
    before, values, by_h, moving, over_time, sigmoid = made
    return Draw(
        params, x[-1], before, values, by_h, moving, over_time, sigmoid, argmax, reached, others
    )


@quick_jit
def _quantities(params: Any, state: Any, x: Any, z: Any) -> Any:
    """The step's quantities and their derivatives, by autodiff."""

    def previous(x_tm1: Any) -> Any:
        return step(params, jax.lax.scan(partial(step, params), state, x[:-2])[0], x_tm1)

    def now(c: Any, h: Any) -> Any:
        return {**step(params, (c, h), x[-1])[1], "c_t-1": c}

    def both(x_tm1: Any) -> Any:
        c, h = previous(x_tm1)[0]
        return {"h_t": now(c, h)["h"], "h_t-1": h, "c_t-1": c}

    (c, h), before = previous(x[-2])
    by_c, by_h = jax.jacfwd(now, (0, 1))(c, h), jax.jacfwd(now, 1)(c, h)
    moving = jax.jacfwd(lambda h: now(jnp.arctanh(h / before["o"]), h))(h)
    over_time = jax.jacfwd(both)(x[-2]) | {"dh_t/dc_t-1": by_c["h"][0]}
    prime = jax.vmap(jax.grad(jax.nn.sigmoid))(z)
    return before, now(c, h), by_h, moving, over_time, (z, jax.nn.sigmoid(z), prime)


def _gate(params: Any, x: Any, h: Any) -> Any:
    return step(params, (jnp.zeros_like(h), h), x)[1]["f"]


def _lengths_and_angle(params: Any, _x: Any, h: Any) -> Any:
    lengths = jnp.linalg.norm(params["U_f"], axis=1) * jnp.linalg.norm(h)
    return lengths * (params["U_f"] @ h / lengths)


OBJECTIVES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "f_t": _gate,
    "f_t at x_t = 0": lambda params, x, h: _gate(params, jnp.zeros_like(x), h),
    "sigma": lambda params, x, h: jax.nn.sigmoid(params["W_f"] @ x + params["U_f"] @ h),
    "U_f h": lambda params, _x, h: params["U_f"] @ h,
    "lengths and angle": _lengths_and_angle,
}
"""What is maximised over h of length 1, for every unit d at once."""


@quick_jit
def _maxima(params: Any, x: Any, others: Any) -> Any:
    """Each objective's maximisers, its value there, and that of f_t at the others."""
    argmax, reached = {}, {}
    for name, objective in OBJECTIVES.items():
        value = partial(objective, params, x)
        argmax[name] = jnp.stack([_ascend(value, d, others[0]) for d in range(len(others[0]))])
        reached[name] = jnp.diagonal(jax.vmap(value)(argmax[name]))
    return argmax, reached | {"f_t at others": jax.vmap(partial(_gate, params, x))(others)}


def _ascend(value: Callable[[Any], Any], d: int, h: Any) -> Any:
    """Unit d's maximiser on the sphere, where the gradient is parallel to h."""

    def climb(_: Any, h: Any) -> Any:
        gradient = jax.grad(lambda h: value(h)[d])(h)
        return gradient / jnp.linalg.norm(gradient)

    return jax.lax.fori_loop(0, 5, climb, h)
