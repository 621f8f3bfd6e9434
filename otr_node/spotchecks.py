"""The operator's side of a spot check: rows of a drawn place, then the answer to a drawn unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from otr_core.errors import InputError
from otr_core.poea.trace import LayerState, Trace
from otr_core.spotcheck import prover
from otr_core.spotcheck.registry import Block, Registry
from otr_core.spotcheck.rows import CommittedRows, commit_rows
from otr_core.spotcheck.units import Layout, Unit, rows_of
from otr_core.spotcheck.verify import Response, SpotCheckChallenge, answer, open_unit
from otr_node.generate import Answer, rebuild_operators, rebuild_states

if TYPE_CHECKING:
    import numpy as np

    from otr_node.portable import PortableModel


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
            ProverError: see ``verify.answer``.
        """
        unit = challenge.unit(self.layout)
        opening = open_unit(self.layout, self.trace, self.trace_seed, unit, committed, self.state)
        if unit.operator not in self.layout.matrices:
            return opening
        weights = weights_of(self.layout, self.model, unit)
        return answer(self.layout, self.circuits, opening, challenge, weights, partial(embedding, self.model))


def embedding(model: PortableModel, token: int) -> np.ndarray:
    """Integer embedding of a token: the input row of layer 0, int64 (hidden,)."""
    result: np.ndarray = model.matrices["embed"][token].long().cpu().numpy()
    return result


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
        vectors = [weights_of(layout, model, Unit(0, *block)).flatten().tolist() for block in own]
        found, run = prover.commit_vectors(circuits[name], vectors)
        points |= dict(zip(own, found, strict=True))
        spent += run.cpu_s
    return Registry({block: points[block] for block in chosen}), spent


def weights_of(layout: Layout, model: PortableModel, unit: Unit) -> np.ndarray:
    """The unit's block of the model's integer weights, scaled to ``SHIFT``: int64 (rows, columns)."""
    matrix = layout.matrices[layout.check(unit).operator]
    rows = layout.block_rows(matrix)
    at = matrix.first + unit.block * rows
    block = model.matrices[f"{unit.layer}.{matrix.stack}"][at : at + rows]
    result: np.ndarray = block.long().cpu().numpy() << (prover.SHIFT - matrix.shift)
    return result
