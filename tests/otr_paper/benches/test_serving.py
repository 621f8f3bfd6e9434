"""Machine records, the model registry, and the attack table a notebook shows."""

import pytest

from otr_core.errors import DataError
from otr_core.poea.audit import registered_models
from otr_node.answers import LANES, load_lane
from otr_node.project import Project
from otr_paper.benches import answers
from otr_paper.store import results

CARD = results.Card("otr record", "2026-01-01", "a machine", {}, None, "measured")
SHAPE = {"positions": 3, "layers": 4, "output_bytes": 100, "kv_bytes": 20}
RECORD = {
    "model": {"lane": "native-float32"},
    "device": {"name": "NVIDIA H100"},
    "plain": {"first_token_s": 0.1, "tokens_per_s": 100.0},
    "traced": {"first_token_s": 0.1, "tokens_per_s": 96.0},
    "answers": [{"trace_shape": SHAPE}],
}


def test_machine_records_are_read_in_the_place_of_cited_numbers(tmp_path):
    project = Project(tmp_path)
    assert answers.machine_records(project) == []
    results.write_result(project.results, "record_cuda", CARD, RECORD)
    results.write_result(project.results, "record_none", CARD, {**RECORD, "device": None})
    gpu, bare = answers.machine_records(project)
    assert gpu["name"] == "NVIDIA H100, native-float32"
    assert bare["name"] == "a machine, native-float32"
    assert gpu["bytes_per_token"] == 4 * (100 + 2 * 20)
    assert gpu["share"] == pytest.approx(0.04)
    assert gpu["tokens_per_s"] == 100.0


def test_a_record_without_its_card_is_refused(tmp_path):
    project = Project(tmp_path)
    project.results.mkdir(parents=True)
    (project.results / "record_cuda.json").write_text("{}")
    with pytest.raises(DataError, match="not a stored result with its card"):
        answers.machine_records(project)


def test_the_registry_names_both_lanes(project, tmp_path):
    names = registered_models(project.data)
    lanes = {name.split("(")[1].rstrip(")") for name in names.values()}
    assert lanes == set(LANES.values())
    assert all(len(bytes.fromhex(model_id)) == 32 for model_id in names)
    with pytest.raises(DataError, match="not a list of models"):
        registered_models(tmp_path)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("lane", LANES)
def test_registered_identities_are_those_of_the_converted_model(project, lane):
    """The registry is recomputed, not believed: weights, tokenizer, template and lane give the
    registered id."""
    model = load_lane(project, lane=LANES[lane], device="cpu", folder=None, report=lambda line: None)
    found = model.manifest.to_json()
    name = registered_models(project.data)[model.manifest.model_id.hex()]
    assert name == f"SmolLM2-135M-Instruct ({found['lane']})"
    assert found["weights_root"] in (project.data / "models.toml").read_text()


def test_stored_attacks_are_complete(project):
    rows = answers.attack_rows(project, fresh=False, report=lambda line: None)
    groups = {row["group"] for row in rows}
    assert groups == {"model", "parameters", "answer", "statement", "evidence", "broken TEE"}
    assert all(row["caught_by"] for row in rows)


@pytest.mark.model
@pytest.mark.slow
def test_stored_attacks_happen_again_on_any_machine(project):
    """The attack table runs in the portable lane, so that every detail of it is the same here."""
    assert answers.attack_rows(project, fresh=True, report=lambda line: None) == answers.attack_rows(
        project, fresh=False, report=lambda line: None
    )
