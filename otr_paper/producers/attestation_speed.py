"""Speed of attestation: data/results/attestation_bench.json, with ``--store``.

All times are CPU times of one process, medians. ``--nvidia`` names the interpreter of an
environment of its own in which nv-local-gpu-verifier 2.7.3 is installed; its network steps are
stubbed and its clock set, nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dcap_qvl

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache, fingerprint
from otr_core.errors import MissingDataError
from otr_node import outside
from otr_paper.producers import frame

GPU_TIME = datetime(2025, 1, 15, tzinfo=UTC)
TDX_TIME = datetime(2025, 6, 20, tzinfo=UTC)
GO = "go-nvattest-tools"
FILES = {
    "report": (GO, "test_raw_gpu_attestation_report.dat"),
    "chain": (GO, "test_gpu_attestation_certificate_chain.dat"),
    "driver": (GO, "rim/NV_GPU_DRIVER_GH100_550.90.07.xml"),
    "vbios": (GO, "rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
    "quote": ("dcap-qvl", "tdx_quote"),
    "collateral": ("dcap-qvl", "tdx_quote_collateral.json"),
}
# Runs inside NVIDIA's environment: their own functions, with the revocation step answered "good".
NVIDIA_DRIVER = Path(__file__).with_name("nvidia_verifier.py")
STREAM = 1000


def _speed(files: dict[str, Path], runs: int) -> dict[str, Any]:
    """All figures of this project's own code."""
    raw = {name: path.read_bytes() for name, path in files.items()}
    policy, of_quote = Policy.default().expecting("gpu"), Policy.default().expecting("cpu")
    gpu: dict[str, Any] = {
        "gpu": [raw["report"]],
        "gpu_certs": [raw["chain"]],
        "rims": [raw["driver"], raw["vbios"]],
    }
    cpu: dict[str, Any] = {"quote": raw["quote"], "collateral": raw["collateral"]}
    warm, bundle, quote_bundle = VerifiedCache(), load_bundle(**gpu), load_bundle(**cpu)
    parsed = dcap_qvl.QuoteCollateralV3.from_json(raw["collateral"].decode())
    seconds = int(TDX_TIME.timestamp())
    leaf = fingerprint(bundle.devices[0].chain[0])
    appraise(load_bundle(**gpu, cache=warm), policy, GPU_TIME, cache=warm)
    remembered = {
        key: value
        for key, value in warm._entries.items()
        if isinstance(key, tuple) and key[0] != "report" and leaf not in key
    }

    def cold() -> None:
        assert appraise(load_bundle(**gpu), policy, GPU_TIME).accepted

    def cached() -> None:
        """A new report each time: all that is remembered is the manifests and the issuers'
        certificates."""
        cache = VerifiedCache()
        cache._entries.update(remembered)
        assert appraise(load_bundle(**gpu, cache=cache), policy, GPU_TIME, cache=cache).accepted

    calls = {
        "gpu_cold_ms": cold,
        "gpu_cached_ms": cached,
        "gpu_appraise_only_cached_ms": lambda: appraise(bundle, policy, GPU_TIME, cache=warm),
        "tdx_ms": lambda: appraise(quote_bundle, of_quote, TDX_TIME),
        "tdx_with_loading_ms": lambda: appraise(load_bundle(**cpu), of_quote, TDX_TIME),
        "dcap_qvl_ms": lambda: dcap_qvl.verify(raw["quote"], parsed, seconds),
    }
    found = {name: frame.median_cpu_ms(runs, call, warm_up=1) for name, call in calls.items()}
    return found | {"tdx_over_dcap_qvl": found["tdx_ms"] / found["dcap_qvl_ms"]} | _stream(gpu, policy)


def _stream(gpu: dict[str, Any], policy: Policy) -> dict[str, float]:
    """Memory while 1,000 bundles pass through one cache: peak after the first 100 and at the end,
    in MiB."""
    cache, peaks = VerifiedCache(max_entries=64), []

    def appraise_all() -> None:
        for number in range(STREAM):
            changed = bytearray(gpu["gpu"][0])
            # another nonce, so nothing about the report can be remembered
            changed[4:8] = number.to_bytes(4, "big")
            bundle = load_bundle(**{**gpu, "gpu": [bytes(changed)]}, cache=cache)
            appraise(bundle, policy, GPU_TIME, cache=cache).to_json()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    _, spent = frame.timed(appraise_all)
    return {
        "stream_bundles": STREAM,
        "stream_peak_after_100_mib": peaks[99],
        "stream_peak_at_end_mib": peaks[-1],
        "stream_ms_per_bundle": 1000 * spent / STREAM,
    }


def _nvidia(python: str, files: dict[str, Path], runs: int) -> dict[str, float]:
    """The same report through NVIDIA's verifier, in its own environment."""
    named = [str(files[name].resolve()) for name in ("report", "chain", "driver", "vbios")]
    command = [python, str(NVIDIA_DRIVER), str(runs), *named]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"nv-local-gpu-verifier did not run: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=101)
    parser.add_argument("--nvidia", default="", metavar="PYTHON")
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args()
    project, mirror = frame.checkout(), outside.mirror_folder()
    try:
        files = {name: outside.get(project, *where, mirror=mirror) for name, where in FILES.items()}
    except MissingDataError as error:
        frame.progress(f"skipped, the stored times stay: {error}")
        return
    found = _speed(files, given.runs)
    if given.nvidia:
        found |= _nvidia(given.nvidia, files, given.runs)
        for ours in ("gpu_cold", "gpu_cached"):
            found[f"nvidia_over_{ours}"] = found["nvidia_ms"] / found[f"{ours}_ms"]
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
    print(json.dumps(rounded, indent=1))
    if given.store:
        words = ("--nvidia PYTHON " if given.nvidia else "") + "--store"
        frame.store("attestation_bench", rounded, seed=None, packages=frame.ATTESTATION_LIBRARIES, given=words)


if __name__ == "__main__":
    main()
