"""The operator's side of a spot check: rows of a drawn place, then the answer to a drawn unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from otr_core.errors import InconclusiveError, InputError
from otr_core.poea.trace import LayerState, Trace
from otr_core.spotcheck.proofs import SHIFT
from otr_core.spotcheck.rows import CommittedRows, commit_rows
from otr_core.spotcheck.units import Layout, Unit, rows_of, unit_statement
from otr_core.spotcheck.verify import Embedding, Response, SpotCheckChallenge, open_unit, opened_values
from otr_node import prover
from otr_node.generate import Answer, rebuild_operators, rebuild_states

if TYPE_CHECKING:
    import numpy as np

    from otr_node.portable import PortableModel

WeightBlock = tuple[int, str, int]
"""Which block of the weights: (layer, operator, block)."""


@dataclass
class CheckedOperator:
    """An operator who kept an answer's tokens and the trace's secret seed, and runs the answer again when asked.

    Attributes:
        model: what it runs. answer: with its trace. trace_seed: 32 secret bytes.
    """

    model: PortableModel
    answer: Answer
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
        if self.answer.trace is None:
            raise InputError("answer: found no trace, expected a committed one")
        return self.answer.trace

    def input_row(self, position: int, layer: int) -> np.ndarray:
        """What entered the layer: the embedding of the fed token, or the output of the layer below; int64 (hidden,)."""
        import numpy as np

        if layer == 0:
            token = [*self.answer.prompt_ids, *self.answer.token_ids][position]
            return embedding(self.model, token)
        return np.frombuffer(self.state(position, layer - 1).output, "<i4").astype(np.int64)

    def rows(self, position: int, layer: int) -> dict[str, np.ndarray]:
        """All rows of the place, checked against the leaf."""
        operators = rebuild_operators(self.model, self.answer, self.trace_seed, position, layer)
        return rows_of(self.layout, operators, self.input_row(position, layer))

    def commit(self, rows: Mapping[str, np.ndarray], position: int, layer: int) -> CommittedRows:
        """Commit to the rows of a place, to be published before the second round."""
        return commit_rows(rows, self.layout.row_lengths(), self.trace_seed, self.trace.root, position, layer)

    def state(self, position: int, layer: int) -> LayerState:
        """A state of the trace; the first call runs the answer again and keeps all of them (4 kB each)."""
        if not self._states:
            shape = self.trace.shape
            wanted = [(p, at) for p in range(shape.positions) for at in range(shape.layers)]
            self._states = rebuild_states(self.model, self.answer, wanted)
        return self._states[position, layer]

    def respond(self, challenge: SpotCheckChallenge, committed: CommittedRows) -> Response:
        """The honest answer to a challenge.

        Raises:
            ProverError: see ``prove_answer``.
        """
        unit = challenge.unit(self.layout)
        opening = open_unit(self.layout, self.trace, self.trace_seed, unit, committed, self.state)
        if unit.operator not in self.layout.matrices:
            return opening
        weights = weights_of(self.layout, self.model, unit)
        return prove_answer(self.layout, self.circuits, opening, challenge, weights, partial(embedding, self.model))


def prove_answer(
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


def embedding(model: PortableModel, token: int) -> np.ndarray:
    """Integer embedding of a token: the input row of layer 0, int64 (hidden,)."""
    result: np.ndarray = model.matrices["embed"][token].long().cpu().numpy()
    return result


def weight_points(
    model: PortableModel, layout: Layout, blocks: Iterable[WeightBlock], circuits: Mapping[str, prover.Circuit]
) -> tuple[dict[WeightBlock, tuple[bytes, ...]], float]:
    """KZG points of the given weight blocks, in order, and the CPU seconds their commitments took.

    Anyone with the weights can make the points again and compare: they are deterministic for a reference string.

    Args:
        circuits: by shape name.
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
    """The unit's block of the model's integer weights, scaled to ``SHIFT``: int64 (rows, columns)."""
    matrix = layout.matrices[layout.check(unit).operator]
    rows = layout.block_rows(matrix)
    at = matrix.first + unit.block * rows
    block = model.matrices[f"{unit.layer}.{matrix.stack}"][at : at + rows]
    result: np.ndarray = block.long().cpu().numpy() << (SHIFT - matrix.shift)
    return result
