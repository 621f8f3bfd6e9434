"""Appraisal of a CPU TEE: a TDX or SGX quote with collateral, event log and compose file."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from otr_core.attestation.chain import stamp
from otr_core.attestation.claims import ClaimLog, Source
from otr_core.attestation.eventlog import EventLog
from otr_core.attestation.policy import Inquiry, Policy, admit
from otr_core.attestation.quote import Collateral, Quote, VerifiedQuote, verify_quote

_RTMRS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")


def appraise_cpu(quote: Quote, given: Inquiry, log: ClaimLog) -> dict[str, Any]:
    """Append all claims about the quote to ``log`` in this order; return its facts, JSON-typed:

    1. Quote, certificates and collateral verify at the time of appraisal.
    2. The policy allows the platform's TCB status.
    3. The policy allows every open security advisory.
    4. The collateral is recent enough and of a high enough evaluation number.
    5. The TD or enclave is not debuggable.
    6. The measurement registers equal the expected ones.
    7. The platform is admitted.
    8. The event log's digests are those of its events, and it replays to RTMR0 to RTMR3 (TDX).
    9. The compose file's hash is the one in mr_config_id and in the measured event (TDX).
    """
    policy, collateral, event_log = given.policy, given.bundle.collateral, given.bundle.event_log

    # Checks 1 to 4, on quote and collateral, are numbered in ``_check_quote``.
    verified = _check_quote(quote, given, log)
    log.authentic = verified is not None

    # 5. The TD or enclave is not debuggable.
    attributes = ", ".join(quote.attributes) or "none"
    bad = f"{quote.kind} is debuggable (attributes {attributes})"
    log.decide("debug", not quote.debuggable, f"attributes: {attributes}", bad, Source.HARDWARE, quote.signed)

    # 6. The measurement registers equal the expected ones.
    measured = {name: value.hex() for name, value in quote.registers.items()}
    hashes = {value.hex() for value in event_log.payloads("compose-hash")} if event_log else set()
    if len(hashes) == 1:
        measured["compose_hash"] = hashes.pop()
    if policy.measurements:
        differing = [name for name, expected in policy.measurements if measured.get(name) != expected]
        wrong = [f"{name} is {measured.get(name, 'absent')}" for name in differing]
        good, bad = f"{len(policy.measurements)} registers as expected", f"unexpected: {'; '.join(wrong)}"
        log.decide("measurements", not wrong, good, bad, Source.HARDWARE, quote.signed)

    # 7. The platform is admitted.
    ppid = verified.ppid if verified is not None else ""
    admit(log, ppid, policy.cpu_ids, policy.cpu_max_nodes, given.registered)

    if quote.kind == "TDX":
        # 8. The event log's digests are those of its events, and it replays to RTMR0 to RTMR3
        #    (TDX).
        _check_event_log(quote, event_log, log)

        # 9. The compose file's hash is the one in mr_config_id and in the measured event (TDX).
        _check_compose(quote, event_log, given.bundle.compose, log)
    dated = None
    if collateral is not None:
        issued, expires = stamp(collateral.issued), stamp(collateral.expires)
        dated = {"issued": issued, "expires": expires, "tcb_evaluation": collateral.evaluation}
    return {
        "kind": quote.kind,
        "version": quote.version,
        "identity": quote.identity,
        "fmspc": quote.fmspc,
        "ppid": ppid,
        "tcb_status": verified.status if verified is not None else "",
        "advisories": list(verified.advisories) if verified is not None else [],
        "attributes": list(quote.attributes),
        "measured": measured,
        "runtime_events": event_log.runtime_events() if event_log else [],
        "collateral": dated,
    }


def _check_quote(quote: Quote, given: Inquiry, log: ClaimLog) -> VerifiedQuote | None:
    collateral, policy, as_of = given.bundle.collateral, given.policy, given.as_of
    if collateral is None:
        log.unknown(["quote", "tcb", "advisories", "collateral"], "no collateral in the bundle")
        return None
    result = verify_quote(quote, collateral, as_of, given.roots.quote)
    verified = None if isinstance(result, str) else result
    evidence = quote.signed + collateral.raw

    # 1. Quote, certificates and collateral verify at the time of appraisal.
    whose = "Intel's root" if given.roots.quote is None else "a laboratory's root"
    good = f"{quote.kind} quote version {quote.version} verifies to {whose} at {stamp(as_of)}"
    log.decide("quote", verified is not None, good, f"{result} (at {stamp(as_of)})", Source.HARDWARE, evidence)
    if verified is None:
        log.unknown(["tcb", "advisories"], "the quote does not verify, so nothing is known of its platform")
    else:
        # 2. The policy allows the platform's TCB status: dcap-qvl verifies the quote of an
        # out-of-date platform too.
        good = f"TCB status is {verified.status}"
        bad = f"{good}, allowed {', '.join(policy.tcb_statuses)}"
        log.decide("tcb", verified.status in policy.tcb_statuses, good, bad, Source.COLLATERAL, evidence)

        # 3. The policy allows every open security advisory.
        denied = [one for one in verified.advisories if one not in policy.advisories]
        bad = f"open advisories: {', '.join(denied)}"
        good = f"open and allowed: {', '.join(verified.advisories)}" if verified.advisories else "no open advisory"
        log.decide("advisories", not denied, good, bad, Source.COLLATERAL, evidence)

    # 4. The collateral is recent enough and of a high enough evaluation number.
    good = f"issued {stamp(collateral.issued)}, tcbEvaluationDataNumber {collateral.evaluation}"
    problem = _collateral_problem(collateral, policy, as_of)
    log.judge("collateral", problem, good, Source.COLLATERAL, collateral.raw)
    return verified


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


def _check_event_log(quote: Quote, event_log: EventLog | None, log: ClaimLog) -> None:
    if event_log is None:
        log.unknown(["event_log", *_RTMRS], "no event log in the bundle")
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


def _check_compose(quote: Quote, event_log: EventLog | None, compose: bytes | None, log: ClaimLog) -> None:
    """The compose file's hash is stated wherever dstack states it.

    That is the payload of the ``compose-hash`` event, and mr_config_id behind a byte 0x01; at least
    one of the two must be filled.
    """
    if compose is None:
        log.unknown(["compose"], "no compose file in the bundle")
        return
    expected = hashlib.sha256(compose).digest()
    config = quote.registers["mr_config_id"]
    events = event_log.payloads("compose-hash") if event_log is not None else ()
    stated = [("mr_config_id", config[1:33])] if config[0] == 1 else []
    stated += [("the compose-hash event", payload) for payload in events]
    if not stated:
        log.unknown(["compose"], "neither mr_config_id nor an event names a compose file")
        return
    wrong = [f"{where} says {value.hex()}" for where, value in stated if value != expected]
    bad = f"compose file hashes to {expected.hex()}, but {' and '.join(wrong)}"
    good = f"compose file {expected.hex()[:16]}… is the one in {' and '.join(where for where, _ in stated)}"
    log.decide("compose", not wrong, good, bad, Source.HARDWARE, quote.signed + compose)
