"""The fifteen rules and thirty audit findings of production_rules.md, each beside the tests that hold
it, or the reason why it does not apply. A test that is named here and gone turns this one red."""

from __future__ import annotations

import re

import pytest

#: Rule -> tests (file:name), or a sentence beginning with "Not".
COURT = "tests/otr_core/dispute/test_court.py"
INCENTIVES = "tests/otr_core/dispute/test_incentives.py"
DUTIES = "tests/otr_core/dispute/test_duties.py"
ROLES = "tests/otr_core/dispute/test_roles.py"
COALITION = "tests/otr_core/dispute/test_coalition.py"
MONEY = "tests/otr_node/chain/test_money.py"
CONTRACT = "tests/otr_node/chain/test_contract.py"
REGISTRY = "tests/otr_core/dispute/test_registry.py"
GAME = "tests/otr_core/dispute/test_game.py"
CROWD = "tests/otr_paper/studies/test_crowd.py"

RULES: dict[int, tuple[str, ...]] = {
    1: (f"{ROLES}:test_an_answer_is_convicted_by_a_revocation_only_if_committed_after_it_counts",),
    2: (
        f"{ROLES}:test_a_revocation_is_for_ever_and_comes_before_first_trust_too",
        f"{ROLES}:test_a_revoked_class_reopens_what_is_not_final_once",
    ),
    3: (
        "Not on chain: an evidence's digest is part of what the registrar appraises off chain, since showing that a"
        " quote fails today costs 4 to 300 million gas; the registrar revokes the key or its class instead.",
    ),
    4: (
        f"{COURT}:test_the_window_is_for_commitments_and_its_end_leaves_time_to_open",
        f"{MONEY}:test_a_revocation_counts_from_the_same_second_in_both",
        f"{MONEY}:test_roles_and_pauses_go_the_same_way_in_both",
    ),
    5: (
        f"{INCENTIVES}:test_a_models_judge_is_never_replaced",
        f"{DUTIES}:test_a_shown_verdict_decides",
        f"{REGISTRY}:test_a_receipt_for_another_court_is_not_of_this_ones_batch",
    ),
    6: (f"{INCENTIVES}:test_a_copied_commitment_opens_for_nobody_else",),
    7: (
        f"{INCENTIVES}:test_batches_that_change_places_are_challenged_as_before",
        f"{COURT}:test_a_root_is_committed_once_by_an_operator_and_by_others_too",
    ),
    8: (
        f"{COURT}:test_clocks",
        f"{COURT}:test_unusable_terms_are_refused",
        f"{CROWD}:test_the_last_verdict_is_within_one_game_however_many_challenge",
    ),
    9: (
        f"{ROLES}:test_a_pause_lengthens_every_deadline_by_what_it_lasts_and_shortens_none",
        f"{ROLES}:test_a_second_pause_waits_until_no_deadline_can_fall_into_both",
        f"{INCENTIVES}:test_a_griefer_pays_more_than_the_operator_for_each_freeze_and_it_ends",
    ),
    10: (
        f"{INCENTIVES}:test_a_later_challenge_that_is_right_costs_nothing_and_earns_no_reward",
        f"{INCENTIVES}:test_a_commitment_names_neither_batch_nor_operator",
        f"{COALITION}:test_no_strategy_gains_or_costs_the_honest_more_than_is_said",
    ),
    11: (
        f"{COALITION}:test_no_random_sequence_does_and_every_call_and_reason_is_met",
        f"{COURT}:test_escrow_is_capped_by_the_stake_over_all_batches_in_flight",
    ),
    12: (
        "Not in this court: it has one window for every answer; the fuse gives all answers of a class a whole window"
        f" more when a trusted key of it has signed something false ({ROLES}).",
        f"{ROLES}:test_the_first_conviction_of_a_trusted_key_is_a_fuse_for_its_class",
    ),
    13: (
        f"{COURT}:test_a_false_answer_is_slashed_its_batches_void_and_the_rest_burnt",
        "Not for refunds: what a void batch's payers take back is their own, and waits for nobody.",
    ),
    14: (
        f"{COALITION}:test_no_strategy_gains_or_costs_the_honest_more_than_is_said",
        "Not in the core: what a watcher does about missing data is the node's, and the strategy on its page says it.",
    ),
    15: ("Not a rule of the court: gas and prices carry their dates in data/published and data/results.",),
}

FINDINGS: dict[int, tuple[str, ...]] = {
    1: (f"{COURT}:test_clocks",),
    2: (f"{COURT}:test_clocks",),
    3: (f"{COURT}:test_clocks", f"{INCENTIVES}:test_giving_up_is_the_challengers_alone_and_claims_nothing"),
    4: (f"{COURT}:test_clocks", f"{ROLES}:test_moves_and_openings_are_in_time_that_a_pause_has_made"),
    5: ("Not here: a game has no sub-games; a reward waits for all games against its operator.",
        f"{INCENTIVES}:test_a_decoy_that_convicts_first_takes_nothing_of_what_the_earlier_challenge_earns"),
    6: (f"{INCENTIVES}:test_a_copied_commitment_opens_for_nobody_else",),
    7: (f"{CONTRACT}:test_no_contract_asks_who_began_a_transaction",),
    8: (f"{INCENTIVES}:test_batches_that_change_places_are_challenged_as_before",),
    9: (f"{CONTRACT}:test_unusable_terms_do_not_deploy",),
    10: (f"{COURT}:test_a_false_answer_is_slashed_its_batches_void_and_the_rest_burnt",),
    11: (f"{COALITION}:test_no_random_sequence_does_and_every_call_and_reason_is_met",),
    12: ("Not here: credits have no timer, so that no unlock can reset one.",),
    13: ("Not here: nothing is approved or held for others; the court pays in its own chain's ether.",),
    14: (f"{CONTRACT}:test_no_contract_loops_over_what_others_can_lengthen",),
    15: (f"{INCENTIVES}:test_a_copied_commitment_opens_for_nobody_else",),
    16: (f"{COURT}:test_a_batch_is_final_after_its_window_and_no_sooner",),
    17: (f"{CONTRACT}:test_calldata_that_is_longer_or_shorter_makes_no_second_identity",),
    18: (f"{COURT}:test_unusable_terms_are_refused",),
    19: ("Not here: nothing is uploaded in parts; what a move shows it shows in one transaction.",),
    20: (f"{COURT}:test_clocks",),
    21: (f"{COALITION}:test_no_strategy_gains_or_costs_the_honest_more_than_is_said",
         "Not otherwise: only the challenger itself moves for its side, so that it alone bears the cost."),
    22: (f"{COURT}:test_a_root_is_committed_once_by_an_operator_and_by_others_too",
         "Not otherwise: nothing is created by a game; a batch is known by its content and author."),
    23: (f"{COURT}:test_a_root_is_committed_once_by_an_operator_and_by_others_too",),
    24: (f"{REGISTRY}:test_a_receipt_that_is_false_by_itself_convicts_at_once",),
    25: (f"{INCENTIVES}:test_a_models_judge_is_never_replaced",
         "Not otherwise: terms are fixed when a court is deployed; new terms are a new court."),
    26: ("Not here: each game has clocks of its own, and no game begins out of another.",),
    27: (f"{INCENTIVES}:test_a_front_runner_with_a_challenge_of_every_index_claims_nothing_as_moot",),
    28: (f"{MONEY}:test_roles_and_pauses_go_the_same_way_in_both",),
    29: (f"{COURT}:test_the_window_is_for_commitments_and_its_end_leaves_time_to_open",
         f"{ROLES}:test_a_pause_lengthens_every_deadline_by_what_it_lasts_and_shortens_none"),
    30: (f"{ROLES}:test_a_revocation_is_for_ever_and_comes_before_first_trust_too",),
}  # fmt: skip


def test_every_rule_and_finding_has_a_line():
    assert list(RULES) == list(range(1, 16))
    assert list(FINDINGS) == list(range(1, 31))


@pytest.mark.parametrize("table", [RULES, FINDINGS])
def test_each_line_names_tests_that_are_there_or_says_why_not(table, project):
    for number, lines in table.items():
        assert lines, number
        for line in lines:
            if line.startswith("Not "):
                assert line.endswith("."), number
                continue
            file, _, name = line.partition(":")
            source = (project.root / file).read_text()
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), (number, line)
