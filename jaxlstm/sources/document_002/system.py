r"""Document 002: an LSTM without biases, W on the input, U on the state, any cost on the outputs.

| document | here in equations | library |
|---|---|---|
| x^t, h^t, c^t | column vectors | inputs, hidden, cell (row vectors) |
| i^t, f^t, o^t, a^t | the gates and the candidate | gates i, f, o, g |
| the same hatted | their pre-activations: ihat^t to ahat^t, in code "i^" to "a^" | z_i to z_g |
| W_g, U_g | [H, D], [H, H] of gate g | its columns of U and W (they change places), transposed |
| Theta | [4H, D + H], gate order a, i, f, o | U above W, transposed, in other order |
| E | the sum over t of a cost of h^t | L |
| dc^t | dE/dc^t, accumulated | d_c |
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

GATES = ("a", "i", "f", "o")
HATS = tuple(f"{gate}^" for gate in GATES)
MADE = (*HATS, *GATES, "c", "h")
PROBES = (*MADE, "c>c", "c>h")
"""What can be nudged: all that is made, and c^{t-1} and c^t on their way into c^t and h^t alone."""
SIZES = ((4, 3, 5), (3, 5, 4), (5, 2, 6))
"""H, D and T of the draws, in turn."""


def shapes(H: int, D: int) -> dict[str, tuple[int, int]]:
    """The shape of each of the eight parameters."""
    return {f"{A}_{gate}": (H, n) for A, n in (("W", D), ("U", H)) for gate in GATES}


def init(key: Any, input_size: int, hidden_size: int) -> dict[str, Any]:
    """The eight parameters, drawn, each matrix scaled by its width."""
    return systems.draw_matrices(key, shapes(hidden_size, input_size))


def step(params: Mapping[str, Any], state: Any, x_t: Any, probes: Mapping[str, Any]) -> Any:
    """One step: the new (c, h), and all that it made, each with its probe added."""
    c_tm1, h_tm1 = state
    made = {}
    for gate, hat in zip(GATES, HATS, strict=True):
        made[hat] = params[f"W_{gate}"] @ x_t + params[f"U_{gate}"] @ h_tm1 + probes[hat]
        sigma = jnp.tanh if gate == "a" else jax.nn.sigmoid
        made[gate] = sigma(made[hat]) + probes[gate]
    made["c"] = made["a"] * made["i"] + (c_tm1 + probes["c>c"]) * made["f"] + probes["c"]
    made["h"] = jnp.tanh(made["c"] + probes["c>h"]) * made["o"] + probes["h"]
    return (made["c"], made["h"]), made


forward = partial(systems.forward, step, PROBES)
"""The system over time, from params, state, inputs and probes: all that is made, [T, H] each."""


def rest(params: Mapping[str, Any]) -> Any:
    """The zero state (c^0, h^0)."""
    zero = jnp.zeros_like(params["U_a"][0])
    return zero, zero


def hidden_states(params: Mapping[str, Any], inputs: Any) -> Any:
    """h^1 to h^T [T, H] from the zero state."""
    return forward(params, rest(params), inputs)["h"]


def theta_of(params: Mapping[str, Any]) -> Any:
    """Theta = [W U], each a stack of the four gates' [4H, D + H]."""
    stacks = [jnp.concatenate([params[f"{A}_{gate}"] for gate in GATES]) for A in "WU"]
    return jnp.concatenate(stacks, axis=1)


def params_of(theta: Any) -> dict[str, Any]:
    """The eight parameters in Theta."""
    H = len(theta) // len(GATES)
    blocks = zip(GATES, jnp.split(theta, len(GATES)), strict=True)
    return {
        name: block
        for gate, rows in blocks
        for name, block in ((f"W_{gate}", rows[:, :-H]), (f"U_{gate}", rows[:, -H:]))
    }


class Draw(NamedTuple):
    """A random point, and the true values of what the document's equations mention there.

    Attributes:
        t: the time of which the equations speak.
        params: the eight parameters.
        x: the inputs at times 0 to T (NaN at 0).
        values: each quantity at times 0 to T (NaN at 0, but for c and h).
        error_by: dE by each quantity and by x at times 0 to T (NaN at 0, but for c and h); at "c>h"
            that by c^t through h^t alone, at "c>c" that by c^{t-1} through c^t alone.
        cost_by_h: dE by h at times 0 to T from the cost of h^t alone (NaN at 0).
        hidden_by: dh^s by o^t and by c^t at [s - 1, :, t - 1].
        by_theta: dE by Theta.
        by_theta_at: dE by the Theta of one time alone, times 0 to T (NaN at 0).
        hats_by: the stacked pre-activations' derivatives by "Theta" and by "I", likewise.
    """

    t: int
    params: dict[str, ndarray]
    x: ndarray
    values: dict[str, ndarray]
    error_by: dict[str, ndarray]
    cost_by_h: ndarray
    hidden_by: dict[str, ndarray]
    by_theta: ndarray
    by_theta_at: ndarray
    hats_by: dict[str, ndarray]


def draw(seed: int, time: int = -3, without: tuple[str, ...] = ()) -> Draw:
    """The quantities at a random point, the matrices ``without`` zero, t at ``time`` in 1 to T."""
    H, D, T = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    params = {A: rng.standard_normal(s) / s[1] ** 0.5 for A, s in shapes(H, D).items()}
    params |= {A: np.zeros_like(params[A]) for A in without}
    state = (rng.standard_normal(H), rng.standard_normal(H))
    x, weights = rng.standard_normal((T, D)), rng.standard_normal((T, H))
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _quantities(params, state, x, weights))
    values, by_values, by_state, cost_by_h, hidden_by, by_theta, by_theta_at, hats_by = found
    first, first_by = (dict(zip("ch", pair, strict=True)) for pair in (state, by_state))
    return Draw(
        range(1, T + 1)[time],
        params,
        from_zero(x),
        {name: from_zero(rows, first.get(name)) for name, rows in values.items()},
        {name: from_zero(rows, first_by.get(name)) for name, rows in by_values.items()},
        from_zero(cost_by_h),
        hidden_by,
        by_theta,
        from_zero(by_theta_at),
        {name: from_zero(rows) for name, rows in hats_by.items()},
    )


@quick_jit
def _quantities(params: Any, state: Any, inputs: Any, weights: Any) -> Any:
    """All that a draw holds, by autodiff."""
    values = forward(params, state, inputs)
    probes = dict.fromkeys(PROBES, jnp.zeros_like(values["h"]))

    def error(state: Any, inputs: Any, probes: Any) -> Any:
        return _cost(weights, forward(params, state, inputs, probes)["h"])

    def hidden(nudged: Any) -> Any:
        return forward(params, state, inputs, probes | nudged)["h"]

    by_state, by_x, by_values = jax.grad(error, (0, 1, 2))(state, inputs, probes)
    by_values = by_values | {"x": by_x}
    cost_by_h = jax.grad(_cost, 1)(weights, values["h"])
    hidden_by = jax.jacfwd(hidden)({name: probes[name] for name in "oc"})
    theta = theta_of(params)
    by_theta, by_theta_at = _by_theta(theta, state, inputs, weights)
    h_before = systems.before(state, values)["h"]
    by_both = jax.vmap(jax.jacfwd(_hats, (0, 1, 2)), (None, 0, 0))(theta, inputs, h_before)
    hats_by = {"Theta": by_both[0], "I": jnp.concatenate(by_both[1:], axis=2)}
    return values, by_values, by_state, cost_by_h, hidden_by, by_theta, by_theta_at, hats_by


def _cost(weights: Any, h: Any) -> Any:
    """The draws' E."""
    return jnp.sin(weights * h).sum()


def _by_theta(theta: Any, state: Any, inputs: Any, weights: Any) -> tuple[Any, Any]:
    """dE by Theta, and by a Theta for each time."""

    def advance(state: Any, now: Any) -> Any:
        return step(params_of(now[0]), state, now[1], dict.fromkeys(PROBES, 0.0))

    def error(theta: Any) -> Any:
        return _cost(weights, forward(params_of(theta), state, inputs)["h"])

    def error_of_all(thetas: Any) -> Any:
        return _cost(weights, jax.lax.scan(advance, state, (thetas, inputs))[1]["h"])

    thetas = jnp.broadcast_to(theta, (len(inputs), *theta.shape))
    return jax.grad(error)(theta), jax.grad(error_of_all)(thetas)


def _hats(theta: Any, x_t: Any, h_tm1: Any) -> Any:
    """The four pre-activations of a step, one above the other."""
    made = step(params_of(theta), (0 * h_tm1, h_tm1), x_t, dict.fromkeys(PROBES, 0.0))[1]
    return jnp.concatenate([made[hat] for hat in HATS])
