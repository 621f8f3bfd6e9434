"""Batches of a folder of answers, made so that no receipt ever lies in two: that convicts.

Places are written before a batch is sent, so that an operator that is killed in between sends the
same batch again. A receipt that was published on demand has its batch already, and one that lies in
the folder under two names has one place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.records import Batch
from otr_core.files import write_bytes
from otr_core.poea.order import Domain
from otr_node.chain.places import dump_place, place_alone

if TYPE_CHECKING:
    from otr_node.chain.answers import AnswerFiles


def batches_of(
    folder: Path, answers: Iterable[AnswerFiles], domain: Domain, operator: str, standing: Mapping[bytes, Batch]
) -> Iterator[Sequence[bytes]]:
    """The leaves of each batch that is to be sent; the places of what is in them are written already.

    Args:
        answers: of the folder. standing: batches of the court, by id, as it was read just now.
    """
    named, where = defaultdict[bytes, list[str]](list), dict[bytes, LeafPlace]()
    for each in answers:
        leaf = receipt_leaf(domain, each.file.receipt, each.file.signature)
        named[leaf].append(each.name)
        alone = place_alone(operator, merkle.leaf_hash(leaf))
        known = [alone] if alone.batch in standing else []
        known += [place for place in (where.get(leaf), each.place) if place is not None]
        if known:
            where[leaf] = min(known, key=lambda place: place.batch not in standing)
    planned, new = defaultdict[bytes, list[bytes]](list), [leaf for leaf in named if leaf not in where]
    for leaf, place in where.items():
        _write(folder, named[leaf], place)
        if place.batch not in standing:
            planned[place.batch].append(leaf)
    for batch, leaves in planned.items():
        leaves.sort(key=lambda leaf: where[leaf].at)
        if batch_id(operator, merkle.root(leaves)) == batch:  # planned before, and not sent or not mined
            yield leaves
        else:
            new += leaves
    if new:
        batch = batch_id(operator, merkle.root(new))
        for at, leaf in enumerate(new):
            _write(folder, named[leaf], LeafPlace(batch, at, tuple(merkle.inclusion_proof(new, at))))
        yield new


def _write(folder: Path, names: Iterable[str], place: LeafPlace) -> None:
    for name in names:
        write_bytes(folder / f"{name}.place.json", dump_place(place))
