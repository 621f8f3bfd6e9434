"""Appraisal of a CPU TEE: a TDX or SGX quote, or a SEV-SNP report, with what vouches for it, and
with event log and compose file."""

from __future__ import annotations

import hashlib
from datetime import date, datetime
from typing import Any

from Crypto.Hash import keccak

from otr_core.attestation.chain import stamp
from otr_core.attestation.claims import ClaimLog, Source
from otr_core.attestation.eventlog import IMAGE_READY, EventLog, evidence_json
from otr_core.attestation.policy import Inquiry, Policy, admit
from otr_core.attestation.quote import Collateral, Quote, VerifiedQuote, verify_quote
from otr_core.attestation.snp import SnpCertificates, SnpReport, snp_problem, tcb_problem
from otr_core.errors import EvidenceError

_RTMRS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
#: What stands before a dstack configuration document (MrConfigV3) under its hash.
_CONFIG_DOMAIN = b"dstack-mr-config-v3:\0"
#: Numbers of key providers under the hash of dstack's second form of mr_config_id.
_PROVIDERS = {"none": 0, "local": 1, "local-sgx": 1, "kms": 2, "tpm": 3}


def appraise_cpu(quote: Quote | SnpReport, given: Inquiry, log: ClaimLog) -> dict[str, Any]:
    """Append all claims about the quote or report to ``log`` in this order; return its facts, JSON-typed:

    1. It, its certificates and collateral verify at the time of appraisal.
    2. The policy allows the platform's TCB, of which Intel states status and date.
    3. The policy allows every open security advisory (Intel).
    4. The collateral is recent enough and of a high enough evaluation number (Intel).
    5. TD, guest or enclave is not debuggable, and cannot be migrated.
    6. The measurement registers equal the expected ones.
    7. The platform is admitted.
    8. The event log's digests are those of its events, it replays to RTMR0 to RTMR3, and the image's
       own events end in its boundary (TDX).
    9. The compose file's hash is the one in the measured configuration and in the measured event.
    """
    policy, bundle = given.policy, given.bundle
    event_log = bundle.event_log

    # Checks 1 to 4, on what the vendor says, are numbered where they are made.
    vouched = _check_snp(quote, given, log) if isinstance(quote, SnpReport) else _check_quote(quote, given, log)
    log.authentic = vouched["verified"]

    # 5. TD, guest or enclave is not debuggable, and cannot be migrated.
    attributes = ", ".join(quote.attributes) or "none"
    bad = f"{quote.kind} is debuggable (attributes {attributes})"
    log.decide("debug", not quote.debuggable, f"attributes: {attributes}", bad, Source.HARDWARE, quote.signed)
    bad = f"{quote.kind} may be migrated (attributes {attributes})"
    log.decide("migration", not quote.migratable, f"attributes: {attributes}", bad, Source.HARDWARE, quote.signed)

    # 6. The measurement registers equal the expected ones.
    measured = {name: value.hex() for name, value in quote.registers.items()}
    if stated := _compose_hash(quote, event_log, bundle.config):
        measured["compose_hash"] = stated
    if policy.measurements:
        differing = [name for name, expected in policy.measurements if measured.get(name) != expected]
        wrong = [f"{name} is {measured.get(name, 'absent')}" for name in differing]
        good, bad = f"{len(policy.measurements)} registers as expected", f"unexpected: {'; '.join(wrong)}"
        log.decide("measurements", not wrong, good, bad, Source.HARDWARE, quote.signed)

    # 7. The platform is admitted.
    admit(log, vouched["ppid"], policy.cpu_ids, policy.cpu_max_nodes, given.registered)

    if quote.kind == "TDX":
        # 8. The event log's digests are those of its events, it replays to RTMR0 to RTMR3, and the
        #    image's own events end in its boundary (TDX).
        _check_event_log(quote, event_log, log)

    # 9. The compose file's hash is the one in the measured configuration and in the measured event.
    if quote.kind != "SGX":
        _check_compose(quote, given, log)
    return {
        "kind": quote.kind,
        "version": quote.version,
        "identity": quote.identity,
        "fmspc": quote.fmspc,
        **{name: value for name, value in vouched.items() if name != "verified"},
        "attributes": list(quote.attributes),
        "measured": measured,
        "runtime_events": event_log.runtime_events() if event_log else [],
    }


def _check_snp(report: SnpReport, given: Inquiry, log: ClaimLog) -> dict[str, Any]:
    held, floor = given.bundle.collateral, dict(given.policy.snp_min_tcb)
    nothing = {"verified": False, "ppid": "", "tcb_status": "", "tcb_date": "", "days_behind": None, "advisories": []}
    facts = {**nothing, "family": report.family, "signer": report.signer, "collateral": None}
    tcbs = {name: report.tcb(f"{name}_tcb") for name in ("reported", "committed", "current", "launch")}
    facts["tcb"] = tcbs
    if not isinstance(held, SnpCertificates):
        log.unknown(["quote", "tcb"], "no certificates of AMD in the bundle")
        return facts
    evidence = report.signed + held.raw

    # 1. It, its certificates and collateral verify at the time of appraisal.
    problem = snp_problem(report, held, given.as_of, given.roots.amd, given.cache)
    good = f"SNP report version {report.version} verifies with its {held.leaf.signer} to ARK-{held.leaf.family}"
    log.judge("quote", problem, f"{good} at {stamp(given.as_of)}", Source.HARDWARE, evidence)
    facts["verified"], facts["family"] = problem is None, held.leaf.family
    if problem is not None:
        log.unknown(["tcb"], "the report does not verify, so nothing is known of its platform")
        return facts
    if held.leaf.signer == "VCEK":
        facts["ppid"] = report.registers["chip_id"].hex()

    # 2. The policy allows the platform's TCB, of which Intel states status and date.
    reported = tcbs["reported"]
    shown = ", ".join(f"{part} {number}" for part, number in reported.items())
    low = [
        f"{part} {reported.get(part, -1)} < {number}"
        for part, number in floor.items()
        if reported.get(part, -1) < number
    ]
    problem = tcb_problem(report, held) or (f"TCB is below the policy's: {', '.join(low)}" if low else None)
    if problem is None and not floor:
        log.unknown(["tcb"], f"TCB is as certified ({shown}), but the policy states no lowest one (snp_min_tcb)")
    else:
        log.judge("tcb", problem, f"TCB is as certified and high enough: {shown}", Source.COLLATERAL, evidence)
    return facts


def _check_quote(quote: Quote, given: Inquiry, log: ClaimLog) -> dict[str, Any]:
    collateral, policy, as_of = given.bundle.collateral, given.policy, given.as_of
    facts: dict[str, Any] = {"verified": False, "ppid": "", "tcb_status": "", "tcb_date": "", "days_behind": None}
    facts |= {"advisories": [], "collateral": None}
    if not isinstance(collateral, Collateral):
        log.unknown(["quote", "tcb", "tcb_date", "advisories", "collateral"], "no collateral in the bundle")
        return facts
    issued, expires = stamp(collateral.issued), stamp(collateral.expires)
    facts["collateral"] = {"issued": issued, "expires": expires, "tcb_evaluation": collateral.evaluation}
    result = verify_quote(quote, collateral, as_of, given.cache, given.roots.quote)
    evidence = quote.signed + collateral.raw

    # 1. It, its certificates and collateral verify at the time of appraisal.
    problem = None if isinstance(result, VerifiedQuote) else f"{result} (at {stamp(as_of)})"
    whose = "Intel's root" if given.roots.quote is None else "a laboratory's root"
    good = f"{quote.kind} quote version {quote.version} verifies to {whose} at {stamp(as_of)}"
    log.judge("quote", problem, good, Source.HARDWARE, evidence)
    if not isinstance(result, VerifiedQuote):
        log.unknown(["tcb", "tcb_date", "advisories"], "the quote does not verify: nothing is known of its platform")
    else:
        behind = (date.fromisoformat(collateral.newest) - date.fromisoformat(result.tcb_date)).days
        facts |= {"verified": True, "ppid": result.ppid, "tcb_status": result.status, "tcb_date": result.tcb_date}
        facts |= {"days_behind": behind, "advisories": list(result.advisories)}
        _check_tcb(result, behind, policy, evidence, log)

    # 4. The collateral is recent enough and of a high enough evaluation number (Intel).
    good = f"issued {issued}, tcbEvaluationDataNumber {collateral.evaluation}"
    problem = _collateral_problem(collateral, policy, as_of)
    log.judge("collateral", problem, good, Source.COLLATERAL, collateral.sha256)
    return facts


def _check_tcb(result: VerifiedQuote, behind: int, policy: Policy, evidence: bytes, log: ClaimLog) -> None:
    # 2. The policy allows the platform's TCB: dcap-qvl verifies the quote of an out-of-date
    # platform too.
    dated = f"of {result.tcb_date}, {behind} days behind the latest"
    good = f"TCB status is {result.status}"
    advisories = f"advisories {', '.join(result.advisories) or 'none'}"
    bad = f"{good} ({dated}; {advisories}), allowed {', '.join(policy.tcb_statuses)}"
    log.decide("tcb", result.status in policy.tcb_statuses, good, bad, Source.COLLATERAL, evidence)
    if policy.min_tcb_date is not None:
        bad = f"TCB is {dated}, expected of {policy.min_tcb_date} or later"
        log.decide(
            "tcb_date", result.tcb_date >= policy.min_tcb_date, f"TCB is {dated}", bad, Source.COLLATERAL, evidence
        )

    # 3. The policy allows every open security advisory (Intel).
    denied = [one for one in result.advisories if one not in policy.advisories]
    bad = f"open advisories: {', '.join(denied)}"
    good = f"open and allowed: {', '.join(result.advisories)}" if result.advisories else "no open advisory"
    log.decide("advisories", not denied, good, bad, Source.COLLATERAL, evidence)


def _collateral_problem(collateral: Collateral, policy: Policy, as_of: datetime) -> str | None:
    age_s, issued = (as_of - collateral.issued).total_seconds(), stamp(collateral.issued)
    if age_s < 0:
        return f"collateral is from the future ({issued})"
    if as_of > collateral.expires:
        return f"collateral expired at {stamp(collateral.expires)}"
    if policy.collateral_max_age_s is not None and age_s > policy.collateral_max_age_s:
        return f"collateral of {issued} is {age_s:.0f} s old, allowed {policy.collateral_max_age_s} s"
    if policy.min_tcb_evaluation is not None and collateral.evaluation < policy.min_tcb_evaluation:
        return f"tcbEvaluationDataNumber is {collateral.evaluation}, expected at least {policy.min_tcb_evaluation}"
    return None


def _check_event_log(quote: Quote | SnpReport, event_log: EventLog | None, log: ClaimLog) -> None:
    if event_log is None:
        log.unknown(["event_log", *_RTMRS, "boundary"], "no event log in the bundle")
        return
    problem = event_log.digest_problem()
    log.judge("event_log", problem, f"{len(event_log.events)} events, digests as stated", Source.DERIVED, event_log.raw)
    evidence = quote.signed + event_log.raw
    for number, check in enumerate(_RTMRS):
        register = quote.registers[f"rt_mr{number}"]
        count = sum(event.register == number for event in event_log.events)
        if count == 0 and any(register):
            log.unknown([check], f"the log has no event for RTMR{number}, which is not zero")
            continue
        replayed = event_log.replay(number)
        bad = f"{count} events replay to {replayed.hex()[:16]}…, the quote says {register.hex()[:16]}…"
        good = f"{count} events replay to RTMR{number}"
        log.decide(check, replayed == register, good, bad, Source.HARDWARE, evidence)
    problem = event_log.boundary_problem()
    if problem == "":
        log.unknown(["boundary"], f"the log has no {IMAGE_READY} event: it is not of an image whose events are known")
    else:
        log.judge("boundary", problem, f"the image's events end in {IMAGE_READY}", Source.HARDWARE, evidence)


def _config_document(config: bytes | None) -> dict[str, Any]:
    """The members of a dstack configuration document; empty without one, or where it is none."""
    try:
        document = None if config is None else evidence_json(config, "configuration")
    except EvidenceError:
        return {}
    return document if isinstance(document, dict) else {}


def _config_hash(quote: Quote | SnpReport, config: bytes) -> tuple[bytes, bytes]:
    """What a configuration document's hash should be, and where the hardware states it."""
    digest = hashlib.sha256(_CONFIG_DOMAIN + config).digest()
    return digest, quote.registers["host_data"] if quote.kind == "SNP" else quote.registers["mr_config_id"][1:33]


def _stated_hashes(quote: Quote | SnpReport, log: EventLog | None, config: bytes | None) -> dict[str, str]:
    """Where the compose file's hash is stated (hex), by the name of the place.

    The hardware carries it in one of dstack's three forms (``mr_config.rs``): the hash itself, a
    Keccak hash over it with more, or the hash of a document that has it.
    """
    stated, form = {}, quote.registers["mr_config_id"][0] if quote.kind == "TDX" else 3
    if form == 1:
        stated["mr_config_id"] = quote.registers["mr_config_id"][1:33].hex()
    elif form == 3 and config is not None:
        expected, found = _config_hash(quote, config)
        member = str(_config_document(config).get("compose_hash", "absent"))
        stated["the configuration document"] = (
            member if expected == found else "a document that is not the measured one"
        )
    for payload in log.payloads("compose-hash") if log is not None and quote.kind == "TDX" else ():
        stated["the compose-hash event"] = payload.hex()
    return stated


def _compose_hash(quote: Quote | SnpReport, log: EventLog | None, config: bytes | None) -> str:
    """The compose file's hash if it is stated, and everywhere the same; else an empty text."""
    found = set(_stated_hashes(quote, log, config).values()) if quote.kind != "SGX" else set()
    return found.pop() if len(found) == 1 else ""


def _second_form(quote: Quote | SnpReport, log: EventLog, compose_hash: bytes) -> bool:
    """Whether mr_config_id is that of this compose file, with app id and key provider of the log."""
    apps, providers = log.payloads("app-id"), log.payloads("key-provider")
    if len(apps) != 1 or len(providers) != 1:
        return False
    provider = _config_document(providers[0])
    name, key = str(provider.get("name", "")), str(provider.get("id", ""))
    if name not in _PROVIDERS or set(key) - set("0123456789abcdef") or len(key) % 2:
        return False
    hashed = keccak.new(digest_bits=256, data=compose_hash + apps[0] + bytes([_PROVIDERS[name]]) + bytes.fromhex(key))
    return quote.registers["mr_config_id"][1:33] == bytes(hashed.digest())


def _check_compose(quote: Quote | SnpReport, given: Inquiry, log: ClaimLog) -> None:
    """The compose file's hash is stated wherever dstack states it, and everywhere the same."""
    compose, event_log = given.bundle.compose, given.bundle.event_log
    if compose is None:
        log.unknown(["compose"], "no compose file in the bundle")
        return
    expected = hashlib.sha256(compose).digest()
    stated = _stated_hashes(quote, event_log, given.bundle.config)
    if quote.kind == "TDX" and quote.registers["mr_config_id"][0] == 2 and event_log is not None:
        same = _second_form(quote, event_log, expected)
        stated["mr_config_id"] = expected.hex() if same else "another file, app or key provider"
    if not stated:
        log.unknown(["compose"], "no measured configuration and no event names a compose file")
        return
    wrong = [f"{where} says {value}" for where, value in stated.items() if value != expected.hex()]
    bad = f"compose file hashes to {expected.hex()}, but {' and '.join(wrong)}"
    good = f"compose file {expected.hex()[:16]}… is the one in {' and '.join(stated)}"
    log.decide("compose", not wrong, good, bad, Source.HARDWARE, quote.signed + compose)
