"""The gradient's flow in layers of one's own on real inputs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from jaxlstm.gradient_flow.bounds import PathBounds, path_bounds, spectral_bound
from jaxlstm.gradient_flow.checks import check_flow
from jaxlstm.gradient_flow.paths import PathNorms, norm, norms_beside
from jaxlstm.gradient_flow.reverse import StateGradients, state_gradients
from jaxlstm.gradient_flow.spectra import Spectrum, lstm_spectrum
from jaxlstm.gradient_flow.steps import LSTMSteps, linearized
from jaxlstm.masks import keep
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_one_direction, check_sequence, check_stack


class LayerFlow(NamedTuple):
    """Of one layer, by its states k = 0, ..., T; a pytree.

    Attributes:
        paths: the norms of the gradient and of its parts, from which ``shares`` and
            ``cancellation`` follow. The paths are those within the layer, from the loss or from
            where they come down from the layer above.
        gates: |dL/dz_k| by gate, in the order i, f, g, o: [T, B, 4] ([T, 4] unbatched).
        bounds: log |t_1| and its bounds, from what arrives at the last valid step: [T + 1, B].
        log_survival: the logarithm of f_{k+1} * ... * f_T by unit, [T + 1, B, H].
        log_forget: the mean of log f over all valid steps, by unit: [H].
        spectrum: of as many directions as asked for.
        parameter_gradients: the norm of each sequence's gradient of the layer's parameters, [B].
        kernel_singular_values: of each gate's recurrent kernel, the largest first: [4, H].
        lengths: how many steps are valid, [B]; None where all are.
        spectral: the logarithm of the tight bound on |t_1|, [T + 1, B]; None unless asked for.
    """

    paths: PathNorms
    gates: Float[Array, "*T 4"]
    bounds: PathBounds
    log_survival: Float[Array, "*T H"]
    log_forget: Float[Array, " H"]
    spectrum: Spectrum
    parameter_gradients: Float[Array, "*B"]
    kernel_singular_values: Float[Array, "4 H"]
    lengths: Integer[Array, "*B"] | None = None
    spectral: Float[Array, "*T"] | None = None


PARTS = tuple(name for name in LayerFlow._fields if name not in LayerFlow._field_defaults)
"""What ``progress`` is told of every layer, the last layer first; then "spectral" if asked for."""


class GradientFlowReport(NamedTuple):
    """Of a loss on the last layer's last hidden state; a pytree.

    Attributes:
        layers: the flow in each layer, the first layer first.
    """

    layers: tuple[LayerFlow, ...]


def _silent(_: str) -> None:
    """Tells nobody."""


def gradient_flow_report(
    params: LSTMParams | Sequence[LSTMParams],
    inputs: ArrayLike,
    initial_state: LSTMState | Sequence[LSTMState] | None = None,
    *,
    d_h: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    crossings: int = 3,
    directions: int = 1,
    spectral: bool = False,
    activations: Activations = Activations(),
    progress: Callable[[str], Any] = _silent,
) -> GradientFlowReport:
    """What becomes of the gradient in a layer, or in each of a stack, on its way back from the end.

    In a stack each layer is reached from the one above at every step. Memory is linear in T.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H]; or those of every layer.
        inputs: [T, B, D] ([T, D] unbatched), T and B at least 1, of float32 or float64.
        initial_state: hidden and cell [B, H] ([H] unbatched); or those of every layer; zeros if
            None.
        d_h: dL/dh of the last layer's last valid step, [B, H] ([H] unbatched); if None, the same
            for all units and of norm 1, of no loss of yours.
        lengths: as in ``jaxlstm.lstm``, not all 0.
        resets: as in ``jaxlstm.lstm``.
        crossings: as in ``path_parts``.
        directions: as in ``lstm_spectrum``.
        spectral: whether to find ``spectral_bound`` too, by singular values at every step.
        activations: of the candidate and the cell.
        progress: called with a few words as each of ``PARTS`` begins in each layer.

    Raises:
        ValueError, TypeError: arguments that do not fit, numbers that are not finite, layers that
            read in both directions, in one sentence and before anything runs.

    >>> import jax, jaxlstm
    >>> from jaxlstm.gradient_flow import gradient_flow_report
    >>> layers = jaxlstm.init_layers(jax.random.key(0), 3, 5, layers=2)
    >>> report = gradient_flow_report(layers, jax.numpy.ones((7, 2, 3)))
    >>> report.layers[0].gates.shape
    (7, 2, 4)
    """
    masks = (lengths, resets, activations)
    layers, states = _as_stack(params, inputs, initial_state, *masks)
    check_flow(layers, inputs, states, d_h, lengths, crossings, directions)
    stack = _linearized(layers, inputs, states, masks)
    d_h, d_outputs, flows = _even_cotangent(stack[-1].steps) if d_h is None else d_h, None, []
    for k, layer in reversed(list(enumerate(stack, start=1))):
        gradients = state_gradients(layer.steps, d_h, d_outputs=d_outputs)
        last = _at_length(gradients.hidden, lengths)
        measures = _measures(layer, gradients, last, d_h, d_outputs, crossings, directions)
        found = {}
        for name in (*PARTS, "spectral")[: len(PARTS) + spectral]:
            progress(f"layer {k}: {name.replace('_', ' ')}")
            found[name] = jax.block_until_ready(measures[name]())
        flows.append(LayerFlow(**found, lengths=None if lengths is None else jnp.asarray(lengths)))
        d_outputs = _sent_down(gradients, layer.params)
        d_h = jnp.zeros_like(d_outputs[0])
    return GradientFlowReport(tuple(reversed(flows)))


def _as_stack(params: Any, inputs: Any, initial_state: Any, *masks: Any) -> tuple[Any, Any]:
    """The layers and the state of each."""
    if isinstance(params, LSTMParams):
        check_sequence(params, inputs, initial_state, *masks)
        return [params], [initial_state]
    check_stack(params, inputs, initial_state, *masks)
    check_one_direction(params)
    return params, [None] * len(params) if initial_state is None else initial_state


class _Layer(NamedTuple):
    """A layer, its steps, and what enters them: inputs [T, B, D] and hidden states [T, B, H]."""

    params: LSTMParams
    steps: LSTMSteps
    inputs: Array
    entered: Array


def _linearized(layers: Any, inputs: Any, states: Any, masks: Any) -> list[_Layer]:
    """Every layer, run on the outputs of the one before."""
    found = []
    for layer, state in zip(layers, states, strict=True):
        steps, outputs = linearized(layer, inputs, state, *masks)
        first = jnp.zeros_like(outputs[0]) if state is None else jnp.asarray(state.hidden)
        entered = jnp.concatenate([first[None], outputs])[:-1]
        valid, carried = steps.each.valid, steps.each.carried
        read = keep(valid, jnp.asarray(inputs))
        found.append(_Layer(layer, steps, read, keep(carried, entered)))
        inputs = outputs
    return found


def _measures(
    layer: _Layer,
    gradients: StateGradients,
    last: Array,
    d_h: ArrayLike,
    d_outputs: Array | None,
    crossings: int,
    directions: int,
) -> dict[str, Callable[[], Any]]:
    """What finds each part of a layer's flow; ``last`` arrives at its last valid step."""
    steps = layer.steps
    return {
        "paths": lambda: norms_beside(gradients, steps, d_h, None, d_outputs, crossings=crossings),
        "gates": lambda: norm(gradients.gates),
        "bounds": lambda: path_bounds(steps, last),
        "log_survival": lambda: _log_survival(steps),
        "log_forget": lambda: _log_forget(steps),
        "spectrum": lambda: lstm_spectrum(steps, directions=directions),
        "parameter_gradients": lambda: _parameter_gradients(layer, gradients.gates),
        "kernel_singular_values": lambda: _singular_values_by_gate(steps.recurrent_kernel),
        "spectral": lambda: spectral_bound(steps, last),
    }


def _even_cotangent(steps: LSTMSteps) -> Array:
    """The same for all units, of norm 1."""
    like = steps.each.derivatives.dh_dc
    return jnp.full(like.shape[1:], like.shape[-1] ** -0.5, like.dtype)


def _at_length(hidden: Float[Array, "*T H"], lengths: Any) -> Float[Array, "*B H"]:
    """Of the states k = 0, ..., T the one after the last valid step."""
    if lengths is None:
        return hidden[-1]
    if hidden.ndim == 2:
        return hidden[lengths]
    return hidden[jnp.asarray(lengths), jnp.arange(hidden.shape[1])]


@jax.jit
def _sent_down(gradients: StateGradients, params: LSTMParams) -> Array:
    return _columns(gradients.gates) @ params.input_kernel.T  # [B8]


def _columns(gates: Float[Array, "*T 4 H"]) -> Float[Array, "*T G"]:
    """The gates side by side, as in the kernels."""
    return gates.reshape(*gates.shape[:-2], -1)


@jax.jit
def _parameter_gradients(layer: _Layer, gates: Float[Array, "*T 4 H"]) -> Array:
    """The norm of each sequence's own gradient of the parameters."""

    def of_one(sequence: tuple[Array, Array, Array]) -> Array:
        x, h_tm1, d_z = sequence
        d_params = (x.T @ d_z, h_tm1.T @ d_z, d_z.sum(0))  # [B6] [B5] [B7]
        return norm(jnp.stack([norm(leaf.ravel()) for leaf in d_params]))

    sequences = (layer.inputs, layer.entered, _columns(gates))
    if gates.ndim == 3:
        return of_one(sequences)
    return jax.lax.map(of_one, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), sequences))


def _singular_values_by_gate(W: Float[Array, "H G"]) -> Float[Array, "4 H"]:
    return jnp.linalg.svd(jnp.stack(jnp.split(W, 4, axis=-1)), compute_uv=False)


@jax.jit
def _log_survival(steps: LSTMSteps) -> Float[Array, "*T H"]:
    """By unit, the sum of log f from k + 1 to T: [T + 1, B, H]."""
    f, (_, valid, carried) = steps.each.derivatives.dc_dc_tm1, steps.each
    from_end = jnp.cumsum(keep(valid, jnp.log(keep(carried, f)))[::-1], axis=0)[::-1]
    return jnp.concatenate([from_end, jnp.zeros_like(from_end[:1])])


@jax.jit
def _log_forget(steps: LSTMSteps) -> Float[Array, " H"]:
    """By unit, the mean of log f over all valid steps."""
    f, valid = steps.each.derivatives.dc_dc_tm1, steps.each.valid
    log_f = keep(valid, jnp.log(f)).reshape(-1, f.shape[-1])
    count = jnp.asarray(len(log_f) if valid is None else valid.sum(), f.dtype)
    return log_f.sum(0) / count
