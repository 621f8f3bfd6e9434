"""What a fisherman and an operator do, and what they leave alone, one case each, on the embedded chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.errors import NodeError
from otr_node.chain.access import read_terms
from otr_node.chain.answers import write_places
from otr_node.chain.followed import Followed
from otr_paper.labs.disputes.world import tiny
from tests.helpers.networks import BY_NAME, FISHERMAN, OPERATOR, OWN, Embedded, embedded, honest, settle

FALSE = "statesRoot: a root of nothing"
VALUE = "statesRoot: a wrong value of mlp.product"


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_terms(project.root / "docs" / "terms.toml"), arity_bits=2)


@pytest.fixture
def network(terms, tmp_path) -> Embedded:
    return embedded(terms, tmp_path)


def said(network: Embedded, event: str) -> list[str]:
    return [each.get("why", "") for each in network.events if each["event"] == event]


def stepped(party: Any, times: int = 8) -> None:
    for _ in range(times):
        if not party.step():
            return


def test_a_whole_dispute_on_the_embedded_chain_ends_with_the_reward(network):
    network.answered(BY_NAME[VALUE].tell())
    fisherman = network.fisherman()
    settle(network, lambda: fisherman, network.defender(BY_NAME[VALUE].tell()))
    assert network.status() == [ChallengeStatus.WON]
    events = [each["event"] for each in network.events]
    assert [each for each in events if each not in ("move", "judged")] == [
        *("challenge", "open", "withdraw", "reward", "withdraw"),
    ]  # the bond, then the reward; nothing was refused, for nothing was tried before it was due


def test_an_operator_that_keeps_silent_loses_by_time_and_not_before(network):
    network.answered(BY_NAME[VALUE].tell())
    fisherman = network.fisherman()
    stepped(fisherman)
    assert network.status() == [ChallengeStatus.OPEN]
    assert said(network, "timeout") == []
    network.later(network.stands.terms.clock_s + 10)
    assert fisherman.step()
    assert network.status() == [ChallengeStatus.WON]


def test_a_challenger_that_keeps_silent_loses_by_time_and_not_before(network):
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    fisherman, operator = network.fisherman(), network.defender(told)
    stepped(fisherman)
    stepped(operator)
    assert network.status() == [ChallengeStatus.OPEN]
    assert not operator.step()
    network.later(network.stands.terms.clock_s + 10)
    assert operator.step()
    assert network.status() == [ChallengeStatus.LOST]


def test_a_second_fisherman_of_the_same_account_finds_the_challenge_and_makes_none(network):
    network.answered(BY_NAME[VALUE].tell())
    assert network.fisherman().step()
    second = network.fisherman()
    assert second.step()
    assert [each["event"] for each in network.events if each["event"] in ("challenge", "open")] == ["challenge", "open"]


def test_the_margin_before_the_end_of_the_window(network, terms):
    """Nothing is begun in the last minute: it would land too late."""
    network.answered(BY_NAME[FALSE].tell())
    network.later(terms.window_s - 30)
    late = network.fisherman()
    assert not late.step()
    assert said(network, "not challenged") == ["its window has passed"]


def test_a_lost_bond_counts_against_the_budget(network, terms):
    """One false answer after the other: what is lost or at stake stays below the budget."""
    network.answered(BY_NAME[FALSE].tell(), "a")
    network.answered(BY_NAME[VALUE].tell(), "b")
    fisherman = network.fisherman(budget_wei=terms.bond_wei)
    stepped(fisherman)
    assert len(network.status()) == 1
    assert "budget" in said(network, "not challenged")[0]
    rich = network.fisherman(budget_wei=2 * terms.bond_wei)
    stepped(rich)
    assert len(network.status()) == 2


def test_nobody_is_challenged_who_is_convicted_already(network):
    """Its stake is gone: of the second answer's bond nothing would come back but itself."""
    told = BY_NAME[VALUE].tell()
    network.answered(told, "a")
    network.answered(BY_NAME[FALSE].tell(), "b")
    place = network.folder / "b.place.json"
    place.rename(network.folder / "b.later")
    fisherman, operator = network.fisherman(), network.defender(told)
    while fisherman.step() | operator.step():
        pass
    assert network.status() == [ChallengeStatus.WON]
    (network.folder / "b.later").rename(place)
    stepped(fisherman)
    assert said(network, "not challenged") == ["its operator is convicted"]
    assert len(network.status()) == 1


def test_an_answer_whose_model_is_not_at_hand_or_whose_receipt_is_another_orders_is_no_case(network):
    network.answered(BY_NAME[FALSE].tell())
    fisherman = network.fisherman()
    fisherman.models = {}
    fisherman.followed = Followed(fisherman.chain, {})
    assert not fisherman.step()
    assert "model" in said(network, "not judged")[0]
    (network.folder / "mystery.order.json").write_bytes(tiny(700).placed.dump())
    assert not network.fisherman().step()
    assert "another order's receipt" in said(network, "not judged")[1]
    assert network.status() == []


def test_an_answer_without_a_place_or_a_batch_waits(network):
    network.answered(BY_NAME[FALSE].tell())
    write_places(network.folder, ["mystery"], b"x" * 32, [b"leaf"])
    assert not network.fisherman().step()
    (network.folder / "mystery.place.json").unlink()
    assert not network.fisherman().step()
    assert network.events == []


def test_a_challenge_of_this_account_that_no_answer_explains_is_said(network, terms):
    court, me = network.court(FISHERMAN), FISHERMAN.address.lower()
    court.call(None, me, "challenge", b"c" * 32, value=terms.bond_wei)
    fisherman = network.fisherman()
    assert not fisherman.step()
    assert len(said(network, "unknown challenge")) == 1


def test_an_operator_whose_folder_lacks_the_answer_says_so(network):
    network.answered(honest())
    fisherman = network.fisherman()
    fisherman.run_again = lambda answer, operator: (0, "a lie")  # type: ignore[method-assign]
    stepped(fisherman, 2)
    assert network.status() == [ChallengeStatus.OPEN]
    (network.folder / "mystery.receipt.json").unlink()
    operator = network.defender(None)
    operator.report = network.report
    assert not operator.step()
    assert len(said(network, "undefended")) == 1


def test_an_operator_takes_nothing_while_it_is_challenged_and_nothing_once_convicted(network, terms):
    network.answered(BY_NAME[VALUE].tell())
    fisherman = network.fisherman()
    stepped(fisherman)
    operator = network.defender(None)
    operator.report = network.report
    operator.player = lambda order, receipt: None
    network.later(terms.window_s + terms.reveal_s + 10)
    assert not operator.step()
    assert said(network, "finalise") == []
    stepped(fisherman, 1)
    assert network.status() == [ChallengeStatus.WON]
    assert not operator.step()
    assert said(network, "finalise") == []


def test_a_batch_of_another_operator_is_not_finalised_and_none_before_its_time(network, terms):
    network.answered(honest())
    operator = network.defender(None)
    operator.report = network.report
    assert not operator.step()
    network.later(terms.window_s + terms.reveal_s + 10)
    other = network.defender(None)
    other.me, other.report = FISHERMAN.address.lower(), network.report
    assert not other.step()
    assert operator.step()
    assert not operator.step()
    assert len(said(network, "finalise")) == 1
    assert said(network, "refused") == []


def test_another_operators_game_is_left_to_it(network):
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    stepped(network.fisherman())
    other = network.defender(told)
    other.me, other.report = FISHERMAN.address.lower(), network.report
    before = len(network.events)
    assert not other.step()
    assert len(network.events) == before
    assert network.defender(told).step()


def test_a_game_of_a_model_that_is_not_at_hand_shows_in_the_accounts_alone(network):
    network.answered(BY_NAME[VALUE].tell())
    fisherman = network.fisherman()
    settle(network, lambda: fisherman, network.defender(BY_NAME[VALUE].tell()))
    followed = Followed(network.court(FISHERMAN), {})
    followed.read()
    (challenge,) = followed.court.challenges
    assert challenge.game is None
    assert challenge.status == ChallengeStatus.WON
    assert OPERATOR.address.lower() in followed.logs.convicted


def test_a_transaction_whose_calls_the_node_does_not_show_is_named(network, monkeypatch):
    network.answered(BY_NAME[VALUE].tell())
    stepped(network.fisherman())
    monkeypatch.setattr(type(network.node), "calls", lambda self, transaction, addresses: [])
    with pytest.raises(NodeError) as failure:
        Followed(network.court(FISHERMAN), {OWN.id: OWN.registered}).read()
    assert failure.value.check == "trace"


def test_nothing_is_taken_of_a_chain_that_changes_while_it_is_read(network, monkeypatch):
    network.answered(honest())
    followed = Followed(network.court(FISHERMAN), {})
    right, count = type(network.node).block_hash, [0]

    def changing(self: Any, number: int) -> str:
        count[0] += 1
        return f"0x{count[0]:064x}"

    monkeypatch.setattr(type(network.node), "block_hash", changing)
    assert followed.read() == []
    assert followed.court.batches == {}
    monkeypatch.setattr(type(network.node), "block_hash", lambda self, number: "")
    assert followed.read() == []
    monkeypatch.setattr(type(network.node), "block_hash", right)
    assert followed.read()
    assert len(followed.court.batches) == 1
