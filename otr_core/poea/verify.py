"""Accept or reject a PoEA receipt: numbered checks with stable names, run in order.

The checks decide what attestation and signatures can decide: who answered which order, for which
model, with which words. They cannot decide whether the TEE told the truth about the execution: a
broken TEE passes all of them. Finding such a lie is left to disputes and spot checks.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from otr_core.errors import ReceiptError
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, configuration_digest, recover_signer
from otr_core.poea.tee import Appraiser, EvidencePolicy

#: Name and meaning of each check, in the order they run.
CHECKS = {
    "appraisal": "the evidence is genuine, in date and acceptable to the policy",
    "keys-bound": "the first half of report_data is the hash of the keys shown, and the receipt names these keys",
    "gpu-nonce-bound": "the second half of report_data is the nonce in the GPU's signed report",
    "measured-model": "measured model = manifest's = receipt's = the job's",
    "freshness": "job id and nonce are the job's, and the nonce was not seen before",
    "decoding": "decoding parameters are the job's",
    "query-digest": "the query's bytes give the digest in the receipt, which is the job's",
    "response-digest": "the response's bytes give the digest in the receipt",
    "configuration-digest": "the configuration shown gives the digest in the receipt",
    "signature": "the receipt is signed by the attested key",
}


@dataclass(frozen=True)
class Verification:
    """An accepted receipt: it has passed every check of ``CHECKS``.

    Attributes:
        simulated: whether the TEE was a simulated one.
        signer: 20-byte address of the attested key.
        nonce: 32 bytes, to be remembered as seen.
    """

    simulated: bool
    signer: bytes
    nonce: bytes


def verify_receipt(
    file: ReceiptFile,
    *,
    policy: EvidencePolicy,
    as_of: int,
    job: Job | None = None,
    seen: Container[bytes] = (),
    appraise: Appraiser = appraise_evidence,
) -> Verification:
    """Run the checks in this order, without the model and without the client's key:

    1. ``appraisal``: the evidence is genuine, in date and acceptable to the policy.
    2. ``keys-bound``: the first half of report_data is the hash of the keys shown, and the receipt
       names these keys.
    3. ``gpu-nonce-bound``: the second half of report_data is the nonce in the GPU's signed report.
    4. ``measured-model``: measured model = manifest's = receipt's = the job's.
    5. ``freshness``: job id and nonce are the job's, and the nonce was not seen before.
    6. ``decoding``: decoding parameters are the job's.
    7. ``query-digest``: the query's bytes give the digest in the receipt, which is the job's.
    8. ``response-digest``: the response's bytes give the digest in the receipt.
    9. ``configuration-digest``: the configuration shown gives the digest in the receipt.
    10. ``signature``: the receipt is signed by the attested key.

    Args:
        policy: what evidence is acceptable. as_of: time of the judgement, Unix seconds.
        job: the client's own copy of the order. Without it the copy in the file is taken: "the
            job's" then means "as the file states it", and a file that carries another order than
            the client's goes unnoticed.
        seen: nonces of receipts accepted before.
        appraise: how evidence is judged.

    Raises:
        ReceiptError: the first check that fails, with what was found and expected.
    """
    receipt = file.receipt
    ordered = file.job if job is None else job

    # 1. appraisal: the evidence is genuine, in date and acceptable to the policy.
    claims = appraise(file.evidence, policy, as_of)

    # 2. keys-bound: the first half of report_data is the hash of the keys shown, and the receipt
    # names these keys.
    _equal("keys-bound", file.keys.digest, claims.report_data[:32])
    _equal("keys-bound", receipt.key_id, file.keys.digest)

    # 3. gpu-nonce-bound: the second half of report_data is the nonce in the GPU's signed report.
    _equal("gpu-nonce-bound", claims.gpu_nonce, claims.report_data[32:])

    # 4. measured-model: measured model = manifest's = receipt's = the job's.
    _equal("measured-model", receipt.model_id, claims.measured_model)
    _equal("measured-model", file.model.model_id, receipt.model_id)
    _equal("measured-model", receipt.model_id, ordered.model_id)

    # 5. freshness: job id and nonce are the job's, and the nonce was not seen before.
    _equal("freshness", receipt.job_id, ordered.job_id)
    _equal("freshness", receipt.nonce, ordered.nonce)
    if receipt.nonce in seen:
        raise ReceiptError("freshness", f"nonce {receipt.nonce.hex()} seen before", "a nonce never seen")

    # 6. decoding: decoding parameters are the job's.
    if receipt.decoding != ordered.decoding:
        raise ReceiptError("decoding", receipt.decoding, ordered.decoding)

    # 7. query-digest: the query's bytes give the digest in the receipt, which is the job's.
    _equal("query-digest", file.query.digest, receipt.query_digest)
    _equal("query-digest", receipt.query_digest, ordered.query_digest)

    # 8. response-digest: the response's bytes give the digest in the receipt.
    _equal("response-digest", file.response.digest, receipt.response_digest)

    # 9. configuration-digest: the configuration shown gives the digest in the receipt.
    _equal("configuration-digest", configuration_digest(file.configuration), receipt.configuration_digest)

    # 10. signature: the receipt is signed by the attested key.
    signer = recover_signer(receipt, file.signature)
    _equal("signature", signer, file.keys.address)

    return Verification(claims.simulated, signer, receipt.nonce)


def _equal(check: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ReceiptError(check, found.hex(), expected.hex())
