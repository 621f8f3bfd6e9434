"""A court for the tiny model's operator, and a challenge of one of its answers, filed there."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from otr_core import merkle
from otr_core.dispute.court import Court, challenge_hash
from otr_core.dispute.records import Terms
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes import parties
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, leaf_of
from otr_paper.labs.disputes.world import START, TERMS, tiny_signed


def tiny_court(served: Served, terms: Terms = TERMS, arbiter: Any = None) -> Court:
    """A court with one staked operator whose key serves the model."""
    return parties.new_court(served.honest, terms, now=START, stake_wei=3 * terms.least_stake_wei, arbiter=arbiter)


class Filed(NamedTuple):
    """A court in which challenge ``number`` was opened at ``now`` (Unix seconds)."""

    court: Court
    number: int
    now: int


def filed(court: Court, run: Run, token: int = 0, *, now: int = START + 1, challenger: str = FISHERMAN) -> Filed:
    """A batch of one receipt, and a challenge of it that is committed and opened a second apart."""
    signed = tiny_signed(run)
    batch, number, salt = len(court.batches), len(court.challenges) + 1, hashlib.sha256(b"salt").digest()
    court = court.commit_batch(now, OPERATOR, merkle.root([leaf_of(signed)]), 1)
    commitment = challenge_hash(challenger, batch, 0, token, salt)
    court = court.challenge(now + 1, challenger, batch, commitment, court.terms.bond_wei)
    opened: dict[str, Any] = {"index": 0, "token": token, "salt": salt, **vars(signed)}
    return Filed(court.open(now + 2, challenger, number, path=(), **opened), number, now + 2)
