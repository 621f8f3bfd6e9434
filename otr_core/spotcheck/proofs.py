"""What a verifier of a spot check's proof must know: the statement, the proof, and the key.

One circuit per shape (rows, columns) proves, for committed W, x and y, that y is W·x rounded as the
portable lane rounds: ``r = W·x − y·2^SHIFT`` lies in [−2^(SHIFT−1), 2^(SHIFT−1)) for each row. Its
one public output is the violation, the sum of what sticks out at either side: 0 exactly where every
row is right. Matrices with another shift s enter multiplied by 2^(SHIFT−s), so that one circuit,
one key and one contract serve every matrix of that shape. W, x and y are inputs in columns of their
own, whose KZG points are the first points of the proof; no range is assumed of them, so an honest
unit always fits.

Circuits, keys and proofs are made in ``otr_node.prover``. The pairing check itself is handed to the
verifier as a ``VerificationKey``, because the library that makes it (ezkl) is not part of the core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from otr_core.errors import InputError, ParameterError, ProofError

if TYPE_CHECKING:
    import numpy as np

#: Order of BN254's scalar field, the field of all circuits here.
FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617
SHIFT = 20
"""Bits every unit's accumulator is rounded by, after its weights are scaled."""
BASE, LEGS = 128, 4
"""Digits of the range check, which hold remainders below 2^28; an honest one is below 2^20."""
_POINT = 64  # bytes of a curve point in a proof


@dataclass(frozen=True)
class Shape:
    """Shape of a unit's circuit.

    Attributes:
        rows, columns: of the weight block.
        slack: how far beyond rounding a row may be off, in units of 2^−SHIFT of an output's last
            bit; 0 in the portable lane, where results are exact. In a native lane this is the room
            left to a cheat.
    """

    rows: int
    columns: int
    slack: int = 0

    def __post_init__(self) -> None:
        for name, most in (("rows", 4096), ("columns", 65536)):
            if not 1 <= getattr(self, name) <= most:
                raise ParameterError(name, getattr(self, name), f"1 to {most}")
        if not 0 <= self.slack < 2 ** (7 * LEGS - 1):
            raise ParameterError("slack", self.slack, f"0 to 2^{7 * LEGS - 1} - 1")

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}" + (f"~{self.slack}" if self.slack else "")


def felt(value: int) -> str:
    """A signed integer as the proof library writes field elements: 32 bytes, little-endian, hex."""
    return (int(value) % FIELD).to_bytes(32, "little").hex()


@dataclass(frozen=True)
class Statement:
    """The integers of one unit, int64.

    Attributes:
        weights: (rows, columns), scaled to SHIFT. activations: (columns,). outputs: (rows,).
    """

    weights: np.ndarray
    activations: np.ndarray
    outputs: np.ndarray

    def felts(self) -> list[list[str]]:
        """The three vectors as field elements, in the order of the circuit's commitments."""
        return [[felt(v) for v in part.flatten().tolist()] for part in (self.weights, self.activations, self.outputs)]

    def violation(self, slack: int = 0) -> int:
        """What the circuit's public output is, by Python's integers."""
        half, total = 2 ** (SHIFT - 1), 0
        for row, y in zip(self.weights.tolist(), self.outputs.tolist(), strict=True):
            rest = sum(w * x for w, x in zip(row, self.activations.tolist(), strict=True)) - (y << SHIFT)
            total += max(rest - (half - 1 + slack), 0) + max(-half - slack - rest, 0)
        return total

    def check_shape(self, shape: Shape) -> None:
        """Refuse a statement that is not of the circuit's shape.

        Raises:
            InputError: it is not.
        """
        found = (self.weights.shape, self.activations.shape, self.outputs.shape)
        expected = ((shape.rows, shape.columns), (shape.columns,), (shape.rows,))
        if found != expected:
            raise InputError(f"unit: found shapes {found}, expected {expected}")


@dataclass(frozen=True)
class Proof:
    """A proof as it travels: the library's proof bytes and its public output.

    Attributes:
        raw: proof bytes; the commitments are its first points. violation: the public output
            claimed.
    """

    raw: bytes
    violation: int

    def points(self, count: int) -> tuple[bytes, ...]:
        """The first ``count`` points, 64 bytes each: commitments to W, x and y."""
        return tuple(self.raw[at * _POINT : (at + 1) * _POINT] for at in range(count))


class VerificationKey(Protocol):
    """A circuit's key in the hands of whoever can run the proof library.

    ``otr_node.prover.Circuit`` is one.
    """

    @property
    def shape(self) -> Shape:
        """The shape of the units whose proofs this key verifies."""

    @property
    def digest(self) -> bytes:
        """Hash of the shape, the verifying key and the reference string, 32 bytes: another circuit
        under the same name has another."""

    @property
    def proof_bytes(self) -> int:
        """Length of every proof of this circuit: the library does not mind what stands after it."""

    def holds(self, proof: Proof) -> bool:
        """Whether a proof verifies for its public output; only proof bytes and output are read.

        Raises:
            InputError: the public output is not a field element. ProverError: the library did not
                do its work.
        """

    def commit(self, vectors: Sequence[Sequence[int]]) -> list[tuple[bytes, ...]]:
        """KZG points of vectors as the circuit's columns hold them: 64 bytes per column filled.

        Raises:
            ProverError: the library did not do its work.
        """


def read_proof(document: Mapping[str, Any]) -> Proof:
    """A proof out of the library's JSON form.

    That form holds the bytes twice, and the library verifies only one of them: they must agree.

    Raises:
        ProofError: they differ, or there is not one public output.
    """
    try:
        raw, instances = bytes(document["proof"]), document["instances"]
        same = document["hex_proof"].removeprefix("0x") == raw.hex()
        violation = int.from_bytes(bytes.fromhex(instances[0][0]), "little")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ProofError(f"proof document: not readable ({error!r})") from error
    if not same or len(instances) != 1 or len(instances[0]) != 1:
        raise ProofError("proof document: its hex form or its instances are not those of its bytes")
    return Proof(raw, violation)


def proof_document(proof: Proof) -> str:
    """A proof in the library's JSON form.

    Raises:
        InputError: its public output is not a field element, which the library would reduce without
            a word.
    """
    if not 0 <= proof.violation < FIELD:
        raise InputError(f"proof: violation found {proof.violation}, expected a field element")
    document = {"instances": [[felt(proof.violation)]], "proof": list(proof.raw), "hex_proof": "0x" + proof.raw.hex()}
    unused = ("protocol", "split", "pretty_public_inputs", "timestamp", "version")
    return json.dumps(document | dict.fromkeys(unused))
