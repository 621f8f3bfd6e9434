"""Recorded public evidence by short names, for the attack lab, the cases and notebook 01.

Files are named by source and path in ``data/sources.toml``; this module only knows where they are,
not how to get them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecordedFile:
    """One recorded file.

    Attributes:
        source, file: id and path in ``data/sources.toml``.
        what: what it is.
    """

    source: str
    file: str
    what: str


_WHEEL, _GO, _SDK = "nv-local-gpu-verifier", "go-nvattest-tools", "nvidia-attestation-sdk"
_OCSP = "_base64encoded_ocsp_response.dat"

# The first four are in NVIDIA's wheel and always available.
EVIDENCE: dict[str, RecordedFile] = {
    "report": RecordedFile(_WHEEL, "verifier/samples/hopperAttestationReport.txt", "H100 report, hex"),
    "chain": RecordedFile(_WHEEL, "verifier/samples/hopperCertChain.txt", "its certificate chain"),
    "shipped_driver": RecordedFile(_WHEEL, "verifier/samples/Driver_RIM_test_no_gpu.swidtag", "driver manifest 545.00"),
    "shipped_vbios": RecordedFile(
        _WHEEL, "verifier/samples/1010_0200_882_96005E0001_test_no_gpu.swidtag", "VBIOS manifest 96.00.5E.00.01"
    ),
    "rim_driver": RecordedFile(_GO, "rim/NV_GPU_DRIVER_GH100_550.90.07.xml", "driver manifest of the report's version"),
    "rim_vbios": RecordedFile(_GO, "rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml", "VBIOS manifest of the same"),
    "ocsp_l2": RecordedFile(_GO, f"ocsp/test_gpu_certificate_l2{_OCSP}", "OCSP on device certificate 3, 2025-08-21"),
    "ocsp_l3": RecordedFile(_GO, f"ocsp/test_gpu_certificate_l3{_OCSP}", "OCSP on device certificate 2"),
    "ocsp_l4": RecordedFile(_GO, f"ocsp/test_gpu_certificate_l4{_OCSP}", "OCSP on device certificate 1"),
    "ocsp_rim_l2": RecordedFile(_GO, f"ocsp/test_gpu_rim_l2{_OCSP}", "OCSP on the manifests' CA, 2025-10-24"),
    "ocsp_rim_l3": RecordedFile(_GO, f"ocsp/test_gpu_driver_rim_l3{_OCSP}", "OCSP on the manifests' L3"),
    "ocsp_driver": RecordedFile(_GO, f"ocsp/test_gpu_driver_rim_l4{_OCSP}", "OCSP on the driver manifest's signer"),
    "ocsp_vbios": RecordedFile(_GO, f"ocsp/test_gpu_vbios_l4{_OCSP}", "OCSP on the VBIOS manifest's signer"),
    "switch": RecordedFile(_SDK, "evidence/switch_evidence_ls10.json", "NVSwitch evidence (vendor JSON)"),
    "switch_rim": RecordedFile(
        _SDK, "rims/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml", "manifest of that NVSwitch"
    ),
    "machine_gpu": RecordedFile("secretvm-verify", "gpu_attest.txt", "H100 evidence of a production machine"),
    "machine_quote": RecordedFile("secretvm-verify", "cpu_quote.txt", "its TDX quote"),
    "machine_rim": RecordedFile(_SDK, "rims/NV_GPU_DRIVER_GH100_550.144.03.xml", "driver manifest of its version"),
    "machine_collateral": RecordedFile("near-mpc", "collateral.json", "collateral for its family, 2026-08-13"),
    "other_quote": RecordedFile("near-mpc", "quote.json", "TDX quote of another machine of that family"),
    "old_quote": RecordedFile("dcap-qvl", "tdx_quote", "TDX quote, up to date in 2025 and out of date in 2026"),
    "old_collateral": RecordedFile("dcap-qvl", "tdx_quote_collateral.json", "its collateral, 2025-06-19"),
    "sgx_quote": RecordedFile("dcap-qvl", "sgx_quote", "SGX quote with open advisories"),
    "sgx_collateral": RecordedFile("dcap-qvl", "sgx_quote_collateral.json", "its collateral, 2025-06-19"),
    "v5_quote": RecordedFile("go-tdx-guest", "quote_v5_sample.dat", "TDX quote, version 5"),
    "v5_collateral": RecordedFile("dcap-qvl", "tdx_quote_outdated_collateral.json", "its collateral, 2026-02-18"),
    "dstack_quote": RecordedFile("near-vllm-proxy", "dstack_quote.json", "TDX quote and event log of a dstack guest"),
    "dstack_collateral": RecordedFile("dcap-qvl", "near_gas_test_quote_collateral.json", "its collateral, 2025-09-02"),
    "dstack_info": RecordedFile("near-vllm-proxy", "dstack_info.json", "the guest's information and compose file"),
    "hgx": RecordedFile("hgx", "test_ppcie_data.json", "an HGX machine: 8 H100 and 4 NVSwitches"),
    "blackwell": RecordedFile("hgx", "blackwell_two_of_mpt.json", "two Blackwell GPUs of one machine"),
    "snp_report": RecordedFile("trustee", "snp/test-report.bin", "SEV-SNP report of a Milan chip"),
    "snp_vcek": RecordedFile("trustee", "snp/test-vcek.der", "its chip's key certificate"),
    "snp_vlek_report": RecordedFile("trustee", "snp/test-vlek-report.bin", "SEV-SNP report under a cloud's key"),
    "snp_vlek": RecordedFile("trustee", "snp/test-vlek.der", "that key's certificate"),
    "snp_dstack": RecordedFile("dstack", "sev-snp-attestation.json", "SEV-SNP attestation of a dstack guest"),
    "amd_milan": RecordedFile("go-sev-guest", "ask_ark_milan.pem", "AMD's issuer and root of Milan chips"),
    "amd_milan_vlek": RecordedFile("go-sev-guest", "ask_ark_milan_vlek.pem", "AMD's issuer of clouds' keys, and root"),
}
IN_WHEEL = ("report", "chain", "shipped_driver", "shipped_vbios")
