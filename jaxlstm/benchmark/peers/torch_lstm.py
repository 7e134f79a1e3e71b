"""``torch.nn.LSTM``: transposed kernels, and two biases, of which the second is zero and frozen."""

from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from jaxlstm.benchmark.cost import Program
from jaxlstm.benchmark.peers.peer import FORWARD, STEP, Peer, Prepared, Workload, threads
from jaxlstm.types import LSTMParams, LSTMState


def peer(name: str) -> Peer:
    """On the device that JAX has, with as many threads as it may have.

    Raises:
        ImportError: JAX has an accelerator that this torch cannot use.
    """
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu") or (backend == "gpu" and not torch.cuda.is_available()):
        raise ImportError(f"this torch cannot use the device that JAX has, a {backend}")
    torch.set_num_threads(threads())
    return Peer(name, _prepare)


def _prepare(task: str, workload: Workload) -> Prepared:
    D, H = workload.inputs.shape[-1], workload.state.hidden.shape[-1]
    kind = torch.nn.LSTMCell if task == STEP else torch.nn.LSTM
    suffix = "" if task == STEP else "_l0"
    inputs, h, c = (_tensor(leaf) for leaf in (workload.inputs, *workload.state))
    module = kind(D, H, dtype=inputs.dtype, device=inputs.device)
    weights = [getattr(module, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih")]
    with torch.no_grad():
        for weight, leaf in zip(weights, workload.params, strict=True):
            weight.copy_(_tensor(leaf.T))
        getattr(module, f"bias_hh{suffix}").zero_().requires_grad_(False)
    module.train(task not in (STEP, FORWARD))
    if task == STEP:
        return _prepared(torch.no_grad()(lambda: module(inputs[0], (h, c))), _state)
    if task == FORWARD:
        states = (h[None], c[None])
        return _prepared(torch.no_grad()(lambda: module(inputs, states)[0]), _array)
    arguments = [*weights, *(leaf.requires_grad_() for leaf in (inputs, h, c))]

    def gradient() -> Any:
        loss = module(inputs, (h[None], c[None]))[0].square().mean()
        return torch.autograd.grad(loss, arguments)

    return _prepared(gradient, _workload)


def _prepared(run: Any, read: Any) -> Prepared:
    return Prepared(Program(run, _wait, 0.0, None), read)


def _wait(_: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tensor(leaf: Any) -> Any:
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    dtype = getattr(torch, leaf.dtype.name)
    return torch.tensor(np.array(leaf, np.float64)).to(device, dtype).contiguous()


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().double().numpy()


def _state(tensors: Any) -> LSTMState:
    return LSTMState(*map(_array, tensors))


def _workload(tensors: Any) -> Workload:
    input_kernel, recurrent_kernel, bias, inputs, *state = map(_array, tensors)
    params = LSTMParams(input_kernel.T, recurrent_kernel.T, bias)
    return Workload(params, inputs, LSTMState(*state))
