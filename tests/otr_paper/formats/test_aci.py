"""ACI receipts: the published vectors, and everything a signer, a relay or a clock can do."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ReceiptError
from otr_core.poea.receipt import Receipt
from otr_paper.formats.aci import (
    MOST_BYTES,
    MOST_LEVELS,
    UNSAID_IN_ACI,
    aci_keyset_digest,
    aci_report_data,
    check_aci_receipt,
    check_aci_session,
    foreign_object,
    to_aci,
)
from tests.helpers.foreign import (
    KEY,
    NONCE,
    NOW,
    OTHER_KEY,
    REQUEST,
    RESPONSE,
    aci,
    keyset_of,
    receipt_of,
    session_id,
    session_of,
    sha256,
    sign,
)


def refused(check: str, told: str, call: Callable[[], object]) -> None:
    """The call is refused by this check, in one line that has ``told`` in it."""
    with pytest.raises(ReceiptError) as caught:
        call()
    assert caught.value.check == check, str(caught.value)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


class TestVectors:
    """``spec/test-vectors.md`` of ACI: every value of it, in the order of its code blocks."""

    @pytest.fixture
    def blocks(self, outside_file: Callable[[str], Path]) -> list[str]:
        text = outside_file("vectors/aci/test-vectors.md").read_text("utf-8")
        found = re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)
        assert len(found) == 16
        return found

    @pytest.fixture
    def told(self, blocks: list[str]) -> dict[str, Any]:
        """The blocks by what they are, and what the checks of a receipt are given."""
        hexes = {at: re.findall("[0-9a-f]{64,128}$", block, re.MULTILINE) for at, block in enumerate(blocks)}
        statement = json.loads(blocks[2])
        bodies = tuple(blocks[at].split("\n")[0].encode() for at in (10, 11))
        return {
            "bodies": bodies,
            "keyset": blocks[0].encode(),
            "quoted": (bytes.fromhex(blocks[6]), statement["nonce"]),
            "as_of": 1_750_000_000,
            "hexes": hexes,
        }

    def test_keyset_and_statement(self, blocks: list[str], told: dict[str, Any]) -> None:
        digest = aci_keyset_digest(blocks[0].encode())
        assert blocks[1].endswith(f" {digest}")
        fresh, stale = (aci_report_data(digest, json.loads(blocks[at])["nonce"]) for at in (2, 4))
        assert json.loads(blocks[4])["nonce"] is None
        assert [fresh[:32].hex()] == told["hexes"][3]
        assert [stale[:32].hex()] == told["hexes"][5]
        assert fresh.hex() == blocks[6]

    def test_session(self, blocks: list[str], told: dict[str, Any]) -> None:
        session = blocks[8].encode()
        document = check_aci_session(session, told["hexes"][9], 1_750_000_000)
        assert document["evidence"]["digest"] in blocks[7]
        assert document["evidence"]["data"] in blocks[7]
        refused("session", "session", lambda: check_aci_session(session, ["00" * 32], 1_750_000_000))

    def test_receipt(self, blocks: list[str], told: dict[str, Any]) -> None:
        hexes = told.pop("hexes")
        assert [sha256(body)[7:] for body in told["bodies"]] == [hexes[10][0], hexes[11][0]]
        document = json.loads(blocks[15])
        signed = canonical_json({name: value for name, value in document.items() if name != "signature"})
        assert signed.decode() == blocks[12]
        assert [sha256(signed)[7:]] == hexes[13]
        assert [document["signature"]] == hexes[14]
        # Ed25519 is deterministic: the seed that the vectors publish gives their signature.
        assert Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).sign(signed).hex() == document["signature"]
        for raw in (blocks[15], json.dumps(document, indent=3), json.dumps(dict(reversed(document.items())))):
            answer = check_aci_receipt(raw.encode(), session=blocks[8].encode(), **told)
            assert (answer.forwarded, answer.upstream) == ("same", "shown")
            assert answer.document == document
        assert check_aci_receipt(blocks[15].encode(), **told).upstream == "asserted"

    def test_no_value_of_the_published_receipt_can_change(self, blocks: list[str], told: dict[str, Any]) -> None:
        del told["hexes"]
        document = json.loads(blocks[15])
        changed = 0
        for other in variants(document):
            with pytest.raises(ReceiptError):
                check_aci_receipt(json.dumps(other).encode(), **told)
            changed += 1
        assert changed > 50


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all members and entries of a document, objects and lists themselves among them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in ((*path, key), *places(part, (*path, key)))]


def variants(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The document with each member and entry changed, dropped, and (of lists) doubled."""
    result = []
    for path in places(document):
        for how in ("changed", "dropped", "doubled"):
            other = copy.deepcopy(document)
            at: Any = other
            for key in path[:-1]:
                at = at[key]
            value = at[path[-1]]
            if how == "dropped":
                del at[path[-1]]
            elif how == "doubled" and isinstance(at, list):
                at.append(copy.deepcopy(value))
            elif how == "changed":
                kinds: dict[type, Any] = {
                    str: lambda v: v[:-1] + ("0" if v[-1:] != "0" else "1"),
                    bool: lambda v: not v,
                }
                kinds |= {int: lambda v: v + 1, dict: lambda v: {**v, "more": 1}, list: lambda v: [*v, 1]}
                at[path[-1]] = kinds.get(type(value), lambda v: "x")(value)
            if other != document:
                result.append(other)
    return result


def test_honest_receipts_are_accepted() -> None:
    direct = aci()
    assert (direct.document["served_at"], direct.forwarded, direct.upstream) == (NOW, "same", "none")
    assert aci(session=session_of()).upstream == "shown"
    assert aci(lambda receipt: receipt["event_log"].insert(2, {"type": "vendor.note", "x": [1]})).upstream == "none"


@pytest.mark.parametrize("session", [None, session_of()], ids=["direct", "aggregator"])
def test_nothing_changes_after_signing(session: dict[str, Any] | None) -> None:
    """Each member changed, dropped or doubled by somebody without the key."""
    signed = sign(receipt_of(keyset_of(), session))
    others = variants(signed)
    assert len(others) > 40
    for other in others:
        with pytest.raises(ReceiptError):
            aci(session=session, after=lambda receipt, other=other: (receipt.clear(), receipt.update(other)))


def test_each_member_is_required_even_of_the_signer() -> None:
    for name in receipt_of(keyset_of()):
        check = "version" if name == "api_version" else "field"
        refused(check, name, lambda name=name: aci(lambda receipt: receipt.pop(name)))
        wrong = {"event_log": {}, "served_at": "1", "chat_id": 1, "model": 1}.get(name, 5)
        refused(check, name, lambda name=name, wrong=wrong: aci(lambda receipt: receipt.update({name: wrong})))
    for flag in (True, 1.5, None, "9"):
        refused("field", "served_at", lambda flag=flag: aci(lambda receipt: receipt.update(served_at=flag)))
    for absent in ("chat_id", "model"):
        assert aci(lambda receipt, absent=absent: receipt.update({absent: None})).document[absent] is None
    assert aci(lambda receipt: receipt.update(served_at=float(NOW))).upstream == "none"
    refused("field", "signature", lambda: aci(after=lambda receipt: receipt.pop("signature")))
    upper = lambda receipt: receipt.update(signature=receipt["signature"].upper())  # noqa: E731
    refused("field", "signature", lambda: aci(after=upper))


def test_versions_and_keysets() -> None:
    refused("version", "aci/2", lambda: aci(lambda receipt: receipt.update(api_version="aci/2")))
    # A receipt under another keyset, though the same key signed it.
    refused("keyset", "sha256:", lambda: aci(lambda receipt: receipt.update(workload_keyset_digest=sha256(b"k"))))
    # A forger's own keyset and key: the receipt agrees with both, and no quote binds them.
    refused("report-data", "report_data", lambda: aci(key=OTHER_KEY, keyset=keyset_of(OTHER_KEY)))
    honest = aci_keyset_digest(canonical_json(keyset_of()))
    for quoted in ((aci_report_data(honest, None), NONCE), (aci_report_data(honest, NONCE), "5b" * 32)):
        refused("report-data", "report_data", lambda quoted=quoted: aci(quoted=quoted))
    for quoted in ((aci_report_data(honest, NONCE)[:32], NONCE), (aci_report_data(honest, NONCE)[:-1] + b"1", NONCE)):
        refused("report-data", "report_data", lambda quoted=quoted: aci(quoted=quoted))
    assert aci(quoted=(aci_report_data(honest, None), None)).upstream == "none"
    for bad in ("5A" * 32, "5a" * 31, ""):
        refused("field", "nonce", lambda bad=bad: aci(quoted=(bytes(64), bad)))
    refused("field", "keyset_digest", lambda: aci_report_data("53" * 32, None))


def with_keys(change: Callable[[dict[str, Any]], object]) -> Callable[[], object]:
    """A receipt under a keyset that its own enclave wrote so, and had quoted."""
    keys = keyset_of()
    change(keys)
    quoted = (aci_report_data(aci_keyset_digest(canonical_json(keys)), NONCE), NONCE)
    return lambda: aci(keyset=keys, quoted=quoted)


def test_a_keyset_ends() -> None:
    assert aci(as_of=NOW + 3599).upstream == "none"
    for late in (NOW + 3600, 2**40):
        refused("keyset-date", "1800003600", lambda late=late: aci(as_of=late))
    refused("field", "not_after", with_keys(lambda keys: keys.pop("not_after")))
    refused("field", "not_after", with_keys(lambda keys: keys.update(not_after="never")))


def test_the_key_is_named_once_and_of_the_right_kind() -> None:
    (entry,) = keyset_of()["receipt_signing_keys"]
    refused("key", "0 Ed25519", with_keys(lambda keys: keys.update(receipt_signing_keys=[])))
    refused("key", "0 Ed25519", with_keys(lambda keys: keys["receipt_signing_keys"][0].update(algo="rsa")))
    refused("key", "0 Ed25519", with_keys(lambda keys: keys["receipt_signing_keys"][0].update(key_id="r-2")))
    refused("key", "2 Ed25519", with_keys(lambda keys: keys["receipt_signing_keys"].append(entry)))
    refused("key", "0 Ed25519", with_keys(lambda keys: keys.update(receipt_signing_keys=["r-1", 5])))
    refused("field", "receipt_signing_keys", with_keys(lambda keys: keys.update(receipt_signing_keys={})))
    refused("field", "public_key", with_keys(lambda keys: keys["receipt_signing_keys"][0].update(public_key="00")))
    other = {**entry, "algo": "future-1"}
    assert with_keys(lambda keys: keys["receipt_signing_keys"].insert(0, other))()  # an unknown kind is passed over


def test_signatures() -> None:
    refused("signature", "receipt.signature", lambda: aci(key=OTHER_KEY))
    taken = sign({**receipt_of(keyset_of()), "receipt_id": "rcpt-2"})["signature"]
    refused("signature", "receipt.signature", lambda: aci(after=lambda receipt: receipt.update(signature=taken)))
    refused("signature", "receipt.signature", lambda: aci(after=lambda receipt: receipt.update(signature="00" * 64)))
    refused("signature", "receipt.signature", lambda: aci(after=lambda receipt: receipt.update(more=1)))


def test_receipts_for_other_bodies() -> None:
    refused("request", "request.received", lambda: aci(bodies=(REQUEST + b" ", RESPONSE)))
    refused("response", "response.returned", lambda: aci(bodies=(REQUEST, b"")))
    refused("request", "request.received", lambda: aci(bodies=(RESPONSE, REQUEST)))
    large = b"x" * 10**8  # bodies are hashed, never parsed
    refused("response", "response.returned", lambda: aci(bodies=(REQUEST, large)))


def test_the_log_has_each_event_once() -> None:
    def log(change: Callable[[list[Any]], object]) -> Callable[[], object]:
        return lambda: aci(lambda receipt: change(receipt["event_log"]))

    for at, name in enumerate(("request.received", "request.forwarded", "response.returned")):
        refused("events", f"{name} 2 times", log(lambda events, at=at: events.append(events[at])))
        refused("field", "body_hash", log(lambda events, at=at: events[at].pop("body_hash")))
        refused("field", "body_hash", log(lambda events, at=at: events[at].update(body_hash="94" * 32)))
    refused("events", "request.received 0 times", log(lambda events: events.pop(0)))
    refused("events", "response.returned 0 times", log(lambda events: events.pop()))
    refused("events", "request.received 0 times", log(lambda events: events.clear()))
    refused("events", "first event", log(lambda events: events.reverse()))
    for odd in (5, None, [], {}, {"type": 5}):
        refused("field", "event_log.3", log(lambda events, odd=odd: events.append(odd)))
    assert aci(lambda receipt: receipt["event_log"].pop(1)).forwarded == "refused"
    rewrite = lambda receipt: receipt["event_log"][1].update(body_hash=sha256(b"other"))  # noqa: E731
    assert aci(rewrite).forwarded == "rewritten"


def test_sessions() -> None:
    session = session_of()

    def event(receipt: dict[str, Any]) -> dict[str, Any]:
        return next(event for event in receipt["event_log"] if event["type"] == "upstream.verified")

    failed = {"type": "upstream.verified", "result": "failed", "required": False, "model_id": "m", "reason": "none"}
    assert aci(lambda receipt: receipt["event_log"].insert(2, failed)).upstream == "failed"
    # An earlier attempt that failed stands beside the one that served.
    assert aci(lambda receipt: receipt["event_log"].insert(2, failed), session=session).upstream == "shown"
    cited = {**failed, "result": "verified", "session_id": session_id(session)}
    assert aci(lambda receipt: receipt["event_log"].insert(2, cited)).upstream == "asserted"
    # A client that shows a session insists on it.
    refused("session", "none cited", lambda: aci(shown=canonical_json(session)))
    refused(
        "session",
        "none cited",
        lambda: aci(lambda receipt: receipt["event_log"].insert(2, failed), shown=canonical_json(session)),
    )
    other = canonical_json(session_of(upstream_name="elsewhere"))
    refused("session", session_id(session), lambda: aci(session=session, shown=other))
    refused("field", "session_id", lambda: aci(lambda receipt: event(receipt).pop("session_id"), session=session))
    refused("field", "result", lambda: aci(lambda receipt: event(receipt).pop("result"), session=session))
    for at in (NOW - 61, NOW + 60):
        refused("session", f"served at {at}", lambda at=at: aci(lambda r: r.update(served_at=at), session=session))
    for at in (NOW - 60, NOW + 59):
        assert aci(lambda receipt, at=at: receipt.update(served_at=at), session=session).upstream == "shown"
    data = "data:text/plain;base64," + base64.b64encode(b"evidencf").decode()
    for change, check, told in (
        ({"api_version": "aci/2"}, "version", "session.api_version"),
        ({"evidence": {**session["evidence"], "data": data}}, "session", "evidence"),
        ({"evidence": {**session["evidence"], "data": data[:-1]}}, "field", "session.evidence.data"),
        ({"evidence": {**session["evidence"], "data": "evidence"}}, "field", "session.evidence.data"),
        ({"evidence": {**session["evidence"], "data": "data:;base64,A==="}}, "field", "session.evidence.data"),
        ({"evidence": {**session["evidence"], "data": "data:;base64,=AAA"}}, "field", "session.evidence.data"),
        ({"evidence": {**session["evidence"], "digest": 5}}, "field", "session.evidence.digest"),
        ({"evidence": None}, "field", "session.evidence"),
        ({"expires_at": None}, "field", "session.expires_at"),
        ({"established_at": True}, "field", "session.established_at"),
    ):
        bad = session_of(**change)
        refused(check, told, lambda bad=bad: aci(session=bad))
    spaced = json.dumps(session, indent=2).encode()
    assert aci(session=session, shown=spaced).upstream == "shown"


DEEP = b'{"a":' * 400 + b"1" + b"}" * 400


@pytest.mark.parametrize(
    ("raw", "check", "told"),
    [
        (b"", "document", "receipt"),
        (b"{", "document", "receipt"),
        (b"\xff", "document", "utf-8"),
        ('{"a":1}'.encode("utf-16"), "document", "utf-8"),
        (b"\xef\xbb\xbf{}", "document", "receipt"),
        (b"[]", "document", "list"),
        (b"5", "document", "int"),
        (b"null", "document", "NoneType"),
        ("{}", "document", "str"),
        (b'{"a":1,"a":1}', "document", "'a' found twice"),
        (b'{"a":[{"b":"\\ud800"}]}', "document", "receipt.a.0.b"),
        (b'{"a":{"\\udfff":1}}', "document", "receipt.a"),
        (b'{"a":[NaN]}', "document", "NaN"),
        (b'{"a":[1e999]}', "document", "receipt.a.0 inf"),
        (b'{"a":{"b":9007199254740992}}', "document", "receipt.a.b 9007199254740992"),
        (b'{"a":-9007199254740992}', "document", "receipt.a"),
        (b'{"a":' + b"9" * 5000 + b"}", "document", "receipt"),
        (DEEP, "document", "levels"),
        (b"[" * 10**5, "document", "receipt"),
        (b'{"a":"' + b"x" * MOST_BYTES + b'"}', "size", "bytes"),
        (b'"' + b"x" * 10**8 + b'"', "size", "100000002 bytes"),
        (b"{}", "version", "None"),
        (b'{"api_version":["aci/1"]}', "version", "api_version"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bytes_that_are_no_receipt(raw: Any, check: str, told: str) -> None:
    begin = time.process_time()
    fixed: dict[str, Any] = {"quoted": (bytes(64), None), "as_of": NOW}
    refused(
        check,
        told,
        lambda: check_aci_receipt(raw, (b"", b""), keyset=canonical_json(keyset_of()), **fixed),
    )
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "fill", [b'[0,"",{}],', b'"\\u00e9",', b"[[]],", b"1.5,", b'{"a":{"a":{}}},'], ids=lambda fill: fill.decode()
)
def test_the_largest_documents_take_bounded_time(fill: bytes) -> None:
    """A megabyte of the smallest parts, then something odd at its end."""
    raw = b'{"' + b"k" * 1000 + b'":[' + fill * ((MOST_BYTES - 2000) // len(fill)) + b'"\\ud800"]}'
    begin = time.process_time()
    refused("document", "kkk", lambda: foreign_object(raw, "receipt"))
    assert time.process_time() - begin < 5


def test_nesting_has_a_bound_and_all_below_it_is_read() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert foreign_object(nested(MOST_LEVELS), "receipt")
    refused("document", "levels", lambda: foreign_object(nested(MOST_LEVELS + 1), "receipt"))
    assert foreign_object(b'{"a":9007199254740991,"b":-0.5,"c":true,"d":"\\ud83d\\ude00"}', "receipt")


STATEMENT = {
    **dict.fromkeys(("order_id", "states_root", "tokens_root", "seed_hash", "response_digest"), "ab" * 32),
    **{"prompt_tokens": 5, "answer_tokens": 3, "finish": "stop", "lane": "portable-1", "layers": 2},
    **{"output_bytes": 64, "kv_bytes": 32, "configuration_digest": "cd" * 32},
}


def export(key: Ed25519PrivateKey | None = KEY, **changes: Any) -> dict[str, Any]:
    bodies = changes.pop("bodies", (REQUEST, RESPONSE))
    fixed: dict[str, Any] = {"model": "11" * 32, "served_at": NOW, "receipt_id": "22" * 32, "key_id": "r-1"}
    fixed["keyset_digest"] = aci_keyset_digest(canonical_json(keyset_of()))
    return to_aci(bodies, **(fixed | {"statement": STATEMENT, "key": key} | changes))


def read_again(document: dict[str, Any], bodies: tuple[bytes, bytes] = (REQUEST, RESPONSE)) -> dict[str, Any]:
    quoted = (aci_report_data(aci_keyset_digest(canonical_json(keyset_of())), NONCE), NONCE)
    fixed: dict[str, Any] = {"keyset": canonical_json(keyset_of()), "quoted": quoted, "as_of": NOW}
    answer = check_aci_receipt(canonical_json(document), bodies, **fixed)
    assert (answer.forwarded, answer.upstream) == ("same", "none")
    return dict(answer.document)


def test_ours_in_aci_form_is_accepted_by_our_reader() -> None:
    document = read_again(export())
    assert document["model"] == "11" * 32
    (own,) = (event for event in document["event_log"] if event["type"] == "otr.statement")
    assert {name: own[name] for name in STATEMENT} == STATEMENT
    unsigned = export(None)
    assert unsigned == {name: value for name, value in document.items() if name != "signature"}
    refused("field", "signature", lambda: read_again(unsigned))
    refused("response", "response.returned", lambda: read_again(export(), (REQUEST, b"other")))
    refused("signature", "signature", lambda: read_again({**export(), "model": "33" * 32}))
    refused("keyset", "sha256", lambda: read_again(export(keyset_digest=sha256(b""))))


def test_what_aci_cannot_say_nobody_judges_there() -> None:
    """All of our statement but the key, which ACI says in its own way, and not one field of it is
    looked at: the signer may write anything."""
    assert {*UNSAID_IN_ACI, "key_id"} == {field.name for field in fields(Receipt)}
    assert set(STATEMENT) == set(UNSAID_IN_ACI)
    for name in UNSAID_IN_ACI:
        assert read_again(export(statement={**STATEMENT, name: "anything"}))
    # The statement cannot pass for one of ACI's own events.
    assert read_again(export(statement={**STATEMENT, "type": "response.returned"}))


def test_reading_errors_are_receipt_errors() -> None:
    assert not issubclass(ReceiptError, InputError)
    for call in (lambda: aci_keyset_digest(b"["), lambda: check_aci_session(b"[", [], 0)):
        refused("document", "JSON", call)
