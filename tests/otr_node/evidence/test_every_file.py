"""Every file of the shared evidence: what stands in it, and whether the vendors' signatures on it hold.

The folder is walked, not listed, so that a file added later is noticed as not yet judged. Each verdict
stands here beside two readings that must both give it: this project's, and one that shares no code
with it (``tests/helpers/second_readings.py``). What a signature of Intel's on collateral is worth,
dcap-qvl says (``test_intake.py``, ``tests/otr_core/attestation/test_quote.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.bundle import DeviceFiles
from otr_core.attestation.chain import NVIDIA_RIM_ROOT_SHA256, VerifiedCache
from otr_core.attestation.claims import Status
from otr_core.attestation.snp import SnpCertificates, SnpReport
from otr_core.errors import EvidenceError
from otr_node import outside
from otr_node.evidence.pieces import Found, PieceReader
from otr_node.evidence.tokens import read_token
from tests.helpers import second_readings

NOTHING = ""
NV, SDK, GO = "nvidia-nvtrust", "nvidia-attestation-sdk", "google-go-nvattest-tools"
FIELD, NANO = "field-captures/*/????_", "field-captures/nanogpt_20260325_225022/"
#: Pattern -> what stands in the file. A word before a kind is a verdict other than that signatures hold:
#: *forged*; *bare*, that nobody is there to vouch for it; *broken*, that it is refused as unreadable.
ROWS = {
    "SOURCES.md": NOTHING,
    "*/LICENSE*": NOTHING,
    "*.xsd": NOTHING,
    "dstack/*.README.md": NOTHING,
    "near-mpc/README.md": NOTHING,
    # What vendors say of platforms, and their certificates.
    "coco-trustee/enclaveIdentity.json": "1 qe_identity",
    "coco-trustee/tcbInfo.json": "1 tcb_info",
    "coco-trustee/nvidia/hopper_c*_c*": "1 certificates",
    "coco-trustee/snp/*.der": "1 AMD certificates",
    "google-go-sev-guest/*.pem": "1 AMD certificates",
    "google-go-sev-guest/vcek.testcer": "1 AMD certificates",
    "google-go-tdx-guest/pckcrl": "1 crl",
    "google-go-tdx-guest/rootcrl.der": "1 crl",
    "google-go-tdx-guest/sample_qeIdentity_response": "1 qe_identity",
    "google-go-tdx-guest/sample_tcb?nfo_response*": "1 tcb_info",
    f"{GO}/test_*_attestation_certificate_chain.dat": "1 certificates",
    f"{NV}/samples/hopperCertChain.txt": "1 certificates",
    f"{NV}/verifier_*_root.pem": "1 certificates",
    f"{SDK}/rims/*.crt": "1 certificates",
    "near-mpc/collateral.json": "1 collateral",
    "phala-dcap-qvl/*_collateral.json": "1 collateral",
    f"{FIELD}*_tdx_certification_v4_tcb.body": "1 tcb_info",
    f"{FIELD}*_tdx_certification_v4_qe_identity.body": "1 qe_identity",
    f"{FIELD}*_pckcrl.body": "1 crl",
    f"{FIELD}*_intelsgxrootca.der.body": "1 crl",
    f"{FIELD}*_tdx_certification_v4_*.json": "1 certificates",
    f"{FIELD}*_pckcrl.json": "1 certificates",
    f"{FIELD}*_intelsgxrootca.der.json": NOTHING,
    f"{GO}/ocsp/*.dat": "1 OCSP response",
    # Manifests: published ones, and those that their collectors broke.
    f"{NV}/samples/*.swidtag": "1 reference manifest",
    f"{GO}/rim/NV_*.xml": "1 reference manifest",
    f"{GO}/rim/success_valid_rim.xml": "1 reference manifest",
    f"{GO}/rim/failure_*.xml": NOTHING,
    f"{SDK}/rims/NV_GPU_DRIVER_GH100_550.144.03.xml": "1 reference manifest",
    f"{SDK}/rims/switchVBIOSRim_*.xml": "1 reference manifest",
    f"{SDK}/rims/*_measurement_mismatch.xml": "1 forged reference manifest",
    f"{SDK}/rims/*_invalid_signature.xml": "1 forged reference manifest",
    f"{SDK}/rims/incorrect_cert_chain_driver_rim.xml": "1 forged reference manifest",
    # NVIDIA devices.
    "coco-trustee/nvidia/hopper_coco_report1.txt": "1 broken gpu",
    f"{GO}/test_raw_*_attestation_report.dat": "1 bare gpu",
    f"{NV}/samples/hopperAttestationReport.txt": "1 bare gpu",
    f"{SDK}/evidence/*.json": "1 device",
    "hgx/blackwell_two_of_mpt.json": "2 device",
    "hgx/test_ppcie_data.json": "12 device",
    "secretvm-verify/gpu_attest.txt": "1 device",
    # Quotes and reports of CPU TEEs, alone or with what their guests send along.
    "coco-trustee/tdx_quote_?.dat": "1 quote",
    "coco-trustee/snp/test-*report.bin": "1 bare quote",
    "google-go-sev-guest/attestation.bin": "1 bare quote",
    "secretvm-verify/amd_*quote.txt": "1 bare quote",
    "google-go-tdx-guest/*quote*.dat": "1 quote",
    "phala-dcap-qvl/*quote": "1 quote",
    "phala-dcap-qvl/tdx-quote.hex": "1 quote",
    "phala-dcap-qvl/near_gas_test_quote_hex.txt": "1 quote",
    "phala-dcap-qvl/quote-from-tappd.hex": "1 quote",
    "secretvm-verify/cpu_quote.txt": "1 quote",
    "secretvm-verify/secretai_cpu_quote.txt": "1 quote",
    "near-mpc/quote.json": "1 quote",
    "dstack/tdx-lite-attestation.json": "1 quote",
    "dstack/*getquote.json": "1 quote, 1 event log",
    "dstack/sev-snp-attestation.json": "1 bare quote, 2 AMD certificates, 1 configuration",
    "near-vllm-proxy/dstack_quote.json": "1 quote, 1 event log",
    "near-vllm-proxy/dstack_info.json": "1 certificates, 1 compose, 1 event log",
    "near-mpc/public_data.json": "1 collateral, 1 compose, 1 event log, 1 quote",
    "near-mpc/tcb_info.json": "1 compose, 1 event log",
    "near-mpc/app_compose.json": "1 compose",
    "google-go-tdx-guest/ccel_data.dat": "1 event log",
    "google-go-tdx-guest/ccel_table.dat": NOTHING,
    "google-go-tdx-guest/nonce.dat": NOTHING,
    "secretvm-verify/*_compose.yaml": NOTHING,
    # What others say: tokens whose keys were recorded, and tokens of other times.
    "near-vllm-proxy/nras_response_1gpu.json": "2 forged token",
    "near-vllm-proxy/nras_response_8gpu_ppcie.json": "9 forged token",
    f"{SDK}/eat/*_detached_eat.json": "2 forged token",
    f"{SDK}/eat/*_decoded.json": NOTHING,
    f"{SDK}/eat/*spdm*.json": NOTHING,
    "dstack/gpu_attestation_h100.json": NOTHING,
    "field-captures/nanogpt_tee_*_nras.attestation.nvidia.com_v3_attest_gpu.body": "2 token",
    "field-captures/nanogpt_tee_*_nras.attestation.nvidia.com_v3_attest_gpu.json": "1 device",
    "field-captures/tinfoil_*_nras.attestation.nvidia.com_v3_attest_gpu.body": "2 token",
    "field-captures/tinfoil_*_nras.attestation.nvidia.com_v3_attest_gpu.json": "1 device",
    "field-captures/[!nt]*_nras.attestation.nvidia.com_v3_attest_gpu.body": "9 token",
    "field-captures/near*_nras.attestation.nvidia.com_v3_attest_gpu.body": "9 token",
    "field-captures/[!nt]*_nras.attestation.nvidia.com_v3_attest_gpu.json": "8 device",
    "field-captures/near*_nras.attestation.nvidia.com_v3_attest_gpu.json": "8 device",
    f"{FIELD}*_jwks.json.body": "1 keys",
    f"{FIELD}*_jwks.json.json": NOTHING,
    # Whole responses of providers, and what a client noted beside them.
    "field-captures/*/manifest.json": NOTHING,
    "field-captures/*/0001_*.json": NOTHING,
    "field-captures/chutes_*/0001_*.body": NOTHING,
    "field-captures/chutes_*/0002_*.json": NOTHING,
    "field-captures/chutes_*_20260520_*/0002_*.body": "4 certificates, 32 device, 4 quote",
    "field-captures/chutes_*_20260610_*/0002_*.body": "7 certificates, 56 device, 7 quote",
    "field-captures/tinfoil_*/0001_*.body": NOTHING,
    "field-captures/tinfoil_*/0002_*.json": NOTHING,
    "field-captures/tinfoil_*/0002_*.body": "1 certificates, 1 device, 1 quote",
    "field-captures/venice_*/0001_*.body": "1 certificates, 1 compose, 8 device, 3 event log, 2 quote",
    "field-captures/nearcloud_*/0001_*.body": "3 certificates, 2 compose, 8 device, 5 event log, 3 quote",
    "field-captures/neardirect_*/0001_*.body": "2 certificates, 2 compose, 16 device, 5 event log, 3 quote",
    "field-captures/phalacloud_*/0001_*.body": "40 device, 5 quote",
    f"{NANO}*_nonce.txt": NOTHING,
    f"{NANO}deepseek-v3.2_attestation.json": "40 device, 5 quote",
    f"{NANO}kimi-k2.5_attestation.json": "40 device, 5 quote",
    f"{NANO}llama3-3-70b_attestation.json": "1 quote",
    f"{NANO}qwen3-30b-*_attestation.json": "2 certificates, 2 compose, 8 device, 4 event log, 2 quote",
    f"{NANO}qwen[23].5-*_attestation.json": "2 certificates, 2 compose, 2 device, 4 event log, 4 quote",
    f"{NANO}g[ep]*_attestation.json": "2 certificates, 2 compose, 2 device, 4 event log, 4 quote",
    f"{NANO}glm-4.7-flash_attestation.json": "2 certificates, 2 compose, 2 device, 4 event log, 4 quote",
    "field-captures/nanogpt_tee_*/0001_*.body": "2 certificates, 2 compose, 2 device, 4 event log, 4 quote",
    f"{NANO}glm-[!4]*_attestation.json": "4 certificates, 4 compose, 24 device, 8 event log, 4 quote",
    f"{NANO}glm-4.7_attestation.json": "4 certificates, 4 compose, 24 device, 8 event log, 4 quote",
}
_COCO, _SEV = "coco-trustee/snp/test", "google-go-sev-guest"
#: What signed these stands in other files: with those beside them, they hold, but for ``MISMATCHED``.
BESIDE = {
    f"{GO}/test_raw_gpu_attestation_report.dat": (f"{GO}/test_gpu_attestation_certificate_chain.dat",),
    f"{GO}/test_raw_switch_attestation_report.dat": (f"{GO}/test_switch_attestation_certificate_chain.dat",),
    f"{NV}/samples/hopperAttestationReport.txt": (f"{NV}/samples/hopperCertChain.txt",),
    f"{_COCO}-report.bin": (f"{_COCO}-vcek.der", f"{_SEV}/ask_ark_milan.pem"),
    f"{_COCO}-vlek-report.bin": (f"{_COCO}-vlek.der", f"{_SEV}/ask_ark_milan_vlek.pem"),
    f"{_SEV}/attestation.bin": (f"{_SEV}/vcek.testcer", f"{_SEV}/ask_ark_milan.pem"),
    "dstack/sev-snp-attestation.json": ("dstack/sev-snp-attestation.json", f"{_SEV}/ask_ark_milan.pem"),
}
#: Recorded together, but of two switches: both readings refuse the pair.
MISMATCHED = f"{GO}/test_raw_switch_attestation_report.dat"
NOW = datetime(2024, 8, 14, tzinfo=UTC)


@pytest.fixture(scope="module")
def root() -> Path:
    mirror = outside.mirror_folder()
    if mirror is None or not (mirror / "evidence").is_dir():
        pytest.skip("no mirror of the shared evidence")
    return mirror / "evidence"


@pytest.fixture(scope="module")
def files(root: Path) -> dict[str, list[Found]]:
    return {
        str(path.relative_to(root)): list(trees(PieceReader([]).file("f", path.read_bytes())))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def trees(found: Found) -> Iterator[Found]:
    yield found
    for node in found.nodes:
        yield from trees(node)


def of_all(files: dict[str, list[Found]], kind: str) -> list[Any]:
    return [one for found in files.values() for tree in found for one in tree.of(kind)]


class Readings:
    """Both readings of a piece: whether the vendors' signatures hold, None where nobody is there to say it."""

    def __init__(self, root: Path, files: dict[str, list[Found]]) -> None:
        self.device_root = (root / NV / "verifier_device_root.pem").read_bytes()
        self.rim_root = (root / NV / "verifier_RIM_root.pem").read_bytes()
        self.keys = [key for one in of_all(files, "keys") for key in one.parsed]
        self.cache = VerifiedCache()

    def device(self, report: bytes, pem: bytes) -> bool | None:
        bundle = load_bundle(gpu=[DeviceFiles(report, pem)], cache=self.cache)
        result = appraise(bundle, Policy.default(), NOW, cache=self.cache)
        subject = result.devices[0].subject
        found = [result.claim(f"{subject}.{name}").status for name in ("signature", "chain.links", "chain.root")]
        return self.agreed(set(found) == {Status.ASSERTED}, second_readings.report(report, pem, self.device_root))

    def piece(self, one: Any, tree: Found) -> bool | None:
        if one.kind == "reference manifest":
            rim = one.parsed
            problem = rim.signature_problem(self.cache) or rim.chain_problem(NVIDIA_RIM_ROOT_SHA256, self.cache)
            return self.agreed(problem is None, second_readings.manifest(one.data, self.rim_root))
        if one.kind == "token":
            ours = read_token(one.data.decode(), self.keys, NOW).problem
            verified = ours in (None, "it is from the future")
            return self.agreed(verified, second_readings.token(one.data.decode(), self.keys))
        if one.kind == "quote" and not isinstance(one.parsed, SnpReport):
            alone = appraise(load_bundle(quote=one.data), Policy.default().expecting("cpu"), NOW)
            assert alone.claim("cpu.quote").status is Status.UNKNOWN  # until Intel's word stands beside it
            return second_readings.intel_quote(one.parsed.raw)
        if one.kind == "quote":
            certificates = [each.data for each in tree.of("AMD certificates")]
            return self.amd(one.data, certificates) if len(certificates) > 2 else None  # a root of AMD's is missing
        return None if one.kind == "gpu" else True

    def amd(self, report: bytes, certificates: list[bytes]) -> bool | None:
        bundle = load_bundle(quote=report, collateral=b"\n".join(certificates))
        assert isinstance(bundle.collateral, SnpCertificates)
        young = bundle.collateral.leaf.start + timedelta(days=1)
        ours = appraise(bundle, Policy.default().expecting("cpu"), young).claim("cpu.quote")
        return self.agreed(ours.status is Status.ASSERTED, second_readings.amd_report(report, b"\n".join(certificates)))

    @staticmethod
    def agreed(ours: bool, theirs: bool) -> bool:
        assert ours == theirs
        return ours


@pytest.fixture(scope="module")
def readings(root: Path, files: dict[str, list[Found]]) -> Readings:
    return Readings(root, files)


def found_in(trees: list[Found], readings: Readings) -> dict[str, int]:
    words, counted = {True: "", False: "forged ", None: "bare "}, Counter[str]()
    for tree in trees:
        for report, pem, _ in tree.devices:
            assert pem is not None
            counted[f"{words[readings.device(report.data, pem)]}device"] += 1
        for one in tree.pieces:
            try:
                if one.kind == "gpu":
                    load_bundle(gpu=[one.data])
                counted[f"{words[readings.piece(one, tree)]}{one.kind}"] += 1
            except EvidenceError:
                counted[f"broken {one.kind}"] += 1
    return dict(counted)


def test_every_file_there_is_judged_and_no_row_is_idle(files: dict[str, list[Found]], readings: Readings) -> None:
    idle = set(ROWS)
    for name, found in files.items():
        rows = [row for row in ROWS if fnmatchcase(name, row)]
        assert len(rows) == 1, f"{name}: found in {len(rows)} rows, expected its verdict in one"
        idle -= set(rows)
        pairs = (part.split(" ", 1) for part in ROWS[rows[0]].split(", ") if part)
        assert found_in(found, readings) == {kind: int(count) for count, kind in pairs}, name
    assert not idle
    assert len(files) >= 371


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_bare_holds_with_its_signers_beside_it(
    files: dict[str, list[Found]], readings: Readings, name: str
) -> None:
    (tree,) = files[name]
    (one,) = tree.of("gpu", "quote")
    beside = [each.data for other in BESIDE[name] for each in files[other][0].pieces if "certificates" in each.kind]
    holds = readings.device(one.data, beside[0]) if one.kind == "gpu" else readings.amd(one.data, beside)
    assert holds == (name != MISMATCHED)
    changed = one.data[:60] + bytes([one.data[60] ^ 1]) + one.data[61:]
    if one.kind == "gpu":
        raw = changed if changed[:2] == b"\x11\xe0" else bytes.fromhex(changed.decode())
        assert not readings.device(raw, beside[0])
    else:
        assert not readings.amd(changed, beside)
