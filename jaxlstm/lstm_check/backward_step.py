"""The LSTM's forward step with a probe at every value, to judge a backward step by."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxlstm.cell import ACTIVATIONS
from jaxlstm.gradient_check import GradientReport
from jaxlstm.gradient_check.backward_step import check_backward_step
from jaxlstm.gradient_check.recurrence import Recurrence
from jaxlstm.gradient_check.traced_step import Step
from jaxlstm.lstm_check.problem import gate_blocks
from jaxlstm.types import Activations, LSTMParams, LSTMState
from jaxlstm.validation import check_sequence

STACKED = ("d_z", "d_input_kernel", "d_recurrent_kernel", "d_bias")
"""The cotangents that hold the four gates side by side."""

_Input = tuple[Float[Array, "B D"], Bool[Array, "B 1"], Bool[Array, "B 1"]]


def check_lstm_backward_step(
    step: Step,
    params: LSTMParams,
    inputs: Any,
    initial_state: LSTMState | None = None,
    lengths: Any = None,
    resets: Any = None,
    cotangents: Any = None,
    *,
    activations: Activations = Activations(),
    dtypes: Sequence[Any] = (jnp.float32,),
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Judges an LSTM's backward step, line by line, at every time step.

    ``step(q)`` finds in ``q``, batched and all of one dtype:

        input_kernel, recurrent_kernel, bias                the parameters
        x, h_tm1, c_tm1                                     what enters the step, after a reset
        z (z_i, z_f, z_g, z_o), i, f, g, o, c, h            its values, [F1] to [F7]
        d_h, d_c_next       cotangents that come in: of h_t, and of c_t through later steps only
        d_...               every other true cotangent: d_c is that of c_t through all it reaches

    and returns a dict of any of d_o, d_i, d_f, d_g, d_z_o, d_z_i, d_z_f, d_z_g, d_z, d_c, d_c_tm1,
    d_h_tm1, d_x, and of this time step's contributions d_input_kernel, d_recurrent_kernel and
    d_bias. Where a sequence is past its length all cotangents are zero; where it is reset, h_tm1
    and c_tm1 are zero and their cotangents go no further.

    Each line is judged with the true values of the earlier lines, so that a wrong line is blamed
    alone, and not those that use it.

    Args:
        step: the backward step under test, a pure function of JAX arrays.
        params: as of ``lstm``.
        inputs: as of ``lstm``; a batch of one is made of a single sequence.
        initial_state: as of ``lstm``.
        lengths: as of ``lstm``.
        resets: as of ``lstm``.
        cotangents: of the outputs and the final state, as ``lstm`` returns them; drawn if None.
        activations: of the candidate and the cell.
        dtypes: the working dtypes.
        seed: of what is drawn.
        progress: told what is judged next.

    Returns:
        The report; the comparisons of one time step have ``axis="step"``.

    Raises:
        ValueError, TypeError: arguments that ``lstm`` would not take.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_params(jax.random.key(0), 3, 5)
    >>> inputs = jax.random.normal(jax.random.key(1), (7, 2, 3))
    >>> def step(q):
    ...     d_c = q.d_c_next + q.d_h * q.o * (1 - jax.numpy.tanh(q.c) ** 2)
    ...     return {"d_c": d_c, "d_f": d_c * q.c, "d_i": d_c * q.g}
    >>> report = check_lstm_backward_step(step, params, inputs)
    >>> {comparison.argument for comparison in report.failures}
    {'d_f'}
    """
    with jax.enable_x64(True):
        check_sequence(params, inputs, initial_state, lengths, resets, activations)
    arguments = _batched(inputs, initial_state, lengths, resets, cotangents)
    inputs, initial_state, lengths, resets, cotangents = arguments
    time, batch, _ = inputs.shape
    hidden_size = params.recurrent_kernel.shape[0]
    if initial_state is None:
        zeros = jnp.zeros((batch, hidden_size))
        initial_state = LSTMState(hidden=zeros, cell=zeros)
    valid = np.arange(time)[:, None] < (np.full(batch, time) if lengths is None else lengths)
    carried = np.ones((time, batch), bool) if resets is None else ~(resets & valid)
    return check_backward_step(
        step,
        lstm_recurrence(activations),
        params,
        initial_state,
        (np.where(valid[..., None], inputs, 0), valid[..., None], carried[..., None]),
        cotangents,
        dtypes=dtypes,
        blocks=dict.fromkeys(STACKED, gate_blocks(hidden_size)),
        seed=seed,
        progress=progress,
    )


@cache
def lstm_recurrence(activations: Activations) -> Recurrence:
    """The LSTM with probes; the same object for the same activations, so that jit knows it."""
    return Recurrence(partial(_forward_step, activations), incoming=("h", "c_next"))


def _forward_step(
    activations: Activations, params: LSTMParams, carry: LSTMState, step_t: _Input, probe: Any
) -> tuple[LSTMState, Array]:
    """[F1] to [F7], every value probed; masks act on the state before and after.

    Args:
        activations: phi and psi.
        params: the parameters.
        carry: the state that the previous step left.
        step_t: the input, whether the step is within the length, whether the carry enters it.
        probe: passes a value on, by its name.
    """
    inputs, valid, carried = step_t
    entered = jax.tree.map(lambda leaf: jnp.where(carried, leaf, jnp.zeros_like(leaf)), carry)
    x = probe("x", inputs)
    h_tm1 = probe("h_tm1", entered.hidden)
    c_tm1 = probe("c_tm1", entered.cell)
    z = probe("z", x @ params.input_kernel + h_tm1 @ params.recurrent_kernel + params.bias)  # [F1]
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=-1)
    i = probe("i", jax.nn.sigmoid(probe("z_i", z_i)))  # [F2]
    f = probe("f", jax.nn.sigmoid(probe("z_f", z_f)))  # [F3]
    g = probe("g", ACTIVATIONS[activations.candidate](probe("z_g", z_g)))  # [F5]
    o = probe("o", jax.nn.sigmoid(probe("z_o", z_o)))  # [F4]
    c = probe("c", f * c_tm1 + i * g)  # [F6]
    h = probe("h", o * ACTIVATIONS[activations.cell](c))  # [F7]
    state = LSTMState(hidden=h, cell=probe("c_next", c))
    state = jax.tree.map(partial(jnp.where, valid), state, carry)
    return state, jnp.where(valid, h, jnp.zeros_like(h))


def _batched(inputs: Any, *others: Any) -> tuple[Any, ...]:
    """NumPy arrays, a single sequence as a batch of one."""
    state, lengths, resets, cotangents = others
    arrays = (inputs, state, lengths, resets, cotangents)
    inputs, state, lengths, resets, cotangents = jax.tree.map(np.asarray, arrays)
    if inputs.ndim == 3:
        return inputs, state, lengths, resets, cotangents
    inputs, resets = jax.tree.map(lambda leaf: leaf[:, None], (inputs, resets))
    state, lengths = jax.tree.map(lambda leaf: leaf[None], (state, lengths))
    if cotangents is not None:
        d_outputs, d_final = cotangents
        cotangents = d_outputs[:, None], jax.tree.map(lambda leaf: leaf[None], d_final)
    return inputs, state, lengths, resets, cotangents
