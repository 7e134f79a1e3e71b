"""The LSTM over time: ``step``, ``lstm`` differentiated by hand, its oracle ``lstm_autodiff``.

What differentiates ``lstm`` stands in ``by_hand.py``. Lengths and resets become masks here; both
act on the state before and after a step, the same way forward and backward.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxlstm.by_hand import Choice, Masks, lstm_by_hand
from jaxlstm.cell import cell_step
from jaxlstm.masks import keep, valid_steps
from jaxlstm.placement import gathered, place_along_batch, vary_together, zeros_along_batch
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import (
    RESIDUALS,
    check_choice,
    check_precision,
    check_sequence,
    check_step,
)


def step(
    params: LSTMParams,
    state: LSTMState,
    x_t: ArrayLike,
    *,
    activations: Activations = Activations(),
    precision: str | None = None,
) -> LSTMState:
    """One step of the LSTM: the pure-function cell, [F1] to [F7].

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        state: hidden and cell [B, H] ([H] unbatched).
        x_t: the input [B, D] ([D] unbatched).
        activations: of the candidate and the cell.
        precision: as in ``lstm``.

    Returns:
        The next state; its ``hidden`` is the output.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, in one sentence.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> state = jaxlstm.step(params, jaxlstm.init_state(5), jax.numpy.ones(3))
    >>> state.hidden.shape
    (5,)
    """
    check_step(params, state, x_t, activations)
    check_precision(precision, params)
    params, state, x = jax.tree.map(jnp.asarray, (params, state, x_t))
    return cell_step(params, state, x, activations, precision)


def lstm(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    residuals: str = "gates",
    precision: str | None = None,
) -> tuple[Array, LSTMState]:
    """The LSTM over a sequence, with derivatives by hand: [B1] to [B8] back, [T1] to [T3] forward.

    Args:
        params: input kernel [D, 4H], recurrent kernel [H, 4H], bias [4H].
        inputs: [T, B, D] ([T, D] unbatched), of the parameters' dtype.
        initial_state: hidden and cell [B, H] ([H] unbatched); zeros if None.
        lengths: int [B] (a scalar unbatched). Steps at or past a length leave the state as it is
            and output zeros; what the padding holds never matters. A length outside 0..T is an
            error where its value is known, and clipped where it is traced.
        resets: bool [T, B] ([T] unbatched). Where true, step t starts from the zero state; ignored
            at or past the length.
        activations: of the candidate and the cell.
        residuals: what is saved for the gradient, which is the same to rounding. "gates", the
            fastest: each step's state and gates, 6 numbers a unit; "states": 2;
            "outputs": 1, the outputs themselves; "chunks": the states of about sqrt(T) steps, and
            the forward pass is run again.
        precision: "bfloat16" or "float16": what both operands of every product are rounded to,
            forward and backward, for parameters in float32 or float64. What products add up, the
            gates, the cell state and all results stay in the parameters' dtype. In "float16" a
            cotangent loses digits below 6e-5 and all below 6e-8, and what exceeds 65504 becomes
            infinite: scale the loss to lie between, and the gradient back.

    Returns:
        outputs [T, B, H] ([T, H] unbatched) and the final state, with ``lengths`` the state at the
        length. Each takes a cotangent, and every floating argument gets a gradient.

    ``jax.grad``, ``jax.jvp`` and all that is made of them work; second derivatives are JAX's own of
    these first ones. Where ``lstm`` itself is given to ``jax.jit``, the last three arguments are
    static: ``static_argnames=("activations", "residuals", "precision")``.

    Raises:
        ValueError, TypeError: shapes, dtypes or values that do not fit, in one sentence, before
            any compilation.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> inputs, lengths = jax.random.normal(jax.random.key(1), (7, 2, 3)), jax.numpy.array([7, 4])
    >>> outputs, final = jaxlstm.lstm(params, inputs, lengths=lengths)
    >>> bool((final.hidden[1] == outputs[3, 1]).all()), bool((outputs[4:, 1] == 0).all())
    (True, True)
    """
    check_sequence(params, inputs, initial_state, lengths, resets, activations)
    check_choice("residuals", residuals, RESIDUALS)
    check_precision(precision, params)
    choice = Choice(activations, residuals, precision)
    return _at_the_edge(_by_hand, choice, params, inputs, initial_state, lengths, resets)


def lstm_autodiff(
    params: LSTMParams,
    inputs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    activations: Activations = Activations(),
    precision: str | None = None,
) -> tuple[Array, LSTMState]:
    """The same function as ``lstm``, a plain scan of ``step`` left to JAX's autodiff: the oracle.

    Arguments, results and errors are those of ``lstm``. With ``precision`` the gradient is JAX's,
    which rounds the results of the backward products in place of their operands.
    """
    check_sequence(params, inputs, initial_state, lengths, resets, activations)
    check_precision(precision, params)
    choice = Choice(activations, precision=precision)
    return _at_the_edge(_plain_scan, choice, params, inputs, initial_state, lengths, resets)


def lstm_of_units(
    mesh_axis: str,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
    lengths: Array | None = None,
    *,
    by_hand: bool = True,
) -> tuple[Array, LSTMState]:
    """``lstm`` within ``shard_map``, on each device the hidden units that are its own: H / n of H.

    At every step the devices exchange h_{t-1}, and back its cotangent. Nothing is checked.

    Args:
        mesh_axis: that splits the units.
        params: of the own units: [D, 4H / n], [H, 4H / n], [4H / n].
        inputs: the whole.
        initial_state: of the own units [B, H / n].
        lengths: as in ``lstm``.
        by_hand: or by autodiff.

    Returns:
        the own units' outputs [T, B, H / n] and final state.
    """
    choice = Choice(Activations(), mesh_axis=mesh_axis)
    scan = _by_hand if by_hand else _plain_scan
    return _run(scan, choice, params, inputs, initial_state, lengths, None)


_Scan = Callable[[Any, Masks, LSTMParams, Array, LSTMState], Any]


def _at_the_edge(
    scan: _Scan,
    static: Hashable,
    params: LSTMParams,
    inputs: Any,
    initial_state: LSTMState | None,
    lengths: Any,
    resets: Any,
) -> tuple[Array, LSTMState]:
    """Gives ``scan`` a batch, of one sequence where none came."""
    params, inputs, initial_state, lengths, resets = jax.tree.map(
        jnp.asarray, (params, inputs, initial_state, lengths, resets)
    )
    if inputs.ndim == 3:
        return _run(scan, static, params, inputs, initial_state, lengths, resets)
    inputs, resets = jax.tree.map(lambda leaf: leaf[:, None], (inputs, resets))
    initial_state, lengths = jax.tree.map(lambda leaf: leaf[None], (initial_state, lengths))
    outputs, final = _run(scan, static, params, inputs, initial_state, lengths, resets)
    return outputs[:, 0], jax.tree.map(lambda leaf: leaf[0], final)


@partial(jax.jit, static_argnums=(0, 1))
def _run(
    scan: _Scan,
    static: Hashable,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState | None,
    lengths: Array | None,
    resets: Bool[Array, "T B"] | None,
) -> tuple[Array, LSTMState]:
    """Completes the arguments, and hides the padding from ``scan`` and from the caller.

    Jitted, so that a second call outside any jit compiles nothing.
    """
    if initial_state is None:
        zeros = zeros_along_batch(inputs, params.recurrent_kernel.shape[0])
        initial_state = LSTMState(zeros, zeros)
    initial_state = place_along_batch(initial_state, inputs)
    masks = _masks(inputs.shape[0], lengths, resets)
    params, inputs, state, masks = vary_together((params, inputs, initial_state, masks))
    hidden, final = scan(static, masks, params, keep(masks.valid, inputs), state)
    return keep(masks.valid, hidden), final


def _masks(time: int, lengths: Array | None, resets: Array | None) -> Masks:
    return Masks(valid_steps(lengths, time), None if resets is None else ~resets)


def _plain_scan(
    choice: Choice,
    masks: Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[Float[Array, "T B H"], LSTMState]:
    def forward_step(state: LSTMState, step_t: tuple[Array, Masks]) -> tuple[LSTMState, Array]:
        x_t, (valid, carried) = step_t
        entered = keep(carried, state)
        h_tm1 = gathered(entered.hidden, choice.mesh_axis, axis=1)
        after = cell_step(
            params, LSTMState(h_tm1, entered.cell), x_t, choice.activations, choice.precision
        )
        state = keep(valid, after, state)
        return state, state.hidden

    final, hidden = jax.lax.scan(forward_step, initial_state, (inputs, masks))
    return hidden, final


def _by_hand(
    choice: Choice,
    masks: Masks,
    params: LSTMParams,
    inputs: Float[Array, "T B D"],
    initial_state: LSTMState,
) -> tuple[Float[Array, "T B H"], LSTMState]:
    """With the masks as ``lstm_by_hand`` takes them."""
    columns = jax.tree.map(lambda mask: mask[:, None], masks)
    return lstm_by_hand(choice, columns, params, inputs, initial_state)
