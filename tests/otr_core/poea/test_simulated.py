"""What evidence must say for a receipt to be believed, each rule with evidence that breaks it and is
signed like good evidence."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from otr_core.encoding import tagged_json_hash
from otr_core.errors import InputError, ReceiptError
from otr_core.poea import check_answer, verify_receipt
from otr_core.poea.document import ReceiptFile
from otr_core.poea.simulated import replay_log, signer
from otr_core.poea.tee import EvidencePolicy, TeeClaims
from otr_node.enclave import LIFETIME_S, SimulatedEnclave
from tests.helpers.receipts import ALLOW, MANIFEST, NOW, enclave, ordered, resigned, signed

PLAIN = ordered()
FILE = signed(PLAIN)


def check_of(file: ReceiptFile, **options: Any) -> str:
    """The check that rejects an answer to its client's order."""
    with pytest.raises(ReceiptError) as caught:
        check_answer(file, PLAIN, **({"policy": ALLOW, "as_of": NOW, "nonces": None} | options))
    return caught.value.check


def test_simulated_evidence_needs_a_policy_that_says_so() -> None:
    for simulated in (False, "yes", 1, None):
        assert check_of(FILE, policy=EvidencePolicy(allow_simulated=simulated)) == "appraisal"  # type: ignore[arg-type]
    assert check_of(replace(FILE, evidence={**FILE.evidence, "kind": "tdx"})) == "appraisal"


def test_evidence_has_a_lifetime() -> None:
    begin = NOW - 60
    for time in (begin, begin + LIFETIME_S - 1):
        verify_receipt(FILE, policy=ALLOW, as_of=time, order=PLAIN.order)
    for time in (begin - 1, begin + LIFETIME_S):
        assert check_of(FILE, as_of=time) == "appraisal"


def test_evidence_of_another_root_is_refused() -> None:
    assert check_of(signed(PLAIN, tee=enclave(root=b"r" * 32))) == "appraisal"


def evidence_signed(change: Callable[[dict[str, Any]], Any], tee: SimulatedEnclave | None = None) -> dict[str, Any]:
    """Evidence changed and signed again under the published root: what a forger of *simulated*
    evidence can do."""
    evidence = copy.deepcopy((tee or enclave()).evidence())
    change(evidence)
    if "rtmr3" not in evidence["quote"]:
        evidence["quote"]["rtmr3"] = replay_log(evidence["event_log"]).hex()
    for tag, part in (("simulated-quote", "quote"), ("simulated-gpu-report", "gpu_report")):
        fields = {name: value for name, value in evidence[part].items() if name != "signature"}
        evidence[part]["signature"] = signer(SimulatedEnclave.root).sign(tagged_json_hash(tag, fields)).hex()
    return evidence


def relogged(change: Callable[[list[dict[str, str]]], Any]) -> dict[str, Any]:
    """Evidence with another event log, and the register that it replays to."""

    def both(evidence: dict[str, Any]) -> None:
        change(evidence["event_log"])
        del evidence["quote"]["rtmr3"]

    return evidence_signed(both)


def test_keys_bound() -> None:
    other = enclave(secret=b"t" * 32)
    assert check_of(replace(FILE, keys=other.keys)) == "keys-bound"  # key of another enclave
    assert check_of(replace(FILE, evidence=other.evidence())) == "keys-bound"  # its evidence
    assert check_of(replace(FILE, evidence=other.evidence(), keys=other.keys)) == "keys-bound"  # a relay of both
    assert check_of(resigned(FILE, key_id=other.keys.digest)) == "keys-bound"
    swapped = replace(FILE.keys, hpke=other.keys.hpke)  # a sealing key that the enclave does not hold
    assert check_of(replace(resigned(FILE, key_id=swapped.digest), keys=swapped)) == "keys-bound"
    released = relogged(lambda log: log[1].update(payload=other.keys.digest.hex()))
    assert check_of(replace(FILE, evidence=released)) == "keys-bound"


def test_gpu_nonce_bound() -> None:
    other_gpu = evidence_signed(lambda evidence: evidence["gpu_report"].update(nonce="00" * 32))
    assert check_of(replace(FILE, evidence=other_gpu)) == "gpu-nonce-bound"
    spliced = {**FILE.evidence, "gpu_report": enclave(gpu_nonce=b"h" * 32).evidence()["gpu_report"]}
    assert check_of(replace(FILE, evidence=spliced)) == "gpu-nonce-bound"


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.pop(0),
        lambda log: log.insert(1, dict(log[0])),
        lambda log: log.insert(1, {**log[0], "payload": "66" * 32}),
        lambda log: log.reverse(),
        lambda log: log.pop(1),
        lambda log: log[0].update(payload="77" * 32),
    ],
)
def test_a_log_that_does_not_name_the_ordered_model_before_the_keys(change: Any) -> None:
    assert check_of(replace(FILE, evidence=relogged(change))) == "measured-model"


def test_an_edited_log_does_not_replay() -> None:
    evidence = copy.deepcopy(FILE.evidence)
    evidence["event_log"][0]["payload"] = "66" * 32
    assert check_of(replace(FILE, evidence=evidence)) == "appraisal"


@pytest.mark.parametrize(
    "change",
    [
        lambda evidence: evidence["quote"].update(more=1),
        lambda evidence: evidence["gpu_report"].update(more=1),
        lambda evidence: evidence["quote"].pop("issued_at"),
        lambda evidence: evidence["quote"].update(issued_at=str(NOW - 60)),
        lambda evidence: evidence["quote"].update(issued_at=True),
        lambda evidence: evidence["quote"].update(issued_at=float(NOW - 60)),
        lambda evidence: evidence["quote"].update(report_data=evidence["quote"]["report_data"].upper()),
        lambda evidence: evidence["quote"].update(rtmr3=evidence["quote"]["rtmr3"].upper()),
        lambda evidence: evidence["quote"].update(rtmr3="00" * 48),
        lambda evidence: evidence["quote"].update(report_data="00" * 63),
        lambda evidence: evidence["gpu_report"].update(nonce="AB" * 32),
        lambda evidence: evidence["gpu_report"].update(nonce="00" * 31),
        lambda evidence: evidence["event_log"][0].update(payload=evidence["event_log"][0]["payload"].upper()),
        lambda evidence: evidence["event_log"][0].update(digest="00"),
        lambda evidence: evidence["event_log"].append({"event": "later", "payload": ""}),
        lambda evidence: evidence.update(more=1),
        lambda evidence: evidence.update(event_log={}),
    ],
)
def test_signed_evidence_of_another_form_is_refused(change: Any) -> None:
    assert check_of(replace(FILE, evidence=evidence_signed(change))) == "appraisal"


def test_evidence_signed_again_unchanged_is_taken() -> None:
    for evidence in (evidence_signed(lambda evidence: None), relogged(lambda log: None)):
        verify_receipt(replace(FILE, evidence=evidence), policy=ALLOW, as_of=NOW, order=PLAIN.order)


def test_claims_of_any_appraiser_are_held_to_the_same() -> None:
    """The seam: whatever evidence there is, the checks are made on what it says."""
    tee = enclave()

    def appraiser(**changes: Any) -> Callable[[Mapping[str, Any], EvidencePolicy, int], TeeClaims]:
        fields: dict[str, Any] = {"report_data": tee.keys.digest + tee.gpu_nonce, "gpu_nonce": tee.gpu_nonce}
        fields |= {"measured_model": MANIFEST.model_id, "simulated": False}
        return lambda evidence, policy, as_of: TeeClaims(**(fields | changes))

    file = replace(FILE, evidence={})
    shown = verify_receipt(file, policy=ALLOW, as_of=NOW, order=PLAIN.order, appraise=appraiser())
    assert shown.simulated is False
    assert check_of(file, appraise=appraiser(report_data=bytes(32) + tee.gpu_nonce)) == "keys-bound"
    assert check_of(file, appraise=appraiser(report_data=tee.keys.digest)) == "gpu-nonce-bound"
    assert check_of(file, appraise=appraiser(gpu_nonce=bytes(32))) == "gpu-nonce-bound"
    assert check_of(file, appraise=appraiser(measured_model=bytes(32))) == "measured-model"


def test_an_enclave_takes_32_byte_values_only() -> None:
    for name in ("secret", "model_id", "gpu_nonce", "root"):
        with pytest.raises(InputError, match=name):
            enclave(**{name: bytes(31)})


def test_replay_is_the_register_rule() -> None:
    log = [{"event": "a", "payload": "00ff"}, {"event": "b", "payload": ""}]
    register = bytes(48)
    for content in (b"\x01\x00\x00\x08:a:\x00\xff", b"\x01\x00\x00\x08:b:"):
        register = hashlib.sha384(register + hashlib.sha384(content).digest()).digest()
    assert replay_log(log) == register
    with pytest.raises(InputError, match="event log"):
        replay_log([{"event": "a", "payload": "", "digest": ""}])
