"""The model's side of a proof: the KZG point of every weight block under one Merkle root, made once per model.

Anyone with the weights can make it again and compare: the points are deterministic for a reference string. ``private``
weights, which most circuits use, would bind nothing: a proof then says only that some weights exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otr_core import merkle
from otr_core.encoding import canonical_json
from otr_core.errors import InputError
from otr_core.spotcheck import prover
from otr_core.spotcheck.units import Layout, Unit

if TYPE_CHECKING:
    from otr_core.inference.portable import PortableModel

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
        return [leaf(block, points) for block, points in self.points.items()]


def leaf(block: Block, points: tuple[bytes, ...]) -> bytes:
    """Content of one registry leaf: which block, and its points."""
    return canonical_json(list(block)) + b"".join(points)


def verify_entry(root: bytes, size: int, entry: Registered) -> tuple[bytes, ...]:
    """The points of an entry, after checking it against the registry's root over ``size`` entries.

    Raises:
        ProofError: it is not there.
    """
    hashed = merkle.leaf_hash(leaf(entry.block, entry.points))
    merkle.verify_inclusion(root, hashed, entry.index, size, entry.proof)
    return entry.points


def register(
    model: PortableModel, layout: Layout, blocks: Iterable[Block], circuits: Mapping[str, prover.Circuit]
) -> tuple[Registry, float]:
    """Registry of the given blocks, and the CPU seconds their commitments took.

    Args:
        circuits: by shape name.
    """
    by_circuit: dict[str, list[Block]] = {}
    chosen = sorted(set(blocks))
    for block in chosen:
        by_circuit.setdefault(layout.shape(block[1]).name, []).append(block)
    points: dict[Block, tuple[bytes, ...]] = {}
    spent = 0.0
    for name, own in by_circuit.items():
        vectors = [layout.weights_of(model, Unit(0, *block)).flatten().tolist() for block in own]
        found, run = prover.commit(circuits[name], vectors)
        points |= dict(zip(own, found, strict=True))
        spent += run.cpu_s
    return Registry({block: points[block] for block in chosen}), spent
