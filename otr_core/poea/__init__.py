"""Proof of Execution Attestation (PoEA): receipts that bind an answer to an attested key.

Importing this package loads neither an Ethereum library nor numpy: eth_keys costs half a second,
more than a check takes, and is imported by the two functions that sign and recover; numpy is needed
for annotations alone.
"""

from otr_core.poea.client import open_response, order
from otr_core.poea.document import load_receipt_file
from otr_core.poea.receipt import Job, Message, Receipt
from otr_core.poea.verify import CHECKS, verify_receipt

__all__ = ["CHECKS", "Job", "Message", "Receipt", "load_receipt_file", "open_response", "order", "verify_receipt"]
