"""One spot check: what is asked, what the operator answers, and when the answer is accepted.

    commitment ── round 1 ──► place (query, position, layer) ──► rows committed ── round 2 ──► unit ──► answer

A matrix unit is answered with a proof, any other with the opened values alone. The trace leaf is tied to the proof by
opening: the verifier sees the unit's input row and its few outputs under the leaf and the committed rows, commits to
them itself, and compares with the points in the proof. That reveals one row of one layer at one position, and no
weights. (An operator who committed to KZG points while answering the query would reveal nothing, at many times the
cost of the inference; ``detection`` and notebook 04 compare.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otr_core import merkle
from otr_core.errors import InconclusiveError, ProofError, SpotCheckError
from otr_core.lane.formats import INT32
from otr_core.poea.trace import (
    PIECE_BYTES,
    SALT_BYTES,
    LayerState,
    PieceOpening,
    Trace,
    TraceShape,
    open_piece,
    verify_opening,
)
from otr_core.spotcheck import prover, selection
from otr_core.spotcheck.recompute import recompute
from otr_core.spotcheck.rows import CommittedRows, Piece, read_rows
from otr_core.spotcheck.units import Layout, Unit, needed_rows, unit_statement

if TYPE_CHECKING:
    import numpy as np

#: Names of the checks, in the order in which they are made.
CHECKS = (
    "unit", "rows", "leaf", "token", "operator", "circuit", "proof", "violation", "weights", "activations", "outputs",
)  # fmt: skip

Embedding = Callable[[int], "np.ndarray"]
"""Token id -> its integer embedding, int64 (hidden,): part of the model."""
State = Callable[[int, int], LayerState]
"""(position, layer) -> what the layer left behind there; for an operator, by running the answer again."""


@dataclass(frozen=True)
class SpotCheckChallenge:
    """What both sides know before the answer.

    Attributes:
        trace_root, shape: of the query's receipt. position, layer: drawn by round 1. rows_root: published then.
        randomness: of round 2. number: which of the units drawn there. shares: chance of each operator, whole numbers.
    """

    trace_root: bytes
    shape: TraceShape
    position: int
    layer: int
    rows_root: bytes
    randomness: bytes
    number: int
    shares: Mapping[str, int]

    def unit(self, layout: Layout) -> Unit:
        """The unit drawn."""
        drawn = selection.draw_unit(self.randomness, self.rows_root, self.number, self.shares, layout.blocks)
        return Unit(self.position, self.layer, *drawn)


@dataclass(frozen=True)
class TokenOpening:
    """The token fed at a position, under the trace root: what enters layer 0.

    Attributes:
        content: the token leaf's content (salt ‖ token id ‖ step). proof: its audit path.
        beside: the states' root and the seed's hash, which the trace root holds beside the tokens' root.
    """

    content: bytes
    proof: tuple[bytes, ...]
    beside: tuple[bytes, bytes]


@dataclass(frozen=True)
class Response:
    """The operator's answer.

    Attributes:
        unit: what it is about. tree_root, pieces: opened rows. leaves: opened pieces of trace leaves.
        circuit: name of the circuit; proof: None for a unit without weights. token: where layer 0's input is read.
    """

    unit: Unit
    tree_root: bytes
    pieces: tuple[Piece, ...]
    leaves: tuple[PieceOpening, ...]
    circuit: str = ""
    proof: prover.Proof | None = None
    token: TokenOpening | None = None


def reads_token(layout: Layout, unit: Unit) -> bool:
    """Whether a verifier of ``unit`` must see the token: it is of layer 0 and reads what entered the layer."""
    return unit.layer == 0 and "input" in needed_rows(layout, unit)


def leaf_pieces(layout: Layout, shape: TraceShape, unit: Unit) -> list[tuple[int, int, int, str]]:
    """(position, layer, piece, row) of every leaf piece a verifier of ``unit`` must see, in order."""
    spans = needed_rows(layout, unit)
    output, kv = (-(-size // PIECE_BYTES) for size in (shape.output_bytes, shape.kv_bytes))
    starts = {"output": 0, "key": output, "value": output + kv}
    result = []
    for row, (first, end) in spans.items():
        if (row == "input" and unit.layer == 0) or row not in (*starts, "input"):
            continue
        at = (unit.layer - 1, "output") if row == "input" else (unit.layer, row)
        for piece in range(4 * first // PIECE_BYTES, -(-4 * end // PIECE_BYTES)):
            result.append((unit.position, at[0], starts[at[1]] + piece, row))
    if unit.operator == "attention":
        a = layout.architecture
        group = unit.block * a.kv_heads // a.heads
        first, end = 4 * group * a.head_dim, 4 * (group + 1) * a.head_dim
        for position in range(unit.position + 1):
            for row in ("key", "value"):
                for piece in range(first // PIECE_BYTES, -(-end // PIECE_BYTES)):
                    result.append((position, unit.layer, starts[row] + piece, row))
    return result


def open_unit(
    layout: Layout, trace: Trace, trace_seed: bytes, unit: Unit, rows: CommittedRows, state: State
) -> Response:
    """The openings an answer needs, without a proof.

    Raises:
        ProofError: a rebuilt state is not the committed one.
    """
    leaves = tuple(
        open_piece(trace, trace_seed, position, layer, piece, state(position, layer))
        for position, layer, piece, _ in leaf_pieces(layout, trace.shape, unit)
    )
    token = None
    if reads_token(layout, unit):
        path = merkle.inclusion_proof(trace.tokens, unit.position)
        token = TokenOpening(trace.tokens[unit.position], tuple(path), (trace.states_root, trace.seed_hash))
    return Response(unit, rows.tree_root, rows.open(needed_rows(layout, unit)), leaves, token=token)


def opened_token(challenge: SpotCheckChallenge, unit: Unit, opening: TokenOpening | None) -> int:
    """The token id fed at the unit's position.

    Raises:
        SpotCheckError: check ``token``: absent, or not under the trace root.
    """
    if opening is None or len(opening.content) != SALT_BYTES + 8 or len(opening.beside) != 2:
        raise SpotCheckError("token", opening, "the committed token, which layer 0 reads")
    try:
        hashed, size = merkle.leaf_hash(opening.content), challenge.shape.positions + 1
        tokens_root = merkle.root_of_inclusion(hashed, unit.position, size, opening.proof)
    except ProofError as error:
        raise SpotCheckError("token", error, "a token under the trace root") from error
    states_root, seed_hash = opening.beside
    if merkle.root_of_hashes([states_root, tokens_root, seed_hash]) != challenge.trace_root:
        raise SpotCheckError("token", "a token of another trace or position", "a token under the trace root")
    return int(struct.unpack("<I", opening.content[SALT_BYTES : SALT_BYTES + 4])[0])


def opened_values(
    layout: Layout, challenge: SpotCheckChallenge, response: Response, embedding: Embedding
) -> dict[str, np.ndarray]:
    """The unit's values out of an answer, each checked against what was committed: rows, then leaves, then the token.

    For an attention unit, ``keys`` and ``values`` hold the rows (positions, head_dim) of the head's group.

    Raises:
        SpotCheckError: checks ``rows``, ``leaf`` and ``token``.
    """
    import numpy as np

    unit, spans = response.unit, needed_rows(layout, response.unit)
    try:
        values = read_rows(
            challenge.rows_root, layout.row_lengths(), challenge.trace_root, unit.position, unit.layer,
            spans, response.tree_root, response.pieces,
        )  # fmt: skip
    except ProofError as error:
        raise SpotCheckError("rows", error, "the pieces committed between the draws") from error
    expected = leaf_pieces(layout, challenge.shape, unit)
    found = [(o.position, o.layer, o.piece) for o in response.leaves]
    if found != [entry[:3] for entry in expected]:
        raise SpotCheckError("leaf", f"openings of {found[:3]}…", [entry[:3] for entry in expected][:3])
    joined: dict[tuple[int, str], list[bytes]] = {}
    for opening, (position, _, _, row) in zip(response.leaves, expected, strict=True):
        try:
            verify_opening(challenge.trace_root, challenge.shape, opening)
        except ProofError as error:
            raise SpotCheckError("leaf", error, "a piece under the trace root") from error
        joined.setdefault((position, row), []).append(opening.data)
    flat = {key: np.frombuffer(b"".join(parts), "<i4").astype(np.int64) for key, parts in joined.items()}
    per_piece = PIECE_BYTES // 4
    for row, (first, end) in spans.items():
        if row == "input" and unit.layer == 0:
            values[row] = embedding(opened_token(challenge, unit, response.token))[first:end]
        elif row not in values:
            skip = first // per_piece * per_piece
            values[row] = flat[unit.position, row][first - skip : end - skip]
    for row in ("input", "attention.residual", "output"):
        if row in values and abs(values[row]).max() > INT32:
            raise SpotCheckError("rows", f"{row} beyond {INT32}", "values the lane saturates at that")
    if unit.operator == "attention":
        a = layout.architecture
        first = unit.block * a.kv_heads // a.heads * a.head_dim
        first -= first // per_piece * per_piece
        for name, row in (("keys", "key"), ("values", "value")):
            values[name] = np.stack([flat[p, row][first : first + a.head_dim] for p in range(unit.position + 1)])
    return values


@dataclass(frozen=True)
class Verifier:
    """What a verifier brings: the layout, the circuits by shape name, and the model's public parts.

    Attributes:
        registered: (layer, operator, block) -> points of that weight block, from the model's registry.
        saturation: per layer, part of the model (``Bounds.saturation``). embedding: the model's.
    """

    layout: Layout
    circuits: Mapping[str, prover.Circuit]
    registered: Callable[[int, str, int], tuple[bytes, ...]]
    saturation: tuple[int, ...]
    embedding: Embedding

    def verify(self, challenge: SpotCheckChallenge, response: Response) -> None:
        """Accept an answer or say why not.

        1 the unit is the one drawn; 2 the opened rows are the committed ones; 3 the opened leaf pieces, and in layer
        0 the token, are the trace's. For an operator without weights: 4 it gives the opened outputs. For a matrix:
        5 the unit fits a circuit, and the answer names that of its shape; 6 the proof verifies; 7 its violation is 0;
        8 its weights are the registered ones, 9 its activations and 10 its outputs the opened ones.

        Raises:
            SpotCheckError: ``check`` names the first of ``CHECKS`` that fails.
            InconclusiveError: the opened values, right as far as they go, show a unit that no circuit decides.
        """
        unit = challenge.unit(self.layout)
        # 1
        if response.unit != unit:
            raise SpotCheckError("unit", response.unit, unit)
        # 2, 3
        values = opened_values(self.layout, challenge, response, self.embedding)
        # 4
        if unit.operator not in self.layout.matrices:
            result, name = recompute(self.layout, unit, values, self.saturation[unit.layer])
            if wrong := [i for i, (r, v) in enumerate(zip(result, values[name].tolist(), strict=True)) if r != v]:
                raise SpotCheckError("operator", f"{len(wrong)} of {len(result)} values of {name}", "all as recomputed")
            return
        # 5
        said = unit_statement(self.layout, unit, _no_weights(), values)
        circuit = self.circuits[self.layout.shape(unit.operator).name]
        if response.circuit != circuit.shape.name or response.proof is None:
            raise SpotCheckError("circuit", response.circuit or "no proof", circuit.shape.name)
        # 6
        if not prover.verify(circuit, response.proof).value:
            raise SpotCheckError("proof", "one that does not verify", "a valid proof")
        # 7
        if response.proof.violation != 0:
            raise SpotCheckError("violation", response.proof.violation, 0)
        # 8, 9, 10
        (x, y), _ = prover.commit_vectors(circuit, [said.activations.tolist(), said.outputs.tolist()])
        weights = self.registered(unit.layer, unit.operator, unit.block)
        at = 0
        for name, points in (("weights", weights), ("activations", x), ("outputs", y)):
            found = response.proof.points(at + len(points))[at:]
            if found != points:
                raise SpotCheckError(name, f"a commitment {found[0][:4].hex()}…", f"{points[0][:4].hex()}…")
            at += len(points)


def answer(
    layout: Layout,
    circuits: Mapping[str, prover.Circuit],
    opening: Response,
    challenge: SpotCheckChallenge,
    weights: np.ndarray,
    embedding: Embedding,
) -> Response:
    """The complete answer to a matrix unit: ``opening`` with its proof, or as it is where the unit is inconclusive: the
    opened values show that to the verifier.

    Args:
        weights: the unit's block scaled to ``SHIFT``: int64 (rows, columns).

    Raises:
        ProverError: the prover failed.
    """
    values = opened_values(layout, challenge, opening, embedding)
    try:
        said = unit_statement(layout, opening.unit, weights, values)
    except InconclusiveError:
        return opening
    circuit = circuits[layout.shape(opening.unit.operator).name]
    proof, _ = prover.prove_unit(circuit, said)
    return replace(opening, circuit=circuit.shape.name, proof=proof)


def _no_weights() -> np.ndarray:
    import numpy as np

    return np.zeros((0, 0), np.int64)
