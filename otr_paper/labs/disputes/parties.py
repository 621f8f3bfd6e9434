"""Who meets in a dispute: the callers, a broken TEE that signs whatever was run, a court that knows
both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from coincurve import PrivateKey

from otr_core.dispute.court import Court, receipt_leaf
from otr_core.dispute.records import Terms
from otr_core.dispute.registry import Key
from otr_core.dispute.state import RegisteredModel
from otr_core.poea.message import Message, Response
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import AttestedKeys, SignedReceipt, make_receipt, sign_receipt
from otr_node.chain.onchain import FIRST_COURT
from otr_node.commitment import ModelTrees
from otr_node.run import Run

REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER = (f"0x{i:040x}" for i in range(0xA1, 0xA6))
"""Callers of a court. ``both.Both`` gives each of them an account on its chain."""
KEY = hashlib.sha256(b"key").digest()
"""The attested key (32 bytes) of a TEE that is broken: the operator has it, and signs with it
whatever was run."""
KEYS = AttestedKeys(PrivateKey(KEY).public_key.format(compressed=False), hashlib.sha256(b"hpke").digest())
KEY_ID = KEYS.digest


def vouched(order: Order, claimed: Run, **changes: Any) -> SignedReceipt:
    """The broken TEE's receipt: ``claimed`` is passed off as an answer to ``order``, whatever was
    run. An answer shorter than ordered is said to have stopped.

    Args:
        changes: fields of the receipt that say something else.
    """
    said = Message("response", plain=Response(claimed.token_ids, claimed.seed).to_json())
    finish = "length" if len(claimed.token_ids) == order.decoding.max_tokens else "stop"
    how: dict[str, Any] = {"response": said, "configuration": claimed.model.configuration(), "keys": KEYS}
    stated = make_receipt(order, claimed.trace, prompt_tokens=len(claimed.prompt_ids), finish=finish, **how)
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
    return court.register_key(now, registrar, KEY_ID, registered_key(operator, model_id))


def registered_model(trees: ModelTrees) -> RegisteredModel:
    """The registry's entry for a model."""
    return RegisteredModel(trees.dims, trees.weights_root, trees.tables_root, trees.stop_ids)


def registered_key(operator: str, model_id: bytes) -> Key:
    """The registry's entry for ``KEY``: whose it is, and which model its TEE has measured."""
    return Key(operator, model_id, KEYS.address)
