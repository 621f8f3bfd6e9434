"""The operator's side of a spot check: rows of a drawn place, then the answer to a drawn unit."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import shake_256

import numpy as np

from otr_core import merkle
from otr_core.errors import InconclusiveError, InputError
from otr_core.poea.receipt import Receipt
from otr_core.poea.trace import SALT_BYTES, LayerState, Trace, check_seed, open_piece
from otr_core.spotcheck import selection
from otr_core.spotcheck.proofs import SHIFT, Statement
from otr_core.spotcheck.rows import PIECE, Piece, Spans, bound_root, piece_numbers
from otr_core.spotcheck.units import Layout, Unit, needed_rows, unit_statement
from otr_core.spotcheck.verify import (
    SpotCheckChallenge,
    SpotCheckResponse,
    TokenOpening,
    leaf_pieces,
    opened_values,
    reads_token,
)
from otr_node import prover
from otr_node.generate import Answer, rebuild_operators, rebuild_states
from otr_node.portable import PortableModel

WeightBlock = tuple[int, str, int]
"""Which block of the weights: (layer, operator, block)."""


@dataclass(frozen=True)
class CommittedRows:
    """The rows of one layer at one position under one root, with salts that only the operator
    knows.

    Attributes:
        root: what is published: the root of ``tree``, the tree over the pieces, bound to the place.
        lengths: of the rows, in order. pieces, salts: content and salt of every piece.
    """

    root: bytes
    tree: merkle.Tree
    lengths: Mapping[str, int]
    pieces: tuple[bytes, ...]
    salts: tuple[bytes, ...]

    def open(self, spans: Spans) -> tuple[Piece, ...]:
        """The pieces that hold the given spans of rows, in order."""
        return tuple(
            Piece(i, self.salts[i], self.pieces[i], tuple(self.tree.path(i)))
            for numbers in piece_numbers(self.lengths, spans).values()
            for i in numbers
        )


@dataclass
class CheckedOperator:
    """An operator who kept an answer's tokens and trace seed, and runs the answer again when asked.

    Attributes:
        model: what it runs. answer: with its trace. receipt: what was signed about the answer.
        trace_seed: 32 secret bytes.
        layout: how layers are cut into units. circuits: by shape name.
    """

    model: PortableModel
    answer: Answer
    receipt: Receipt
    trace_seed: bytes
    layout: Layout
    circuits: Mapping[str, prover.Circuit]
    _states: dict[tuple[int, int], LayerState] = field(default_factory=dict)

    @property
    def trace(self) -> Trace:
        """The committed trace.

        Raises:
            InputError: the answer has none.
        """
        return self.answer.committed

    def rows(self, position: int, layer: int) -> dict[str, np.ndarray]:
        """All rows of the place by name, int64, checked against the leaf.

        Raises:
            InputError: no such place. ProofError: running the answer again does not give the
                committed leaf.
        """
        done = rebuild_operators(self.model, self.answer, self.trace_seed, position, layer)
        return named_rows(self.layout, done, self._input_row(position, layer))

    def commit(self, rows: Mapping[str, np.ndarray], position: int, layer: int) -> CommittedRows:
        """Commit to the rows of a place, to be published before the second round.

        Raises:
            InputError: a row of another shape than the layout's.
        """
        check_seed(self.trace_seed)
        lengths = self.layout.row_lengths()
        pieces: list[bytes] = []
        for name, length in lengths.items():
            if rows[name].shape != (length,):
                raise InputError(f"row {name}: found shape {rows[name].shape}, expected ({length},)")
            raw = rows[name].astype("<i8").tobytes()
            pieces += [raw[at : at + 8 * PIECE] for at in range(0, len(raw), 8 * PIECE)]
        secret = b"otr/1/rows" + self.trace_seed + struct.pack("<II", position, layer)
        stream = shake_256(secret).digest(SALT_BYTES * len(pieces))
        salts = tuple(stream[at : at + SALT_BYTES] for at in range(0, len(stream), SALT_BYTES))
        tree = merkle.Tree([merkle.leaf_hash(salt + piece) for salt, piece in zip(salts, pieces, strict=True)])
        root = bound_root(self.trace.root, position, layer, tree.root)
        return CommittedRows(root, tree, lengths, tuple(pieces), salts)

    def state(self, position: int, layer: int) -> LayerState:
        """A state of the trace. The first call runs the answer again and keeps all (4 kB each)."""
        if not self._states:
            shape = self.trace.shape
            wanted = [(p, at) for p in range(shape.positions) for at in range(shape.layers)]
            self._states = rebuild_states(self.model, self.answer, wanted)
        return self._states[position, layer]

    def open_unit(self, unit: Unit, rows: CommittedRows) -> SpotCheckResponse:
        """The openings that an answer about ``unit`` needs, without a proof.

        Raises:
            ProofError: a rebuilt state is not the committed one.
        """
        trace, token = self.trace, None
        leaves = tuple(
            open_piece(trace, self.trace_seed, position, layer, piece, self.state(position, layer))
            for position, layer, piece, _ in leaf_pieces(self.layout, trace.shape, unit)
        )
        if reads_token(self.layout, unit):
            path = merkle.inclusion_proof(trace.tokens, unit.position)
            token = TokenOpening(trace.tokens[unit.position], tuple(path))
        return SpotCheckResponse(unit, rows.tree.root, rows.open(needed_rows(self.layout, unit)), leaves, token=token)

    def challenge(
        self, committed: CommittedRows, position: int, layer: int, randomness: bytes, number: int = 0
    ) -> SpotCheckChallenge:
        """The challenge that a beacon's ``randomness`` makes of rows committed at a place.

        Args:
            number: of the unit drawn there.
        """
        shares = selection.SHARES
        return SpotCheckChallenge(self.receipt, position, layer, committed.root, randomness, number, shares)

    def statement(self, challenge: SpotCheckChallenge, opening: SpotCheckResponse) -> Statement:
        """What an answer has to prove about a matrix unit.

        Raises:
            InconclusiveError: the opened values are beyond what a circuit holds.
        """
        values = opened_values(self.layout, challenge, opening, partial(embedding, self.model))
        return unit_statement(self.layout, opening.unit, weights_of(self.layout, self.model, opening.unit), values)

    def respond(self, challenge: SpotCheckChallenge, committed: CommittedRows) -> SpotCheckResponse:
        """The honest answer to a challenge: openings, and a proof where the unit is a matrix's.

        An inconclusive unit is answered without a proof: the opened values show it to the verifier.

        Raises:
            ProverError: the prover failed.
        """
        unit = challenge.unit(self.layout)
        opening = self.open_unit(unit, committed)
        if unit.operator not in self.layout.matrices:
            return opening
        try:
            said = self.statement(challenge, opening)
        except InconclusiveError:
            return opening
        circuit = self.circuits[self.layout.shape(unit.operator).name]
        proof, _ = prover.prove_unit(circuit, said)
        return replace(opening, circuit=circuit.shape.name, proof=proof)

    def _input_row(self, position: int, layer: int) -> np.ndarray:
        """What entered the layer, int64 (hidden,): an embedding, or what the layer below gave."""
        if layer == 0:
            return embedding(self.model, [*self.answer.prompt_ids, *self.answer.token_ids][position])
        return np.frombuffer(self.state(position, layer - 1).output, "<i4").astype(np.int64)


def named_rows(layout: Layout, done: Mapping[str, np.ndarray], entered: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a place by the names that units have for them, int64.

    Args:
        done: results of the layer's operators by name. entered: what entered the layer.
    """
    a, (q, kv) = layout.architecture, layout.head_values
    qkv, gate_up = done["attention.qkv"], done["mlp.gate_up"]
    rows = {
        "q": qkv[:q],
        "k": qkv[q : q + kv],
        "value": qkv[q + kv :],
        "key": done["attention.key"],
        "gate": gate_up[: a.intermediate],
        "up": gate_up[a.intermediate :],
        "input": entered,
        "output": done["output"],
    }
    return rows | {name: done[name] for name in layout.row_lengths() if name not in rows}


def embedding(model: PortableModel, token: int) -> np.ndarray:
    """Integer embedding of a token: the input row of layer 0, int64 (hidden,)."""
    return model.matrices["embed"][token].astype(np.int64)


def weight_points(
    model: PortableModel, layout: Layout, blocks: Iterable[WeightBlock], circuits: Mapping[str, prover.Circuit]
) -> tuple[dict[WeightBlock, tuple[bytes, ...]], float]:
    """KZG points of the given weight blocks, in order, and the CPU seconds their commitments took.

    Anyone with the weights can make the points again and compare: they are deterministic for a
    reference string.

    Args:
        circuits: by shape name.

    Raises:
        ProverError: the library failed.
    """
    by_circuit: dict[str, list[WeightBlock]] = {}
    chosen = sorted(set(blocks))
    for block in chosen:
        by_circuit.setdefault(layout.shape(block[1]).name, []).append(block)
    points: dict[WeightBlock, tuple[bytes, ...]] = {}
    spent = 0.0
    for name, own in by_circuit.items():
        vectors = [weights_of(layout, model, Unit(0, *block)).flatten().tolist() for block in own]
        found, run = prover.commit_vectors(circuits[name], vectors)
        points |= dict(zip(own, found, strict=True))
        spent += run.cpu_s
    return {block: points[block] for block in chosen}, spent


def weights_of(layout: Layout, model: PortableModel, unit: Unit) -> np.ndarray:
    """The unit's block of integer weights, scaled to ``prover.SHIFT``: int64 (rows, columns).

    Raises:
        InputError: there is no such unit.
    """
    matrix = layout.matrices[layout.check(unit).operator]
    rows = layout.block_rows(matrix)
    at = matrix.first + unit.block * rows
    block = model.matrices[f"{unit.layer}.{matrix.stack}"].dense(at, at + rows).astype(np.int64)
    return np.asarray(block << (SHIFT - matrix.shift))
