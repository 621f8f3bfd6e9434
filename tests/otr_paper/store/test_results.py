"""Stored results: no result without a complete card."""

import json

import pytest

from otr_core.errors import DataError, InputError
from otr_paper.store import results

CARD = {"command": "make bench", "date": "2026-01-01", "machine": "m", "versions": {}, "seed": 1, "kind": "measured"}


def test_written_results_read_back(tmp_path):
    path = results.write_result(tmp_path, "x", results.Card(**CARD), {"value": [1.5]})
    card, payload = results.read_result(tmp_path, "x")
    assert path.name == "x.json"
    assert (card, payload) == (results.Card(**CARD), {"value": [1.5]})


@pytest.mark.parametrize("change", [{"kind": "guessed"}, {"command": ""}, {"date": ""}, {"machine": ""}])
def test_a_card_must_be_complete(change):
    with pytest.raises(InputError, match="card"):
        results.Card(**{**CARD, **change})


@pytest.mark.parametrize("document", ["{", "{}", json.dumps({"card": {"date": "x"}, "result": {}}), None])
def test_a_result_without_its_card_is_refused(tmp_path, document):
    if document is not None:
        (tmp_path / "x.json").write_text(document)
    with pytest.raises(DataError, match="not a stored result with its card"):
        results.read_result(tmp_path, "x")


def test_every_stored_result_of_the_project_has_its_card(project):
    names = [path.stem for path in project.results.glob("*.json")]
    assert "native_run" in names
    for name in names:
        card, payload = results.read_result(project.results, name)
        assert card.versions
        assert payload


def test_the_machine_is_described_without_names_or_paths():
    text = results.this_machine(2)
    assert "2 cores" in text
    assert "/" not in text.replace("W/", "")
