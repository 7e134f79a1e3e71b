"""The five documents' misprints under ../shared/seeds, each put where it falls in a backward pass.

``jaxlstm sources`` shows them. Where a document differentiates forward in time, a wrong factor in
its direct term V_t is wrong in that parameter's gradient alone, and a wrong one in M_t or N_t in
what goes back. Left out, as nothing in a backward pass corresponds to them:

    000  (16), (20), (21) line 2, a missing plus: a product of two sensitivities.
    000  (33) line 1 and all claims of 000 and 003 on vanishing and exploding: bounds and norms.
    000  the slips that hold as they are meant, but (12), which can be taken at its word.
    001  (2), (4), (6), (8) element-wise: x_t and the gates differ in size. (9) is the readout's.
    002  I^t and Ihat^t side by side, dTheta^t as a matrix product: shapes that fit nowhere.
    002  NOTE 3; 004 the argmax and the maximum of f_t: no gradient of ours.
    003  the explicit part as the whole derivative: it drops the same gates as t_1. Its t_0 as the
         whole is 001's dL/dh_t, line 1.
    004  c_{t-1} as a function of h_{t-1} with o_{t-1} held: no path of a backward pass.
"""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from jaxlstm.types import GATES
from mutants.mutant import mutant, replaced, scaled_gate
from mutants.template import BackwardPass, block, keep

# 000: V_t and M_t of the sensitivities.


def with_V(equation: str, gate: str, V: Callable[[BackwardPass], ndarray]) -> Callable:
    """One of [B5] to [B7] with another d_z in the gate's columns."""
    right = getattr(BackwardPass, equation)
    return lambda p, d_z: right(p, replaced(d_z, gate, keep(p.valid, V(p))))


def output_without_tanh(p: BackwardPass) -> ndarray:
    return p.d_h * p.c * p.o * (1 - p.o)


def all_of_output_gate(p: BackwardPass, d_z: ndarray) -> ndarray:
    return BackwardPass.B6(p, np.tile(block(d_z, "output"), 4))


def output_path_in_reverse(p: BackwardPass, t: int, d_z: ndarray) -> ndarray:
    mirrored = p.d_h[t] * p.dh_dzo[-1 - t]
    return BackwardPass.B4(p, t, replaced(d_z, "output", mirrored))


OF_000 = (
    mutant(
        "000_12_line_1",
        "Every gate's d_U is the output gate's: 000 (12) prints o where it means g.",
        "B6",
        "B6 input",
        "B6 forget",
        "B6 candidate",
        B6=all_of_output_gate,
    ),
    mutant(
        "000_17",
        "In d_W alone, the output gate has c_t where tanh(c_t) belongs, as in 000 (17).",
        "B5 output",
        "B5",
        B5=with_V("B5", "output", output_without_tanh),
    ),
    mutant(
        "000_21",
        "The output gate's d_U has the forget gate's dh/dc dc/dz_f, as in 000 (21).",
        "B6 output",
        "B6",
        B6=with_V("B6", "output", lambda p: p.d_h * p.dh_dc * p.dc_dzf),
    ),
    mutant(
        "000_24_line_2",
        "The forget gate's d_b sums d_c without dc/dz_f, as in 000 (24).",
        "B7 forget",
        "B7",
        B7=with_V("B7", "forget", lambda p: p.d_c),
    ),
    mutant(
        "000_25",
        "In d_b alone, the output gate has c_t where tanh(c_t) belongs, as in 000 (25).",
        "B7 output",
        "B7",
        B7=with_V("B7", "output", output_without_tanh),
    ),
    mutant(
        "000_28",
        "d_c takes d_h without dh/dc, the factor that 000 (28) drops.",
        "B1",
        B1=lambda _p, _t, d_h, d_c: d_c + d_h,
    ),
    mutant(
        "000_32",
        "The path by the output gates takes their diagonals in reverse time, as 000 (32) orders.",
        "B4 output",
        "B4",
        B4=output_path_in_reverse,
    ),
)

# 001: dL/dh_t and dL/dc_t, and products read as matrices.


def last(p: BackwardPass, t: int, a: ndarray) -> ndarray:
    """``a`` for the sequences whose last step is t, else zeros."""
    return keep(p.lengths - 1 == t, a)


def own_cotangent(p: BackwardPass, t: int) -> ndarray:
    """g_t V: of h_t itself, without what comes back from step t + 1."""
    return p.d_outputs[t] + last(p, t, p.d_final.hidden)


def from_next_step(p: BackwardPass, t: int, gate: str) -> ndarray:
    """What comes back to h_t from the gate of step t + 1."""
    if t + 1 == len(p.inputs):
        return np.zeros_like(p.h[t])
    d_z, W = block(p.d_z[t + 1], gate), block(p.params.recurrent_kernel, gate)
    return keep(p.carried[t + 1], d_z @ W.T)


def of_own_loss(p: BackwardPass, t: int, _d_z: ndarray) -> ndarray:
    """[B4] with only the loss of step t to go back."""
    d_h = own_cotangent(p, t)
    d_c = d_h * p.dh_dc[t] + last(p, t, p.d_final.cell)
    return BackwardPass.B4(p, t, p.B2(t, d_h, d_c))


def dot(a: ndarray, b: ndarray) -> ndarray:
    """A row times a column: a number for each sequence."""
    return (a * b).sum(-1, keepdims=True)


def number_at_every_entry(p: BackwardPass, d_z: ndarray) -> ndarray:
    """[B5] with the number h_{t-1} d_z of each gate over all its block."""
    numbers = [dot(p.h_tm1, block(d_z, gate)).sum() for gate in GATES]
    return np.zeros_like(p.params.recurrent_kernel) + np.repeat(numbers, p.h.shape[-1]).astype(
        d_z.dtype
    )


def same_in_every_row(p: BackwardPass, d_z: ndarray) -> ndarray:
    """[B5] with the element-wise product of h_{t-1} and each gate's d_z in every row."""
    row = (np.tile(p.h_tm1, 4) * d_z).sum((0, 1))
    return np.broadcast_to(row, p.params.recurrent_kernel.shape)


READ_AS_MATRICES = "a row times a column, a number, as 001 prints it"

OF_001 = (
    mutant(
        "001_dL_dc_T_as_matrices",
        f"In d_c, d_h o is {READ_AS_MATRICES}.",
        "B1",
        B1=lambda p, t, d_h, d_c: d_c + dot(d_h, p.o[t]) * (1 - p.tanh_c[t] ** 2),
    ),
    mutant(
        "001_dL_dh_t_line_1_total",
        "d_h_{t-1} knows no loss after step t, as in 001's dL/dh_t, line 1, total derivatives.",
        "B4",
        "truncation",
        B4=of_own_loss,
    ),
    mutant(
        "001_dL_dh_t_line_1_partial",
        "Nothing comes back to h_{t-1} from the gates: 001's dL/dh_t, line 1, and 003's t_0.",
        "B4",
        "truncation",
        B4=lambda p, t, _d_z: np.zeros_like(p.h[t]),
    ),
    mutant(
        "001_dL_dc_t",
        "d_c takes the cotangent of h_t's own loss where the whole d_h belongs, as in 001.",
        "B1",
        B1=lambda p, t, _d_h, d_c: d_c + own_cotangent(p, t) * p.dh_dc[t],
    ),
    mutant(
        "001_dL_dc_t_line_1",
        "d_c_{t-1} knows no loss but that of step t, as in 001's dL/dc_t, line 1.",
        "B3",
        "truncation",
        B3=lambda p, t, _d_c: (
            (own_cotangent(p, t) * p.dh_dc[t] + last(p, t, p.d_final.cell)) * p.f[t]
        ),
    ),
    mutant(
        "001_dL_dc_t_line_2",
        "d_c leaves out of d_h what came back from the output gate, as 001's dL/dc_t, line 2.",
        "B1",
        B1=lambda p, t, d_h, d_c: d_c + (d_h - from_next_step(p, t, "output")) * p.dh_dc[t],
    ),
    mutant(
        "001_dL_di_t_as_matrices",
        f"In d_z_i, d_c g is {READ_AS_MATRICES}.",
        "B2 input",
        B2_input=lambda p, t, d_c: dot(d_c, p.g[t]) * p.i[t] * (1 - p.i[t]),
    ),
    mutant(
        "001_dL_df_t_as_matrices",
        f"In d_z_f, d_c c_{{t-1}} is {READ_AS_MATRICES}.",
        "B2 forget",
        B2_forget=lambda p, t, d_c: dot(d_c, p.c_tm1[t]) * p.f[t] * (1 - p.f[t]),
    ),
    mutant(
        "001_dL_de_t_as_matrices",
        f"In d_z_o, d_h tanh(c_t) is {READ_AS_MATRICES}.",
        "B2 output",
        B2_output=lambda p, t, d_h: dot(d_h, p.tanh_c[t]) * p.o[t] * (1 - p.o[t]),
    ),
    mutant(
        "001_dL_dc~_t_as_matrices",
        f"In d_z_g, d_c i is {READ_AS_MATRICES}.",
        "B2 candidate",
        B2_candidate=lambda p, t, d_c: dot(d_c, p.i[t]) * (1 - p.g[t] ** 2),
    ),
    mutant(
        "001_1_element_wise",
        "Each row of d_W's blocks is the element-wise h_{t-1} d_z: 001 (1), (3), (5), (7) on rows.",
        "B5",
        B5=same_in_every_row,
    ),
    mutant(
        "001_1_row_times_column",
        "d_W's blocks hold the number h_{t-1} d_z: 001 (1), (3), (5), (7), row times column.",
        "B5",
        B5=number_at_every_entry,
    ),
)

# 002: the hatted derivatives, and totals read for parts.


def sigmoid_prime_of_pre_activation(p: BackwardPass, gate: str) -> ndarray:
    """z (1 - z), where the gate's value belongs."""
    z = block(p.z, gate)
    return z * (1 - z)


OF_002 = (
    mutant(
        "002_dE_do_of_the_cost",
        "d_z_o starts from the cost's dE/dh^t alone, without what came back, as in 002's dE/do^t.",
        "B2 output",
        B2_output=lambda p, t, _d_h: own_cotangent(p, t) * p.dh_dzo[t],
    ),
    mutant(
        "002_dE_dc",
        "d_c forgets what came back from c_{t+1}, as 002's dE/dc^t read in total.",
        "B1",
        "B3",
        B1=lambda p, t, d_h, d_c: d_h * p.dh_dc[t] + last(p, t, d_c),
    ),
    mutant(
        "002_dc_twice",
        "d_c counts twice what came back from c_{t+1}: 002's accumulation of a total.",
        "B1",
        B1=lambda p, t, d_h, d_c: 2 * d_c - last(p, t, d_c) + d_h * p.dh_dc[t],
    ),
    mutant(
        "002_dE_dc_before",
        "d_c takes nothing from d_h before the last step: 002's dE/dc^{t-1} read in total.",
        "B1",
        B1=lambda p, t, d_h, d_c: d_c + last(p, t, d_h * p.dh_dc[t]),
    ),
    mutant(
        "002_dE_dahat",
        "tanh' is written 1 - tanh(z_g), without the square, as in 002's dE/dahat^t.",
        "B2 candidate",
        D3=lambda p: p.i * (1 - p.g),
    ),
    mutant(
        "002_dE_dihat",
        "The input gate's sigma' is z_g (1 - z_g) for i (1 - i), as in 002's dE/dihat^t.",
        "B2 input",
        D1=lambda p: p.g * sigmoid_prime_of_pre_activation(p, "candidate"),
    ),
    mutant(
        "002_dE_dfhat",
        "The forget gate's sigma' is z_f (1 - z_f) for f (1 - f), as in 002's dE/dfhat^t.",
        "B2 forget",
        D2=lambda p: p.c_tm1 * sigmoid_prime_of_pre_activation(p, "forget"),
    ),
    mutant(
        "002_dE_dohat",
        "The output gate's sigma' is z_o (1 - z_o) for o (1 - o), as in 002's dE/dohat^t.",
        "B2 output",
        D5=lambda p: p.tanh_c * sigmoid_prime_of_pre_activation(p, "output"),
    ),
    mutant(
        "002_NOTE_1",
        "d_c_{t-1} is d_c without f, as if c^{t+1} = c^t, 002's NOTE 1.",
        "B3",
        B3=lambda _p, _t, d_c: d_c,
    ),
    mutant(
        "002_W_a_not_updated",
        "The candidate's block of d_U is zero: 002 does not update its W_a.",
        "B6 candidate",
        "B6",
        B6=scaled_gate("B6", "candidate", 0),
    ),
    mutant(
        "002_U_a_not_updated",
        "The candidate's block of d_W is zero: 002 does not update its U_a.",
        "B5 candidate",
        "B5",
        B5=scaled_gate("B5", "candidate", 0),
    ),
)

# 003: the order of a product, and paths left out.


def path_in_reverse(p: BackwardPass, t: int, _d_z: ndarray) -> ndarray:
    """[B4] with the diagonals of the mirrored step."""
    return BackwardPass.B4(p, t, p.B2(len(p.inputs) - 1 - t, p.d_h[t], p.d_c[t]))


def without_gates(*gates: str) -> Callable[[BackwardPass, int, ndarray], ndarray]:
    """[B4] without the gates' terms."""

    def d_h_tm1(p: BackwardPass, t: int, d_z: ndarray) -> ndarray:
        for gate in gates:
            d_z = replaced(d_z, gate, 0)
        return BackwardPass.B4(p, t, d_z)

    return d_h_tm1


OF_003 = (
    mutant(
        "003_RNN_product",
        "d_h_{t-1} takes the diagonals in reverse time: 003's product with the earliest first.",
        "B4",
        B4=path_in_reverse,
    ),
    mutant(
        "003_explicit",
        "d_h_{t-1} lacks the input and forget gates' terms: 003's D(f_t), s~_t alone constant.",
        "B4 input",
        "B4 forget",
        "B4",
        B4=without_gates("input", "forget"),
    ),
    mutant(
        "003_t_1",
        "d_h_{t-1} has the output gate's term alone, as in 003's t_1 read as the whole.",
        "B4",
        "B4 input",
        "B4 forget",
        "B4 candidate",
        B4=without_gates("input", "forget", "candidate"),
    ),
)

# 004: vectors before a derivative read on its columns.


def with_columns_scaled(*scaled: tuple[str, Callable, Callable]) -> Callable:
    """[B4] with a factor moved from the rows of the gates' derivatives to their columns.

    For each gate: what remains of d_z, and the factor that comes after W'.
    """

    def d_h_tm1(p: BackwardPass, t: int, d_z: ndarray) -> ndarray:
        total = 0
        for gate, remaining, factor in scaled:
            W = block(p.params.recurrent_kernel, gate)
            total = total + (remaining(p, t) @ W.T) * factor(p, t)
            d_z = replaced(d_z, gate, 0)
        return total + BackwardPass.B4(p, t, d_z)

    return d_h_tm1


OF_004 = (
    mutant(
        "004_c_before",
        "d_c_{t-1} is zero: 004's dh_t/dx_{t-1} goes by h_{t-1} alone.",
        "B3",
        "truncation",
        B3=lambda _p, _t, d_c: np.zeros_like(d_c),
    ),
    mutant(
        "004_dh_dh",
        "tanh(c_t) scales the columns of do_t/dh_{t-1}, a reading of 004's dh_t/dh_{t-1}.",
        "B4 output",
        "B4",
        B4=with_columns_scaled(
            (
                "output",
                lambda p, t: p.d_h[t] * p.o[t] * (1 - p.o[t]),
                lambda p, t: p.tanh_c[t],
            )
        ),
    ),
    mutant(
        "004_dtanh_c_dh",
        "c_{t-1}, u_t and i_t scale the columns of the gates' derivatives, a reading of 004.",
        "B4",
        "B4 input",
        "B4 forget",
        "B4 candidate",
        B4=with_columns_scaled(
            ("input", lambda p, t: p.d_c[t] * p.i[t] * (1 - p.i[t]), lambda p, t: p.g[t]),
            ("forget", lambda p, t: p.d_c[t] * p.f[t] * (1 - p.f[t]), lambda p, t: p.c_tm1[t]),
            ("candidate", lambda p, t: p.d_c[t] * (1 - p.g[t] ** 2), lambda p, t: p.i[t]),
        ),
    ),
    mutant(
        "004_df_dh",
        "sigma' scales the columns of U_f where its rows belong, a reading of 004's df_t/dh_{t-1}.",
        "B4 forget",
        "B4",
        B4=with_columns_scaled(
            (
                "forget",
                lambda p, t: p.d_c[t] * p.c_tm1[t],
                lambda p, t: p.f[t] * (1 - p.f[t]),
            )
        ),
    ),
)

DOCUMENTS = (*OF_000, *OF_001, *OF_002, *OF_003, *OF_004)
