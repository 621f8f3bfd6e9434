"""The ledger: it agrees with the code, and any edit of a row is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import get_type_hints

import pytest

from otr_core.errors import ClaimsError, DataError
from otr_paper.claims import ledger
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import CONDITIONAL, CONTRADICTED, NOT_TESTABLE, REPRODUCED, Evaluation, Reading


@pytest.fixture(scope="module")
def text(project):
    return (project.root / "data" / "claims.yaml").read_text()


@pytest.fixture(scope="module")
def rows(text):
    return ledger.parse_ledger(text)


@pytest.fixture(scope="module")
def grounds(project):
    """Shared by the tests of this module, none of which changes it: every stored result is read
    once."""
    return Grounds(project.data)


def test_every_claim_has_one_row_in_order(rows):
    assert [row.id for row in rows] == list(ledger.IDS)


def test_claims_that_follow_from_numbers_are_judged(rows):
    wanted = [f"L{n:02d}" for n in (*range(1, 19), 27, 29, 32, 35, 36, 37, 41)]
    verdicts = {row.id: row.verdict for row in rows}
    assert all(verdicts[claim] in (REPRODUCED, CONDITIONAL, CONTRADICTED) for claim in wanted)


def test_stored_ledger_is_what_the_code_computes(rows, grounds):
    assert ledger.check(rows, grounds) == []


def test_the_written_ledger_is_the_stored_one(rows, grounds, text):
    once = ledger.ledger_text(ledger.refreshed(row, ledger.evaluate(row, grounds)) for row in rows)
    assert once == text
    assert ledger.parse_ledger(once) == rows


@pytest.fixture(scope="module")
def functions(rows):
    """Claim function by claim, and what it takes."""
    found = {row.id: ledger.resolve(row.code) for row in rows}
    return {claim: (function, get_type_hints(function)) for claim, function in found.items()}


def test_every_claim_function_takes_published_rows_or_grounds(functions):
    for claim, (function, hints) in functions.items():
        assert function.__name__.startswith(f"{claim}_")
        assert hints in (
            {"published": Published, "return": Evaluation},
            {"grounds": Grounds, "return": Evaluation},
        ), claim


def test_a_function_of_published_rows_reads_nothing_else(functions, grounds, monkeypatch):
    published = grounds.published
    simple = [function for function, hints in functions.values() if "published" in hints]
    assert len(simple) >= 11  # four on security read the assumptions of the use cases too

    def refuse(*args, **kwargs):
        raise AssertionError(f"opened {args[0]}")

    for name in ("builtins.open", "io.open", "pathlib.Path.open", "pathlib.Path.read_text", "pathlib.Path.read_bytes"):
        monkeypatch.setattr(name, refuse)
    for function in simple:
        function(published)


def test_judging_one_row_judges_that_row_alone(rows, project, monkeypatch):
    called = []
    resolve = ledger.resolve
    monkeypatch.setattr(ledger, "resolve", lambda path: called.append(path) or resolve(path))
    # only other rows read these
    fresh = Grounds(project.data, results={"attacks": {}, "poq_adversary": {}})
    assert ledger.check_row(row_of(rows, "L18"), fresh) == []
    assert called == [row_of(rows, "L18").code]


def test_judging_the_whole_ledger_loads_numpy_and_nothing_heavier(project):
    code = (
        "import sys; from pathlib import Path; from otr_paper.claims import ledger; "
        "from otr_paper.claims.grounds import Grounds; data = Path(sys.argv[1]); "
        "assert ledger.check(ledger.read_ledger(data), Grounds(data)) == []; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(project.data)], capture_output=True, text=True, check=True)
    heavy = {"scipy", "pandas", "torch", "transformers", "matplotlib", "eth_keys", "ezkl", "otr_node"}
    assert not heavy & set(run.stdout.split())


def test_a_stored_result_without_its_card_is_refused(project, tmp_path):
    (tmp_path / "published").symlink_to(project.data / "published")
    (tmp_path / "results").mkdir()
    payload = json.loads((project.results / "disputes.json").read_text())["result"]
    (tmp_path / "results" / "disputes.json").write_text(json.dumps({"card": {}, "result": payload}))
    with pytest.raises(DataError, match="card"):
        Grounds(tmp_path).result("disputes")


def changed(rows, claim, **edits):
    return [replace(row, **edits) if row.id == claim else row for row in rows]


def row_of(rows, claim):
    return next(row for row in rows if row.id == claim)


def test_any_edit_of_a_judged_row_is_noticed(rows, grounds):
    row = row_of(rows, "L03")
    name, value = next(iter(row.computed.items()))
    edits = {
        "verdict": {"verdict": REPRODUCED},
        name: {"computed": {**row.computed, name: ledger.rounded(value * 1.00001)}},
        "computed names": {"computed": {**row.computed, "extra_s": 1.0}},
        "inputs": {"inputs": row.inputs[1:]},
        "assumption": {"assumption": None},
        "slowest_proof_s": {"assumption": {**row.assumption, "value": 30.6}},
        "rho": {"assumption": {**row.assumption, "name": "rho"}},
        "words": {"assumption": {**row.assumption, "text": " "}},
        "no verdict": {"verdict": None},
        "not found": {"code": "otr_paper.claims.latency.L03_nothing"},
        "named L03_": {"code": "otr_paper.claims.latency.L01_provisional_finality"},
    }
    for word, edit in edits.items():
        problems = ledger.check(changed(rows, "L03", **edit), grounds)
        assert problems, word
        assert all(problem.startswith("L03") for problem in problems)
        assert any(word in problem for problem in problems), (word, problems)


def test_the_smallest_kept_digit_is_noticed(rows, grounds):
    for claim, name in (("L32", "cheats_for_99pct_count"), ("L18", "at_15pct"), ("L08", "reduction")):
        stored = row_of(rows, claim).computed
        digits = f"{stored[name]:.5e}"
        # half a unit and more in the seventh digit is already another number
        nudged = float(digits.replace("e", "1e"))
        assert ledger.check(changed(rows, claim, computed={**stored, name: nudged * (1 + 1e-6)}), grounds)


def test_missing_twice_and_reasonless_rows_are_noticed(rows, grounds):
    assert "L07: found 0 rows, expected 1" in ledger.check([r for r in rows if r.id != "L07"], grounds)
    assert "L07: found 2 rows, expected 1" in ledger.check([*rows, row_of(rows, "L07")], grounds)
    assert row_of(rows, "L20").verdict == NOT_TESTABLE
    assert any("reason" in p for p in ledger.check(changed(rows, "L20", note=" "), grounds))
    assert any("no verdict" in p for p in ledger.check(changed(rows, "L01", verdict=""), grounds))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.L03_getcwd", "below otr_paper.claims"),
        ("otr_paper.claims.latency.weighted_latency", "found arguments"),
        ("otr_paper.claims.ledger.resolve.nothing", "not found"),
        ("otr_paper.claims.ledger.IDS", "expected a function"),
    ],
)
def test_code_that_judges_nothing_is_named(rows, grounds, code, message):
    with pytest.raises(ClaimsError, match=message) as error:
        ledger.evaluate(replace(row_of(rows, "L03"), code=code), grounds)
    assert code in str(error.value)


def test_a_new_assumption_waits_for_its_words(rows, grounds):
    row = replace(row_of(rows, "L03"), assumption=None)
    fresh = ledger.refreshed(row, ledger.evaluate(row, grounds))
    assert (fresh.assumption["name"], fresh.assumption["text"]) == ("slowest_proof_s", "")
    assert any("without words" in problem for problem in ledger.check_row(fresh, grounds))


def test_a_given_result_comes_before_the_stored_one(rows, project):
    attack = {"group": "answer", "attack": "cached answer", "caught_by": "nobody"}
    grounds = Grounds(project.data, results={"attacks": {"rows": [attack]}})
    row = ledger.refreshed(row_of(rows, "L25"), ledger.evaluate(row_of(rows, "L25"), grounds))
    assert (row.verdict, row.computed) == (CONTRADICTED, {"attacks_count": 1, "attacks_rejected_count": 0})


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
  code: otr_paper.claims.latency.L01_provisional_finality
  verdict: not testable here
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
        ("code: otr_paper.claims.latency.L01_provisional_finality", "code: null", "code"),
        ("verdict: not testable here", "verdict: proven", "verdict"),
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


def test_a_verdict_follows_from_the_readings():
    holds = Reading("plain", "a", 1.0, "s", "cited", True)
    fails = replace(holds, holds=False)
    other = replace(holds, name="other")
    gives_up = replace(other, replaces="the number")
    computed, limit = {"a": 1.0}, ("a", 1.0)
    assert Evaluation(computed, (holds,)).verdict == REPRODUCED
    assert Evaluation(computed, (fails, gives_up), limit).verdict == CONTRADICTED
    assert Evaluation(computed, (fails, other), limit).verdict == CONDITIONAL
    assert Evaluation(computed, (holds,), testable=False).verdict == NOT_TESTABLE
    with pytest.raises(ClaimsError, match="on no limit"):
        Evaluation(computed, (fails, other))
    with pytest.raises(ClaimsError, match="expected numbers"):
        Evaluation({}, (holds,))
    with pytest.raises(ClaimsError, match="expected numbers"):
        Evaluation(computed, ())
    with pytest.raises(ClaimsError, match="share a name"):
        Evaluation(computed, (holds, holds))
    with pytest.raises(ClaimsError, match="finite"):
        Evaluation({"a": float("nan")}, (holds,))
    with pytest.raises(ClaimsError, match="kind"):
        replace(holds, kind="guessed")
    with pytest.raises(ClaimsError, match="finite"):
        replace(holds, value=float("inf"))
