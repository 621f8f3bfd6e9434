"""Pledges in Python and on chain: every call at both, legal and illegal, with equal reasons and equal money; and what
a verifier asks of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from otr_core.dispute.duties import two_keys
from otr_core.errors import AnswerProofError, ChainError, InputError, MoveError, NodeError, OtrError, ParameterError
from otr_core.poea.order import Domain
from otr_core.poea.receipt import GROUP_ORDER
from otr_core.spotcheck.proof.pledges import Pledge, PledgePolicy, Pledges, PledgeTerms, announcement, refutation
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_node.chain.anvil import known_keys
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import NOBODY, deploy_arbiter
from otr_node.chain.pledges import ChainPledges, PledgesAt
from otr_node.chain.rpc import RpcChain
from otr_node.proof.vouchers import VouchOptions, vouched_signers
from tests.helpers.nodes import ask, embedded_door
from tests.otr_node.chain.test_backing import COMMITTED, LANE, NOW

KEYS = known_keys(6)
LIAR, CATCHER, THIEF, FIRST, SECOND, OTHER = KEYS
NAMES = [bytes.fromhex(key.address[2:]) for key in KEYS]
TERMS = PledgeTerms(1_000, 4_000)
COURT = b"\x05" * 20
ETHER = 10**18


#: Announces and shows in one transaction what somebody else is about to show.
COPYIST = """
# pragma version 0.4.3
struct Word:
    commitment: bytes32
    date: uint256
    signature: Bytes[65]
interface Pledges:
    def announce(digest: bytes32): nonpayable
    def withdraw(): nonpayable
    def contradict(model_id: bytes32, lane: String[64], first: Word, second: Word, salt: bytes32): nonpayable
@external
def announce(at: address, digest: bytes32):
    extcall Pledges(at).announce(digest)
@external
def withdraw(at: address):
    extcall Pledges(at).withdraw()
@external
def both(at: address, digest: bytes32, model_id: bytes32, lane: String[64], first: Word, second: Word, salt: bytes32):
    extcall Pledges(at).announce(digest)
    extcall Pledges(at).contradict(model_id, lane, first, second, salt)
"""


@dataclass
class Pair:
    """The same pledges twice, called at the same time: what one refuses the other refuses for the same reason."""

    chain: Chain
    at: ChainPledges
    own: Pledges

    @classmethod
    def new(cls, *, arbiter: bool = True, terms: PledgeTerms = TERMS) -> Pair:
        chain = Chain(accounts=6)
        assert [each.lower() for each in chain.accounts] == [key.address.lower() for key in KEYS]
        judges = deploy_arbiter(chain, FIRST.address, SECOND.address) if arbiter else NOBODY
        domain = Domain(chain.id, COURT)
        own = Pledges(terms, domain, two_keys(*NAMES[3:5]) if arbiter else None)
        return cls(chain, ChainPledges.deploy(chain, domain, terms, judges), own)

    def call(self, name: str, who: Any, *args: Any, value: int = 0) -> str:
        """The reason of the refusal; "": both have taken it."""
        me, now = bytes.fromhex(who.address[2:]), self.chain.time
        timed = () if name in ("put", "withdraw") else (now,)
        by = () if name == "announce" else (me,)
        reason, before = "", self.own
        try:
            made = getattr(self.own, name)(*timed, *by, *args, *([value] if name == "put" else []))
            self.own = made[0] if name == "withdraw" else made
        except MoveError as error:
            reason = error.reason
        found = ""
        try:
            if name in ("contradict", "refute"):
                {"contradict": self.at.show_contradiction, "refute": self.at.refute}[name](who.address.lower(), *args)
            else:
                self.at.send(who.address.lower(), name, *args, value=value)
        except MoveError as error:
            found = error.reason
        assert found == reason, name
        assert not reason or self.own is before
        self.compare()
        return reason

    def compare(self) -> None:
        for name in NAMES:
            assert self.at.pledge_of(name) == self.own.of(name)
            assert self.chain.call(self.at.contract, "credits", "0x" + name.hex()) == self.own.credits.get(name, 0)
        assert self.chain.call(self.at.contract, "burnt") == self.own.burnt_wei
        held = (
            sum(each.value for each in self.own.pledges.values()) + sum(self.own.credits.values()) + self.own.burnt_wei
        )
        assert self.chain.balance(self.at.contract.address) == held

    def says(self, key: Any, commitment: int, **more: Any) -> SignedStatement:
        fields = {"model_id": b"m" * 32, "lane": LANE, "date": NOW} | more
        domain = fields.pop("domain", self.own.domain)
        return SignedStatement.by(
            bytes(key.key), CommitmentStatement(domain, commitment=bytes([commitment]) * 32, **fields)
        )

    def refuted(self, signed: SignedStatement, catcher: Any, *signers: Any) -> bytes:
        said = refutation(signed, bytes.fromhex(catcher.address[2:]))
        return b"".join(bytes(key.unsafe_sign_hash(said).signature) for key in signers or (FIRST, SECOND))

    def later(self, seconds: int) -> None:
        self.chain.travel(self.chain.time + seconds)


def announced(pair: Pair, who: Any, first: SignedStatement, second: SignedStatement, salt: bytes = b"s" * 32) -> bytes:
    assert not pair.call("announce", who, announcement(bytes.fromhex(who.address[2:]), first, second, salt))
    pair.later(1)
    return salt


def test_two_statements_that_contradict_each_other_cost_the_pledge():
    pair = Pair.new()
    first, second = pair.says(LIAR, 1), pair.says(LIAR, 2, date=NOW + 9)
    salt = announced(pair, CATCHER, first, second)
    assert pair.call("contradict", CATCHER, first, second, salt) == "pledge"  # it has none
    assert not pair.call("put", LIAR, value=ETHER + 1)
    assert not pair.call("put", LIAR, value=2)
    # whoever reads the call on its way has announced nothing of its own, and cannot in the same second
    assert pair.call("contradict", THIEF, first, second, salt) == "announced"
    assert pair.call("contradict", CATCHER, second, first, salt) == "announced"
    assert pair.call("contradict", CATCHER, first, second, b"t" * 32) == "announced"
    assert pair.call("contradict", CATCHER, first, first, salt) == "statement"
    assert pair.call("contradict", CATCHER, first, pair.says(OTHER, 2), salt) == "signature"
    assert not pair.call("contradict", CATCHER, first, second, salt)
    assert pair.own.of(NAMES[0]) == Pledge(lost_at=pair.own.of(NAMES[0]).lost_at)
    assert pair.own.credits == {NAMES[1]: (ETHER + 3) * 4 // 10}
    assert pair.own.burnt_wei >= (ETHER + 3) // 2
    assert pair.call("contradict", CATCHER, first, second, salt) == "pledge"  # once
    assert pair.call("put", LIAR, value=ETHER) == "lost"
    assert not pair.call("withdraw", CATCHER)
    assert pair.call("withdraw", CATCHER) == "credit"


def test_what_is_announced_counts_from_a_later_second_and_its_first_time_stays():
    pair = Pair.new()
    first, second, salt = pair.says(LIAR, 1), pair.says(LIAR, 2), b"s" * 32
    assert not pair.call("put", LIAR, value=ETHER)
    digest = announcement(NAMES[1], first, second, salt)
    now = pair.chain.time
    own = pair.own.announce(now, digest)
    with pytest.raises(MoveError, match="announced"):
        own.contradict(now, NAMES[1], first, second, salt)
    assert own.contradict(now + 1, NAMES[1], first, second, salt).burnt_wei
    assert not pair.call("announce", CATCHER, digest)
    pair.later(5)
    assert not pair.call("announce", THIEF, digest)  # who copies it puts nothing off
    assert not pair.call("contradict", CATCHER, first, second, salt)


def test_nobody_announces_and_shows_in_one_transaction(tmp_path):
    pair = Pair.new()
    assert not pair.call("put", LIAR, value=ETHER)
    (tmp_path / "copyist.vy").write_text(COPYIST)
    copyist, _ = pair.chain.deploy(compile_vyper(tmp_path / "copyist.vy"), sender=THIEF.address)
    first, second, salt = pair.says(LIAR, 1), pair.says(LIAR, 2), b"s" * 32
    digest = announcement(bytes.fromhex(copyist.address[2:]), first, second, salt)
    words = [(each.statement.commitment, each.statement.date, each.signature) for each in (first, second)]
    shown, at = (b"m" * 32, LANE, *words, salt), pair.at.contract.address
    with pytest.raises(ChainError, match="announced"):
        pair.chain.transact(copyist, "both", at, digest, *shown, sender=THIEF.address)
    pair.compare()
    pair.chain.transact(copyist, "announce", at, digest, sender=THIEF.address)
    # One block later it may, and who announces again, its author or another, puts nothing off.
    pair.chain.transact(copyist, "both", at, digest, *shown, sender=THIEF.address)
    assert pair.at.pledge_of(NAMES[0]).lost_at
    # It has no way to take ether: what it is owed stays owed.
    owed = pair.chain.call(pair.at.contract, "credits", copyist.address)
    with pytest.raises(ChainError, match="transfer"):
        pair.chain.transact(copyist, "withdraw", at, sender=THIEF.address)
    assert pair.chain.call(pair.at.contract, "credits", copyist.address) == owed > 0


def test_a_pledge_comes_back_after_its_notice_and_is_lost_within_it():
    pair = Pair.new()
    assert [pair.call(name, LIAR) for name in ("ask_back", "take_back", "withdraw")] == ["pledge", "pledge", "credit"]
    assert pair.call("put", LIAR, value=0) == "value"
    assert not pair.call("put", LIAR, value=ETHER)
    assert pair.call("take_back", LIAR) == "notice"
    assert not pair.call("ask_back", LIAR)
    assert pair.call("ask_back", LIAR) == "notice"
    assert pair.call("put", LIAR, value=1) == "notice"
    pair.chain.travel(pair.own.of(NAMES[0]).asked_at + TERMS.notice_s)
    saved = pair.own
    assert pair.call("take_back", LIAR) == "notice"  # in its last second
    pair.later(1)
    assert not pair.call("take_back", LIAR)
    assert pair.own.credits == {NAMES[0]: ETHER}
    assert not pair.call("put", LIAR, value=5)  # and may come again
    first, second = pair.says(LIAR, 1), pair.says(LIAR, 2)
    late = saved.announce(1, announcement(NAMES[1], first, second, b"s" * 32))
    assert late.contradict(2, NAMES[1], first, second, b"s" * 32).burnt_wei  # asked back, and lost all the same


def test_an_arbiter_says_that_a_word_is_false_and_pays_whom_it_names():
    pair = Pair.new()
    said = pair.says(LIAR, 1)
    assert not pair.call("put", LIAR, value=ETHER)
    good = pair.refuted(said, CATCHER)
    for proof in (
        b"",
        good[:65],
        good[65:] + good[:65],
        good + b"\x00",
        pair.refuted(said, CATCHER, FIRST, FIRST),
        pair.refuted(said, CATCHER, FIRST, OTHER),
        pair.refuted(said, THIEF),
        pair.refuted(pair.says(LIAR, 2), CATCHER),
        bytes(FIRST.unsafe_sign_hash(said.statement.signing_hash).signature) * 2,
    ):
        assert pair.call("refute", CATCHER, said, proof) == "proof"
    assert pair.call("refute", THIEF, said, good) == "proof"  # what it reads on its way names another
    assert pair.call("refute", CATCHER, pair.says(OTHER, 1), pair.refuted(pair.says(OTHER, 1), CATCHER)) == "pledge"
    assert not pair.call("refute", CATCHER, said, good)
    assert pair.own.credits == {NAMES[1]: ETHER * 4 // 10}
    alone = Pair.new(arbiter=False)
    assert not alone.call("put", LIAR, value=ETHER)
    assert alone.call("refute", CATCHER, alone.says(LIAR, 1), alone.refuted(alone.says(LIAR, 1), CATCHER)) == "arbiter"


def test_a_signature_has_one_form():
    pair = Pair.new()
    assert not pair.call("put", LIAR, value=ETHER)
    first, second = pair.says(LIAR, 1), pair.says(LIAR, 2)
    salt = announced(pair, CATCHER, first, second)
    r, s, v = second.signature[:32], int.from_bytes(second.signature[32:64], "big"), second.signature[64]
    for signature in (
        r + (GROUP_ORDER - s).to_bytes(32, "big") + bytes([55 - v]),
        second.signature[:64] + bytes([v - 27]),
        second.signature[:64],
        bytes(65),
        bytes(64) + b"\x1b",
    ):
        other = replace(second, signature=signature)
        assert pair.call("contradict", CATCHER, first, other, salt) == "signature"
        assert pair.call("contradict", CATCHER, other, first, salt) == "signature"
        assert pair.call("refute", CATCHER, other, pair.refuted(other, CATCHER)) == "signature"
        nobody = replace(first, signature=bytes(65))  # two signatures of nobody's are not one key's
        assert pair.call("contradict", CATCHER, nobody, replace(second, signature=bytes(65)), salt) == "signature"


@pytest.mark.parametrize("change", [{"model_id": b"n" * 32}, {"lane": "h100-bf16"}, {"domain": Domain(1, COURT)}])
def test_two_statements_about_two_things_contradict_nothing(change):
    """The contract hashes both as about the first's: then the second is nobody's signature who has a pledge."""
    pair = Pair.new()
    assert not pair.call("put", LIAR, value=ETHER)
    first, second = pair.says(LIAR, 1), pair.says(LIAR, 2, **change)
    for one, two in ((first, second), (second, first)):
        salt = announced(pair, CATCHER, one, two)
        with pytest.raises(MoveError, match="about"):
            pair.own.contradict(pair.chain.time, NAMES[1], one, two, salt)
        with pytest.raises(MoveError):
            pair.at.contradict(CATCHER.address.lower(), one, two, salt)
    both = [pair.says(LIAR, each, domain=Domain(1, COURT)) for each in (1, 2)]  # of another chain's court
    salt = announced(pair, CATCHER, *both)
    with pytest.raises(MoveError, match="about"):
        pair.own.contradict(pair.chain.time, NAMES[1], *both, salt)
    with pytest.raises(MoveError):
        pair.at.contradict(CATCHER.address.lower(), *both, salt)
    with pytest.raises(MoveError, match="about"):
        pair.own.refute(pair.chain.time, NAMES[1], both[0], pair.refuted(both[0], CATCHER))
    pair.compare()


def test_any_calls_in_any_order_agree_to_the_wei():
    taken = refused = 0
    for seed in range(6):
        rng = Random(seed)
        pair = Pair.new(terms=PledgeTerms(3, rng.choice([0, 1, 3_333, 5_000])))
        said = {key: [pair.says(key, each) for each in (1, 2)] for key in KEYS[:3]}
        for _ in range(60):
            name = rng.choice(["put", "put", "ask_back", "take_back", "announce", "contradict", "refute", "withdraw"])
            who, whose = rng.choice(KEYS[:3]), rng.choice(KEYS[:3])
            args: tuple[Any, ...] = ()
            one, two = rng.choice(said[whose]), rng.choice(said[rng.choice([whose, whose, who])])
            if name == "announce":
                args = (announcement(bytes.fromhex(who.address[2:]), *said[whose], b"s" * 32),)
            elif name == "contradict":
                args = (*rng.choice([said[whose], said[whose], [one, two]]), b"s" * 32)
            elif name == "refute":
                args = one, pair.refuted(rng.choice([one, one, one, two]), rng.choice([who, who, who, whose]))
            reason = pair.call(name, who, *args, value=rng.choice([0, 1, 10**18]) if name == "put" else 0)
            taken, refused = taken + (not reason), refused + bool(reason)
            pair.later(rng.choice([0, 1, 2, 5]))
    assert taken > 100
    assert refused > 100


@pytest.mark.parametrize(
    ("field", "value"),
    [("notice_s", 0), ("notice_s", -1), ("notice_s", 2**32), ("reward_bps", 5_001), ("reward_bps", -1)],
)
def test_terms_leave_a_notice_and_burn_half(field, value):
    with pytest.raises(ParameterError, match=field):
        replace(TERMS, **{field: value})
    if value >= 0 and value < 2**32:
        terms = object.__new__(PledgeTerms)
        for name, own in (("notice_s", 1), ("reward_bps", 1), (field, value)):
            object.__setattr__(terms, name, own)
        with pytest.raises(ChainError, match=r"notice|burn"):
            ChainPledges.deploy(Chain(accounts=1), Domain(1, COURT), terms)


def test_a_name_that_the_contract_has_no_room_for_is_about_nothing_here():
    pair = Pair.new()
    both = [pair.says(LIAR, each, lane="l" * 65) for each in (1, 2)]
    with pytest.raises(MoveError, match="about"):
        pair.own.put(NAMES[0], 1).contradict(2, NAMES[1], *both, b"s" * 32)


# --- what a verifier asks


def test_a_policy_takes_what_is_there_and_was_not_asked_back():
    policy = PledgePolicy(5)
    assert policy.takes(Pledge(5))
    for other in (Pledge(4), Pledge(5, asked_at=1), Pledge(lost_at=1), Pledge()):
        assert not policy.takes(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("least_wei", value) for value in (0, -1, True, 1.5)),
        *(("least_notice_s", value) for value in (0, -1, 2**32, True, 1.5)),
        *(("arbiter", value) for value in (b"", bytes(20), b"a" * 19, b"a" * 21)),
    ],
)
def test_a_policy_that_asks_for_nothing_is_none(field, value):
    with pytest.raises(ParameterError, match=field):
        PledgePolicy(**{"least_wei": 1, "least_notice_s": 1} | {field: value})


def test_a_policy_names_a_least_notice_and_an_arbiter():
    one, two = b"\x01" * 20, b"\x02" * 20
    PledgePolicy(1).check_place(1, bytes(20))
    PledgePolicy(1, 9, one).check_place(9, one)
    for place, check in (
        ((8, one), "vouched notice"),
        ((9, two), "vouched arbiter"),
        ((9, bytes(20)), "vouched arbiter"),
    ):
        with pytest.raises(AnswerProofError) as caught:
            PledgePolicy(1, 9, one).check_place(*place)
        assert caught.value.check == check


def test_who_vouches_has_a_pledge_that_was_neither_lost_nor_asked_back(tmp_path):
    with embedded_door() as node:
        chains = {key.address: RpcChain(node.url, [key], poll_s=0.01) for key in (LIAR, CATCHER, OTHER)}
        domain = Domain(chains[LIAR.address].id, COURT)
        made = ChainPledges.deploy(chains[OTHER.address], domain, TERMS)
        file = tmp_path / "pledges.json"
        file.write_bytes(made.stands.dump())
        assert PledgesAt.read(file) == made.stands

        def act(key: Any, call: str, value: int = 0) -> None:
            ChainPledges(chains[key.address], made.stands).send(key.address.lower(), call, value=value)

        def signed(key: Any, **changes: Any) -> Any:
            told = CommitmentStatement(domain, COMMITTED.model_id, COMMITTED.digest, LANE, NOW)
            path = tmp_path / f"{key.address}{len(changes)}.signed"
            path.write_bytes(SignedStatement.by(bytes(key.key), replace(told, **changes)).dump())
            return path

        def vouched(*paths: Any, under: Domain = domain, **more: Any) -> Any:
            given = {"rpc": node.url, "pledges": file, "least_pledge": "1"} | more
            try:
                return vouched_signers(VouchOptions(vouched=list(paths), **given), COMMITTED, LANE, under, NOW)
            except (AnswerProofError, NodeError) as error:
                return error.check

        own, other = signed(LIAR), signed(CATCHER)
        assert vouched(own, other) == "vouched keys"
        assert vouched() == "vouched keys"
        assert vouched(own, least=2) == "vouched keys"  # and no fault of the command line
        act(LIAR, "put", ETHER - 1)
        assert vouched(own) == "vouched keys"
        act(LIAR, "put", 1)
        assert vouched(own, other) == (NAMES[0],)
        assert vouched(own, other, least=2) == "vouched keys"
        assert vouched(own, signed(LIAR, date=NOW - 1)) == (NAMES[0],)  # twice, and one key
        assert vouched(own, signer=[LIAR.address[2:]]) == (NAMES[0],)
        assert vouched(own, other, signer=[CATCHER.address[2:]]) == "vouched keys"
        assert vouched(own, least_pledge="1.1") == "vouched keys"
        elsewhere = [
            SignedStatement.read(signed(LIAR, domain=Domain(1, COURT), commitment=bytes([each] * 32)))
            for each in (1, 2)
        ]
        evidence = tmp_path / "evidence"  # of what it has said of another court: that costs no pledge here
        evidence.write_bytes(b"".join(each.dump() for each in elsewhere))
        assert vouched(own, contradiction=[evidence]) == "vouched keys"
        assert vouched(own, least_notice=TERMS.notice_s) == (NAMES[0],)
        assert vouched(own, least_notice=TERMS.notice_s + 1) == "vouched notice"
        assert vouched(own, pledge_arbiter=OTHER.address) == "vouched arbiter"  # there is none
        judged = tmp_path / "judged.json"
        judged.write_bytes(ChainPledges.deploy(chains[OTHER.address], domain, TERMS, OTHER.address).stands.dump())
        assert vouched(own, pledges=judged, pledge_arbiter=OTHER.address.lower()) == "vouched keys"  # no pledge yet
        assert vouched(own, under=replace(domain, court=b"\x09" * 20)) == "vouched court"
        assert vouched(own, under=replace(domain, chain_id=1)) == "vouched court"
        act(CATCHER, "put", ETHER)
        act(CATCHER, "ask_back")
        assert vouched(other) == "vouched keys"
        with pytest.raises(InputError, match="above 0"):
            vouched(own, least_pledge="0")
        # What can never be met, or asks for nobody's word, is a fault of the command line.
        with pytest.raises(ParameterError, match="least"):
            vouched(own, signer=[LIAR.address[2:]], least=2)
        with pytest.raises(ParameterError, match="keys"):
            vouched_signers(VouchOptions(vouched=[own]), COMMITTED, LANE, domain, NOW)
        document = json.loads(file.read_bytes())
        for changes, check in (
            ({"reward_bps": 1}, "contract"),
            ({"address": "09" * 20}, "contract"),
            ({"arbiter": "09" * 20}, "contract"),
            ({"domain": {"chain_id": 1, "court": COURT.hex()}}, "chain-id"),
            ({"notice_s": 2 * TERMS.notice_s}, "contract"),
            ({"notice_s": 0}, "deployment"),
            ({"format": "otr-pledges/9"}, "deployment"),
        ):
            lie = tmp_path / "lie.json"
            lie.write_text(json.dumps(document | changes, separators=(",", ":"), sort_keys=True) + "\n")
            # What it says would do: what stands on chain decides.
            least = {"least_notice": 2 * TERMS.notice_s} if "notice_s" in changes else {}
            least |= {"pledge_arbiter": "09" * 20} if "arbiter" in changes else {}
            assert vouched(own, pledges=lie, **least) == check
        false = signed(LIAR, commitment=bytes(32))
        catcher = ChainPledges(chains[CATCHER.address], made.stands)
        catcher.contradict(CATCHER.address.lower(), SignedStatement.read(own), SignedStatement.read(false), b"s" * 32)
        assert vouched(own) == "vouched keys"
        assert int(ask(node, "eth_getBalance", "0x" + made.stands.address.hex(), "latest"), 16) == 2 * ETHER


@pytest.mark.parametrize(
    "given",
    [
        {"pledges": "x"},
        {"least_pledge": "1"},
        {"pledges": "x", "least_pledge": "1"},
        {"rpc": "x", "pledges": "x"},
        {"rpc": "x"},
        {"least_notice": 1},
        {"pledge_arbiter": "11" * 20},
        {"rpc": "x", "pledges": "x", "least_notice": 1},
    ],
)
def test_pledges_are_named_whole(given):
    with pytest.raises(InputError, match="all three together") as caught:
        VouchOptions(**given)
    assert isinstance(caught.value, OtrError)
