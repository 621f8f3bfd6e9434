"""Proof of Efficient Attribution (PoEA), as the texts call it: receipts that bind an answer to an
order and an attested key."""

from otr_core.poea.client import CheckedAnswer, PlacedOrder, check_answer, load_order, place_order
from otr_core.poea.document import load_receipt_file
from otr_core.poea.message import Message
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import Receipt
from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, verify_receipt

__all__ = [
    "CHECKS",
    "CONTENT_CHECKS",
    "CheckedAnswer",
    "Domain",
    "Message",
    "OnceStore",
    "Order",
    "PlacedOrder",
    "Receipt",
    "check_answer",
    "load_order",
    "load_receipt_file",
    "place_order",
    "verify_receipt",
]
