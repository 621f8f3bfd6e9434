"""Who meets in a dispute: the callers, a broken TEE that signs whatever was run, a court that knows
both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from coincurve import PrivateKey

from otr_core.dispute.court import Court, receipt_leaf
from otr_core.dispute.records import Terms
from otr_core.dispute.registry import LANE, Key
from otr_core.dispute.state import RegisteredModel
from otr_core.poea.order import Domain, Order, keccak256
from otr_core.poea.receipt import Receipt, SignedReceipt, sign_receipt
from otr_node.chain.onchain import FIRST_COURT
from otr_node.commitment import ModelTrees
from otr_node.run import Run

REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER = (f"0x{i:040x}" for i in range(0xA1, 0xA6))
"""Callers of a court. ``both.Both`` gives each of them an account on its chain."""
KEY = hashlib.sha256(b"key").digest()
"""The attested key (32 bytes) of a TEE that is broken: the operator has it, and signs with it
whatever was run."""
KEY_ID = hashlib.sha256(b"key id").digest()


def vouched(order: Order, claimed: Run, **changes: Any) -> SignedReceipt:
    """The broken TEE's receipt: ``claimed`` is passed off as an answer to ``order``, whatever was
    run.

    Digests that no move of a dispute reads are hashes of their names. An answer shorter than
    ordered is said to have stopped.

    Args:
        changes: fields of the receipt that say something else.
    """
    trace, chosen = claimed.trace, len(claimed.token_ids)
    stated = Receipt(
        order_id=order.id,
        prompt_tokens=len(claimed.prompt_ids),
        answer_tokens=chosen,
        finish="length" if chosen == order.decoding.max_tokens else "stop",
        states_root=trace.states_root,
        tokens_root=trace.tokens_root,
        seed_hash=trace.seed_hash,
        response_digest=hashlib.sha256(b"response_digest").digest(),
        lane=LANE,
        layers=trace.shape.layers,
        output_bytes=trace.shape.output_bytes,
        kv_bytes=trace.shape.kv_bytes,
        configuration_digest=hashlib.sha256(b"configuration_digest").digest(),
        key_id=KEY_ID,
    )
    return sign_receipt(KEY, order, replace(stated, **changes))


def leaf_of(signed: SignedReceipt) -> bytes:
    """Content of the leaf that a receipt has in a batch."""
    return receipt_leaf(signed.order.domain, signed.receipt, signed.signature)


def new_court(
    honest: Run,
    terms: Terms,
    domain: Domain = FIRST_COURT,
    *,
    now: int,
    stake_wei: int,
    registrar: str = REGISTRAR,
    operator: str = OPERATOR,
    arbiter: Any = None,
) -> Court:
    """A court with one staked operator, who serves the model that ``honest`` runs under ``KEY``."""
    model_id = honest.model.manifest.model_id
    court = Court(terms, domain, registrar, arbiter).register(now, operator, stake_wei)
    court = court.register_model(registrar, model_id, registered_model(honest.trees))
    return court.register_key(registrar, KEY_ID, registered_key(operator, model_id))


def registered_model(trees: ModelTrees) -> RegisteredModel:
    """The registry's entry for a model."""
    return RegisteredModel(trees.dims, trees.weights_root, trees.tables_root)


def registered_key(operator: str, model_id: bytes) -> Key:
    """The registry's entry for ``KEY``: whose it is, and which model its TEE has measured."""
    return Key(operator, model_id, keccak256(PrivateKey(KEY).public_key.format(compressed=False)[1:])[12:])
