"""The LSTM over time: ``step``, ``lstm`` differentiated by hand, its oracle ``lstm_autodiff``.

Forward, a ``lax.scan`` of the cell. Backward, with the six diagonals of all steps at once, a
reverse scan whose body is [B1] to [B4], then the weight gradients as large products:

    d_c       += d_h * dh/dc                                                        [B1]
    d_z        = [d_c * dc/dz_i, d_c * dc/dz_f, d_c * dc/dz_g, d_h * dh/dz_o]       [B2]
    d_c_{t-1}  = d_c * dc/dc_{t-1}                                                  [B3]
    d_h_{t-1}  = d_z W'                                                             [B4]
    d_W        = sum_t h_{t-1}' d_z                                                 [B5]
    d_U        = sum_t x_t' d_z                                                     [B6]
    d_b        = sum_t d_z                                                          [B7]
    d_x_t      = d_z U'                                                             [B8]

In forward mode the tangents' scan has the body [T1] to [T3], all products within it, for what is
stored of a tangent is stored once for each column of a Jacobian:

    dot_z_t = dot_x_t U + x_t dot_U + dot_h_{t-1} W + h_{t-1} dot_W + dot_b         [T1]
    dot_c_t = dot_z_i dc/dz_i + dot_z_f dc/dz_f + dot_z_g dc/dz_g + dot_c_{t-1} f   [T2]
    dot_h_t = dot_z_o dh/dz_o + dot_c_t dh/dc                                       [T3]

In the source documents (``jaxlstm sources`` shows them, with what is misprinted there):

    [B1]  001 (dL/dc_T), (dL/dc_t); 002 (dE/dc^t), (dc^t), (NOTE 1)
    [B2]  001 (step 1), (step 4), (dL/di_t di_t/dh), (dL/df_t df_t/dh), (dL/de_t de_t/dh),
          (dL/dc~_t dc~_t/dh); 002 (dE/do^t), (dE/di^t), (dE/da^t), (dE/df^t), (dE/dahat^t),
          (dE/dihat^t), (dE/dfhat^t), (dE/dohat^t)
    [B3]  001 (dL/dc_t); 002 (dE/dc^{t-1})
    [B4]  000 (10); 001 (dL/dh_t), (step 2), (dL/di_t di_t/dh), (dL/df_t df_t/dh),
          (dL/de_t de_t/dh), (dL/dc~_t dc~_t/dh); 002 (dE/dh^{t-1})
    [B5]  000 (11); 001 (1), (3), (5), (7); 002 (dTheta^t), (dE/dTheta)
    [B6]  000 (12); 001 (2), (4), (6), (8); 002 (dTheta^t), (dE/dTheta)
    [B7]  000 (13)
    [B8]  002 (dE/dx^t)
    [T1]  000 (10), (11), (12), (13)

Lengths and resets act on the state before and after a step, the same way forward and backward.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxlstm.both_modes import differentiated_by_hand
from jaxlstm.cell import Gates, cell_step, gate_values, next_state
from jaxlstm.cell_derivatives import cell_derivatives, cell_jvp, cell_vjp
from jaxlstm.masks import keep, valid_steps
from jaxlstm.placement import (
    place_along_batch,
    product_with_transpose,
    sum_of_outer_products,
    vary_together,
    zeros_along_batch,
)
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence, check_step


def step(
    params: LSTMParams,
    state: LSTMState,
    x_t: ArrayLike,
    *,
    activations: Activations = Activations(),
) -> LSTMState:
    """One step of the LSTM: the pure-function cell, [F1] to [F7].

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        state: hidden and cell [B, H] ([H] unbatched).
        x_t: the input [B, D] ([D] unbatched).
        activations: of the candidate and the cell.

    Returns:
        The next state; its ``hidden`` is the output.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> state = jaxlstm.step(params, jaxlstm.init_state(5), jax.numpy.ones(3))
    >>> state.hidden.shape
    (5,)
    """
    check_step(params, state, x_t, activations)
    params, state, x = jax.tree.map(jnp.asarray, (params, state, x_t))
    return cell_step(params, state, x, activations)


def lstm(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
) -> tuple[Array, LSTMState]:
    """The LSTM over a sequence, with derivatives by hand: [B1] to [B8] back, [T1] to [T3] forward.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        lengths: int [B] (a scalar unbatched). Steps at or past a length leave the state as it is
            and output zeros; what the padding holds never matters. A length outside 0..T is an
            error where its value is known, and clipped where it is traced.
        resets: bool [T, B] ([T] unbatched). Where true, step t starts from the zero state; ignored
            at or past the length.
        activations: of the candidate and the cell.

    Returns:
        outputs [T, B, H] ([T, H] unbatched) and the final state, with ``lengths`` the state at the
        length. Each takes a cotangent, and every floating argument gets a gradient.

    ``jax.grad``, ``jax.jvp`` and all that is made of them work; second derivatives are JAX's own of
    these first ones.

    Raises:
        ValueError, TypeError: shapes, dtypes or values that do not fit, in one sentence, before
            any compilation.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> inputs, lengths = jax.random.normal(jax.random.key(1), (7, 2, 3)), jax.numpy.array([7, 4])
    >>> outputs, final = jaxlstm.lstm(params, inputs, lengths=lengths)
    >>> bool((final.hidden[1] == outputs[3, 1]).all()), bool((outputs[4:, 1] == 0).all())
    (True, True)
    """
    return _at_the_edge(_by_hand, params, inputs, initial_state, lengths, resets, activations)


def lstm_autodiff(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
) -> tuple[Array, LSTMState]:
    """The same function as ``lstm``, a plain scan of ``step`` left to JAX's autodiff: the oracle.

    Arguments, results and errors are those of ``lstm``.
    """
    return _at_the_edge(_plain_scan, params, inputs, initial_state, lengths, resets, activations)


class _Masks(NamedTuple):
    """Which steps count, which carry the state in: [T, B] ([B] in a step), None where all do."""

    valid: Bool[Array, "*T B"] | None
    carried: Bool[Array, "*T B"] | None


_Scan = Callable[[Activations, _Masks, LSTMParams, Array, LSTMState], Any]


def _at_the_edge(
    scan: _Scan,
    params: LSTMParams,
    inputs: Any,
    initial_state: LSTMState | None,
    lengths: Any,
    resets: Any,
    activations: Activations,
) -> tuple[Array, LSTMState]:
    """Checks the arguments and gives ``scan`` a batch, of one sequence where none came."""
    check_sequence(params, inputs, initial_state, lengths, resets, activations)
    params, inputs, initial_state, lengths, resets = jax.tree.map(
        jnp.asarray, (params, inputs, initial_state, lengths, resets)
    )
    if inputs.ndim == 3:
        return _run(scan, params, inputs, initial_state, lengths, resets, activations)
    inputs, resets = jax.tree.map(lambda leaf: leaf[:, None], (inputs, resets))
    initial_state, lengths = jax.tree.map(lambda leaf: leaf[None], (initial_state, lengths))
    outputs, final = _run(scan, params, inputs, initial_state, lengths, resets, activations)
    return outputs[:, 0], jax.tree.map(lambda leaf: leaf[0], final)


@partial(jax.jit, static_argnums=0)
def _run(
    scan: _Scan,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState | None,
    lengths: Array | None,
    resets: Bool[Array, "T B"] | None,
    activations: Activations,
) -> tuple[Array, LSTMState]:
    """Completes the arguments, and hides the padding from ``scan`` and from the caller.

    Jitted, so that a second call outside any jit compiles nothing.
    """
    if initial_state is None:
        zeros = zeros_along_batch(inputs, params.recurrent_kernel.shape[0])
        initial_state = LSTMState(zeros, zeros)
    initial_state = place_along_batch(initial_state, inputs)
    masks = _masks(inputs.shape[0], lengths, resets)
    params, inputs, state, masks = vary_together((params, inputs, initial_state, masks))
    hidden, final = scan(activations, masks, params, keep(masks.valid, inputs), state)
    return keep(masks.valid, hidden), final


def _masks(time: int, lengths: Array | None, resets: Array | None) -> _Masks:
    return _Masks(valid_steps(lengths, time), None if resets is None else ~resets)


def _plain_scan(
    activations: Activations,
    masks: _Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[Float[Array, "T B H"], LSTMState]:
    def forward_step(state: LSTMState, step_t: tuple[Array, _Masks]) -> tuple[LSTMState, Array]:
        x_t, (valid, carried) = step_t
        entered = keep(carried, state)
        state = keep(valid, cell_step(params, entered, x_t, activations), state)
        return state, state.hidden

    final, hidden = jax.lax.scan(forward_step, initial_state, (inputs, masks))
    return hidden, final


def _values(
    activations: Activations,
    masks: _Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[Float[Array, "T B H"], LSTMState]:
    final, hidden = _forward_scan(
        activations, masks, params, inputs, initial_state, lambda state, _: state.hidden
    )
    return hidden, final


class _Residuals(NamedTuple):
    """What tangents and cotangents need: the arguments, each step's state and gates [T, B, H]."""

    masks: _Masks
    params: LSTMParams
    inputs: Float[Array, "T B D"]
    initial_state: LSTMState
    states: LSTMState
    gates: Gates


def _forward_scan(
    activations: Activations,
    masks: _Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
    kept: Callable[[LSTMState, Gates], Any],
) -> tuple[LSTMState, Any]:
    """The final state, and what is kept of every step; the input projection is one product."""

    def forward_step(state: LSTMState, step_t: tuple[Array, _Masks]) -> tuple[LSTMState, Any]:
        projected_t, (valid, carried) = step_t
        entered = keep(carried, state)
        z = projected_t + entered.hidden @ params.recurrent_kernel + params.bias  # [F1]
        gates = gate_values(z, activations)  # [F2] [F3] [F4] [F5]
        state = keep(valid, next_state(gates, entered.cell, activations), state)  # [F6] [F7]
        return state, kept(state, gates)

    projected = inputs @ params.input_kernel  # [F1], the part without recursion
    return jax.lax.scan(forward_step, initial_state, (projected, masks))


def _forward(
    activations: Activations,
    masks: _Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[tuple[Float[Array, "T B H"], LSTMState], _Residuals]:
    final, (states, gates) = _forward_scan(
        activations, masks, params, inputs, initial_state, lambda state, gates: (state, gates)
    )
    residuals = _Residuals(masks, params, inputs, initial_state, states, gates)
    return (states.hidden, final), residuals


def _states_entered(residuals: _Residuals) -> LSTMState:
    """The state that enters every step [T, B, H], zero after a reset."""
    before = jax.tree.map(
        lambda first, after: jnp.concatenate([first[None], after])[:-1],
        residuals.initial_state,
        residuals.states,
    )
    return keep(residuals.masks.carried, before)


def _push_forward(
    activations: Activations,
    residuals: _Residuals,
    tangents: tuple[LSTMParams, Float[Array, "T B D"], LSTMState],
) -> tuple[Float[Array, "T B H"], LSTMState]:
    """The tangents of the outputs and the final state, [T1] to [T3]."""
    masks, params, inputs, _, states, gates = residuals
    dot_params, dot_inputs, dot_initial_state = tangents
    entered = _states_entered(residuals)
    derivatives = cell_derivatives(gates, entered.cell, states.cell, activations)  # [D1] to [D6]

    def tangent_step(dot_state: LSTMState, step_t: Any) -> tuple[LSTMState, Array]:
        dot_x_t, x_t, h_tm1, derivatives_t, (valid, carried) = step_t
        dot_entered = keep(carried, dot_state)
        dot_z = (  # [T1]
            dot_x_t @ params.input_kernel
            + x_t @ dot_params.input_kernel
            + dot_entered.hidden @ params.recurrent_kernel
            + h_tm1 @ dot_params.recurrent_kernel
            + dot_params.bias
        )
        dot_after = LSTMState(*cell_jvp(derivatives_t, dot_z, dot_entered.cell))  # [T2] [T3]
        dot_state = keep(valid, dot_after, dot_state)
        return dot_state, dot_state.hidden

    steps = (dot_inputs, inputs, entered.hidden, derivatives, masks)
    dot_final, dot_hidden = jax.lax.scan(tangent_step, dot_initial_state, steps)
    return dot_hidden, dot_final


def _pull_back(
    activations: Activations,
    residuals: _Residuals,
    cotangents: tuple[Float[Array, "T B H"], LSTMState],
) -> tuple[LSTMParams, Float[Array, "T B D"], LSTMState]:
    """The cotangents of parameters, inputs and initial state, [B1] to [B8]."""
    masks, params, inputs, _, states, gates = residuals
    d_hidden, d_final = cotangents
    entered = _states_entered(residuals)
    derivatives = cell_derivatives(gates, entered.cell, states.cell, activations)  # [D1] to [D6]

    def backward_step(d_state: LSTMState, step_t: Any) -> tuple[LSTMState, Array]:
        d_h_t, derivatives_t, (valid, carried) = step_t
        d_state = LSTMState(d_state.hidden + d_h_t, d_state.cell)
        d_z, d_c_tm1 = cell_vjp(derivatives_t, *d_state)  # [B1] [B2] [B3]
        d_z = keep(valid, d_z)
        d_h_tm1 = product_with_transpose(d_z, params.recurrent_kernel, d_state.hidden)  # [B4]
        d_entered = LSTMState(d_h_tm1, d_c_tm1)
        return keep(valid, keep(carried, d_entered), d_state), d_z

    d_initial_state, d_z = jax.lax.scan(
        backward_step, d_final, (d_hidden, derivatives, masks), reverse=True
    )
    d_params = LSTMParams(
        input_kernel=sum_of_outer_products(inputs, d_z, params.input_kernel),  # [B6]
        recurrent_kernel=sum_of_outer_products(
            keep(masks.valid, entered.hidden), d_z, params.recurrent_kernel
        ),  # [B5]
        bias=d_z.sum((0, 1)),  # [B7]
    )
    d_inputs = product_with_transpose(d_z, params.input_kernel, inputs)  # [B8]
    return d_params, d_inputs, d_initial_state


_by_hand = differentiated_by_hand(_values, _forward, _push_forward, _pull_back)
