"""Answers that the beacon draws: who summons, who vouches, and what silence costs; on the embedded chain,
and once by the commands on a node."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from otr_core import merkle
from otr_core.dispute.court import Court, receipt_leaf
from otr_core.dispute.duties import LeafPlace, spot_statement, spot_subject
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.state import Verdict
from otr_core.errors import AnswerProofError, MoveError, OtrError
from otr_core.poea import OnceStore
from otr_core.poea.document import load_receipt_file
from otr_node.chain.answers import answers_in
from otr_node.chain.deployment import load_deployment
from otr_node.chain.followed import Followed
from otr_node.chain.places import load_place
from otr_node.chain.verdicts import summons, vouch
from otr_node.enclave import SimulatedEnclave
from otr_node.serve import serve
from otr_paper.labs.disputes.world import tiny, tiny_bench
from tests.helpers.networks import BY_NAME, FISHERMAN, OPERATOR, OWN, REGISTRAR, Embedded, Network, embedded, honest
from tests.helpers.nodes import anvil, needs_anvil
from tests.otr_node.chain.test_network import file_of, keyfile, otr

__all__ = ["keyfile"]
ARBITERS = [Account.from_key(bytes([number]) * 32) for number in (7, 8)]
BEACON = b"b" * 32


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_profile(project.data / FILE).court, arity_bits=2, spot_bps=10_000)


@pytest.fixture
def network(terms, tmp_path) -> Embedded:
    found = embedded(terms, tmp_path, ARBITERS)
    found.answered(honest())
    return found


def post(network: Network, value: bytes = BEACON) -> None:
    network.later(12)
    network.court(REGISTRAR).call(None, REGISTRAR.address.lower(), "post_draw", value)


def court_of(network: Network) -> Court:
    followed = Followed(network.court(FISHERMAN), {OWN.id: OWN.registered})
    followed.read()
    return followed.court


def own_file(network: Network) -> tuple[Any, LeafPlace]:
    (answer,) = answers_in(network.folder, lambda name, error: None)
    assert answer.place is not None
    return answer.file, answer.place


def summoned(network: Network) -> None:
    post(network)
    fisherman = network.fisherman()
    while fisherman.step():
        pass
    assert network.status() == [ChallengeStatus.SPOT]


def test_what_the_beacon_drew_is_summoned_once_and_the_operator_is_told(network):
    fisherman = network.fisherman()
    assert not fisherman.step()  # nothing was drawn yet
    post(network)
    post(network, b"c" * 32)
    assert fisherman.step()
    assert not fisherman.step()
    assert not network.fisherman().step()
    events = [each["event"] for each in network.events]
    assert [each for each in events if each != "judged"] == ["summon"]
    operator = network.defender(None)
    operator.report = network.report
    operator.step()
    operator.step()
    assert [each["event"] for each in network.events].count("summoned") == 1


@pytest.mark.parametrize("why", ["rate of none", "no arbiter", "drawn before its batch", "late"])
def test_what_was_not_drawn_is_not_summoned(terms, tmp_path, why):
    stated = replace(terms, spot_bps=0) if why == "rate of none" else terms
    network = embedded(stated, tmp_path, () if why == "no arbiter" else ARBITERS)
    if why == "drawn before its batch":
        post(network)
    network.answered(honest())
    if why != "drawn before its batch":
        post(network)
    if why == "late":
        network.later(stated.window_s - 30)
    fisherman = network.fisherman()
    fisherman.step()
    assert network.status() == []
    assert "refused" not in [each["event"] for each in network.events]


def test_silence_convicts(network, terms):
    summoned(network)
    network.later(terms.duty_s + 10)
    assert network.fisherman().step()
    assert network.status() == [ChallengeStatus.WON]
    assert court_of(network).operators[OPERATOR.address.lower()].convicted


def test_what_both_arbiters_vouch_for_acquits_and_one_alone_does_not(network):
    summoned(network)
    court, (file, place) = court_of(network), own_file(network)
    signed = [
        vouch(court, file, place, lambda: None, lambda said, key=key: bytes(key.unsafe_sign_hash(said).signature))
        for key in ARBITERS
    ]
    number, me = summons(court, place), OPERATOR.address.lower()
    at = network.court(OPERATOR)
    for proof in (signed[0], signed[0] * 2, signed[1] + signed[0]):
        with pytest.raises(MoveError, match="proof"):
            at.call(None, me, "attest", number, Verdict.CHALLENGER_LOSES.value, proof)
    with pytest.raises(MoveError, match="proof"):  # they have not signed that it is false
        at.call(None, me, "attest", number, Verdict.OPERATOR_LOSES.value, b"".join(signed))
    at.call(None, me, "attest", number, Verdict.CHALLENGER_LOSES.value, b"".join(signed))
    assert network.status() == [ChallengeStatus.LOST]
    with pytest.raises(OtrError, match="found none"):
        summons(court_of(network), place)


def _refused() -> None:
    raise AnswerProofError("sum", "another", "this")


def test_an_arbiter_believes_nothing(network):
    court, (file, place) = court_of(network), own_file(network)
    made: list[bytes] = []

    def signs(said: bytes) -> bytes:
        made.append(said)
        return bytes(65)

    with pytest.raises(OtrError, match="drawn"):
        vouch(court, file, place, lambda: None, signs)
    summoned(network)
    court = court_of(network)
    elsewhere = replace(court, drawn=court.drawn | {spot_subject(place.batch, 1)})
    order = replace(file.order, nonce=b"o" * 32)
    for words, changed, file_, place_ in (
        ("place", court, replace(file, signature=bytes(65)), place),
        ("place", elsewhere, file, LeafPlace(place.batch, 1, place.path)),
        ("drawn", court, file, LeafPlace(b"x" * 32, place.at, place.path)),
        ("key", replace(court, keys={}), file, place),
        ("revoked", replace(court, revoked={file.receipt.key_id: 0}), file, place),
        ("model", replace(court, models={}), file, place),
        ("order", court, replace(file, order=order), place),
    ):
        with pytest.raises(OtrError, match=words):
            vouch(changed, file_, place_, lambda: None, signs)
    with pytest.raises(AnswerProofError):
        vouch(court, file, place, _refused, signs)
    assert made == []
    assert vouch(court, file, place, lambda: None, signs) == bytes(65)
    subject = spot_subject(place.batch, place.at)
    assert made == [spot_statement(court.domain, subject, Verdict.CHALLENGER_LOSES)]


def test_a_false_receipt_that_was_drawn_is_vouched_for_by_nobody(terms, tmp_path):
    network = embedded(terms, tmp_path, ARBITERS)
    network.answered(BY_NAME["answerTokens: more than ordered"].tell())
    post(network)
    file, place = own_file(network)
    court = replace(court_of(network), drawn=frozenset({spot_subject(place.batch, place.at)}))
    leaf = merkle.leaf_hash(receipt_leaf(court.domain, file.receipt, file.signature))
    merkle.verify_inclusion(court.batches[place.batch].root, leaf, place.at, 1, place.path)
    with pytest.raises(OtrError, match="convicts"):
        vouch(court, file, place, lambda: None, lambda said: bytes(65))


@pytest.mark.slow
@needs_anvil
def test_a_drawn_answer_goes_through_all_commands(project, tmp_path, keyfile):
    """Deployed with two arbiters, committed, drawn, summoned by a watcher, proven, vouched for twice,
    attested."""
    model, court, answers = str(tiny_bench().folder), tmp_path / "court.json", tmp_path / "answers"
    answers.mkdir()
    stated, shipped = tmp_path / "own.toml", (project.data / FILE).read_text()
    stated.write_text(re.sub(r"(?m)^(spot_bps = \{ value = )\d+", r"\g<1>10000", shipped))
    with anvil() as node:
        rpc, at = ["--rpc", node.url], ["--court", str(court)]
        as_ = {
            name: [*rpc, "--key", str(keyfile(key))]
            for name, key in zip(
                ("registrar", "operator", "fisherman", "first", "second"),
                (REGISTRAR, OPERATOR, FISHERMAN, *ARBITERS),
                strict=True,
            )
        }
        signers = [word for key in ARBITERS for word in ("--arbiter", key.address)]
        deploy = ["chain", "deploy", *as_["registrar"], "--profile", str(stated), "--model", model, "--out", str(court)]
        otr(*deploy, *signers[:2], expect=2)
        otr(*deploy, *signers[:2] * 2, expect=2)
        otr(*deploy, *signers)
        otr("chain", "register", *as_["operator"], *at, "--stake", "1")
        network = Network(node, load_deployment(court.read_bytes()), tmp_path)
        served = dataclasses.replace(tiny(), domain=network.court(OPERATOR).domain, trace_secret=None, sealed=False)
        enclave = SimulatedEnclave(b"e" * 32, OWN.id, b"n" * 32, network.court(OPERATOR).chain.time)
        file, _ = serve(enclave, OWN.model, served.order, served.query, served=OnceStore())
        order, receipt, place = (answers / f"one.{kind}.json" for kind in ("order", "receipt", "place"))
        order.write_bytes(served.placed.dump())
        receipt.write_bytes(file.dump())
        otr("chain", "register", *as_["registrar"], *at, *file_of(receipt))
        otr("chain", "commit", str(answers), *as_["operator"], *at)
        network.later(12)
        otr("chain", "draw", BEACON.hex(), *as_["registrar"], *at)
        watched = otr("watch", "--orders", str(answers), *as_["fisherman"], *at, "--model", model, "--seconds", "2")
        assert '"event": "summon"' in watched.stdout
        proof, signatures = tmp_path / "proof", [tmp_path / "first.sig", tmp_path / "second.sig"]
        otr("prove", str(receipt), "--order", str(order), "--model", model, "--out", str(proof))
        about = ["--receipt", str(receipt), "--order", str(order), "--place", str(place), "--model", model]
        for name, out in zip(("first", "second"), signatures, strict=True):
            otr("chain", "vouch", str(proof), *as_[name], *at, *about, "--out", str(out))
        torn = tmp_path / "torn"
        torn.write_bytes(proof.read_bytes()[:-1])
        refused = otr("chain", "vouch", str(torn), *as_["first"], *at, *about, "--out", str(tmp_path / "x"), expect=1)
        assert "error: " in refused.stderr
        assert not (tmp_path / "x").exists()
        attest = ["chain", "attest", *map(str, signatures), *as_["operator"], *at, "--place", str(place)]
        otr(*attest)
        status = json.loads(otr("chain", "status", *rpc, *at, "--json").stdout)
        assert [each["status"] for each in status["challenges"]] == ["LOST"]
        assert not status["operators"][0]["convicted"]
        otr(*attest, expect=1)  # nothing is due any more
    assert load_receipt_file(receipt.read_bytes()).receipt.order_id == served.order.id
    assert isinstance(load_place(place.read_bytes()), LeafPlace)
    assert Path(signatures[0]).stat().st_size == 65
