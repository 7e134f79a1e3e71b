"""Both ways to a derivative by hand: with forward mode, and without it where JAX lacks a part."""

import subprocess
import sys
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from operator import itemgetter
from types import ModuleType
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from composing import SMALL, stack
from drawing import Problem, assert_close, draw
from jax.interpreters import ad, batching

from jaxlstm import LSTMState, ReadoutParams, both_modes, by_hand, linear, readout, sequence


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def loaded_again(module: ModuleType) -> ModuleType:
    """A second copy beside the first, without type checks: those would look in the first."""
    spec = spec_from_file_location(module.__name__, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def without_forward_mode() -> tuple[ModuleType, ModuleType]:
    with patch.dict(sys.modules, {"jaxlstm.linear": None}):
        fallback = loaded_again(both_modes)
    with patch.dict(sys.modules, {"jaxlstm.both_modes": fallback}):
        passes, ends = loaded_again(by_hand), loaded_again(readout)
    with patch.dict(sys.modules, {"jaxlstm.by_hand": passes}):
        return loaded_again(sequence), ends


def functions_of(sequence: ModuleType, readout: ModuleType, suffix: str = "") -> list[Any]:
    homes = {"lstm": sequence, "embed": readout, "logits": readout, "cross_entropy": readout}
    return [getattr(home, name + suffix) for name, home in homes.items()]


PATHS = {
    "both modes": functions_of(sequence, readout),
    "fallback": functions_of(*without_forward_mode()),
    "autodiff": functions_of(sequence, readout, "_autodiff"),
}


def window(path: str, problem: Problem, weights: Any, state: LSTMState, text: Any) -> Any:
    """The next state, and the curved loss of a window of the text."""
    f, embed, logits, cross_entropy = PATHS[path]
    (params, table, readout_params, _), (inputs, targets) = weights, text
    rows = embed(table, inputs)
    hidden, state = f(params, rows, state, lengths=problem.lengths, resets=problem.resets)
    return state, jnp.sin(cross_entropy(logits(readout_params, hidden), targets)).sum()


def vmap_of_grad_of_scan_of_checkpoint(run: Any, several: Any, text: Any) -> Any:
    def loss(weights: Any) -> jax.Array:
        again = jax.checkpoint(partial(run, weights))
        return jax.lax.scan(again, weights[-1], text)[1].sum()

    return jax.vmap(jax.grad(loss))(several)


def of_first_window(transform: Any, run: Any, several: Any, text: Any) -> Any:
    """Of its loss, with the second of several weights as the direction."""
    weights, v = (jax.tree.map(itemgetter(k), several) for k in (0, 1))
    first = tuple(leaf[0] for leaf in text)
    return transform(lambda weights: run(weights, weights[-1], first)[1], weights, v)


def _grad_of_grad(loss: Any, weights: Any, v: Any) -> Any:
    return jax.grad(lambda weights: optax.tree.vdot(jax.grad(loss)(weights), v))(weights)


grad_of_grad = partial(of_first_window, _grad_of_grad)
pushforward = partial(of_first_window, lambda loss, weights, v: jax.jvp(loss, (weights,), (v,)))


@cache
def transformed(transform: Any, path: str) -> Any:
    (T, B, D, H), K = SMALL, 7
    problem, other = (draw(seed, *SMALL, jnp.float64) for seed in (38, 39))
    rng = np.random.default_rng(40)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal((2, *shape)))

    params, state = stack([(p.params, p.initial_state) for p in (problem, other)])
    several = (params, normal(K, D), ReadoutParams(normal(H, K), normal(K)), state)
    text = tuple(jnp.asarray(rng.integers(0, K, (2, 2, T, B))))
    return jax.jit(partial(transform, partial(window, path, problem)))(several, text)


@pytest.mark.parametrize(
    "transform",
    [vmap_of_grad_of_scan_of_checkpoint, grad_of_grad],
    ids=["vmap of grad of scan of checkpoint", "grad of grad"],
)
@pytest.mark.parametrize("path", ["both modes", "fallback"])
def test_the_lstm_and_its_readout(path, transform):
    assert_close(transformed(transform, path), transformed(transform, "autodiff"), 1e-12)


def test_the_fallback_has_no_forward_mode():
    with pytest.raises(TypeError, match=r"^can't apply forward-mode autodiff \(jvp\)"):
        transformed(pushforward, "fallback")


IMPORTS = """
import sys, jax, jaxlstm
jax.config.update("jax_num_cpu_devices", 3)  # raises once any device has been asked for
with_forward_mode = jaxlstm.both_modes.linear is not None
for name in [name for name in sys.modules if name.startswith("jaxlstm")]:
    del sys.modules[name]
sys.modules["jaxlstm.linear"] = None
import jaxlstm
print(with_forward_mode, jaxlstm.both_modes.linear is not None)
"""


def test_the_library_imports_on_both_paths_and_asks_for_no_device():
    program = [sys.executable, "-c", IMPORTS]
    found = subprocess.run(program, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


@pytest.mark.parametrize(
    "rules", [ad.primitive_jvps, ad.primitive_transposes, batching.fancy_primitive_batchers]
)
def test_forward_mode_is_given_up_where_a_rule_is_called_in_another_way(rules):
    assert loaded_again(both_modes).linear is not None
    with patch.dict(rules, {linear.linear_p: lambda only: only}):
        assert loaded_again(both_modes).linear is None
