"""The LSTM's calculus, all of it: six diagonals and what is linear in them.

Only the pointwise map ``(z_t, c_{t-1}) -> (c_t, h_t)`` needs calculus; around it stand matrix
products and their transposes. Differentiating [F2] to [F7], one line for each diagonal:

    dc/dz_i     = g * i (1 - i)             [D1]
    dc/dz_f     = c_{t-1} * f (1 - f)       [D2]
    dc/dz_g     = i * phi'(z_g)             [D3]
    dc/dc_{t-1} = f                         [D4]
    dh/dz_o     = psi(c_t) * o (1 - o)      [D5]
    dh/dc       = o * psi'(c_t)             [D6]

In the source documents (``jaxlstm sources`` shows them, with what is misprinted there):

    [D1]  000 (7), (15), (19), (23); 001 (dL/di_t di_t/dh); 002 (dE/di^t), (dE/dihat^t)
    [D2]  000 (7), (16), (20), (24); 001 (dL/df_t df_t/dh); 002 (dE/df^t), (dE/dfhat^t);
          004 (df_t/dh_t-1)
    [D3]  000 (7), (14), (18), (22); 001 (dL/dc~_t dc~_t/dh); 002 (dE/da^t), (dE/dahat^t)
    [D4]  000 (7); 002 (dE/dc^{t-1}); 003 (explicit ds_t/ds_t-1)
    [D5]  000 (8), (17), (21), (25); 001 (dL/de_t de_t/dh); 002 (dE/do^t), (dE/dohat^t);
          003 (do_t/dh_t-1); 004 (dh_t/dh_t-1)
    [D6]  000 (8), (14), (15), (16), (18), (19), (20), (22), (23), (24); 002 (dE/dc^t);
          003 (dh_t/ds_t); 004 (dh_t/dh_t-1)
    [T2]  000 (7)
    [T3]  000 (8)

None of them holds a cotangent or a recursion, so they are computed for one step or for all steps at
once. Every derivative of an activation is written in the activation's own value:
tanh' = (1 + tanh)(1 - tanh), sigmoid' = sigmoid (1 - sigmoid), identity' = 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxlstm.cell import ACTIVATIONS, Gates
from jaxlstm.types import Activations

DERIVATIVES_BY_VALUE: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: (1 + y) * (1 - y),
    "sigmoid": lambda y: y * (1 - y),
    "identity": jnp.ones_like,
}


class CellDerivatives(NamedTuple):
    """The six diagonals, each [..., H]: ``dc_dzi`` is the diagonal of dc_t/dz_i, and so on."""

    dc_dzi: Float[Array, "*B H"]
    dc_dzf: Float[Array, "*B H"]
    dc_dzg: Float[Array, "*B H"]
    dc_dc_tm1: Float[Array, "*B H"]
    dh_dzo: Float[Array, "*B H"]
    dh_dc: Float[Array, "*B H"]


def cell_derivatives(
    gates: Gates, c_tm1: Float[Array, "*B H"], c: Float[Array, "*B H"], activations: Activations
) -> CellDerivatives:
    """The six diagonals [D1] to [D6] at the given gates, previous cell state and cell state.

    Args:
        gates: the activated gates, each [..., H].
        c_tm1: the cell state before the step, [..., H].
        c: the cell state after the step, [..., H].
        activations: phi and psi.
    """
    i, f, g, o = gates
    sigmoid_prime = DERIVATIVES_BY_VALUE["sigmoid"]
    phi_prime = DERIVATIVES_BY_VALUE[activations.candidate]
    psi_prime = DERIVATIVES_BY_VALUE[activations.cell]
    psi_c = ACTIVATIONS[activations.cell](c)
    return CellDerivatives(
        dc_dzi=g * sigmoid_prime(i),  # [D1]
        dc_dzf=c_tm1 * sigmoid_prime(f),  # [D2]
        dc_dzg=i * phi_prime(g),  # [D3]
        dc_dc_tm1=f,  # [D4]
        dh_dzo=psi_c * sigmoid_prime(o),  # [D5]
        dh_dc=o * psi_prime(psi_c),  # [D6]
    )


def cell_vjp(
    derivatives: CellDerivatives,
    d_h: Float[Array, "*B H"],
    d_c: Float[Array, "*B H"],
    axis: int = -1,
) -> tuple[Float[Array, "..."], Float[Array, "*B H"]]:
    """Pulls cotangents back through the pointwise map of one step.

        d_c       += d_h * dh/dc                                                        [B1]
        d_z        = [d_c * dc/dz_i, d_c * dc/dz_f, d_c * dc/dz_g, d_h * dh/dz_o]       [B2]
        d_c_{t-1}  = d_c * dc/dc_{t-1}                                                  [B3]

    Args:
        derivatives: the six diagonals of the step.
        d_h: cotangent of h_t, [..., H].
        d_c: cotangent of c_t from everything after the step but h_t, [..., H].
        axis: along which the gates of d_z lie.

    Returns:
        d_z [..., 4H] and d_c_{t-1} [..., H].
    """
    d_c = d_c + d_h * derivatives.dh_dc  # [B1]
    d_z = jnp.concatenate(  # [B2]
        [
            d_c * derivatives.dc_dzi,
            d_c * derivatives.dc_dzf,
            d_c * derivatives.dc_dzg,
            d_h * derivatives.dh_dzo,
        ],
        axis=axis,
    )
    return d_z, d_c * derivatives.dc_dc_tm1  # [B3]


def cell_jvp(
    derivatives: CellDerivatives,
    dot_z: Float[Array, "..."],
    dot_c_tm1: Float[Array, "*B H"],
    axis: int = -1,
) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
    """Pushes tangents forward through the pointwise map of one step: the adjoint of ``cell_vjp``.

        dot_c = dot_z_i * dc/dz_i + dot_z_f * dc/dz_f + dot_z_g * dc/dz_g
                + dot_c_{t-1} * dc/dc_{t-1}                                             [T2]
        dot_h = dot_z_o * dh/dz_o + dot_c * dh/dc                                       [T3]

    Args:
        derivatives: the six diagonals of the step.
        dot_z: tangent of the pre-activations, [..., 4H].
        dot_c_tm1: tangent of the cell state before the step, [..., H].
        axis: along which the gates of dot_z lie.

    Returns:
        dot_h and dot_c, each [..., H].
    """
    dot_z_i, dot_z_f, dot_z_g, dot_z_o = jnp.split(dot_z, 4, axis=axis)
    dot_c = (  # [T2]
        dot_z_i * derivatives.dc_dzi
        + dot_z_f * derivatives.dc_dzf
        + dot_z_g * derivatives.dc_dzg
        + dot_c_tm1 * derivatives.dc_dc_tm1
    )
    return dot_z_o * derivatives.dh_dzo + dot_c * derivatives.dh_dc, dot_c  # [T3]
