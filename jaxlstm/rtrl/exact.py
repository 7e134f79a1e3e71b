"""Real-time recurrent learning: the derivative of the state, carried forward in time.

Instead of a cotangent back through all steps, every step carries on the sensitivities of its state
to everything that came before: dh_t/dA and dc_t/dA for each parameter ``A`` and for the initial
state. They need no memory of the past, so a stream may be endless. Written with the unit as the
last axis, a sensitivity to one number is a row vector, and with the six diagonals of a step

    K_c = W_i diag(dc/dz_i) + W_f diag(dc/dz_f) + W_g diag(dc/dz_g)                         [S1]
    K_h = W_o diag(dh/dz_o)                                                                 [S2]
    v_c = [dc/dz_i, dc/dz_f, dc/dz_g, 0],   v_h = [0, 0, 0, dh/dz_o]                        [S3]
    V   = x_t' v for A = U,   h_{t-1}' v for A = W,   v for A = b,   0 for the state        [S4]
    dc_t/dA = dh_{t-1}/dA K_c + dc_{t-1}/dA * f + V_c                                       [S5]
    dh_t/dA = dh_{t-1}/dA K_h + dc_t/dA * dh/dc + V_h                                       [S6]

[S5] and [S6] are one product with an H x H matrix each, over all parameters at once. A unit's
pre-activations take their own columns of the parameters alone, so V is diagonal in the unit; under
jit the compiler adds it within the pass over memory that [S5] and [S6] make anyway.

Put [S5] into [S6] and it is the recursion of document 000, (26) and (30):

    dh_t/dA = M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V_t
    M_t = K_h + K_c diag(dh/dc),   N_t = f * dh/dc,   V_t = V_h + V_c * dh/dc

In the source documents (``jaxlstm sources`` shows them, with what is misprinted there):

    [S5]  000 (ds_t/dA)
    [S6]  000 (26), (30)
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxlstm.cell import gate_values, next_state
from jaxlstm.cell_derivatives import CellDerivatives, cell_derivatives
from jaxlstm.masks import keep
from jaxlstm.placement import vary_together
from jaxlstm.rtrl.entries import Entries, entries_of
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_params, check_state, check_step, check_step_masks


class ByArgument(NamedTuple):
    """The derivative of every unit by every number that the state depends on; a pytree.

    Each leaf is [B, *argument, H], the unit last: the layout in which a step is fastest. The
    argument's axes are its own: dh/dU is [B, D, 4H, H], dh/dh_0 is [B, H, H].

    Attributes:
        params: by the parameters.
        initial_state: by the state before the first step.
    """

    params: LSTMParams
    initial_state: LSTMState


class Sensitivities(NamedTuple):
    """The derivatives of the state; a pytree.

    Attributes:
        hidden: dh_t/dA.
        cell: dc_t/dA.
    """

    hidden: ByArgument
    cell: ByArgument


class RTRLState(NamedTuple):
    """What the recursion carries from step to step; a pytree.

    Attributes:
        state: hidden and cell [B, H] ([H] unbatched).
        sensitivities: of that state, each leaf [B, *argument, H] ([*argument, H] unbatched).
    """

    state: LSTMState
    sensitivities: Sensitivities


def init_rtrl(params: LSTMParams, state: LSTMState, *, estimator: str = "exact") -> RTRLState:
    """The carry before the first step: nothing depends on the parameters yet.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        state: the initial state, hidden and cell [B, H] ([H] unbatched).
        estimator: "exact", "snap1" or "cell".

    Returns:
        The state and its sensitivities: zeros by the parameters, the identity by itself.

    Raises:
        ValueError, TypeError: arguments that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import init_rtrl
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> carry = init_rtrl(params, jaxlstm.init_state(5, batch_size=2))
    >>> carry.sensitivities.hidden.params.input_kernel.shape
    (2, 3, 20, 5)
    """
    check_params(params)
    check_state("state", state, params)
    params, state = jax.tree.map(jnp.asarray, (params, state))
    init = partial(_init_of_one, entries_of(estimator), params)
    return (jax.vmap(init) if state.hidden.ndim == 2 else init)(state)


def rtrl_step(
    params: LSTMParams,
    carry: RTRLState,
    x_t: ArrayLike,
    *,
    valid_t: ArrayLike | None = None,
    reset_t: ArrayLike | None = None,
    activations: Activations = Activations(),
    estimator: str = "exact",
) -> RTRLState:
    """One step of the LSTM and of its sensitivities, [S1] to [S6]: pure, for ``lax.scan``.

    Document 000, (26) and (30): dh_t/dA = M_t dh_{t-1}/dA + N_t ds_{t-1}/dA + V_t.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        carry: from ``init_rtrl`` or the step before.
        x_t: the input [B, D] ([D] unbatched), of the parameters' dtype.
        valid_t: bool [B] (a scalar unbatched). Where false, the step is padding: it leaves the
            carry as it is, whatever ``x_t`` holds.
        reset_t: bool [B] (a scalar unbatched). Where true, the step starts from the zero state,
            which depends on nothing. Ignored where the step is padding.
        activations: of the candidate and the cell.
        estimator: the one that the carry was made for.

    Returns:
        The next carry; ``carry.state.hidden`` is the output.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import init_rtrl, rtrl_step
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> carry = rtrl_step(params, init_rtrl(params, jaxlstm.init_state(5)), jax.numpy.ones(3))
    >>> carry.sensitivities.hidden.params.bias.shape
    (20, 5)
    """
    entries = entries_of(estimator)
    _check_carry(params, carry, estimator)
    check_step(params, carry.state, x_t, activations)
    check_step_masks(valid_t, reset_t, jnp.shape(x_t)[:-1])
    params, carry, x, valid, reset = jax.tree.map(
        jnp.asarray, (params, carry, x_t, valid_t, reset_t)
    )
    one_step = partial(_step_of_one, entries, params, activations)
    return (jax.vmap(one_step) if x.ndim == 2 else one_step)(carry, x, valid, reset)


def pull_back(carry: RTRLState, d_h: ArrayLike, *, estimator: str = "exact") -> LSTMParams:
    """The gradient of the parameters from a cotangent of the hidden state, d_A = d_h dh_t/dA.

    Args:
        carry: after the step.
        d_h: the cotangent of ``carry.state.hidden``, [B, H] ([H] unbatched), summed over B.
        estimator: the one that the carry was made for.

    Returns:
        Leaves of the parameters' shapes.

    Raises:
        ValueError, TypeError: a carry of another estimator, a cotangent that does not fit, in one
            sentence.

    >>> import jax, jaxlstm
    >>> from jaxlstm.rtrl import init_rtrl, pull_back, rtrl_step
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> carry = rtrl_step(params, init_rtrl(params, jaxlstm.init_state(5)), jax.numpy.ones(3))
    >>> pull_back(carry, jax.numpy.ones(5)).input_kernel.shape
    (3, 20)
    """
    entries = entries_of(estimator)
    _check_pulled(carry, d_h, estimator)
    S_h, d = carry.sensitivities.hidden.params, jnp.asarray(d_h)
    if d.ndim == 1:
        S_h, d = jax.tree.map(lambda leaf: leaf[None], (S_h, d))
    return jax.tree.map(lambda leaf: entries.pull(leaf, d), S_h)


def jacobians(sensitivities: Sensitivities) -> Sensitivities:
    """The exact sensitivities with the unit before the argument, as ``jax.jacrev`` orders them.

    Args:
        sensitivities: each leaf [B, *argument, H] ([*argument, H] unbatched).

    Returns:
        The same numbers, each leaf [B, H, *argument] ([H, *argument] unbatched).
    """
    unit = sensitivities.hidden.params.bias.ndim - 2
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, unit), sensitivities)


def _check_pulled(carry: Any, d_h: Any, estimator: str) -> None:
    """Requires a carry of this estimator, and a cotangent of its hidden state."""
    _check_type(carry)
    hidden, bias = carry.state.hidden, carry.sensitivities.hidden.params.bias
    v = jax.ShapeDtypeStruct((4, hidden.shape[-1]), hidden.dtype)
    made = jax.eval_shape(entries_of(estimator).spread, v)
    expected = [*hidden.shape[:-1], *made.shape]
    if list(bias.shape) != expected:
        raise ValueError(
            f"carry.sensitivities: expected shape {expected} by the bias for "
            f"estimator={estimator!r}, got {list(bias.shape)}."
        )
    if jnp.shape(d_h) != hidden.shape:
        raise ValueError(
            f"d_h: expected shape {list(hidden.shape)} as carry.state.hidden has, "
            f"got {list(jnp.shape(d_h))}."
        )


def _check_type(carry: Any) -> None:
    if not isinstance(carry, RTRLState):
        raise TypeError(f"carry: expected RTRLState, got {type(carry).__name__}.")


def _check_carry(params: LSTMParams, carry: Any, estimator: str) -> None:
    """Requires a carry that ``init_rtrl`` makes for these parameters and this estimator."""
    _check_type(carry)
    made = jax.eval_shape(partial(init_rtrl, estimator=estimator), params, carry.state)
    expected, came = jax.tree.leaves(made.sensitivities), jax.tree.leaves(carry.sensitivities)
    for leaf, other in zip(expected, came, strict=True):
        if leaf.shape != other.shape:
            raise ValueError(
                f"carry.sensitivities: expected leaves as init_rtrl makes them for these params "
                f"and estimator={estimator!r}, of shape {list(leaf.shape)}, "
                f"got {list(other.shape)}."
            )


def _init_of_one(entries: Entries, params: LSTMParams, state: LSTMState) -> RTRLState:
    """The carry of one sequence before its first step."""
    D, H = len(params.input_kernel), state.hidden.size
    zeros = partial(jnp.zeros, dtype=state.hidden.dtype)
    one = entries.of_matrix(jnp.eye(H, dtype=state.hidden.dtype))
    zero = jnp.zeros_like(one)
    by_params = _immediate(entries.spread(zeros((4, H))), zeros(D), zeros(H)).params
    hidden = ByArgument(by_params, LSTMState(hidden=one, cell=zero))
    cell = ByArgument(by_params, LSTMState(hidden=zero, cell=one))
    return vary_together(RTRLState(state, Sensitivities(hidden, cell)))


def _step_of_one(
    entries: Entries,
    params: LSTMParams,
    activations: Activations,
    carry: RTRLState,
    x_t: Float[Array, " D"],
    valid_t: Bool[Array, ""] | None,
    reset_t: Bool[Array, ""] | None,
) -> RTRLState:
    """One step of one sequence."""
    x_t = keep(valid_t, x_t)
    (h_tm1, c_tm1), entered = keep(None if reset_t is None else ~reset_t, carry)
    z = x_t @ params.input_kernel + h_tm1 @ params.recurrent_kernel + params.bias  # [F1]
    gates = gate_values(z, activations)  # [F2] [F3] [F4] [F5]
    state = next_state(gates, c_tm1, activations)  # [F6] [F7]
    derivatives = cell_derivatives(gates, c_tm1, state.cell, activations)  # [D1] to [D6]
    kernels = map(entries.of_matrix, jnp.split(params.recurrent_kernel, 4, axis=-1))
    sensitivities = _recursion(entries, derivatives, kernels, (x_t, h_tm1), entered)
    return keep(valid_t, RTRLState(state, sensitivities), carry)


def _recursion(
    entries: Entries,
    derivatives: CellDerivatives,
    kernels: Iterable[Array],
    rows: tuple[Float[Array, " D"], Float[Array, " H"]],
    entered: Sensitivities,
) -> Sensitivities:
    """The sensitivities of one sequence after a step, from those that entered it."""
    dc_dzi, dc_dzf, dc_dzg, f, dh_dzo, dh_dc = derivatives
    W_i, W_f, W_g, W_o = kernels
    K_c = W_i * dc_dzi + W_f * dc_dzf + W_g * dc_dzg  # [S1]
    K_h = W_o * dh_dzo  # [S2]
    v_c = entries.spread(jnp.pad(jnp.stack([dc_dzi, dc_dzf, dc_dzg]), ((0, 1), (0, 0))))  # [S3]
    v_h = entries.spread(jnp.pad(dh_dzo[None], ((3, 0), (0, 0))))  # [S3]

    def to_cell(S_h: Array, S_c: Array, V_c: Array) -> Array:
        return entries.passed(S_h, K_c) + S_c * f + V_c  # [S5]

    def to_hidden(S_h: Array, S_c: Array, V_h: Array) -> Array:
        return entries.passed(S_h, K_h) + S_c * dh_dc + V_h  # [S6]

    cell = jax.tree.map(to_cell, entered.hidden, entered.cell, _immediate(v_c, *rows))
    hidden = jax.tree.map(to_hidden, entered.hidden, cell, _immediate(v_h, *rows))
    return Sensitivities(hidden, cell)


def _immediate(v: Array, x_t: Float[Array, " D"], h_tm1: Float[Array, " H"]) -> ByArgument:
    """V: what the arguments of this very step do to the state that it makes."""

    def outer_product(row: Array) -> Array:
        return row.reshape(-1, *(1,) * v.ndim) * v  # [S4]

    by_params = LSTMParams(outer_product(x_t), outer_product(h_tm1), v)  # [S4]
    zero = jnp.zeros_like(v, shape=())
    return ByArgument(by_params, LSTMState(zero, zero))  # [S4]
