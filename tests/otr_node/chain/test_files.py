"""Files of a court, options of its commands, and what a node answers: whatever is in them, one line."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
import typer
from eth_account import Account
from eth_utils import keccak
from typer.testing import CliRunner

from otr_core.dispute.duties import LeafPlace
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, NodeError, OtrError
from otr_node.chain.access import answer_folder
from otr_node.chain.answers import answers_in
from otr_node.chain.command import chain_commands
from otr_node.chain.deployment import Deployment, load_deployment
from otr_node.chain.keys import VARIABLE, load_key, read_password, write_key
from otr_node.chain.node import RefusedError, RpcNode, octets, quantity, record
from otr_node.chain.options import CourtOptions, PartyOptions, with_options
from otr_node.chain.outbox import Outbox
from otr_node.chain.party import ChainParty
from otr_node.chain.places import dump_place, load_place, write_places
from otr_node.chain.rpc import event_in
from otr_paper.labs.disputes.world import TERMS

ADDRESS = "0x" + "aB" * 20
STANDS = Deployment(7, 3, TERMS, ADDRESS.lower(), *[ADDRESS] * 4, {"11" * 32: ADDRESS})


def refused(call: Any, check: str) -> NodeError:
    with pytest.raises(NodeError) as failure:
        call()
    assert failure.value.check == check, failure.value
    assert "\n" not in str(failure.value)
    return failure.value


# --- deployment


def test_a_deployment_is_read_as_it_was_written():
    assert load_deployment(STANDS.dump()) == STANDS
    assert load_deployment(replace(STANDS, registrar=ADDRESS).dump()) == STANDS  # callers are lower-case


@pytest.mark.parametrize(
    "change",
    [
        {"format": "otr-court/2"},
        *({name: "0x12"} for name in ("registrar", "arbiter", "registry", "court", "table")),
        {"court": 5},
        {"judges": {"11": "nowhere"}},
        {"judges": []},
        {"chain_id": -1},
        {"chain_id": True},
        {"block": "3"},
        {"block": -1},
        {"terms": {}},
        {"terms": 5},
        {"terms": {**vars(TERMS), "clock_s": 1.5}},
        {"terms": {**vars(TERMS), "clock_s": -1}},
        {"more": 1},
    ],
)
def test_a_deployment_with_anything_else_in_it_is_none(change):
    document = json.loads(STANDS.dump()) | change
    refused(lambda: load_deployment(json.dumps(document).encode()), "deployment")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"null", b"\xff", b"{}"])
def test_what_is_no_deployment_at_all(raw):
    refused(lambda: load_deployment(raw), "deployment")


# --- places and answers


def test_a_place_is_read_as_it_was_written():
    place = LeafPlace(b"b" * 32, 3, (b"p" * 32,) * 32)
    assert load_place(dump_place(place)) == place


@pytest.mark.parametrize(
    "change",
    [
        {"at": -1},
        {"at": True},
        {"at": "1"},
        {"path": {}},
        {"path": ["00" * 32] * 33},
        {"path": ["00" * 31]},
        {"path": ["AA" * 32]},
        {"batch": "00" * 31},
        {"batch": 5},
        {"format": "otr-place/2"},
        {"more": 1},
    ],
)
def test_a_place_with_anything_else_in_it_is_none(change):
    document = json.loads(dump_place(LeafPlace(b"b" * 32, 3, ()))) | change
    with pytest.raises(InputError):
        load_place(canonical_json(document) + b"\n")


def test_an_order_whose_receipt_is_not_there_is_waited_for(tmp_path):
    (tmp_path / "one.order.json").write_text("junk")
    unreadable: list[str] = []
    assert list(answers_in(tmp_path, lambda name, error: unreadable.append(name))) == []
    assert unreadable == []
    (tmp_path / "one.receipt.json").write_text("junk")
    assert list(answers_in(tmp_path, lambda name, error: unreadable.append(name))) == []
    assert unreadable == ["one"]
    with pytest.raises(InputError, match="no folder"):
        answer_folder(tmp_path / "none")


def test_places_of_a_batch_prove_their_leaves(tmp_path):
    write_places(tmp_path, ["a", "b", "c"], b"b" * 32, [b"x", b"y", b"z"])
    places = [load_place((tmp_path / f"{name}.place.json").read_bytes()) for name in "abc"]
    assert [each.at for each in places] == [0, 1, 2]
    assert len({each.path for each in places}) == 3


# --- keys


@pytest.fixture(scope="module")
def key_document() -> dict[str, Any]:
    return dict(Account.encrypt(b"k" * 32, "correct horse", kdf="scrypt", iterations=2))


def changed(document: dict[str, Any], **work: Any) -> dict[str, Any]:
    crypto = document["crypto"]
    return document | {"crypto": crypto | {"kdfparams": crypto["kdfparams"] | work}}


def test_the_key_in_a_file_opens_with_its_password_alone(tmp_path, key_document):
    path = tmp_path / "key"
    path.write_text(json.dumps(key_document))
    assert load_key(path, "correct horse").key == b"k" * 32
    refused(lambda: load_key(path, "wrong"), "password")
    for work in (2, 3):
        path.write_text(json.dumps(Account.encrypt(b"k" * 32, "correct horse", kdf="pbkdf2", iterations=work)))
        assert load_key(path, "correct horse").key == b"k" * 32


@pytest.mark.parametrize(
    "work",
    [
        {"n": 2**30},
        {"r": 2**40},
        {"p": 2**40},
        {"n": 0},
        {"n": -2, "r": -8},
        {"n": "a", "r": 2**40},  # times in Python, a terabyte of letters
        {"n": 2.0},
        {"n": True},
        {"dklen": 2**40},
        {"dklen": 0},
        {"n": 2, "r": 1, "p": 2**25},  # no round at all by whole numbers, and gigabytes of blocks
    ],
)
def test_a_key_file_that_asks_for_too_much_is_refused_before_it_is_opened(tmp_path, key_document, work):
    path = tmp_path / "key"
    path.write_text(json.dumps(changed(key_document, **work)))
    said = str(refused(lambda: load_key(path, "correct horse"), "key"))
    assert ("whole numbers" if {type(each) for each in work.values()} - {int} else "rounds") in said
    for more in ({"n": 3}, {"salt": 5}):
        path.write_text(json.dumps(changed(key_document, **more)))
        refused(lambda: load_key(path, "correct horse"), "key")


def test_a_derived_key_longer_than_is_used_is_refused_in_both_kinds(tmp_path):
    path = tmp_path / "key"
    document = dict(Account.encrypt(b"k" * 32, "correct horse", kdf="pbkdf2", iterations=2))
    for work in ({"c": 2**21}, {"c": 0}, {"c": "2"}, {"dklen": 65}):
        path.write_text(json.dumps(changed(document, **work)))
        refused(lambda: load_key(path, "correct horse"), "key")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", "{}", '{"crypto": []}', '{"crypto": {"kdf": "x"}}'])
def test_what_is_no_key_file(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    refused(lambda: load_key(path, "x"), "key")


def test_a_key_file_of_another_version_or_with_a_key_that_is_none(tmp_path, key_document):
    path = tmp_path / "key"
    for version in (2, 4, "3"):
        path.write_text(json.dumps(key_document | {"version": version}))
        refused(lambda: load_key(path, "correct horse"), "key")
    document = dict(Account.encrypt(b"k" * 32, "correct horse", kdf="pbkdf2", iterations=1))
    crypto = document["crypto"]
    derived = hashlib.pbkdf2_hmac("sha256", b"correct horse", bytes.fromhex(crypto["kdfparams"]["salt"]), 1)
    zero = bytes(each ^ ord("k") for each in bytes.fromhex(crypto["ciphertext"]))  # what opens as 32 bytes of 0
    crypto |= {"ciphertext": zero.hex(), "mac": keccak(derived[16:] + zero).hex()}
    path.write_text(json.dumps(document))
    refused(lambda: load_key(path, "correct horse"), "key")
    refused(lambda: load_key(tmp_path / "none", "x"), "key")


def test_a_new_key_file_replaces_none_and_has_a_password(tmp_path):
    path = tmp_path / "key"
    path.write_text("held")
    refused(lambda: write_key(path, "correct horse"), "key")
    assert path.read_text() == "held"
    refused(lambda: write_key(tmp_path / "new", "7 chars"), "password")
    assert not (tmp_path / "new").exists()
    with pytest.raises(OtrError):
        write_key(path / "inside", "correct horse")
    made = write_key(tmp_path / "new", "8 chars!")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    assert load_key(tmp_path / "new", "8 chars!").key == made.key


def test_where_a_password_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "of the environment")
    path = tmp_path / "password"
    path.write_text("of the file\nmore\n")
    assert read_password(path) == "of the file"
    path.write_text("")
    assert read_password(path) == ""
    assert read_password(None) == "of the environment"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    refused(lambda: read_password(None), "password")


# --- state


def test_what_is_kept_outlives_the_process(tmp_path):
    box = Outbox(tmp_path / "state")
    for nonce, raw in ((2, b"c"), (1, b"a"), (1, b"b")):
        box.put("me", nonce, raw)
    box.note("judged", "once")
    box.note("judged", "twice")
    box.close()
    again = Outbox(tmp_path / "state")
    assert again.waiting() == [("me", 1, b"a"), ("me", 1, b"b"), ("me", 2, b"c")]
    assert (again.known("judged"), again.known("other")) == ("twice", None)
    again.done("me", 1)
    again.done("other", 2)
    assert again.waiting() == [("me", 2, b"c")]


def test_a_state_file_of_another_kind_or_in_use_is_refused(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(InputError, match="--state"):
        Outbox(tmp_path / "junk")
    with pytest.raises(InputError, match="--state"):
        Outbox(tmp_path)
    Outbox(tmp_path / "state").close()
    held = Outbox(tmp_path / "state")  # one that is there already, and of which nothing is read or written
    with pytest.raises(InputError, match="no other process"):
        Outbox(tmp_path / "state")
    with pytest.raises(sqlite3.OperationalError):  # and it stays locked without being written
        sqlite3.connect(tmp_path / "state", timeout=0).execute("SELECT * FROM sent")
    assert held.waiting() == []


# --- options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_fee", float("nan")),
        ("max_fee", float("inf")),
        ("max_fee", 0.0),
        ("confirmations", -1),
        ("seconds", float("nan")),
        ("seconds", -1.0),
        ("poll", float("nan")),
        ("poll", 0.0),
        ("poll", float("inf")),
    ],
)
def test_an_option_outside_its_domain_is_said_by_its_name(tmp_path, option, value):
    with pytest.raises(InputError, match="--" + option.replace("_", "-")):
        PartyOptions(rpc="http://x", key=tmp_path, court=tmp_path, **{option: value})


def test_a_class_of_options_shows_as_its_fields():
    app, seen = typer.Typer(), list[Any]()

    @app.command()
    @with_options
    def act(options: CourtOptions, more: int = 3) -> None:
        seen.append((options, more))

    words = ["--rpc", "http://x", "--key", "k", "--court", "c", "--confirmations", "2", "--more", "4"]
    assert CliRunner().invoke(app, words).exit_code == 0
    ((options, more),) = seen
    assert (options.rpc, options.key.name, options.court.name, options.confirmations, more) == (
        "http://x", "k", "c", 2, 4,
    )  # fmt: skip
    assert (options.max_fee, options.password_file) == (500.0, None)
    assert CliRunner().invoke(app, words[2:]).exit_code == 2


@pytest.mark.parametrize("name", ["deploy", "register", "commit", "challenge", "defend", "withdraw"])
def test_every_command_still_shows_every_option(name):
    said = CliRunner().invoke(chain_commands, ["chain", name, "--help"], env={"COLUMNS": "200"}).stdout
    options = ["--rpc", "--key", "--password-file", "--max-fee", "--confirmations"]
    options += [] if name == "deploy" else ["--court"]
    options += ["--model", "--state", "--seconds", "--poll"] if name in ("challenge", "defend") else []
    assert [each for each in options if each not in said] == []


def test_a_party_that_does_nothing_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        ChainParty(*[None] * 5)  # type: ignore[abstract, arg-type]


# --- what a node answers


@pytest.mark.parametrize("found", [None, 5, "5", "0x", "0x" + "f" * 65, "0x-1", "0x1_0", [], "1" * 10**6])
def test_what_is_no_number(found):
    assert len(str(refused(lambda: quantity(found), "rpc"))) < 200


@pytest.mark.parametrize("found", [None, 5, "", "00", "0x0", "0xzz", "0x00 00", {}])
def test_what_are_no_bytes(found):
    refused(lambda: octets(found), "rpc")


def test_numbers_bytes_and_objects_of_a_node():
    assert (quantity("0x10"), quantity("0x" + "F" * 64), octets("0x00Ff"), octets("0x")) == (
        16, 2**256 - 1, b"\0\xff", b"",
    )  # fmt: skip
    assert record({"a": 1}) == {"a": 1}
    for found in (None, [], "x"):
        refused(lambda found=found: record(found), "rpc")
        refused(lambda found=found: event_in({"topics": found if found != [] else None, "data": "0x"}, None), "rpc")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"message": "execution reverted: standing", "data": None}, "standing"),
        ({"message": "execution reverted", "data": "0x08c379a0"}, "reverted"),
        ({"message": "execution reverted", "data": "0x08c379a0" + "ff" * 64}, "reverted"),
        ({"message": "execution reverted", "data": {"data": "0xzz"}}, "reverted"),
        ({"message": "execution reverted: two words"}, "reverted"),
        ({"message": "nonce too low"}, "transaction"),
        ({}, "transaction"),
    ],
)
def test_a_refusal_has_one_reason_whatever_a_contract_returned(error, reason):
    found = RefusedError(error)
    assert found.check == "rpc"
    assert found.as_chain_error.check == reason


@pytest.mark.parametrize(
    "url", ["ftp://x", "nonsense", "http://", "http://x:port", "http://[::1", "http://x:99999", ""]
)
def test_what_is_no_url(url):
    refused(lambda: RpcNode(url, 0.1), "rpc")


def test_a_node_that_answers_with_an_error_is_named_without_its_secret():
    node = RpcNode("http://127.0.0.1:9/secret-token", 0.2)
    assert "secret" not in str(refused(lambda: node.ask("eth_chainId"), "rpc"))
