"""Appraise the recorded answers of the field and store the rows: data/results/field.json.

Facts and figures only: no evidence, and of devices how many, not which. Notebook 01 shows these
rows; where the recordings are present, a test makes the rows again and compares.
"""

from __future__ import annotations

from otr_core.errors import MissingDataError
from otr_paper.producers import frame
from otr_paper.studies import field


def main() -> None:
    frame.arguments(__doc__).parse_args()
    try:
        answers = field.recorded_answers(frame.checkout())
    except MissingDataError as error:
        frame.progress(f"skipped, the stored rows stay: {error}")
        return
    packages = frame.ATTESTATION_LIBRARIES
    frame.store(field.RESULT, field.field_rows(answers), seed=None, packages=packages, kind="recomputed")


if __name__ == "__main__":
    main()
