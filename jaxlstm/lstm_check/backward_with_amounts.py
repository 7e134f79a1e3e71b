"""The LSTM's backward pass with amounts in it: all zero, it is right; others make it wrong.

The amounts are added to the weights of the right choices, and every line takes the weighted sum of
what it could take (choices.py). So one compiled function goes wrong in every way, and by degrees.
A trailing label names the equation that the amounts of its line change.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxlstm.lstm_check.choices import HIDDEN, Amounts, right_choices
from jaxlstm.lstm_check.signals import Masks, named, signals, where
from jaxlstm.types import GATES, Activations, LSTMParams

LARGEST_FLOAT16 = 65504.0

_mix = partial(jnp.tensordot, axes=1)
"""The weighted sum [*rows, ...] of choices [choice, ...], by weights [*rows, choice]."""


def gradient_with_amounts(
    activations: Activations, amounts: Amounts, args: Any, cotangents: Any
) -> list[Array]:
    """The gradient of the LSTM, wrong by the amounts.

    Args:
        activations: of the candidate and the cell.
        amounts: what is added to the weights of the right choices.
        args: params, inputs [T, B, D], initial state; and, if given and not None, lengths [B] and
            resets [T, B].
        cotangents: of the outputs [T, B, H] and of the final state.

    Returns:
        Of input kernel, recurrent kernel, bias, inputs, initial hidden and initial cell state.
    """
    params, inputs, initial_state, *masks = jax.tree.map(jnp.asarray, args)
    weights = jax.tree.map(
        lambda right, more: jnp.asarray(right, inputs.dtype) + jnp.asarray(more, inputs.dtype),
        right_choices(len(inputs)),
        amounts,
    )
    masks = _masks(inputs, *masks)
    inputs = where(masks.valid, inputs)
    known = signals(activations, params, inputs, initial_state, masks)
    kernels = _kernels(weights, params)
    d_z, d_x, d_initial = _through_time(weights, kernels, known, masks, cotangents)
    d_params = _sums_over_time(weights, known, inputs, d_z)
    return [*d_params, _d_inputs(weights, masks, d_x), *d_initial]


def _masks(inputs: Float[Array, "T B D"], lengths: Any = None, resets: Any = None) -> Masks:
    """The masks, all steps counting and carried where they are not given."""
    T, B, _ = inputs.shape
    lengths = jnp.full(B, T) if lengths is None else lengths.astype(int)
    carried = jnp.ones((T, B), bool) if resets is None else ~resets
    return Masks(jnp.arange(T)[:, None] < lengths, carried)


def _kernels(weights: Any, params: LSTMParams) -> Float[Array, "M 4 H"]:
    """W and, below it, U."""
    U, W = (kernel.reshape(len(kernel), len(GATES), -1) for kernel in params[:2])
    W = _with_transposes(weights.transposed[0], W)  # [B4]
    return jnp.concatenate([_with_gates(weights.gates[0], W), _with_gates(weights.gates[4], U)])


def _through_time(
    weights: Any,
    kernels: Float[Array, "M 4 H"],
    known: Float[Array, "T N B H"],
    masks: Masks,
    cotangents: Any,
) -> tuple[Float[Array, "T 4 B H"], Float[Array, "T B D"], Float[Array, "2 B H"]]:
    """d_z, d_x and the gradient of the initial state, from the last step to the first."""
    H = known.shape[-1]

    def backward_step(carry: Float[Array, "4 B H"], step_t: Any) -> tuple[Array, Any]:
        d_h, d_c = carry[:2]
        d_y, known, into_z, into, past, is_last = step_t
        factors = _mix(weights.values, known) * _mix(weights.slopes, known)  # [D1] to [D6]
        parts = jnp.concatenate([d_y[None], carry])
        through_h = _mix(weights.cotangents[0, :5], parts) * factors[0]  # [B1]
        whole = jnp.stack([d_h + d_y, d_c + through_h])  # [B1]
        parts = jnp.concatenate([parts, jnp.stack([through_h, whole[1] * factors[5]])])
        lines = _mix(weights.cotangents[1:], parts) * factors[1:]  # [B2] [B3]
        d_z = _lossy(weights.losses[0], lines[:4] * into_z)  # precision
        products = jnp.einsum("kbg,mkg->bm", d_z, kernels)  # [B4] [B8]
        d_h_tm1 = _lossy(weights.losses[1], products[:, :H])  # precision
        d_c_tm1 = _lossy(weights.losses[2], lines[4])  # precision
        d_before = into * jnp.stack([d_h_tm1, d_c_tm1]) + past * jnp.stack([whole[0], d_c])
        return jnp.concatenate([d_before + is_last * d_early, whole]), (d_z, products[:, H:])

    d_final = jnp.stack(cotangents[1])
    d_start, d_early = _mix(weights.final, d_final)  # final hidden, cell cotangent
    start = jnp.concatenate([d_start, jnp.zeros_like(d_start)])
    steps = (_d_outputs(weights, masks, cotangents[0]), known, *_step_masks(weights, masks))
    end, (d_z, d_x) = jax.lax.scan(backward_step, start, steps, reverse=True)
    return d_z, d_x, _mix(weights.initial, end)  # initial hidden, cell gradient


def _d_outputs(
    weights: Any, masks: Masks, d_outputs: Float[Array, "T B H"]
) -> Float[Array, "T B H"]:
    """What enters of the outputs' cotangent."""
    let_in = _mix(weights.lengths[0], _by_length(masks, d_outputs.dtype))  # lengths
    kept = let_in * weights.steps[0][:, None]  # outputs cotangent
    return kept[..., None] * _read_at(weights.d_outputs, d_outputs)  # outputs cotangent


def _d_inputs(weights: Any, masks: Masks, d_x: Float[Array, "T B D"]) -> Float[Array, "T B D"]:
    """What is returned for the inputs."""
    let_out = _mix(weights.lengths[4], _by_length(masks, d_x.dtype))  # lengths
    kept = let_out * weights.steps[4][:, None]  # [B8]
    return _lossy(weights.losses[4], kept[..., None] * _read_at(weights.d_inputs, d_x))  # [B8]


def _sums_over_time(
    weights: Any,
    known: Float[Array, "T N B H"],
    inputs: Float[Array, "T B D"],
    d_z: Float[Array, "T 4 B H"],
) -> list[Array]:
    """The gradients of input kernel, recurrent kernel and bias, as one product."""
    states = jnp.moveaxis(named(known, *HIDDEN), 1, 0)
    h, x = _mix(weights.hidden, states), _read_at(weights.inputs, inputs)  # [B5] [B6]
    factors = (h, x, jnp.ones_like(x[..., :1]))
    shares = weights.steps[1:4, :, None, None]  # [B5] [B6] [B7]
    rows = jnp.concatenate([s * factor for s, factor in zip(shares, factors, strict=True)], -1)
    sums = jnp.einsum("tbm,tkbg->mkg", rows, d_z)
    H, D = h.shape[-1], x.shape[-1]
    d_W, d_U, d_b = jnp.split(sums, [H, H + D])
    d_W = _with_transposes(weights.transposed[1], d_W)  # [B5]
    leaves = zip(weights.gates[1:4], (d_W, d_U, d_b), strict=True)
    sums = jnp.concatenate([_with_gates(gates, leaf) for gates, leaf in leaves])  # [B5] [B6] [B7]
    sums = _lossy(weights.losses[3], sums).reshape(H + D + 1, -1)  # precision
    return [sums[H:-1], sums[:H], sums[-1]]


def _with_gates(weights: Float[Array, "4 4"], blocks: Float[Array, "M 4 H"]) -> Array:
    """In each gate's place the weighted sum of all gates' blocks."""
    return jnp.einsum("kj,mjg->mkg", weights, blocks)


def _with_transposes(share: Float[Array, " 4"], blocks: Float[Array, "H 4 H"]) -> Array:
    """The blocks, by a share of each its transpose."""
    return blocks + share[:, None] * (blocks.T - blocks)


def _read_at(weights: Float[Array, " N"], sequence: Float[Array, "T B M"]) -> Array:
    """The weighted sum of the sequence at the steps of ``READ_AT``, zero beyond the ends."""
    T, t = len(sequence), np.arange(len(sequence))
    steps = [t, np.where(t > 0, t - 1, T), t + 1, (t - 1) % T, (t + 1) % T, T - 1 - t]
    return _mix(weights, jnp.take(sequence, np.stack(steps), axis=0, mode="fill", fill_value=0))


def _step_masks(weights: Any, masks: Masks) -> tuple[Array, ...]:
    """[T, ..., B, 1]: what enters d_z; the state's cotangent into a step and past it; the ends."""
    by_length, by_reset = (of(masks, weights.kept.dtype) for of in (_by_length, _by_reset))
    into_z, *through = _mix(weights.lengths[1:4], by_length)  # lengths
    through, kept = jnp.stack(through), weights.kept[..., None]  # truncation
    into = kept * through * _mix(weights.resets, by_reset)  # resets
    past = kept * (1 - through) * _mix(weights.padding, by_reset)  # resets
    is_last = jnp.diff(by_length[0], axis=0, append=0) < 0
    into, past = (jnp.moveaxis(mask, 0, 1)[..., None] for mask in (into, past))
    return into_z[..., None], into, past, is_last[..., None].astype(into.dtype)


def _by_length(masks: Masks, dtype: Any) -> Float[Array, "N T B"]:
    """The steps within the lengths, and what may be taken for them, as ``AXES`` has them."""
    T = len(masks.valid)
    lengths = masks.valid.sum(0) + np.array([0, T, -1, 1])[:, None]
    valid = jnp.arange(T)[:, None] < lengths[:, None]
    return jnp.concatenate([valid, (masks.valid & masks.carried)[None]]).astype(dtype)


def _by_reset(masks: Masks, dtype: Any) -> Float[Array, "N T B"]:
    """The steps without a reset, and what may be taken for them, as ``AXES`` has them."""
    T, t = len(masks.carried), np.arange(len(masks.carried))
    steps = np.stack([t, np.full(T, T), t + 1, np.where(t > 0, t - 1, T)])
    return jnp.take(masks.carried, steps, axis=0, mode="fill", fill_value=True).astype(dtype)


def _lossy(weights: Float[Array, " N"], array: Float[Array, "*M"]) -> Float[Array, "*M"]:
    """The array, by weights rounded through a dtype, clipped, or scaled down, as ``LOSSES``."""
    in_float16 = jnp.clip(array, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    forms = (
        array,
        jax.lax.reduce_precision(array, exponent_bits=8, mantissa_bits=23),
        jax.lax.reduce_precision(array, exponent_bits=8, mantissa_bits=7),
        jax.lax.reduce_precision(in_float16, exponent_bits=5, mantissa_bits=10),
        jnp.clip(array, -1, 1),
        jnp.clip(array, -5, 5),
        array / jnp.maximum(1, jnp.sqrt(jnp.sum(array**2))),
    )
    weighted = [weight * form for weight, form in zip(weights, forms, strict=True)]
    return sum(weighted, jnp.zeros_like(array))
