"""The file that says where a receipt was committed."""

from __future__ import annotations

from pathlib import Path

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import LeafPlace
from otr_core.encoding import canonical_json, parse_canonical, strict_hex
from otr_core.errors import InputError
from otr_core.files import write_bytes

PLACE_FORMAT = "otr-place/1"


def place_alone(operator: str, leaf: bytes) -> LeafPlace:
    """Where a receipt lies that was published on demand: in a batch of its own.

    Args:
        leaf: hash of its leaf.
    """
    return LeafPlace(batch_id(operator, leaf), 0, ())


def dump_place(place: LeafPlace) -> bytes:
    """The file that says where a receipt was committed."""
    path = [each.hex() for each in place.path]
    return canonical_json({"format": PLACE_FORMAT, "batch": place.batch.hex(), "at": place.at, "path": path}) + b"\n"


def load_place(raw: bytes) -> LeafPlace:
    """Read such a file.

    Raises:
        InputError: it is none.
    """
    document = parse_canonical(raw, PLACE_FORMAT, ("format", "batch", "at", "path"), what="place file")
    at, path = document["at"], document["path"]
    if type(at) is not int or at < 0 or not isinstance(path, list) or len(path) > 32:
        raise InputError("place file: expected a number and at most 32 hashes")
    hashes = tuple(strict_hex(each, length=32, what="place file path") for each in path)
    return LeafPlace(strict_hex(document["batch"], length=32, what="place file batch"), at, hashes)


def write_places(folder: Path, names: list[str], batch: bytes, leaves: list[bytes]) -> None:
    """Say of each answer of a batch where it lies in it."""
    for at, name in enumerate(names):
        place = LeafPlace(batch, at, tuple(merkle.inclusion_proof(leaves, at)))
        write_bytes(folder / f"{name}.place.json", dump_place(place))
