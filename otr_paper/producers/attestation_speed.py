"""Speed of attestation: ``python -m otr_paper.producers.attestation_speed [--nvidia PYTHON] [--store]``.

All times are CPU times of one process, medians. ``--nvidia`` names the interpreter of an environment of its own in
which nv-local-gpu-verifier 2.7.3 is installed; its network steps are stubbed and its clock set, nothing else.
``--store`` writes data/results/attestation_bench.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dcap_qvl

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.errors import MissingDataError
from otr_node import outside
from otr_node.project import Project, find_project
from otr_paper.store import results

GPU_TIME = datetime.datetime(2025, 1, 15, tzinfo=datetime.UTC)
TDX_TIME = datetime.datetime(2025, 6, 20, tzinfo=datetime.UTC)
GO = "go-nvattest-tools"
RIMS = ("rim/NV_GPU_DRIVER_GH100_550.90.07.xml", "rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml")
# Runs inside NVIDIA's environment: their own functions, with the revocation step answered "good".
NVIDIA_DRIVER = Path(__file__).with_name("nvidia_verifier.py")


def median_ms(call: Callable[[], Any], runs: int) -> float:
    """Median CPU time of ``call`` in milliseconds, after one call that is not counted."""
    call()
    times = []
    for _ in range(runs):
        start = time.process_time_ns()
        call()
        times.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(times)


def files_of(project: Project) -> dict[str, Any]:
    mirror = outside.mirror_folder()
    names = {
        "report": (GO, "test_raw_gpu_attestation_report.dat"),
        "chain": (GO, "test_gpu_attestation_certificate_chain.dat"),
        "driver": (GO, RIMS[0]),
        "vbios": (GO, RIMS[1]),
        "quote": ("dcap-qvl", "tdx_quote"),
        "collateral": ("dcap-qvl", "tdx_quote_collateral.json"),
    }
    return {key: outside.get(project, *where, mirror=mirror) for key, where in names.items()}


def measure_speed(files: dict[str, Path], runs: int) -> dict[str, Any]:
    """All figures of this project's own code."""
    raw = {name: path.read_bytes() for name, path in files.items()}
    policy = Policy.default()
    gpu = {"gpu": [raw["report"]], "gpu_certs": [raw["chain"]], "rims": [raw["driver"], raw["vbios"]]}
    cpu = {"quote": raw["quote"], "collateral": raw["collateral"]}
    warm, bundle, quote_bundle = VerifiedCache(), load_bundle(**gpu), load_bundle(**cpu)
    parsed = dcap_qvl.QuoteCollateralV3.from_json(raw["collateral"].decode())
    seconds = int(TDX_TIME.timestamp())

    def cold() -> None:
        assert appraise(load_bundle(**gpu), policy, GPU_TIME).accepted

    def cached() -> None:
        """A new report each time: all that is remembered is the manifests and the issuers' certificates."""
        cache = VerifiedCache()
        cache._entries.update({key: value for key, value in warm._entries.items() if _stays(key)})
        assert appraise(load_bundle(**gpu, cache=cache), policy, GPU_TIME, cache=cache).accepted

    def _stays(key: tuple[str, ...]) -> bool:
        from otr_core.attestation.chain import fingerprint

        leaf = fingerprint(bundle.devices[0].chain[0])
        return key[0] != "report" and leaf not in key

    appraise(load_bundle(**gpu, cache=warm), policy, GPU_TIME, cache=warm)
    result: dict[str, Any] = {
        "gpu_cold_ms": median_ms(cold, runs),
        "gpu_cached_ms": median_ms(cached, runs),
        "gpu_appraise_only_cached_ms": median_ms(lambda: appraise(bundle, policy, GPU_TIME, cache=warm), runs),
        "tdx_ms": median_ms(lambda: appraise(quote_bundle, policy, TDX_TIME), runs),
        "tdx_with_loading_ms": median_ms(lambda: appraise(load_bundle(**cpu), policy, TDX_TIME), runs),
        "dcap_qvl_ms": median_ms(lambda: dcap_qvl.verify(raw["quote"], parsed, seconds), runs),
    }
    result["tdx_over_dcap_qvl"] = result["tdx_ms"] / result["dcap_qvl_ms"]
    result.update(cpu_stream(gpu, policy))
    return result


def cpu_stream(gpu: dict[str, Any], policy: Policy, bundles: int = 1000) -> dict[str, Any]:
    """Memory while 1,000 bundles pass through one cache: peak after the first 100 and at the end, in MiB."""
    cache, peaks = VerifiedCache(max_entries=64), {}
    start = time.process_time()
    for number in range(bundles):
        changed = bytearray(gpu["gpu"][0])
        changed[4:8] = number.to_bytes(4, "big")  # another nonce, so nothing about the report can be remembered
        appraise(load_bundle(**{**gpu, "gpu": [bytes(changed)]}, cache=cache), policy, GPU_TIME, cache=cache).to_json()
        peaks[number] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = time.process_time() - start
    return {
        "stream_bundles": bundles,
        "stream_peak_after_100_mib": peaks[99],
        "stream_peak_at_end_mib": peaks[bundles - 1],
        "stream_ms_per_bundle": 1000 * spent / bundles,
    }


def nvidia(python: str, files: dict[str, Path], runs: int) -> dict[str, Any]:
    """The same report through NVIDIA's verifier, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            python,
            str(NVIDIA_DRIVER),
            str(runs),
            *(str(files[name].resolve()) for name in ("report", "chain", "driver", "vbios")),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    if done.returncode:
        raise SystemExit(f"nv-local-gpu-verifier did not run: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=101)
    parser.add_argument("--nvidia", default="")
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args()
    project = find_project(Path(__file__))
    try:
        files = files_of(project)
    except MissingDataError as error:
        print(f"skipped, the stored times stay: {error}")
        return
    found = measure_speed(files, given.runs)
    if given.nvidia:
        found.update(nvidia(given.nvidia, files, given.runs))
        found["nvidia_over_gpu_cold"] = found["nvidia_ms"] / found["gpu_cold_ms"]
        found["nvidia_over_gpu_cached"] = found["nvidia_ms"] / found["gpu_cached_ms"]
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
    print(json.dumps(rounded, indent=1))
    if given.store:
        card = results.Card(
            command="python -m otr_paper.producers.attestation_speed"
            + (" --nvidia PYTHON" if given.nvidia else "")
            + " --store",
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            machine=results.this_machine(os.cpu_count() or 1),
            versions=results.versions(("cryptography", "signxml", "lxml", "dcap-qvl")),
            seed=None,
            kind="measured",
        )
        results.write_result(project.root / "data" / "results", "attestation_bench", card, rounded)


if __name__ == "__main__":
    sys.exit(main())
