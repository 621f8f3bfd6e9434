"""A court for the tiny model's operator, and a challenge of one of its answers, filed there."""

from __future__ import annotations

import hashlib
from typing import Any

from otr_core.dispute.court import Court
from otr_core.dispute.play import Filed, file_challenge
from otr_core.dispute.records import Terms
from otr_core.poea.receipt import sign_receipt
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes import parties
from otr_paper.labs.disputes.parties import FISHERMAN, KEY, OPERATOR
from otr_paper.labs.disputes.world import START, TERMS, tiny_receipt


def tiny_court(served: Served, terms: Terms = TERMS, arbiter: Any = None) -> Court:
    """A court with one staked operator whose key serves the model."""
    return parties.new_court(served.honest, terms, now=START, stake_wei=3 * terms.least_stake_wei, arbiter=arbiter)


def filed(court: Court, run: Run, token: int = 0, *, now: int = START + 1, challenger: str = FISHERMAN) -> Filed:
    """A batch of one receipt and an opened challenge of it."""
    signed = sign_receipt(KEY, tiny_receipt(run))
    return file_challenge(
        court,
        now=now,
        operator=OPERATOR,
        challenger=challenger,
        receipt=signed.receipt,
        signature=signed.signature,
        token=token,
        salt=hashlib.sha256(b"salt").digest(),
    )
