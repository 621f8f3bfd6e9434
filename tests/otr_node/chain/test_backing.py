"""Whose word has something behind it: signers of commitments looked up at a court, by its logs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.dispute.accounts import MOST_WEI
from otr_core.dispute.court import Court
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, StakedOperator, Terms
from otr_core.dispute.registry import Key
from otr_core.errors import AnswerProofError, InputError, NodeError
from otr_core.poea.order import Domain
from otr_core.spotcheck.proof.committed import REACH, ModelCommitment
from otr_core.spotcheck.proof.pledges import PledgeTerms
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_node.chain.backing import backed_signers
from otr_node.chain.deployment import load_deployment
from otr_node.chain.onchain import ChainCourt
from otr_node.chain.options import wei
from otr_node.chain.pledges import ChainPledges
from otr_node.chain.rpc import RpcChain
from otr_node.proof.vouchers import VouchOptions, vouched_signers
from otr_paper.labs.disputes.parties import KEY_ID, KEYS
from tests.helpers.networks import BY_NAME, FISHERMAN, OPERATOR, OWN, REGISTRAR, Network, settle
from tests.helpers.nodes import CHAIN_ID, anvil, embedded_door, needs_anvil

NOW, LANE, ETHER = 2_000_000_000, "portable-1", 10**18
COMMITTED = ModelCommitment(OWN.id, b"\x08" * 32, (30, 30), dict.fromkeys(REACH, 40))
ONE, TWO = "0x" + "ab" * 20, "0x" + "22" * 20
PLATFORM = b"p" * 32


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_profile(project.data / FILE).court, arity_bits=2)


# --- by the court's records


def backed(terms: Terms, operator: StakedOperator, least: int = ETHER, model: bytes | None = None, **more: Any) -> bool:
    found = []
    for name in (ONE, ONE.upper().replace("X", "x")):  # of any case
        court = Court(terms, Domain(), ONE, operators={name: operator}, **more)
        found.append(backed_signers(court, least, model))
    assert found[0] == found[1] <= {b"\xab" * 20}
    return bool(found[0])


def test_a_stake_stands_behind_a_word(terms):
    assert backed(terms, StakedOperator(ETHER))
    assert not backed(terms, StakedOperator(ETHER - 1))
    assert not backed(terms, StakedOperator(ETHER, exit_at=NOW))
    assert not backed(terms, StakedOperator(ETHER, convicted_at=NOW))  # whatever is left of its stake
    assert not backed(terms, StakedOperator(0), least=0)


@pytest.mark.parametrize(
    ("key", "revoked", "good"),
    [
        (Key(ONE, OWN.id, b"k" * 20), {}, True),
        (Key(ONE.upper().replace("X", "x"), OWN.id, b"k" * 20, PLATFORM), {b"other": 1}, True),
        (Key(TWO, OWN.id, b"k" * 20), {}, False),
        (Key(ONE, b"m" * 32, b"k" * 20), {}, False),
        (Key(ONE, OWN.id, b"k" * 20), {b"key": 1}, False),
        (Key(ONE, OWN.id, b"k" * 20, PLATFORM), {PLATFORM: 1}, False),
    ],
)
def test_a_registered_key_is_of_the_operator_and_the_model_and_not_revoked(terms, key, revoked, good):
    own = {"keys": {b"key": key}, "revoked": revoked}
    assert backed(terms, StakedOperator(ETHER), model=OWN.id, **own) == good
    assert backed(terms, StakedOperator(ETHER), **own)


# --- by a node


@pytest.fixture(params=["embedded", pytest.param("anvil", marks=[needs_anvil, pytest.mark.slow])])
def network(request, terms, tmp_path):
    with (embedded_door if request.param == "embedded" else anvil)() as node:
        court = ChainCourt(RpcChain(node.url, [REGISTRAR], chain_id=CHAIN_ID, poll_s=0.01), terms, REGISTRAR.address)
        court.register_model(OWN.id, OWN.trees)
        court.register_key(KEY_ID, Key(OPERATOR.address.lower(), OWN.id, KEYS.address))
        (tmp_path / "court.json").write_bytes(court.deployment.dump())
        found = Network(node, load_deployment(court.deployment.dump()), tmp_path)
        found.court(OPERATOR).call(None, OPERATOR.address.lower(), "register", value=ETHER)
        yield found


def signed(folder: Path, key: Any, domain: Domain, committed: ModelCommitment = COMMITTED) -> Path:
    stated = CommitmentStatement(domain, committed.model_id, committed.digest, LANE, NOW)
    path = folder / f"{key.address} {committed.model_id.hex()[:8]}.signed"
    path.write_bytes(SignedStatement.by(bytes(key.key), stated).dump())
    return path


def test_who_has_a_stake_at_the_court_may_vouch_until_it_is_convicted(network):
    stands, file = network.stands, network.folder / "court.json"
    domain = Domain(stands.chain_id, bytes.fromhex(stands.court[2:]))
    operator, other = (signed(network.folder, key, domain) for key in (OPERATOR, FISHERMAN))
    own = bytes.fromhex(OPERATOR.address[2:])

    def vouched(
        *files: Path, under: Domain = domain, of: ModelCommitment = COMMITTED, **more: Any
    ) -> tuple[bytes, ...]:
        given = {"rpc": network.node.url, "court": file, "least_stake": "1"} | more
        return vouched_signers(VouchOptions(vouched=list(files), **given), of, LANE, under, NOW)

    def refused(*files: Path, **more: Any) -> str:
        with pytest.raises((AnswerProofError, NodeError)) as caught:
            vouched(*files, **more)
        assert "\n" not in str(caught.value)
        return caught.value.check

    assert vouched(operator, other) == (own,)
    assert vouched(operator, registered=True) == (own,)
    unserved = replace(COMMITTED, model_id=b"\x06" * 32)  # a model that the operator has no key registered for
    stated = signed(network.folder, OPERATOR, domain, unserved)
    assert vouched(stated, of=unserved) == (own,)
    assert refused(stated, of=unserved, registered=True) == "vouched keys"
    lie = replace(SignedStatement.read(operator).statement, commitment=bytes(32))
    evidence = network.folder / "evidence"  # a key that contradicts itself is left out, whatever stake it has
    evidence.write_bytes(operator.read_bytes() + SignedStatement.by(bytes(OPERATOR.key), lie).dump())
    assert refused(operator, contradiction=[evidence]) == "vouched keys"
    assert refused(other) == "vouched keys"  # it is at no court, whatever it signs
    assert refused(other, signer=[FISHERMAN.address[2:]]) == "vouched keys"
    assert refused(operator, least_stake="1.000000000000000001") == "vouched keys"
    assert vouched(operator, signer=[OPERATOR.address[2:]]) == (own,)
    both = [OPERATOR.address[2:], FISHERMAN.address[2:]]
    assert refused(operator, other, signer=both) == "vouched keys"  # both were asked
    assert vouched(operator, other, signer=both, least=1) == (own,)
    # a stake and a pledge, where both are asked for
    made = ChainPledges.deploy(RpcChain(network.node.url, [OPERATOR], poll_s=0.01), domain, PledgeTerms(1_000, 0))
    pledges = network.folder / "pledges.json"
    pledges.write_bytes(made.stands.dump())
    assert refused(operator, pledges=pledges, least_pledge="1") == "vouched keys"
    made.send(OPERATOR.address.lower(), "put", value=ETHER)
    assert vouched(operator, pledges=pledges, least_pledge="1") == (own,)
    assert refused(operator, pledges=pledges, least_pledge="1", least_stake="1.1") == "vouched keys"
    # another court than the order's; a node of another chain; no court, or other code, where it is said to be
    assert refused(operator, under=replace(domain, court=b"\x09" * 20)) == "vouched court"
    assert refused(operator, under=replace(domain, chain_id=1)) == "vouched court"
    document = json.loads(file.read_bytes())
    for changes, check in (
        ({"chain_id": 1}, "chain-id"),
        ({"court": document["registry"]}, "contract"),
        ({"court": "0x" + "09" * 20}, "contract"),
        ({"terms": {**document["terms"], "bond_wei": document["terms"]["bond_wei"] + 1}}, "contract"),
    ):
        lie = network.folder / "lie.json"
        lie.write_text(json.dumps(document | changes))
        assert refused(operator, court=lie) == check
    assert refused(operator, rpc="http://127.0.0.1:1") == "rpc"
    # its own false answer is shown at that court: from then on its word counts for nothing
    told = BY_NAME["answerTokens: more than ordered"].tell()
    network.answered(told)
    settle(network, network.fisherman, network.defender(told))
    assert network.status() == [ChallengeStatus.WON]
    assert refused(operator, other, least_stake="0.000000000000000001") == "vouched keys"
    assert refused(operator, signer=[OPERATOR.address[2:]], least_stake="0.000000000000000001") == "vouched keys"


def test_a_key_that_contradicts_itself_is_left_out_and_no_fewer_are_asked(tmp_path):
    domain = Domain(CHAIN_ID, b"\x05" * 20)
    first, second = (signed(tmp_path, key, domain) for key in (OPERATOR, FISHERMAN))
    stated = SignedStatement.read(first).statement
    lie = SignedStatement.by(bytes(OPERATOR.key), replace(stated, commitment=bytes(32)))
    evidence = tmp_path / "evidence"
    evidence.write_bytes(first.read_bytes() + lie.dump())
    named = [OPERATOR.address[2:], FISHERMAN.address[2:]]

    def vouched(**more: Any) -> tuple[bytes, ...]:
        options = VouchOptions(vouched=[first, second], signer=named, **more)
        return vouched_signers(options, COMMITTED, LANE, domain, NOW)

    assert len(vouched()) == 2
    with pytest.raises(AnswerProofError, match=r"1 of 2 keys \(1 left out\)"):
        vouched(contradiction=[evidence])
    assert vouched(contradiction=[evidence], least=1) == (bytes.fromhex(FISHERMAN.address[2:]),)


@pytest.mark.parametrize(
    "given",
    [
        {"rpc": "http://127.0.0.1:1"},
        {"court": Path("court.json")},
        {"least_stake": "1"},
        {"rpc": "http://127.0.0.1:1", "court": Path("court.json")},
        {"registered": True},
    ],
)
def test_a_court_is_named_whole(given):
    with pytest.raises(InputError, match="--rpc, --court, --least-stake"):
        VouchOptions(**given)


@pytest.mark.parametrize(
    "stake", ["0", "0.0", "-1", "much", "1e-19", "1e400000000", "nan", "1_0", "\u0661", ".5", "1.", " 1"]
)
def test_a_least_stake_is_one(tmp_path, stake):
    options = VouchOptions(rpc="http://127.0.0.1:1", court=tmp_path / "court.json", least_stake=stake)
    with pytest.raises(InputError, match="--least-stake"):
        vouched_signers(options, COMMITTED, LANE, Domain(), NOW)


@pytest.mark.parametrize("address", ["11" * 19, "11" * 21, "", "zz" * 20])
def test_an_address_of_another_length_is_named_by_its_option(tmp_path, address):
    place = {"rpc": "http://127.0.0.1:1", "pledges": tmp_path / "pledges.json", "least_pledge": "1"}
    for option, more in (
        ("--signer", {"signer": [address]}),
        ("--pledge-arbiter", {"pledge_arbiter": address, **place}),
    ):
        with pytest.raises(InputError, match=option):
            vouched_signers(VouchOptions(**more), COMMITTED, LANE, Domain(), NOW)


def test_a_sum_is_read_to_the_wei():
    assert wei("12345678901.000000000000000001", "x") == 12345678901 * ETHER + 1
    assert wei("79228162514.264337593543950335", "x") == MOST_WEI
    assert wei("0.05", "x") == ETHER // 20
    for more in ("1" * 5_000, "79228162514.264337593543950336", "99999999999", "1" * 12, "1.0000000000000000001"):
        with pytest.raises(InputError, match="x: found"):
            wei(more, "x")


def test_whether_anybody_is_asked():
    assert not VouchOptions().asked
    assert not VouchOptions(vouched=[], signer=[]).asked
    for given in ({"vouched": [Path("x")]}, {"signer": ["11"]}, {"least": 1}, {"contradiction": [Path("x")]}):
        assert VouchOptions(**given).asked
