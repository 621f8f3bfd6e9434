"""Signed answers without a model: the receipt's rules do not depend on where tokens come from.

``signed`` is the honest operator, by the code that serves. ``forged`` is the free one: it holds the
attested key, chooses every message, commitment, count and size itself, and signs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from otr_core import merkle
from otr_core.lane.architecture import Architecture
from otr_core.lane.sampling import Decoding
from otr_core.poea import Domain, Message, Order, PlacedOrder, Receipt, place_order
from otr_core.poea.client import response_info
from otr_core.poea.document import ReceiptFile
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.message import Query, Response, pad
from otr_core.poea.receipt import configuration_digest, sign_receipt
from otr_core.poea.sealing import seal
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace, TraceShape, seed_hash, token_leaves
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer
from otr_node.serve import open_query, sign_answer, trace_seed

MODEL = Architecture(
    hidden=16,
    intermediate=32,
    layers=3,
    heads=2,
    kv_heads=1,
    head_dim=8,
    vocab=100,
    context=64,
    rms_eps=2**-10,
    rope_theta=10000.0,
    tied=True,
    stop_ids=(2, 7),
)
MANIFEST = ModelManifest("a1" * 32, 7, "b2" * 32, MODEL.config(), "c4" * 32, "native-float32")
CONFIGURATION = {"lane": "native-float32", "threads": 1}
DOMAIN = Domain(8453, bytes.fromhex("c0ffee") + bytes(17))
CLIENT, NOW = b"c" * 32, 1_800_000_000
ALLOW = EvidencePolicy(allow_simulated=True)
PROMPT, ANSWER = (5, 9, 11), (3, 4, 2)
"""Token ids; the answer ends with a stop token of ``MODEL``."""


def enclave(**changes: Any) -> SimulatedEnclave:
    fields: dict[str, Any] = {"model_id": MANIFEST.model_id, "gpu_nonce": b"\xab" * 32, "issued_at": NOW - 60}
    return SimulatedEnclave(**({"secret": b"s" * 32} | fields | changes))


def ordered(
    prompt: Sequence[int] = PROMPT,
    number: int = 1,
    *,
    sealed: bool = False,
    decoding: Decoding | None = None,
    tee: SimulatedEnclave | None = None,
    **changes: Any,
) -> PlacedOrder:
    """An order of ``prompt``; orders of other numbers have another job and nonce."""
    seal_to = (tee or enclave()).keys.hpke if sealed else None
    fields: dict[str, Any] = {"model_id": MANIFEST.model_id, "decoding": decoding or Decoding(16, 5, 700)}
    fields |= {"job_id": bytes([0xA0 + number]) * 32, "nonce": bytes([number, 0xCE]) * 16, "domain": DOMAIN}
    return place_order(prompt, seal_to=seal_to, **(fields | {"client_secret": CLIENT} | changes))


def answer(order: Order, said: Query, ids: Sequence[int] = ANSWER, tee: SimulatedEnclave | None = None) -> Answer:
    """An answer as ``generate`` gives it, with states of which only the hashes are made up."""
    shape = TraceShape(len(said.prompt_ids) + len(ids) - 1, MODEL.layers, 64, 32)
    seed = trace_seed(tee or enclave(), order)
    leaves = tuple(bytes([i % 256]) * 32 for i in range(shape.leaves))
    tokens = tuple(token_leaves(said.prompt_ids, said.prompt_seed, ids, seed))
    finish = "stop" if ids[-1] in MODEL.stop_ids else "length"
    trace = Trace(shape, leaves, seed_hash(seed), tokens)
    return Answer(tuple(said.prompt_ids), tuple(ids), finish, trace, dict(CONFIGURATION))


def signed(
    placed: PlacedOrder | None = None, *, ids: Sequence[int] = ANSWER, tee: SimulatedEnclave | None = None
) -> ReceiptFile:
    """The honest operator's receipt file for an order (default: ``ordered()``)."""
    tee, placed = tee or enclave(), placed or ordered()
    said = open_query(tee, placed.order, placed.query)
    model: Any = SimpleNamespace(manifest=MANIFEST)
    return sign_answer(tee, model, placed.order, placed.query, said, answer(placed.order, said, ids, tee))


def forged(
    placed: PlacedOrder,
    *,
    ids: Sequence[int] = ANSWER,
    prompt: Sequence[int] | None = None,
    seeds: tuple[bytes, bytes] | None = None,
    order: Order | None = None,
    response: Response | Message | bytes | None = None,
    configuration: Mapping[str, Any] = CONFIGURATION,
    statement: Mapping[str, Any] | None = None,
    tree: Sequence[bytes] | None = None,
    tee: SimulatedEnclave | None = None,
    **parts: Any,
) -> ReceiptFile:
    """A file in which all that is not chosen is as in an honest one, signed with the attested key.

    Args:
        ids, prompt, seeds: what the token tree commits to: chosen ids, prompt ids, and the seeds of
            prompt and trace.
        order: the one in the file. response: what the response says, whatever the tree has; bytes
            are sealed as they are. configuration: and its digest in the receipt.
        statement: fields of the receipt. tree: the token leaves. parts: of the file.
    """
    tee, order, said = tee or enclave(), order or placed.order, placed.said
    prompt = said.prompt_ids if prompt is None else prompt
    prompt_seed, own_seed = seeds or (said.prompt_seed, trace_seed(tee, order))
    tree = token_leaves(prompt, prompt_seed, ids, own_seed) if tree is None else tree
    says = Response(tuple(ids), own_seed) if response is None else response
    message = says if isinstance(says, Message) else reply(placed, says, order)
    fields: dict[str, Any] = {
        "order_id": order.id,
        "prompt_tokens": len(prompt),
        "answer_tokens": len(ids),
        "finish": "stop" if ids[-1] in MODEL.stop_ids else "length",
        "states_root": b"\xee" * 32,
        "tokens_root": merkle.root(tree),
        "seed_hash": seed_hash(own_seed),
        "response_digest": message.digest,
        "lane": MANIFEST.lane,
        "layers": MODEL.layers,
        "output_bytes": MODEL.hidden * 4,
        "kv_bytes": MODEL.kv_heads * MODEL.head_dim * 4,
        "configuration_digest": configuration_digest(configuration),
        "key_id": tee.keys.digest,
    }
    receipt = Receipt(**(fields | dict(statement or {})))
    file = ReceiptFile(
        order=order,
        model=MANIFEST,
        query=placed.query,
        response=message,
        prompt_proof=tuple(merkle.consistency_proof(tree, len(prompt))),
        configuration=configuration,
        receipt=receipt,
        signature=sign_receipt(tee.signing_key, order, receipt).signature,
        keys=tee.keys,
        evidence=tee.evidence(),
    )
    return replace(file, **parts)


def reply(placed: PlacedOrder, says: Response | bytes, order: Order | None = None) -> Message:
    """A response to ``placed``, sealed to its client if the query was."""
    if placed.said.reply_to is None:
        assert isinstance(says, Response)
        return Message("response", plain=says.to_json())
    padded = says if isinstance(says, bytes) else pad(says, says.token_ids)
    info = response_info(order or placed.order)
    return Message("response", sealed=seal(placed.said.reply_to, padded, info=info, ephemeral=b"e" * 32))


def resigned(file: ReceiptFile, tee: SimulatedEnclave | None = None, **changes: Any) -> ReceiptFile:
    """The file with fields of the receipt changed, signed again with the attested key."""
    receipt = replace(file.receipt, **changes)
    signature = sign_receipt((tee or enclave()).signing_key, file.order, receipt).signature
    return replace(file, receipt=receipt, signature=signature)
