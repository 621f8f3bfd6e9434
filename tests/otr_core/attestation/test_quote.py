"""CPU evidence: recorded quotes and their status, event logs, compose files, and the binding to GPU
and key."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dcap_qvl
import pytest
from Crypto.Hash import keccak
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.binding import KEY_COMMITMENTS, check_binding
from otr_core.attestation.bundle import describe
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import Claim, ClaimLog, Status
from otr_core.attestation.eventlog import (
    MAX_EVENTS,
    MAX_LOG_BYTES,
    RUNTIME_EVENT,
    Event,
    EventLog,
    json_digest,
    parse_event_log,
    runtime_digest,
)
from otr_core.attestation.quote import (
    MAX_COLLATERAL_BYTES,
    Quote,
    VerifiedQuote,
    parse_collateral,
    parse_quote,
    verify_quote,
)
from otr_core.encoding import canonical_json
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.cases import recorded_machine_policy
from otr_paper.labs.attestation.node import COMPOSE, log_entry
from otr_paper.labs.attestation.twins import NODE

DEFAULT = Policy.default().expecting("cpu")
MACHINE_TIME = datetime(2026, 8, 14, tzinfo=UTC)
Outside = Callable[[str], bytes]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("quote", "collateral", "when", "status", "version"),
    [
        ("phala-dcap-qvl/tdx_quote", "phala-dcap-qvl/tdx_quote_collateral.json", "2025-06-20", "UpToDate", 4),
        (
            *("phala-dcap-qvl/sgx_quote", "phala-dcap-qvl/sgx_quote_collateral.json", "2025-06-20"),
            *("ConfigurationAndSWHardeningNeeded", 3),
        ),
        (
            *("phala-dcap-qvl/near_gas_test_quote_hex.txt", "phala-dcap-qvl/near_gas_test_quote_collateral.json"),
            *("2025-09-03", "UpToDate", 4),
        ),
        (
            *("near-vllm-proxy/dstack_quote.json", "phala-dcap-qvl/near_gas_test_quote_collateral.json"),
            *("2025-09-03", "UpToDate", 4),
        ),
        (
            *("google-go-tdx-guest/quote_v5_sample.dat", "phala-dcap-qvl/tdx_quote_outdated_collateral.json"),
            *("2026-02-19", "UpToDate", 5),
        ),
        ("near-mpc/quote.json", "near-mpc/collateral.json", "2026-08-14", "UpToDate", 4),
        ("secretvm-verify/cpu_quote.txt", "near-mpc/collateral.json", "2026-08-14", "UpToDate", 4),
        ("phala-dcap-qvl/tdx_quote", "near-mpc/collateral.json", "2026-08-14", "OutOfDate", 4),
    ],
)
def test_recorded_quotes_have_their_status(
    outside: Outside, quote: str, collateral: str, when: str, status: str, version: int
) -> None:
    bundle = load_bundle(quote=outside(quote), collateral=outside(collateral))
    result = appraise(bundle, DEFAULT, at(when))
    assert result.cpu is not None
    assert (result.cpu["tcb_status"], result.cpu["version"]) == (status, version)
    assert result.claim("cpu.quote").status is Status.ASSERTED
    assert result.accepted == (status == "UpToDate")
    if status != "UpToDate":
        assert {claim.id for claim in result.because} == {"cpu.tcb", "cpu.advisories"}
    for days, word in ((60, "expired at"), (-60, "from the future")):
        other = appraise(bundle, DEFAULT, at(when) + timedelta(days=days))
        assert {"cpu.quote", "cpu.collateral"} <= {claim.id for claim in other.because}
        assert word in other.claim("cpu.collateral").reason


def test_dcap_qvl_itself_lets_an_out_of_date_platform_pass(outside: Outside) -> None:
    """Why the status is gated here: the library returns normally."""
    quote = outside("phala-dcap-qvl/tdx_quote")
    collateral = dcap_qvl.QuoteCollateralV3.from_json(
        parse_collateral(outside("near-mpc/collateral.json")).raw.decode()
    )
    report = dcap_qvl.verify(quote, collateral, int(MACHINE_TIME.timestamp()))
    assert report.status == "OutOfDate"
    assert len(report.advisory_ids) == 4


@pytest.fixture(scope="module")
def tdx(outside: Outside) -> dict[str, Any]:
    folder = "phala-dcap-qvl"
    return {"quote": outside(f"{folder}/tdx_quote"), "collateral": outside(f"{folder}/tdx_quote_collateral.json")}


def test_an_identity_is_the_signed_part_and_survives_malleation(tdx: dict[str, Any]) -> None:
    raw = tdx["quote"]
    quote = parse_quote(raw)
    assert quote.identity == hashlib.sha256(raw[:632]).hexdigest()
    when = at("2025-06-20")
    for changed in (raw + b"more", raw[:-1] + b"\1", raw[:-1] + b"\xff"):
        bundle = load_bundle(**{**tdx, "quote": changed})
        assert bundle.quote is not None
        assert hashlib.sha256(changed).hexdigest() != hashlib.sha256(raw).hexdigest()
        assert bundle.quote.identity == quote.identity
        assert appraise(bundle, DEFAULT, when).accepted


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(0, 632 * 8 - 1))
def test_no_flip_in_the_signed_part_is_accepted(tdx: dict[str, Any], bit: int) -> None:
    raw = bytearray(tdx["quote"])
    raw[bit // 8] ^= 1 << bit % 8
    try:
        bundle = load_bundle(**{**tdx, "quote": bytes(raw)})
    except EvidenceError:
        return
    assert not appraise(bundle, DEFAULT, at("2025-06-20")).accepted


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"tcb_statuses": ("OutOfDate",)}, "cpu.tcb"),
        ({"min_tcb_evaluation": 18}, "cpu.collateral"),
        ({"collateral_max_age_s": 3600}, "cpu.collateral"),
        ({"cpu_ids": ("00" * 16,)}, "cpu.platform"),
        ({"measurements": (("mr_td", "00" * 48),)}, "cpu.measurements"),
        ({"measurements": (("compose_hash", "00" * 32),)}, "cpu.measurements"),
        ({"evidence": ("gpu",)}, "evidence.present"),
        ({"evidence": ("event_log",)}, "evidence.present"),
    ],
)
def test_each_cpu_policy_field_can_refuse(tdx: dict[str, Any], change: dict[str, Any], claim: str) -> None:
    result = appraise(load_bundle(**tdx), dataclasses.replace(DEFAULT, **change), at("2025-06-20"))
    assert claim in {one.id for one in result.because}


def test_each_cpu_policy_field_can_pass(tdx: dict[str, Any]) -> None:
    quote = parse_quote(tdx["quote"])
    change = {
        "tcb_statuses": ("UpToDate",),
        "min_tcb_evaluation": 17,
        "collateral_max_age_s": 86_400,
        "cpu_ids": ("811dca2a26b952e85bb6448b097ba4fd",),
        "measurements": (("mr_td", quote.registers["mr_td"].hex()),),
        "evidence": ("cpu",),
    }
    assert appraise(load_bundle(**tdx), dataclasses.replace(DEFAULT, **change), at("2025-06-20")).accepted


def test_without_collateral_nothing_of_the_platform_is_known(tdx: dict[str, Any]) -> None:
    result = appraise(load_bundle(quote=tdx["quote"]), DEFAULT, at("2025-06-20"))
    assert {claim.id for claim in result.because} == {"cpu.quote", "cpu.tcb", "cpu.advisories"}
    assert {claim.status for claim in result.because} == {Status.UNKNOWN}
    assert result.claim("cpu.debug").source.value == "operator"  # nobody's signature was checked


def test_a_pck_chain_in_the_collateral_is_left_out(outside: Outside) -> None:
    raw = outside("near-mpc/collateral.json")
    assert "pck_certificate_chain" in json.loads(raw)
    assert b"pck_certificate_chain" not in parse_collateral(raw).raw


def test_base64_is_a_quote_too(tdx: dict[str, Any]) -> None:
    assert parse_quote(base64.b64encode(tdx["quote"]) + b"\n").raw == tdx["quote"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "an empty file"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\0" * 1000, "zeros"),
        (b"{}", "without 'quote'"),
        (b'{"quote": "x!"}', "neither hex nor base64"),
        (b"[1, 2, 300]", "not bytes"),
        (b"04000200", "cannot be read"),
        (b"\x04\x00\x02\x00\x81\x00\x00\x00", "cannot be read"),
        (b"[" * 100_000, "more than 500 levels"),
        (b"\x04" * 1_000_000, "found 1000000 bytes"),
    ],
)
def test_what_is_no_quote_is_named(raw: bytes, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        load_bundle(quote=raw)


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b'{"tcb_info": 1}', b"\xff", b"[" * 5000, b" " * 2_000_000])
def test_what_is_no_collateral_is_named(tdx: dict[str, Any], raw: bytes) -> None:
    with pytest.raises(EvidenceError, match="collateral: found"):
        load_bundle(quote=tdx["quote"], collateral=raw)
    with pytest.raises(EvidenceError, match="without a quote"):
        load_bundle(gpu=[], collateral=raw)


# -- event logs --------------------------------------------------------------------------------------------------------

RTMRS = ("cpu.rtmr0", "cpu.rtmr1", "cpu.rtmr2", "cpu.rtmr3", "cpu.event_log")


@pytest.mark.parametrize(
    ("quote", "log"),
    [
        ("near-vllm-proxy/dstack_quote.json", None),
        ("near-vllm-proxy/dstack_quote.json", "near-vllm-proxy/dstack_info.json"),
        ("near-mpc/quote.json", "near-mpc/tcb_info.json"),
        ("dstack/tdx-lite-getquote.json", None),  # runtime digests are blank there
        # binary CCEL
        ("google-go-tdx-guest/cos-113-tdx-quote.dat", "google-go-tdx-guest/ccel_data.dat"),
    ],
)
def test_recorded_logs_replay_to_all_four_registers(outside: Outside, quote: str, log: str | None) -> None:
    bundle = load_bundle(quote=outside(quote), event_log=None if log is None else outside(log))
    result = appraise(bundle, DEFAULT, MACHINE_TIME)
    assert [result.claim(name).status for name in RTMRS] == [Status.ASSERTED] * 5


@pytest.mark.parametrize(
    ("change", "claim", "status"),
    [
        (lambda log: log[1:], "cpu.rtmr0", "refuted"),
        (lambda log: log[:-1], "cpu.rtmr3", "refuted"),
        (lambda log: [*log, log[-1]], "cpu.rtmr3", "refuted"),
        (lambda log: [*log[:-2], log[-1], log[-2]], "cpu.rtmr3", "refuted"),
        (lambda log: [one for one in log if one["imr"] != 2], "cpu.rtmr2", "unknown"),
        (lambda log: [{**one, "event": one["event"] + "x"} for one in log], "cpu.rtmr3", "refuted"),
        (lambda log: [{**one, "imr": 3 - one["imr"]} for one in log], "cpu.rtmr1", "refuted"),
        (lambda log: [*log[:-1], {**log[-1], "digest": "00" * 48}], "cpu.event_log", "refuted"),
        (lambda log: [*log, *(one for one in log if one["event"] == "compose-hash")], "cpu.boundary", "refuted"),
    ],
)
def test_changed_logs_do_not_replay(outside: Outside, change: Any, claim: str, status: str) -> None:
    document = json.loads(outside("near-vllm-proxy/dstack_quote.json"))
    document["event_log"] = change(json.loads(document["event_log"]))
    result = appraise(load_bundle(quote=json.dumps(document).encode()), DEFAULT, MACHINE_TIME)
    assert result.claim(claim).status.value == status


def test_what_the_attributes_of_a_guest_say() -> None:
    """Bits of a TD (TD_ATTRIBUTES) and flags of an enclave; any of a TD's first eight lets a debugger in."""
    named = {0: "debug", 7: "bit7", 28: "sept_ve_disable", 29: "migratable", 30: "pks", 31: "kl", 63: "perfmon"}
    for bit, name in named.items():
        td = Quote(b"", "TDX", 4, {"td_attributes": (1 << bit).to_bytes(8, "little")}, "", ())
        assert (td.attributes, td.migratable, td.debuggable) == ((name,), name == "migratable", bit < 8)
    for flag in range(8):
        enclave = Quote(b"", "SGX", 3, {"attributes": bytes([1 << flag]) + bytes(15)}, "", ())
        assert (enclave.attributes, enclave.debuggable) == (("debug",) if flag == 1 else (), flag == 1)


def test_replay_is_a_hash_chain_from_zero() -> None:
    first, second = (Event(3, RUNTIME_EVENT, b"", name, name.encode()) for name in ("a", "b"))
    log = EventLog(b"", (first, Event(0, 1, b"\1" * 48, "", b""), second))
    digest = hashlib.sha384((0x08000001).to_bytes(4, "little") + b":a:a").digest()
    assert first.extended == runtime_digest(RUNTIME_EVENT, "a", b"a") == digest
    value = hashlib.sha384(bytes(48) + digest).digest()
    assert log.replay(3) == hashlib.sha384(value + second.extended).digest()
    assert log.replay(0) == hashlib.sha384(bytes(48) + b"\1" * 48).digest()
    assert log.replay(1) == bytes(48)
    assert log.payloads("b") == (b"b",)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *(({"imr": value}, "imr") for value in (-1, 4, True, None)),
        *(({"event_type": value}, "event_type") for value in (-1, 2**32, True, None)),
        *(({"digest": value}, "digest") for value in ("00" * 47, "", "zz", 5)),
        *(({"event": 5}, "event found"), ({"event": "\ud800"}, "surrogates")),
        ({"event_payload": "0"}, "payload"),
    ],
)
def test_malformed_events_are_named(change: dict[str, Any], word: str) -> None:
    good = {"imr": 3, "event_type": 2**32 - 1, "digest": "00" * 48}
    assert parse_event_log(json.dumps([good, {**good, "imr": 0, "event_type": 0}]).encode()).events
    with pytest.raises(EvidenceError, match=f"event 1: .*{word}"):
        parse_event_log(json.dumps([good, {**good, **change}]).encode())
    with pytest.raises(EvidenceError, match="event 0: found int, expected an object"):
        parse_event_log(b"[1]")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"event_log": {}}', b"[" * 5000, b"\xff", b"1", b" " * 5_000_000])
def test_what_is_no_log_is_named(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_event_log(raw)


@pytest.mark.parametrize("cut", [40, 80, 200, 1000])
def test_a_cut_ccel_does_not_replay(outside: Outside, cut: int) -> None:
    quote, log = outside("google-go-tdx-guest/cos-113-tdx-quote.dat"), outside("google-go-tdx-guest/ccel_data.dat")
    try:
        bundle = load_bundle(quote=quote, event_log=log[:cut])
    except EvidenceError:
        return
    assert appraise(bundle, DEFAULT, MACHINE_TIME).claim("cpu.rtmr0").status is not Status.ASSERTED


# -- the two forms of digests, and where the image's events end --------------------------------------------------------


def listed(*events: tuple[str, bytes], version: int | None = None, stated: bool = True) -> EventLog:
    """A log of runtime events in dstack's JSON."""
    digest = json_digest if version == 2 else runtime_digest
    entries = [
        {
            "imr": 3,
            "event_type": RUNTIME_EVENT,
            "digest": digest(RUNTIME_EVENT, name, payload).hex() if stated else "",
            "event": name,
            "event_payload": payload.hex(),
            **({} if version is None else {"version": version}),
        }
        for name, payload in events
    ]
    return parse_event_log(json.dumps(entries).encode())


def test_version_2_hashes_canonical_json() -> None:
    """The preimage as dstack's own test states it (cc-eventlog, runtime_events.rs)."""
    preimage = b'{"name":"compose-hash","payload":"abcd","type":134217729}'
    digest = hashlib.sha384(preimage).digest()
    assert json_digest(RUNTIME_EVENT, "compose-hash", b"\xab\xcd") == digest
    for log in (
        listed(("compose-hash", b"\xab\xcd"), version=2),
        listed(("compose-hash", b"\xab\xcd"), version=2, stated=False),
    ):
        assert log.digest_problem() is None
        assert log.replay(3) == hashlib.sha384(bytes(48) + digest).digest()
        assert log.events[0].version == 2
    unmarked = json.loads(listed(("compose-hash", b"\xab\xcd"), version=2).raw)
    del unmarked[0]["version"]
    assert parse_event_log(json.dumps(unmarked).encode()).events[0].version == 2
    mixed = json.loads(listed(("a", b"1"), version=2).raw) + json.loads(listed(("b", b"2")).raw)
    assert [event.version for event in parse_event_log(json.dumps(mixed).encode()).events] == [2, 1]
    wrong = [{**unmarked[0], "version": 1}]
    assert "digest is not that of its payload" in (parse_event_log(json.dumps(wrong).encode()).digest_problem() or "")


@pytest.mark.parametrize("version", [0, 3, "2", True, None])
def test_other_versions_are_named(version: Any) -> None:
    entry = {"imr": 3, "event_type": RUNTIME_EVENT, "digest": "", "event": "a", "version": version}
    with pytest.raises(EvidenceError, match="version found"):
        parse_event_log(json.dumps([entry]).encode())


def test_an_ambiguous_digest_names_nothing() -> None:
    """Under version 1 the digests of these two are one, so neither is taken for what it says."""
    true, lie = ("model", b"a:b"), ("model:a", b"b")
    assert runtime_digest(RUNTIME_EVENT, *true) == runtime_digest(RUNTIME_EVENT, *lie)
    assert json_digest(RUNTIME_EVENT, *true) != json_digest(RUNTIME_EVENT, *lie)
    assert listed(true).payloads("model") == ()
    assert listed(true, version=2).payloads("model") == (b"a:b",)
    assert listed(("model", b"ab")).payloads("model") == (b"ab",)
    assert "without a colon" in (listed(lie).digest_problem() or "")
    assert listed(lie, version=2).digest_problem() is None
    # A colon in another event's name may hide one of this name, and so no event of it counts.
    assert listed(("model", b"ab"), lie).payloads("model") == ()
    assert listed(("model", b"ab"), lie, version=2).payloads("model") == (b"ab",)


def test_a_compose_hash_with_a_colon_is_the_images_own_word() -> None:
    image = [("app-id", b"1"), ("compose-hash", b":" + bytes(31)), ("system-ready", b"")]
    assert listed(*image).payloads("compose-hash") == (b":" + bytes(31),)
    hidden = [("app-id", b"1"), ("compose-hash:", bytes(31)), ("system-ready", b""), ("compose-hash", bytes(32))]
    assert listed(*hidden).replay(3) != listed(*image).replay(3)
    assert listed(*hidden).payloads("compose-hash") == ()
    assert listed(*hidden[:2], *hidden[3:]).payloads("compose-hash") == ()
    late = [*image, ("compose-hash", bytes(32))]
    assert listed(*late).payloads("compose-hash") == (b":" + bytes(31),)
    # what other programs extend stands behind the boundary, and may be theirs under any name
    assert listed(*image, ("model", b"ab")).payloads("model") == (b"ab",)
    assert listed(*image, ("model", b"a:b")).payloads("model") == ()


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (["mine", "app-id", "compose-hash", "system-ready", "mine"], None),
        (["app-id", "compose-hash"], ""),
        (["app-id", "system-ready", "compose-hash"], "compose-hash stands behind system-ready"),
        (["app-id", "app-id", "system-ready"], "app-id is there more than once"),
        (["system-ready", "system-ready"], "system-ready stands behind system-ready"),
    ],
)
def test_the_images_events_end_in_one_boundary(events: list[str], problem: str | None) -> None:
    log = listed(*((name, b"") for name in events))
    found = log.boundary_problem()
    assert found == problem if not problem else problem in (found or "")
    for other in ({"kind": 1}, {"register": 2}):  # only said to be of that name, or measured elsewhere
        beside = tuple(dataclasses.replace(one, digest=bytes(48), **other) for one in log.events)
        assert EventLog(b"", beside).boundary_problem() == ""


@pytest.mark.parametrize(
    ("quote", "log"),
    [
        ("near-vllm-proxy/dstack_quote.json", None),
        ("near-mpc/quote.json", "near-mpc/tcb_info.json"),
        ("dstack/tdx-lite-getquote.json", None),
    ],
)
def test_recorded_guests_keep_to_their_boundary(outside: Outside, quote: str, log: str | None) -> None:
    bundle = load_bundle(quote=outside(quote), event_log=None if log is None else outside(log))
    assert appraise(bundle, DEFAULT, MACHINE_TIME).claim("cpu.boundary").status is Status.ASSERTED
    firmware = load_bundle(
        quote=outside("google-go-tdx-guest/cos-113-tdx-quote.dat"),
        event_log=outside("google-go-tdx-guest/ccel_data.dat"),
    )
    assert appraise(firmware, DEFAULT, MACHINE_TIME).claim("cpu.boundary").status is Status.UNKNOWN


def test_a_configuration_of_the_third_form_binds_the_compose_file() -> None:
    digest = hashlib.sha256(COMPOSE).hexdigest()
    document = canonical_json({"app_id": "11" * 20, "compose_hash": digest, "key_provider": "none", "version": 3})
    measured = b"\3" + hashlib.sha256(b"dstack-mr-config-v3:\0" + document).digest() + bytes(15)
    node = dataclasses.replace(NODE, registers={"mr_config_id": measured})

    def found(**more: Any) -> Claim:
        files = {**node.files(), **more}
        return appraise(load_bundle(**files), node.policy, node.now, roots=node.roots).claim("cpu.compose")

    good = found(config=document)
    assert good.status is Status.ASSERTED
    assert "the configuration document and the compose-hash event" in good.reason
    assert found(config=document + b" ").status is Status.REFUTED
    assert found(config=document, compose=COMPOSE + b" ").status is Status.REFUTED
    assert "the configuration document" not in found().reason


def test_a_configuration_of_the_second_form_binds_app_and_key_provider() -> None:
    """Keccak over compose hash, app id, provider's number and key, as ``mr_config.rs`` has it."""
    app, key = hashlib.sha256(COMPOSE).digest()[:20], b"\7" * 4
    provider = json.dumps({"name": "kms", "id": key.hex()}).encode()
    hashed = keccak.new(digest_bits=256, data=hashlib.sha256(COMPOSE).digest() + app + b"\2" + key).digest()
    log = [
        *NODE.log[:6],
        *(
            log_entry(name, payload)
            for name, payload in (
                ("app-id", app),
                ("compose-hash", hashlib.sha256(COMPOSE).digest()),
                ("key-provider", provider),
                ("system-ready", b""),
            )
        ),
    ]
    node = dataclasses.replace(NODE, registers={"mr_config_id": b"\2" + bytes(hashed) + bytes(15)})

    def found(entries: list[dict[str, Any]]) -> Claim:
        files = {**node.files(), "event_log": json.dumps(entries).encode()}
        return appraise(load_bundle(**files), node.policy, node.now, roots=node.roots).claim("cpu.compose")

    assert found(log).status is Status.ASSERTED
    assert "mr_config_id" in found(log).reason
    other = [{**one, "event_payload": "00" * 20} if one.get("event") == "app-id" else one for one in log]
    assert "another file, app or key provider" in found(other).reason
    assert found([one for one in log if one.get("event") != "key-provider"]).status is Status.REFUTED
    for name, word in (("nobody", "07070707"), ("kms", "0707070"), ("kms", "zz07"), ("kms", 7)):
        said = json.dumps({"name": name, "id": word}).encode()
        unknown = [log_entry("key-provider", said) if one.get("event") == "key-provider" else one for one in log]
        assert found(unknown).status is Status.REFUTED


def test_a_compose_file_is_bound_by_register_and_event(outside: Outside) -> None:
    quote = outside("near-vllm-proxy/dstack_quote.json")
    compose = json.loads(outside("near-vllm-proxy/dstack_info.json"))["tcb_info"]["app_compose"].encode()
    good = appraise(load_bundle(quote=quote, compose=compose), DEFAULT, MACHINE_TIME).claim("cpu.compose")
    assert good.status is Status.ASSERTED
    assert "mr_config_id and the compose-hash event" in good.reason
    bad = appraise(load_bundle(quote=quote, compose=compose + b" "), DEFAULT, MACHINE_TIME).claim("cpu.compose")
    assert bad.status is Status.REFUTED
    bare = load_bundle(quote=outside("phala-dcap-qvl/tdx_quote"), compose=compose)
    assert appraise(bare, DEFAULT, MACHINE_TIME).claim("cpu.compose").status is Status.UNKNOWN


# -- binding -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(outside: Outside) -> dict[str, Any]:
    """The recorded production machine: TDX quote, H100 evidence, collateral, and the driver
    manifest."""
    return {
        "gpu": [outside("secretvm-verify/gpu_attest.txt")],
        "quote": outside("secretvm-verify/cpu_quote.txt"),
        "collateral": outside("near-mpc/collateral.json"),
        "rims": [outside("nvidia-attestation-sdk/rims/NV_GPU_DRIVER_GH100_550.144.03.xml")],
    }


def test_the_production_machine_verifies_end_to_end(machine: dict[str, Any]) -> None:
    result = appraise(load_bundle(**machine), recorded_machine_policy(), MACHINE_TIME)
    assert result.accepted
    assert result.cpu is not None
    assert result.cpu["tcb_status"] == "UpToDate"
    nonce = result.devices[0].facts["nonce"]
    assert result.cpu["measured"]["report_data"][64:] == nonce
    assert nonce in result.claim("binding.gpu_nonce").reason
    assert result.claim("gpu.0.measurements.driver").reason == "21 of 21 golden values match"
    # its manifest is not public
    assert result.claim("gpu.0.measurements.vbios").status is Status.UNKNOWN


def test_the_default_policy_wants_the_vbios_manifest_too(machine: dict[str, Any]) -> None:
    result = appraise(load_bundle(**machine), Policy.default(), MACHINE_TIME)
    assert {claim.status for claim in result.because} == {Status.UNKNOWN}
    assert all("vbios" in claim.id or "conflict" in claim.id for claim in result.because)


def test_another_machines_quote_is_not_bound(machine: dict[str, Any], outside: Outside) -> None:
    result = appraise(load_bundle(**{**machine, "quote": outside("near-mpc/quote.json")}), DEFAULT, MACHINE_TIME)
    assert result.claim("cpu.quote").status is Status.ASSERTED
    assert result.claim("binding.gpu_nonce").status is Status.REFUTED


def binding(profile: str, report_data: bytes, nonces: set[bytes], key: bytes | None) -> dict[str, str]:
    claims: list[Claim] = []
    check_binding(profile, report_data, frozenset(nonces), key, ClaimLog("binding", "binding", claims))
    return {claim.check.partition(".")[2]: claim.status.value for claim in claims}


@settings(max_examples=50, deadline=None)
@given(profile=st.sampled_from(sorted(KEY_COMMITMENTS)), key=st.binary(min_size=20, max_size=32), nonce=st.binary())
def test_every_profile_asserts_its_own_and_refutes_the_rest(profile: str, key: bytes, nonce: bytes) -> None:
    nonce = hashlib.sha256(nonce).digest()
    half = KEY_COMMITMENTS[profile](key)
    data = half + nonce
    gpu = half if profile == "chutes" else nonce
    assert binding(profile, data, {gpu}, key) == {"gpu_nonce": "asserted", "key": "asserted"}
    assert binding(profile, data, {gpu}, key + b"\1")["key"] == "refuted"
    assert binding(profile, data, {gpu, bytes(32)}, key)["gpu_nonce"] == "refuted"
    assert binding(profile, data, {bytes(32)}, key)["gpu_nonce"] == "refuted"
    assert binding(profile, data, {gpu}, None)["key"] == "unknown"
    assert binding(profile, data, set(), key) == {"key": "asserted"}


def test_auto_binds_the_gpu_but_claims_no_key() -> None:
    assert binding("auto", bytes(32) + b"\1" * 32, {b"\1" * 32}, b"key") == {"gpu_nonce": "asserted", "key": "unknown"}


def test_profiles_commit_as_documented() -> None:
    assert KEY_COMMITMENTS["near"](b"\1" * 20) == b"\1" * 20 + bytes(12)
    assert KEY_COMMITMENTS["secretvm"](b"spki") == hashlib.sha256(b"spki").digest()
    assert KEY_COMMITMENTS["otr"](b"k") != KEY_COMMITMENTS["secretvm"](b"k")


def test_a_revocation_list_of_an_unknown_version_is_a_named_error(outside: Outside) -> None:
    """Found by fuzzing: the X.509 library raises an error of its own kind for it, which is no
    ValueError."""
    document = json.loads(outside("near-mpc/collateral.json"))
    version = "0201013"  # INTEGER 1, then a SEQUENCE or SET: version 2 of RFC 5280
    assert isinstance(document["pck_crl"], str)
    parse_collateral(json.dumps(document).encode())
    document["pck_crl"] = document["pck_crl"].replace(version, "0201413", 1)
    with pytest.raises(EvidenceError, match="65 is not a valid CRL version"):
        parse_collateral(json.dumps(document).encode())


def test_runtime_events_are_those_of_the_register_that_software_extends() -> None:
    """An extension of another type is listed too, without a name that nothing vouches for."""
    entries = [
        {"imr": 3, "event_type": RUNTIME_EVENT, "event": "a", "event_payload": "0a"},
        {"imr": 2, "event_type": RUNTIME_EVENT, "event": "b", "event_payload": "0b"},
        {"imr": 3, "event_type": 1, "event": "c", "event_payload": "0c", "digest": "dd" * 48},
    ]
    log = parse_event_log(json.dumps(entries).encode())
    assert log.runtime_events() == [{"event": "a", "payload": "0a"}, {"event": None, "payload": "dd" * 48}]


def test_one_digest_is_that_of_one_event() -> None:
    """A colon ends the name under the hash, so a name with one could be read as a shorter name."""
    assert runtime_digest(RUNTIME_EVENT, "otr:a", b"b") == runtime_digest(RUNTIME_EVENT, "otr", b"a:b")
    log = EventLog(b"", (Event(3, RUNTIME_EVENT, b"", "otr:a", b"b"),))
    assert "'otr:a', expected one without a colon" in str(log.digest_problem())
    assert EventLog(b"", (Event(3, RUNTIME_EVENT, b"", "otr", b"a:b"),)).digest_problem() is None


def test_an_appraisal_lists_the_runtime_events(outside: Outside) -> None:
    found = appraise(load_bundle(quote=outside("near-vllm-proxy/dstack_quote.json")), DEFAULT, MACHINE_TIME)
    names = [event["event"] for event in (found.cpu or {})["runtime_events"]]
    assert names[0] == "system-preparing"
    assert names[-1] == "system-ready"


def test_hex_text_is_not_taken_for_der(tdx: dict[str, Any]) -> None:
    """Both begin with the character 0."""
    assert describe(tdx["quote"].hex().encode()) == "a TDX quote as hex text"


def test_a_hidden_compose_hash_is_not_replaced() -> None:
    """The event of the workload that runs, listed as another kind, and a later one of another."""
    other = hashlib.sha256(b"other workload").digest()
    genuine = Event(3, RUNTIME_EVENT, b"", "compose-hash", b"\1" * 32)
    claimed = Event(3, RUNTIME_EVENT, b"", "compose-hash", other)
    disguised = Event(3, 1, genuine.extended, "", b"")
    true, shown = EventLog(b"", (genuine, claimed)), EventLog(b"", (disguised, claimed))
    assert true.replay(3) == shown.replay(3)
    assert true.payloads("compose-hash") == (b"\1" * 32, other)
    assert shown.payloads("compose-hash") == ()


def test_logs_are_bounded() -> None:
    event = {"imr": 3, "event_type": RUNTIME_EVENT, "event": "a", "event_payload": ""}
    one = json.dumps([event]).encode()
    assert len(parse_event_log(one).events) == 1
    with pytest.raises(EvidenceError, match="bytes, expected at most"):
        parse_event_log(one + b" " * MAX_LOG_BYTES)
    with pytest.raises(EvidenceError, match="events, expected at most"):
        parse_event_log(json.dumps([event] * (MAX_EVENTS + 1)).encode())


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ((5, 1, 0x0C, 0), "register 5 with 1 digests"),
        ((1, 2, 0x0C, 0), "register 1 with 2 digests"),
        ((1, 1, 0x0B, 0), "expected one SHA-384 digest"),
        ((1, 1, 0x0C, 999), "event of 999 bytes beyond the end"),
        ((1, 1, 0x0C, 0), None),
    ],
)
def test_records_of_a_ccel_are_checked(record: tuple[int, int, int, int], reason: str | None) -> None:
    register, digests, algorithm, size = record
    head = bytes(28) + (16).to_bytes(4, "little") + b"Spec ID Event03\0"
    body = b"".join(number.to_bytes(4, "little") for number in (register, 4, digests))
    raw = head + body + algorithm.to_bytes(2, "little") + b"\7" * 48 + size.to_bytes(4, "little")
    if reason is None:
        assert parse_event_log(raw).events[0].digest == b"\7" * 48
    else:
        with pytest.raises(EvidenceError, match=reason):
            parse_event_log(raw)


def test_the_short_answer_of_dcap_qvl_is_the_long_one_without_a_date(tdx: dict[str, Any], outside: Outside) -> None:
    """A remembered date changes no outcome: for the honest quote, changed ones, and other times."""
    raw, late = tdx["quote"], timedelta(days=400)
    spoilt = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in (4, 48 + 120, 600, 700, 1200, 2000, 4000)]
    collateral = parse_collateral(tdx["collateral"])
    warm, outcomes, today = VerifiedCache(), set[str](), at("2025-06-20")
    honest = parse_quote(raw)
    assert isinstance(honest, Quote)
    assert isinstance(verify_quote(honest, collateral, today, warm), VerifiedQuote)
    for data in (raw, *spoilt, raw[:-1]):
        for as_of in (today, today + late, today - late):
            try:
                quote = parse_quote(data)
            except EvidenceError:
                continue
            assert isinstance(quote, Quote)
            kept = verify_quote(quote, collateral, as_of, warm)
            assert kept == verify_quote(quote, collateral, as_of, VerifiedCache())
            outcomes.add(str(kept))
    assert len(outcomes) > 4
    # of a platform that advisories are open for
    outdated = parse_collateral(outside("near-mpc/collateral.json"))
    long, short = (verify_quote(honest, outdated, at("2026-08-14"), warm) for _ in range(2))
    assert long == short
    assert isinstance(long, VerifiedQuote)
    assert len(long.advisories) == 4


def test_collateral_is_bounded_and_its_binary_parts_may_be_lists(tdx: dict[str, Any]) -> None:
    document = json.loads(tdx["collateral"])
    listed = {**document, "root_ca_crl": list(bytes.fromhex(document["root_ca_crl"]))}
    assert parse_collateral(json.dumps(listed).encode()).raw == parse_collateral(tdx["collateral"]).raw
    with pytest.raises(EvidenceError, match="found int, expected a string"):
        parse_collateral(json.dumps({**document, "pck_crl": 7}).encode())
    with pytest.raises(EvidenceError, match="bytes, expected at most"):
        parse_collateral(tdx["collateral"] + b" " * MAX_COLLATERAL_BYTES)


@pytest.mark.parametrize("later", ["tcb_info", "qe_identity"])
def test_collateral_is_as_old_as_its_oldest_part(tdx: dict[str, Any], later: str) -> None:
    """Issue, expiry and number are the lower ones of TCB info and QE identity, whichever has them; each dated part is
    listed with its own days, as the certificates and lists themselves say."""
    document = json.loads(tdx["collateral"])
    for key in ("tcb_info", "qe_identity"):
        month, number = (2, 18) if key == later else (1, 17)
        dates = {"issueDate": f"2025-0{month}-01T00:00:00Z", "nextUpdate": f"2025-0{month + 2}-01T00:00:00Z"}
        document[key] = json.dumps({**json.loads(document[key]), **dates, "tcbEvaluationDataNumber": number})
    found = parse_collateral(json.dumps(document).encode())
    assert (found.issued, found.expires, found.evaluation) == (at("2025-01-01"), at("2025-03-01"), 17)
    assert found.newest == max(one["tcbDate"] for one in json.loads(document["tcb_info"])["tcbLevels"])[:10]
    expected = [(key, at(f"2025-0{1 + (key == later)}-01")) for key in ("tcb_info", "qe_identity")]
    expected = [(key, start, start.replace(month=start.month + 2)) for key, start in expected]
    for key in ("root_ca_crl", "pck_crl"):
        crl = x509.load_der_x509_crl(bytes.fromhex(document[key]))
        assert crl.next_update_utc is not None
        expected.append((key, crl.last_update_utc, crl.next_update_utc - timedelta(seconds=1)))
    for key in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        for one in x509.load_pem_x509_certificates(document[key].encode()):
            expected.append((key, one.not_valid_before_utc, one.not_valid_after_utc))
    assert sorted(found.windows) == sorted(expected)


def test_the_day_of_a_platform_is_remembered_by_its_collateral_and_its_firmware() -> None:
    document = json.loads(NODE.platform.collateral())
    info = json.loads(document["tcb_info"])
    # the level that there is counts for newer firmware alone; the others' is older
    (level,) = info["tcbLevels"]
    newer = [{"svn": one["svn"] + 1} for one in level["tcb"]["tdxtcbcomponents"]]
    older = {**level, "tcbDate": "2024-01-10T00:00:00Z"}
    levels = [{**level, "tcb": {**level["tcb"], "tdxtcbcomponents": newer}}, older]
    text = json.dumps({**info, "tcbLevels": levels}, separators=(",", ":"))
    signed = decode_dss_signature(NODE.platform.key("tcb").sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    signature = b"".join(number.to_bytes(32, "big") for number in signed).hex()
    two_levels = json.dumps({**document, "tcb_info": text, "tcb_info_signature": signature}).encode()
    one, two = (parse_collateral(each) for each in (NODE.platform.collateral(), two_levels))
    old = parse_quote(NODE.platform.quote({}))
    assert isinstance(old, Quote)
    svn = old.registers["tee_tcb_svn"]
    higher = bytes(each + (at != 1) for at, each in enumerate(svn))  # number 1 is the module's own version
    new = parse_quote(NODE.platform.quote({"tee_tcb_svn": higher}))
    cache, days = VerifiedCache(), []
    for quote, collateral in ((old, one), (old, two), (new, two), (old, two), (old, one)):
        assert isinstance(quote, Quote)
        found = verify_quote(quote, collateral, NODE.now, cache, NODE.roots.quote)
        assert isinstance(found, VerifiedQuote), found
        days.append(found.tcb_date)
    assert days == ["2024-03-13", "2024-01-10", "2024-03-13", "2024-01-10", "2024-03-13"]


def test_base64_of_a_quote_has_no_other_characters(tdx: dict[str, Any]) -> None:
    text = base64.b64encode(tdx["quote"])
    assert parse_quote(text) == parse_quote(tdx["quote"])
    with pytest.raises(EvidenceError, match="neither hex nor base64"):
        parse_quote(text[:40] + b"!" + text[40:])


def test_the_signed_part_ends_where_each_kind_says(outside: Outside) -> None:
    sizes = {"phala-dcap-qvl/sgx_quote": 48 + 384, "google-go-tdx-guest/quote_v5_sample.dat": 48 + 6 + 648}
    for name, size in {**sizes, "phala-dcap-qvl/tdx_quote": 48 + 584}.items():
        quote = parse_quote(outside(name))
        assert isinstance(quote, Quote)
        assert len(quote.signed) == size, name
