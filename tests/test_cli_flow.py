"""``jaxlstm flow``: its numbers against autodiff, the tables, the pictures, and what is refused."""

import contextlib
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxlstm import LSTMState, step
from jaxlstm.cli import flow, main
from jaxlstm.cli.arguments import Parser
from jaxlstm.cli.flow.problem import problem_of
from jaxlstm.cli.flow.result import plain
from jaxlstm.gradient_flow import (
    GradientFlowReport,
    LayerFlow,
    RNNFlow,
    Spectrum,
    curves,
    rnn_flow,
)
from jaxlstm.gradient_flow.bounds import PathBounds
from jaxlstm.gradient_flow.paths import PathNorms
from jaxlstm.plotting import plot_gradient_flow, plot_lstm_beside_rnn
from jaxlstm.rnn import init_rnn
from jaxlstm.tasks.text import read_text
from jaxlstm.training import TrainConfig, init_train_state
from jaxlstm.training.checkpoints import describe, load, open_checkpoints, save

CONTENT = "".join(np.random.default_rng(0).choice(list("abcdefgh \n"), 300))
TIME, BATCH, FEATURES, HIDDEN = 6, 3, 3, 4
SIZES = ["--time", str(TIME), "--batch", str(BATCH)]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "text.txt"
    path.write_text(CONTENT)
    return path


@pytest.fixture(scope="module")
def checkpoint(text):
    """Of two layers in float32, as an optimizer would leave them: no bias is zero."""
    config, read = TrainConfig(layers=2, hidden=HIDDEN, embedding=FEATURES), read_text(text)
    state, rng = init_train_state(config, len(read.vocabulary)), np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + rng.standard_normal(leaf.shape).astype(leaf.dtype), state.params
    )
    folder = text.parent / "run"
    with open_checkpoints(folder) as manager:
        save(manager, state._replace(params=params), describe(config, read), None)
    return folder


@pytest.fixture(scope="module")
def ran(text, checkpoint):
    """A run on the checkpoint: its JSON, with two pictures and what was printed beside."""
    file, printed = text.parent / "flow.json", io.StringIO()
    pictures = ["--plot", f"{file}.png", "--plot-rnn", f"{file}.svg", "--json", str(file)]
    source = ["--checkpoint", str(checkpoint), "--text", str(text)]
    given = [*source, *SIZES, "--crossings", "5", "--spectral", *pictures]
    with contextlib.redirect_stdout(printed):
        assert main(["flow", *given]) == 0
    return json.loads(file.read_text()), file, " ".join(printed.getvalue().split())


@pytest.fixture(scope="module")
def truth(checkpoint):
    """The model in float64 on three windows of the text, and the gradients by autodiff."""
    with jax.enable_x64(True):
        state, about = load(checkpoint)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), state.params)
        starts = np.linspace(0, len(CONTENT) - TIME - 1, BATCH).astype(int)
        windows = [[about.vocabulary.index(c) for c in CONTENT[s:][: TIME + 1]] for s in starts]
        *characters, targets = jnp.asarray(windows).T
        inputs = params.embedding[jnp.stack(characters)]
        by_layers, by_hidden = jax.jit(jax.vmap(gradients, (None, 1, 0)))(params, inputs, targets)
        by_parameters = np.stack([ravel_pytree(each)[0] for each in sequences(by_layers)])
        yield SimpleNamespace(
            inputs=inputs, by_hidden=np.asarray(by_hidden), by_parameters=by_parameters
        )


def gradients(params, inputs, target):
    """Of one sequence, by the layers' parameters and by every hidden state [L, T, H]."""

    def loss(layers, probes):
        """A probe is added to each layer's hidden state after every step."""

        def forward(states, step_t):
            x, probes_t = step_t
            after = []
            for layer, state, probe in zip(layers, states, probes_t, strict=True):
                state = step(layer, state, x)
                x = state.hidden + probe
                after.append(state._replace(hidden=x))
            return after, x

        zero = [LSTMState(*jnp.zeros((2, HIDDEN))) for _ in layers]
        h = jax.lax.scan(forward, zero, (inputs, probes))[1][-1]
        return -jax.nn.log_softmax(h @ params.readout.kernel + params.readout.bias)[target]

    by_layers, by_probes = jax.grad(loss, (0, 1))(params.layers, jnp.zeros((TIME, 2, HIDDEN)))
    return by_layers, jnp.swapaxes(by_probes, 0, 1)


def sequences(tree):
    return [jax.tree.map(lambda leaf, b=b: leaf[b], tree) for b in range(BATCH)]


def test_norms_are_those_of_the_trained_models_gradient(ran, truth):
    layers = ran[0]["layers"]
    assert len(layers) == 2
    for k, layer in enumerate(layers):
        norms = np.median(np.linalg.norm(truth.by_hidden[:, k], axis=-1), axis=0)
        np.testing.assert_allclose(layer["hidden"][:TIME], norms[::-1], rtol=1e-12)
        assert np.shape(layer["crossings"]) == (TIME + 1, 7)
        assert len(layer["exponents"]) == 4


def test_clipping_is_of_the_mean_and_of_the_largest_gradient(ran, truth):
    found, norms = ran[0]["clipping"], np.linalg.norm(truth.by_parameters, axis=1)
    middle, mean = np.median(norms), np.linalg.norm(truth.by_parameters.mean(0))
    assert found["norm"] == pytest.approx(middle, rel=1e-12)
    for name, before in (("mean", mean), ("largest", norms.max())):
        assert found[name]["before"] == pytest.approx(before, rel=1e-12)
        assert found[name]["after"] == pytest.approx(min(before, middle), rel=1e-12)
    assert found["largest"]["after"] < found["largest"]["before"]


def test_the_rnn_has_the_same_inputs_and_the_same_gradient_at_its_end(ran, truth):
    with jax.enable_x64(True):
        params = init_rnn(jax.random.key(0), FEATURES, HIDDEN, dtype=jnp.float64)
        d_h = jnp.asarray(truth.by_hidden[:, -1, -1])
        found = rnn_flow(params, truth.inputs, d_h=d_h, directions=4)
    np.testing.assert_allclose(
        ran[0]["rnn"]["hidden"], np.median(found.hidden, axis=1)[::-1], 1e-12
    )
    exponents = np.median(found.spectrum.exponents, axis=0)
    np.testing.assert_allclose(ran[0]["rnn"]["exponents"], exponents, 1e-9)


def test_what_is_printed_is_what_is_written(ran):
    result, _, printed = ran
    first, last = result["layers"]
    *numbered, fourth, fifth, more = last["crossings"][TIME]
    shares = (*numbered, fourth + fifth + more, *last["first_gates"][TIME])
    for words in (
        "Layer 1: the gradient by distance",
        f" 4 {first['hidden'][4]:.1e} {first['cell'][4]:.1e} {first['cancellation'][4]:.2f} ",
        " ".join(f"{x:.1f}" for x in (first["spectral"][4], *first["looseness"][4])),
        "Layer 2: the paths it comes by",
        f" {TIME} " + " ".join(f"{x:.1%}" for x in shares),
        f" {TIME} {last['hidden'][TIME]:.1e} {result['rnn']['hidden'][TIME]:.1e}",
        "layer 2 " + " ".join(f"{x:.4f}" for x in last["exponents"]),
        "RNN " + " ".join(f"{x:.4f}" for x in result["rnn"]["exponents"]),
        *result["advice"],
        f"optax.clip_by_global_norm({result['clipping']['norm']:.3g}) leaves ",
    ):
        assert words in printed


def test_pictures_are_written(ran):
    assert ran[1].with_name("flow.json.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in ran[1].with_name("flow.json.svg").read_bytes()


def problem_drawn(*given):
    """What a run with these options would measure."""
    parser = Parser()
    flow.add_parser(parser.add_subparsers())
    options = parser.parse_args(["flow", *SIZES, "--features", "3", "--hidden", "4", *given])
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, problem_of(options))


def test_a_drawn_model(text):
    scaled = ["--layers", "2", "--recurrent-scale", "2", "--forget-bias", "-3"]
    on_text = problem_drawn(*scaled, "--text", str(text))
    for layer in on_text.layers:
        gates = np.split(layer.recurrent_kernel, 4, axis=1)
        np.testing.assert_allclose([W @ W.T for W in gates], [4 * np.eye(4)] * 4, atol=1e-14)
        np.testing.assert_array_equal(layer.bias, np.repeat([0.0, -3.0, 0.0, 0.0], 4))
    on_noise = problem_drawn()
    assert [layer.input_kernel.shape for layer in on_noise.layers] == [(FEATURES, 4 * HIDDEN)]
    assert (np.linalg.norm(on_noise.d_h, axis=1) == 1).all()
    assert len(np.unique(on_noise.inputs)) == TIME * BATCH * FEATURES


def test_what_json_has_no_number_for_is_null():
    assert plain([[1.0, np.inf], [-np.inf, np.nan]]) == [[1.0, None], [None, None]]
    assert (plain(np.nan), plain(2)) == (None, 2.0)


def flow_of(rng, T=5, B=3, H=4, R=2, n=2):
    """A layer's flow of random numbers in float64."""

    def positive(*shape):
        return rng.uniform(0.5, 2.0, shape)

    paths = PathNorms(
        LSTMState(positive(T + 1, B), positive(T + 1, B)),
        LSTMState(positive(T + 1, B, 4, R + 1), positive(T + 1, B, 4, R + 1)),
        LSTMState(positive(T + 1, B), positive(T + 1, B)),
    )
    spectrum = Spectrum(*(rng.standard_normal(shape) for shape in ((T, B, n), (B, n), (B, n))))
    bounds = PathBounds(*rng.standard_normal((4, T + 1, B)))
    survival = -positive(T + 1, B, H)
    last = positive(B), positive(4, H)
    found = LayerFlow(paths, positive(T, B, 4), bounds, survival, -positive(H), spectrum, *last)
    with jax.enable_x64(True):
        return jax.tree.map(jnp.asarray, found)


def test_curves_are_medians_and_means_by_distance():
    layer = flow_of(np.random.default_rng(2))
    found, layer = curves(layer), jax.tree.map(np.asarray, layer)
    own, crossed, total = layer.paths
    summed = own.cell + crossed.cell.sum((2, 3))
    for k in (0, 3, 5):
        back = 5 - k
        assert found.hidden[k] == np.median(total.hidden[back])
        assert found.cell[k] == np.median(total.cell[back])
        for r, part in enumerate((own.cell, *np.moveaxis(crossed.cell.sum(2), -1, 0))):
            assert found.crossings[k, r] == pytest.approx((part / summed)[back].mean())
        by_gate = (crossed.cell.sum(3) / summed[..., None])[back].mean(0)
        assert found.first_gates[k] == pytest.approx(by_gate)
        assert found.cancellation[k] == pytest.approx(np.median((summed / total.cell)[back]))
        for which, bound in enumerate(layer.bounds[1:]):
            loose = np.median(bound[back] - layer.bounds.measured[back]) / np.log(10)
            assert found.looseness[k, which] == pytest.approx(loose)
        kept = np.median(layer.log_survival[back], axis=0) / np.log(10)
        assert found.survival[k] == pytest.approx(kept)


def test_curves_without_a_batch():
    layer = flow_of(np.random.default_rng(3), B=1)
    alone = jax.tree.map(lambda x: x[:, 0] if x.ndim > 1 and x.shape[1] == 1 else x, layer)
    for one, other in zip(curves(alone), curves(layer), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_hold_the_curves():
    rng = np.random.default_rng(4)
    report = GradientFlowReport((flow_of(rng), flow_of(rng)))
    contrast = RNNFlow(report.layers[0].paths.total.cell, report.layers[0].spectrum)
    places = plot_gradient_flow(report, contrast).axes
    named = {(axes.get_title("left"), axes.get_ylabel()): axes for axes in places}
    norms = named["Layer 2", "gradient norm"]
    hidden, cell, dashed = (line.get_ydata() for line in norms.lines)
    of_layer = curves(report.layers[1])
    np.testing.assert_array_equal(hidden, of_layer.hidden)
    np.testing.assert_array_equal(cell, of_layer.cell)
    np.testing.assert_array_equal(dashed, np.median(contrast.hidden, axis=1)[::-1])
    assert len(named["Layer 1", "gradient norm"].lines) == 2  # the RNN's dL/dh is the last layer's
    kept = [axes.images[0] for axes in places if axes.images][1]
    order = np.argsort(-report.layers[1].log_forget)
    np.testing.assert_array_equal(kept.get_array(), of_layer.survival.T[order])
    assert kept.get_clim() == (of_layer.survival.min(), 0)
    *grown, values = named["", "growth, in powers of ten"].lines[:3]
    spectrum = report.layers[1].spectrum
    in_tens = [np.median(x, axis=-2) / np.log(10) for x in (spectrum.growth, spectrum[-1])]
    np.testing.assert_array_equal([line.get_ydata() for line in grown], in_tens[0].T)
    np.testing.assert_array_equal(values.get_ydata(), in_tens[1])
    norms, exponents = plot_lstm_beside_rnn(report, contrast).axes
    assert [line.get_label() for line in norms.lines][-1] == "vanilla RNN"
    np.testing.assert_array_equal(norms.lines[1].get_ydata(), of_layer.hidden)
    second = np.median(report.layers[1].spectrum.exponents, axis=0)
    np.testing.assert_array_equal(exponents.lines[1].get_ydata(), second)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--checkpoint", "run"], "--checkpoint: expected --text FILE or --corpus NAME beside it."),
        (
            ["--checkpoint", "run", "--hidden", "4"],
            "--hidden: expected no --checkpoint beside it, which settles it.",
        ),
        (["--step", "3"], "--step: expected --checkpoint DIR beside it."),
        (["--plot", "flow.txt"], "--plot: expected a .png, .pdf or .svg file, got 'flow.txt'."),
        (["--plot-rnn", "a.txt"], "--plot-rnn: expected a .png, .pdf or .svg file, got 'a.txt'."),
        (["--checkpoint", "none"], "--checkpoint: expected a folder, got 'none'."),
        (
            ["--dtype", "float32", "--recurrent-scale", "1e300"],
            "--recurrent-scale: expected at most 3.4e+38 in float32, got 1e+300.",
        ),
        (["--hidden", "4", "--directions", "9"], "--directions: expected at most 2H = 8, got 9."),
    ],
)
def test_bad_input_gets_one_line(capsys, monkeypatch, tmp_path, given, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    assert main(["flow", *given]) == 2
    assert capsys.readouterr().err == f"jaxlstm flow: {told}\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--hidden 100000", "--layers 1 --hidden 100000 --features 16: expected parameters"),
        ("--features 1000000000", "--layers 1 --hidden 64 --features 1000000000: expected para"),
        ("--time 100000000", "--time 100000000 --batch 8: expected states and gradients of at"),
        ("--crossings 1000000000", "--time 100 --batch 8 --crossings 1000000000: expected norms"),
    ],
)
def test_what_does_not_fit_the_machine_is_refused(capsys, given, told):
    assert main(["flow", *given.split()]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"jaxlstm flow: {told}")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("--forget-bias", "inf", "expected a finite number, got 'inf'."),
        ("--seed", "9223372036854775808", "expected less than 2**63, got '9223372036854775808'."),
    ],
)
def test_numbers_out_of_range_get_one_line(capsys, option, given, told):
    with pytest.raises(SystemExit) as stopped:
        main(["flow", option, given])
    assert stopped.value.code == 2
    assert f"{option}: {told}" in capsys.readouterr().err


def test_a_text_that_does_not_fit_the_checkpoint(capsys, checkpoint, tmp_path):
    for content, told in (
        ("abcZ" * 30, "text: expected only the 10 characters of the vocabulary, got 'Z'."),
        ("abc", "text: expected at least 101 characters for a sequence of 100, got 3."),
    ):
        (path := tmp_path / "other.txt").write_text(content)
        assert main(["flow", "--checkpoint", str(checkpoint), "--text", str(path)]) == 2
        assert capsys.readouterr().err == f"jaxlstm flow: {told}\n"
