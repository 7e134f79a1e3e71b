"""The loss curve beside ``torch.nn.LSTM``'s: the same model, data, optimizer and first weights."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from jaxlstm.tasks.text import split, stream_window, text_of
from jaxlstm.training import TrainConfig, init_train_state, train_step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")

CONFIG = TrainConfig(
    layers=2,
    hidden=12,
    embedding=5,
    batch=4,
    window=10,
    steps=100,
    learning_rate=5e-3,
    schedule="constant",
    warmup=0,
    clip=0.5,
    dtype="float64",
)


def curves(config, text):
    """The losses of every step, ours and torch's."""
    with jax.enable_x64(config.dtype == "float64"):
        state = init_train_state(config, len(text.vocabulary))
        theirs = Torch(config, state.params)
        losses = []
        for step in range(config.steps):
            window = window_of(config, text, step)
            state, measured = train_step(config, state, window)
            losses.append((float(measured.loss), theirs.step(window)))
    return np.array(losses).T


def window_of(config, text, step):
    sizes = {"time": config.window, "batch": config.batch, "seed": config.seed}
    return stream_window(split(text.points, config.held_out)[0], text.vocabulary, step, **sizes)


class Torch:
    """The model in torch, from the parameters of ours."""

    def __init__(self, config, params):
        def tensor(array):
            return torch.tensor(np.array(array, np.dtype(config.dtype)))

        self.clip, self.states = config.clip, None
        sizes = (config.embedding, config.hidden, config.layers)
        self.lstm = torch.nn.LSTM(*sizes, dtype=getattr(torch, config.dtype))
        for k, layer in enumerate(params.layers):
            values = {
                "weight_ih": tensor(layer.input_kernel.T),
                "weight_hh": tensor(layer.recurrent_kernel.T),
                "bias_ih": tensor(layer.bias),
                "bias_hh": torch.zeros_like(tensor(layer.bias)),
            }
            for name, value in values.items():
                getattr(self.lstm, f"{name}_l{k}").data = value
            getattr(self.lstm, f"bias_hh_l{k}").requires_grad_(False)  # one bias is enough
        rest = (params.embedding, params.readout.kernel, params.readout.bias)
        self.rest = [torch.nn.Parameter(tensor(leaf)) for leaf in rest]
        trained = [p for p in self.lstm.parameters() if p.requires_grad]
        self.trained = [*trained, *self.rest]
        self.optimizer = torch.optim.Adam(self.trained, config.learning_rate)

    def step(self, window):
        embedding, kernel, bias = self.rest
        characters, targets = (torch.tensor(a).long() for a in window[:2])
        outputs, states = self.lstm(embedding[characters], None if window.first else self.states)
        self.states = tuple(state.detach() for state in states)
        scores = outputs @ kernel + bias
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimizer.step()
        return loss.item()


def test_the_loss_curve_lies_on_torchs():
    rng = np.random.default_rng(0)
    words = rng.choice(["gate", "cell", "state", "trace", "sum"], 500)
    ours, theirs = curves(CONFIG, text_of(" ".join(words)))
    assert abs(ours - theirs).max() < 1e-4  # torch clips at norm + 1e-6, optax's rate is float32
    assert ours[-1] < 0.8 * ours[0]


def test_a_wrong_rate_leaves_the_curve():
    """The comparison can fail."""
    rng = np.random.default_rng(0)
    words = rng.choice(["gate", "cell", "state", "trace", "sum"], 500)
    text = text_of(" ".join(words))
    ours, _ = curves(dataclasses.replace(CONFIG, steps=30), text)
    _, theirs = curves(dataclasses.replace(CONFIG, steps=30, learning_rate=4.9e-3), text)
    assert abs(ours - theirs).max() > 1e-3
