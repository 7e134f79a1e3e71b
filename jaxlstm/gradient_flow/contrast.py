"""The same flow in a vanilla RNN, for contrast."""

from typing import NamedTuple

from jaxtyping import Array, ArrayLike, Float

from jaxlstm.gradient_flow.paths import norm
from jaxlstm.gradient_flow.spectra import Spectrum, rnn_spectrum
from jaxlstm.rnn import RNNParams, linearize_rnn, rnn_state_gradients


class RNNFlow(NamedTuple):
    """Of a loss on the last hidden state, by the states k = 0, ..., T; a pytree.

    Attributes:
        hidden: |dL/dh_k|, [T + 1, B] ([T + 1] unbatched).
        spectrum: of as many directions as asked for.
    """

    hidden: Float[Array, "*T"]
    spectrum: Spectrum


def rnn_flow(
    params: RNNParams,
    inputs: ArrayLike,
    initial_state: ArrayLike | None = None,
    *,
    d_h: ArrayLike,
    directions: int = 1,
) -> RNNFlow:
    """What becomes of the gradient in an RNN on its way back from its last hidden state.

    Args:
        params: of the RNN.
        inputs: [T, B, D] ([T, D] unbatched), T at least 1, of float32 or float64.
        initial_state: [B, H] ([H] unbatched); zeros if None.
        d_h: dL/dh of the last step, [B, H] ([H] unbatched).
        directions: as in ``rnn_spectrum``.

    Raises:
        ValueError, TypeError: as ``rnn``, ``rnn_state_gradients`` and ``rnn_spectrum`` do.
    """
    steps = linearize_rnn(params, inputs, initial_state)
    gradients = rnn_state_gradients(steps, d_h)
    return RNNFlow(norm(gradients), rnn_spectrum(steps, directions=directions))
