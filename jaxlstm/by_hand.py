"""The LSTM over time, its derivatives by hand: values forward, tangents forward, cotangents back.

Back from the end of the sequence, a reverse scan over [B1] to [B4], and the sums of its ``d_z``:

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

Every array of a step has its features first, [H, B]: a product runs faster with the kernel on its
left, and the four gates of ``z`` lie one after another in memory. ``x_t`` and ``h_{t-1}`` enter one
product with both kernels, and one product takes both cotangents back. Of few sequences a product
costs more than its arithmetic: then the inputs' part is taken out of the loop.

What the forward pass saves for the other two is the caller's choice:

    "gates"    h, c and the four gates: nothing is computed twice
    "states"   h and c; the gates of a chunk of steps come again from one product
    "outputs"  h, which the caller has anyway, and the c of every chunk's first step; the others
               follow from the gates [F6]
    "chunks"   h and c of every chunk's first step; its steps are run again

The other two passes go from chunk to chunk of ``chunk_size`` steps, so that the six diagonals [D1]
to [D6] and ``d_z`` are computed for many steps at once, stay in cache, and never exist for all T.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxlstm.both_modes import differentiated_by_hand
from jaxlstm.cell import Gates, gate_values, next_state
from jaxlstm.cell_derivatives import CellDerivatives, cell_derivatives, cell_jvp, cell_vjp
from jaxlstm.chunks import chunk_size, scan_over_chunks
from jaxlstm.masks import keep
from jaxlstm.placement import (
    gathered,
    own_sum,
    product,
    product_of_columns,
    product_of_rows,
    sum_of_columns,
    vary_together,
)
from jaxlstm.types import Activations, LSTMParams, LSTMState, at_least_float32

FEW = 64
"""Sequences: of a smaller batch, the inputs' products are taken out of the loops."""
FEW_ALONE = 8
"""The same for a forward loop that saves its outputs alone."""


class Masks(NamedTuple):
    """Masks over time, None where they are true throughout.

    Attributes:
        valid: which steps count; the others leave the state as it is.
        carried: which steps the state is carried into; the others start from zero.

    [T, B] at the edge, [T, 1, B] in these passes.
    """

    valid: Bool[Array, "*T B"] | None
    carried: Bool[Array, "*T B"] | None


class Choice(NamedTuple):
    """What is static.

    Attributes:
        activations: phi and psi.
        residuals: what the forward pass saves.
        precision: what the operands of products are rounded to.
        mesh_axis: that splits the hidden units.
    """

    activations: Activations
    residuals: str = "gates"
    precision: str | None = None
    mesh_axis: str | None = None


class _Saved(NamedTuple):
    """What the forward pass saves of every step, None where it comes again."""

    hidden: Float[Array, "T B H"] | None
    cell: Float[Array, "T H B"] | None
    gates: Gates | None


class _Residuals(NamedTuple):
    """What tangents and cotangents need: the arguments, what was saved, the state of each chunk."""

    masks: Masks
    params: LSTMParams
    inputs: Float[Array, "T B D"]
    saved: _Saved
    first: LSTMState


def _values(
    choice: Choice,
    masks: Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[Float[Array, "T B H"], LSTMState]:
    steps, state = (masks, inputs), _transposed(initial_state)
    run = _forward_scan(choice, params, inputs.shape[1], _hidden_alone)
    final, saved = run(state, steps)
    return saved.hidden, _transposed(final)


def _transposed(state: LSTMState) -> LSTMState:
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -1, -2), state)


def _hidden_alone(state: LSTMState, _: Gates) -> _Saved:
    return _Saved(state.hidden.T, None, None)


def _states(state: LSTMState, _: Gates) -> _Saved:
    return _Saved(state.hidden.T, state.cell, None)


def _everything(state: LSTMState, gates: Gates) -> _Saved:
    return _Saved(state.hidden.T, state.cell, gates)


def _forward_scan(
    choice: Choice,
    params: LSTMParams,
    batch: int,
    saved: Callable[[LSTMState, Gates], Any],
) -> Callable[..., tuple[LSTMState, Any]]:
    """A function of a state and of steps, which returns the state after them and what it saved."""
    few = batch < (FEW_ALONE if saved is _hidden_alone else FEW)
    activations = choice.activations
    U, W = _kernels(choice, params)
    kernel = (W if few else jnp.concatenate([U, W])).T

    def forward_step(state: LSTMState, step_t: Any) -> tuple[LSTMState, Any]:
        (valid, carried), read_t = step_t
        entered = keep(carried, state)
        h_tm1 = gathered(entered.hidden, choice.mesh_axis, axis=0)
        if few:
            z = product(kernel, h_tm1) + read_t.T  # [F1]
        else:
            z = product(kernel, jnp.concatenate([read_t.T, h_tm1]))  # [F1]
        gates = gate_values(z + params.bias[:, None], activations, axis=0)  # [F2] [F3] [F4] [F5]
        state = keep(valid, next_state(gates, entered.cell, activations), state)  # [F6] [F7]
        return state, saved(state, gates)

    def run(state: LSTMState, steps: tuple[Masks, Array]) -> tuple[LSTMState, Any]:
        masks, inputs = steps
        if few:
            inputs = product_of_rows(inputs, U)  # [F1], the part without recursion
        return jax.lax.scan(forward_step, state, (masks, inputs))

    return run


def _kernels(choice: Choice, params: LSTMParams) -> list[Array]:
    """U and W as products take them."""
    return [kernel.astype(choice.precision or kernel.dtype) for kernel in params[:2]]


def _forward(
    choice: Choice,
    masks: Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[tuple[Float[Array, "T B H"], LSTMState], _Residuals]:
    state, steps, batch = _transposed(initial_state), (masks, inputs), inputs.shape[1]
    size = chunk_size(inputs.shape[0], inputs.shape[1], choice.residuals)
    if choice.residuals in ("gates", "states"):
        kept = _everything if choice.residuals == "gates" else _states
        final, saved = _forward_scan(choice, params, batch, kept)(state, steps)
        after = LSTMState(
            jnp.swapaxes(saved.hidden[size - 1 :: size], 1, 2), saved.cell[size - 1 :: size]
        )
        first = jax.tree.map(_after, state, after)
        hidden = saved.hidden
    else:
        run = _forward_scan(choice, params, batch, _hidden_alone)

        def forward_over_chunk(state: LSTMState, chunk: Any) -> tuple[LSTMState, Any]:
            final, (hidden, _, _) = run(state, chunk[1])
            return final, (hidden, jax.tree.map(lambda leaf: leaf[None], state))

        final, (hidden, first) = scan_over_chunks(forward_over_chunk, state, None, steps, size)
        saved = _Saved(hidden if choice.residuals == "outputs" else None, None, None)
    residuals = _Residuals(masks, params, inputs, saved, first)
    return (hidden, _transposed(final)), residuals


def _after(first: Array, rest: Array) -> Array:
    return jnp.concatenate([first[None], rest])


def _linearize(
    choice: Choice, params: LSTMParams, batch: int
) -> Callable[..., tuple[Float[Array, "K B H"], CellDerivatives]]:
    """A function of a chunk: the hidden state that enters every step, the diagonals [K, H, B]."""
    run = _forward_scan(choice, params, batch, _everything)
    kernel, activations = jnp.concatenate(_kernels(choice, params)), choice.activations

    def linearized(
        first: LSTMState, steps: tuple[Masks, Array, _Saved]
    ) -> tuple[Float[Array, "K B H"], CellDerivatives]:
        masks, inputs, (hidden, cell, gates) = steps
        if hidden is None:
            _, (hidden, cell, gates) = run(first, (masks, inputs))
        entered = keep(_rows(masks.carried), _after(first.hidden.T, hidden)[:-1])
        entered = gathered(entered, choice.mesh_axis, axis=2)
        if gates is None:
            entering = jnp.concatenate([inputs, entered], axis=-1)
            z = product_of_rows(entering, kernel) + params.bias  # [F1]
            gates = gate_values(jnp.swapaxes(z, 1, 2), activations, axis=1)  # [F2] to [F5]
        if cell is None:
            cell = _cells(masks.carried, first.cell, gates)
        c_tm1 = keep(masks.carried, _after(first.cell, cell)[:-1])
        return entered, cell_derivatives(gates, c_tm1, cell, choice.activations)  # [D1] to [D6]

    return linearized


def _rows(mask: Bool[Array, "T 1 B"] | None) -> Bool[Array, "T B"] | None:
    """A mask for arrays [T, B, ...]."""
    return None if mask is None else mask[:, 0]


def _cells(
    carried: Bool[Array, "K 1 B"] | None, first: Float[Array, "H B"], gates: Gates
) -> Float[Array, "K H B"]:
    """The cell state of every step, from the gates alone; what padding makes of it is not used."""

    def forward_step(cell: Array, step_t: Any) -> tuple[Array, Array]:
        carried_t, (i, f, g, _) = step_t
        cell = f * keep(carried_t, cell) + i * g  # [F6]
        return cell, cell

    return jax.lax.scan(forward_step, first, (carried, gates))[1]


def _push_forward(
    choice: Choice,
    residuals: _Residuals,
    tangents: tuple[LSTMParams, Float[Array, "T B D"], LSTMState],
) -> tuple[Float[Array, "T B H"], LSTMState]:
    """The tangents of the outputs and the final state, [T1] to [T3]."""
    masks, params, inputs, saved, firsts = residuals
    dot_params, dot_inputs, dot_initial_state = tangents
    linearized = _linearize(choice, params, inputs.shape[1])
    kernel, dot_kernel = (
        jnp.concatenate(_kernels(choice, each)).T for each in (params, dot_params)
    )

    def push_over_chunk(dot_state: LSTMState, chunk: Any) -> tuple[LSTMState, Array]:
        first, (dot_inputs, (masks, inputs, saved)) = chunk
        h_tm1, derivatives = linearized(first, (masks, inputs, saved))

        def tangent_step(dot_state: LSTMState, step_t: Any) -> tuple[LSTMState, Array]:
            dot_x_t, x_t, h_tm1, derivatives_t, (valid, carried) = step_t
            dot_entered = keep(carried, dot_state)
            dot_h_tm1 = gathered(dot_entered.hidden, choice.mesh_axis, axis=0)
            dot_z = (  # [T1]
                product(kernel, jnp.concatenate([dot_x_t.T, dot_h_tm1]))
                + product(dot_kernel, jnp.concatenate([x_t.T, h_tm1.T]))
                + dot_params.bias[:, None]
            )
            after = cell_jvp(derivatives_t, dot_z, dot_entered.cell, axis=0)  # [T2] [T3]
            dot_state = keep(valid, LSTMState(*after), dot_state)
            return dot_state, dot_state.hidden.T

        each = (dot_inputs, inputs, h_tm1, derivatives, masks)
        return jax.lax.scan(tangent_step, dot_state, each)

    steps = (dot_inputs, (masks, inputs, saved))
    size = chunk_size(inputs.shape[0], inputs.shape[1], choice.residuals)
    dot_state = _transposed(dot_initial_state)
    dot_final, dot_hidden = scan_over_chunks(push_over_chunk, dot_state, firsts, steps, size)
    return dot_hidden, _transposed(dot_final)


def _pull_back(
    choice: Choice,
    residuals: _Residuals,
    cotangents: tuple[Float[Array, "T B H"], LSTMState],
) -> tuple[LSTMParams, Float[Array, "T B D"], LSTMState]:
    """The cotangents of parameters, inputs and initial state, [B1] to [B8]."""
    masks, params, inputs, saved, firsts = residuals
    d_outputs, d_final = cotangents
    few, D = inputs.shape[1] < FEW, inputs.shape[2]
    linearized = _linearize(choice, params, inputs.shape[1])
    U, W = _kernels(choice, params)
    kernel = W if few else jnp.concatenate([U, W])

    def back_over_chunk(carry: Any, chunk: Any) -> tuple[Any, Array]:
        d_state, *d_sums = carry
        first, (d_outputs, (masks, inputs, saved)) = chunk
        h_tm1, derivatives = linearized(first, (masks, inputs, saved))

        def backward_step(d_state: LSTMState, step_t: Any) -> tuple[LSTMState, Any]:
            d_h_t, derivatives_t, (valid, carried) = step_t
            d_state = LSTMState(d_state.hidden + d_h_t, d_state.cell)
            d_z, d_c_tm1 = cell_vjp(derivatives_t, *d_state, axis=0)  # [B1] [B2] [B3]
            d_z = keep(valid, d_z)
            d_entering = product(kernel, d_z)  # [B4] [B8]
            d_x, d_h_tm1 = (None, d_entering) if few else (d_entering[:D].T, d_entering[D:])
            d_entered = LSTMState(own_sum(d_h_tm1, choice.mesh_axis), d_c_tm1)
            return keep(valid, keep(carried, d_entered), d_state), (d_z, d_x)

        each = (jnp.swapaxes(d_outputs, 1, 2), derivatives, masks)
        d_state, (d_z, d_x) = jax.lax.scan(backward_step, d_state, each, reverse=True)
        if few:
            d_x = product_of_columns(d_z, U)  # [B8]
        entering = jnp.concatenate([inputs, keep(_rows(masks.valid), h_tm1)], axis=-1)
        d_kernel = sum_of_columns(d_z, entering, kernel.dtype, d_sums[0])  # [B5] [B6]
        d_bias = d_z.astype(d_sums[1].dtype).sum((0, 2))  # [B7]
        return (d_state, d_sums[0] + d_kernel, d_sums[1] + d_bias), d_x

    zeros = jax.tree.map(_zeros_to_sum_in, (jnp.concatenate(params[:2]).T, params.bias))
    zeros, *_ = vary_together((zeros, params))
    steps = (d_outputs, (masks, inputs, saved))
    size = chunk_size(inputs.shape[0], inputs.shape[1], choice.residuals)
    (d_state, d_kernel, d_bias), d_inputs = scan_over_chunks(
        back_over_chunk, (_transposed(d_final), *zeros), firsts, steps, size, reverse=True
    )
    d_kernel = d_kernel.T
    d_params = LSTMParams(d_kernel[:D], d_kernel[D:], d_bias)
    d_params = jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), d_params, params)
    return d_params, d_inputs, _transposed(d_state)


def _zeros_to_sum_in(like: Array) -> Array:
    return jnp.zeros_like(like, dtype=at_least_float32(like.dtype))


lstm_by_hand = differentiated_by_hand(_values, _forward, _push_forward, _pull_back)
