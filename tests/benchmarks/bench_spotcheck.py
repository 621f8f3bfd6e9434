"""Measure what notebook 04 shows of spot checks: ``python tests/benchmarks/bench_spotcheck.py [part …]`` (`make bench`).

Parts, each written to data/results/<part>.json with its card:

* ``proof_cost``: one row per circuit shape: rows used, k, CPU seconds of set-up, witness, proof (median of three),
  verification, peak memory of the prover, bytes of proof and keys. Weights and activations are drawn in the ranges of
  SmolLM2's; no cost depends on their values.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.artifact import results
from otr_core.artifact.notebook import quiet
from otr_core.artifact.project import find_project
from otr_core.spotcheck import prover

SEED = 20251223
SHAPES = ((1, 64), (8, 64), (1, 576), (8, 192), (2, 576), (4, 576), (8, 576), (4, 1536), (16, 576), (8, 1536), (32, 576), (64, 576), (48, 1536))
REPEATS = 3


def random_statement(shape: prover.Shape, rng: np.random.Generator) -> prover.Statement:
    """A statement that holds, with weights and activations as large as the real ones."""
    weights = rng.integers(-(2**17), 2**17, (shape.rows, shape.columns))
    activations = rng.integers(-(2**20), 2**20, shape.columns)
    half = 1 << (prover.SHIFT - 1)
    return prover.Statement(weights, activations, (weights @ activations + half) >> prover.SHIFT)


def proof_cost(store: Path) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    rows = []
    for sides in SHAPES:
        shape = prover.Shape(*sides)
        circuit = prover.make_circuit(shape, store)
        runs = []
        for _ in range(REPEATS):
            proof, ran = prover.prove(circuit, random_statement(shape, rng))
            runs.append(ran)
        row = {"rows": shape.rows, "columns": shape.columns, "k": circuit.k, "rows_used": circuit.rows_used,
               "setup_cpu_s": circuit.setup_cpu_s, "setup_peak_mb": circuit.setup_peak_mb,
               "proof_bytes": len(proof.raw), "vk_bytes": os.path.getsize(circuit.path("vk.key")),
               "pk_bytes": os.path.getsize(circuit.path("pk.key"))}  # fmt: skip
        for step in ("witness", "prove", "verify"):
            row[f"{step}_cpu_s"] = statistics.median(ran[step].cpu_s for ran in runs)
        row["prove_cpu_s_all"] = [round(ran["prove"].cpu_s, 4) for ran in runs]
        row["prove_peak_mb"] = max(ran["prove"].peak_mb for ran in runs)
        rows.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
        print(rows[-1], file=sys.stderr, flush=True)
    return {"rows": rows}


PARTS = {"proof_cost": proof_cost}


def main(names: list[str]) -> None:
    quiet()
    project = find_project()
    store = project.build / "spotcheck"
    for name in names or list(PARTS):
        payload = PARTS[name](store)
        card = results.Card(
            command="make bench", date=dt.date.today().isoformat(), machine=results.this_machine(os.cpu_count() or 1),
            versions=results.versions(), seed=SEED, kind="measured",
        )  # fmt: skip
        print(results.write_result(project.results, name, card, payload).name, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
