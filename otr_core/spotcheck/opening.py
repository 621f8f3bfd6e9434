"""How a spot check begins: from a receipt that is shown to be ordered, signed and committed, or from the
document of one that was begun, whose moves are all made again."""

from __future__ import annotations

from typing import Any

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.encoding import canonical_json, json_object, parse_canonical, strict_hex
from otr_core.errors import InputError, ProofError, SpotCheckError
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.document import load_receipt_file
from otr_core.poea.order import Order
from otr_core.poea.tee import Appraiser, EvidencePolicy
from otr_core.poea.verify import verify_receipt
from otr_core.spotcheck.protocol import FORMAT, SpotCheck, Stage
from otr_core.spotcheck.verify import LANE
from otr_core.spotcheck.wire import MESSAGE_FORMAT, CheckTerms, CommittedBatch

_MOST_HASHES = 64


def open_check(
    terms: CheckTerms,
    receipt: bytes,
    batch: CommittedBatch,
    index: int,
    path: tuple[bytes, ...],
    *,
    policy: EvidencePolicy,
    order: Order | None = None,
    appraise: Appraiser = appraise_evidence,
) -> SpotCheck:
    """Begin a check of a receipt, of which is shown first that it was ordered, signed and committed.

    1. The receipt passes ``verify_receipt`` for the time of its batch, its order among the checks.
    2. ``domain``: the order is under the chain and court of the terms.
    3. ``lane``: it is the lane whose answers can be checked.
    4. ``inclusion``: the receipt is in the batch, at this index.

    Args:
        receipt: the receipt file's bytes. batch: as this party has read it from the chain.
        index, path: where the receipt is in it. policy: what evidence is acceptable.
        order: this party's own copy; None: the one in the file is taken.

    Raises:
        InputError, ReceiptError, SpotCheckError: the first that fails; nobody is convicted.
    """
    # 1. The receipt passes ``verify_receipt`` for the time of its batch.
    file = load_receipt_file(receipt)
    whose = "file" if order is None else "client"
    verify_receipt(file, policy=policy, as_of=batch.time, order=order, order_from=whose, appraise=appraise)

    # 2. domain: the order is under the chain and court of the terms.
    if file.order.domain != terms.domain:
        raise SpotCheckError("domain", file.order.domain, terms.domain)

    # 3. lane: it is the lane whose answers can be checked.
    if file.receipt.lane != LANE:
        raise SpotCheckError("lane", file.receipt.lane, LANE)

    # 4. inclusion: the receipt is in the batch, at this index.
    leaf = merkle.leaf_hash(receipt_leaf(terms.domain, file.receipt, file.signature))
    try:
        merkle.verify_inclusion(batch.root, leaf, index, batch.size, path)
    except ProofError as error:
        raise SpotCheckError("inclusion", error, "a receipt of the batch") from error
    return SpotCheck(terms, file, batch, index, path)


def load_check(
    raw: bytes, *, policy: EvidencePolicy, order: Order | None = None, appraise: Appraiser = appraise_evidence
) -> SpotCheck:
    """Read a check by making every move again, up to an answer, which is for its reader to judge.

    Args:
        policy, order, appraise: as for ``open_check``. The batch is taken as the document has it:
            a party holds it against the chain.

    Raises:
        InputError, ReceiptError, SpotCheckError, BeaconError: it is no such check.
    """
    keys = ("format", "terms", "batch", "index", "path", "receipt", "events")
    found = parse_canonical(raw, FORMAT, keys, what="spot check")
    path, events, index = found["path"], found["events"], found["index"]
    if not isinstance(path, list) or len(path) > _MOST_HASHES or type(index) is not int:
        raise InputError(f"spot check path: expected a list of at most {_MOST_HASHES} hashes and a number")
    if not isinstance(events, list) or len(events) > _MOST_HASHES:
        raise InputError(f"spot check events: expected a list of at most {_MOST_HASHES}")
    hashes = tuple(strict_hex(each, length=32, what="spot check path") for each in path)
    check = open_check(
        CheckTerms.from_json(found["terms"]),
        canonical_json(found["receipt"]) + b"\n",
        CommittedBatch.from_json(found["batch"]),
        index,
        hashes,
        policy=policy,
        order=order,
        appraise=appraise,
    )
    for event in events:
        check = _again(check, event)
    return check


def _again(check: SpotCheck, event: Any) -> SpotCheck:
    kind = json_object(event, what="spot check event").get("kind")
    if kind == "round":
        signature = strict_hex(json_object(event, ("kind", "signature"), what="round")["signature"], what="round")
        return check.draw(signature) if check.stage is Stage.INCLUDED else check.draw_units(signature)
    at = event.get("at")
    if type(at) is not int:
        raise InputError(f"spot check event at: found {str(at)[:40]!r}, expected Unix seconds")
    if kind == "rows":
        told = json_object(json_object(event, ("kind", "at", "message"), what="rows")["message"], what="rows")
        return check.commit_rows(at, canonical_json({"format": MESSAGE_FORMAT, **told}) + b"\n")
    json_object(event, ("kind", "at"), what="lapse")
    if kind != "lapse":
        raise InputError(f"spot check event: found {str(kind)[:40]!r}, expected round, rows or lapse")
    return check.lapse(at)
