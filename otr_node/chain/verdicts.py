"""Verdicts on drawn answers: what an arbiter looks at before it signs, and where its signature goes.

The beacon draws an answer, and its operator has to show that it is right. A proof of the whole
answer is too long for a contract; so two arbiters, who need not hold anything but the model, each
check the proof and sign, and the court takes what both have signed (``duties.two_keys``). An arbiter
believes nothing: place, receipt, key and tokens are checked again.
"""

from __future__ import annotations

from collections.abc import Callable

from otr_core import merkle
from otr_core.dispute.court import Court, receipt_leaf
from otr_core.dispute.duties import LeafPlace, spot_statement, spot_subject
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.state import Verdict
from otr_core.errors import OtrError, ProofError
from otr_core.poea.document import ReceiptFile


def vouch(
    court: Court, file: ReceiptFile, place: LeafPlace, check: Callable[[], object], sign: Callable[[bytes], bytes]
) -> bytes:
    """An arbiter's signature (65 bytes: r, s, v) under the verdict that a drawn answer is right.

    Args:
        court: as read from the chain. check: raises unless a proof of the answer in ``file`` holds.
        sign: signs 32 bytes.

    Raises:
        OtrError: the answer is not drawn, not where the place says, or its receipt convicts.
            What ``check`` raises: the proof does not hold.
    """
    subject = spot_subject(place.batch, place.at)
    batch = court.batches.get(place.batch)
    if batch is None or subject not in court.drawn:
        raise OtrError(f"drawn: found answer {place.at} of batch {place.batch.hex()}, expected one that was summoned")
    leaf = merkle.leaf_hash(receipt_leaf(court.domain, file.receipt, file.signature))
    try:
        merkle.verify_inclusion(batch.root, leaf, place.at, batch.size, place.path)
    except ProofError as error:
        raise OtrError(f"place: {error}") from error
    fault = court.fault_in(place.batch, file.order, file.receipt, file.signature)
    if fault or file.receipt.order_id != file.order.id:
        raise OtrError(f"receipt: found one that convicts ({fault or 'order'}), expected one without fault")
    check()
    return sign(spot_statement(court.domain, subject, Verdict.CHALLENGER_LOSES))


def summons(court: Court, place: LeafPlace) -> int:
    """Number of the duty to show the verdict on an answer.

    Raises:
        OtrError: none is due.
    """
    subject = spot_subject(place.batch, place.at)
    for number, each in enumerate(court.challenges, 1):
        if each.status == ChallengeStatus.SPOT and each.commitment == subject:
            return number
    raise OtrError(f"summons: found none for answer {place.at} of batch {place.batch.hex()}, expected one that is due")
