"""Proof of Execution Attestation (PoEA): receipts that bind an answer to an attested key.

Importing this package loads no Ethereum library: eth_keys takes half a second to load, more than a
whole check, so the two functions that sign a receipt and recover its signer import it themselves.
"""

from otr_core.poea.client import open_response, order
from otr_core.poea.document import load_receipt_file
from otr_core.poea.receipt import Job, Message, Receipt
from otr_core.poea.verify import CHECKS, verify_receipt

__all__ = ["CHECKS", "Job", "Message", "Receipt", "load_receipt_file", "open_response", "order", "verify_receipt"]
