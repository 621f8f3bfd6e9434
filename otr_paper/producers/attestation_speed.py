"""Speed of attestation: data/results/attestation_bench.json, with ``--store``.

All times are CPU times, the least mean of a block of calls, and beside it the median block. A stream
of bundles goes through one thread, and as many through each of 16, about ten CPU minutes.
``--nvidia`` names the interpreter of an environment of its own in which nv-local-gpu-verifier 2.7.3
is installed; its network steps are stubbed and its clock set, nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from otr_core.errors import MissingDataError
from otr_node import outside
from otr_paper.benches.appraise import FILES, AppraisePlan, bench_files, measure_appraise
from otr_paper.producers import frame

# Runs inside NVIDIA's environment: their own functions, with the revocation step answered "good".
NVIDIA_DRIVER = Path(__file__).with_name("nvidia_verifier.py")


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
    parser.add_argument("--runs", type=int, default=301)
    parser.add_argument("--stream", type=int, default=10_000, help="bundles in one thread, and in each of 16")
    parser.add_argument("--nvidia", default="", metavar="PYTHON")
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args()
    project, mirror = frame.checkout(), outside.mirror_folder()
    try:
        files = {name: outside.get(project, *where, mirror=mirror) for name, where in FILES.items()}
        raw = bench_files(project)
    except MissingDataError as error:
        frame.progress(f"skipped, the stored times stay: {error}")
        return
    load = os.getloadavg()[0]
    found = measure_appraise(raw, AppraisePlan(given.runs, given.stream, given.stream)) | {"load_before": load}
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
