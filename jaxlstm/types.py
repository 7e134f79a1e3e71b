"""The data that everything else passes around, and the one gate order.

Notation: time-major; ``T`` steps, ``B`` batch, ``D`` input features, ``H`` hidden units; row
vectors.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

GATES = ("input", "forget", "candidate", "output")
"""The order i, f, g, o in which the ``4H`` columns of every kernel and bias hold the gates."""


class LSTMParams(NamedTuple):
    """The parameters of one LSTM layer; a pytree.

    Attributes:
        input_kernel: ``U`` [D, 4H], from the input to the gates.
        recurrent_kernel: ``W`` [H, 4H], from the previous hidden state to the gates.
        bias: ``b`` [4H].
    """

    input_kernel: Float[Array, "D G"]
    recurrent_kernel: Float[Array, "H G"]
    bias: Float[Array, " G"]


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step; a pytree.

    Attributes:
        hidden: ``h`` [B, H] ([H] unbatched), the output.
        cell: ``c`` [B, H] ([H] unbatched).
    """

    hidden: Float[Array, "*B H"]
    cell: Float[Array, "*B H"]


class BidirectionalParams(NamedTuple):
    """The parameters of a layer that reads in both directions, of the same D and H; a pytree."""

    forward: LSTMParams
    backward: LSTMParams


class BidirectionalState(NamedTuple):
    """The state of each direction of such a layer; a pytree."""

    forward: LSTMState
    backward: LSTMState


class ReadoutParams(NamedTuple):
    """From hidden states to the logits of K classes; a pytree.

    Attributes:
        kernel: ``V`` [H, K].
        bias: ``a`` [K].
    """

    kernel: Float[Array, "H K"]
    bias: Float[Array, " K"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Activations:
    """The two activations that are not gates: each "tanh", "sigmoid" or "identity".

    Static and hashable, so that it passes through jit, vmap and checkpoint as it is.

    Attributes:
        candidate: ``phi``, of the candidate ``g`` [F5].
        cell: ``psi``, of the cell state on its way out [F7].
    """

    candidate: str = "tanh"
    cell: str = "tanh"


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """The dtype itself, float32 for half precisions: what sums and draws are made in."""
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
