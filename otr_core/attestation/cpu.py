"""Appraisal of a CPU TEE: a TDX or SGX quote with collateral, event log and compose file.

The checks, in this order (each a claim; ``claims.CHECKS`` has a sentence on each):

1. quote, certificates and collateral verify at the time of appraisal (dcap-qvl)
2. TCB status, 3. advisories: both gated by the policy, since dcap-qvl returns normally for an out-of-date platform
4. age and evaluation number of the collateral
5. debug, 6. expected measurements, 7. admission of the platform
8. event log: digests, and replay to RTMR0-3
9. compose file against the measured event and mr_config_id
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from otr_core.attestation.chain import stamp
from otr_core.attestation.claims import ClaimLog, Source
from otr_core.attestation.eventlog import EventLog
from otr_core.attestation.nvidia import admit
from otr_core.attestation.policy import Policy
from otr_core.attestation.quote import Collateral, Quote, Verified, verify_quote

_RTMRS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")


def appraise_cpu(
    quote: Quote,
    collateral: Collateral | None,
    event_log: EventLog | None,
    compose: bytes | None,
    policy: Policy,
    as_of: datetime,
    registered: Mapping[str, int] | None,
    log: ClaimLog,
) -> dict[str, Any]:
    """Append all claims about the quote to ``log``; returns its facts, JSON-typed."""
    # 1 to 4
    verified = _check_quote(quote, collateral, policy, as_of, log)
    log.authentic = verified is not None
    # 5
    problem = f"{quote.kind} is debuggable (attributes {_attributes(quote)})" if quote.debuggable else None
    log.judge("debug", problem, f"attributes: {_attributes(quote)}", Source.HARDWARE, quote.signed)
    # 6
    measured = {name: value.hex() for name, value in quote.registers.items()}
    hashes = {value.hex() for value in event_log.payloads("compose-hash")} if event_log else set()
    if len(hashes) == 1:
        measured["compose_hash"] = hashes.pop()
    if policy.measurements:
        wrong = [
            f"{name} is {measured.get(name, 'absent')}"
            for name, value in policy.measurements
            if measured.get(name) != value
        ]
        good = f"{len(policy.measurements)} registers as expected"
        log.judge(
            "measurements", f"unexpected: {'; '.join(wrong)}" if wrong else None, good, Source.HARDWARE, quote.signed
        )
    # 7
    ppid = verified.ppid if verified is not None else ""
    admit(log, "platform", ppid, policy.cpu_ids, policy.cpu_max_nodes, registered)
    # 8, 9
    if quote.kind == "TDX":
        _check_event_log(quote, event_log, log)
        _check_compose(quote, event_log, compose, log)
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
        "collateral": None
        if collateral is None
        else {
            "issued": stamp(collateral.issued),
            "expires": stamp(collateral.expires),
            "tcb_evaluation": collateral.evaluation,
        },
    }


def _attributes(quote: Quote) -> str:
    return ", ".join(quote.attributes) or "none"


def _check_quote(
    quote: Quote, collateral: Collateral | None, policy: Policy, as_of: datetime, log: ClaimLog
) -> Verified | None:
    if collateral is None:
        log.unknown(["quote", "tcb", "advisories", "collateral"], "no collateral in the bundle")
        return None
    result = verify_quote(quote, collateral, as_of)
    evidence = quote.signed + collateral.raw
    if isinstance(result, str):
        log.judge("quote", f"{result} (at {stamp(as_of)})", "", Source.HARDWARE, evidence)
        log.unknown(["tcb", "advisories"], "the quote does not verify, so nothing is known of its platform")
    else:
        good = f"{quote.kind} quote version {quote.version} verifies to Intel's root at {stamp(as_of)}"
        log.judge("quote", None, good, Source.HARDWARE, evidence)
        problem = None
        if result.status not in policy.tcb_statuses:
            problem = f"TCB status is {result.status}, allowed {', '.join(policy.tcb_statuses)}"
        log.judge("tcb", problem, f"TCB status is {result.status}", Source.COLLATERAL, evidence)
        open_ones = [one for one in result.advisories if one not in policy.advisories]
        problem = f"open advisories: {', '.join(open_ones)}" if open_ones else None
        good = f"open and allowed: {', '.join(result.advisories)}" if result.advisories else "no open advisory"
        log.judge("advisories", problem, good, Source.COLLATERAL, evidence)
    log.judge("collateral", *_collateral(collateral, policy, as_of), Source.COLLATERAL, collateral.raw)
    return None if isinstance(result, str) else result


def _collateral(collateral: Collateral, policy: Policy, as_of: datetime) -> tuple[str | None, str]:
    age_s = (as_of - collateral.issued).total_seconds()
    problem = None
    if age_s < 0:
        problem = f"collateral is from the future ({stamp(collateral.issued)})"
    elif as_of > collateral.expires:
        problem = f"collateral expired at {stamp(collateral.expires)}"
    elif policy.collateral_max_age_s is not None and age_s > policy.collateral_max_age_s:
        problem = (
            f"collateral of {stamp(collateral.issued)} is {age_s:.0f} s old, allowed {policy.collateral_max_age_s} s"
        )
    elif policy.min_tcb_evaluation is not None and collateral.evaluation < policy.min_tcb_evaluation:
        problem = f"tcbEvaluationDataNumber is {collateral.evaluation}, expected at least {policy.min_tcb_evaluation}"
    return problem, f"issued {stamp(collateral.issued)}, tcbEvaluationDataNumber {collateral.evaluation}"


def _check_event_log(quote: Quote, event_log: EventLog | None, log: ClaimLog) -> None:
    if event_log is None:
        log.unknown(["event_log", *_RTMRS], "no event log in the bundle")
        return
    problem = event_log.digest_problem()
    log.judge("event_log", problem, f"{len(event_log.events)} events, digests as stated", Source.DERIVED, event_log.raw)
    for number, check in enumerate(_RTMRS):
        register = quote.registers[f"rt_mr{number}"]
        count = sum(event.register == number for event in event_log.events)
        replayed = event_log.replay(number)
        if count == 0 and any(register):
            log.unknown([check], f"the log has no event for RTMR{number}, which is not zero")
            continue
        problem = None
        if replayed != register:
            problem = f"{count} events replay to {replayed.hex()[:16]}…, the quote says {register.hex()[:16]}…"
        log.judge(
            check, problem, f"{count} events replay to RTMR{number}", Source.HARDWARE, quote.signed + event_log.raw
        )


def _check_compose(quote: Quote, event_log: EventLog | None, compose: bytes | None, log: ClaimLog) -> None:
    """dstack: SHA-256 of the compose file is the payload of ``compose-hash`` and follows 0x01 in mr_config_id."""
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
    problem = f"compose file hashes to {expected.hex()}, but {' and '.join(wrong)}" if wrong else None
    good = f"compose file {expected.hex()[:16]}… is the one in {' and '.join(where for where, _ in stated)}"
    log.judge("compose", problem, good, Source.HARDWARE, quote.signed + compose)
