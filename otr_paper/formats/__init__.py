"""Receipts of other people: read, checked, and compared with ours."""

from otr_paper.formats.aci import check_aci_receipt, receipt_formats, to_aci
from otr_paper.formats.computation import check_computation_chain, check_computation_receipt

__all__ = [
    "check_aci_receipt",
    "check_computation_chain",
    "check_computation_receipt",
    "receipt_formats",
    "to_aci",
]
