"""One step forward: the equations [F1] to [F7], and nothing else.

z_t  = x_t U + h_{t-1} W + b                                    [F1]
i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)              [F2] [F3] [F4]
g    = phi(z_g)                                                 [F5]
c_t  = f * c_{t-1} + i * g                                      [F6]
h_t  = o * psi(c_t)                                             [F7]

In the source documents (``jaxlstm sources`` shows them, with what is misprinted there):

    [F1]  000 (1), (2), (3), (4); 001 (forward i_t), (forward f_t), (forward e_t), (forward c~_t);
          002 (forward a^t), (forward i^t), (forward f^t), (forward o^t), (Ihat = Theta I);
          003 (o_t), (i_t), (f_t), (s~_t); 004 (o_t), (f_t), (i_t), (u_t)
    [F2]  000 (2); 001 (forward i_t), (i_t); 002 (forward i^t); 003 (i_t); 004 (i_t)
    [F3]  000 (3); 001 (forward f_t); 002 (forward f^t); 003 (f_t); 004 (f_t)
    [F4]  000 (1); 001 (forward e_t); 002 (forward o^t); 003 (o_t); 004 (o_t)
    [F5]  000 (4); 001 (forward c~_t); 002 (forward a^t); 003 (s~_t); 004 (u_t)
    [F6]  000 (5); 001 (forward c_t); 002 (forward c^t); 003 (s_t); 004 (tanh(c_t))
    [F7]  000 (6); 001 (forward h_t); 002 (forward h^t); 003 (h_t); 004 (h_t)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.placement import product_of_rows
from jaxlstm.types import Activations, LSTMParams, LSTMState

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda z: z,
}


class Gates(NamedTuple):
    """The activated gates of one step or of many, each [..., H]."""

    input: Float[Array, "*B H"]
    forget: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]
    output: Float[Array, "*B H"]


def gate_values(z: Float[Array, "..."], activations: Activations, axis: int = -1) -> Gates:
    """The gates from their pre-activations ``z`` [..., 4H]: [F2] to [F5].

    Args:
        z: with all gates along one axis.
        activations: phi.
        axis: which axis.
    """
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=axis)
    return Gates(
        input=jax.nn.sigmoid(z_i),  # [F2]
        forget=jax.nn.sigmoid(z_f),  # [F3]
        candidate=ACTIVATIONS[activations.candidate](z_g),  # [F5]
        output=jax.nn.sigmoid(z_o),  # [F4]
    )


def next_state(gates: Gates, c_tm1: Float[Array, "*B H"], activations: Activations) -> LSTMState:
    """The state that the gates make of the previous cell state: [F6] and [F7]."""
    i, f, g, o = gates
    c = f * c_tm1 + i * g  # [F6]
    h = o * ACTIVATIONS[activations.cell](c)  # [F7]
    return LSTMState(hidden=h, cell=c)


def cell_step(
    params: LSTMParams,
    state: LSTMState,
    x_t: Float[Array, "*B D"],
    activations: Activations,
    precision: str | None = None,
) -> LSTMState:
    """One whole step, [F1] to [F7], without checks."""
    U, W = (kernel.astype(precision or kernel.dtype) for kernel in params[:2])
    z = product_of_rows(x_t, U) + product_of_rows(state.hidden, W) + params.bias  # [F1]
    return next_state(gate_values(z, activations), state.cell, activations)
