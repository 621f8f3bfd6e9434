"""Recorded evidence: appraised again where present, stored rows with the reason where not, never
silently different."""

import json

import pytest

from otr_core.errors import DataError, MissingDataError
from otr_node import outside
from otr_node.project import Project
from otr_paper.benches import evidence


@pytest.fixture
def checkout(project, tmp_path):
    """The real data folder, with stored results of its own."""
    (tmp_path / "data" / "results").mkdir(parents=True)
    for path in project.data.iterdir():
        if path.name != "results":
            (tmp_path / "data" / path.name).symlink_to(path)
    name = f"{evidence.RESULT}.json"
    (tmp_path / "data" / "results" / name).write_text((project.results / name).read_text())
    return Project(tmp_path)


def test_without_the_evidence_the_stored_rows_are_shown_and_said_to_be(checkout, monkeypatch):
    monkeypatch.delenv(outside.MIRROR_VARIABLE, raising=False)
    rows, how = evidence.appraised(checkout)
    assert how.startswith("stored appraisals (")
    assert "otr data fetch" in how
    assert {"verdicts", "matrix", "calendar", "windows", "attacks"} <= set(rows)


def test_with_the_evidence_it_is_appraised_again_and_compared(checkout):
    try:
        evidence.recorded_evidence(checkout)
    except MissingDataError as error:
        pytest.skip(f"outside data: {error}")
    assert evidence.appraised(checkout)[1].startswith("appraised again now")
    path = checkout.results / f"{evidence.RESULT}.json"
    document = json.loads(path.read_text())
    document["result"]["verdicts"][0]["verdict"] = "rejected"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="verdicts found different now"):
        evidence.appraised(checkout)
