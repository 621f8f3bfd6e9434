"""Proof of Execution Attestation (PoEA): receipts that bind model, query, trace and answer to an attested key.

Importing this package loads neither torch nor transformers nor an Ethereum library.
"""

from otr_core.poea.client import open_response, order
from otr_core.poea.document import FORMAT, ReceiptFile, load_receipt_file
from otr_core.poea.receipt import AttestedKeys, Job, Message, Receipt, SignedReceipt, issue_receipt, recover_signer
from otr_core.poea.sealing import open_sealed, seal
from otr_core.poea.simulated import appraise_simulated
from otr_core.poea.tee import EvidencePolicy, TeeClaims
from otr_core.poea.verify import CHECKS, Verification, verify_receipt

__all__ = [
    "CHECKS",
    "FORMAT",
    "AttestedKeys",
    "EvidencePolicy",
    "Job",
    "Message",
    "Receipt",
    "ReceiptFile",
    "SignedReceipt",
    "TeeClaims",
    "Verification",
    "appraise_simulated",
    "issue_receipt",
    "load_receipt_file",
    "open_response",
    "open_sealed",
    "order",
    "recover_signer",
    "seal",
    "verify_receipt",
]
