"""Every attack on every recorded bundle to which it applies, run live.

A *target* is an honest presentation of recorded evidence that its policy accepts. An attack changes
its files, or what the verifier is asked; it applies to targets that have the part which it changes.
It is *stopped* if the attempt is refused for the check that the attack names; a file that is no
evidence any more counts as stopped too, and says so.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from otr_core.attestation.appraisal import Appraisal, appraise
from otr_core.attestation.bundle import Bundle, DeviceFiles, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.machine import mode
from otr_core.attestation.policy import MODES
from otr_core.attestation.quote import Quote
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.frame import Attempt, Evidence, flip
from otr_paper.labs.attestation.lab import lab_device, lab_ocsp
from otr_paper.labs.attestation.targets import pem_of, targets

_SEED = b"otr attack matrix"
_OTHER_NONCE = b"\xee" * 32
_POLICY_BYTE = 0x0A  # of an AMD report: bits 16 to 23 of the guest policy, the debug bit among them
Change = Callable[[Attempt, Bundle], Attempt | None]
"""Builds the attempt from the honest one and its bundle; None where it does not apply."""


@dataclass(frozen=True)
class GeneralAttack:
    """An attack on whatever bundle has the part that it changes.

    Attributes:
        id, story: as in ``frame.Attack``. checks: those of which one must stop it.
        change: builds it.
    """

    id: str
    story: str
    checks: tuple[str, ...]
    change: Change


GENERAL_ATTACKS: list[GeneralAttack] = []


def _attack(name: str, story: str, *checks: str) -> Callable[[Change], Change]:
    def add(change: Change) -> Change:
        GENERAL_ATTACKS.append(GeneralAttack(name, story, checks, change))
        return change

    return add


# -- attacks on devices ------------------------------------------------------------------------------------------------


def _last_device(change: Callable[[DeviceFiles, Bundle], DeviceFiles | None]) -> Change:
    """Changes the last device of the bundle."""

    def build(honest: Attempt, bundle: Bundle) -> Attempt | None:
        devices = honest.files.get("gpu") or []
        changed = change(devices[-1], bundle) if devices else None
        return None if changed is None else honest.but({"gpu": [*devices[:-1], changed]})

    return build


def _pems(pem: bytes | None) -> list[bytes]:
    return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem or b"", re.S)


for _name, _at, _check in (
    *(("measurement", 200, "gpu.signature"), ("request nonce", 10, "gpu.signature")),
    *(("signature", -7, "gpu.signature"), ("opaque field", -120, "gpu.signature")),
):
    _attack(f"device.{_name}", f"flips one bit of the {_name}", _check, "unreadable")(
        _last_device(lambda one, bundle, at=_at: one._replace(report=flip(one.report, at % len(one.report))))  # type: ignore[misc]
    )
_attack("device.truncated", "cuts the report short", "unreadable")(
    _last_device(lambda one, bundle: one._replace(report=one.report[:-1]))
)
_attack("device.trailing byte", "appends a byte", "unreadable")(
    _last_device(lambda one, bundle: one._replace(report=one.report + b"\0"))
)
_attack("device.no chain", "hands in the report without its chain", "gpu.signature")(
    _last_device(lambda one, bundle: one._replace(pem=b"".join(_pems(one.pem)[:0]) or None))
)
_attack("device.short chain", "leaves out an intermediate", "gpu.chain.length")(
    _last_device(lambda one, bundle: one._replace(pem=b"".join([*_pems(one.pem)[:2], *_pems(one.pem)[3:]])))
)
_attack("device.leaf as issuer", "lets the device key issue a device", "gpu.chain.usage")(
    _last_device(
        lambda one, bundle: one._replace(pem=b"".join([_pems(one.pem)[0], *_pems(one.pem)[:1], *_pems(one.pem)[2:]]))
    )
)
_attack("device.echoed nonce", "writes another nonce beside the report", "gpu.stated_nonce")(
    _last_device(lambda one, bundle: one._replace(nonce=_OTHER_NONCE))
)


@_attack("device.own root", "re-issues the chain under a root of its own", "gpu.chain.root")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    def forged(one: DeviceFiles, bundle: Bundle) -> DeviceFiles:
        fake = lab_device(bundle.devices[-1].chain, _SEED)
        return one._replace(report=fake.sign(one.report), pem=fake.pem)

    return _last_device(forged)(honest, bundle)


@_attack("device.simulated", "shows devices under a laboratory's root", "evidence.genuine")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if not bundle.devices:
        return None
    return honest.but(given={**honest.given, "roots": lab_device(bundle.devices[-1].chain, _SEED).roots})


@_attack("device.twice", "shows one device twice", "gpu.unique")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    devices = honest.files.get("gpu") or []
    return honest.but({"gpu": [*devices, devices[-1]]}) if devices else None


@_attack(
    "device.left out", "leaves the last device out", "gpu.count", "gpu.switch_count", "gpu.topology", "evidence.present"
)
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    devices = honest.files.get("gpu") or []
    return honest.but({"gpu": devices[:-1]}) if len(devices) > 1 or (bundle.quote is not None and devices) else None


@_attack(
    "device.spliced",
    "puts a genuine device of another machine in the place of the last one",
    *("gpu.topology", "gpu.one_mode", "gpu.same_nonce", "binding.gpu_nonce", "gpu.rim.driver.identity"),
    *("gpu.rim.vbios.identity", "evidence.present"),
)
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    there = {one.ueid for one in bundle.devices}
    recorded = [honest.others[name] for name in ("machine_gpu", "switch") if there and name in honest.others]
    foreign = next((one for data in recorded for one in load_bundle(gpu=[data]).devices if one.ueid not in there), None)
    if foreign is None:
        return None
    return honest.but({"gpu": [*honest.files["gpu"][:-1], DeviceFiles(foreign.report.raw, pem_of(foreign.chain))]})


@_attack("device.other mode", "runs in another mode than asked for", "gpu.mode")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    modes = {mode(one.report) for one in bundle.devices if one.kind == "gpu"}
    asked = tuple(one for one in MODES if one not in modes)
    return honest.but(policy=dataclasses.replace(honest.policy, gpu_modes=asked)) if modes else None


@_attack("device.replay", "answers a new nonce with old reports", "gpu.nonce")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but(given={**honest.given, "nonce": _OTHER_NONCE}) if bundle.devices else None


@_attack("device.not admitted", "is not on the list", "gpu.platform")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    gpus = any(one.kind == "gpu" for one in bundle.devices)
    return honest.but(policy=dataclasses.replace(honest.policy, gpu_ids=("1",))) if gpus else None


# -- attacks on what others signed -------------------------------------------------------------------------------------


def _expired(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but(as_of=datetime(2029, 1, 1, tzinfo=UTC)) if bundle.rims else None


_attack(
    "manifest.expired", "shows a manifest after its signer expired", "gpu.rim.vbios.validity", "gpu.rim.driver.validity"
)(_expired)


@_attack("manifest.edited", "edits a golden value", "gpu.rim.driver.signature", "gpu.rim.vbios.signature")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if not bundle.rims:
        return None
    raw = honest.files["rims"][0]
    found = re.search(rb'active="True"[^>]*?:Hash0="([0-9a-f])', raw)
    assert found is not None
    digit = b"1" if found[1] != b"1" else b"2"
    return honest.but({"rims": [raw[: found.start(1)] + digit + raw[found.end(1) :], *honest.files["rims"][1:]]})


@_attack("manifest.withheld", "leaves the manifests out", "gpu.rim.vbios.identity", "gpu.rim.driver.identity")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but({"rims": []}) if bundle.rims else None


@_attack("revocation.withheld", "leaves a response out", "gpu.revocation")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but({"ocsp": honest.files["ocsp"][1:]}) if bundle.ocsp else None


_attack("revocation.future", "staples responses of next year", "gpu.revocation")(
    lambda honest, bundle: honest.but(as_of=honest.as_of - timedelta(days=120)) if bundle.ocsp else None
)


@_attack("revocation.own responder", "answers for the vendor itself", "gpu.revocation")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if not bundle.ocsp:
        return None
    subject, issuer = bundle.devices[0].chain[1:3]
    forged = lab_ocsp(subject, issuer, honest.as_of - timedelta(days=1), _SEED)
    return honest.but({"ocsp": [forged]})


@_attack("revocation.stale", "staples responses of last year", "gpu.revocation")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but(as_of=honest.as_of + timedelta(days=120)) if bundle.ocsp else None


# -- attacks on the CPU's evidence -------------------------------------------------------------------------------------


def _quote(change: Callable[[bytes, str], bytes | None]) -> Change:
    def build(honest: Attempt, bundle: Bundle) -> Attempt | None:
        changed = None if bundle.quote is None else change(bundle.quote.raw, bundle.quote.kind)
        return None if changed is None else honest.but({"quote": changed})

    return build


#: Where a byte of report data, and one of the debug bit, stands in a quote of each kind (version 5
#: has six bytes more before the body).
_REPORT_DATA = {"TDX": 48 + 520, "SGX": 48 + 320, "SNP": 0x50}
_DEBUG = {"TDX": 48 + 120, "SGX": 48 + 48, "SNP": _POLICY_BYTE}


def _moved(places: Mapping[str, int], raw: bytes, kind: str) -> int:
    return places[kind] + (6 if kind == "TDX" and raw[0] == 5 else 0)


_attack("cpu.report data", "writes its own key into the report", "cpu.quote")(
    _quote(lambda raw, kind: flip(raw, _moved(_REPORT_DATA, raw, kind)))
)


@_attack("cpu.debug", "runs under a debugger", "cpu.debug")
@_quote
def _(raw: bytes, kind: str) -> bytes:
    at, bit = _moved(_DEBUG, raw, kind), {"TDX": 1, "SGX": 2, "SNP": 8}[kind]
    return raw[:at] + bytes([raw[at] | bit]) + raw[at + 1 :]


@_attack("cpu.left out", "leaves the quote out", "evidence.present", "cpu.quote")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    rest = {name: None for name in ("quote", "collateral", "event_log", "compose")}
    return honest.but(rest)


@_attack("cpu.nothing vouches", "hands in the quote alone", "cpu.quote")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but({"collateral": None}) if bundle.quote is not None else None


@_attack("cpu.other collateral", "shows what vouches for another platform", "cpu.quote")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    names = ("snp_vlek", "snp_vcek") if bundle.quote.kind == "SNP" else ("machine_collateral", "sgx_collateral")
    there = [honest.others[name] for name in names if name in honest.others]
    other = next((data for data in there if data not in honest.files["collateral"]), None)
    return None if other is None else honest.but({"collateral": other})


@_attack("cpu.too late", "is shown when all that vouches has expired", "cpu.quote")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but(as_of=datetime(2060, 1, 1, tzinfo=UTC)) if bundle.quote is not None else None


@_attack("cpu.too early", "sets the clock back", "cpu.quote")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but(as_of=datetime(2021, 1, 1, tzinfo=UTC)) if bundle.quote is not None else None


@_attack("cpu.another TEE", "is of another kind than asked for", "evidence.present")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    wanted = "sgx" if bundle.quote.kind == "TDX" else "tdx"
    return honest.but(policy=dataclasses.replace(honest.policy, evidence=(wanted,)))


@_attack("cpu.old firmware", "runs firmware older than asked for", "cpu.tcb_date", "cpu.tcb")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    changes: dict[str, Any] = {"min_tcb_date": "2099-01-01"}
    if not isinstance(bundle.quote, Quote):
        changes = {"snp_min_tcb": (("snp", 255),)}
    return honest.but(policy=dataclasses.replace(honest.policy, **changes))


@_attack("cpu.other code", "runs something else than asked for", "cpu.measurements")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    name = {"TDX": "mr_td", "SGX": "mr_enclave", "SNP": "measurement"}[bundle.quote.kind]
    return honest.but(policy=dataclasses.replace(honest.policy, measurements=((name, "00" * 32),)))


@_attack("cpu.not admitted", "is not on the list", "cpu.platform")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None or (not isinstance(bundle.quote, Quote) and bundle.quote.signer == "VLEK"):
        return None  # a cloud's key names no platform
    return honest.but(policy=dataclasses.replace(honest.policy, cpu_ids=("00",)))


@_attack("binding.other key", "serves with a key that was not attested", "binding.key")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None:
        return None
    return honest.but(
        policy=dataclasses.replace(honest.policy, binding="secretvm"), given={**honest.given, "key": b"x"}
    )


@_attack("binding.relayed", "binds to another GPU's nonce", "binding.gpu_nonce", "gpu.signature")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    if bundle.quote is None or not bundle.devices:
        return None
    fake = lab_device(bundle.devices[0].chain, _SEED)
    one = honest.files["gpu"][0]
    return honest.but(
        {"gpu": [one._replace(report=fake.sign(one.report, nonce=_OTHER_NONCE)), *honest.files["gpu"][1:]]}
    )


def _events(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    def build(honest: Attempt, bundle: Bundle) -> Attempt | None:
        if bundle.event_log is None:
            return None
        return honest.but({"event_log": json.dumps(change(json.loads(honest.files["event_log"]))).encode()})

    return build


_attack("log.reordered", "swaps two runtime events", "cpu.rtmr3")(_events(lambda log: [*log[:-2], log[-1], log[-2]]))
_attack("log.omitted", "leaves a boot event out", "cpu.rtmr0")(_events(lambda log: log[1:]))
_attack("log.late event", "shows a second compose hash behind the boundary", "cpu.boundary", "cpu.rtmr3")(
    _events(lambda log: [*log, *(one for one in log if one["event"] == "compose-hash")])
)
_attack("log.other payload", "edits a payload and keeps its digest", "cpu.event_log")(
    _events(lambda log: [{**one, "event_payload": "00" * 32} if one["event"] == "compose-hash" else one for one in log])
)


@_attack("log.withheld", "leaves the log out", "evidence.present", "cpu.event_log")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but({"event_log": None}) if bundle.event_log is not None else None


@_attack("log.other compose", "shows another workload", "cpu.compose")
def _(honest: Attempt, bundle: Bundle) -> Attempt | None:
    return honest.but({"compose": bundle.compose + b" "}) if bundle.compose is not None else None


# -- the matrix --------------------------------------------------------------------------------------------------------


def attack_matrix(evidence: Evidence) -> list[dict[str, str]]:
    """Rows with attack, target, story, check (that stopped it), result and reason.

    ``result`` is ``stopped``, ``NOT stopped``, or ``no attack`` where the target has no such part.
    """
    cache, rows = VerifiedCache(), []
    for name, honest in targets(evidence):
        bundle = load_bundle(**honest.files)
        before = appraise(bundle, honest.policy, honest.as_of, cache=cache, **honest.given)
        assert before.accepted, f"{name}: {before.summary()}"
        for one in GENERAL_ATTACKS:
            head = {"attack": one.id, "target": name, "story": one.story}
            attempt = one.change(honest, bundle)
            found = ("", "no attack", "") if attempt is None else _outcome(one, attempt, cache)
            rows.append({**head, **dict(zip(("check", "result", "reason"), found, strict=True))})
    return rows


def _outcome(one: GeneralAttack, attempt: Attempt, cache: VerifiedCache) -> tuple[str, str, str]:
    try:
        bundle = load_bundle(**attempt.files)
    except EvidenceError as error:
        unreadable = "unreadable" in one.checks or "evidence.present" in one.checks
        return "unreadable", "stopped" if unreadable else "NOT stopped", str(error)
    result: Appraisal = appraise(bundle, attempt.policy, attempt.as_of, cache=cache, **attempt.given)
    by = next((claim for claim in result.because if claim.check in one.checks), None)
    if by is None:
        return "", "NOT stopped", result.summary()
    return by.check, "stopped", by.reason
