"""Devices as one machine: one nonce, no device twice, counts, one mode, and the NVLink wiring.

A GPU's report lists the NVSwitches at its links (field 22, eight bytes each, lowest byte first); an
NVSwitch's report names itself (field 22) and the GPUs at its ports (field 26), highest byte first.
A device's own number is certified: the serial number of its boot ROM's certificate ends in it. So
each list is compared with identities in certificates, not with what another report says of itself.
Layout as on the recorded HGX machines (data/sources.toml, ``hgx``).
"""

from __future__ import annotations

from collections.abc import Sequence

from otr_core.attestation.bundle import Device
from otr_core.attestation.claims import ClaimLog, Source
from otr_core.attestation.policy import MODES, Policy
from otr_core.attestation.report import Report

PDI_BYTES = 8  # an NVLink endpoint's number
_MODE_FLAGS = {b"\0\0": MODES[0], b"\1\0": MODES[1], b"\2\0": MODES[2]}
_PROTECTED = {b"\x55": False, b"\xaa": True}


def mode(report: Report) -> str:
    """One of ``MODES``; "not stated", or "in conflict" where two fields of the report differ.

    Newer firmware states the mode in a field of its own. Older firmware says whether PCIe is
    protected; it knew no mode of several GPUs without that.
    """
    flag, protected = report.field("FEATURE_FLAG"), _PROTECTED.get(report.field("PROTECTED_PCIE_STATUS") or b"")
    if flag is None:
        return "not stated" if protected is None else MODES[2] if protected else MODES[0]
    stated = _MODE_FLAGS.get(flag, "not stated")
    return "in conflict" if protected is not None and protected != (stated == MODES[2]) else stated


def own_pdi(device: Device) -> str:
    """The device's number on NVLink, as its certificate states it; empty without a chain."""
    return f"{device.chain[1].serial_number:0{2 * PDI_BYTES}x}"[-2 * PDI_BYTES :] if len(device.chain) > 1 else ""


def linked_pdis(device: Device) -> tuple[str, ...]:
    """Numbers of the devices that this one is wired to, each once, sorted."""
    name = "SWITCH_PDI" if device.kind == "gpu" else "SWITCH_GPU_PDIS"
    value = device.report.field(name) or b""
    if device.kind == "switch":
        # The second half of the field says which port belongs to which entry of the first half.
        value = value[: len(value) // 2]
    runs = [value[at : at + PDI_BYTES] for at in range(0, len(value) - PDI_BYTES + 1, PDI_BYTES)]
    found = [run[::-1] if device.kind == "gpu" else run for run in runs if run.strip(b"\0") and run.strip(b"\xff")]
    return tuple(sorted({one.hex() for one in found}))


def check_machine(devices: Sequence[Device], policy: Policy, log: ClaimLog) -> None:
    """Claims on all NVIDIA devices of a bundle together, in this order:

    1. All answered one nonce.
    2. None appears twice.
    3. There are as many GPUs and NVSwitches as the policy states.
    4. All GPUs are in one mode.
    5. Under protected PCIe: GPUs and NVSwitches list each other, and nobody who is not there.
    """
    raw = b"".join(one.report.raw for one in devices)

    # 1. All answered one nonce.
    nonces = {one.report.nonce for one in devices}
    bad = f"{len(nonces)} different nonces in {len(devices)} signed requests"
    log.decide("same_nonce", len(nonces) == 1, f"{len(devices)} devices, one nonce", bad, Source.HARDWARE, raw)

    # 2. None appears twice.
    identities = [device.ueid or device.report.sha256 for device in devices]
    twice = sorted({one for one in identities if identities.count(one) > 1})
    good, bad = f"{len(identities)} different devices", f"device {', '.join(twice)} appears more than once"
    log.decide("unique", not twice, good, bad, Source.HARDWARE, raw)

    # 3. There are as many GPUs and NVSwitches as the policy states.
    for check, kind, wanted in (("count", "gpu", policy.gpu_count), ("switch_count", "switch", policy.switch_count)):
        found = sum(device.kind == kind for device in devices)
        if wanted is not None:
            name = "GPUs" if kind == "gpu" else "NVSwitches"
            good, bad = f"{found} {name}", f"found {found} {name}, expected {wanted}"
            log.decide(check, found == wanted, good, bad, Source.HARDWARE, raw)

    # 4. All GPUs are in one mode.
    gpus = [device for device in devices if device.kind == "gpu"]
    modes = sorted({mode(device.report) for device in gpus})
    if modes == ["not stated"]:
        log.unknown(["one_mode"], "no report states its mode")
    elif modes:
        holds = len(modes) == 1 and modes[0] in MODES
        bad = f"found the modes {', '.join(modes)}, expected one"
        log.decide("one_mode", holds, f"{len(gpus)} in mode {modes[0]}", bad, Source.HARDWARE, raw)

    # 5. Under protected PCIe: GPUs and NVSwitches list each other, and nobody who is not there.
    if gpus:
        _check_topology(devices, modes, log, raw)


def _check_topology(devices: Sequence[Device], modes: Sequence[str], log: ClaimLog, raw: bytes) -> None:
    there = {kind: {own_pdi(one) for one in devices if one.kind == kind} for kind in ("gpu", "switch")}
    if not there["switch"] and MODES[2] not in modes and not any(linked_pdis(one) for one in devices):
        good = "no GPU lists an NVSwitch, and none is in protected PCIe"
        log.judge("topology", None, good, Source.HARDWARE, raw)
        return
    wrong, missing = [], set[str]()
    counts = {"gpu": 0, "switch": 0}
    for device in devices:
        other = "switch" if device.kind == "gpu" else "gpu"
        name = f"{device.kind}.{counts[device.kind]}"
        counts[device.kind] += 1
        listed = set(linked_pdis(device))
        missing |= {f"{other} {one}" for one in listed - there[other]}
        if foreign := there[other] - listed:
            wrong.append(f"{name} does not list {other} {', '.join(sorted(foreign))}")
        if not listed:
            wrong.append(f"{name} lists no {other}")
        if device.kind == "switch" and (device.report.field("SWITCH_PDI") or b"").hex() != own_pdi(device):
            wrong.append(f"{name} names itself otherwise than its certificate does")
    if "" in there["gpu"] | there["switch"]:
        log.unknown(["topology"], "a device has no certificate that states its number")
    elif wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        log.judge("topology", "; ".join(wrong[:3]) + more, "", Source.HARDWARE, raw)
    elif missing:
        log.unknown(["topology"], f"signed reports list what is not in the bundle: {', '.join(sorted(missing))}")
    else:
        good = f"{len(there['gpu'])} GPUs and {len(there['switch'])} NVSwitches list each other and no other device"
        log.judge("topology", None, good, Source.HARDWARE, raw)
