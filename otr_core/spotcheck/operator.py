"""The operator's side of a spot check: rows of a drawn place, then the answer to a drawn unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from otr_core.errors import InputError
from otr_core.inference.generate import Answer, rebuild_states
from otr_core.inference.portable import rebuild_operators
from otr_core.inference.trace import LayerState, Trace
from otr_core.spotcheck import prover
from otr_core.spotcheck.rows import CommittedRows, commit_rows
from otr_core.spotcheck.units import Layout, rows_of
from otr_core.spotcheck.verify import Challenge, Response, answer, open_unit

if TYPE_CHECKING:
    import numpy as np

    from otr_core.inference.portable import PortableModel


@dataclass
class Operator:
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

    def respond(self, challenge: Challenge, committed: CommittedRows) -> Response:
        """The honest answer to a challenge.

        Raises:
            ProverError: see ``verify.answer``.
        """
        unit = challenge.unit(self.layout)
        opening = open_unit(self.layout, self.trace, self.trace_seed, unit, committed, self.state)
        if unit.operator not in self.layout.matrices:
            return opening
        weights = self.layout.weights_of(self.model, unit)
        return answer(self.layout, self.circuits, opening, challenge, weights, partial(embedding, self.model))


def embedding(model: PortableModel, token: int) -> np.ndarray:
    """Integer embedding of a token: the input row of layer 0, int64 (hidden,)."""
    result: np.ndarray = model.matrices["embed"][token].long().cpu().numpy()
    return result
