"""A court for the tiny model's operator, and a challenge of one of its answers, filed there."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import LeafPlace, challenge_hash
from otr_core.dispute.records import Terms
from otr_core.errors import MoveError
from otr_core.poea.receipt import SignedReceipt
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes import parties
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, leaf_of
from otr_paper.labs.disputes.world import START, TERMS, tiny_signed

SALT = b"s" * 32


def refused(reason: str, call: Any, *args: Any, **more: Any) -> None:
    """The call is refused for this reason."""
    with pytest.raises(MoveError) as failure:
        call(*args, **more)
    assert failure.value.reason == reason, failure.value


def root_of(*signed: SignedReceipt) -> bytes:
    """Root of a batch of these receipts."""
    return merkle.root([leaf_of(each) for each in signed])


def id_of(*signed: SignedReceipt) -> bytes:
    """Id of a batch of these receipts, committed by the operator."""
    return batch_id(OPERATOR, root_of(*signed))


def batch_of(court: Court, *signed: SignedReceipt, now: int = START + 1) -> Court:
    """The operator commits to a batch of these receipts."""
    return court.commit_batch(now, OPERATOR, root_of(*signed), len(signed))


def challenged(court: Court, who: str, now: int, signed: list[SignedReceipt], index: int = 0, token: int = 0) -> Court:
    """Someone commits to a challenge of one of them."""
    commitment = challenge_hash(who, id_of(*signed), index, token, SALT)
    return court.challenge(now, who, commitment, court.terms.bond_wei)


def opening_of(signed: list[SignedReceipt], index: int = 0, token: int = 0) -> dict[str, Any]:
    """What opens it."""
    path = tuple(merkle.inclusion_proof([leaf_of(each) for each in signed], index))
    shown: dict[str, Any] = {"batch": id_of(*signed), "index": index, "token": token, "salt": SALT, "path": path}
    return shown | vars(signed[index])


def opened(court: Court, who: str, number: int, now: int, signed: list[SignedReceipt], index: int = 0) -> Court:
    """Its owner opens it."""
    return court.open(now, who, number, **opening_of(signed, index))


def placed(place: LeafPlace, **changes: Any) -> LeafPlace:
    """Another place than the one given."""
    return LeafPlace(**{name: changes.get(name, getattr(place, name)) for name in ("batch", "at", "path")})


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
    root, number, salt = merkle.root([leaf_of(signed)]), len(court.challenges) + 1, hashlib.sha256(b"salt").digest()
    batch, court = batch_id(OPERATOR, root), court.commit_batch(now, OPERATOR, root, 1)
    commitment = challenge_hash(challenger, batch, 0, token, salt)
    court = court.challenge(now + 1, challenger, commitment, court.terms.bond_wei)
    opened: dict[str, Any] = {"batch": batch, "index": 0, "token": token, "salt": salt, **vars(signed)}
    return Filed(court.open(now + 2, challenger, number, path=(), **opened), number, now + 2)
