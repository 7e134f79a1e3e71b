"""Bad input gets one clear sentence, before anything is compiled."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from drawing import Problem, one_sequence, run
from drawing import draw as draw_problem

import jaxlstm
from jaxlstm import Activations, LSTMState

T, B, D, H = 7, 3, 2, 5
FUNCTIONS = (jaxlstm.lstm, jaxlstm.lstm_autodiff)


@pytest.fixture(autouse=True)
def _unchecked_types() -> Any:
    """The checks of annotations, a help under pytest only, would answer before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def draw(batched: bool = True) -> Problem:
    """A good problem of NumPy arrays, so that nothing but the call under test meets JAX."""
    problem = jax.tree.map(np.asarray, draw_problem(0, T, B, D, H, jnp.float32))
    return problem if batched else one_sequence(problem, 0)


GOOD = draw()
ALONE = draw(batched=False)
SIZES = {"input_size": D, "hidden_size": H}
FLOATING = "expected a dtype among float64, float32, float16, bfloat16"
SAME_DTYPE = "expected dtype float32 as params.input_kernel has"


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def params(**leaves: Any) -> dict[str, Any]:
    return {"params": GOOD.params._replace(**leaves)}


def state(**leaves: Any) -> dict[str, Any]:
    return {"initial_state": GOOD.initial_state._replace(**leaves)}


# Each row: what replaces a good argument, how the sentence begins, and what it says that it got.

PARAMS_OF_WRONG_VALUE = [
    (
        params(input_kernel=zeros(2, 5)),
        "params.input_kernel: expected shape [D, 4H] = [2, 20] with H = 5 from the rows of",
        "[2, 5]",
    ),
    (
        params(recurrent_kernel=zeros(6, 20)),
        "params.input_kernel: expected shape [D, 4H] = [2, 24] with H = 6",
        "[2, 20]",
    ),
    (
        params(recurrent_kernel=zeros(5, 15)),
        "params.recurrent_kernel: expected shape [H, 4H] = [5, 20]",
        "[5, 15]",
    ),
    (params(bias=zeros(5)), "params.bias: expected shape [4H] = [20]", "[5]"),
    (params(bias=zeros(1, 20)), "params.bias: expected 1 dimension", "2, shape [1, 20]"),
    (params(input_kernel=zeros(20)), "params.input_kernel: expected 2 dimensions", "1, shape [20]"),
]
PARAMS_OF_WRONG_TYPE = [
    (params(bias=zeros(20, dtype=np.int32)), f"params.bias: {FLOATING}", "int32"),
    (params(bias=zeros(20, dtype=np.float16)), f"params.bias: {SAME_DTYPE}", "float16"),
    (
        params(recurrent_kernel=zeros(5, 20, dtype=jnp.bfloat16)),
        f"params.recurrent_kernel: {SAME_DTYPE}",
        "bfloat16",
    ),
    (params(bias=[0.0] * 20), "params.bias: expected an array", "list"),
    ({"params": tuple(GOOD.params)}, "params: expected LSTMParams", "tuple"),
    ({"params": GOOD.params._asdict()}, "params: expected LSTMParams", "dict"),
]

INPUTS = "inputs: expected shape [T, B, 2] or [T, 2] (D = 2 from the rows of params.input_kernel)"
HIDDEN = "initial_state.hidden: expected shape [B, H] = [3, 5] from the inputs"
CELL = "initial_state.cell: expected shape [B, H] = [3, 5] from the inputs"
SEQUENCES_OF_WRONG_VALUE = [
    ({"inputs": zeros(7, 3, 3)}, INPUTS, "[7, 3, 3]"),
    ({"inputs": zeros(2)}, INPUTS, "[2]"),
    ({"inputs": zeros(1, 7, 3, 2)}, INPUTS, "[1, 7, 3, 2]"),
    ({"inputs": np.float32(1)}, INPUTS, "[]"),
    (state(hidden=zeros(3, 6)), HIDDEN, "[3, 6]"),
    (state(cell=zeros(4, 5)), CELL, "[4, 5]"),
    (state(cell=zeros(5)), CELL, "[5]"),
    ({"lengths": np.array([1, 8, 2])}, "lengths: expected values from 0 to T = 7", "8"),
    ({"lengths": np.array([1, -1, 2])}, "lengths: expected values from 0 to T = 7", "-1"),
    (
        {"lengths": np.array([1, 2])},
        "lengths: expected shape [B] = [3] from the inputs' batch",
        "[2]",
    ),
    ({"lengths": np.array(3)}, "lengths: expected shape [B] = [3] from the inputs' batch", "[]"),
    (
        {"resets": zeros(3, 7, dtype=bool)},
        "resets: expected shape [T, B] = [7, 3] from the inputs",
        "[3, 7]",
    ),
    (
        {"resets": zeros(7, dtype=bool)},
        "resets: expected shape [T, B] = [7, 3] from the inputs",
        "[7]",
    ),
]
SEQUENCES_OF_WRONG_TYPE = [
    ({"inputs": zeros(7, 3, 2, dtype=np.int32)}, f"inputs: {FLOATING}", "int32"),
    ({"inputs": zeros(7, 3, 2, dtype=np.complex64)}, f"inputs: {FLOATING}", "complex64"),
    ({"inputs": zeros(7, 3, 2, dtype=np.float16)}, f"inputs: {SAME_DTYPE}", "float16"),
    ({"inputs": [[1.0, 2.0]]}, "inputs: expected an array", "list"),
    ({"inputs": None}, "inputs: expected an array", "NoneType"),
    (state(hidden=zeros(3, 5, dtype=np.int32)), f"initial_state.hidden: {FLOATING}", "int32"),
    (state(cell=zeros(3, 5, dtype=np.float16)), f"initial_state.cell: {SAME_DTYPE}", "float16"),
    (state(hidden=0.0), "initial_state.hidden: expected an array", "float"),
    ({"initial_state": tuple(GOOD.initial_state)}, "initial_state: expected LSTMState", "tuple"),
    ({"lengths": zeros(3)}, "lengths: expected an integer dtype", "float32"),
    ({"lengths": zeros(3, dtype=bool)}, "lengths: expected an integer dtype", "bool"),
    ({"lengths": [1, 2, 3]}, "lengths: expected an array", "list"),
    ({"resets": zeros(7, 3)}, "resets: expected dtype bool", "float32"),
    ({"resets": zeros(7, 3, dtype=np.int32)}, "resets: expected dtype bool", "int32"),
    ({"resets": True}, "resets: expected an array", "bool"),
]
UNBATCHED_OF_WRONG_VALUE = [
    (
        {"initial_state": GOOD.initial_state},
        "initial_state.hidden: expected shape [H] = [5]",
        "[3, 5]",
    ),
    (
        {"lengths": np.array([3])},
        "lengths: expected shape [] from the inputs' batch",
        "[1]",
    ),
    ({"lengths": np.array(8)}, "lengths: expected values from 0 to T = 7", "8"),
    (
        {"resets": zeros(7, 1, dtype=bool)},
        "resets: expected shape [T] = [7] from the inputs",
        "[7, 1]",
    ),
]

EITHER = "expected one of 'tanh', 'sigmoid', 'identity'"
UNKNOWN_ACTIVATIONS = [
    ({"candidate": "relu"}, f"activations.candidate: {EITHER}", "'relu'"),
    ({"cell": "TANH"}, f"activations.cell: {EITHER}", "'TANH'"),
    ({"cell": np.tanh}, f"activations.cell: {EITHER}", "<ufunc 'tanh'>"),
]

X_T = "x_t: expected shape [B, 2] or [2] (D = 2 from the rows of params.input_kernel)"
STEPS_OF_WRONG_VALUE = [
    ({"x_t": zeros(3, 3)}, X_T, "[3, 3]"),
    ({"x_t": zeros(7, 3, 2)}, X_T, "[7, 3, 2]"),
    ({"x_t": zeros(2)}, "state.hidden: expected shape [H] = [5]", "[3, 5]"),
    (
        {"state": LSTMState(zeros(3, 5), zeros(4, 5))},
        "state.cell: expected shape [B, H] = [3, 5]",
        "[4, 5]",
    ),
]
STEPS_OF_WRONG_TYPE = [
    ({"x_t": zeros(3, 2, dtype=np.int32)}, f"x_t: {FLOATING}", "int32"),
    ({"x_t": zeros(3, 2, dtype=np.float16)}, f"x_t: {SAME_DTYPE}", "float16"),
    ({"x_t": 1.0}, "x_t: expected an array", "float"),
    (
        {"state": LSTMState(zeros(3, 5), zeros(3, 5, dtype=np.float16))},
        f"state.cell: {SAME_DTYPE}",
        "float16",
    ),
    ({"state": None}, "state: expected LSTMState", "NoneType"),
]

DTYPES = "dtype: expected one of float64, float32, float16, bfloat16"
INITIALISATIONS_OF_WRONG_VALUE = [
    ({"input_size": 0}, "input_size: expected at least 1", "0"),
    ({"hidden_size": -2}, "hidden_size: expected at least 1", "-2"),
    ({"dtype": "float31"}, DTYPES, "'float31'"),
    ({"dtype": "int32"}, DTYPES, "'int32'"),
]
INITIALISATIONS_OF_WRONG_TYPE = [
    ({"input_size": 2.0}, "input_size: expected a whole number", "2.0"),
    ({"hidden_size": True}, "hidden_size: expected a whole number", "True"),
    ({"hidden_size": "5"}, "hidden_size: expected a whole number", "'5'"),
]


def rows(wrong_values: list, wrong_types: list = ()) -> pytest.MarkDecorator:
    """A run of the test for each row, with the error that it raises."""
    cases = [(*row, ValueError) for row in wrong_values] + [
        (*row, TypeError) for row in wrong_types
    ]
    return pytest.mark.parametrize(("changed", "expected", "got", "error"), cases)


def assert_refuses(error: type[Exception], expected: str, got: str, call: Any) -> None:
    """The call raises just this error, its whole message one line that ends with a full stop."""
    with pytest.raises(
        error, match=rf"^{re.escape(expected)}.*, got {re.escape(got)}\.$"
    ) as raised:
        call()
    assert raised.type is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("f", FUNCTIONS)
@rows(
    PARAMS_OF_WRONG_VALUE + SEQUENCES_OF_WRONG_VALUE, PARAMS_OF_WRONG_TYPE + SEQUENCES_OF_WRONG_TYPE
)
def test_bad_sequences(f, changed, expected, got, error):
    assert_refuses(error, expected, got, lambda: run(f, GOOD._replace(**changed)))


@pytest.mark.parametrize("f", FUNCTIONS)
@rows(UNBATCHED_OF_WRONG_VALUE)
def test_bad_unbatched_sequences(f, changed, expected, got, error):
    assert_refuses(error, expected, got, lambda: run(f, ALONE._replace(**changed)))


def step(**changed: Any) -> LSTMState:
    good = {"params": GOOD.params, "state": GOOD.initial_state, "x_t": GOOD.inputs[0]}
    return jaxlstm.step(**{**good, **changed})


@rows(PARAMS_OF_WRONG_VALUE + STEPS_OF_WRONG_VALUE, PARAMS_OF_WRONG_TYPE + STEPS_OF_WRONG_TYPE)
def test_bad_steps(changed, expected, got, error):
    assert_refuses(error, expected, got, lambda: step(**changed))


@rows(UNKNOWN_ACTIVATIONS)
def test_unknown_activations(changed, expected, got, error):
    activations = Activations(**changed)
    assert_refuses(error, expected, got, lambda: step(activations=activations))
    for f in FUNCTIONS:
        assert_refuses(error, expected, got, lambda f=f: run(f, GOOD, activations))


def test_activations_of_a_wrong_type():
    call = partial(run, jaxlstm.lstm, GOOD, "tanh")
    assert_refuses(TypeError, "activations: expected Activations", "str", call)


@rows(INITIALISATIONS_OF_WRONG_VALUE, INITIALISATIONS_OF_WRONG_TYPE)
def test_bad_initialisations(changed, expected, got, error):
    call = partial(jaxlstm.init_params, jax.random.key(0), **{**SIZES, **changed})
    assert_refuses(error, expected, got, call)


@rows(
    [
        ({"hidden_size": 0}, "hidden_size: expected at least 1", "0"),
        ({"batch_size": 0}, "batch_size: expected at least 1", "0"),
        ({"dtype": "bool"}, DTYPES, "'bool'"),
    ],
    [({"batch_size": 1.5}, "batch_size: expected a whole number", "1.5")],
)
def test_bad_states(changed, expected, got, error):
    call = partial(jaxlstm.init_state, **{"hidden_size": H, **changed})
    assert_refuses(error, expected, got, call)


def test_float64_outside_64_bit_mode():
    sentence = "dtype: float64 needs 64-bit mode: `with jax.enable_x64(True):`."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        jaxlstm.init_params(jax.random.key(0), D, H, dtype=jnp.float64)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_shapes_are_refused_under_jit_too(f):
    """JAX appends a note of its own to what passes through jit."""
    with pytest.raises(ValueError, match=rf"^{re.escape(INPUTS)}, got \[7, 3, 3\]\.\n-"):
        jax.jit(partial(run, f))(GOOD._replace(inputs=zeros(7, 3, 3)))


@pytest.fixture
def compilations() -> Any:
    """The names of JAX's tracing and compiling events as they come."""
    events: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize(
    "changed", [{"lengths": np.array([1, T + 1, 2])}, {"resets": zeros(T, B)}, state(hidden=0.0)]
)
def test_nothing_is_compiled_before_the_refusal(f, changed, compilations):
    with pytest.raises((ValueError, TypeError)):
        run(f, GOOD._replace(**changed))
    assert not compilations
    jax.clear_caches()
    run(f, GOOD)
    assert any("compile" in event for event in compilations)
