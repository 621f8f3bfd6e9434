"""What a reader holds against a receipt file from outside it: the model, the prompt, the nonces
seen before."""

import pytest

from otr_core.errors import DataError, InputError
from otr_core.files import data_folder
from otr_core.poea.audit import registered_models, verify_file
from otr_core.poea.tee import EvidencePolicy
from tests.helpers.receipts import MANIFEST, NOW, enclave, signed

MODELS = {MANIFEST.model_id.hex(): "a model (of a lane)"}


def checked(raw=None, *, simulated=True, **options):
    policy = EvidencePolicy(allow_simulated=simulated)
    return verify_file(raw or signed().dump(), policy=policy, as_of=NOW, **({"models": MODELS} | options))


def failed(verdict):
    return None if verdict.rejection is None else verdict.rejection.check


def test_an_honest_file_is_accepted_and_its_nonce_is_told():
    verdict = checked()
    assert verdict.accepted
    assert verdict.nonce == signed().job.nonce
    assert verdict.line.startswith("accepted: a model (of a lane), simulated TEE")
    # nothing but the model was held against anything outside the file
    assert "--prompt" in verdict.line
    assert {status for _, status, _ in verdict.table} == {"passed"}
    assert "--prompt" not in checked(prompt="Why?").line


def test_a_model_the_reader_does_not_know_is_refused_before_anything_is_read():
    verdict = checked(models={})
    assert failed(verdict) == "registered-model"
    assert [status for _, status, _ in verdict.table][:2] == ["failed", "not run"]
    assert failed(checked(model_id=bytes(32))) == "registered-model"
    assert checked(models={}, model_id=MANIFEST.model_id).accepted


def test_another_prompt_is_refused_after_all_other_checks_and_its_nonce_is_not_told():
    verdict = checked(prompt="Who?")
    assert failed(verdict) == "prompt"
    assert verdict.nonce is None
    assert [status for _, status, _ in verdict.table].count("passed") == len(verdict.table) - 1


def test_a_sealed_prompt_cannot_be_compared():
    sealed = signed(enclave(), sealed=True).dump()
    assert checked(sealed).accepted
    with pytest.raises(InputError, match="sealed"):
        checked(sealed, prompt="Why?")


def test_a_nonce_seen_before_is_refused():
    assert failed(checked(seen=[signed().job.nonce])) == "freshness"
    assert checked(seen=[bytes(32)]).accepted


def test_simulated_evidence_is_refused_on_demand():
    verdict = checked(simulated=False)
    assert failed(verdict) == "appraisal"
    assert verdict.document()["tee"] == "simulated"


def test_the_document_has_the_verdict_and_every_check():
    found = checked(signed().dump().replace(b"Because.", b"Because!"))
    document = found.document()
    assert (document["accepted"], document["check"]) == (False, "response-digest")
    assert document["found"] != document["expected"]
    assert [row[0] for row in document["table"]] == [name for name, _, _ in found.table]
    assert document["line"].startswith("rejected by check response-digest")


def test_the_packaged_registry_is_a_list_of_models(tmp_path):
    assert registered_models(data_folder())
    with pytest.raises(DataError, match="not a list of models"):
        registered_models(tmp_path)
