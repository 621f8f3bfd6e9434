"""Appraise all recorded evidence and store the rows: data/results/attestation_cases.json.

This is what notebook 01 shows where the evidence itself is absent. A test appraises again where it
is present and compares.
"""

from __future__ import annotations

from otr_core.errors import MissingDataError
from otr_paper.benches import evidence
from otr_paper.producers import frame


def main() -> None:
    frame.arguments(__doc__).parse_args()
    try:
        found = evidence.recorded_evidence(frame.checkout())
    except MissingDataError as error:
        frame.progress(f"skipped, the stored appraisals stay: {error}")
        return
    frame.store(
        evidence.RESULT, evidence.rows(found), seed=None, packages=frame.ATTESTATION_LIBRARIES, kind="recomputed"
    )


if __name__ == "__main__":
    main()
