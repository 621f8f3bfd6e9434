"""Appraisals of all recorded evidence: stored rows, made again wherever the evidence itself is
present."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otr_core.errors import DataError, MissingDataError
from otr_node import outside
from otr_node.project import Project
from otr_paper.labs.attestation import cases, run_evidence_attacks
from otr_paper.labs.attestation.evidence import EVIDENCE
from otr_paper.labs.attestation.matrix import attack_matrix
from otr_paper.store.results import read_result

RESULT = "attestation_cases"


def recorded_evidence(project: Project, names: Iterable[str] = EVIDENCE) -> dict[str, bytes]:
    """Files of ``attestation.evidence.EVIDENCE`` by name, all of them unless ``names`` chooses.

    Raises:
        MissingDataError: one is neither here nor in the mirror; most lie outside the wheels.
    """
    mirror, places = outside.mirror_folder(), {name: (EVIDENCE[name].source, EVIDENCE[name].file) for name in names}
    return {name: outside.get(project, *place, mirror=mirror).read_bytes() for name, place in places.items()}


def rows(found: dict[str, bytes]) -> dict[str, Any]:
    """Verdicts, claims matrix, verdict over time, windows, attacks, and each attack on each bundle."""
    return {
        "verdicts": cases.verdicts(found),
        "matrix": cases.matrix(found),
        "calendar": cases.calendar(found, cases.months()),
        "windows": cases.windows(found),
        "attacks": run_evidence_attacks(found),
        "attack_matrix": attack_matrix(found),
    }


def appraised(project: Project) -> tuple[dict[str, Any], str]:
    """The rows a notebook shows, and how they were got.

    The rows are the stored ones either way; where the evidence is present it is appraised again and
    compared first.

    Raises:
        DataError: appraising again gives other rows than the stored ones.
    """
    _, stored = read_result(project.results, RESULT)
    try:
        now = rows(recorded_evidence(project))
    except MissingDataError as error:
        return stored, f"stored appraisals ({error})"
    if changed := [name for name, value in now.items() if value != stored[name]]:
        raise DataError(f"{RESULT}.json: {', '.join(changed)} found different now; make it again with: make bench")
    return stored, "appraised again now, equal to the stored rows"
