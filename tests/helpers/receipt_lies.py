"""Signed receipts that break one condition of the registry each: an operator with the attested key
states what it likes."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import Any

from otr_core.dispute.court import Court
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import GROUP_ORDER, Receipt, SignedReceipt, sign_receipt
from otr_paper.labs.disputes.parties import (
    KEY,
    KEY_ID,
    OPERATOR,
    OTHER,
    REGISTRAR,
    registered_key,
    registered_model,
    vouched,
)
from otr_paper.labs.disputes.world import START, tiny

OTHER_MODEL, UNKNOWN_MODEL = b"n" * 32, b"u" * 32
OTHERS_KEY, UNKNOWN_MODELS_KEY = b"y" * 32, b"u" * 32


def more_registered(court: Court, operator: str = OPERATOR, other: str = OTHER, registrar: str = REGISTRAR) -> Court:
    """A second model, a key of another operator, and a key that was attested for no registered
    model."""
    court = court.register_model(registrar, OTHER_MODEL, registered_model(tiny().trees))
    court = court.register_key(START, registrar, OTHERS_KEY, registered_key(other, tiny().order.model_id))
    return court.register_key(START, registrar, UNKNOWN_MODELS_KEY, registered_key(operator, UNKNOWN_MODEL))


def signed_as(order: Order, receipt: Receipt, **changes: Any) -> SignedReceipt:
    """Signed with members that no ``Receipt`` would take; calldata holds any."""
    changed = copy.copy(receipt)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return sign_receipt(KEY, order, changed)


def lies(domain: Domain) -> dict[str, tuple[str, SignedReceipt]]:
    """By what is false: the condition that it breaks, and the receipt, for the court of
    ``domain``."""
    order, run = replace(tiny().order, domain=domain), tiny().honest
    honest, most, d = vouched(order, run), order.decoding.max_tokens, tiny().trees.dims
    r, s, v = honest.signature[:32], int.from_bytes(honest.signature[32:64], "big"), honest.signature[64]
    twin = r + (GROUP_ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    elsewhere = sign_receipt(KEY, replace(order, domain=replace(domain, chain_id=domain.chain_id + 1)), honest.receipt)
    stranger = sign_receipt(hashlib.sha256(b"stranger").digest(), order, honest.receipt)
    unknown, another = replace(order, model_id=UNKNOWN_MODEL), replace(order, model_id=OTHER_MODEL)
    nothing, giant = replace(order, prompt_tokens=0), replace(order, prompt_tokens=d.context - most + 1)
    receipts: dict[str, tuple[str, SignedReceipt]] = {
        "unregistered model": ("model", vouched(unknown, run, key_id=UNKNOWN_MODELS_KEY)),
        "unknown key": ("key", vouched(order, run, key_id=b"x" * 32)),
        "another operator's key": ("key", vouched(order, run, key_id=OTHERS_KEY)),
        "another model": ("measured-model", vouched(another, run)),
        "another lane": ("lane", vouched(order, run, lane="native-float32")),
        "more layers": ("trace-shape", vouched(order, run, layers=d.layers + 1)),
        "other rows": ("trace-shape", vouched(order, run, output_bytes=4 * d.hidden + 4)),
        "other key rows": ("trace-shape", vouched(order, run, kv_bytes=4 * d.kv - 4)),
        "another configuration": ("configuration", vouched(order, run, configuration_digest=bytes(32))),
        "another prompt": ("prompt", vouched(order, run, prompt_tokens=honest.receipt.prompt_tokens + 1)),
        "no prompt": ("length", signed_as(nothing, replace(honest.receipt, order_id=nothing.id), prompt_tokens=0)),
        "no answer": ("length", signed_as(order, honest.receipt, answer_tokens=0, finish="stop")),
        "more than ordered": ("length", vouched(order, run, answer_tokens=most + 1, finish="stop")),
        "beyond the context": ("length", vouched(giant, run, prompt_tokens=giant.prompt_tokens)),
        "cut short": ("finish", vouched(order, run, answer_tokens=most - 1, finish="length")),
        "another's signature": ("signature", stranger),
        "signed for another chain": ("signature", replace(elsewhere, order=order)),
        "twin of the signature": ("signature", replace(honest, signature=twin)),
        "parity as a bit": ("signature", replace(honest, signature=honest.signature[:64] + bytes([v - 27]))),
        "zeros": ("signature", replace(honest, signature=bytes(65))),
    }
    assert honest.receipt.key_id == KEY_ID
    return receipts
