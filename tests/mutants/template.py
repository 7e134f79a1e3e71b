"""The LSTM's backward pass in NumPy, a method for each equation: a mutant overrides one."""

from typing import Any

import numpy as np
from numpy import ndarray

from jaxlstm import LSTMParams, LSTMState
from jaxlstm.types import GATES

Gradients = tuple[LSTMParams, ndarray, LSTMState]


def keep(mask: ndarray, a: ndarray, otherwise: Any = 0) -> ndarray:
    """``a`` where the mask holds, which lacks the last axis of ``a``."""
    return np.where(mask[..., None], a, otherwise)


def sigmoid(z: ndarray) -> ndarray:
    e = np.exp(-abs(z))
    return np.where(z < 0, e, 1) / (1 + e)


def block(a: ndarray, gate: str) -> ndarray:
    """The gate's columns of the 4H."""
    return np.split(a, 4, axis=-1)[GATES.index(gate)]


def sum_of_outer_products(rows: ndarray, d_z: ndarray) -> ndarray:
    """The sum over time and batch of rows' d_z."""
    return rows.reshape(-1, rows.shape[-1]).T @ d_z.reshape(-1, d_z.shape[-1])


class BackwardPass:
    """The right gradients, by [D1] to [D6] for all steps at once and [B1] to [B8].

    Over time, [T, B, ...]: ``z``, the gates ``i``, ``f``, ``g``, ``o``; ``h_tm1`` and ``c_tm1`` as
    they enter the step, zero after a reset; ``h``, ``c`` and ``tanh_c`` after it; and, as far as
    the loop has come, the cotangents ``d_h``, ``d_c`` after [B1] and ``d_z``.
    """

    def __init__(
        self,
        params: LSTMParams,
        inputs: ndarray,
        initial_state: LSTMState,
        lengths: ndarray,
        resets: ndarray,
    ) -> None:
        self.params, self.initial_state, self.lengths = params, initial_state, lengths
        self.valid, self.carried = np.arange(len(inputs))[:, None] < lengths, ~resets
        self.inputs = keep(self.valid, inputs)
        self.run_forward()

    # Forward, [F1] to [F7].

    def run_forward(self) -> None:
        h, c = self.initial_state
        steps = []
        for x, valid, carried in zip(self.inputs, self.valid, self.carried, strict=True):
            h_tm1, c_tm1 = keep(carried, h), keep(carried, c)
            z = x @ self.params.input_kernel + h_tm1 @ self.params.recurrent_kernel
            z = z + self.params.bias
            i, f, o = (sigmoid(block(z, gate)) for gate in ("input", "forget", "output"))
            g = np.tanh(block(z, "candidate"))
            c = keep(valid, f * c_tm1 + i * g, c)
            h = keep(valid, o * np.tanh(c), h)
            steps.append((z, i, f, g, o, h_tm1, c_tm1, h, c))
        self.z, self.i, self.f, self.g, self.o, self.h_tm1, self.c_tm1, self.h, self.c = map(
            np.stack, zip(*steps, strict=True)
        )
        self.tanh_c = np.tanh(self.c)

    # Backward.

    def __call__(self, d_outputs: ndarray, d_final: LSTMState) -> Gradients:
        self.dc_dzi, self.dc_dzf, self.dc_dzg = self.D1(), self.D2(), self.D3()
        self.dc_dc_tm1, self.dh_dzo, self.dh_dc = self.D4(), self.D5(), self.D6()
        self.d_z, self.d_h, self.d_c = (np.zeros_like(a) for a in (self.z, self.h, self.c))
        self.d_outputs, self.d_final = self.outputs_cotangent(d_outputs), d_final
        d_state = self.final_cotangents(d_final)
        for t in reversed(range(len(self.inputs))):
            d_state = self.step_back(t, d_state.hidden + self.d_outputs[t], d_state.cell)
        d_params = LSTMParams(self.B6(self.d_z), self.B5(self.d_z), self.B7(self.d_z))
        return d_params, self.B8(self.d_z), self.initial_gradients(d_state)

    def step_back(self, t: int, d_h: ndarray, d_c: ndarray) -> LSTMState:
        """From the cotangents of the state after step t to those of the state before it."""
        self.d_h[t], self.d_c[t] = d_h, self.B1(t, d_h, d_c)
        self.d_z[t] = self.mask_d_z(t, self.B2(t, self.d_h[t], self.d_c[t]))
        d_entered = self.d_entered(t, self.d_z[t], self.d_c[t])
        return self.through_padding(t, d_entered, LSTMState(d_h, d_c))

    # What comes in and what goes out.

    def outputs_cotangent(self, d_outputs: ndarray) -> ndarray:
        return keep(self.valid, d_outputs)

    def final_cotangents(self, d_final: LSTMState) -> LSTMState:
        return d_final

    def initial_gradients(self, d_state: LSTMState) -> LSTMState:
        return d_state

    # Lengths and resets.

    def counts(self, t: int) -> ndarray:
        """Which sequences step t belongs to."""
        return self.valid[t]

    def carries(self, t: int) -> ndarray:
        """Into which sequences' step t the state is carried, not reset."""
        return self.carried[t]

    def mask_d_z(self, t: int, d_z: ndarray) -> ndarray:
        return keep(self.counts(t), d_z)

    def through_padding(self, t: int, d_entered: LSTMState, d_after: LSTMState) -> LSTMState:
        """Past its length a sequence's state is left as it is, and so is its cotangent."""
        pairs = zip(d_entered, d_after, strict=True)
        return LSTMState(*(keep(self.counts(t), *pair) for pair in pairs))

    def d_entered(self, t: int, d_z: ndarray, d_c: ndarray) -> LSTMState:
        """The cotangents of the state before step t, none where a reset stands between."""
        d_state = self.B4(t, d_z), self.B3(t, d_c)
        return LSTMState(*(keep(self.carries(t), d) for d in d_state))

    # The six diagonals, of all steps at once.

    def D1(self) -> ndarray:
        """dc/dz_i = g * i (1 - i)."""
        return self.g * self.i * (1 - self.i)

    def D2(self) -> ndarray:
        """dc/dz_f = c_{t-1} * f (1 - f)."""
        return self.c_tm1 * self.f * (1 - self.f)

    def D3(self) -> ndarray:
        """dc/dz_g = i * (1 - g^2)."""
        return self.i * (1 - self.g**2)

    def D4(self) -> ndarray:
        """dc/dc_{t-1} = f."""
        return self.f

    def D5(self) -> ndarray:
        """dh/dz_o = tanh(c_t) * o (1 - o)."""
        return self.tanh_c * self.o * (1 - self.o)

    def D6(self) -> ndarray:
        """dh/dc = o * (1 - tanh(c_t)^2)."""
        return self.o * (1 - self.tanh_c**2)

    # The equations of step t.

    def B1(self, t: int, d_h: ndarray, d_c: ndarray) -> ndarray:
        """d_c += d_h * dh/dc."""
        return d_c + d_h * self.dh_dc[t]

    def B2(self, t: int, d_h: ndarray, d_c: ndarray) -> ndarray:
        """d_z, gate by gate."""
        of_cell = self.B2_input(t, d_c), self.B2_forget(t, d_c), self.B2_candidate(t, d_c)
        return np.concatenate([*of_cell, self.B2_output(t, d_h)], axis=-1)

    def B2_input(self, t: int, d_c: ndarray) -> ndarray:
        """d_z_i = d_c * dc/dz_i."""
        return d_c * self.dc_dzi[t]

    def B2_forget(self, t: int, d_c: ndarray) -> ndarray:
        """d_z_f = d_c * dc/dz_f."""
        return d_c * self.dc_dzf[t]

    def B2_candidate(self, t: int, d_c: ndarray) -> ndarray:
        """d_z_g = d_c * dc/dz_g."""
        return d_c * self.dc_dzg[t]

    def B2_output(self, t: int, d_h: ndarray) -> ndarray:
        """d_z_o = d_h * dh/dz_o."""
        return d_h * self.dh_dzo[t]

    def B3(self, t: int, d_c: ndarray) -> ndarray:
        """d_c_{t-1} = d_c * dc/dc_{t-1}."""
        return d_c * self.dc_dc_tm1[t]

    def B4(self, _t: int, d_z: ndarray) -> ndarray:
        """d_h_{t-1} = d_z W'."""
        return d_z @ self.params.recurrent_kernel.T

    # The equations of all steps.

    def B5(self, d_z: ndarray) -> ndarray:
        """d_W = sum_t h_{t-1}' d_z."""
        return sum_of_outer_products(self.h_tm1, d_z)

    def B6(self, d_z: ndarray) -> ndarray:
        """d_U = sum_t x_t' d_z."""
        return sum_of_outer_products(self.inputs, d_z)

    def B7(self, d_z: ndarray) -> ndarray:
        """d_b = sum_t d_z."""
        return d_z.sum((0, 1))

    def B8(self, d_z: ndarray) -> ndarray:
        """d_x_t = d_z U'."""
        return d_z @ self.params.input_kernel.T
