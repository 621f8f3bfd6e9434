"""Accept or reject a PoEA receipt: numbered checks with stable names, run in order.

The checks decide what attestation and signatures can decide: who answered which order, for which
model, with which tokens. They cannot decide whether the TEE told the truth about the execution: a
broken TEE passes all of them. Finding such a lie is left to disputes and spot checks, which judge
and prove the very statement that the receipt signs.
"""

from __future__ import annotations

from dataclasses import dataclass

from otr_core import merkle
from otr_core.errors import InputError, ProofError, ReceiptError
from otr_core.lane.formats import PORTABLE
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Query, Response
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Order
from otr_core.poea.receipt import configuration_digest, recover_signer
from otr_core.poea.tee import Appraiser, EvidencePolicy
from otr_core.poea.trace import seed_hash, token_leaves

#: Name and meaning of each check, in the order they run.
CHECKS = {
    "appraisal": "the evidence is genuine, in date and acceptable to the policy",
    "keys-bound": "the first half of report_data is the hash of the keys shown, and the receipt names these keys",
    "gpu-nonce-bound": "the second half of report_data is the nonce in the GPU's signed report",
    "measured-model": "measured model = the manifest's = the order's",
    "order": "the order shown is the client's, and its id is the one in the receipt",
    "query-digest": "the query's bytes give the digest in the order",
    "lane": "the lane is the model's, and the configuration's",
    "trace-shape": "layers and rows of the trace are the model's",
    "length": "at most the tokens ordered were chosen, and all fit the model's context",
    "finish": "an answer that ended for its length has all the tokens ordered",
    "prompt": "the trace's token tree begins with the ordered prompt",
    "response-digest": "the response's bytes give the digest in the receipt, sealed if the query was",
    "configuration-digest": "the configuration shown gives the digest in the receipt",
    "signature": "the receipt is signed by the attested key, under the domain of the order",
}

#: Of the response's content, which is made where it is in the open, or by the client that opens it.
CONTENT_CHECKS = {
    "response": "the response is one to this order",
    "prompt-tokens": "the query's token ids give the order's prompt root",
    "answer-tokens": "as many token ids as the receipt says, each of the model's vocabulary",
    "stop": "a stop token ends the answer if and only if the receipt says so",
    "trace-seed": "the trace's seed gives the hash in the receipt",
    "tokens-root": "prompt and answer give the token tree in the receipt",
}

FRESHNESS = {"freshness": "the order's nonce was not accepted before"}
"""The last check, made where the verifier keeps a store of nonces."""

_VALUE_BYTES = {"native-float32": 4, "native-bfloat16": 2, **dict.fromkeys(PORTABLE, 4), "h100-bf16": 4}
"""Bytes of a value in the trace, by lane."""


@dataclass(frozen=True)
class Verification:
    """An accepted receipt: it has passed every check that was made.

    Attributes:
        simulated: whether the TEE was a simulated one.
        signer: 20-byte address of the attested key.
        order_from: "client", or "file": then the checks say nothing about what anybody ordered.
        content: whether the checks of ``CONTENT_CHECKS`` were made.
    """

    simulated: bool
    signer: bytes
    order_from: str
    content: bool


def verify_receipt(
    file: ReceiptFile,
    *,
    policy: EvidencePolicy,
    as_of: int,
    order: Order | None = None,
    order_from: str = "client",
    nonces: OnceStore | None = None,
    appraise: Appraiser = appraise_evidence,
) -> Verification:
    """Run the checks in this order, without the model and without the client's key:

    1. ``appraisal``: the evidence is genuine, in date and acceptable to the policy.
    2. ``keys-bound``: the first half of report_data is the hash of the keys shown, and the receipt
       names these keys.
    3. ``gpu-nonce-bound``: the second half of report_data is the nonce in the GPU's signed report.
    4. ``measured-model``: measured model = the manifest's = the order's.
    5. ``order``: the order shown is the client's, and its id is the one in the receipt.
    6. ``query-digest``: the query's bytes give the digest in the order.
    7. ``lane``: the lane is the model's, and the configuration's.
    8. ``trace-shape``: layers and rows of the trace are the model's.
    9. ``length``: at most the tokens ordered were chosen, and all fit the model's context.
    10. ``finish``: an answer that ended for its length has all the tokens ordered.
    11. ``prompt``: the trace's token tree begins with the ordered prompt.
    12. ``response-digest``: the response's bytes give the digest in the receipt, sealed if the
        query was.
    13. ``configuration-digest``: the configuration shown gives the digest in the receipt.
    14. ``signature``: the receipt is signed by the attested key, under the domain of the order.

    Then those of ``check_answered``, where query and response travelled in the open; and last
    ``freshness``.

    Args:
        policy: what evidence is acceptable. as_of: time of the judgement, Unix seconds.
        order: the client's own copy of the order. order_from: "file" says that there is none and
            that the one in the file is taken; the result repeats it.
        nonces: of orders whose answers were accepted before; the order's is added.
        appraise: how evidence is judged.

    Raises:
        ReceiptError: the first check that fails, with what was found and expected.
        InputError: no order, and not told to take the file's.
    """
    if (order_from, order is None) not in (("client", False), ("file", True)):
        found = "none" if order is None else "one"
        raise InputError(
            f"order: found {found} with order_from {order_from!r}, expected your own, or order_from 'file'"
        )
    receipt, ordered = file.receipt, file.order if order is None else order

    # 1. appraisal: the evidence is genuine, in date and acceptable to the policy.
    claims = appraise(file.evidence, policy, as_of)

    # 2. keys-bound: the first half of report_data is the hash of the keys shown, and the receipt
    # names these keys.
    _equal("keys-bound", file.keys.digest, claims.report_data[:32])
    _equal("keys-bound", receipt.key_id, file.keys.digest)

    # 3. gpu-nonce-bound: the second half of report_data is the nonce in the GPU's signed report.
    _equal("gpu-nonce-bound", claims.gpu_nonce, claims.report_data[32:])

    # 4. measured-model: measured model = the manifest's = the order's.
    _equal("measured-model", file.model.model_id, claims.measured_model)
    _equal("measured-model", ordered.model_id, claims.measured_model)

    # 5. order: the order shown is the client's, and its id is the one in the receipt.
    _equal("order", file.order.id, ordered.id)
    _equal("order", receipt.order_id, ordered.id)

    # 6. query-digest: the query's bytes give the digest in the order.
    _equal("query-digest", file.query.digest, ordered.query_digest)

    # 7. lane: the lane is the model's, and the configuration's.
    if not receipt.lane == file.model.lane == file.configuration.get("lane"):
        found = f"{receipt.lane}, and {str(file.configuration.get('lane'))[:40]} in the configuration"
        raise ReceiptError("lane", found, file.model.lane)

    # 8. trace-shape: layers and rows of the trace are the model's.
    model, value = file.model.architecture, _VALUE_BYTES[file.model.lane]
    shape = (receipt.layers, receipt.output_bytes, receipt.kv_bytes)
    expected = (model.layers, model.hidden * value, model.kv_heads * model.head_dim * value)
    if shape != expected:
        raise ReceiptError("trace-shape", shape, expected)

    # 9. length: at most the tokens ordered were chosen, and all fit the model's context.
    most = ordered.decoding.max_tokens
    if receipt.answer_tokens > most:
        raise ReceiptError("length", f"{receipt.answer_tokens} tokens chosen", f"at most {most}")
    if receipt.prompt_tokens + receipt.answer_tokens > model.context:
        found = f"{receipt.prompt_tokens} and {receipt.answer_tokens} tokens"
        raise ReceiptError("length", found, f"at most {model.context} in all")

    # 10. finish: an answer that ended for its length has all the tokens ordered.
    if receipt.finish == "length" and receipt.answer_tokens != most:
        raise ReceiptError("finish", f"'length' after {receipt.answer_tokens} tokens", f"after {most}")

    # 11. prompt: the trace's token tree begins with the ordered prompt.
    if receipt.prompt_tokens != ordered.prompt_tokens:
        raise ReceiptError("prompt", f"{receipt.prompt_tokens} tokens", f"the {ordered.prompt_tokens} ordered")
    tokens = receipt.prompt_tokens + receipt.answer_tokens
    try:
        roots = (ordered.prompt_root, receipt.tokens_root)
        merkle.verify_consistency(*roots, receipt.prompt_tokens, tokens, file.prompt_proof)
    except ProofError as error:
        raise ReceiptError("prompt", error, "a token tree that begins with the ordered prompt") from error

    # 12. response-digest: the response's bytes give the digest in the receipt, sealed if the query
    # was.
    _equal("response-digest", file.response.digest, receipt.response_digest)
    if (file.query.sealed is None) != (file.response.sealed is None):
        raise ReceiptError("response-digest", "query and response, one of them sealed", "both or neither")

    # 13. configuration-digest: the configuration shown gives the digest in the receipt.
    _equal("configuration-digest", configuration_digest(file.configuration), receipt.configuration_digest)

    # 14. signature: the receipt is signed by the attested key, under the domain of the order.
    signer = recover_signer(ordered.domain, receipt, file.signature)
    _equal("signature", signer, file.keys.address)

    content = file.query.plain is not None and file.response.plain is not None
    if content:
        try:
            said, response = Query.from_json(file.query.plain, sealed=False), Response.from_json(file.response.plain)
        except InputError as error:
            raise ReceiptError("response", error, "a query and a response of token ids") from error
        check_answered(file, said, response)
    if nonces is not None:
        claim_nonce(nonces, ordered)
    return Verification(claims.simulated, signer, order_from, content)


def check_answered(file: ReceiptFile, said: Query, response: Response) -> None:
    """Hold what query and response say against order and receipt, in this order:

    1. ``prompt-tokens``: the query's token ids give the order's prompt root.
    2. ``answer-tokens``: as many token ids as the receipt says, each of the model's vocabulary.
    3. ``stop``: a stop token ends the answer if and only if the receipt says so.
    4. ``trace-seed``: the trace's seed gives the hash in the receipt.
    5. ``tokens-root``: prompt and answer give the token tree in the receipt.

    Raises:
        ReceiptError: the first check that fails.
    """
    receipt, model, ids = file.receipt, file.model.architecture, response.token_ids
    leaves = token_leaves(said.prompt_ids, said.prompt_seed, ids, response.trace_seed)

    # 1. prompt-tokens: the query's token ids give the order's prompt root.
    if len(said.prompt_ids) != receipt.prompt_tokens:
        raise ReceiptError("prompt-tokens", f"{len(said.prompt_ids)} token ids", f"{receipt.prompt_tokens}")
    _equal("prompt-tokens", merkle.root(leaves[: len(said.prompt_ids)]), file.order.prompt_root)

    # 2. answer-tokens: as many token ids as the receipt says, each of the model's vocabulary.
    if len(ids) != receipt.answer_tokens:
        raise ReceiptError("answer-tokens", f"{len(ids)} token ids", f"{receipt.answer_tokens}")
    if beyond := [token for token in (*said.prompt_ids, *ids) if token >= model.vocab]:
        raise ReceiptError("answer-tokens", f"token {beyond[0]}", f"ids below {model.vocab}")

    # 3. stop: a stop token ends the answer if and only if the receipt says so.
    ending = frozenset(model.stop_ids)
    stops = [at for at, token in enumerate(ids, 1) if token in ending]
    if stops != ([len(ids)] if receipt.finish == "stop" else []):
        raise ReceiptError(
            "stop", f"stop tokens at {stops[:3]} of {len(ids)}", f"as finish {receipt.finish!r} has them"
        )

    # 4. trace-seed: the trace's seed gives the hash in the receipt.
    _equal("trace-seed", seed_hash(response.trace_seed), receipt.seed_hash)

    # 5. tokens-root: prompt and answer give the token tree in the receipt.
    _equal("tokens-root", merkle.root(leaves), receipt.tokens_root)


def claim_nonce(nonces: OnceStore, order: Order) -> None:
    """Claim the nonce of an order whose answer has passed every other check.

    Raises:
        ReceiptError: check "freshness": it was claimed before.
    """
    if not nonces.claim(order.nonce):
        raise ReceiptError("freshness", f"nonce {order.nonce.hex()} accepted before", "a nonce never seen")


def _equal(check: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ReceiptError(check, found.hex(), expected.hex())
