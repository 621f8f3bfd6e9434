"""The ledger: it agrees with the code, and any edit of a row is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.errors import ClaimsError
from otr_paper.claims import ledger, published
from otr_paper.claims.verdict import CONDITIONAL, CONTRADICTED, NOT_YET, REPRODUCED, Evaluation, Reading, judged
from otr_paper.press import claims_table

#: Modules whose claims follow from the published rows and, in ``quality``, one stored experiment.
ARITHMETIC = ("latency", "cost", "throughput", "quality", "security", "landscape")


def is_arithmetic(row):
    return (
        bool(row.code) and row.code.split(".")[:2] == ["otr_paper", "claims"] and row.code.split(".")[2] in ARITHMETIC
    )


@pytest.fixture(scope="module")
def text(project):
    return (project.root / "data" / "claims.yaml").read_text()


@pytest.fixture(scope="module")
def rows(text):
    return ledger.parse_ledger(text)


@pytest.fixture(scope="module")
def evaluate(project, rows):
    # Rows judged by running other parts are given as they are stored: only the published arithmetic is judged here.
    own = claims_table.evaluator(project)
    return lambda row: own(row) if is_arithmetic(row) else None


@pytest.fixture(scope="module")
def arithmetic(rows):
    """Rows judged by this package, with every other claim as a row that is not yet judged."""
    return [
        row if is_arithmetic(row) else replace(row, verdict=NOT_YET, note="elsewhere", computed={}, assumption=None)
        for row in rows
    ]


def test_every_claim_has_one_row_in_order(rows):
    assert [row.id for row in rows] == list(ledger.IDS)


def test_arithmetic_claims_are_judged(rows):
    wanted = [f"L{n:02d}" for n in (*range(1, 19), 27, 29, 32, 35, 36, 37, 41)]
    verdicts = {row.id: row.verdict for row in rows}
    assert all(verdicts[claim] in (REPRODUCED, CONDITIONAL, CONTRADICTED) for claim in wanted)


def test_stored_ledger_is_what_the_code_computes(arithmetic, evaluate):
    assert ledger.check(arithmetic, evaluate) == []


def test_refresh_is_stable(arithmetic, evaluate):
    once = ledger.refresh(arithmetic, evaluate)
    again = ledger.parse_ledger(once)
    assert ledger.check(again, evaluate) == []
    assert ledger.refresh(again, evaluate) == once


def changed(rows, claim, **edits):
    return [replace(row, **edits) if row.id == claim else row for row in rows]


def row_of(rows, claim):
    return next(row for row in rows if row.id == claim)


def test_any_edit_of_a_judged_row_is_noticed(arithmetic, evaluate):
    row = row_of(arithmetic, "L03")
    name, value = next(iter(row.computed.items()))
    edits = {
        "verdict": {"verdict": REPRODUCED},
        name: {"computed": {**row.computed, name: ledger.six_digits(value * 1.00001)}},
        "computed names": {"computed": {**row.computed, "extra_s": 1.0}},
        "inputs": {"inputs": row.inputs[1:]},
        "note": {"note": row.note + "!"},
        "assumption": {"assumption": None},
        "slowest_proof_s": {"assumption": {**row.assumption, "value": 30.6}},
        "no verdict": {"verdict": None},
        "no code": {"code": "otr_paper.claims.latency.L99_nothing"},
        "judges L01": {"code": "otr_paper.claims.latency.L01_provisional_finality"},
    }
    for word, edit in edits.items():
        problems = ledger.check(changed(arithmetic, "L03", **edit), evaluate)
        assert problems, word
        assert all(problem.startswith("L03") for problem in problems)
        if word not in ("no code",):
            assert any(word in problem for problem in problems), (word, problems)


def test_the_smallest_kept_digit_is_noticed(arithmetic, evaluate):
    for claim, name in (("L32", "cheats_for_99pct_count"), ("L18", "at_15pct"), ("L08", "reduction")):
        stored = row_of(arithmetic, claim).computed
        digits = f"{stored[name]:.5e}"
        nudged = float(digits.replace("e", "1e"))  # half a unit and more in the seventh digit is already another number
        assert ledger.check(changed(arithmetic, claim, computed={**stored, name: nudged * (1 + 1e-6)}), evaluate)


def test_missing_twice_and_reasonless_rows_are_noticed(arithmetic, evaluate):
    assert "L07: found 0 rows, expected 1" in ledger.check([r for r in arithmetic if r.id != "L07"], evaluate)
    assert "L07: found 2 rows, expected 1" in ledger.check([*arithmetic, row_of(arithmetic, "L07")], evaluate)
    assert any(
        "reason" in p for p in ledger.check(changed(arithmetic, "L01", verdict=NOT_YET, note=" ", code=None), evaluate)
    )
    assert any(
        "no code" in p for p in ledger.check(changed(arithmetic, "L01", verdict=REPRODUCED, code=None), evaluate)
    )
    assert any("no verdict" in p for p in ledger.check(changed(arithmetic, "L01", verdict=""), evaluate))


def test_code_outside_the_package_is_never_called(arithmetic, project):
    own = claims_table.evaluator(project)
    problems = ledger.check(changed(arithmetic, "L03", code="os.getcwd"), own)
    assert any("below otr_paper.claims" in problem for problem in problems)


def test_code_that_needs_more_than_published_rows_is_named(arithmetic, project):
    own = claims_table.evaluator(project)
    for code in ("otr_paper.claims.latency.weighted_latency", "otr_paper.claims.ledger.rounded.nothing"):
        problems = ledger.check(changed(arithmetic, "L03", code=code), own)
        assert any(code in problem for problem in problems)


def test_given_evaluations_come_first(arithmetic, project):
    reading = Reading("run", "receipts run here", 1.0, "1", "measured", True)
    given = judged("L23", {"rejected_share": 1.0}, (reading,))
    own = ledger.evaluator(published.load_published(project.root / "data"), {"L23": given})
    row = ledger.refreshed(row_of(arithmetic, "L23"), own(row_of(arithmetic, "L23")))
    assert (row.verdict, row.computed) == (REPRODUCED, {"rejected_share": 1.0})


ROW = """\
- id: L01
  claim: c
  made_in: m
  unit: s
  stated: 0.5
  relation: <
  kind: cited
  inputs: []
  rule: r
  tolerance: null
  code: null
  verdict: not yet evaluated
  computed: {}
  assumption: null
  note: n
  notebook: nb
  figure: F20
"""


def test_a_minimal_ledger_loads():
    assert ledger.parse_ledger(ROW)[0].as_dict()["stated"] == 0.5


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("  note: n\n", "", "note"),
        ("figure: F20", "figure: F20\n  colour: red", "colour"),
        ("id: L01", "id: L43", "id"),
        ("stated: 0.5", "stated: .nan", "stated"),
        ("stated: 0.5", "stated: true", "stated"),
        ("relation: <", "relation: near", "relation"),
        ("kind: cited", "kind: guessed", "kind"),
        ("inputs: []", "inputs: otr.rho", "inputs"),
        ("inputs: []", "inputs: [1]", "inputs"),
        ("tolerance: null", "tolerance: small", "tolerance"),
        ("code: null", "code: 3", "code"),
        ("verdict: not yet evaluated", "verdict: proven", "verdict"),
        ("computed: {}", "computed: {a: .inf}", "computed"),
        ("computed: {}", "computed: [1]", "computed"),
        ("assumption: null", "assumption: {name: a}", "assumption"),
        ("assumption: null", "assumption: {name: a, value: x, unit: s, text: t}", "assumption"),
        ("claim: c", "claim: ' '", "claim"),
        ("note: n", "note: n\n  note: m", "note"),
        ("claim: c", "claim: [", "YAML"),
    ],
)
def test_a_malformed_row_is_refused_by_row_and_key(old, new, names):
    assert old in ROW
    with pytest.raises(ClaimsError, match=names):
        ledger.parse_ledger(ROW.replace(old, new, 1))


@pytest.mark.parametrize("text", ["a: 1", "- 3", "", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_ledger_is_refused(text):
    with pytest.raises(ClaimsError):
        ledger.parse_ledger(text)


def test_an_evaluation_must_agree_with_its_readings():
    holds = Reading("plain", "a", 1.0, "s", "cited", True)
    fails = replace(holds, holds=False)
    other = replace(holds, name="other")
    gives_up = replace(other, replaces="the number")
    assert judged("L01", {"a": 1.0}, (holds,)).verdict == REPRODUCED
    assert judged("L01", {"a": 1.0}, (fails, gives_up)).verdict == CONTRADICTED
    with pytest.raises(ClaimsError, match="assumption"):
        judged("L01", {"a": 1.0}, (fails, other))
    with pytest.raises(ClaimsError, match="readings say"):
        Evaluation("L01", REPRODUCED, {"a": 1.0}, (fails, other))
    with pytest.raises(ClaimsError, match="without computed"):
        Evaluation("L01", REPRODUCED, {}, (holds,))
    with pytest.raises(ClaimsError, match="note"):
        Evaluation("L01", NOT_YET)
    with pytest.raises(ClaimsError, match="verdict"):
        Evaluation("L01", "proven")
    with pytest.raises(ClaimsError, match="share a name"):
        judged("L01", {"a": 1.0}, (holds, holds))
    with pytest.raises(ClaimsError, match="finite"):
        judged("L01", {"a": float("nan")}, (holds,))
    with pytest.raises(ClaimsError, match="kind"):
        replace(holds, kind="guessed")
    with pytest.raises(ClaimsError, match="finite"):
        replace(holds, value=float("inf"))
