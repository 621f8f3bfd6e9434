"""Each check of ``verify_receipt`` has a rejecting twin, and every byte of a receipt file is under
one of them."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.encoding import tagged_json_hash
from otr_core.errors import InputError, ModelError, ReceiptError, SealError
from otr_core.lane.sampling import Decoding
from otr_core.poea import CHECKS, Message, load_receipt_file, open_response, order, verify_receipt
from otr_core.poea.client import query_info
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import sign_receipt
from otr_core.poea.sealing import seal
from otr_core.poea.simulated import replay_log, signer
from otr_core.poea.tee import EvidencePolicy
from otr_node.enclave import LIFETIME_S, SimulatedEnclave
from otr_node.serve import open_query, serve, trace_seed
from tests.helpers.receipts import ALLOW, CLIENT, NOW, answer, enclave, ordered, signed

FILE = signed()


def check_of(file: ReceiptFile, **options: Any) -> str:
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(file, **({"policy": ALLOW, "as_of": NOW} | options))
    assert caught.value.check in CHECKS
    return caught.value.check


def resigned(file: ReceiptFile, **changes: Any) -> ReceiptFile:
    """The receipt as an operator would have it who holds the attested key and lies."""
    from eth_keys import keys

    done = sign_receipt(keys.PrivateKey(enclave().signing_key), replace(file.receipt, **changes))
    return replace(file, receipt=done.receipt, signature=done.signature)


@pytest.mark.parametrize("sealed", [False, True])
def test_an_honest_receipt_is_accepted(sealed: bool) -> None:
    file = signed(sealed=sealed)
    result = verify_receipt(file, policy=ALLOW, as_of=NOW, job=file.job)
    assert (result.simulated, result.signer, result.nonce) == (True, enclave().keys.address, file.job.nonce)
    document = open_response(file, CLIENT)
    # the client can rebuild the trace
    assert document.pop("trace_seed") == trace_seed(enclave(), file.job).hex()
    assert document == {"text": "Because.", "token_ids": [3, 4], "finish": "stop"}


def test_simulated_evidence_needs_a_policy_that_says_so() -> None:
    assert check_of(FILE, policy=EvidencePolicy(allow_simulated=False)) == "appraisal"
    assert check_of(FILE, policy=EvidencePolicy(allow_simulated="yes")) == "appraisal"
    assert check_of(replace(FILE, evidence={**FILE.evidence, "kind": "tdx"})) == "appraisal"


def test_evidence_has_a_lifetime() -> None:
    begin = NOW - 60
    for time in (begin, begin + LIFETIME_S - 1):
        verify_receipt(FILE, policy=ALLOW, as_of=time)
    for time in (begin - 1, begin + LIFETIME_S):
        assert check_of(FILE, as_of=time) == "appraisal"


def test_evidence_of_another_root_is_refused() -> None:
    assert check_of(signed(enclave(root=b"r" * 32))) == "appraisal"


def evidence_signed(change: Any, tee: SimulatedEnclave | None = None) -> dict[str, Any]:
    """Evidence changed and signed again under the published root: what a forger of *simulated*
    evidence can do."""
    evidence = copy.deepcopy((tee or enclave()).evidence())
    change(evidence)
    evidence["quote"]["rtmr3"] = replay_log(evidence["event_log"]).hex()
    for tag, part in (("simulated-quote", "quote"), ("simulated-gpu-report", "gpu_report")):
        fields = {name: value for name, value in evidence[part].items() if name != "signature"}
        evidence[part]["signature"] = signer(SimulatedEnclave.root).sign(tagged_json_hash(tag, fields)).hex()
    return evidence


def test_keys_bound() -> None:
    other = enclave(secret=b"t" * 32)
    assert check_of(replace(FILE, keys=other.keys)) == "keys-bound"  # key of another enclave
    # evidence of another enclave
    assert check_of(replace(FILE, evidence=other.evidence())) == "keys-bound"
    # relay of its evidence
    assert check_of(replace(FILE, evidence=other.evidence(), keys=other.keys)) == "keys-bound"
    assert check_of(resigned(FILE, key_id=other.keys.digest)) == "keys-bound"

    def other_keys_released(evidence: dict) -> None:
        evidence["event_log"][1]["payload"] = other.keys.digest.hex()

    assert check_of(replace(FILE, evidence=evidence_signed(other_keys_released))) == "keys-bound"


def test_gpu_nonce_bound() -> None:
    def other_gpu(evidence: dict) -> None:
        evidence["gpu_report"]["nonce"] = "00" * 32

    assert check_of(replace(FILE, evidence=evidence_signed(other_gpu))) == "gpu-nonce-bound"
    spliced = {**FILE.evidence, "gpu_report": enclave(gpu_nonce=b"h" * 32).evidence()["gpu_report"]}
    assert check_of(replace(FILE, evidence=spliced)) == "gpu-nonce-bound"


def test_measured_model() -> None:
    downgraded = enclave(model_id=b"d" * 32)  # same keys, a cheaper model measured
    assert downgraded.keys == enclave().keys
    assert check_of(replace(FILE, evidence=downgraded.evidence())) == "measured-model"
    assert check_of(resigned(FILE, model_id=b"d" * 32)) == "measured-model"
    assert check_of(replace(FILE, model=replace(FILE.model, tokenizer="55" * 32))) == "measured-model"
    assert check_of(FILE, job=replace(FILE.job, model_id=b"d" * 32)) == "measured-model"


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.pop(0),
        lambda log: log.insert(1, dict(log[0])),
        lambda log: log.insert(1, {**log[0], "payload": "66" * 32}),
        lambda log: log.reverse(),
        lambda log: log.pop(1),
        lambda log: log[0].update(payload="66" * 31),
    ],
)
def test_a_log_that_does_not_name_one_model_before_the_keys(change: Any) -> None:
    evidence = evidence_signed(lambda evidence: change(evidence["event_log"]))
    assert check_of(replace(FILE, evidence=evidence)) == "measured-model"


def test_an_edited_log_does_not_replay() -> None:
    evidence = copy.deepcopy(FILE.evidence)
    evidence["event_log"][0]["payload"] = "66" * 32
    assert check_of(replace(FILE, evidence=evidence)) == "appraisal"


def test_signed_evidence_with_more_in_it_is_refused() -> None:
    for part in ("quote", "gpu_report"):
        evidence = evidence_signed(lambda evidence, part=part: evidence[part].update(more=1))
        assert check_of(replace(FILE, evidence=evidence)) == "appraisal"
    verify_receipt(replace(FILE, evidence=evidence_signed(lambda evidence: None)), policy=ALLOW, as_of=NOW)


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


def test_freshness() -> None:
    seen = {FILE.receipt.nonce}
    assert check_of(FILE, seen=seen) == "freshness"
    verify_receipt(FILE, policy=ALLOW, as_of=NOW, seen={b"other"})
    assert check_of(FILE, job=replace(FILE.job, nonce=b"x" * 32)) == "freshness"
    assert check_of(FILE, job=replace(FILE.job, job_id=b"x" * 32)) == "freshness"
    assert check_of(resigned(FILE, nonce=b"x" * 32)) == "freshness"
    assert check_of(resigned(FILE, job_id=b"x" * 32)) == "freshness"


@pytest.mark.parametrize("change", [{"max_tokens": 15}, {"seed": 6}, {"temperature_milli": 0}])
def test_decoding(change: dict[str, int]) -> None:
    assert check_of(resigned(FILE, decoding=replace(FILE.receipt.decoding, **change))) == "decoding"
    assert check_of(replace(FILE, job=replace(FILE.job, decoding=replace(FILE.job.decoding, **change)))) == "decoding"


@pytest.mark.parametrize("sealed", [False, True])
def test_digests_over_the_bytes(sealed: bool) -> None:
    file, other = signed(sealed=sealed), signed(sealed=sealed, prompt="When?", number=2)
    assert check_of(replace(file, query=other.query)) == "query-digest"
    assert check_of(replace(file, response=Message("response", plain={"text": "No."}))) == "response-digest"
    if sealed:
        assert check_of(replace(file, response=other.response)) == "response-digest"
        cut = Message("response", sealed=(file.response.sealed or b"")[:-1])
        assert check_of(replace(file, response=cut)) == "response-digest"
    # an answer signed for another query, under this job's ids: the order names its query
    lie = resigned(file, query_digest=other.query.digest)
    assert check_of(replace(lie, query=other.query)) == "query-digest"


def test_configuration_digest() -> None:
    assert check_of(replace(FILE, configuration={**FILE.configuration, "threads": 2})) == "configuration-digest"


def test_signature() -> None:
    assert check_of(replace(FILE, signature=bytes(65))) == "signature"
    assert check_of(replace(FILE, signature=signed(number=2).signature)) == "signature"
    assert check_of(replace(FILE, receipt=replace(FILE.receipt, trace_root=bytes(32)))) == "signature"
    shape = replace(FILE.receipt.trace, positions=4)
    assert check_of(replace(FILE, receipt=replace(FILE.receipt, trace=shape))) == "signature"


def leaves(value: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [found for key in value for found in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in leaves(item, (*path, i))]
    return [path]


@pytest.mark.parametrize("sealed", [False, True])
def test_no_value_of_the_file_can_change_unnoticed(sealed: bool) -> None:
    """Every value of the document, changed in every plausible small way, is unreadable or rejected
    by a named check."""
    raw = signed(sealed=sealed).dump()
    document = json.loads(raw)
    # recorded beside the model, see ModelManifest
    unbound = {("model", "source_sha256"), ("model", "weights_leaves")}
    rejections = 0
    for path in leaves(document):
        if path in unbound:
            continue
        changed = copy.deepcopy(document)
        at = changed
        for key in path[:-1]:
            at = at[key]
        value = at[path[-1]]
        if isinstance(value, str):
            digit = "1" if value[-1:] != "1" else "2"
            at[path[-1]] = value[:-1] + digit
        elif isinstance(value, int):
            at[path[-1]] = value + 1
        else:
            pytest.fail(f"unexpected value at {path}")
        try:
            file = load_receipt_file(json.dumps(changed).encode())
        except InputError:
            continue
        check_of(file)
        rejections += 1
    assert rejections >= 35


def test_the_file_reads_back_and_bad_files_are_named() -> None:
    raw = FILE.dump()
    assert load_receipt_file(raw) == FILE
    assert load_receipt_file(raw).dump() == raw
    document = json.loads(raw)
    for name in document:
        for change in (None, [], {}, "zz", 1.5):
            if change == {} and name in ("configuration", "evidence"):
                continue  # free-form objects: judged by their checks
            with pytest.raises(InputError):
                load_receipt_file(json.dumps({**document, name: change}).encode())
        with pytest.raises(InputError):
            load_receipt_file(json.dumps({key: value for key, value in document.items() if key != name}).encode())
    nested = copy.deepcopy(document)
    nested["receipt"]["decoding"]["beam"] = 2
    for text in (b"", b"{", b"[]", b"\xff", raw[:-10], json.dumps({**document, "x": 1}).encode(), json.dumps(nested)):
        with pytest.raises(InputError):
            load_receipt_file(text if isinstance(text, bytes) else text.encode())


def test_serving_refuses_what_was_not_ordered() -> None:
    tee = enclave()
    model: Any = SimpleNamespace(manifest=FILE.model)
    job, query = ordered(tee, sealed=True)
    with pytest.raises(ModelError):
        serve(tee, model, replace(job, model_id=b"d" * 32), query)
    with pytest.raises(ModelError):
        serve(enclave(model_id=b"d" * 32), model, replace(job, model_id=b"d" * 32), query)
    with pytest.raises(InputError, match="query"):
        serve(tee, model, replace(job, query_digest=bytes(32)), query)
    with pytest.raises(SealError):  # sealed for another job: swapped after sealing
        open_query(tee, replace(job, nonce=b"x" * 32), query)
    with pytest.raises(SealError):
        open_query(enclave(secret=b"t" * 32), job, query)
    with pytest.raises(InputError, match="prompt"):
        open_query(tee, job, Message("query", plain={"question": "Why?"}))
    for text in (b'{"prompt": "Why?"}', b"[]", b'{"prompt": "Why?", "reply_to": 1}'):
        sealed = seal(tee.keys.hpke, text, info=query_info(job.job_id, job.nonce), ephemeral=bytes(32))
        with pytest.raises(SealError, match="reply_to"):
            open_query(tee, job, Message("query", sealed=sealed))
    with pytest.raises(InputError, match="client secret"):
        order(
            "Why?", model_id=bytes(32), decoding=Decoding(1), job_id=bytes(32), nonce=bytes(32), seal_to=tee.keys.hpke
        )


def test_a_sealed_answer_opens_for_its_client_and_job_only() -> None:
    file = signed(sealed=True)
    assert b"Because" not in file.dump()
    assert b"Why?" not in file.dump()
    with pytest.raises(SealError):
        open_response(file, b"d" * 32)
    with pytest.raises(SealError):
        open_response(replace(file, job=replace(file.job, nonce=b"x" * 32)), CLIENT)


def test_an_answer_without_trace_is_not_signed() -> None:
    from otr_node.serve import sign_answer

    with pytest.raises(InputError, match="trace"):
        sign_answer(
            enclave(), SimpleNamespace(manifest=FILE.model), FILE.job, FILE.query, replace(answer(), trace=None)
        )


def test_importing_poea_loads_no_heavy_library() -> None:
    code = (
        "import sys, otr_core.poea; "
        "heavy = {'torch', 'transformers', 'eth_account', 'eth_keys', 'lxml'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


RAW = {sealed: signed(sealed=sealed).dump() for sealed in (False, True)}


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.data())
def test_any_altered_byte_is_unreadable_or_named(sealed: bool, data: st.DataObject) -> None:
    """A file with one byte changed, cut or doubled ends in a named error, or means the same as
    before."""
    raw = RAW[sealed]
    at, byte = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    altered = data.draw(
        st.sampled_from(
            [raw[:at] + bytes([byte]) + raw[at + 1 :], raw[:at] + raw[at + 1 :], raw[:at], raw[: at + 1] + raw[at:]]
        )
    )
    try:
        file = load_receipt_file(altered)
        verify_receipt(file, policy=ALLOW, as_of=NOW)
    except (InputError, ReceiptError):
        return
    same = load_receipt_file(raw)
    unbound = {"source_sha256": None, "weights_leaves": 1}
    assert replace(file, model=replace(file.model, **unbound)) == replace(same, model=replace(same.model, **unbound))
