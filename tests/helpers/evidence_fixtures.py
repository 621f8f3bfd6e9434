"""Evidence that the attestation tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otr_core.attestation import Bundle, load_bundle

NV = "nv-local-gpu-verifier"


@pytest.fixture(scope="session")
def sample(wheel_file: Callable[[str, str], Path]) -> Callable[[str], bytes]:
    """``sample(name)``: bytes of a file under verifier/samples in NVIDIA's wheel."""
    return lambda name: wheel_file(NV, f"verifier/samples/{name}").read_bytes()


@pytest.fixture(scope="session")
def outside(outside_file: Callable[[str], Path]) -> Callable[[str], bytes]:
    """``outside(path)``: bytes of an outside file by its path below ``evidence/``; skips when
    absent."""
    return lambda path: outside_file(f"evidence/{path}").read_bytes()


@pytest.fixture(scope="session")
def h100_report(sample: Callable[[str], bytes]) -> bytes:
    """The real H100 report, raw."""
    return bytes.fromhex(sample("hopperAttestationReport.txt").decode())


@pytest.fixture(scope="session")
def h100_chain(sample: Callable[[str], bytes]) -> bytes:
    """Its certificate chain, PEM."""
    return sample("hopperCertChain.txt")


@pytest.fixture(scope="session")
def wheel_rims(sample: Callable[[str], bytes]) -> list[bytes]:
    """The driver and VBIOS manifests NVIDIA ships beside the report; they are for other
    versions."""
    return [sample("Driver_RIM_test_no_gpu.swidtag"), sample("1010_0200_882_96005E0001_test_no_gpu.swidtag")]


@pytest.fixture(scope="session")
def matching_rims(outside: Callable[[str], bytes]) -> list[bytes]:
    """The manifests for the versions the report's GPU runs."""
    names = ("NV_GPU_DRIVER_GH100_550.90.07.xml", "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml")
    return [outside(f"google-go-nvattest-tools/rim/{name}") for name in names]


@pytest.fixture(scope="session")
def h100_files(h100_report: bytes, h100_chain: bytes, matching_rims: list[bytes]) -> dict[str, Any]:
    """Arguments of ``load_bundle`` for the complete H100 bundle, without OCSP."""
    return {"gpu": [h100_report], "gpu_certs": [h100_chain], "rims": matching_rims}


@pytest.fixture(scope="session")
def h100(h100_files: dict[str, Any]) -> Bundle:
    """The complete H100 bundle, read."""
    return load_bundle(**h100_files)


@pytest.fixture(scope="session")
def h100_ocsp(outside: Callable[[str], bytes]) -> dict[str, bytes]:
    """Seven stapled OCSP responses for that bundle, by short name."""
    names = {
        "gpu_l2": "test_gpu_certificate_l2",
        "gpu_l3": "test_gpu_certificate_l3",
        "gpu_l4": "test_gpu_certificate_l4",
        "driver_l3": "test_gpu_driver_rim_l3",
        "driver_l4": "test_gpu_driver_rim_l4",
        "rim_l2": "test_gpu_rim_l2",
        "vbios_l4": "test_gpu_vbios_l4",
    }
    folder = "google-go-nvattest-tools/ocsp"
    return {key: outside(f"{folder}/{name}_base64encoded_ocsp_response.dat") for key, name in names.items()}
