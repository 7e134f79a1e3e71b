"""Common mistakes in the sums over steps and the inputs, [B5] to [B8]."""

import numpy as np
from numpy import ndarray

from mutants.mutant import (
    earlier,
    exchanged,
    later,
    mutant,
    of_changed,
    only_steps,
    replaced,
    scaled,
    scaled_gate,
)
from mutants.template import BackwardPass, block, sum_of_outer_products


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

OF_SUMS = (*D_RECURRENT_KERNEL, *D_INPUT_KERNEL, *D_BIAS, *D_INPUTS)
