"""Mistakes held apart: whoever writes the checker has not seen them."""

import numpy as np
from numpy import ndarray

from jaxlstm import LSTMState
from mutants.mutant import bfloat16, changed, exchanged, mutant, of_changed, scaled_gate
from mutants.template import BackwardPass, keep, sum_of_outer_products


def of_stale_d_c(p: BackwardPass, t: int, d_c: ndarray) -> ndarray:
    return (d_c - p.d_h[t] * p.dh_dc[t]) * p.dc_dc_tm1[t]


def stops_before_first_step(p: BackwardPass, t: int, d_h: ndarray, d_c: ndarray) -> LSTMState:
    return BackwardPass.step_back(p, t, d_h, d_c) if t else LSTMState(d_h, d_c)


def reset_after_step(p: BackwardPass, t: int, d_h: ndarray, d_c: ndarray) -> LSTMState:
    carried = p.carried[t] | ~p.valid[t]
    d_h, d_c = keep(carried, d_h, p.d_outputs[t]), keep(carried, d_c)
    return BackwardPass.step_back(p, t, d_h, d_c)


def flattened_both_ways(p: BackwardPass, d_z: ndarray) -> ndarray:
    return sum_of_outer_products(p.inputs, d_z.swapaxes(0, 1))


def reshaped_for_transposed(p: BackwardPass, _t: int, d_z: ndarray) -> ndarray:
    return d_z @ p.params.recurrent_kernel.reshape(d_z.shape[-1], -1)


def last_step_zeroed(d_outputs: ndarray) -> ndarray:
    return np.concatenate([d_outputs[:-1], np.zeros_like(d_outputs[-1:])])


HELD_APART = (
    mutant(
        "tanh_prime_from_hidden",
        "tanh'(c_t) is taken from the cached output, 1 - h_t^2, as in a plain RNN.",
        "B1",
        D6=lambda p: p.o * (1 - p.h**2),
    ),
    mutant(
        "coupled_forget_gate",
        "dc/dz_f is that of a coupled gate, i = 1 - f: c_{t-1} - g stands for c_{t-1}.",
        "B2 forget",
        D2=lambda p: (p.c_tm1 - p.g) * p.f * (1 - p.f),
    ),
    mutant(
        "candidate_activated_twice",
        "tanh' is taken at the activated g: 1 - tanh(g)^2.",
        "B2 candidate",
        D3=lambda p: p.i * (1 - np.tanh(p.g) ** 2),
    ),
    mutant(
        "d_h_overwritten",
        "d_z_o starts from d_h * dh/dc, which has overwritten d_h in place.",
        "B2 output",
        B2_output=lambda p, t, d_h: d_h * p.dh_dc[t] * p.dh_dzo[t],
    ),
    mutant(
        "stale_d_c",
        "d_c_{t-1} takes d_c as it was before d_h * dh/dc was added.",
        "B3",
        B3=of_stale_d_c,
    ),
    mutant(
        "reshaped_for_transposed",
        "d_h_{t-1} takes W reshaped to [4H, H] for W transposed.",
        "B4",
        B4=reshaped_for_transposed,
    ),
    mutant(
        "clipped_d_h",
        "d_h_{t-1} is clipped to [-0.25, 0.25] at every step.",
        "B4",
        B4=changed("B4", lambda d_h: np.clip(d_h, -0.25, 0.25)),
    ),
    mutant(
        "candidate_stop_gradient",
        "The candidate takes h_{t-1} under a stop_gradient: d_h_{t-1} lacks d_z_g W_g'.",
        "B4 candidate",
        "B4",
        B4=scaled_gate("B4", "candidate", 0),
    ),
    mutant(
        "recurrent_kernel_overwritten",
        "d_W is overwritten at every step, = for +=, so that only the first step's is left.",
        "B5",
        B5=lambda p, d_z: sum_of_outer_products(p.h_tm1[:1], d_z[:1]),
    ),
    mutant(
        "input_kernel_flattened_both_ways",
        "d_U pairs x flattened time by batch with d_z flattened batch by time.",
        "B6",
        B6=flattened_both_ways,
    ),
    mutant(
        "bias_gates_in_other_order",
        "d_b has the gates in the order i, f, o, g.",
        "B7 candidate",
        "B7 output",
        "B7",
        B7=of_changed("B7", exchanged("candidate", "output")),
    ),
    mutant(
        "bias_mean_over_batch",
        "d_b is the batch's mean where its sum belongs.",
        "B7",
        B7=lambda _p, d_z: d_z.mean(1).sum(0),
    ),
    mutant(
        "inputs_gradient_in_loop_order",
        "d_x is collected in the order of the backward loop, the last step first.",
        "B8",
        B8=of_changed("B8", lambda d_z: d_z[::-1]),
    ),
    mutant(
        "last_output_overwritten",
        "The loop starts from the final hidden state's cotangent instead of adding it to d_h_T.",
        "outputs cotangent",
        outputs_cotangent=changed("outputs_cotangent", last_step_zeroed),
    ),
    mutant(
        "initial_cell_before_forget_gate",
        "The initial cell state gets d_c of the first step, before it passes the forget gate.",
        "initial cell gradient",
        initial_gradients=lambda p, d: LSTMState(d.hidden, p.d_c[0]),
    ),
    mutant(
        "loop_stops_before_first_step",
        "The backward loop ends before the first step: range(T - 1, 0, -1).",
        "truncation",
        step_back=stops_before_first_step,
    ),
    mutant(
        "final_cotangents_lost_in_padding",
        "The final states' cotangents are put at step T, where a shorter sequence is masked.",
        "lengths",
        "final hidden cotangent",
        "final cell cotangent",
        final_cotangents=lambda p, d: LSTMState(
            *(keep(p.lengths == len(p.inputs), leaf) for leaf in d)
        ),
    ),
    mutant(
        "resets_after_the_step",
        "A reset at t stops the cotangents of the state after step t for those before it.",
        "resets",
        carries=lambda p, t: np.full_like(p.carried[t], True),
        step_back=reset_after_step,
    ),
    mutant(
        "cell_cached_in_bfloat16",
        "dc/dz_f takes c_{t-1} from a cache in bfloat16.",
        "precision",
        "B2 forget",
        D2=lambda p: bfloat16(p.c_tm1) * p.f * (1 - p.f),
    ),
)
