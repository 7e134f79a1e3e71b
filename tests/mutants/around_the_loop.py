"""Common mistakes around the loop: cotangents, states, lengths, resets, precision."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from jaxlstm import LSTMState
from mutants.mutant import (
    bfloat16,
    changed,
    float16,
    later,
    mutant,
    only_steps,
    rounded,
    scaled,
)
from mutants.template import BackwardPass, keep, sum_of_outer_products


def cell_before(p: BackwardPass) -> ndarray:
    """c_{t-1} as it was before any reset."""
    return np.concatenate([p.initial_state.cell[None], p.c[:-1]])


def hidden_before(p: BackwardPass) -> ndarray:
    """h_{t-1} as it was before any reset."""
    return np.concatenate([p.initial_state.hidden[None], p.h[:-1]])


COTANGENTS = (
    mutant(
        "outputs_cotangent_ignored",
        "The outputs' cotangent is ignored.",
        "outputs cotangent",
        outputs_cotangent=lambda _p, d: np.zeros_like(d),
    ),
    mutant(
        "outputs_cotangent_of_last_step_only",
        "Of the outputs' cotangent only the last step's counts.",
        "outputs cotangent",
        outputs_cotangent=changed("outputs_cotangent", only_steps(np.s_[-1:])),
    ),
    mutant(
        "outputs_cotangent_of_next_step",
        "Step t takes the outputs' cotangent of step t + 1.",
        "outputs cotangent",
        outputs_cotangent=lambda p, d: keep(p.valid, later(d)),
    ),
    mutant(
        "outputs_cotangent_off_by_1_percent",
        "The outputs' cotangent is taken 1% too large.",
        "outputs cotangent",
        outputs_cotangent=scaled("outputs_cotangent", 1.01),
    ),
    mutant(
        "final_hidden_cotangent_ignored",
        "The final hidden state's cotangent is ignored.",
        "final hidden cotangent",
        final_cotangents=lambda _p, d: LSTMState(np.zeros_like(d.hidden), d.cell),
    ),
    mutant(
        "final_hidden_cotangent_doubled",
        "The final hidden state's cotangent counts twice.",
        "final hidden cotangent",
        final_cotangents=lambda _p, d: LSTMState(2 * d.hidden, d.cell),
    ),
    mutant(
        "final_cell_cotangent_ignored",
        "The final cell state's cotangent is ignored.",
        "final cell cotangent",
        final_cotangents=lambda _p, d: LSTMState(d.hidden, np.zeros_like(d.cell)),
    ),
    mutant(
        "final_cell_cotangent_wrong_sign",
        "The final cell state's cotangent is taken with the wrong sign.",
        "final cell cotangent",
        final_cotangents=lambda _p, d: LSTMState(d.hidden, -d.cell),
    ),
    mutant(
        "final_cotangents_swapped",
        "The final states' cotangents are exchanged, as if the state were (cell, hidden).",
        "final hidden cotangent",
        "final cell cotangent",
        final_cotangents=lambda _p, d: LSTMState(d.cell, d.hidden),
    ),
)

INITIAL_STATE = (
    mutant(
        "initial_hidden_gradient_missing",
        "The initial hidden state gets no gradient.",
        "initial hidden gradient",
        initial_gradients=lambda _p, d: LSTMState(np.zeros_like(d.hidden), d.cell),
    ),
    mutant(
        "initial_cell_gradient_missing",
        "The initial cell state gets no gradient.",
        "initial cell gradient",
        initial_gradients=lambda _p, d: LSTMState(d.hidden, np.zeros_like(d.cell)),
    ),
    mutant(
        "initial_gradients_swapped",
        "The initial states' gradients are exchanged.",
        "initial hidden gradient",
        "initial cell gradient",
        initial_gradients=lambda _p, d: LSTMState(d.cell, d.hidden),
    ),
    mutant(
        "initial_hidden_gradient_of_the_batch",
        "Every sequence's initial hidden state gets the batch's mean gradient.",
        "initial hidden gradient",
        initial_gradients=lambda _p, d: LSTMState(
            np.broadcast_to(d.hidden.mean(0), d.hidden.shape), d.cell
        ),
    ),
)


def detached(where: Callable[[BackwardPass, int], bool], *, cell: bool = True) -> Callable:
    """No cotangent goes back from the steps where this holds: to the cell neither, if said."""

    def d_entered(p: BackwardPass, t: int, d_z: ndarray, d_c: ndarray) -> LSTMState:
        d_hidden, d_cell = BackwardPass.d_entered(p, t, d_z, d_c)
        cut = where(p, t)
        return LSTMState(d_hidden * (not cut), d_cell * (not (cut and cell)))

    return d_entered


TRUNCATION = (
    mutant(
        "truncated_in_the_middle",
        "No cotangent goes back from the middle step.",
        "truncation",
        d_entered=detached(lambda p, t: t == len(p.inputs) // 2),
    ),
    mutant(
        "truncated_every_third_step",
        "No cotangent goes back from any third step.",
        "truncation",
        d_entered=detached(lambda _p, t: t % 3 == 0),
    ),
    mutant(
        "truncated_to_last_four_steps",
        "No cotangent goes back beyond the last four steps.",
        "truncation",
        d_entered=detached(lambda p, t: t == len(p.inputs) - 4),
    ),
    mutant(
        "truncated_to_one_step",
        "No cotangent goes back from any step.",
        "truncation",
        d_entered=detached(lambda _p, _t: True),
    ),
    mutant(
        "hidden_state_truncated_every_other_step",
        "From every other step the cell's cotangent goes back but the hidden state's does not.",
        "truncation",
        "B4",
        d_entered=detached(lambda _p, t: t % 2 == 0, cell=False),
    ),
)

LENGTHS = (
    mutant(
        "padding_in_weight_gradients",
        "d_z is not zeroed at padded steps, so that padding counts in the weights' gradients.",
        "lengths",
        mask_d_z=lambda _p, _t, d_z: d_z,
    ),
    mutant(
        "lengths_ignored",
        "The backward pass runs through the padding as if it were sequence.",
        "lengths",
        counts=lambda p, t: np.full_like(p.valid[t], True),
    ),
    mutant(
        "lengths_one_short",
        "The backward pass takes every length for one less.",
        "lengths",
        counts=lambda p, t: t < p.lengths - 1,
    ),
    mutant(
        "lengths_one_long",
        "The backward pass takes every length for one more.",
        "lengths",
        counts=lambda p, t: t < p.lengths + 1,
    ),
    mutant(
        "padded_outputs_cotangent_counts",
        "The cotangent of the padding's outputs, which are zeros, is added to d_h.",
        "lengths",
        "outputs cotangent",
        outputs_cotangent=lambda _p, d: d,
    ),
)


def reset_of_hidden_only(p: BackwardPass, t: int, d_z: ndarray, d_c: ndarray) -> LSTMState:
    return LSTMState(keep(p.carried[t], p.B4(t, d_z)), p.B3(t, d_c))


RESETS = (
    mutant(
        "resets_ignored",
        "Cotangents pass back through resets.",
        "resets",
        carries=lambda p, t: np.full_like(p.carried[t], True),
    ),
    mutant(
        "resets_one_early",
        "Cotangents stop at step t - 1 where step t was reset.",
        "resets",
        carries=lambda p, t: p.carried[min(t + 1, len(p.carried) - 1)],
    ),
    mutant(
        "resets_stop_hidden_only",
        "A reset stops the hidden state's cotangent but not the cell's.",
        "resets",
        d_entered=reset_of_hidden_only,
    ),
    mutant(
        "resets_of_any_sequence",
        "A reset of one sequence stops the cotangents of the whole batch.",
        "resets",
        carries=lambda p, t: np.full_like(p.carried[t], p.carried[t].all()),
    ),
    mutant(
        "resets_ignored_in_recurrent_kernel",
        "d_W takes h_{t-1} as it was before the reset.",
        "resets",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(hidden_before(p), d_z),
    ),
    mutant(
        "resets_ignored_in_forget_gate",
        "dc/dz_f takes c_{t-1} as it was before the reset.",
        "resets",
        "B2 forget",
        D2=lambda p: cell_before(p) * p.f * (1 - p.f),
    ),
)


def summed_in(dtype: type) -> Callable[[BackwardPass, ndarray], ndarray]:
    """[B7], its running sum over time rounded at each step."""

    def d_b(_p: BackwardPass, d_z: ndarray) -> ndarray:
        total = np.zeros_like(d_z[0, 0])
        for d_z_t in d_z:
            total = rounded(total + d_z_t.sum(0), dtype)
        return total

    return d_b


def recurrent_kernel_in_bfloat16(p: BackwardPass, d_z: ndarray) -> ndarray:
    """[B5], its running sum over time rounded at each step."""
    total = np.zeros_like(p.params.recurrent_kernel)
    for h_tm1, d_z_t in zip(p.h_tm1, d_z, strict=True):
        total = bfloat16(total + h_tm1.T @ d_z_t)
    return total


PRECISION = (
    mutant(
        "d_c_in_bfloat16",
        "d_c is rounded to bfloat16 at every step.",
        "precision",
        "B1",
        B1=changed("B1", bfloat16),
    ),
    mutant(
        "d_z_in_float16",
        "d_z is rounded to float16.",
        "precision",
        "B2 input",
        "B2 forget",
        "B2 candidate",
        "B2 output",
        B2=changed("B2", float16),
    ),
    mutant(
        "d_c_carried_in_float16",
        "d_c_{t-1} is handed on in float16.",
        "precision",
        "B3",
        B3=changed("B3", float16),
    ),
    mutant(
        "d_h_carried_in_bfloat16",
        "d_h_{t-1} is handed on in bfloat16.",
        "precision",
        "B4",
        B4=changed("B4", bfloat16),
    ),
    mutant(
        "recurrent_kernel_summed_in_bfloat16",
        "d_W is summed over time in bfloat16.",
        "precision",
        "B5",
        B5=recurrent_kernel_in_bfloat16,
    ),
    mutant(
        "input_kernel_from_bfloat16_inputs",
        "d_U takes x rounded to bfloat16.",
        "precision",
        "B6",
        B6=lambda p, d_z: sum_of_outer_products(bfloat16(p.inputs), d_z),
    ),
    mutant(
        "bias_summed_in_float16",
        "d_b is summed over time in float16.",
        "precision",
        "B7",
        B7=summed_in(np.float16),
    ),
    mutant(
        "inputs_gradient_in_bfloat16",
        "d_x is rounded to bfloat16.",
        "precision",
        "B8",
        B8=changed("B8", bfloat16),
    ),
    mutant(
        "forget_gate_slope_in_float16",
        "dc/dz_f is computed in float16.",
        "precision",
        "B2 forget",
        D2=changed("D2", float16),
    ),
    mutant(
        "d_c_carried_in_float32",
        "d_c_{t-1} is handed on in float32: an error in float64, none in float32.",
        "precision",
        "B3",
        B3=changed("B3", lambda d_c: rounded(d_c, np.float32)),
    ),
)

AROUND_THE_LOOP = (*COTANGENTS, *INITIAL_STATE, *TRUNCATION, *LENGTHS, *RESETS, *PRECISION)
