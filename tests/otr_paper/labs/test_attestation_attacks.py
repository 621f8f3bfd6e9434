"""The attack lab, the window, and every single-bit flip of the real report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from otr_core.attestation import Bundle, Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache, parse_chain
from otr_core.attestation.claims import CHECKS, Status
from otr_core.attestation.nvidia import Device
from otr_core.attestation.report import parse_report
from otr_core.errors import EvidenceError, MissingDataError
from otr_node import outside as data
from otr_paper.benches.evidence import rows as evidence_rows
from otr_paper.labs.attestation import ATTACKS, authentic_policy, run_evidence_attacks
from otr_paper.labs.attestation import matrix as lab_matrix
from otr_paper.labs.attestation.cases import CASES, calendar, matrix, months, verdicts, windows
from otr_paper.labs.attestation.evidence import EVIDENCE, IN_WHEEL
from otr_paper.labs.attestation.frame import run
from otr_paper.labs.attestation.matrix import GENERAL_ATTACKS, attack_matrix
from otr_paper.labs.attestation.targets import targets
from otr_paper.labs.attestation.window import spans, verdict_over_time, window
from otr_paper.store.results import read_result

DEFAULT = Policy.default().expecting("gpu")
IN_WINDOW = datetime(2025, 1, 15, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def in_wheel(wheel_file: Callable[[str, str], Path]) -> dict[str, bytes]:
    return {name: wheel_file(EVIDENCE[name].source, EVIDENCE[name].file).read_bytes() for name in IN_WHEEL}


@pytest.fixture(scope="module")
def all_evidence(project: Any) -> dict[str, bytes]:
    mirror = data.mirror_folder()
    try:
        places = {name: data.get(project, one.source, one.file, mirror=mirror) for name, one in EVIDENCE.items()}
    except MissingDataError as error:
        pytest.skip(f"outside data: {error}")
    return {name: path.read_bytes() for name, path in places.items()}


def test_every_attack_ends_as_it_must(all_evidence: dict[str, bytes]) -> None:
    rows = run_evidence_attacks(all_evidence)
    assert len(rows) == len(ATTACKS) >= 25
    assert [row for row in rows if row["result"] != "as expected"] == []
    assert run_evidence_attacks(all_evidence) == rows
    accepted = [row["attack"] for row in rows if row["happened"] == "accepted"]
    assert accepted == ["limit.extracted key", "limit.relay"]


def test_the_wheel_alone_is_enough_for_the_gpu_attacks(in_wheel: dict[str, bytes]) -> None:
    rows = run_evidence_attacks(in_wheel)
    ran = [row for row in rows if row["result"] != "not run"]
    assert len(ran) >= 25
    assert {row["result"] for row in ran} == {"as expected"}
    assert all(row["reason"].startswith("needs ") for row in rows if row["result"] == "not run")


def test_an_attack_that_is_not_stopped_is_told(in_wheel: dict[str, bytes]) -> None:
    """The lab itself can fail: an attack that changes nothing must not look stopped."""
    idle = [dataclasses.replace(one, attack=lambda evidence, twin: twin) for one in ATTACKS[:20]]
    assert {row["result"] for row in run(idle, in_wheel)} <= {"NOT as expected", "not run"}


def test_attacks_name_real_checks_and_have_unique_names() -> None:
    assert {one.claim.replace(".0.", ".") for one in ATTACKS if one.claim} <= set(CHECKS)
    assert len({one.id for one in ATTACKS}) == len(ATTACKS)


# -- every attack on every bundle --------------------------------------------------------------------------------------


def test_every_attack_on_every_bundle_is_stopped_by_its_check(all_evidence: dict[str, bytes]) -> None:
    rows = attack_matrix(all_evidence)
    names = {name for name, _ in targets(all_evidence)}
    assert len(names) == 13
    assert len(rows) == len(names) * len(GENERAL_ATTACKS)
    assert [row for row in rows if row["result"] == "NOT stopped"] == []
    stopped = [row for row in rows if row["result"] == "stopped"]
    assert len(stopped) == 221
    assert {row["attack"] for row in stopped} == {one.id for one in GENERAL_ATTACKS}  # each applies somewhere
    assert {row["target"] for row in stopped} == names


def test_the_matrix_tells_an_attack_that_is_not_stopped(
    all_evidence: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = [dataclasses.replace(one, change=lambda honest, bundle: honest) for one in GENERAL_ATTACKS]
    monkeypatch.setattr(lab_matrix, "GENERAL_ATTACKS", idle)
    assert {row["result"] for row in attack_matrix(all_evidence)} == {"NOT stopped"}


def test_the_matrix_names_real_checks() -> None:
    named = {check for one in GENERAL_ATTACKS for check in one.checks} - {"unreadable"}
    assert named <= set(CHECKS)
    assert len({one.id for one in GENERAL_ATTACKS}) == len(GENERAL_ATTACKS) >= 44


# -- cases -------------------------------------------------------------------------------------------------------------

VERDICTS = {
    "H100 alone": "accepted",
    "H100, shipped manifests": "rejected",
    "H100, its manifests": "accepted",
    "H100, with OCSP": "accepted",
    "NVSwitch": "accepted",
    "H100 + TDX machine": "accepted",
    "TDX v4, 2025": "accepted",
    "the same, 2026": "rejected",
    "TDX v5": "accepted",
    "TDX, log, compose": "accepted",
    "SGX": "rejected",
}


def test_every_case_has_its_verdict(all_evidence: dict[str, bytes]) -> None:
    rows = verdicts(all_evidence)
    assert {row["case"]: row["verdict"] for row in rows} == VERDICTS
    assert [case.name for case in CASES] == list(VERDICTS)
    assert all(bool(row["against"]) == (row["verdict"] == "rejected") for row in rows)
    cells = matrix(all_evidence)
    assert {row["check"] for row in cells} <= set(CHECKS)
    refuted = {row["case"] for row in cells if row["status"] == "refuted"}
    assert refuted == {"H100, shipped manifests", "the same, 2026", "SGX"}


def test_cases_without_their_files_are_left_out(in_wheel: dict[str, bytes]) -> None:
    assert {row["case"] for row in matrix(in_wheel)} == {"H100 alone", "H100, shipped manifests"}


def test_the_calendar_accepts_only_inside_the_window(all_evidence: dict[str, bytes]) -> None:
    rows = calendar(all_evidence, months())
    limits = {row["case"]: row for row in windows(all_evidence)}
    for row in rows:
        if row["verdict"] == "accepted":
            assert limits[row["case"]]["from"] <= row["from"] <= row["to"] <= limits[row["case"]]["to"]
    spans_of = {name: [row for row in rows if row["case"] == name] for name in VERDICTS}
    h100 = [(row["verdict"], row["from"][:7], row["to"][:7], row["claim"]) for row in spans_of["H100, its manifests"]]
    assert h100 == [
        ("rejected", "2024-01", "2024-06", "gpu.0.rim.driver.validity"),
        ("accepted", "2024-07", "2026-02", ""),
        ("rejected", "2026-03", "2026-06", "gpu.0.rim.vbios.validity"),
        ("rejected", "2026-07", "2027-12", "gpu.0.rim.driver.validity"),
    ]
    assert [row["verdict"] for row in spans_of["H100 alone"]] == ["accepted"]
    assert "accepted" not in {row["verdict"] for row in spans_of["the same, 2026"]}


# -- bit flips ---------------------------------------------------------------------------------------------------------


def accepted_flips(raw: bytes, chain_pem: bytes, bits: range) -> list[int]:
    """Bits of ``bits`` whose flip leaves the report accepted by a policy that wants authenticity
    only."""
    chain, policy, cache = parse_chain(chain_pem), authentic_policy(), VerifiedCache(max_entries=16)
    accepted = []
    for bit in bits:
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            device = Device(parse_report(bytes(flipped)), chain)
        except EvidenceError:
            continue
        if appraise(Bundle(devices=(device,)), policy, IN_WINDOW, cache=cache).accepted:
            accepted.append(bit)
    return accepted


def test_no_flip_of_every_hundredth_bit_is_accepted(h100_report: bytes, h100_chain: bytes) -> None:
    assert accepted_flips(h100_report, h100_chain, range(0, 8 * len(h100_report), 100)) == []


@pytest.mark.slow
def test_none_of_32936_single_bit_flips_is_accepted(h100_report: bytes, h100_chain: bytes) -> None:
    bits = range(8 * len(h100_report))
    assert len(bits) == 32_936
    assert accepted_flips(h100_report, h100_chain, bits) == []


# -- window and time ---------------------------------------------------------------------------------------------------


def test_the_window_is_where_the_verdict_changes(h100: Bundle) -> None:
    found = window(h100, DEFAULT)
    assert found is not None
    assert found.as_json() == {
        "part": "from rim 550.90.07: HCC RIM L4 Signer to rim 96.00.9F.00.01: HCC RIM L4 Signer",
        "from": "2024-06-01T02:08:29Z",
        "to": "2026-02-22T23:17:58Z",
    }
    moments = [found.start - SECOND, found.start, found.end, found.end + SECOND]
    rows = verdict_over_time(h100, DEFAULT, moments)
    assert [row["verdict"] for row in rows] == ["rejected", "accepted", "accepted", "rejected"]
    assert [row["against"] for row in rows[::3]] == [["gpu.0.rim.driver.validity"], ["gpu.0.rim.vbios.validity"]]


def test_a_quotes_window_comes_from_its_collateral(outside: Callable[[str], bytes]) -> None:
    names = ("tdx_quote", "tdx_quote_collateral.json")
    quote, collateral = (outside(f"phala-dcap-qvl/{name}") for name in names)
    bundle = load_bundle(quote=quote, collateral=collateral)
    found = window(bundle, DEFAULT)
    assert found is not None
    moments = [found.start - SECOND, found.start, found.end, found.end + SECOND]
    policy = Policy.default().expecting("cpu")
    rows = verdict_over_time(bundle, policy, moments)
    assert [row["verdict"] for row in rows] == ["rejected", "accepted", "accepted", "rejected"]
    young = dataclasses.replace(policy, collateral_max_age_s=3600)
    shorter = window(bundle, young)
    assert shorter is None or shorter.end < found.end


def test_parts_that_never_overlap_have_no_window(h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]) -> None:
    bundle = load_bundle(**h100_files, ocsp=list(h100_ocsp.values()))
    assert window(bundle, dataclasses.replace(DEFAULT, ocsp_max_staleness_s=86_400)) is None
    assert window(bundle, DEFAULT) is not None
    assert len(list(spans(bundle, DEFAULT))) == 5 + 2 * 4 + 7


def test_nothing_dated_has_no_window(h100_report: bytes) -> None:
    assert window(load_bundle(gpu=[h100_report]), DEFAULT) is None


# -- sources -----------------------------------------------------------------------------------------------------------


def test_claims_of_unsigned_fields_are_the_operators(h100_report: bytes, h100_chain: bytes, tmp_path: Path) -> None:
    flipped = bytes([*h100_report[:-1], h100_report[-1] ^ 1])
    result = appraise(load_bundle(gpu=[flipped], gpu_certs=[h100_chain]), DEFAULT, IN_WINDOW)
    assert result.claim("gpu.0.signature").status is Status.REFUTED
    assert result.claim("gpu.0.fwid").source.value == "operator"
    good = appraise(load_bundle(gpu=[h100_report], gpu_certs=[h100_chain]), DEFAULT, IN_WINDOW)
    assert good.claim("gpu.0.fwid").source.value == "hardware"


# -- stored results ----------------------------------------------------------------------------------------------------


def test_stored_appraisals_are_what_the_code_computes(project: Any, all_evidence: dict[str, bytes]) -> None:
    card, stored = read_result(project.root / "data" / "results", "attestation_cases")
    assert card.kind == "recomputed"
    assert evidence_rows(all_evidence) == stored
