"""What a player knows of an answer: its own run of it, from which every committed or disputed state is rebuilt.

An honest fisherman runs the model on the claimed tokens; a cheat runs something else. Neither keeps the run: the
trace's leaves are kept (32 bytes each), and the states that one disputed program reads are rebuilt by running again up
to them. So a whole dispute costs a player at most two inferences: one for the leaves, one for the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from otr_core.lane import program as pr
from otr_core.lane.sampling import Decoding
from otr_core.lane.step import LAYER, TraceClaim
from otr_core.merkle import Tree
from otr_core.poea.trace import LayerState, StateKeeper, Trace, TraceRecorder, salts, token_leaf
from otr_node.commitment import ModelTrees
from otr_node.execution import Execution, ProgramInputs
from otr_node.portable import PortableModel, PortableSession

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from otr_core.poea.trace import Recorder


@dataclass(frozen=True)
class Tamper:
    """One value changed where it is made, everything after it computed from the changed one.

    Attributes:
        operator: number in ``program.layer_program``. delta: added to the value.
    """

    position: int
    layer: int
    operator: int
    element: int
    delta: int

    def __call__(self, operator: int, values: np.ndarray) -> np.ndarray:
        if operator != self.operator:
            return values
        changed = values.copy()
        changed[self.element] += self.delta
        return changed


class _TamperedSession(PortableSession):
    """A session in which one layer at one position is computed with a changed value. Fed so that this position comes
    alone (how a sequence is cut changes no bit)."""

    def __init__(self, model: PortableModel, trees: ModelTrees, tamper: Tamper) -> None:
        super().__init__(model)
        self._trees, self._tamper = trees, tamper

    def _layer(self, layer: int, hidden: Tensor, begin: int) -> Tensor:
        import torch

        stream = hidden[0, 0].clone()
        result = super()._layer(layer, hidden, begin)
        if layer != self._tamper.layer or begin != self._tamper.position:
            return result
        earlier = [store[layer][0, :, :begin].transpose(0, 1).flatten(1) for store in (self._keys, self._values)]
        inputs = ProgramInputs(*(tensor.long().numpy() for tensor in (stream, *earlier)))
        claim = TraceClaim(b"", b"", b"", 0, 0, 0)  # a layer's values depend on none of it
        done = Execution(self._trees, claim, LAYER, begin, layer, inputs, alter=self._tamper).vectors
        kv = self._trees.dims.kv
        for store, row in ((self._keys, done[pr.KEY]), (self._values, done[pr.QKV][-kv:])):
            store[layer][0, :, begin] = torch.from_numpy(row).double().view(-1, self._trees.dims.tile)
        result[0, 0] = torch.from_numpy(done[pr.OUTPUT]).double()
        return result


@dataclass
class Run:
    """A player's run of an answer whose tokens are given.

    Attributes:
        model, trees: what this player runs, which for a cheat need not be what is registered.
        prompt_ids, token_ids: as claimed. seed: 32 bytes, of the trace's salts. tamper: a cheat's change.
        inferences: runs so far, in units of the whole answer.
    """

    model: PortableModel
    trees: ModelTrees
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    seed: bytes
    decoding: Decoding
    tamper: Tamper | None = None
    inferences: float = field(default=0.0, init=False)
    _wrong_token: int = field(default=0, init=False)
    _states: dict[tuple[int, int], LayerState] = field(default_factory=dict, init=False)
    _executions: dict[tuple[int, int, int], Execution] = field(default_factory=dict, init=False)

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens that were fed, one per position."""
        return (*self.prompt_ids, *self.token_ids[:-1])

    @cached_property
    def wrong_token(self) -> int:
        """Number of the first claimed answer token that this run would not have chosen (as ``game.start`` counts); 0 if
        there is none. Costs what the trace costs, and is found on the same run."""
        _ = self.trace
        return self._wrong_token

    def _replay(self, recorder: Recorder, positions: int) -> int:
        """Run the first ``positions`` again; number of the first token among them that was not chosen so, or 0."""
        ids = self.fed[:positions]
        self.inferences += len(ids) / len(self.fed)
        cuts = [0, len(ids)]
        session = PortableSession(self.model)
        if self.tamper is not None:
            session = _TamperedSession(self.model, self.trees, self.tamper)
            at = self.tamper.position
            cuts = sorted({0, min(at, len(ids)), min(at + 1, len(ids)), len(ids)})
        found, prompt = 0, len(self.prompt_ids)
        for begin, end in pairwise(cuts):
            if begin == end:
                continue
            logits = session.feed_batch([ids[begin:end]], [recorder], all_logits=True)[0]
            for position in range(max(begin, prompt - 1), end):
                step = position + 1 - prompt
                chosen = self.model.choose(logits[position - begin].numpy(), self.decoding, step)
                if not found and chosen != self.token_ids[step]:
                    found = position + 1
        return found

    @cached_property
    def trace(self) -> Trace:
        """The trace this run commits to."""
        recorder = TraceRecorder(self.seed)
        self._wrong_token = self._replay(recorder, len(self.fed))
        return recorder.finish([*self.prompt_ids, *self.token_ids], len(self.prompt_ids))

    @cached_property
    def states(self) -> Tree:
        """Tree over the trace's leaves."""
        return Tree([sha256(b"\x00" + leaf).digest() for leaf in self.trace.leaves])

    @cached_property
    def tokens(self) -> Tree:
        """Tree over the salted tokens."""
        return Tree([sha256(b"\x00" + leaf).digest() for leaf in self.trace.tokens])

    @property
    def claim(self) -> TraceClaim:
        """What this run would be claimed as."""
        trace, decoding = self.trace, self.decoding
        return TraceClaim(
            trace.states_root, trace.tokens_root, trace.seed_hash, trace.shape.positions, decoding.seed,
            decoding.temperature_milli,
        )  # fmt: skip

    def execution(self, target: int, position: int, layer: int) -> Execution:
        """This player's execution of a disputed program; runs the answer again up to it when states are not at hand.
        The last two are kept."""
        key = (target, position, layer)
        if key not in self._executions:
            while len(self._executions) >= 2:
                self._executions.pop(next(iter(self._executions)))
            self._executions[key] = self._execute(*key)
        return self._executions[key]

    def _execute(self, target: int, position: int, layer: int) -> Execution:
        import numpy as np

        d = self.trees.dims
        before = layer if target != LAYER else layer - 1
        wanted = [(q, layer) for q in range(position)] if target == LAYER else []
        wanted += [(position, before)] if before >= 0 else []
        self._need(wanted)
        if before < 0:
            token = (*self.prompt_ids, *self.token_ids)[position]
            stream = self.trees.matrix(pr.Matrix.EMBED, 0)[token].astype(np.int64)
        else:
            stream = _ints(self._states[position, before].output)
        rows = [self._states[q, layer] for q in range(position)] if target == LAYER else []
        keys, values = (
            np.array([_ints(row) for row in each], dtype=np.int64).reshape(-1, d.kv)
            for each in ([row.key for row in rows], [row.value for row in rows])
        )
        at = self.tamper
        mine = at is not None and target == LAYER and (at.position, at.layer) == (position, layer)
        step = max(position + 1 - len(self.prompt_ids), 0)
        return Execution(
            self.trees, self.claim, target, position, layer, ProgramInputs(stream, keys, values), step,
            at if mine else None,
        )  # fmt: skip

    def piece(self, position: int, layer: int, piece: int) -> tuple[bytes, list[bytes]]:
        """(salt ‖ data, path through leaf and trace) of a piece of a committed state."""
        self._need([(position, layer)])
        pieces = self._states[position, layer].pieces()
        salted = [s + p for s, p in zip(salts(self.seed, position, layer, len(pieces)), pieces, strict=True)]
        inner = Tree([sha256(b"\x00" + each).digest() for each in salted])
        return salted[piece], inner.path(piece) + self.states.path(position * self.trees.dims.layers + layer)

    def pieces(self, position: int, layer: int) -> Tree:
        """Tree over the salted pieces of a committed state."""
        count = self.trees.dims.pieces
        return Tree([sha256(b"\x00" + self.piece(position, layer, piece)[0]).digest() for piece in range(count)])

    def token(self, at: int) -> tuple[bytes, list[bytes]]:
        """(data, path) of a token leaf."""
        fed = (*self.prompt_ids, *self.token_ids)
        return token_leaf(self.seed, at, fed[at], at - len(self.prompt_ids)), self.tokens.path(at)

    def _need(self, wanted: Sequence[tuple[int, int]]) -> None:
        missing = [place for place in wanted if place not in self._states]
        if missing:
            keeper = StateKeeper(missing)
            self._replay(keeper, max(position for position, _ in missing) + 1)
            self._states.update(keeper.states)


def _ints(row: bytes) -> np.ndarray:
    import numpy as np

    return np.frombuffer(row, dtype="<i4").astype(np.int64)
