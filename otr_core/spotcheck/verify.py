"""One spot check: what is asked, what the operator answers, and when the answer is accepted.

    commitment ── round 1 ──► place (query, position, layer)
               ──► rows committed ── round 2 ──► unit ──► answer

A matrix unit is answered with a proof, any other with the opened values alone. What ties the proof
to the trace is opened too: the verifier sees the unit's input row and its few outputs, under the
leaf and the committed rows. It commits to these values itself, and compares its points with those
in the proof. So one row of one layer at one position is revealed, and no weights. (An operator who
committed to KZG points while it answered the query would reveal nothing, at many times the cost of
the inference; notebook 04 compares.)

The operator's side is ``otr_node.spotchecks``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from otr_core import merkle
from otr_core.encoding import tagged_json_hash
from otr_core.errors import ProofError, SpotCheckError
from otr_core.lane.formats import INT32
from otr_core.poea.receipt import Receipt
from otr_core.poea.trace import GIVEN, PIECE_BYTES, SALT_BYTES, PieceOpening, TraceShape, verify_opening
from otr_core.spotcheck import selection
from otr_core.spotcheck.proofs import Proof, VerificationKey
from otr_core.spotcheck.recompute import recompute
from otr_core.spotcheck.rows import Piece, bound_root, read_rows
from otr_core.spotcheck.units import Layout, Unit, needed_rows, unit_vectors

LANE = "portable-1"
"""The lane whose units can be checked: exact integers, four bytes each in the trace."""

#: Names of the checks of ``Verifier.verify``, in the order in which they are made; numbered there
#: from 1.
CHECKS = (
    # every unit, and the operator's results where it has no weights
    *("statement", "unit", "rows", "leaf", "token", "operator"),
    # the proof of a matrix unit
    *("circuit", "violation", "proof", "weights", "activations", "outputs"),
)

Embedding = Callable[[int], np.ndarray]
"""Token id -> its integer embedding, int64 (hidden,): part of the model."""


@dataclass(frozen=True)
class SpotCheckChallenge:
    """What both sides know before the answer.

    Attributes:
        receipt: of the drawn query, as it is signed. position, layer: drawn by round 1.
        rows_root: what the operator published when it knew the place. randomness: 32 bytes, of
            round 2.
        number: which of the units drawn at this place. shares: chance of each operator, whole
            numbers.
    """

    receipt: Receipt
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
    """The token fed at a position, under the receipt's tokens root: what enters layer 0.

    Attributes:
        content: the token leaf's content (salt ‖ token id ‖ step). proof: its audit path to the
            receipt's tokens root.
    """

    content: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class SpotCheckResponse:
    """The operator's answer.

    Attributes:
        unit: what it is about. tree_root, pieces: the opened rows, and the root of their tree
            before it is bound.
        leaves: opened pieces of trace leaves, in the order of ``leaf_pieces``.
        circuit: name of the circuit that the proof is for. proof: None for a unit without weights.
        token: opened where a unit of layer 0 reads its input; None elsewhere.
    """

    unit: Unit
    tree_root: bytes
    pieces: tuple[Piece, ...]
    leaves: tuple[PieceOpening, ...]
    circuit: str = ""
    proof: Proof | None = None
    token: TokenOpening | None = None


def reads_token(layout: Layout, unit: Unit) -> bool:
    """Whether a verifier of ``unit`` must see the token: it reads what entered layer 0."""
    return unit.layer == 0 and "input" in needed_rows(layout, unit)


def leaf_pieces(layout: Layout, shape: TraceShape, unit: Unit) -> list[tuple[int, int, int, str]]:
    """(position, layer, piece, row) of the leaf pieces that a verifier of ``unit`` must see.

    ``row`` is the unit's name for what the piece holds: the ``input`` of a layer is the output of
    the layer below.
    """
    output, kv = (-(-size // PIECE_BYTES) for size in (shape.output_bytes, shape.kv_bytes))
    starts = {"output": 0, "key": output, "value": output + kv}  # first piece of each row in a leaf
    result: list[tuple[int, int, int, str]] = []

    def add(position: int, layer: int, kept: str, span: tuple[int, int], row: str) -> None:
        """The pieces that hold ``span`` of the leaf's row ``kept``."""
        first, end = 4 * span[0] // PIECE_BYTES, -(-4 * span[1] // PIECE_BYTES)
        result.extend((position, layer, starts[kept] + piece, row) for piece in range(first, end))

    for row, span in needed_rows(layout, unit).items():
        if row == "input" and unit.layer > 0:
            add(unit.position, unit.layer - 1, "output", span, row)
        elif row in starts:
            add(unit.position, unit.layer, row, span, row)
    if unit.operator == "attention":  # the head's keys and values of every position so far
        for position in range(unit.position + 1):
            for row in ("key", "value"):
                add(position, unit.layer, row, layout.group(unit), row)
    return result


def check_statement(layout: Layout, challenge: SpotCheckChallenge) -> None:
    """Whether the receipt states a trace of the layout's model, and one that has the drawn place.

    Openings are held against the statement. One of fewer layers or of shorter rows would leave
    nothing to be opened where the model has something.

    Raises:
        SpotCheckError: check ``statement``.
    """
    receipt, model = challenge.receipt, layout.architecture
    found = (receipt.lane, receipt.layers, receipt.output_bytes, receipt.kv_bytes)
    expected = (LANE, model.layers, 4 * model.hidden, 4 * model.kv_heads * model.head_dim)
    if found != expected:
        raise SpotCheckError("statement", found, f"lane, layers and row bytes of the model, {expected}")
    if (tokens := receipt.prompt_tokens + receipt.answer_tokens) > model.context:
        raise SpotCheckError("statement", f"{tokens} tokens", f"at most {model.context}, the model's context")
    if not (0 <= challenge.position < receipt.positions and 0 <= challenge.layer < model.layers):
        place, trace = (challenge.position, challenge.layer), (receipt.positions, model.layers)
        raise SpotCheckError("statement", f"place {place}", f"position and layer below {trace}")


def opened_token(layout: Layout, receipt: Receipt, position: int, opening: TokenOpening | None) -> int:
    """The token id fed at ``position``.

    Raises:
        SpotCheckError: check ``token``: absent, not under the receipt's tokens root, with another
            step number than its place gives it, or outside the model's vocabulary.
    """
    if opening is None or len(opening.content) != SALT_BYTES + 8:
        raise SpotCheckError("token", opening, "the committed token, which layer 0 reads")
    try:
        hashed = merkle.leaf_hash(opening.content)
        root = merkle.root_of_inclusion(hashed, position, receipt.positions + 1, opening.proof)
    except ProofError as error:
        raise SpotCheckError("token", error, "a token under the tokens root") from error
    if root != receipt.tokens_root:
        raise SpotCheckError("token", "a token of another trace or position", "a token under the tokens root")
    token, step = struct.unpack("<II", opening.content[SALT_BYTES:])
    given = position < receipt.prompt_tokens
    if step != (GIVEN if given else position - receipt.prompt_tokens):
        raise SpotCheckError("token", f"step {step} at position {position}", "its number among the chosen tokens")
    if token >= layout.architecture.vocab:
        raise SpotCheckError("token", f"token {token}", f"ids below {layout.architecture.vocab}")
    return int(token)


def opened_values(
    layout: Layout, challenge: SpotCheckChallenge, response: SpotCheckResponse, embedding: Embedding
) -> dict[str, np.ndarray]:
    """The unit's values out of an answer, after checks 3 to 5 of ``Verifier.verify``.

    Returns:
        Row name -> the values of the unit's span, int64. An attention unit also has ``keys`` and
        ``values``, of shape (positions, head_dim): what its head attends to.

    Raises:
        SpotCheckError: checks ``rows``, ``leaf`` and ``token``.
    """
    unit, spans = response.unit, needed_rows(layout, response.unit)
    receipt, shape, trace_root = challenge.receipt, challenge.receipt.trace, challenge.receipt.trace_root

    # 3. The opened rows are those committed between the draws.
    tree_root = response.tree_root
    if bound_root(trace_root, unit.position, unit.layer, tree_root) != challenge.rows_root:
        raise SpotCheckError("rows", "a tree of another place", "the one committed between the draws")
    try:
        values = read_rows(tree_root, layout.row_lengths(), spans, response.pieces)
    except ProofError as error:
        raise SpotCheckError("rows", error, "the pieces committed between the draws") from error

    # 4. The opened leaf pieces are exactly those that the unit needs, under the trace root.
    expected = leaf_pieces(layout, shape, unit)
    found = [(o.position, o.layer, o.piece) for o in response.leaves]
    if found != [entry[:3] for entry in expected]:
        raise SpotCheckError("leaf", f"openings of {found[:3]}…", [entry[:3] for entry in expected][:3])
    if response.token is not None and not reads_token(layout, unit):
        raise SpotCheckError("token", "one that nothing reads", "none beside layer 0's input")
    joined: dict[tuple[int, str], bytes] = {}
    for opening, (position, _, _, row) in zip(response.leaves, expected, strict=True):
        try:
            verify_opening(trace_root, shape, opening)
        except ProofError as error:
            raise SpotCheckError("leaf", error, "a piece under the trace root") from error
        joined[position, row] = joined.get((position, row), b"") + opening.data

    def kept(position: int, row: str, span: tuple[int, int]) -> np.ndarray:
        """A span of a leaf's row; the opened pieces begin with the one that holds its start."""
        skip = span[0] // (PIECE_BYTES // 4) * (PIECE_BYTES // 4)
        return np.frombuffer(joined[position, row], "<i4").astype(np.int64)[span[0] - skip : span[1] - skip]

    for row, span in spans.items():
        if row == "input" and unit.layer == 0:
            # 5. In layer 0 the input is the embedding of the token that the trace holds.
            values[row] = embedding(opened_token(layout, receipt, unit.position, response.token))[slice(*span)]
        elif row not in values:
            values[row] = kept(unit.position, row, span)
    # 3 again: no value that the lane never gives
    for row in ("input", "attention.residual", "output"):
        if row in values and abs(values[row]).max() > INT32:
            raise SpotCheckError("rows", f"{row} beyond {INT32}", "values the lane saturates at that")
    if unit.operator == "attention":
        for name, row in (("keys", "key"), ("values", "value")):
            values[name] = np.stack([kept(p, row, layout.group(unit)) for p in range(unit.position + 1)])
    return values


@dataclass(frozen=True)
class Verifier:
    """What a verifier brings: the layout, the circuits by shape name, and the model's public parts.

    Attributes:
        registered: (layer, operator, block) -> points of that weight block, from the model's
            registry.
        saturation: per layer, what the gated product saturates at: part of the model. embedding:
            the model's.
    """

    layout: Layout
    circuits: Mapping[str, VerificationKey]
    registered: Callable[[int, str, int], tuple[bytes, ...]]
    saturation: tuple[int, ...]
    embedding: Embedding

    @property
    def digest(self) -> bytes:
        """Of all circuits held, 32 bytes: what operator and verifiers agree to (``CheckTerms``)."""
        return tagged_json_hash("spot-check/circuits", {name: key.digest.hex() for name, key in self.circuits.items()})

    def verify(self, challenge: SpotCheckChallenge, response: SpotCheckResponse) -> None:
        """Accept an answer or say why not. The checks, in order:

        1. The receipt states a trace of the layout's model, and one that has the drawn place.
        2. The unit is the one drawn.
        3. The opened rows are those committed between the draws.
        4. The opened leaf pieces are exactly those that the unit needs, under the trace root.
        5. In layer 0 the input is the embedding of the token that the trace holds.

        Of an operator without weights:

        6. The operator gives the opened outputs; nothing stands beside them.

        Of a matrix:

        7. The answer names the circuit of the unit's shape, and the unit fits it.
        8. The violation that it claims is 0.
        9. The proof verifies for it, and nothing stands after its end.
        10. Its weights are the registered ones.
        11. Its activations are the opened ones.
        12. Its outputs are the opened ones.

        Raises:
            SpotCheckError: ``check`` names the first of ``CHECKS`` that fails.
            InconclusiveError: the opened values, right as far as they go, show a unit that no
                circuit decides.
        """
        # 1. The receipt states a trace of the layout's model, and one that has the drawn place.
        check_statement(self.layout, challenge)

        # 2. The unit is the one drawn.
        unit = challenge.unit(self.layout)
        if response.unit != unit:
            raise SpotCheckError("unit", response.unit, unit)

        # 3. to 5. The opened rows, leaf pieces and token are those committed to.
        values = opened_values(self.layout, challenge, response, self.embedding)

        # 6. The operator gives the opened outputs; nothing stands beside them.
        if unit.operator not in self.layout.matrices:
            if response.circuit or response.proof is not None:
                raise SpotCheckError("circuit", response.circuit or "a proof", "none, of an operator without weights")
            result, name = recompute(self.layout, unit, values, self.saturation[unit.layer])
            if wrong := [i for i, (r, v) in enumerate(zip(result, values[name].tolist(), strict=True)) if r != v]:
                raise SpotCheckError("operator", f"{len(wrong)} of {len(result)} values of {name}", "all as recomputed")
            return

        # 7. The answer names the circuit of the unit's shape, and the unit fits it.
        activations, outputs = unit_vectors(self.layout, unit, values)
        circuit, proof = self.circuits[self.layout.shape(unit.operator).name], response.proof
        if response.circuit != circuit.shape.name or proof is None:
            raise SpotCheckError("circuit", response.circuit or "no proof", circuit.shape.name)

        # 8. The violation that it claims is 0.
        if proof.violation != 0:
            raise SpotCheckError("violation", proof.violation, 0)

        # 9. The proof verifies for it, and nothing stands after its end.
        if len(proof.raw) != circuit.proof_bytes:
            raise SpotCheckError("proof", f"{len(proof.raw)} bytes", circuit.proof_bytes)
        if not circuit.holds(proof):
            raise SpotCheckError("proof", "one that does not verify", "a valid proof")

        # 10. Its weights are the registered ones.
        # 11. Its activations are the opened ones.
        # 12. Its outputs are the opened ones.
        # The proof begins with the points that it commits to, in this order.
        x, y = circuit.commit([activations.tolist(), outputs.tolist()])
        weights = self.registered(unit.layer, unit.operator, unit.block)
        at = 0
        for name, points in (("weights", weights), ("activations", x), ("outputs", y)):
            found = proof.points(at + len(points))[at:]
            if found != points:
                raise SpotCheckError(name, f"a commitment {found[0][:4].hex()}…", f"{points[0][:4].hex()}…")
            at += len(points)
