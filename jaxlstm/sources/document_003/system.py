r"""Document 003: the vanilla RNN's product, and two paths through an LSTM of sigmoids.

| document | here in equations | library |
|---|---|---|
| x_t, h_t, s_t | column vectors | inputs, hidden, cell (row vectors) |
| o_t, i_t, f_t, s~_t | the gates and the candidate | gates o, i, f, g |
| U_g, W_g | [H, D], [H, H] of gate g; U, W those of s~ | its columns of U and W, transposed |
| sigma | sigmoid, of the candidate (supplied) and of the cell | Activations("sigmoid", "sigmoid") |
| D(v) | diag(v) | |
| s_t, U, W of the RNN | s_t = tanh(W s_{t-1} + U x_t) (supplied) | |
| L_t, L'_t(h_t) | the loss at t, its derivative by h_t, a row | L, d_h |
| t_0, t_1 | from L_t to s_k by cells, to h_{k-1} by output gates | |
| t, k | the last time and 1 | T, 1 |

The document prints neither the RNN nor the four gates. The claims on vanishing and exploding paths
are tried where the LSTM rests (``resting.py``), most with W = W_i = W_f = 0 and W_o set so that
dh_t/dh_{t-1} is a matrix M of choice.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from jaxlstm.sources import systems
from jaxlstm.sources.arrays import from_zero
from jaxlstm.sources.compiling import quick_jit

GATES = {"o": ("W_o", "U_o"), "i": ("W_i", "U_i"), "f": ("W_f", "U_f"), "s~": ("W", "U")}
SIZES = ((4, 3, 3), (3, 5, 4), (5, 2, 5))
"""H, D and T of the draws, in turn."""
K = 1
"""The time k at which the paths end."""


# The two systems.


def shapes(H: int, D: int) -> dict[str, tuple[int, int]]:
    """The shape of each of the LSTM's eight parameters."""
    return {A: (H, n) for pair in GATES.values() for A, n in zip(pair, (H, D), strict=True)}


def init(key: Array, input_size: int, hidden_size: int) -> dict[str, Array]:
    """The LSTM's eight parameters, drawn, each matrix scaled by its width."""
    return systems.draw_matrices(key, shapes(hidden_size, input_size))


def hidden_states(params: Mapping[str, Array], inputs: Float[Array, "T D"]) -> Float[Array, "T H"]:
    """The LSTM's h_1 to h_T from the zero state."""
    zero = jnp.zeros_like(params["W"][0])
    return forward(params, (zero, zero), inputs)["h"]


def rnn_init(key: Array, input_size: int, hidden_size: int) -> dict[str, Array]:
    """The RNN's W and U."""
    return {A: value for A, value in init(key, input_size, hidden_size).items() if A in ("W", "U")}


def rnn_hidden_states(
    params: Mapping[str, Array], inputs: Float[Array, "T D"]
) -> Float[Array, "T H"]:
    """The RNN's s_1 to s_T from zero."""
    return rnn(params["W"], params["U"], jnp.zeros_like(params["W"][0]), inputs)


def step(
    params: Mapping[str, Any], state: Any, x_t: Any, held: tuple[str, ...] = ()
) -> tuple[Any, dict[str, Any]]:
    """The new (s, h), and all that was made; no derivative flows through what is held."""
    s_tm1, h_tm1 = state
    made = {g: jax.nn.sigmoid(params[W] @ h_tm1 + params[U] @ x_t) for g, (W, U) in GATES.items()}
    made |= {gate: jax.lax.stop_gradient(made[gate]) for gate in GATES if gate in held}
    s = made["f"] * s_tm1 + made["i"] * made["s~"]
    s = jax.lax.stop_gradient(s) if "s" in held else s
    h = output(made["o"], s)
    return (s, h), {**made, "s": s, "h": h}


def output(o: Any, s: Any) -> Any:
    """h of the output gate and the cell."""
    return o * jax.nn.sigmoid(s)


def forward(
    params: Mapping[str, Any], state: Any, inputs: Any, held: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The LSTM over time: for every quantity its values [T, H]."""
    return jax.lax.scan(lambda s, x_t: step(params, s, x_t, held), state, inputs)[1]


def rnn_step(W: Any, U: Any, s_tm1: Any, x_t: Any) -> Any:
    """One step of the vanilla RNN."""
    return jnp.tanh(W @ s_tm1 + U @ x_t)


def rnn(W: Any, U: Any, s_0: Any, inputs: Any) -> Any:
    """The RNN over time: s_1 to s_T."""
    return jax.lax.scan(lambda s, x_t: (rnn_step(W, U, s, x_t),) * 2, s_0, inputs)[1]


# A random point.


class Draw(NamedTuple):
    """A random point, and the true values of what the document's equations mention there.

    Attributes:
        params: the LSTM's eight parameters; the RNN shares W and U.
        x: the inputs at times 0 to T (NaN at 0).
        values: each quantity of the LSTM at times 0 to T (NaN at 0, but for s and h).
        primes: sigma' at the pre-activation of each gate and at s, likewise.
        steps: derivatives of each step's quantities by autodiff, likewise.
        true: the other derivatives by autodiff, with "L'" for L'_t(h_t).
        rnn: "s" at times 0 to T, and its derivatives by autodiff, those by time from 0 to T.
        threshold: the norm above which the gradient is clipped.
    """

    params: dict[str, ndarray]
    x: ndarray
    values: dict[str, ndarray]
    primes: dict[str, ndarray]
    steps: dict[str, ndarray]
    true: dict[str, ndarray]
    rnn: dict[str, ndarray]
    threshold: float


def draw(seed: int, diagonal: bool = False) -> Draw:
    """The quantities at a random point, where wanted with a diagonal W."""
    H, D, T = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    params = {A: rng.standard_normal(s) / s[1] ** 0.5 for A, s in shapes(H, D).items()}
    if diagonal:
        params["W"] = params["W"] * np.eye(H)
    state = (rng.standard_normal(H), rng.standard_normal(H))
    x, weights = rng.standard_normal((T, D)), rng.standard_normal(H)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _lstm_truths(params, state, x, weights))
        truths = _rnn_truths(params["W"], params["U"], state[0], x, weights)
        rnn_truths = jax.tree.map(np.asarray, truths)
    values, primes, steps, true = found
    first = dict(zip("sh", state, strict=True))
    return Draw(
        params,
        from_zero(x),
        {name: from_zero(rows, first.get(name)) for name, rows in values.items()},
        {name: from_zero(rows) for name, rows in primes.items()},
        {name: from_zero(rows) for name, rows in steps.items()},
        true,
        rnn_truths,
        float(rng.uniform(0.5, 2.0) * np.linalg.norm(true["dL/dtheta"])),
    )


@quick_jit
def _lstm_truths(params: Any, state: Any, x: Any, weights: Any) -> Any:
    """All of the LSTM that a draw holds, by autodiff."""
    values = forward(params, state, x)
    o, s, h = ([first, *values[n]] for n, first in zip("osh", (None, *state), strict=True))
    before = jnp.stack(s[:-1]), jnp.stack(h[:-1])
    z = {g: before[1] @ params[W].T + x @ params[U].T for g, (W, U) in GATES.items()}
    prime = jax.vmap(jax.vmap(jax.grad(jax.nn.sigmoid)))
    primes = {name: prime(rows) for name, rows in {**z, "s": values["s"]}.items()}

    def loss(h_t: Any) -> Any:
        return jnp.sin(weights * h_t).sum()

    def from_cell(s_k: Any, held: tuple[str, ...] = ()) -> Any:
        return loss(forward(params, (s_k, output(o[K], s_k)), x[K:], held)["h"][-1])

    def from_start(params: Any, h: Any, held: tuple[str, ...] = ()) -> Any:
        return loss(forward(params, (state[0], h), x, held)["h"][-1])

    by_params, by_start = jax.grad(from_start, (0, 1))(params, state[1])
    whole = {
        "L'": jax.grad(loss)(h[-1]),
        "dL/ds_k": jax.grad(from_cell)(s[K]),
        "t_0": jax.grad(from_cell)(s[K], tuple(GATES)),
        "dL/dh_k-1": by_start,
        "t_1": jax.grad(from_start, 1)(params, state[1], ("s",)),
        "dL/dtheta": jnp.concatenate([leaf.ravel() for leaf in by_params.values()]),
    }
    last = _cell_truths(params, s[-2], o[-2], x[-1])
    first = _first_cell_by_W_f(params, state, x[0])
    return values, primes, _step_truths(params, before, values, x), whole | last | first


def _step_truths(params: Any, before: Any, values: Any, x: Any) -> dict[str, Any]:
    """Derivatives of each step's quantities by what enters them alone."""
    made = jax.vmap(jax.jacfwd(lambda state, x_t: step(params, state, x_t)[1]))(before, x)
    return {
        "ds_j/ds_j-1": made["s"][0],
        "do_j/dh_j-1": made["o"][1],
        "dh_j/do_j": jax.vmap(jax.jacfwd(output, 0))(values["o"], values["s"]),
        "dh_j/ds_j": jax.vmap(jax.jacfwd(output, 1))(values["o"], values["s"]),
    }


def _cell_truths(params: Any, s_tm1: Any, o_tm1: Any, x_t: Any) -> dict[str, Any]:
    """Derivatives of s_t by s_{t-1}, with h_{t-1} moving along."""

    def s_t(s_tm1: Any, held: tuple[str, ...] = ()) -> Any:
        return step(params, (s_tm1, output(o_tm1, s_tm1)), x_t, held)[0][0]

    by_cell = jax.jacfwd(s_t)
    return {"ds_t/ds_t-1": by_cell(s_tm1), "s~ held": by_cell(s_tm1, ("s~",))}


def _first_cell_by_W_f(params: Any, state: Any, x_1: Any) -> dict[str, Any]:
    """The explicit derivative of s_1 by W_f, from the state and from zero."""

    def s_1(W_f: Any, state: Any) -> Any:
        return step({**params, "W_f": W_f}, state, x_1)[0][0]

    by_W_f = partial(jax.jacfwd(s_1), params["W_f"])
    zero = jax.tree.map(jnp.zeros_like, state)
    return {"ds_k/dW_f": by_W_f(state), "ds_k/dW_f from zero": by_W_f(zero)}


@quick_jit
def _rnn_truths(W: Any, U: Any, s_0: Any, x: Any, weights: Any) -> Any:
    """All of the RNN that a draw holds, by autodiff."""
    s = jnp.concatenate([s_0[None], rnn(W, U, s_0, x)])

    def loss(s_t: Any) -> Any:
        return jnp.sin(weights * s_t).sum()

    def by(argument: int) -> Any:
        rows = jax.vmap(jax.jacfwd(rnn_step, argument), (None, None, 0, 0))(W, U, s[:-1], x)
        return jnp.concatenate([jnp.full_like(rows[:1], jnp.nan), rows])

    whole = [jax.jacfwd(lambda s_k, k=k: rnn(W, U, s_k, x[k:])[-1])(s[k]) for k in range(len(x))]
    return {
        "s": s,
        "d_loss": jax.grad(loss)(s[-1]),
        "dL/dW": jax.grad(lambda W: loss(rnn(W, U, s_0, x)[-1]))(W),
        "ds_j/ds_j-1": by(2),
        "d+s_k/dW": by(0),
        "ds_t/ds_k": jnp.stack([*whole, jnp.eye(len(s_0))]),
    }
