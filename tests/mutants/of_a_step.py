"""Common mistakes in the equations of one step, [B1] to [B4]."""

import numpy as np
from numpy import ndarray

from jaxlstm.types import GATES
from mutants.mutant import (
    changed,
    earlier,
    exchanged,
    later,
    mutant,
    of_changed,
    scaled,
    scaled_gate,
)
from mutants.template import BackwardPass, block, sigmoid

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

OF_A_STEP = (
    *D_C,
    *D_Z_INPUT,
    *D_Z_FORGET,
    *D_Z_CANDIDATE,
    *D_Z_OUTPUT,
    *D_Z_SWAPPED,
    *D_C_BEFORE,
    *D_H_BEFORE,
)
