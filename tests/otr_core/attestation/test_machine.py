"""Devices as one machine: a recorded HGX machine, two recorded Blackwell GPUs, and what is taken from
or put into them."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from otr_core.attestation import Appraisal, Bundle, Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import Claim, ClaimLog, Status
from otr_core.attestation.machine import check_machine, linked_pdis, mode, own_pdi
from otr_core.attestation.nvidia import certified_fwids
from otr_core.attestation.report import OPAQUE_NAMES, field_name, parse_report
from otr_core.errors import EvidenceError, PolicyError
from otr_paper.labs.attestation import authentic_policy
from otr_paper.labs.attestation.machines import machine_devices

NOW = datetime(2026, 8, 14, tzinfo=UTC)
NODE = authentic_policy("gpu", "switch")
CACHE = VerifiedCache()
Outside = Callable[[str], bytes]


@pytest.fixture(scope="module")
def hgx(outside: Outside) -> dict[str, list[bytes]]:
    return machine_devices(outside("hgx/test_ppcie_data.json"))


@pytest.fixture(scope="module")
def blackwell(outside: Outside) -> list[bytes]:
    return machine_devices(outside("hgx/blackwell_two_of_mpt.json"))["gpu"]


def judged(devices: list[bytes], policy: Policy = NODE, **given: Any) -> Appraisal:
    return appraise(load_bundle(gpu=devices), policy, NOW, cache=CACHE, **given)


def test_the_recorded_machine_is_accepted(hgx: dict[str, list[bytes]]) -> None:
    result = judged([*hgx["gpu"], *hgx["switch"]])
    assert result.accepted
    assert result.claim("gpu.topology").reason == "8 GPUs and 4 NVSwitches list each other and no other device"
    assert result.claim("gpu.one_mode").reason == "8 in mode protected pcie"
    assert result.claim("gpu.same_nonce").reason == "12 devices, one nonce"
    counted = dataclasses.replace(NODE, gpu_count=8, switch_count=4)
    assert judged([*hgx["gpu"], *hgx["switch"]], counted).accepted


def test_each_single_removal_is_refused(hgx: dict[str, list[bytes]]) -> None:
    whole = [*hgx["gpu"], *hgx["switch"]]
    for gone in range(len(whole)):
        result = judged(whole[:gone] + whole[gone + 1 :])
        assert [claim.id for claim in result.because] == ["gpu.topology"], gone
        assert "list what is not in the bundle" in result.claim("gpu.topology").reason


@pytest.mark.parametrize(("gpus", "switches"), [(8, 0), (8, 3), (1, 4), (1, 0), (0, 4), (7, 3)])
def test_parts_of_a_machine_are_refused(hgx: dict[str, list[bytes]], gpus: int, switches: int) -> None:
    policy = dataclasses.replace(NODE, evidence=())
    assert not judged([*hgx["gpu"][:gpus], *hgx["switch"][:switches]], policy).accepted


def test_a_lone_switch_is_refused_unless_only_a_switch_is_expected(hgx: dict[str, list[bytes]]) -> None:
    for policy in (Policy.default(), authentic_policy(), NODE):
        result = judged(hgx["switch"][:1], policy)
        assert {"evidence.present", "gpu.topology"} <= {claim.id for claim in result.because}
    assert judged(hgx["switch"][:1], authentic_policy("switch")).accepted


def test_each_foreign_splice_is_refused(hgx: dict[str, list[bytes]], outside: Outside) -> None:
    foreign = [
        outside("nvidia-attestation-sdk/evidence/switch_evidence_ls10.json"),
        outside("nvidia-attestation-sdk/evidence/hopper_evidence.json"),
        outside("secretvm-verify/gpu_attest.txt"),
    ]
    whole = [*hgx["gpu"], *hgx["switch"]]
    for stranger in foreign:
        for place in range(len(whole)):
            result = judged([*whole[:place], stranger, *whole[place + 1 :]])
            assert result.claim("gpu.topology").status is Status.REFUTED, place
        assert judged([*whole, stranger]).claim("gpu.topology").status is Status.REFUTED


def test_a_switch_beside_a_gpu_that_knows_none_is_refused(outside: Outside) -> None:
    """A real switch, its list of GPUs blanked, beside a real GPU in a mode without switches."""
    files = ("secretvm-verify/gpu_attest.txt", "nvidia-attestation-sdk/evidence/switch_evidence_ls10.json")
    gpu, switch = load_bundle(gpu=[outside(name) for name in files]).devices
    blank = tuple((number, bytes(len(value)) if number == 26 else value) for number, value in switch.report.opaque)
    switch = dataclasses.replace(switch, report=dataclasses.replace(switch.report, opaque=blank))
    assert not linked_pdis(gpu)
    assert not linked_pdis(switch)
    claims: list[Claim] = []
    check_machine([gpu, switch], NODE, ClaimLog("gpu", "gpu", claims))
    (found,) = (one for one in claims if one.check == "gpu.topology")
    assert (found.status, "does not list switch" in found.reason) == (Status.REFUTED, True)


def test_a_device_twice_is_refused(hgx: dict[str, list[bytes]]) -> None:
    whole = [*hgx["gpu"], *hgx["switch"]]
    for one in (0, 8):
        assert "gpu.unique" in {claim.id for claim in judged([*whole, whole[one]]).because}


def test_the_two_sides_write_their_numbers_in_opposite_orders(hgx: dict[str, list[bytes]]) -> None:
    devices = load_bundle(gpu=[*hgx["gpu"], *hgx["switch"]]).devices
    gpus, switches = devices[:8], devices[8:]
    assert {linked_pdis(one) for one in gpus} == {tuple(sorted(own_pdi(one) for one in switches))}
    assert {linked_pdis(one) for one in switches} == {tuple(sorted(own_pdi(one) for one in gpus))}
    for one in switches:
        assert (one.report.field("SWITCH_PDI") or b"").hex() == own_pdi(one)
        assert bytes.fromhex(own_pdi(one))[::-1] in (gpus[0].report.field("SWITCH_PDI") or b"")


def test_without_its_chain_a_machine_has_no_topology(hgx: dict[str, list[bytes]]) -> None:
    reports = [base64.b64decode(json.loads(one)["evidence"]) for one in [*hgx["gpu"], *hgx["switch"]]]
    result = judged(reports)
    assert result.claim("gpu.topology").status is Status.UNKNOWN
    assert "no certificate that states its number" in result.claim("gpu.topology").reason


# -- Blackwell ---------------------------------------------------------------------------------------------------------


def test_both_blackwell_gpus_pass_the_firmware_id(blackwell: list[bytes]) -> None:
    result = judged(blackwell, dataclasses.replace(authentic_policy(), gpu_count=2))
    assert result.accepted
    for number, device in enumerate(load_bundle(gpu=blackwell).devices):
        assert certified_fwids(device.chain[0]) == (device.report.field("FWID"),)
        assert result.claim(f"gpu.{number}.fwid").status is Status.ASSERTED
        assert mode(device.report) == "multi"
    facts = result.devices[0].facts
    assert (facts["architecture"], facts["board"], facts["mode"]) == ("GB100", "G525 0220 886", "multi")


def test_blackwell_and_hopper_are_no_machine(blackwell: list[bytes], hgx: dict[str, list[bytes]]) -> None:
    result = judged([*hgx["gpu"], *hgx["switch"], blackwell[0]])
    assert {"gpu.one_mode", "gpu.topology", "gpu.same_nonce"} <= {claim.id for claim in result.because}
    assert "multi, protected pcie" in result.claim("gpu.one_mode").reason


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"gpu_architectures": ("GH100",)}, "architecture"),
        ({"gpu_boards": ("G520 0200 885",)}, "board"),
        ({"gpu_modes": ("single", "protected pcie")}, "mode"),
        ({"gpu_protected_pcie": True}, "mode"),
    ],
)
def test_each_field_on_the_device_can_refuse_and_pass(blackwell: list[bytes], change: Any, claim: str) -> None:
    result = judged(blackwell, dataclasses.replace(authentic_policy(), **change))
    assert {one.id for one in result.because} == {f"gpu.0.{claim}", f"gpu.1.{claim}"}
    fits = {"gpu_architectures": ("GB100",), "gpu_boards": ("G525 0220 886",), "gpu_modes": ("multi",)}
    assert judged(blackwell, dataclasses.replace(authentic_policy(), gpu_protected_pcie=False, **fits)).accepted


def test_counts_refuse(blackwell: list[bytes], hgx: dict[str, list[bytes]]) -> None:
    assert [one.id for one in judged(blackwell, dataclasses.replace(authentic_policy(), gpu_count=8)).because] == [
        "gpu.count"
    ]
    whole = [*hgx["gpu"], *hgx["switch"]]
    assert [one.id for one in judged(whole, dataclasses.replace(NODE, switch_count=6)).because] == ["gpu.switch_count"]
    with pytest.raises(PolicyError, match="switch_count: found 0, expected 1 to"):
        dataclasses.replace(NODE, switch_count=0)


def test_admitted_gpus_say_nothing_about_switches(hgx: dict[str, list[bytes]]) -> None:
    whole = [*hgx["gpu"], *hgx["switch"]]
    ids = tuple(device.ueid for device in load_bundle(gpu=hgx["gpu"]).devices)
    assert judged(whole, dataclasses.replace(NODE, gpu_ids=ids)).accepted
    fewer = judged(whole, dataclasses.replace(NODE, gpu_ids=ids[1:]))
    assert [claim.id for claim in fewer.because] == ["gpu.0.platform"]


def test_confidential_mode_is_said_to_be_not_shown(hgx: dict[str, list[bytes]]) -> None:
    claim = judged([*hgx["gpu"], *hgx["switch"]]).claim("gpu.0.confidential")
    assert (claim.status, claim.reason[:10]) == (Status.UNKNOWN, "not shown:")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "not stated"),
        ({21: b"\x55"}, "single"),
        ({21: b"\xaa"}, "protected pcie"),
        ({21: b"\x55", 36: b"\0\0"}, "single"),
        ({21: b"\x55", 36: b"\1\0"}, "multi"),
        ({36: b"\1\0"}, "multi"),
        ({21: b"\xaa", 36: b"\2\0"}, "protected pcie"),
        ({21: b"\xaa", 36: b"\0\0"}, "in conflict"),
        ({21: b"\x55", 36: b"\2\0"}, "in conflict"),
        ({36: b"\7\0"}, "not stated"),
    ],
)
def test_modes(blackwell: list[bytes], fields: dict[int, bytes], expected: str) -> None:
    (device,) = load_bundle(gpu=blackwell[:1]).devices
    assert mode(dataclasses.replace(device.report, opaque=tuple(fields.items()))) == expected


def test_no_flip_of_a_sampled_machine_is_accepted(hgx: dict[str, list[bytes]], blackwell: list[bytes]) -> None:
    """Every 499th bit of a GPU's report and of a switch's, in their machine, and of a Blackwell GPU's."""
    pair = dataclasses.replace(authentic_policy(), gpu_count=2)
    machines = (
        ([*hgx["gpu"], *hgx["switch"]], 0, NODE),
        ([*hgx["switch"], *hgx["gpu"]], 0, NODE),
        (blackwell, 1, pair),
    )
    tried = 0
    for devices, place, policy in machines:
        whole = load_bundle(gpu=devices)
        raw = whole.devices[place].report.raw
        for bit in range(0, 8 * len(raw), 499):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                changed = dataclasses.replace(whole.devices[place], report=parse_report(bytes(flipped)))
            except EvidenceError:
                continue
            tried += 1
            rest = (*whole.devices[:place], changed, *whole.devices[place + 1 :])
            assert not appraise(dataclasses.replace(whole, devices=rest), policy, NOW, cache=CACHE).accepted, bit
    assert tried > 100


def with_fields(whole: Bundle, place: int, **fields: bytes | None) -> Bundle:
    """The machine with opaque fields of one report replaced; None takes one out. Nobody signed that."""
    device = whole.devices[place]
    kept = [(number, value) for number, value in device.report.opaque if field_name(number) not in fields]
    numbers = {name: number for number, name in OPAQUE_NAMES.items()}
    kept += [(numbers[name], value) for name, value in fields.items() if value is not None]
    changed = dataclasses.replace(device, report=dataclasses.replace(device.report, opaque=tuple(kept)))
    return dataclasses.replace(whole, devices=(*whole.devices[:place], changed, *whole.devices[place + 1 :]))


def topology(bundle: Bundle) -> tuple[Status, str]:
    claim = appraise(bundle, NODE, NOW, cache=CACHE).claim("gpu.topology")
    return claim.status, claim.reason


def test_a_gpu_under_protected_pcie_that_lists_nobody_is_refused(hgx: dict[str, list[bytes]]) -> None:
    alone = with_fields(load_bundle(gpu=hgx["gpu"][:1]), 0, SWITCH_PDI=None)
    assert topology(alone) == (Status.REFUTED, "gpu.0 lists no switch")


def test_a_switch_that_names_itself_otherwise_is_refused(hgx: dict[str, list[bytes]]) -> None:
    whole = load_bundle(gpu=[*hgx["gpu"], *hgx["switch"]])
    status, reason = topology(with_fields(whole, 8, SWITCH_PDI=b"\1" * 8))
    assert (status, reason) == (Status.REFUTED, "switch.0 names itself otherwise than its certificate does")


def test_where_no_report_states_a_mode_it_stays_unknown(blackwell: list[bytes]) -> None:
    bare = with_fields(load_bundle(gpu=blackwell[:1]), 0, FEATURE_FLAG=None, PROTECTED_PCIE_STATUS=None)
    claim = appraise(bare, authentic_policy(), NOW, cache=CACHE).claim("gpu.one_mode")
    assert (claim.status, claim.reason) == (Status.UNKNOWN, "no report states its mode")
    odd = with_fields(load_bundle(gpu=blackwell[:1]), 0, FEATURE_FLAG=b"\2\0", PROTECTED_PCIE_STATUS=b"\x55")
    assert appraise(odd, authentic_policy(), NOW, cache=CACHE).claim("gpu.one_mode").status is Status.REFUTED
