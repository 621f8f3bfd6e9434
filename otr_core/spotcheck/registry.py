"""The model's side of a proof: the KZG point of every weight block under one Merkle root, made once per model.

Anyone with the weights can make it again and compare: the points are deterministic for a reference string. ``private``
weights, which most circuits use, would bind nothing: a proof then says only that some weights exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otr_core import merkle
from otr_core.encoding import canonical_json
from otr_core.errors import InputError

Block = tuple[int, str, int]
"""(layer, operator, block)."""


@dataclass(frozen=True)
class Registered:
    """One entry with its audit path, as an operator or a contract presents it."""

    block: Block
    points: tuple[bytes, ...]
    index: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class Registry:
    """Points by block, in order, and the root over them."""

    points: Mapping[Block, tuple[bytes, ...]]

    @property
    def root(self) -> bytes:
        return merkle.root(self._leaves())

    def entry(self, block: Block) -> Registered:
        """The entry of a block.

        Raises:
            InputError: it was not registered.
        """
        if block not in self.points:
            raise InputError(f"registry: no entry for layer {block[0]}, {block[1]} block {block[2]}")
        index = list(self.points).index(block)
        return Registered(block, self.points[block], index, tuple(merkle.inclusion_proof(self._leaves(), index)))

    def _leaves(self) -> list[bytes]:
        return [registry_leaf(block, points) for block, points in self.points.items()]


def registry_leaf(block: Block, points: tuple[bytes, ...]) -> bytes:
    """Content of one registry leaf: which block, and its points."""
    return canonical_json(list(block)) + b"".join(points)


def verify_entry(root: bytes, size: int, entry: Registered) -> tuple[bytes, ...]:
    """The points of an entry, after checking it against the registry's root over ``size`` entries.

    Raises:
        ProofError: it is not there.
    """
    hashed = merkle.leaf_hash(registry_leaf(entry.block, entry.points))
    merkle.verify_inclusion(root, hashed, entry.index, size, entry.proof)
    return entry.points
