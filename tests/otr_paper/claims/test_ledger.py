"""The ledger: it agrees with the code, and any edit of a row is noticed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import get_type_hints

import pytest

from otr_core.errors import ClaimsError, DataError
from otr_paper.claims import ledger, power
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.rows import IDS, parse_ledger
from otr_paper.claims.verdict import (
    ARITHMETIC,
    CONDITIONAL,
    CONTRADICTED,
    NOT_TESTABLE,
    REPRODUCED,
    UNDEFINED,
    Condition,
    Evaluation,
    Rule,
)


@pytest.fixture(scope="module")
def text(project):
    return (project.root / "data" / "claims.yaml").read_text()


@pytest.fixture(scope="module")
def rows(text):
    return parse_ledger(text)


@pytest.fixture(scope="module")
def grounds(project):
    """Shared by the tests of this module, none of which changes it: every stored result is read
    once."""
    return Grounds(project.data)


def test_every_claim_has_one_row_in_order(rows):
    assert [row.id for row in rows] == list(IDS)


def test_what_no_text_claims_is_not_reproduced(rows):
    assert {row.id for row in rows if row.verdict == ARITHMETIC} == {"L12", "L13", "L21", "L32"}
    assert all(row.origin == "ours" for row in rows if row.verdict == ARITHMETIC)
    assert all(row.origin in ("texts", "others") for row in rows if row.verdict == REPRODUCED)


def test_a_claim_of_the_texts_is_stated_by_them_and_not_by_our_own_measurement(rows, grounds):
    """L34 once stated, and was flipped by, the growth that this project measured."""
    assert row_of(rows, "L34").stated_rows == ("read.n_log_n",)
    for row in rows:
        if row.origin == "texts":
            for name in ("zk.project.growth_n_log_n", "poq.judge_large_cpu"):
                (problem,) = ledger.check_row(replace(row, stated_rows=(name,)), grounds)
                assert name in problem
                assert "expected one of" in problem


def test_every_verdict_flips_somewhere_and_the_row_says_where(rows, grounds):
    """Apart from ``power.flips``: every stated number, scaled from a thousandth to a thousand times."""
    for row in rows:
        judge = partial(ledger.evaluate, row)
        steps = range(-24, 25)
        tried = {step: power.judged_at(judge, grounds, row.stated_rows, 10 ** (step / 8)) for step in steps}
        others = {step for step, one in tried.items() if one and one.verdict != row.verdict}
        assert others, row.id
        unit = ledger.stated_unit(row, grounds.published)
        base = grounds.published[row.stated_rows[0]].bounds(unit)[0]
        assert any(row.flips.values())
        for side, sign in (("below", -1), ("above", 1)):
            if row.flips[side] is None:
                assert not any(step * sign > 0 for step in others), (row.id, side)
            if flip := row.flips[side]:
                factor = flip["at"] / base
                inside, beyond = factor * (1 - sign * 1e-4), factor * (1 + sign * 1e-4)
                if abs(math.log(factor)) > 1e-3:  # an equality holds at its number alone
                    assert power.judged_at(judge, grounds, row.stated_rows, inside).verdict == row.verdict, row.id
                assert power.judged_at(judge, grounds, row.stated_rows, beyond).verdict == flip["verdict"], row.id


def test_no_reading_holds_whatever_is_put_in(rows, grounds):
    """A reading that holds must fail when the stated number, or a published row it uses, is far enough
    off. Counts of what was tried here hang on stored results, which other tests change."""
    held = 0
    for row in rows:
        judge, found = partial(ledger.evaluate, row), ledger.evaluate(row, grounds)
        holding = {one.name for one in found.all_readings() if one.holds and one.kind != "measured"}
        held += len(holding)
        sources = {source for one in found.all_readings() for source in one.sources}
        for names in [row.stated_rows, *((source,) for source in sorted(sources))]:
            for step in range(-24, 25):
                if holding and (other := power.judged_at(judge, grounds, names, 10 ** (step / 4))):
                    holding -= {one.name for one in other.all_readings() if not one.holds}
            for factor in (1.5, 1.8, 2.2, 2.8):
                if holding and (other := power.judged_at(judge, grounds, names, factor)):
                    holding -= {one.name for one in other.all_readings() if not one.holds}
        assert not holding, (row.id, holding)
    assert held > 40


def test_no_value_of_evidence_is_made_of_the_claims_own_number(rows, grounds):
    """Where the stated number is asked of a value, the value stays when the number is scaled."""
    # what these state is what they are judged at: a rate, a slash, a printed figure; L17 counts what lies in its band
    parameters = {"L02", "L17", "L29", "L30", "L31", "L36", "L38", "L40", "L41"}
    for row in rows:
        before = {one.name: one.value for one in ledger.evaluate(row, grounds).all_readings()}
        after = ledger.evaluate(row, grounds.variant(dict.fromkeys(row.stated_rows, 0.9)))
        moved = {one.name for one in after.all_readings() if one.value != before[one.name]}
        assert bool(moved) == (row.id in parameters), (row.id, moved)


def test_prices_vary_inside_what_others_print_and_fill_the_range(grounds):
    rows = ("gas.eth_usd", "gpu.h100_median")
    points = power.price_points(grounds.published, rows)
    ether = sorted(2000 * point["gas.eth_usd"] for point in points)
    hours = sorted(2.95 * point["gpu.h100_median"] for point in points)
    assert 1500 <= ether[0] < 1600
    assert 4200 < ether[-1] <= 4500
    assert 1.99 <= hours[0] < hours[-1] <= 5.0
    assert len(set(ether)) == power.POINTS
    # both axes at once: every quarter of the plane is met
    middles = (2000 * 1.5**0.5 * 0.75**0.5 * 1.5**0.5, (1.99 * 5) ** 0.5)
    assert len({(2000 * p["gas.eth_usd"] > middles[0], 2.95 * p["gpu.h100_median"] > middles[1]) for p in points}) == 4


def test_a_verdict_that_hangs_on_a_price_does_not_stand_in_all_of_its_range(rows, grounds):
    stands = {row.id: row.stands["prices"] for row in rows}
    assert 0.5 < stands["L10"] < 1
    assert stands["L09"] == 1
    judge = partial(ledger.evaluate, row_of(rows, "L10"))
    dear = judge(grounds.variant({"gas.eth_usd": 2750 / 2000}))
    assert (judge(grounds).verdict, dear.verdict) == (CONDITIONAL, REPRODUCED)


def test_stored_ledger_is_what_the_code_computes(rows, grounds):
    assert ledger.check(rows, grounds) == []


def test_the_written_ledger_is_the_stored_one(rows, grounds, text):
    once = ledger.ledger_text(ledger.refreshed(row, grounds) for row in rows)
    assert once == text
    assert parse_ledger(once) == rows


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
    assert len(simple) >= 7  # the others read stored results, or the assumptions of the use cases

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
    assert set(called) == {row_of(rows, "L18").code}


def test_judging_the_whole_ledger_loads_numpy_and_nothing_heavier(project):
    code = (
        "import sys; from pathlib import Path; from otr_paper.claims import ledger; "
        "from otr_paper.claims.rows import read_ledger; "
        "from otr_paper.claims.grounds import Grounds; data = Path(sys.argv[1]); "
        "assert ledger.check(read_ledger(data), Grounds(data)) == []; "
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
        "conditions": {"conditions": row.conditions[1:]},
        "gives_up": {"conditions": ({**row.conditions[0], "gives_up": ""}, *row.conditions[1:])},
        "follows": {"follows": {**row.follows, "holds": True}},
        "evidence": {"evidence": {**row.evidence, "meets": row.evidence["meets"] + 1}},
        "flips": {"flips": {**row.flips, "above": {"at": 0.81, "verdict": REPRODUCED}}},
        "at every stated number": {"flips": {"below": None, "above": None}},
        "stands": {"stands": {"prices": 1.0, "sources": None}},
        "made_in": {"made_in": "arXiv:2512.20176"},
        "stated": {"stated": 12.5},
        "rule": {"rule": "plain mean: below 13 s"},
        "kind": {"kind": "measured"},
        "why": {"why": " "},
        "no verdict": {"verdict": None},
        "not found": {"code": "otr_paper.claims.latency.L03_nothing"},
        "named L03_": {"code": "otr_paper.claims.latency.L01_provisional_finality"},
    }
    for word, edit in edits.items():
        problems = ledger.check_row(row_of(changed(rows, "L03", **edit), "L03"), grounds)
        assert problems, word
        assert all(problem.startswith("L03") for problem in problems)
        assert any(word in problem for problem in problems), (word, problems)


def test_the_smallest_kept_digit_is_noticed(rows, grounds):
    for claim, name in (("L32", "cheats_for_99pct_count"), ("L18", "at_15pct"), ("L08", "reduction")):
        stored = row_of(rows, claim).computed
        digits = f"{stored[name]:.5e}"
        # half a unit and more in the seventh digit is already another number
        nudged = float(digits.replace("e", "1e"))
        edited = replace(row_of(rows, claim), computed={**stored, name: nudged * (1 + 1e-6)})
        assert ledger.check_row(edited, grounds)


def test_missing_twice_and_reasonless_rows_are_noticed(rows, grounds):
    assert "L07: found 0 rows, expected 1" in ledger.check([r for r in rows if r.id != "L07"], grounds)
    assert "L07: found 2 rows, expected 1" in ledger.check([*rows, row_of(rows, "L07")], grounds)
    assert row_of(rows, "L20").verdict == NOT_TESTABLE
    assert any("reason" in p for p in ledger.check_row(replace(row_of(rows, "L20"), why=" "), grounds))
    assert any("no verdict" in p for p in ledger.check_row(replace(row_of(rows, "L01"), verdict=""), grounds))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.L03_getcwd", "below otr_paper.claims"),
        ("otr_paper.claims.latency.weighted_latency", "found arguments"),
        ("otr_paper.claims.ledger.resolve.nothing", "not found"),
        ("otr_paper.claims.rows.IDS", "expected a function"),
    ],
)
def test_code_that_judges_nothing_is_named(rows, grounds, code, message):
    with pytest.raises(ClaimsError, match=message) as error:
        ledger.evaluate(replace(row_of(rows, "L03"), code=code), grounds)
    assert code in str(error.value)


def test_a_given_result_comes_before_the_stored_one(rows, project):
    attack = {"group": "answer", "attack": "cached answer", "caught_by": "nobody"}
    grounds = Grounds(project.data, results={"attacks": {"rows": [attack]}})
    row = ledger.refreshed(row_of(rows, "L25"), grounds)
    assert (row.verdict, row.computed) == (CONTRADICTED, {"attacks_count": 1, "attacks_rejected_count": 0})


ROW = """\
- id: L01
  claim: c
  origin: texts
  made_in: m
  unit: s
  stated: 0.5
  relation: <
  stated_rows: [otr.provisional]
  kind: cited
  inputs: []
  rule: r
  code: otr_paper.claims.latency.L01_provisional_finality
  verdict: not testable here
  why: w
  follows: null
  evidence: null
  conditions: []
  flips: {below: null, above: null}
  stands: {prices: null, sources: null}
  computed: {}
  note: n
  notebook: nb
  figure: F20
"""


def test_a_minimal_ledger_loads():
    assert parse_ledger(ROW)[0].as_dict()["stated"] == 0.5


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
        ("origin: texts", "origin: nobody", "origin"),
        ("stated_rows: [otr.provisional]", "stated_rows: []", "stated_rows"),
        ("follows: null", "follows: yes", "follows"),
        ("evidence: null", "evidence: {meets: 1}", "evidence"),
        ("flips: {below: null, above: null}", "flips: {}", "flips"),
        ("code: otr_paper.claims.latency.L01_provisional_finality", "code: null", "code"),
        ("verdict: not testable here", "verdict: proven", "verdict"),
        ("computed: {}", "computed: {a: .inf}", "computed"),
        ("computed: {}", "computed: [1]", "computed"),
        ("conditions: []", "conditions: [{name: a}]", "conditions"),
        ("claim: c", "claim: ' '", "claim"),
        ("note: n", "note: n\n  note: m", "note"),
        ("claim: c", "claim: [", "YAML"),
    ],
)
def test_a_malformed_row_is_refused_by_row_and_key(old, new, names):
    assert old in ROW
    with pytest.raises(ClaimsError, match=names):
        parse_ledger(ROW.replace(old, new, 1))


@pytest.mark.parametrize("text", ["a: 1", "- 3", "", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_ledger_is_refused(text):
    with pytest.raises(ClaimsError):
        parse_ledger(text)


def test_a_verdict_follows_from_the_readings():
    rule = Rule("s", "<=", 2.0)
    holds, fails = rule.cited("plain", "a", 1.0), rule.cited("plain", "a", 3.0)
    met, missed = (Condition("b", "words", rule, (rule.cited("row", "a", value),)) for value in (1.0, 5.0))
    computed = {"a": 1.0}
    assert Evaluation(computed, (holds,)).verdict == REPRODUCED
    assert Evaluation(computed, (holds,), settles=NOT_TESTABLE).verdict == NOT_TESTABLE
    assert Evaluation(computed, (fails,), settles=NOT_TESTABLE).verdict == CONTRADICTED
    assert Evaluation(computed, (fails,)).verdict == CONTRADICTED
    assert Evaluation(computed, (fails,), (met,)).verdict == CONDITIONAL
    # a condition counts when some row meets it, and no stated number is given up
    assert Evaluation(computed, (fails,), (missed,)).verdict == CONTRADICTED
    assert Evaluation(computed, (fails,), (replace(met, rows=()),)).verdict == CONTRADICTED
    assert Evaluation(computed, (fails,), (replace(met, gives_up="the number"),)).verdict == CONTRADICTED
    other = replace(fails, name="other")
    assert Evaluation(computed, (holds, other), meanings=2).verdict == UNDEFINED
    assert Evaluation(computed, (holds, replace(holds, name="other")), meanings=2).verdict == REPRODUCED
    assert Evaluation(computed, (fails, other), meanings=2).verdict == CONTRADICTED
    assert (missed.nearest.value, missed.nearest.factor) == (5.0, 2.5)
    for error, make in (
        ("expected numbers", lambda: Evaluation({}, (holds,))),
        ("expected numbers", lambda: Evaluation(computed, ())),
        ("share a name", lambda: Evaluation(computed, (holds, holds))),
        ("finite", lambda: Evaluation({"a": float("nan")}, (holds,))),
        ("settles", lambda: Evaluation(computed, (holds,), settles=CONTRADICTED)),
        ("kind", lambda: replace(holds, kind="guessed")),
        ("finite", lambda: replace(holds, value=float("inf"))),
        ("relation", lambda: Rule("s", "near", 1.0)),
        ("another rule", lambda: Condition("b", "words", Rule("s", "<", 1.0), (holds,))),
    ):
        with pytest.raises(ClaimsError, match=error):
            make()


@pytest.mark.parametrize(
    ("relation", "value", "holds", "factor"),
    [
        ("<", 2.0, False, 1.0), ("<=", 2.0, True, 1.0), (">", 2.0, False, 1.0), (">=", 2.0, True, 1.0),
        ("<", 4.0, False, 2.0), (">", 1.0, False, 2.0), ("=", 2.4, True, 1.2), ("=", 3.0, False, 1.5),
        ("=", 1.0, False, 2.0), ("in", 3.0, True, 1.0), ("in", 8.0, False, 2.0), ("in", 1.0, False, 2.0),
        ("<", 0.0, True, None),
    ],
)  # fmt: skip
def test_what_a_rule_asks_and_by_what_a_value_misses_it(relation, value, holds, factor):
    rule = Rule("s", relation, 2.0, slack=0.5, top=4.0)
    assert rule.holds(value) == holds
    assert rule.factor(value) == (factor if factor is None else pytest.approx(factor))


def test_a_source_left_out_takes_its_readings_with_it():
    rule = Rule("s", "<=", 2.0)
    fails = rule.cited("plain", "a", 3.0, "p")
    row = Condition("b", "words", rule, (rule.cited("row", "a", 1.0, "q"), rule.cited("other", "a", 1.0, "r")))
    found = Evaluation({"a": 1.0}, (fails,), (row,))
    assert found.without("p") is None
    assert found.without("q").verdict == CONDITIONAL
    assert found.without("q").without("r").verdict == CONTRADICTED
