"""Four systems on the same answers: what is stored follows from the rules; other measurements would
say otherwise."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_node.project import find_project
from otr_paper.benches.comparison import Comparison
from otr_paper.benches.network import stored_network_run
from otr_paper.benches.workbench import Workbench
from otr_paper.claims import trilemma as four
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.rows import read_ledger
from otr_paper.poq.judges import lexical_judge
from otr_paper.poq.questions import comparison_questions, held_out_questions, is_right
from otr_paper.series import trilemma as series

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def stored(project):
    return four.read_inputs(Grounds(project.data))


@pytest.fixture
def inputs(stored):
    return replace(stored, payload=copy.deepcopy(stored.payload))


@given(SCORES)
def test_a_threshold_rejects_no_more_honest_answers_than_it_may(scores):
    assert four.rejected(scores, four.score_threshold(scores)) <= four.FALSE_ALARMS * len(scores)


@given(SCORES)
def test_the_threshold_is_the_highest_such(scores):
    above = [score for score in scores if score > four.score_threshold(scores)]
    assert all(four.rejected(scores, score) > four.FALSE_ALARMS * len(scores) for score in above)


@given(SCORES)
def test_equal_answers_win_half_and_better_ones_always(scores):
    assert four.win_rate(scores, scores) == 0.5
    assert four.win_rate([score + 1 for score in scores], scores) == 1.0
    assert four.win_rate(scores, [score + 1 for score in scores]) == 0.0


def test_the_stored_run_is_what_the_questions_say(stored):
    questions = comparison_questions(stored.payload["seeds"])
    rows = stored.payload["rows"]
    assert len(rows) == len(questions) == 32
    for question, row in zip(questions, rows, strict=True):
        assert row["kind"] == question.kind
        assert row["right"] == is_right(question, row["text"])
        assert row["frauds"].keys() == set(four.FRAUDS)
        assert all(one["right"] == is_right(question, one["text"]) for one in row["frauds"].values())
        assert not row["prompt_in_receipt"]
        assert row["answer_tokens"] <= stored.payload["most_tokens"]
        assert row["positions"] == row["prompt_tokens"] + row["answer_tokens"] - 1
        assert row["frauds"]["one value altered"]["text"] == row["text"]
        assert row["frauds"]["answer replaced"]["text"] != row["text"]
    for number, row in enumerate(rows):
        assert row["frauds"]["another answer replayed"]["text"] == rows[(number + 1) % 32]["text"]
    scores = stored.payload["judges"]["scores"]["lexical"]
    assert lexical_judge(questions, [row["text"] for row in rows]) == pytest.approx(scores["honest"], abs=1e-5)
    false = [row["frauds"]["answer replaced"]["text"] for row in rows]
    assert lexical_judge(questions, false) == pytest.approx(scores["answer replaced"], abs=1e-5)


def test_who_catches_what(stored):
    found = four.integrity(stored)
    assert four.caught_share(found, "OTR", "working", "receipt") == 1.0
    assert four.caught_share(found, "OTR", "broken", "receipt") == 0.0
    assert four.caught_share(found, "OTR", "broken", "re-execution") == 1.0
    assert four.caught_share(found, "opML", "none", "re-execution") == 1.0
    assert 0 < four.caught_share(found, "PoQ", "none", "judge: question") < 1
    assert four.false_alarms(stored)["receipt"] == four.false_alarms(stored)["re-execution"] == 0
    assert {row["verdict"] for row in stored.payload["disputes"].values()} == {"OPERATOR_LOSES"}
    assert [one["refused_by"] for one in stored.payload["spot_checks"].values()] == ["weights", ""]
    # the same text: no judge of texts can tell, whatever its threshold
    same = [one for one in series.judged_frauds(stored) if one["fraud"] == "one value altered"]
    assert all(one["win_rate"] == 0.5 and one["caught"] <= 1 for one in same)
    assert all(one["ratio"] == 1.0 for one in series.pay(stored) if one["fraud"] == "one value altered")


def test_cost_aware_pay_by_hand(stored):
    scores = stored.payload["judges"]["scores"]["question"]
    honest = sum(scores["honest"]) / 32 - 0.5
    cheap = sum(scores["layers dropped"]) / 32 - 0.5 * 20 / 30
    free = sum(scores["another answer replayed"]) / 32
    ratios = {one["fraud"]: one["ratio"] for one in series.pay(stored) if one["formula"] == "cost-aware"}
    assert ratios["layers dropped"] == pytest.approx(cheap / honest)
    assert ratios["another answer replayed"] == pytest.approx(free / honest)
    table = series.pay_table(stored)
    assert [row["fraud"] for row in table] == list(four.FRAUDS)
    assert {row["pay, mean"] for row in table if row["fraud"] == "one value altered"} == {"1.00"}


def test_a_spot_check_is_worth_what_the_fraud_breaks(stored):
    drawn = {fraud: four.drawn_detection(stored, fraud) for fraud in four.FRAUDS}
    assert drawn["8-bit weights"] == pytest.approx(0.96709, abs=1e-5)
    assert 0 < drawn["one value altered"] < 1e-5
    assert drawn["answer replaced"] == drawn["another answer replayed"] == 0
    more = four.drawn_detection(replace(stored, units=16), "8-bit weights")
    assert drawn["8-bit weights"] < more < 1


def test_the_ledgers_note_counts_what_was_measured(project):
    row = next(row for row in read_ledger(project.data) if row.id == "L42")
    questions = len(Grounds(project.data).result(four.RESULT)["rows"])
    assert row.note.startswith(f"{questions} questions, {len(four.FRAUDS)} frauds in each")
    assert f"no more than {four.FAST:g} times those of answering alone" in row.note


def test_l42_hangs_on_the_tee(project):
    found = four.L42_trilemma(Grounds(project.data))
    assert found.verdict == "conditional"
    assert [reading.holds for reading in found.readings] == [False, False, False]
    assert found.conditions[0].met
    assert found.computed["goals_working_tee_count"] == 3
    assert found.computed["most_goals_of_others_count"] == 2


def _miss(payload):
    payload["rows"][3]["frauds"]["8-bit weights"]["working_tee"] = ""


def _false_alarm(payload):
    payload["rows"][3]["receipt_check"] = "freshness"


def _slow(payload):
    for row in payload["rows"]:
        row["cpu_s"]["verify"] += 2


@pytest.mark.parametrize("change", [_miss, _false_alarm, _slow])
def test_one_goal_missed_with_a_working_tee_contradicts_l42(inputs, change):
    change(inputs.payload)
    assert four.judge_trilemma(inputs).verdict == "contradicted"


def test_another_system_with_all_three_contradicts_l42(inputs):
    inputs = replace(inputs, window_s=0.1)  # re-execution at once: opML would have all three
    assert four.judge_trilemma(inputs).verdict == "contradicted"


def test_a_broken_tee_that_gets_nothing_past_the_receipt_reproduces_l42(inputs):
    for row in inputs.payload["rows"]:
        for fraud in row["frauds"].values():
            fraud["broken_tee"] = "signature"
    assert four.judge_trilemma(inputs).verdict == "reproduced"


def test_table_and_timeline(stored):
    table = series.systems_table(stored)
    assert [row["goals"] for row in table][:2] == ["3 of 3", "2 of 3"]
    assert all(row["system"] and row["latency"] and row["privacy"] for row in table)
    events = series.timeline(stored, stored_network_run(find_project()))
    assert all(event["end_s"] >= event["start_s"] for event in events)
    assert {event["kind"] for event in events} == {"measured", "simulated"}
    assert list(dict.fromkeys(event["answer"] for event in events)) == ["honest", "cheated", "spot check"]
    window = next(event for event in events if event["event"].startswith("window over"))
    assert window["end_s"] - window["start_s"] > stored.window_s
    assert events[-1]["end_s"] - events[-5]["start_s"] > 2 * stored.round_s
    assert [series.duration(x) for x in (0.0065, 1.66, 90, 7200, 86_400)] == [
        "6.5 ms",
        "1.7 s",
        "1.5 min",
        "2 h",
        "1 day",
    ]


def test_one_question_on_the_tiny_model(project, tiny, monkeypatch):
    """Every fraud, as an operator with the attested key states it: in the ordered model's shape, of
    the ordered prompt, of a length that the order allows."""
    monkeypatch.setattr(Workbench, "of", lambda project, report, **fields: Workbench(tiny, **fields))
    questions = held_out_questions(20251223, 2)
    work = Comparison(project, questions[0], 6)
    cases = [work.honest(question, number) for number, question in enumerate(questions)]
    row = work.row(cases[0], cases[1], 0)
    assert row["receipt_check"] == row["re_execution"] == ""
    assert not row["prompt_in_receipt"]
    found = {name: (one["working_tee"], one["broken_tee"], one["re_execution"]) for name, one in row["frauds"].items()}
    assert found == {
        "layers dropped": ("measured-model", "", "trace"),
        "8-bit weights": ("measured-model", "", "trace"),
        "one value altered": ("signature", "", "trace"),
        "answer replaced": ("response-digest", "", "token"),
        "another answer replayed": ("order", "", "trace"),
    }


@pytest.mark.model
@pytest.mark.slow
def test_one_question_live(project):
    questions = held_out_questions(20251223, 2)
    work = Comparison(project, questions[0], 3)
    cases = [work.honest(question, number) for number, question in enumerate(questions)]
    row = work.row(cases[0], cases[1], 0)
    assert row["receipt_check"] == row["re_execution"] == ""
    assert not row["prompt_in_receipt"]
    for fraud in row["frauds"].values():
        assert fraud["working_tee"] in {"measured-model", "signature", "response-digest", "order"}
        assert fraud["broken_tee"] == ""
        assert fraud["re_execution"] in {"trace", "token"}
