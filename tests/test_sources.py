"""The ledger: complete, judged by the machine as recorded, the same with every seed."""

import json
from collections import Counter

import numpy as np
import pytest

from jaxlstm.cli import main
from jaxlstm.sources import DOCUMENTS, judge_document
from jaxlstm.sources.document_000 import specific
from jaxlstm.sources.ledger import FAILS, HOLDS, Entry, judge
from jaxlstm.sources.references import citations, code_lines

FIFTY = range(1000, 1050)
ALONE = (*range(3), *range(500, 509))


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_is_judged_as_recorded(document):
    """On fifty draws, and with the same verdicts on any one alone."""
    judgements = judge_document(document, FIFTY)
    strange = [(j.entry.equation, j.entry.line, j.verdict) for j in judgements if not j.as_recorded]
    assert strange == []
    for judgement in judgements:
        assert_wrong_everywhere_and_corrected(judgement)
        assert_missing_terms_are_found(judgement)
        assert (judgement.reason is not None) == (judgement.verdict == "ill-formed")
        assert not judgement.entry.used_by or is_true(judgement)
    for seed in ALONE:
        verdicts = [j.verdict for j in judge_document(document, [seed])]
        assert verdicts == [j.verdict for j in judgements]


def is_true(judgement):
    """As printed, or else corrected."""
    return judgement.verdict in ("holds", "typographical") or judgement.corrected_error is not None


def assert_wrong_everywhere_and_corrected(judgement):
    if judgement.entry.truth is None:
        assert judgement.verdict == "holds" or judgement.least_error > 1 + FAILS
        return
    if judgement.verdict == "fails":
        assert judgement.least_error > FAILS
    if judgement.verdict in ("fails", "ill-formed", "supplied"):
        assert judgement.corrected_error <= HOLDS


def assert_missing_terms_are_found(judgement):
    """Each a whole number of times."""
    if judgement.entry.terms and judgement.wrong_entries:
        found = np.array(list(judgement.fit.values()))
        np.testing.assert_allclose(found, found.round(), atol=1e-6)
        assert found.round().any()


DISPLAYED = {
    "000": [[str(number)] for number in range(1, 34)],
    "001": [
        *(
            [f"forward {name}"]
            for name in ("i_t", "f_t", "e_t", "c~_t", "c_t", "h_t", "o_t", "p_t")
        ),
        *([name] for name in ("dL/do_t", "dL/dh_T", "dL/dc_T", "i_t", "dL/dh_t", "dL/dc_t")),
        ["g~_t", "g^_t"],
        [f"dL/d{gate}_t d{gate}_t/dh" for gate in ("i", "f", "e", "c~")],
        *([str(number)] for number in range(1, 10)),
    ],
    "002": [
        *([name] for name in ("dE/do^t", "dE/dc^t", "dc^t", "dE/di^t", "dE/da^t", "dE/df^t")),
        ["dE/dc^{t-1}"],
        *([f"dE/d{gate}hat^t"] for gate in "aifo"),
        ["Ihat = Theta I"],
        ["Ihat", "Theta", "I"],
        ["dTheta^t"],
        ["dE/dTheta"],
    ],
    "003": [
        *([name] for name in ("RNN product", "t_0", "h_t", "s_t", "t_0 by forget gates")),
        ["t_1", "bound of t_1"],
    ],
    "004": [
        *([name] for name in ("h_t", "dh_t/dh_t-1", "tanh(c_t)", "dtanh(c_t)/dh_t-1", "sigma")),
        *([name] for name in ("sigma'", "f_t", "df_t/dh_t-1", "argmax f_t", "argmax U_f h_t-1")),
        *([name] for name in ("theta", "direction")),
    ],
}
"""The displayed blocks' equations by document, numbered or under a label of ours.

Counted in the files, between double dollar signs: 000 displays 39 blocks, of which 6 are headings
and 33 its numbered equations; 001 displays 25, 002 displays 15, 003 displays 6; 004 displays 19,
which set out these 12 equations line by line.
"""
BLOCKS = {"000": 33, "001": 25, "002": 15, "003": 6, "004": 12}


@pytest.mark.parametrize("document", DISPLAYED)
def test_every_displayed_equation_has_an_entry(document):
    blocks = DISPLAYED[document]
    printed = {e.equation for e in DOCUMENTS[document].entries() if e.printed is not None}
    assert len(blocks) == BLOCKS[document]
    assert {equation for block in blocks for equation in block} <= printed


@pytest.mark.parametrize(
    ("equation", "fit"),
    [
        ("17", {"V_t of W_o": 1, "d(s_t) d(o'_t) ...": -1}),
        ("21", {"V_t of U_o": 1, "V_t of U_f": -1}),
        ("25", {"V_t of b_o": 1, "d(s_t) d(o'_t) ...": -1}),
    ],
)
def test_the_misprinted_term_is_fitted(equation, fit):
    (wrong,) = [
        judge(entry, map(DOCUMENTS["000"].draw, range(3)), range(3))
        for entry in DOCUMENTS["000"].entries()
        if entry.equation == equation and entry.line is None
    ]
    found = {term: c for term, c in wrong.fit.items() if abs(c) > 1e-9}
    assert found == pytest.approx(fit, abs=1e-9)


def test_the_twelve_share_M_and_N():
    """dh_t/dA less V_t is the same two matrices applied, whatever the parameter."""
    q = DOCUMENTS["000"].draw(3)
    M, N = specific.M_t(q), specific.N_t(q)
    for A in q.params:
        rest = q.by["h"][A][-1] - specific.V_t(q, A)
        shared = np.tensordot(M, q.by["h"][A][-2], 1) + np.tensordot(N, q.by["s"][A][-2], 1)
        np.testing.assert_allclose(rest, shared, rtol=0, atol=1e-14)


def test_unrolled_lines_are_not_true_by_construction():
    """(28) and (32) fail on a point whose derivatives are not those of its values."""
    q = DOCUMENTS["000"].draw(1)
    rng = np.random.default_rng(0)
    noise = {
        name: {A: rng.standard_normal(rows.shape) for A, rows in named.items()}
        for name, named in q.by.items()
    }
    for entry in DOCUMENTS["000"].entries():
        if entry.equation in ("28", "32") and entry.line == 2:
            assert judge(entry, [q._replace(by=noise)], [0]).printed_error > 1e-2


def plain(printed, truth=lambda q: q, **fields):
    """An entry about vectors of any size."""
    return Entry("000", "none", "x", printed=printed, truth=truth, **fields)


def test_a_wrong_record_is_told():
    judgement = judge(plain(lambda q: q + 1, verdict="holds"), [np.arange(1.0, 4.0)], [0])
    assert judgement.verdict == "fails"
    assert not judgement.as_recorded


def test_operands_that_do_not_fit_are_ill_formed_and_a_bug_is_not():
    draws = [np.ones(3), np.ones(5)]
    misfit = judge(plain(lambda q: q @ np.ones(4)), draws, [0])
    assert (misfit.verdict, misfit.printed_error) == ("ill-formed", None)
    assert "size 4 is different from 3" in misfit.to_json()["reason"]
    assert judge(plain(lambda q: q[None]), draws, [0]).reason == "expected shape (3,), got (1, 3)"
    assert judge(plain(lambda q: q + 0 * np.ones(5)), draws, [0]).verdict == "undecided"
    for entry in (
        plain(lambda q: q * int("x")),
        plain(lambda q: q, truth=lambda q: q @ np.ones(4)),
        plain(lambda q: q, corrected=lambda q: q @ np.ones(4)),
    ):
        with pytest.raises(ValueError, match=r"invalid literal|different from 3"):
            judge(entry, draws, [0])


def test_terms_are_fitted_only_where_the_draws_decide():
    draws = [np.arange(1.0, 4.0), np.arange(2.0, 5.0) ** 2]
    entry = plain(lambda q: -q, terms=lambda q: {"q": q, "1": np.ones_like(q)})
    assert judge(entry, draws, [0]).fit == pytest.approx({"q": 2, "1": 0})
    assert judge(entry, [np.ones(3)], [0]).fit == {}
    assert judge(entry, draws, [0]).wrong_at == ((0,), (1,), (2,))
    unexplained = plain(lambda q: -q, terms=lambda q: {"q^2": q**2})
    assert judge(unexplained, draws, [0]).fit == {}


def test_code_and_documents_cite_each_other():
    """The labels of the entries stand beside those equations in the code, and no others."""
    entries = [entry for module in DOCUMENTS.values() for entry in module.entries()]
    used = {(label, e.document, e.equation) for e in entries for label in e.used_by}
    assert citations() == used
    assert all(code_lines(label) for label, _, _ in used)
    labels = {f"{part}{n}" for part, last in zip("FDBRT", (7, 6, 8, 7, 3), strict=True)
              for n in range(1, last + 1)}  # fmt: skip
    assert {label for label, _, _ in used} == labels - {"R1"} | {"S5", "S6"}


def test_json_and_tables_of_all_documents(capsys, tmp_path):
    path = tmp_path / "lines.json"
    assert main(["sources", "--json", str(path), "--draws", "2"]) == 0
    printed = capsys.readouterr()
    assert "all as recorded" in printed.out
    assert printed.err.splitlines() == [f"judging document {name}" for name in DOCUMENTS]
    rows = json.loads(path.read_text())
    expected = {
        "document", "equation", "line", "reading", "kind", "statement", "verdict",
        "printed_error", "corrected_error", "note", "reason",
    }  # fmt: skip
    assert all(expected <= set(row) for row in rows)
    counts = Counter(row["document"] for row in rows)
    assert counts == {name: len(module.entries()) for name, module in DOCUMENTS.items()}
    (row,) = [r for r in rows if (r["document"], r["equation"], r["line"]) == ("000", "17", None)]
    assert row["verdict"] == "fails"
    assert row["printed_error"] > FAILS
    assert row["corrected_error"] <= HOLDS


def test_json_alone_on_standard_output(capsys):
    options = ["--document", "004", "--equation", "f_t", "--draws", "1"]
    assert main(["sources", "--json", "-", *options]) == 0
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)] == ["holds"]


def test_one_equation_in_full(capsys):
    assert main(["sources", "--document", "000", "--equation", "21", "--draws", "3"]) == 0
    printed = capsys.readouterr().out
    assert "-1.000 times V_t of U_f" in printed
    assert "wrong in 33% of the entries, such as [0, 0, 0], [0, 0, 1]" in printed
    assert "cannot be evaluated: shape-mismatch for sum" in printed
    assert "def _with_forget_gates_V" in printed


def test_each_function_is_shown_once(capsys):
    assert main(["sources", "--document", "001", "--equation", "dL/dc_t", "--draws", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    code = [line for line in lines if line.startswith("def ")]
    assert len(code) == len(set(code)) > 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--equation", "17"], "--equation: expected --document beside it."),
        (
            ["--document", "000", "--equation", "99"],
            "--equation: expected one that --document 000 lists, such as",
        ),
        (["--document", "005"], "--document: invalid choice: '005'"),
        (["--draws", "0"], "--draws: expected a whole number of at least 1, got '0'."),
    ],
)
def test_bad_input_gets_one_line(capsys, options, sentence):
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(main(["sources", *options]))
    printed = capsys.readouterr().err
    assert stopped.value.code == 2
    assert sentence in printed
    assert len(printed.strip().splitlines()) == 1
