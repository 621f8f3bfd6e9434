"""A fisherman and an operator as they run on a network: on a node, from files, killed and started
again."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.players import HonestChallenger
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.registry import Key
from otr_core.dispute.state import STATES
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, NodeError
from otr_core.poea import OnceStore
from otr_core.poea.document import load_receipt_file
from otr_core.poea.receipt import sign_receipt
from otr_node.chain.access import connect
from otr_node.chain.answers import dump_leaves
from otr_node.chain.defender import Defender
from otr_node.chain.deployment import load_deployment
from otr_node.chain.fisherman import Fisherman
from otr_node.chain.followed import Followed
from otr_node.chain.keys import load_key, write_key
from otr_node.chain.onchain import ChainCourt
from otr_node.chain.options import SenderOptions
from otr_node.chain.outbox import Outbox
from otr_node.chain.places import dump_place, load_place
from otr_node.chain.rpc import RpcChain
from otr_node.enclave import SimulatedEnclave
from otr_node.serve import serve
from otr_paper.labs.disputes.parties import KEY, KEY_ID, KEYS
from otr_paper.labs.disputes.world import tiny, tiny_bench
from tests.helpers import command_line
from tests.helpers.networks import BY_NAME, FISHERMAN, OPERATOR, OWN, REGISTRAR, Network, honest, settle
from tests.helpers.nodes import CHAIN_ID, anvil, needs_anvil
from tests.helpers.serving import Server, own_order

pytestmark = [pytest.mark.slow, needs_anvil]


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_profile(project.data / FILE).court, arity_bits=2)


@pytest.fixture
def network(terms, tmp_path) -> Iterator[Network]:
    with anvil() as node:
        chain = RpcChain(node.url, [REGISTRAR], chain_id=CHAIN_ID, poll_s=0.01)
        court = ChainCourt(chain, terms, REGISTRAR.address.lower())
        court.register_model(OWN.id, OWN.trees)
        court.register_key(KEY_ID, Key(OPERATOR.address.lower(), OWN.id, KEYS.address))
        found = Network(node, load_deployment(court.deployment.dump()), tmp_path)
        assert court.deployment == found.stands
        found.court(OPERATOR).call(None, OPERATOR.address.lower(), "register", value=10**18)
        yield found


TOLD = [
    "answerTokens: more than ordered",
    "finish: 'stop' without a stop id",
    "tokensRoot: another token than the model's",
    "tokensRoot: a chosen token under another salt",
    "statesRoot: a root of nothing",
    "statesRoot: a wrong value of mlp.product",
    "seedHash: no seed has it",
    "tokensRoot: another prompt token",
]


@pytest.mark.parametrize("name", TOLD)
def test_a_fisherman_convicts_by_files_and_chain_alone_and_is_paid(network, name):
    """It is made anew for every step, as if it had been killed: one bond, one challenge, the reward."""
    network.answered(BY_NAME[name].tell())
    made: list[Fisherman] = []

    def anew() -> Fisherman:
        if not made or name == "tokensRoot: another token than the model's":
            made.append(network.fisherman())
        return made[-1]

    before = anew().chain.chain.balance(FISHERMAN.address)
    settle(network, anew, network.defender(BY_NAME[name].tell()))
    assert network.status() == [ChallengeStatus.WON]
    court = anew().chain
    terms = network.stands.terms
    reward = 10**18 * terms.slash_bps // 10_000 * terms.reward_bps // 10_000
    assert court.chain.call(court.court, "credits", FISHERMAN.address) == 0
    assert reward - 10**17 < court.chain.balance(FISHERMAN.address) - before < reward  # gas apart
    assert [each["event"] for each in network.events].count("challenge") == 1


@pytest.mark.parametrize("given", ["all", "one wrong", "one too few"])
def test_leaves_that_are_handed_over_name_the_state_and_others_are_left_aside(network, given):
    told = BY_NAME["statesRoot: a wrong value of mlp.product"].tell()
    network.answered(told)
    raw = dump_leaves(told.operator.run.trace)
    raw = {"all": raw, "one wrong": bytes(32) + raw[32:], "one too few": raw[32:]}[given]
    (network.folder / "mystery.leaves").write_bytes(raw)
    fisherman = network.fisherman()
    settle(network, lambda: fisherman, network.defender(told))
    assert network.status() == [ChallengeStatus.WON]
    judged = next(each for each in network.events if each["event"] == "judged")
    assert (judged["case"] >= STATES) == (given == "all")
    moves = [each["move"] for each in network.events if each["event"] == "move"]
    assert (moves.count("choose") == 3) == (given == "all"), moves  # below the state; else a walk down to it before


def test_an_honest_answer_is_left_alone_and_paid(network):
    batch = network.answered(honest())
    fisherman, operator = network.fisherman(), network.defender(None)
    settle(network, lambda: fisherman, operator)
    assert network.status() == []
    assert next(each for each in network.events if each["event"] == "judged")["case"] is None
    assert operator.followed.court.batches[batch].closed


def test_an_honest_operator_defends_from_its_folder_and_the_liar_pays(network):
    """A fisherman whose own run is false loses its bond to the operator."""
    told = honest()
    network.answered(told)
    liar = BY_NAME["statesRoot: a wrong value of mlp.product"].tell().operator.run

    class Liar(Fisherman):
        def run_again(self, answer: Any, operator: str) -> tuple[int | None, str]:
            return 0, "a lie"

        def player(self, number: int) -> Any:
            return HonestChallenger(liar)

    base = network.fisherman()
    about = base.chain, base.me, base.models, base.folder, base.report, base.secret, base.budget_wei, base.store
    fisherman = Liar(*about)
    settle(network, lambda: fisherman, network.defender(None))
    assert network.status() == [ChallengeStatus.LOST]


@pytest.mark.parametrize("placed", [True, False])
def test_a_demanded_receipt_is_shown_or_published(network, placed):
    told = honest()
    if placed:
        network.answered(told)
    else:
        network.answered(told, "committed elsewhere")
        signed = replace(told.signed, receipt=replace(told.signed.receipt, response_digest=b"o" * 32))
        told = replace(told, signed=sign_receipt(KEY, told.signed.order, signed.receipt))
    asked, me = network.court(FISHERMAN), FISHERMAN.address.lower()
    bond, receipt = network.stands.terms.bond_wei, told.signed.receipt
    asked.demand(None, me, OPERATOR.address.lower(), receipt, told.signed.signature, value=bond)
    operator = network.defender(None)
    while operator.step():
        pass
    assert network.status() == [ChallengeStatus.LOST if placed else ChallengeStatus.MOOT]
    assert len(operator.followed.court.batches) == (1 if placed else 2)


@pytest.mark.parametrize("published", [True, False])
def test_a_receipt_that_is_not_committed_is_demanded_once_its_time_has_passed(network, terms, published):
    """Published on demand it is judged as any other; not shown in time it convicts."""
    told = BY_NAME["statesRoot: a root of nothing"].tell()
    network.answered(told)
    (network.folder / "mystery.place.json").unlink()
    other = sign_receipt(KEY, told.signed.order, replace(told.signed.receipt, response_digest=b"o" * 32))
    raw = load_receipt_file((network.folder / "mystery.receipt.json").read_bytes())
    raw = replace(raw, receipt=other.receipt, signature=other.signature)
    (network.folder / "mystery.receipt.json").write_bytes(raw.dump())  # in no batch
    fisherman = network.fisherman()
    assert not fisherman.step()  # it has just come
    network.later(fisherman.patience_s - 30)
    assert not fisherman.step()
    network.later(60)
    assert fisherman.step()
    assert network.status() == [ChallengeStatus.DEMAND]
    assert not network.fisherman(budget_wei=terms.bond_wei).step()  # one bond is at stake: no second one
    if published:
        operator = network.defender(told)
        while operator.step():
            pass
        assert network.status() == [ChallengeStatus.MOOT]
        settle(network, lambda: fisherman, operator)
        assert network.status() == [ChallengeStatus.MOOT, ChallengeStatus.WON]
        return
    assert not fisherman.step()
    network.later(terms.duty_s + 10)
    assert fisherman.step()
    assert network.status() == [ChallengeStatus.WON]
    assert [each["event"] for each in network.events].count("demand") == 1


def test_no_bond_above_the_budget_and_none_after_the_window(network, terms):
    network.answered(BY_NAME["statesRoot: a root of nothing"].tell())
    poor = network.fisherman(budget_wei=terms.bond_wei - 1)
    assert not poor.step()
    assert [each["event"] for each in network.events][-1] == "not challenged"
    assert "budget" in network.events[-1]["why"]
    network.later(terms.window_s)
    late = network.fisherman()
    assert not late.step()
    assert "window" in network.events[-1]["why"]
    assert network.status() == []


def test_files_that_cannot_be_used_are_said_once_and_cost_nothing(network):
    network.answered(BY_NAME["statesRoot: a root of nothing"].tell())
    place = network.folder / "mystery.place.json"
    right = place.read_bytes()
    (network.folder / "junk.order.json").write_text("{")
    (network.folder / "junk.receipt.json").write_text("[]")
    wrong = replace_place(right, at=5)
    place.write_bytes(wrong)
    fisherman = network.fisherman()
    for _ in range(3):
        assert not fisherman.step()
    assert [each["event"] for each in network.events] == ["unreadable", "misplaced"]
    place.write_bytes(right)
    assert fisherman.step()  # it waits for what is missing


def replace_place(raw: bytes, **changes: Any) -> bytes:
    place = load_place(raw)
    return dump_place(LeafPlace(place.batch, changes["at"], place.path))


# --- real processes, by the command line


def convicted(operator: Defender) -> bool:
    return operator.me in operator.followed.logs.convicted


def otr(*words: str, expect: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command of ``otr``, run as a process."""
    done = command_line.otr(*words, env={**os.environ, "OTR_PASSWORD": "correct horse"} | more)
    assert done.returncode == expect, (words, done.returncode, done.stdout[-400:], done.stderr[-800:])
    if expect == 2:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "correct horse" not in done.stderr
    return done


@pytest.fixture
def keyfile(tmp_path_factory) -> Callable[[Any], Path]:
    """The encrypted key file of an account, with work that suits a test. Each test has its own: beside it
    lies what was signed, and what one test's chain did not mine the next one's never would."""
    folder = tmp_path_factory.mktemp("keys")

    def made(key: Any) -> Path:
        path = folder / f"{key.address}.json"
        if not path.exists():
            path.write_text(json.dumps(Account.encrypt(key.key, "correct horse", kdf="scrypt", iterations=2)))
        return path

    return made


def test_a_court_is_deployed_and_used_from_the_command_line_and_a_killed_fisherman_goes_on(
    project, tmp_path, keyfile, terms
):
    """Deploy, stake, register, a false answer; ``otr watch`` is killed without warning several times
    and convicts all the same, with one bond."""
    lie = BY_NAME["tokensRoot: another token than the model's"]
    model, court = str(tiny_bench().folder), tmp_path / "court.json"
    stated = tmp_path / "own.toml"
    stated.write_text((project.data / FILE).read_text().replace("arity_bits = { value = 4", "arity_bits = { value = 2"))
    with anvil() as node:
        rpc = ["--rpc", node.url]
        as_ = {name: [*rpc, "--key", str(keyfile(key))] for name, key in
               {"registrar": REGISTRAR, "operator": OPERATOR, "fisherman": FISHERMAN}.items()}  # fmt: skip
        otr("chain", "deploy", *as_["registrar"], "--profile", str(stated), "--model", model, "--out", str(court))
        at = ["--court", str(court)]
        otr("chain", "register", *as_["operator"], *at, "--stake", "1")
        network = Network(node, load_deployment(court.read_bytes()), tmp_path)
        network.court(REGISTRAR).register_key(KEY_ID, Key(OPERATOR.address.lower(), OWN.id, KEYS.address))
        network.answered(lie.tell())
        defender = network.defender(lie.tell())
        words = [sys.executable, "-m", "otr_core.cli", "watch", *as_["fisherman"], *at, "--orders", str(tmp_path),
                 "--model", model, "--poll", "0.1"]  # fmt: skip
        environment = {**os.environ, "OTR_PASSWORD": "correct horse"}
        kills, log = 0, tmp_path / "watch.jsonl"
        end = time.monotonic() + 240
        with log.open("w") as out:
            watch = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
            seen = 0
            while time.monotonic() < end and not convicted(defender):
                defender.step()
                lines = sum(log.read_text().count(f'"event": "{each}"') for each in ("challenge", "open", "move"))
                if kills < 4 and lines > seen:
                    seen, kills = lines, kills + 1
                    os.kill(watch.pid, signal.SIGKILL)
                    watch.wait()
                    watch = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
                time.sleep(0.05)
            network.later(terms.claim_s + 10)
            while time.monotonic() < end and '"event": "withdraw"' not in log.read_text():
                time.sleep(0.1)
            time.sleep(0.5)
            watch.terminate()
            watch.wait()
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert kills >= 2  # up to four: two events may be written between two looks
        assert [each["event"] for each in events].count("started") == kills + 1
        status = json.loads(otr("chain", "status", *rpc, *at, "--json").stdout)
        assert [(each["status"], each["challenger"]) for each in status["challenges"]] == [
            ("WON", FISHERMAN.address.lower())
        ]
        assert status["operators"][0]["convicted"]
        assert all("why" in each or each["event"] in ("started", "stopped", "judged") for each in events)


def test_an_honest_answer_goes_through_all_commands(project, tmp_path, keyfile):
    """Key registered by its receipt, committed, run again by ``challenge``, defended, paid, withdrawn."""
    model, court, answers = str(tiny_bench().folder), tmp_path / "court.json", tmp_path / "answers"
    answers.mkdir()
    with anvil() as node:
        rpc, at = ["--rpc", node.url], ["--court", str(court)]
        registrar, operator, fisherman = (
            [*rpc, "--key", str(keyfile(key))] for key in (REGISTRAR, OPERATOR, FISHERMAN)
        )
        otr("chain", "deploy", *registrar, "--out", str(court))
        assert load_deployment(court.read_bytes()).terms == read_profile(project.data / FILE).court
        otr("chain", "register", *registrar, *at, "--model", model)
        otr("chain", "register", *operator, *at, "--stake", "1")
        network = Network(node, load_deployment(court.read_bytes()), tmp_path)
        domain = network.court(OPERATOR).domain
        served = dataclasses.replace(tiny(), domain=domain, trace_secret=None, sealed=False)
        enclave = SimulatedEnclave(b"e" * 32, OWN.id, b"n" * 32, network.court(OPERATOR).chain.time)
        file, _ = serve(enclave, OWN.model, served.order, served.query, served=OnceStore())
        (answers / "one.order.json").write_bytes(served.placed.dump())
        (answers / "one.receipt.json").write_bytes(file.dump())
        named = file_of(answers / "one.receipt.json")
        kind = b"p" * 32
        otr("chain", "register", *registrar, *at, *named, "--platform", kind.hex())
        followed = Followed(network.court(FISHERMAN), {})
        followed.read()
        assert followed.court.keys[file.keys.digest].platform == kind
        # Beside it lies one whose key the court does not know: named, and in no batch, where it would convict.
        stranger = SimulatedEnclave(b"s" * 32, OWN.id, b"n" * 32, enclave.issued_at)
        other = own_order(OWN.id, domain=domain)
        unknown, _ = serve(stranger, OWN.model, other.order, other.query, served=OnceStore())
        (answers / "two.order.json").write_bytes(other.dump())
        (answers / "two.receipt.json").write_bytes(unknown.dump())
        said = otr("chain", "commit", str(answers), *operator, *at)
        assert "left for later, because the court does not know their key: two" in said.stderr.splitlines()
        assert not (answers / "two.place.json").exists()
        assert "of 1 receipts" in said.stdout
        place = load_place((answers / "one.place.json").read_bytes())
        assert place.batch.hex() in said.stdout
        assert "commit_batch: " in said.stderr  # and its gas
        network.court(FISHERMAN).call(None, FISHERMAN.address.lower(), "escrow", place.batch, value=4_000)
        judged = otr("chain", "challenge", str(answers), *fisherman, *at, "--model", model)
        events = [json.loads(line) for line in judged.stdout.splitlines()]
        assert [each["case"] for each in events if each["event"] == "judged"] == [None]
        network.later(network.stands.terms.window_s + network.stands.terms.reveal_s + 10)
        defend = ["--model", model, "--seconds", "0"]
        for _ in range(2):
            otr("chain", "defend", str(answers), *operator, *at, *defend)
        status = json.loads(otr("chain", "status", *rpc, *at, "--json").stdout)
        assert status["batches"][0]["final"]
        assert status["owed_wei"] == {}
        assert "withdrawn: 0 wei" in otr("chain", "withdraw", *operator, *at, "--stake").stdout
        network.later(network.stands.terms.exit_s + 10)
        assert f"withdrawn: {10**18} wei" in otr("chain", "withdraw", *operator, *at, "--stake").stdout


def test_what_a_server_answers_is_committed_beside_it_and_watched(tmp_path, keyfile):
    """``otr serve``, ``otr operate`` killed and started again, ``otr ask`` that waits for the place, and a
    fisherman who runs the answers again; then the operator finalises."""
    folder, court, own = tiny_bench().folder, tmp_path / "court.json", tmp_path / "own"
    model, environment = ["--model", str(folder)], {**os.environ, "OTR_PASSWORD": "correct horse"}
    own.mkdir()
    with anvil(timestamp=int(time.time())) as node:
        rpc, at = ["--rpc", node.url], ["--court", str(court)]
        registrar, operator, fisherman = (
            [*rpc, "--key", str(keyfile(key))] for key in (REGISTRAR, OPERATOR, FISHERMAN)
        )
        otr("chain", "deploy", *registrar, *model, "--out", str(court))
        otr("chain", "register", *operator, *at, "--stake", "1")
        network = Network(node, load_deployment(court.read_bytes()), tmp_path)
        where = ["--chain-id", str(CHAIN_ID), "--court", network.stands.court]
        with Server(folder, tmp_path / "state", tuple(where)) as server:

            def ask_for(name: str, *more: str) -> None:
                files = {"order-out": "order.json", "out": "receipt.json", "leaves": "leaves"}
                kept = [word for option, end in files.items() for word in (f"--{option}", str(own / f"{name}.{end}"))]
                otr("ask", server.url, "--prompt", "w5 w6", "--max-tokens", "4", *model, *where, *kept, *more)

            ask_for("early")
            early = load_receipt_file((own / "early.receipt.json").read_bytes())
            assert server.ask(f"/v1/receipts/{early.receipt.order_id.hex()}/place")[0] == 404
            words = [sys.executable, "-m", "otr_core.cli", "operate", str(tmp_path / "state"), *operator, *at, *model,
                     "--every", "0.5", "--poll", "0.1"]  # fmt: skip
            log = tmp_path / "operate.jsonl"

            def said(event: str) -> int:
                end = time.monotonic() + 60
                while not (found := log.read_text().count(f'"event": "{event}"')) and time.monotonic() < end:
                    time.sleep(0.05)
                return found

            def keyless() -> float:
                """What the server's metrics say of receipts that wait for their key."""
                lines = server.ask("/metrics")[1].decode().splitlines()
                return float(next(line.split()[1] for line in lines if line.startswith("otr_receipts_without_key ")))

            with log.open("w") as out:
                first = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
                assert said("waiting") == 1  # for the key
                assert keyless() == 1.0
                otr("chain", "register", *registrar, *at, *file_of(own / "early.receipt.json"))
                assert said("committed")
                assert keyless() == 0.0
                os.kill(first.pid, signal.SIGKILL)
                first.wait()
                again = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
                ask_for("late", "--seal", "--place", str(own / "late.place.json"))
                raw = server.ask(f"/v1/receipts/{early.receipt.order_id.hex()}/place")[1]
                (own / "early.place.json").write_bytes(canonical_json(raw) + b"\n")
                judged = otr("chain", "challenge", str(own), *fisherman, *at, *model)
                network.later(network.stands.terms.window_s + network.stands.terms.reveal_s + 10)
                assert said("finalise")
                again.terminate()
                again.wait()
            places = {load_place((own / f"{name}.place.json").read_bytes()).batch for name in ("early", "late")}
            assert len(places) == 2
            events = [json.loads(line) for line in judged.stdout.splitlines()]
            assert [each["case"] for each in events if each["event"] == "judged"] == [None, None]
            assert server.stop() == 0


def file_of(path: Path) -> list[str]:
    return ["--receipt", str(path), "--operator", OPERATOR.address]


def test_unusable_input_is_one_line_and_exit_2(network, tmp_path, keyfile):
    court = tmp_path / "court.json"
    court.write_bytes(network.stands.dump())
    key, rpc = str(keyfile(OPERATOR)), network.node.url
    poor, junk = Account.from_key(b"p" * 32), tmp_path / "junk"
    junk.write_text("{}")
    other = tmp_path / "other.json"
    other.write_bytes(replace(network.stands, terms=replace(network.stands.terms, clock_s=999)).dump())
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(replace(network.stands, chain_id=1).dump())
    words = ["chain", "register", "--stake", "1"]
    cases = [
        ("rpc", ["--rpc", "http://127.0.0.1:9", "--key", key, "--court", str(court)], {}),
        ("rpc", ["--rpc", "nonsense", "--key", key, "--court", str(court)], {}),
        ("password", ["--rpc", rpc, "--key", key, "--court", str(court)], {"OTR_PASSWORD": "wrong"}),
        ("key", ["--rpc", rpc, "--key", str(junk), "--court", str(court)], {}),
        ("chain-id", ["--rpc", rpc, "--key", key, "--court", str(elsewhere)], {}),
        ("contract", ["--rpc", rpc, "--key", key, "--court", str(other)], {}),
        ("deployment", ["--rpc", rpc, "--key", key, "--court", str(junk)], {}),
        ("funds", ["--rpc", rpc, "--key", str(keyfile(poor)), "--court", str(court)], {}),
    ]
    for check, more, environment in cases:
        done = otr(*words, *more, expect=2, **environment)
        assert done.stderr.startswith(f"error: {check}: "), (check, done.stderr)
    here = ["chain", "register", "--rpc", rpc, "--key", key, "--court", str(court), "--platform"]
    for more, said in (
        (["p1", "--stake", "1"], "--platform with --receipt"),
        (["p1", *file_of(junk)], "--platform: found 'p1'"),
    ):
        assert said in otr(*here, *more, expect=2).stderr


def test_what_was_signed_for_one_chain_is_not_waited_for_on_another(tmp_path, keyfile):
    password = tmp_path / "password"
    password.write_text("correct horse")
    made = {}
    for chain_id in (CHAIN_ID, CHAIN_ID + 1):
        with anvil(chain_id=chain_id) as node:
            about = SenderOptions(rpc=node.url, key=keyfile(OPERATOR), password_file=password)
            chain = connect(about)
            assert chain.outbox is not None
            assert (chain.id, chain.outbox.waiting()) == (chain_id, [])
            chain.outbox.put("a", 9, b"raw")  # killed before it was mined
            chain.outbox.close()
            made[keyfile(OPERATOR).with_name(f"{keyfile(OPERATOR).name}.{chain_id}.state")] = chain.block_hash(0)
    for path, first in made.items():
        kept = Outbox(path)
        assert kept.waiting() == []
        assert kept.stand_on(first) == 0
        assert kept.waiting() == [("a", 9, b"raw")]


def test_one_account_is_used_by_one_process_at_a_time(tmp_path):
    first = Outbox(tmp_path / "state")
    first.note("a", "b")
    assert first.known("a") == "b"
    with pytest.raises(InputError, match="no other process"):
        Outbox(tmp_path / "state")


def test_a_key_file_is_for_its_owner_alone_and_asks_for_bounded_work(tmp_path):
    path = tmp_path / "key"
    made = write_key(path, "correct horse")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path, "correct horse").address == made.address
    assert made.key.hex() not in path.read_text()
    document = json.loads(path.read_text())
    document["crypto"]["kdfparams"] |= {"n": 2**30}
    path.write_text(json.dumps(document))
    for call, check in (
        (lambda: load_key(path, "correct horse"), "key"),
        (lambda: write_key(path, "correct horse"), "key"),
        (lambda: write_key(tmp_path / "new", "short"), "password"),
    ):
        with pytest.raises(NodeError) as failure:
            call()
        assert failure.value.check == check
