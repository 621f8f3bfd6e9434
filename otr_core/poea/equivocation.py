"""Two answers under one order: evidence that anybody can check and a court can slash for."""

from __future__ import annotations

from dataclasses import dataclass

from otr_core.errors import ReceiptError
from otr_core.poea.receipt import SignedReceipt, recover_signer


@dataclass(frozen=True)
class Equivocation:
    """Two signed receipts of one order that say different things. One order has one answer: an
    honest enclave that is asked twice signs the same bytes twice."""

    first: SignedReceipt
    second: SignedReceipt

    def check(self, addresses: tuple[bytes, bytes]) -> None:
        """Whether the evidence convicts whoever holds the keys behind ``addresses`` (20 bytes
        each).

        Raises:
            ReceiptError: check "order": they do not answer one order. "statement": they say the
                same. "signature": one is not signed by its key.
        """
        for signed, address in zip((self.first, self.second), addresses, strict=True):
            if not signed.receipt.order_id == signed.order.id == self.first.order.id:
                raise ReceiptError("order", signed.receipt.order_id.hex(), self.first.order.id.hex())
            signer = recover_signer(signed.order.domain, signed.receipt, signed.signature)
            if signer != address:
                raise ReceiptError("signature", signer.hex(), address.hex())
        if self.first.receipt == self.second.receipt:
            raise ReceiptError("statement", "the same twice", "two receipts that differ")
