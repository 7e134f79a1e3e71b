"""The common mistakes, equation by equation."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from jaxlstm import LSTMState
from jaxlstm.types import GATES
from mutants.mutant import (
    bfloat16,
    changed,
    earlier,
    exchanged,
    float16,
    later,
    mutant,
    of_changed,
    replaced,
    rounded,
    scaled,
    scaled_gate,
)
from mutants.template import BackwardPass, block, keep, sigmoid, sum_of_outer_products


def cell_before(p: BackwardPass) -> ndarray:
    """c_{t-1} as it was before any reset."""
    return np.concatenate([p.initial_state.cell[None], p.c[:-1]])


def hidden_before(p: BackwardPass) -> ndarray:
    """h_{t-1} as it was before any reset."""
    return np.concatenate([p.initial_state.hidden[None], p.h[:-1]])


def only_steps(steps: slice) -> Callable[[ndarray], ndarray]:
    """Of an array over time these steps, zeros for the others."""

    def kept(a: ndarray) -> ndarray:
        result = np.zeros_like(a)
        result[steps] = a[steps]
        return result

    return kept


D_C = (
    mutant(
        "b1_output_gate_forgotten",
        "dh/dc lacks the factor o.",
        "B1",
        D6=lambda p: 1 - p.tanh_c**2,
    ),
    mutant(
        "b1_tanh_prime_forgotten", "dh/dc is o alone, without tanh'(c_t).", "B1", D6=lambda p: p.o
    ),
    mutant(
        "b1_tanh_prime_at_wrong_argument",
        "tanh'(c_t) is written 1 - c_t^2, in c_t where tanh(c_t) belongs.",
        "B1",
        D6=lambda p: p.o * (1 - p.c**2),
    ),
    mutant(
        "b1_tanh_prime_unsquared",
        "tanh'(c_t) is taken for tanh(c_t) (1 - tanh(c_t)), as a sigmoid's derivative.",
        "B1",
        D6=lambda p: p.o * p.tanh_c * (1 - p.tanh_c),
    ),
    mutant(
        "b1_slope_of_previous_cell",
        "tanh' is taken at c_{t-1} for c_t.",
        "B1",
        D6=lambda p: p.o * (1 - np.tanh(p.c_tm1) ** 2),
    ),
    mutant(
        "b1_forget_gate_for_output_gate",
        "dh/dc has f where o belongs.",
        "B1",
        D6=lambda p: p.f * (1 - p.tanh_c**2),
    ),
    mutant(
        "b1_output_gate_of_previous_step",
        "dh/dc has o_{t-1} where o_t belongs.",
        "B1",
        D6=lambda p: earlier(p.o) * (1 - p.tanh_c**2),
    ),
    mutant(
        "b1_wrong_sign",
        "d_h * dh/dc is subtracted from d_c.",
        "B1",
        B1=lambda p, t, d_h, d_c: d_c - d_h * p.dh_dc[t],
    ),
    mutant(
        "b1_hidden_path_dropped",
        "d_c takes nothing from d_h.",
        "B1",
        B1=lambda _p, _t, _d_h, d_c: d_c,
    ),
    mutant("b1_hidden_path_doubled", "d_c takes d_h * dh/dc twice.", "B1", D6=scaled("D6", 2)),
    mutant("b1_off_by_1_percent", "dh/dc is 1% too large.", "B1", D6=scaled("D6", 1.01)),
    mutant("b1_off_by_0.01_percent", "dh/dc is 0.01% too large.", "B1", D6=scaled("D6", 1.0001)),
)

D_Z_INPUT = (
    mutant(
        "b2_input_sigmoid_prime_forgotten",
        "dc/dz_i is g, without sigma'.",
        "B2 input",
        D1=lambda p: p.g,
    ),
    mutant(
        "b2_input_half_of_sigmoid_prime",
        "dc/dz_i lacks the factor 1 - i.",
        "B2 input",
        D1=lambda p: p.g * p.i,
    ),
    mutant(
        "b2_input_tanh_prime",
        "dc/dz_i has tanh' in the value, 1 - i^2, for sigma'.",
        "B2 input",
        D1=lambda p: p.g * (1 - p.i**2),
    ),
    mutant(
        "b2_input_wrong_factor",
        "dc/dz_i has c_{t-1}, the forget gate's factor, where g belongs.",
        "B2 input",
        D1=lambda p: p.c_tm1 * p.i * (1 - p.i),
    ),
    mutant(
        "b2_input_candidate_of_previous_step",
        "dc/dz_i has g_{t-1} where g_t belongs.",
        "B2 input",
        D1=lambda p: earlier(p.g) * p.i * (1 - p.i),
    ),
    mutant("b2_input_wrong_sign", "d_z_i has the wrong sign.", "B2 input", D1=scaled("D1", -1)),
    mutant("b2_input_off_by_1_percent", "d_z_i is 1% small.", "B2 input", D1=scaled("D1", 0.99)),
)

D_Z_FORGET = (
    mutant(
        "b2_forget_cell_of_this_step",
        "dc/dz_f has c_t where c_{t-1} belongs.",
        "B2 forget",
        D2=lambda p: p.c * p.f * (1 - p.f),
    ),
    mutant(
        "b2_forget_cell_two_steps_back",
        "dc/dz_f has c_{t-2} where c_{t-1} belongs.",
        "B2 forget",
        D2=lambda p: earlier(p.c_tm1) * p.f * (1 - p.f),
    ),
    mutant(
        "b2_forget_sigmoid_prime_forgotten",
        "dc/dz_f is c_{t-1}, without sigma'.",
        "B2 forget",
        D2=lambda p: p.c_tm1,
    ),
    mutant(
        "b2_forget_sigmoid_prime_of_next_step",
        "sigma' is taken at f_{t+1} for f_t.",
        "B2 forget",
        D2=lambda p: p.c_tm1 * later(p.f * (1 - p.f)),
    ),
    mutant(
        "b2_forget_sigmoid_prime_of_input_gate",
        "sigma' is i (1 - i) where f (1 - f) belongs.",
        "B2 forget",
        D2=lambda p: p.c_tm1 * p.i * (1 - p.i),
    ),
    mutant(
        "b2_forget_hidden_for_cell",
        "dc/dz_f has h_{t-1} where c_{t-1} belongs.",
        "B2 forget",
        D2=lambda p: p.h_tm1 * p.f * (1 - p.f),
    ),
    mutant(
        "b2_forget_from_d_h",
        "d_z_f starts from d_h where d_c belongs.",
        "B2 forget",
        B2_forget=lambda p, t, _d_c: p.d_h[t] * p.dc_dzf[t],
    ),
    mutant("b2_forget_doubled", "d_z_f is counted twice.", "B2 forget", D2=scaled("D2", 2)),
    mutant(
        "b2_forget_off_by_0.01_percent",
        "d_z_f is 0.01% too large.",
        "B2 forget",
        D2=scaled("D2", 1.0001),
    ),
)

D_Z_CANDIDATE = (
    mutant(
        "b2_candidate_sigmoid_prime",
        "dc/dz_g has g (1 - g), a sigmoid's derivative, where 1 - g^2 belongs.",
        "B2 candidate",
        D3=lambda p: p.i * p.g * (1 - p.g),
    ),
    mutant(
        "b2_candidate_tanh_prime_forgotten",
        "dc/dz_g is i, without tanh'.",
        "B2 candidate",
        D3=lambda p: p.i,
    ),
    mutant(
        "b2_candidate_plus_for_minus",
        "tanh' is written 1 + g^2.",
        "B2 candidate",
        D3=lambda p: p.i * (1 + p.g**2),
    ),
    mutant(
        "b2_candidate_forget_gate_for_input_gate",
        "dc/dz_g has f where i belongs.",
        "B2 candidate",
        D3=lambda p: p.f * (1 - p.g**2),
    ),
    mutant(
        "b2_candidate_input_gate_forgotten",
        "dc/dz_g lacks the factor i.",
        "B2 candidate",
        D3=lambda p: 1 - p.g**2,
    ),
    mutant(
        "b2_candidate_off_by_1_percent",
        "d_z_g is 1% too large.",
        "B2 candidate",
        D3=scaled("D3", 1.01),
    ),
)

D_Z_OUTPUT = (
    mutant(
        "b2_output_sigmoid_prime_forgotten",
        "dh/dz_o is tanh(c_t), without sigma'.",
        "B2 output",
        D5=lambda p: p.tanh_c,
    ),
    mutant(
        "b2_output_tanh_forgotten",
        "dh/dz_o has c_t where tanh(c_t) belongs.",
        "B2 output",
        D5=lambda p: p.c * p.o * (1 - p.o),
    ),
    mutant(
        "b2_output_previous_cell",
        "dh/dz_o has tanh(c_{t-1}) where tanh(c_t) belongs.",
        "B2 output",
        D5=lambda p: np.tanh(p.c_tm1) * p.o * (1 - p.o),
    ),
    mutant(
        "b2_output_from_d_c",
        "d_z_o starts from d_c where d_h belongs.",
        "B2 output",
        B2_output=lambda p, t, _d_h: p.d_c[t] * p.dh_dzo[t],
    ),
    mutant(
        "b2_output_gate_of_gate",
        "sigma' is taken at the activated o: sigma(o) (1 - sigma(o)).",
        "B2 output",
        D5=lambda p: p.tanh_c * sigmoid(p.o) * (1 - sigmoid(p.o)),
    ),
    mutant("b2_output_dropped", "d_z_o is zero.", "B2 output", D5=scaled("D5", 0)),
    mutant("b2_output_wrong_sign", "d_z_o has the wrong sign.", "B2 output", D5=scaled("D5", -1)),
    mutant(
        "b2_output_off_by_0.01_percent",
        "d_z_o is 0.01% too small.",
        "B2 output",
        D5=scaled("D5", 0.9999),
    ),
)

D_Z_SWAPPED = (
    mutant(
        "b2_input_and_forget_swapped",
        "d_z_i stands in the forget gate's columns and d_z_f in the input gate's.",
        "B2 input",
        "B2 forget",
        B2=changed("B2", exchanged("input", "forget")),
    ),
    mutant(
        "b2_candidate_and_output_swapped",
        "d_z_g stands in the output gate's columns and d_z_o in the candidate's.",
        "B2 candidate",
        "B2 output",
        B2=changed("B2", exchanged("candidate", "output")),
    ),
)

D_C_BEFORE = (
    mutant(
        "b3_forget_gate_of_next_step",
        "d_c_{t-1} takes f_{t+1} where f_t belongs.",
        "B3",
        D4=lambda p: later(p.f),
    ),
    mutant(
        "b3_forget_gate_of_previous_step",
        "d_c_{t-1} takes f_{t-1} where f_t belongs.",
        "B3",
        D4=lambda p: earlier(p.f),
    ),
    mutant("b3_input_gate", "d_c_{t-1} takes i where f belongs.", "B3", D4=lambda p: p.i),
    mutant("b3_one_minus_forget", "d_c_{t-1} takes 1 - f for f.", "B3", D4=lambda p: 1 - p.f),
    mutant(
        "b3_sigmoid_prime_too_many",
        "d_c_{t-1} takes f (1 - f) where f belongs.",
        "B3",
        D4=lambda p: p.f * (1 - p.f),
    ),
    mutant("b3_wrong_sign", "d_c_{t-1} has the wrong sign.", "B3", D4=scaled("D4", -1)),
    mutant("b3_off_by_1_percent", "d_c_{t-1} is 1% too small.", "B3", D4=scaled("D4", 0.99)),
    mutant("b3_off_by_0.01_percent", "d_c_{t-1} is 0.01% small.", "B3", D4=scaled("D4", 0.9999)),
)


def untransposed_blocks(p: BackwardPass, _t: int, d_z: ndarray) -> ndarray:
    W = p.params.recurrent_kernel
    return sum(block(d_z, gate) @ block(W, gate) for gate in GATES)


def of_next_step(p: BackwardPass, t: int, _d_z: ndarray) -> ndarray:
    """[B4] of d_z_{t+1}, still zero at the last step."""
    return BackwardPass.B4(p, t, p.d_z[min(t + 1, len(p.d_z) - 1)])


D_H_BEFORE = (
    mutant(
        "b4_untransposed",
        "Each gate's square block of W stands untransposed.",
        "B4",
        B4=untransposed_blocks,
    ),
    mutant(
        "b4_forget_dropped",
        "d_h_{t-1} lacks the forget gate's d_z_f W_f'.",
        "B4 forget",
        "B4",
        B4=scaled_gate("B4", "forget", 0),
    ),
    mutant(
        "b4_output_doubled",
        "d_h_{t-1} takes the output gate's d_z_o W_o' twice.",
        "B4 output",
        "B4",
        B4=scaled_gate("B4", "output", 2),
    ),
    mutant(
        "b4_input_wrong_sign",
        "d_h_{t-1} takes the input gate's d_z_i W_i' with the wrong sign.",
        "B4 input",
        "B4",
        B4=scaled_gate("B4", "input", -1),
    ),
    mutant(
        "b4_input_and_output_swapped",
        "d_z_i meets the output gate's block of W, d_z_o the input gate's.",
        "B4 input",
        "B4 output",
        "B4",
        B4=of_changed("B4", exchanged("input", "output")),
    ),
    mutant("b4_wrong_sign", "d_h_{t-1} has the wrong sign.", "B4", B4=scaled("B4", -1)),
    mutant("b4_of_next_step", "d_h_{t-1} is d_{z,t+1} W', a step stale.", "B4", B4=of_next_step),
    mutant("b4_off_by_1_percent", "d_h_{t-1} is 1% too small.", "B4", B4=scaled("B4", 0.99)),
    mutant(
        "b4_candidate_off_by_0.01_percent",
        "d_h_{t-1} takes the candidate's d_z_g W_g' 0.01% too large.",
        "B4 candidate",
        "B4",
        B4=scaled_gate("B4", "candidate", 1.0001),
    ),
)


def transposed_forget_block(p: BackwardPass, d_z: ndarray) -> ndarray:
    d_W = BackwardPass.B5(p, d_z)
    return replaced(d_W, "forget", block(d_W, "forget").T)


def first_state_forgotten(p: BackwardPass, d_z: ndarray) -> ndarray:
    return sum_of_outer_products(only_steps(np.s_[1:])(p.h_tm1), d_z)


D_RECURRENT_KERNEL = (
    mutant(
        "b5_hidden_of_this_step",
        "d_W sums h_t' d_z where h_{t-1}' d_z belongs.",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(p.h, d_z),
    ),
    mutant(
        "b5_hidden_two_steps_back",
        "d_W sums h_{t-2}' d_z where h_{t-1}' d_z belongs.",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(earlier(p.h_tm1), d_z),
    ),
    mutant(
        "b5_cell_for_hidden",
        "d_W sums c_{t-1}' d_z where h_{t-1}' d_z belongs.",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(p.c_tm1, d_z),
    ),
    mutant(
        "b5_initial_state_forgotten",
        "d_W takes zeros for the initial hidden state at the first step.",
        "B5",
        B5=first_state_forgotten,
    ),
    mutant(
        "b5_last_step_dropped",
        "d_W leaves out the last step.",
        "B5",
        B5=of_changed("B5", only_steps(np.s_[:-1])),
    ),
    mutant(
        "b5_forget_transposed",
        "The forget gate's square block of d_W is transposed.",
        "B5 forget",
        "B5",
        B5=transposed_forget_block,
    ),
    mutant(
        "b5_input_doubled",
        "The input gate's block of d_W is counted twice.",
        "B5 input",
        "B5",
        B5=scaled_gate("B5", "input", 2),
    ),
    mutant(
        "b5_output_wrong_sign",
        "The output gate's block of d_W has the wrong sign.",
        "B5 output",
        "B5",
        B5=scaled_gate("B5", "output", -1),
    ),
    mutant(
        "b5_first_sequence_only",
        "d_W sums over time but takes the batch's first sequence alone.",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(p.h_tm1[:, :1], d_z[:, :1]),
    ),
    mutant("b5_off_by_0.01_percent", "d_W is 0.01% too large.", "B5", B5=scaled("B5", 1.0001)),
)

D_INPUT_KERNEL = (
    mutant(
        "b6_input_of_previous_step",
        "d_U sums x_{t-1}' d_z where x_t' d_z belongs.",
        "B6",
        B6=lambda p, d_z: sum_of_outer_products(earlier(p.inputs), d_z),
    ),
    mutant(
        "b6_input_of_next_step",
        "d_U sums x_{t+1}' d_z where x_t' d_z belongs.",
        "B6",
        B6=lambda p, d_z: sum_of_outer_products(later(p.inputs), d_z),
    ),
    mutant(
        "b6_forget_dropped",
        "The forget gate's block of d_U is zero.",
        "B6 forget",
        "B6",
        B6=scaled_gate("B6", "forget", 0),
    ),
    mutant(
        "b6_input_and_candidate_swapped",
        "The input gate's and the candidate's blocks of d_U are exchanged.",
        "B6 input",
        "B6 candidate",
        "B6",
        B6=of_changed("B6", exchanged("input", "candidate")),
    ),
    mutant(
        "b6_mean_over_batch",
        "d_U is the batch's mean where its sum belongs.",
        "B6",
        B6=lambda p, d_z: BackwardPass.B6(p, d_z) / d_z.shape[1],
    ),
    mutant(
        "b6_candidate_off_by_1_percent",
        "The candidate's block of d_U is 1% too large.",
        "B6 candidate",
        "B6",
        B6=scaled_gate("B6", "candidate", 1.01),
    ),
)

D_BIAS = (
    mutant(
        "b7_mean_over_time",
        "d_b is the mean over time where the sum belongs.",
        "B7",
        B7=lambda _p, d_z: d_z.sum(1).mean(0),
    ),
    mutant("b7_doubled", "d_b is counted twice, as of two biases.", "B7", B7=scaled("B7", 2)),
    mutant(
        "b7_first_step_only",
        "d_b is that of the first step, the loop's last.",
        "B7",
        B7=of_changed("B7", only_steps(np.s_[:1])),
    ),
    mutant(
        "b7_candidate_wrong_sign",
        "The candidate's block of d_b has the wrong sign.",
        "B7 candidate",
        "B7",
        B7=scaled_gate("B7", "candidate", -1),
    ),
    mutant(
        "b7_forget_off_by_1_percent",
        "The forget gate's block of d_b is 1% too large.",
        "B7 forget",
        "B7",
        B7=scaled_gate("B7", "forget", 1.01),
    ),
    mutant(
        "b7_input_off_by_0.01_percent",
        "The input gate's block of d_b is 0.01% too large.",
        "B7 input",
        "B7",
        B7=scaled_gate("B7", "input", 1.0001),
    ),
)

D_INPUTS = (
    mutant(
        "b8_output_dropped",
        "d_x lacks the output gate's d_z_o U_o'.",
        "B8 output",
        "B8",
        B8=scaled_gate("B8", "output", 0),
    ),
    mutant(
        "b8_forget_doubled",
        "d_x takes the forget gate's d_z_f U_f' twice.",
        "B8 forget",
        "B8",
        B8=scaled_gate("B8", "forget", 2),
    ),
    mutant(
        "b8_forget_and_candidate_swapped",
        "d_z_f meets the candidate's block of U, d_z_g the forget gate's.",
        "B8 forget",
        "B8 candidate",
        "B8",
        B8=of_changed("B8", exchanged("forget", "candidate")),
    ),
    mutant(
        "b8_of_next_step",
        "d_x_t is d_{z,t+1} U', off by one step.",
        "B8",
        B8=of_changed("B8", later),
    ),
    mutant("b8_off_by_1_percent", "d_x is 1% too large.", "B8", B8=scaled("B8", 1.01)),
    mutant(
        "b8_input_off_by_0.01_percent",
        "d_x takes the input gate's d_z_i U_i' 0.01% too large.",
        "B8 input",
        "B8",
        B8=scaled_gate("B8", "input", 1.0001),
    ),
)

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

COMMON = (
    *D_C,
    *D_Z_INPUT,
    *D_Z_FORGET,
    *D_Z_CANDIDATE,
    *D_Z_OUTPUT,
    *D_Z_SWAPPED,
    *D_C_BEFORE,
    *D_H_BEFORE,
    *D_RECURRENT_KERNEL,
    *D_INPUT_KERNEL,
    *D_BIAS,
    *D_INPUTS,
    *COTANGENTS,
    *INITIAL_STATE,
    *TRUNCATION,
    *LENGTHS,
    *RESETS,
    *PRECISION,
)
