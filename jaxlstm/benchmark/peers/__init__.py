"""Implementations of the LSTM side by side, each imported where it is asked for."""

import importlib
from collections.abc import Callable, Iterable
from functools import partial

from jaxlstm.benchmark.peers.peer import Peer, jax_peer, own_layer
from jaxlstm.gradient_check.call import first_line
from jaxlstm.sequence import lstm, lstm_autodiff, step
from jaxlstm.validation import RESIDUALS

__all__ = ["JAX_PEERS", "LEANER", "LSTM", "ORACLE", "OURS", "PEERS", "find_peers"]

LSTM = "lstm"
"""What the others are compared with."""
ORACLE = "lstm_autodiff"
"""Autodiff of the plain scan; its step is ``lstm``'s own: their ratio is what noise makes of 1."""


def _theirs(module: str, *args: str) -> Callable[[str], Peer]:
    """The peer of an adapter in this folder."""

    def find(name: str) -> Peer:
        return importlib.import_module(f"{__name__}.{module}").peer(name, *args)

    return find


def _ours(residuals: str) -> Callable[[str], Peer]:
    """``lstm`` with another choice of what is saved."""
    leaner = partial(lstm, residuals=residuals)
    return lambda name: jax_peer(name, lambda _: own_layer(leaner, step))


LEANER = {f"lstm.{residuals}": _ours(residuals) for residuals in RESIDUALS[1:]}
"""Which have nothing of their own but their gradient."""
OURS: dict[str, Callable[[str], Peer]] = {
    LSTM: lambda name: jax_peer(name, lambda _: own_layer(lstm, step)),
    **LEANER,
}
JAX_PEERS: dict[str, Callable[[str], Peer]] = {
    ORACLE: lambda name: jax_peer(name, lambda _: own_layer(lstm_autodiff, step)),
    "flax.linen": _theirs("flax_linen", "OptimizedLSTMCell"),
    "flax.LSTMCell": _theirs("flax_linen", "LSTMCell"),
    "flax.nnx": _theirs("flax_nnx"),
    "equinox": _theirs("equinox_lstm"),
    "haiku": _theirs("haiku_lstm"),
    "keras": _theirs("keras_lstm"),
    "jax.cudnn": _theirs("cudnn"),
}
PEERS = OURS | JAX_PEERS | {"torch": _theirs("torch_lstm")}
"""By the name that is printed."""


def find_peers(names: Iterable[str]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Those that can be measured here, and why each of the others cannot."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = PEERS[name](name)
        except Exception as error:  # what a library raises that does not fit this JAX
            missing[name] = str(error) if isinstance(error, ImportError) else first_line(error)
    return found, missing
