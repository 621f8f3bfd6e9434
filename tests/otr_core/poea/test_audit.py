"""What a reader holds against a receipt file from outside it: the model, the order, the nonces seen
before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otr_core.errors import DataError, InputError
from otr_core.files import data_folder
from otr_core.poea import CHECKS, CONTENT_CHECKS, OnceStore
from otr_core.poea.audit import REGISTERED, FileVerdict, registered_lanes, registered_models, verify_file
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.verify import FRESHNESS
from tests.helpers.receipts import MANIFEST, NOW, forged, ordered, signed

MODELS = {MANIFEST.model_id.hex(): "a model (of a lane)"}
PLAIN, SEALED = ordered(), ordered(sealed=True)


def checked(raw: bytes | None = None, *, simulated: bool = True, **options: Any) -> FileVerdict:
    policy = EvidencePolicy(allow_simulated=simulated)
    return verify_file(raw or signed(PLAIN).dump(), policy=policy, as_of=NOW, **({"models": MODELS} | options))


def failed(verdict: FileVerdict) -> str | None:
    return None if verdict.rejection is None else verdict.rejection.check


def statuses(verdict: FileVerdict) -> dict[str, str]:
    return {name: status for name, status, _ in verdict.table}


def test_an_honest_file_is_accepted_against_the_readers_order() -> None:
    verdict = checked(placed=PLAIN, nonces=OnceStore())
    assert verdict.accepted
    assert verdict.line == "accepted: a model (of a lane), simulated TEE: nothing is shown about hardware"
    assert statuses(verdict) == dict.fromkeys([REGISTERED, *CHECKS, *CONTENT_CHECKS, *FRESHNESS], "passed")
    assert verdict.document()["order_from"] == "client"


def test_an_order_taken_from_the_file_is_said_to_be() -> None:
    verdict = checked()
    assert verdict.accepted
    assert verdict.document()["order_from"] == "file"
    assert "the order is taken as the file states it" in verdict.line
    assert "--order" in verdict.line
    assert statuses(verdict)["freshness"] == "not made"  # nobody remembers


def test_what_is_sealed_is_not_claimed_to_be_checked() -> None:
    raw = signed(SEALED).dump()
    verdict = checked(raw)
    assert verdict.accepted
    assert verdict.document()["content_checked"] is False
    assert "the answer is sealed" in verdict.line
    assert {statuses(verdict)[name] for name in CONTENT_CHECKS} == {"not made"}
    own = checked(raw, placed=SEALED)
    assert own.document()["content_checked"] is True
    assert {statuses(own)[name] for name in CONTENT_CHECKS} == {"passed"}
    assert "sealed" not in own.line


def test_an_order_of_another_is_refused() -> None:
    assert failed(checked(placed=ordered((5, 9, 12), 2))) == "order"
    assert failed(checked(placed=replace(PLAIN, order=replace(PLAIN.order, nonce=b"x" * 32)))) == "order"
    assert failed(checked(signed(SEALED).dump(), placed=PLAIN)) == "order"


def test_a_model_the_reader_does_not_know_is_refused_before_anything_is_checked() -> None:
    verdict = checked(models={})
    assert failed(verdict) == REGISTERED
    assert list(statuses(verdict).values())[:2] == ["failed", "not run"]
    assert failed(checked(model_id=bytes(32))) == REGISTERED
    named = checked(models={}, model_id=MANIFEST.model_id)
    assert named.accepted
    assert named.model_name == "the model you named"


def test_a_failed_check_stands_between_those_that_passed_and_those_not_run() -> None:
    found = statuses(checked(forged(PLAIN, ids=(3, 4)).dump(), placed=PLAIN))
    names = list(found)
    at = names.index("finish")
    assert [found[name] for name in names[:at]] == ["passed"] * at
    assert found["finish"] == "failed"
    assert {found[name] for name in names[at + 1 :] if name != "freshness"} == {"not run"}


def test_a_nonce_seen_before_is_refused() -> None:
    nonces = OnceStore()
    assert checked(nonces=nonces).accepted
    assert failed(checked(nonces=nonces)) == "freshness"
    assert failed(checked(nonces=nonces, placed=PLAIN)) == "freshness"
    assert checked(signed(SEALED).dump(), nonces=OnceStore(), placed=SEALED).accepted


def test_simulated_evidence_is_refused_on_demand() -> None:
    verdict = checked(simulated=False)
    assert failed(verdict) == "appraisal"
    assert verdict.document()["tee"] is None


def test_the_document_has_the_verdict_and_every_check() -> None:
    raw = signed(PLAIN).dump()
    found = checked(raw.replace(b'"token_ids":[3,4,2]', b'"token_ids":[3,5,2]'))
    document = found.document()
    assert (document["accepted"], document["check"]) == (False, "response-digest")
    assert document["found"] != document["expected"]
    assert [row[0] for row in document["table"]] == [name for name, _, _ in found.table]
    assert document["line"].startswith("rejected by check response-digest")


def test_what_the_document_quotes_is_short() -> None:
    long = forged(PLAIN, statement={"lane": "x" * 50_000}).dump()
    assert max(len(str(value)) for name, value in checked(long).document().items() if name != "table") < 1000


def test_an_unreadable_file_is_no_verdict() -> None:
    with pytest.raises(InputError, match="receipt file"):
        checked(signed(PLAIN).dump()[:-1])


def test_the_packaged_registry_is_a_list_of_models(tmp_path: Any) -> None:
    models = registered_models(data_folder())
    assert models
    assert models.keys() == registered_lanes(data_folder()).keys()
    with pytest.raises(DataError, match="not a list of models"):
        registered_models(tmp_path)
