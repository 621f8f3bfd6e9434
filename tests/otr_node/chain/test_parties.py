"""What a fisherman and an operator do, and what they leave alone, one case each, on the embedded chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otr_core.dispute.accounts import batch_id
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.errors import NodeError, OtrError
from otr_core.poea.document import load_receipt_file
from otr_core.poea.message import Message, Response
from otr_core.poea.receipt import sign_receipt
from otr_node.chain.answers import answers_in
from otr_node.chain.anvil import known_keys
from otr_node.chain.followed import Followed
from otr_node.chain.onchain import ChainCourt
from otr_node.chain.places import write_places
from otr_paper.labs.disputes.parties import KEY
from otr_paper.labs.disputes.world import tiny
from tests.helpers.networks import BY_NAME, FISHERMAN, OPERATOR, OWN, Embedded, embedded, honest, settle

FALSE = "statesRoot: a root of nothing"
VALUE = "statesRoot: a wrong value of mlp.product"


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_profile(project.data / FILE).court, arity_bits=2)


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
    fisherman, operator = network.fisherman(), network.defender(BY_NAME[VALUE].tell())
    operator.report = network.report
    settle(network, lambda: fisherman, operator)
    assert network.status() == [ChallengeStatus.WON]
    events = [each["event"] for each in network.events]
    assert [each for each in events if each != "move"] == [
        *("judged", "challenge", "open", "withdraw", "reward", "withdraw"),
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
    network.answered(BY_NAME[FALSE].tell(), others=[b"another receipt"])  # alone its place would follow from it
    write_places(network.folder, ["mystery"], b"x" * 32, [b"leaf"])
    assert not network.fisherman().step()
    (network.folder / "mystery.place.json").unlink()
    assert not network.fisherman().step()
    assert network.events == []


def test_a_challenge_of_this_account_that_no_answer_explains_is_said_once(network, terms):
    """No answer without a place or a batch is it, no honest one, and no false one that another challenge
    is about."""
    network.answered(BY_NAME[FALSE].tell(), "a")
    (network.folder / "a.place.json").unlink()
    network.answered(BY_NAME[VALUE].tell(), "b")
    write_places(network.folder, ["b"], b"x" * 32, [b"leaf"])
    network.answered(honest(), "c")
    network.answered(BY_NAME["finish: 'stop' without a stop id"].tell(), "d")
    court, me = network.court(FISHERMAN), FISHERMAN.address.lower()
    court.call(None, me, "challenge", b"c" * 32, value=terms.bond_wei)
    fisherman = network.fisherman(budget_wei=terms.bond_wei)
    for _ in range(3):
        assert not fisherman.step()
    assert len(said(network, "unknown challenge")) == 1
    assert said(network, "open") == said(network, "challenge") == []


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


def two_fishermen(network, told) -> tuple[Any, Any, Any]:
    """A fisherman, another one of another account, and the operator that plays against both."""
    first, second = network.fisherman(), network.fisherman()
    second.me = known_keys(4)[3].address.lower()
    return first, second, network.defender(told)


def test_who_runs_an_answer_while_another_convicts_challenges_nothing(network):
    """Its bond would be lost: the court takes no challenge that is committed after the conviction."""
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    first, second, operator = two_fishermen(network, told)
    run_again = second.run_again

    def slowly(answer, batch_operator):
        while first.step() | operator.step():
            pass
        return run_again(answer, batch_operator)

    second.run_again = slowly  # type: ignore[method-assign]
    assert not second.step()
    assert network.status() == [ChallengeStatus.WON]
    assert said(network, "not challenged") == ["its operator is convicted"]


def test_a_challenge_that_came_after_the_conviction_is_said_once_and_never_opened(network, monkeypatch):
    """Another's conviction and the challenge cross on their way: nobody can keep them from it."""
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    first, second, operator = two_fishermen(network, told)
    second.followed.read()
    while first.step() | operator.step():
        pass
    before = len(said(network, "open"))
    with monkeypatch.context() as blind:
        blind.setattr(second.followed, "read", lambda: None)
        assert second.step()
    assert network.status() == [ChallengeStatus.WON, ChallengeStatus.COMMITTED]
    for _ in range(3):
        assert not second.step()
    assert said(network, "not opened") == ["void: found committed after the conviction, expected committed before it"]
    assert len(said(network, "open")) == before
    assert said(network, "refused") == []


# --- more than one of a kind


def test_bonds_of_others_and_won_ones_do_not_count_and_lost_ones_do(network, terms):
    court, other = network.court(OPERATOR), known_keys(4)[3].address.lower()
    court.call(None, other, "challenge", b"c" * 32, value=terms.bond_wei)
    network.answered(honest(), "a")
    liar = network.fisherman(budget_wei=terms.bond_wei)
    liar.run_again = lambda answer, operator: (0, "a lie")  # type: ignore[method-assign]
    stepped(liar, 2)
    operator = network.defender(None)
    stepped(operator)
    network.later(terms.clock_s + 10)
    assert operator.step()
    assert network.status()[1:] == [ChallengeStatus.LOST]
    network.answered(BY_NAME[FALSE].tell(), "b")
    before = len(network.status())
    stepped(network.fisherman(budget_wei=terms.bond_wei))
    assert len(network.status()) == before
    assert "budget" in said(network, "not challenged")[-1]


def test_a_reward_is_taken_by_whoever_is_owed_it(network, terms):
    """Another fisherman, who has only watched, calls nothing."""
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    fisherman, operator = network.fisherman(), network.defender(told)
    while fisherman.step() | operator.step():
        pass
    network.later(terms.claim_s + 10)
    other = network.fisherman()
    other.me = known_keys(4)[3].address.lower()
    assert not other.step()
    assert fisherman.step()
    assert said(network, "reward") != []


def test_an_operator_finalises_its_own_batches_while_another_is_challenged(network, terms):
    told, second = BY_NAME[VALUE].tell(), network.defender(None)
    network.answered(told)
    second.me, second.report = FISHERMAN.address.lower(), network.report
    second.chain.call(None, second.me, "register", value=10**18)
    batch = batch_id(second.me, b"r" * 32)
    second.chain.call(None, second.me, "commit_batch", b"r" * 32, 1)
    stepped(network.fisherman())
    network.later(terms.window_s + terms.reveal_s + 10)
    silent = network.defender(None)
    silent.collect = False
    assert silent.end_by_time(1, "challenger") is False
    stepped(second)
    assert [each["batch"] for each in network.events if each["event"] == "finalise"] == [batch.hex()]
    assert said(network, "refused") == []


def test_an_operator_that_does_not_collect_finalises_nothing(network, terms):
    network.answered(honest())
    operator = network.defender(None)
    operator.collect = False
    network.later(terms.window_s + terms.reveal_s + 10)
    assert not operator.step()


# --- demands, answers that cannot be defended, changes of mind


@pytest.mark.parametrize("where", ["in a batch", "without a place", "in no batch that is known"])
def test_a_demanded_receipt_is_shown_where_it_is_committed_and_published_else(network, where):
    told, bond = honest(), network.stands.terms.bond_wei
    network.answered(BY_NAME[FALSE].tell(), "another")
    network.answered(told, "committed elsewhere")
    if where != "in a batch":
        signed = replace(told.signed.receipt, response_digest=b"o" * 32)
        told = replace(told, signed=sign_receipt(KEY, told.signed.order, signed))
        for path in network.folder.glob("committed*"):
            path.unlink()
        path = network.folder / "mystery"
        served = tiny(told.signed.order.decoding.temperature_milli)
        file = load_receipt_file((network.folder / "another.receipt.json").read_bytes())
        file = replace(file, receipt=told.signed.receipt, signature=told.signed.signature)
        (network.folder / "mystery.order.json").write_bytes(served.placed.dump())
        (network.folder / "mystery.receipt.json").write_bytes(file.dump())
        if where == "in no batch that is known":
            write_places(network.folder, ["mystery"], b"x" * 32, [b"leaf"])
    asked, me = network.court(FISHERMAN), FISHERMAN.address.lower()
    asked.demand(None, me, OPERATOR.address.lower(), told.signed.receipt, told.signed.signature, value=bond)
    operator = network.defender(None)
    operator.report = network.report
    assert operator.step()
    assert [each["event"] for each in network.events] == ["show" if where == "in a batch" else "publish"]


def test_who_was_convicted_since_publishes_nothing_and_does_not_try_again(network, terms):
    """The court refuses it, and a party that goes on trying is never done."""
    network.answered(BY_NAME[VALUE].tell())
    fisherman, told, me = network.fisherman(), honest(), FISHERMAN.address.lower()
    stepped(fisherman)
    network.later(terms.clock_s + terms.window_s)
    receipt = replace(told.signed.receipt, response_digest=b"o" * 32)
    signed = sign_receipt(KEY, told.signed.order, receipt)
    asked = network.court(FISHERMAN)
    asked.demand(None, me, OPERATOR.address.lower(), signed.receipt, signed.signature, value=terms.bond_wei)
    stepped(fisherman, 1)
    assert network.status() == [ChallengeStatus.WON, ChallengeStatus.DEMAND]
    operator = network.defender(None)
    operator.report = network.report
    assert not operator.step()
    assert not operator.step()
    assert (len(said(network, "not published")), said(network, "publish"), said(network, "refused")) == (1, [], [])


def test_a_player_that_fails_or_has_no_move_is_said_and_sends_nothing(network):
    class Player:
        moves: Any = None

        def move(self, game: Any) -> Any:
            if self.moves is None:
                raise IndexError("no such leaf")
            return self.moves

    network.answered(BY_NAME[VALUE].tell())
    stepped(network.fisherman())
    operator, player = network.defender(None), Player()
    operator.report, operator.player = network.report, lambda order, receipt: player  # type: ignore[assignment]
    assert not operator.step()
    assert said(network, "no move") == ["IndexError: no such leaf"]
    player.moves = ()
    assert not operator.step()
    assert len(said(network, "no move")) == 1


def test_a_game_that_cannot_be_followed_is_left_alone(network):
    network.answered(BY_NAME[VALUE].tell())
    stepped(network.fisherman())
    operator, fisherman = network.defender(None), network.fisherman()
    for party in (operator, fisherman):
        party.followed = Followed(party.chain, {})
        party.report = network.report
        party.folder = network.folder / "none"
        assert not party.step()


def test_a_chain_that_has_changed_makes_players_anew(network, monkeypatch):
    network.answered(BY_NAME[VALUE].tell())
    fisherman, made = network.fisherman(), []
    stepped(fisherman)
    operator = network.defender(None)
    operator.player = lambda order, receipt: made.append(receipt)
    operator.step()
    operator.step()
    before, right = fisherman.player(1), type(network.node).block_hash
    assert fisherman.player(1) is before
    assert len(made) == 1
    monkeypatch.setattr(type(network.node), "block_hash", lambda self, number: right(self, number) + "00")
    fisherman.step()
    operator.step()
    assert said(network, "reorganised") != []
    assert fisherman.player(1) is not before
    assert len(made) == 2


@pytest.mark.parametrize("name", ["finish: 'stop' without a stop id", "seedHash: no seed has it"])
def test_false_statements_of_other_kinds_are_convicted_by_fishermen_made_anew(network, name):
    """One receipt is false by itself, and no game begins; the other's game reveals a seed."""
    network.answered(BY_NAME[name].tell())
    settle(network, network.fisherman, network.defender(BY_NAME[name].tell()))
    assert network.status() == [ChallengeStatus.WON]


def test_a_model_without_a_judge_there_is_not_followed(network):
    network.answered(BY_NAME[VALUE].tell())
    stepped(network.fisherman())
    stands = network.stands
    court = ChainCourt(network.node, stands.terms, stands.registrar, stands.arbiter, stands)
    followed = Followed(court, {OWN.id: OWN.registered})
    followed.read()
    assert followed.court.challenges[0].game is None


def test_what_was_shown_is_the_operators_last_move(network):
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    fisherman, operator = network.fisherman(), network.defender(told)
    stepped(fisherman)
    while operator.step():
        operator.followed.read()
        shown = operator.followed.shown.get(1)
        assert shown is not None
        if not fisherman.step():
            break
        operator.followed.read()
        assert operator.followed.shown.get(1) == shown


def test_moves_that_the_rules_forbid_are_the_contracts_fault(network, monkeypatch):
    told = BY_NAME[VALUE].tell()
    network.answered(told)
    fisherman, operator = network.fisherman(), network.defender(told)
    stepped(fisherman)
    assert operator.step()
    right = type(network.node).calls

    def other(self: Any, transaction: str, addresses: Any) -> Any:
        found = right(self, transaction, addresses)
        return [replace(each, data=each.data[:-1] + bytes([each.data[-1] ^ 1])) for each in found]

    monkeypatch.setattr(type(network.node), "calls", other)
    with pytest.raises((NodeError, OtrError)):
        Followed(network.court(FISHERMAN), {OWN.id: OWN.registered}).read()


def test_what_a_response_says_is_run_only_if_the_model_could_have_said_it(network):
    """Tokens beyond the vocabulary, more than the context holds, a response that nobody can read: the
    order is run instead, and an operator has nothing to defend with."""
    network.answered(honest())
    path = network.folder / "mystery.receipt.json"
    raw = load_receipt_file(path.read_bytes())
    (answer,) = answers_in(network.folder, lambda name, error: None)
    run = answer.own_run(OWN)
    assert answer.claimed_run(OWN) is not None
    d = OWN.trees.dims
    for tokens in ((d.vocab,), (1,) * d.context):
        said_so = Message("response", plain=Response(tokens, run.seed).to_json())
        path.write_bytes(replace(raw, response=said_so).dump())
        (answer,) = answers_in(network.folder, lambda name, error: None)
        assert answer.claimed_run(OWN) is None
        assert answer.own_run(OWN).token_ids == run.token_ids
    (answer,) = answers_in(network.folder, lambda name, error: None)
    sealed = replace(answer, file=replace(answer.file, response=Message("response", plain={"x": 1})))
    assert sealed.response is None
    assert sealed.claimed_run(OWN) is None
    assert sealed.own_run(OWN).token_ids == run.token_ids


def test_leaves_of_another_length_are_none(network):
    network.answered(honest())
    for size in (0, 31, 32 * 10**3):
        (network.folder / "mystery.leaves").write_bytes(bytes(size))
        (answer,) = answers_in(network.folder, lambda name, error: None)
        assert answer.leaves == ()
    (network.folder / "mystery.leaves").unlink()
    (answer,) = answers_in(network.folder, lambda name, error: None)
    assert answer.leaves == ()
