"""Appraise all recorded evidence and store the rows: ``python -m otr_paper.producers.attestation_cases``.

Writes data/results/attestation_cases.json: what notebook 01 shows where the evidence itself is absent. A test appraises
again where it is present and compares.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from otr_core.errors import MissingDataError
from otr_node.project import find_project
from otr_paper.benches import evidence
from otr_paper.store import results


def main() -> None:
    project = find_project(Path(__file__))
    try:
        found = evidence.recorded_evidence(project)
    except MissingDataError as error:
        print(f"skipped, the stored appraisals stay: {error}")
        return
    card = results.Card(
        command="python -m otr_paper.producers.attestation_cases",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(("cryptography", "signxml", "lxml", "dcap-qvl")),
        seed=None,
        kind="recomputed",
    )
    path = results.write_result(project.results, evidence.RESULT, card, evidence.rows(found))
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
