"""Appraise all recorded evidence and store the rows: ``python -m tests.benchmarks.attestation_cases``.

Writes data/results/attestation_cases.json: what notebook 01 shows where the evidence itself is absent. A test appraises
again where it is present and compares.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from otr_core.artifact import data, results
from otr_core.artifact.project import Project, find_project
from otr_core.attestation import cases
from otr_core.attestation.attacks import run_attacks
from otr_core.attestation.evidence import EVIDENCE


def evidence(project: Project) -> dict[str, bytes]:
    """All files of ``EVIDENCE``; MissingDataError if one is neither here nor in the mirror."""
    mirror = data.mirror_folder()
    return {name: data.get(project, one.source, one.file, mirror=mirror).read_bytes() for name, one in EVIDENCE.items()}


def rows(found: dict[str, bytes]) -> dict[str, Any]:
    """Everything that is stored."""
    return {
        "verdicts": cases.verdicts(found),
        "matrix": cases.matrix(found),
        "calendar": cases.calendar(found, cases.months()),
        "windows": cases.windows(found),
        "attacks": run_attacks(found),
    }


def main() -> None:
    project = find_project(Path(__file__))
    card = results.Card(
        command="python -m tests.benchmarks.attestation_cases",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(("cryptography", "signxml", "lxml", "dcap-qvl")),
        seed=None,
        kind="recomputed",
    )
    path = results.write_result(project.root / "data" / "results", "attestation_cases", card, rows(evidence(project)))
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
