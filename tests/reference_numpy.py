"""The LSTM as a plain NumPy loop in float64, written from the equations; knows no jaxlstm."""

import numpy as np

ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "identity": lambda z: z,
}


def lstm_numpy(params, inputs, initial_state, lengths=None, resets=None, phi="tanh", psi="tanh"):
    """Outputs [T, B, H] and the final (hidden, cell), one sequence after the other."""
    time, batch, _ = inputs.shape
    lengths = [time] * batch if lengths is None else lengths
    resets = np.zeros((time, batch), bool) if resets is None else resets
    hidden, cell = initial_state
    sequences = [
        lstm_numpy_unbatched(
            params, inputs[:, b], (hidden[b], cell[b]), lengths[b], resets[:, b], phi, psi
        )
        for b in range(batch)
    ]
    outputs = np.stack([outputs for outputs, _ in sequences], axis=1)
    final_hidden = np.stack([final[0] for _, final in sequences])
    final_cell = np.stack([final[1] for _, final in sequences])
    return outputs, (final_hidden, final_cell)


def lstm_numpy_unbatched(
    params, inputs, initial_state, length=None, resets=None, phi="tanh", psi="tanh"
):
    """Outputs [T, H] and the final (hidden, cell) of one sequence."""
    h, c = (np.asarray(leaf, np.float64) for leaf in initial_state)
    outputs = np.zeros((len(inputs), len(h)))
    for t in range(len(inputs) if length is None else int(length)):
        if resets is not None and resets[t]:
            h, c = np.zeros_like(h), np.zeros_like(c)
        h, c = one_step(params, h, c, inputs[t], phi, psi)
        outputs[t] = h
    return outputs, (h, c)


def one_step(params, h, c, x, phi="tanh", psi="tanh"):
    """The hidden and cell state after one step from h, c [H] with the input x [D]."""
    U, W, b = (np.asarray(leaf, np.float64) for leaf in params)
    x, H, sigmoid = np.asarray(x, np.float64), len(h), ACTIVATIONS["sigmoid"]
    z_i, z_f, z_g, z_o = (
        x @ U[:, k * H : (k + 1) * H] + h @ W[:, k * H : (k + 1) * H] + b[k * H : (k + 1) * H]
        for k in range(4)
    )
    c = sigmoid(z_f) * c + sigmoid(z_i) * ACTIVATIONS[phi](z_g)
    return sigmoid(z_o) * ACTIVATIONS[psi](c), c
