"""Who meets in a dispute: the callers, a broken TEE that signs whatever was run, a court that knows
both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from eth_keys import keys

from otr_core.dispute.court import Court
from otr_core.dispute.records import Key, Terms
from otr_core.dispute.state import RegisteredModel
from otr_core.poea.receipt import Receipt, SignedReceipt, sign_receipt
from otr_node.commitment import ModelTrees
from otr_node.run import Run

REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER = (f"0x{i:040x}" for i in range(0xA1, 0xA6))
"""Callers of a court. ``both.Both`` gives each of them an account on its chain."""
KEY = keys.PrivateKey(hashlib.sha256(b"key").digest())
"""The attested key of a TEE that is broken: the operator has it, and signs with it whatever was
run."""
KEY_ID = hashlib.sha256(b"key id").digest()
_UNDISPUTED = hashlib.sha256(b"-").digest()


def receipt_of(run: Run, **changes: Any) -> Receipt:
    """What a receipt says of ``run``; ``_UNDISPUTED`` stands for the digests that no move of a
    dispute reads."""
    model_id, shape, root = run.model.manifest.model_id, run.trace.shape, run.trace.root
    rest = dict.fromkeys(("job_id", "nonce", "query_digest", "response_digest", "configuration_digest"), _UNDISPUTED)
    receipt = Receipt(model_id=model_id, decoding=run.decoding, trace=shape, trace_root=root, key_id=KEY_ID, **rest)
    return replace(receipt, **changes)


def vouched(honest: Run, claimed: Run) -> SignedReceipt:
    """The broken TEE's receipt: ``claimed`` is passed off as a run of the model that ``honest``
    runs."""
    return sign_receipt(KEY, receipt_of(claimed, model_id=honest.model.manifest.model_id))


def new_court(
    honest: Run,
    terms: Terms,
    *,
    now: int,
    stake_wei: int,
    registrar: str = REGISTRAR,
    operator: str = OPERATOR,
    arbiter: Any = None,
) -> Court:
    """A court with one staked operator, who serves the model that ``honest`` runs under ``KEY``."""
    model_id = honest.model.manifest.model_id
    court = Court(terms, registrar, arbiter).register(now, operator, stake_wei)
    court = court.register_model(registrar, model_id, registered_model(honest.trees))
    return court.register_key(registrar, KEY_ID, registered_key(operator, model_id))


def registered_model(trees: ModelTrees) -> RegisteredModel:
    """The registry's entry for a model."""
    return RegisteredModel(trees.dims, trees.weights_root, trees.tables_root)


def registered_key(operator: str, model_id: bytes) -> Key:
    """The registry's entry for ``KEY``: whose it is, and which model its TEE has measured."""
    return Key(operator, model_id, bytes(KEY.public_key.to_canonical_address()))
