"""L26 and L28 follow the stored disputes, and another outcome would be another verdict."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from otr_paper.claims.disputes import L26_false_answer_slashed, L28_only_diverging_opened
from otr_paper.claims.grounds import Grounds
from otr_paper.series import disputes
from otr_paper.store.results import read_result
from otr_paper.studies.dispute_costs import TERMS


@pytest.fixture
def stored(project):
    return {name: copy.deepcopy(read_result(project.results, name)[1]) for name in ("disputes", "tolerance")}


@pytest.fixture
def grounds(project, stored):
    return Grounds(project.data, results=stored)


def test_claims_follow_what_was_played(grounds):
    slashed, played = L26_false_answer_slashed(grounds), grounds.result("disputes")["disputes"]
    assert slashed.verdict == "conditional"
    assert slashed.computed["slashed_count"] == slashed.computed["disputes_count"] == len(played)
    assert len({row["cheat"] for row in played}) == 24
    assert L28_only_diverging_opened(grounds).verdict == "conditional"


def test_one_dispute_that_ends_otherwise_is_told(stored, grounds):
    stored["disputes"]["disputes"][3]["verdict"] = "CHALLENGER_LOSES"
    assert L26_false_answer_slashed(grounds).verdict == "contradicted"
    for lane in stored["tolerance"]["lanes"].values():
        for attack in lane["adversary"]:
            attack["flipped"] = False
    assert L26_false_answer_slashed(grounds).verdict == "reproduced"


def test_opening_much_of_the_trace_would_contradict_l28(stored, grounds):
    stored["disputes"]["disputes"][0]["published"] = stored["disputes"]["trace_values"] // 10
    assert L28_only_diverging_opened(grounds).verdict == "contradicted"


def test_the_stored_disputes_keep_the_bars(stored):
    payload = stored["disputes"]
    assert payload["answer_tokens"] >= 64
    for row in payload["disputes"]:
        assert row["verdict"] == "OPERATOR_LOSES"
        assert row["rounds"] <= row["rounds_expected"] <= row["rounds_bound"], row["cheat"]
        # The choice of a token has more accumulators than one list shows; its finish may stand alone in the first.
        assert row["rounds"] == row["rounds_expected"] or row["operator"] == "choice", row["cheat"]
        assert row["gas_leaf"] <= disputes.MOST_JUDGED_GAS
        assert row["gas_dispute"] <= disputes.MOST_GAS
        assert max(row["inferences_fisherman"], row["inferences_operator"]) <= 2


def test_series_are_of_the_stored_disputes(stored, grounds):
    cited = grounds.published
    one = stored["disputes"]["disputes"][5]
    more = {**one, "rounds": 1, "gas_dispute": one["gas_dispute"] + 7, "inferences_fisherman": 1.99}
    (row,) = disputes.by_operator([one, more])
    assert (row["cheat"], row["disputes"], row["rounds"]) == (one["cheat"], 2, one["rounds"])
    assert (row["gas_least"], row["gas_most"]) == (one["gas_dispute"], one["gas_dispute"] + 7)
    assert row["inferences"] == 1.99
    assert len(disputes.by_operator(stored["disputes"]["disputes"])) == 24
    ledger = disputes.gas_ledger(stored["disputes"]["disputes"], cited)
    prices = disputes.gas_prices(cited)
    assert {"open", "bisect", "choose", "publish", "element", "expand_steps", "prove"} <= {
        row["move"] for row in ledger
    }
    for row in ledger:
        assert row["gas_least"] <= row["gas_most"]
        assert row["Ethereum L1"] == pytest.approx(row["gas_most"] * prices["Ethereum L1"])
    assert prices["Ethereum L1"] == pytest.approx(0.5e-9 * 2000)
    last = stored["disputes"]["disputes"][22]
    path = disputes.narrowing(stored["disputes"]["path"], last["moves"])
    assert path[-1]["gas_so_far"] == sum(move["gas"] for move in last["moves"])
    assert path[-1]["level"] == "one step"


def test_what_a_fisherman_earns_is_its_share_less_its_own_gas(grounds):
    found = {"moves": {"small": [["challenge", 10, 0], ["open", 10**9, 0], ["choose", 5, 0], ["withdraw", 1, 0]]}}
    cited, terms = grounds.published, TERMS
    rows = {row["chain"]: row for row in disputes.fisherman_ledger(found, terms, cited)}
    for chain, price in disputes.gas_prices(cited).items():
        row = rows[chain]
        assert row["gas"] == 16  # the operator pays for what it opens
        assert row["gas_usd"] == pytest.approx(16 * price)
        ether = cited.number("gas.eth_usd", "USD")
        assert row["lost_if_wrong_usd"] == pytest.approx(0.1 * ether + 16 * price)
        assert row["earned_if_right_usd"] == pytest.approx(0.5 * ether - 16 * price)
    poorer = disputes.fisherman_ledger(found, replace(terms, reward_bps=2_500), cited)[0]
    assert poorer["earned_if_right_usd"] == pytest.approx(rows["Ethereum L1"]["earned_if_right_usd"] - 0.25 * ether)
