"""Attacks on CPU evidence, event logs and the binding between CPU, GPU and key."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from otr_core.attestation.appraisal import appraise
from otr_core.attestation.bundle import load_bundle
from otr_core.attestation.policy import Policy
from otr_paper.labs.attestation.frame import Attack, Attempt, Evidence, authentic_policy, collector, flip, shown

ATTACKS: list[Attack] = []
_attack = collector(ATTACKS)
MACHINE_TIME = datetime(2026, 8, 14, tzinfo=UTC)
OLD_TIME = datetime(2025, 6, 20, tzinfo=UTC)
DSTACK_TIME = datetime(2025, 9, 3, tzinfo=UTC)


# The honest presentations that the attacks start from: a machine with GPU and TDX, a TDX quote
# while its platform was up to date, an SGX quote under a policy that knows its advisories, and a
# dstack guest with its log.


def _machine(evidence: Evidence) -> Attempt:
    files = shown(gpu=["machine_gpu"], quote="machine_quote", collateral="machine_collateral")
    return Attempt(files(evidence), authentic_policy("gpu", "cpu"), MACHINE_TIME)


def _old(evidence: Evidence) -> Attempt:
    return Attempt(
        shown(quote="old_quote", collateral="old_collateral")(evidence), Policy.default().expecting("tdx"), OLD_TIME
    )


def _sgx(evidence: Evidence) -> Attempt:
    policy = dataclasses.replace(
        Policy.default().expecting("sgx"),
        name="lenient",
        tcb_statuses=("UpToDate", "ConfigurationAndSWHardeningNeeded"),
        advisories=("INTEL-SA-00289", "INTEL-SA-00615"),
    )
    return Attempt(shown(quote="sgx_quote", collateral="sgx_collateral")(evidence), policy, OLD_TIME)


def _dstack(evidence: Evidence) -> Attempt:
    document = json.loads(evidence["dstack_quote"])
    files = {
        "quote": document["quote"].encode(),
        "collateral": evidence["dstack_collateral"],
        "event_log": document["event_log"].encode(),
        "compose": json.loads(evidence["dstack_info"])["tcb_info"]["app_compose"].encode(),
    }
    return Attempt(files, Policy.default().expecting("tdx", "event_log", "compose"), DSTACK_TIME)


def _quote_bytes(data: bytes) -> bytes:
    """A quote's bytes; some recorded ones are hex. Binary ones begin with their version."""
    return data if data[:1] in b"\x03\x04\x05" else bytes.fromhex(data.decode().strip())


def _edited(collateral: bytes, key: str, old: str, new: str) -> bytes:
    """The collateral with other words in its document ``key``, whose signature no longer fits."""
    document = json.loads(collateral)
    assert old in document[key]
    return json.dumps({**document, key: document[key].replace(old, new)}).encode()


@_attack("cpu.report data", "writes its own key into the quote", _machine, claim="cpu.quote")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"quote": flip(_quote_bytes(e["machine_quote"]), 48 + 520)})


@_attack("cpu.debug", "runs the TD with the debug bit set", _machine, claim="cpu.debug")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"quote": flip(_quote_bytes(e["machine_quote"]), 48 + 120)})


@_attack("cpu.out of date", "stays on a platform that has been patched since", _old, claim="cpu.tcb")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"collateral": e["machine_collateral"]}, as_of=MACHINE_TIME)


@_attack("cpu.old collateral", "shows collateral from before the patch", _old, claim="cpu.quote")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=MACHINE_TIME)


@_attack("cpu.future collateral", "shows collateral from the future", _old, claim="cpu.quote")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(as_of=OLD_TIME - timedelta(days=30))


@_attack("cpu.advisories", "runs with open security advisories", _sgx, claim="cpu.advisories")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(policy=dataclasses.replace(twin.policy, advisories=("INTEL-SA-00289",)))


@_attack("cpu.revoked TCB", "marks its revoked TCB level as up to date", _old, claim="cpu.quote")
def _(e: Evidence, twin: Attempt) -> Attempt:
    edited = _edited(e["machine_collateral"], "tcb_info", '"OutOfDate"', '"UpToDate"')
    return twin.but({"collateral": edited}, as_of=MACHINE_TIME)


@_attack("cpu.other collateral", "shows collateral of another platform family", _old, claim="cpu.quote")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"collateral": e["dstack_collateral"]}, as_of=DSTACK_TIME)


@_attack("cpu.PCK override", "hides another machine's PCK chain in the collateral", _machine, outcome="no effect")
def _(e: Evidence, twin: Attempt) -> Attempt:
    document = json.loads(e["machine_collateral"])
    chain = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", _quote_bytes(e["old_quote"]), re.S)
    document["pck_certificate_chain"] = b"\n".join(chain).decode()
    return twin.but({"collateral": json.dumps(document).encode()})


@_attack("cpu.malleated quote", "changes unsigned bytes to evade a replay list", _machine, outcome="no effect")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"quote": _quote_bytes(e["machine_quote"]) + b"padding"})


@_attack("cpu.too many nodes", "forges nodes on a platform that is full", _machine, claim="cpu.platform")
def _(e: Evidence, twin: Attempt) -> Attempt:
    ppid = (appraise(load_bundle(**twin.files), twin.policy, twin.as_of).cpu or {})["ppid"]
    return twin.but(policy=dataclasses.replace(twin.policy, cpu_max_nodes=4), given={"registered": {ppid: 4}})


@_attack("cpu.no collateral", "hands in the quote alone", _machine, claim="cpu.quote", outcome="unknown")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"collateral": None})


def _events(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Evidence, Attempt], Attempt]:
    """The attack that changes the guest's event log so."""

    def build(e: Evidence, twin: Attempt) -> Attempt:
        return twin.but({"event_log": json.dumps(change(json.loads(twin.files["event_log"]))).encode()})

    return build


def _other_payload(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "event_payload": "00" * 32} if one["event"] == "compose-hash" else one for one in events]


_attack("log.reordered", "swaps two runtime events", _dstack, claim="cpu.rtmr3")(
    _events(lambda log: [*log[:-2], log[-1], log[-2]])
)
_attack("log.omitted", "leaves a boot event out", _dstack, claim="cpu.rtmr0")(_events(lambda log: log[1:]))
_attack("log.other payload", "edits a payload and keeps its digest", _dstack, claim="cpu.event_log")(
    _events(_other_payload)
)


@_attack("log.other compose", "runs another workload than the one it shows", _dstack, claim="cpu.compose")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"compose": twin.files["compose"] + b" "})


@_attack("binding.relayed GPU", "shows its quote with another host's GPU", _machine, claim="binding.gpu_nonce")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but({"quote": e["other_quote"]})


@_attack("binding.other key", "serves with a key that was not attested", _machine, claim="binding.key")
def _(e: Evidence, twin: Attempt) -> Attempt:
    return twin.but(policy=dataclasses.replace(twin.policy, binding="secretvm"), given={"key": b"another key"})
