"""What a player knows of an answer: its own run of it, from which every committed or disputed state
is rebuilt.

An honest fisherman runs the model on the claimed tokens; a cheat runs something else. Neither keeps
the run: the trace's leaves are kept (32 bytes each), and the states that one disputed program reads
are rebuilt by running again up to them. So a whole dispute costs a player at most two inferences:
one for the leaves, one for the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from otr_core.lane.dims import Matrix
from otr_core.lane.element import LAYER, TraceClaim
from otr_core.lane.sampling import Decoding, draw
from otr_core.merkle import Tree, leaf_hash
from otr_core.poea.trace import LayerState, Trace, prompt_leaves, salts
from otr_node.commitment import ModelTrees
from otr_node.execution import Execution, ProgramInputs
from otr_node.portable import PortableModel, PortableSession
from otr_node.recorder import StateKeeper, open_recorder
from otr_node.tensor_lane import TensorModel, TensorSession

if TYPE_CHECKING:
    from otr_core.poea.trace import Recorder


@dataclass(frozen=True)
class Tamper:
    """One value changed where it is made, everything after it computed from the changed one.

    Attributes:
        operator: number in ``program.LayerOperator``. delta: added to the value.
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


DisputedModel = PortableModel | TensorModel
"""A model of a lane whose answers the court judges."""


@dataclass
class Run:
    """A player's run of an answer whose tokens are given.

    Attributes:
        model, trees: what this player runs, which for a cheat need not be what is registered.
        prompt_ids, token_ids: as claimed. seed: 32 bytes, of the trace's salts. tamper: a cheat's
            change. prompt_seed: 32 bytes of the client's, of the prompt's salts; None where nothing
            was ordered: ``seed``. order_id: of the order, 32 bytes; the draws depend on it.
        keep: (position, layer) of states that are kept while the trace is made, where the player knows
            beforehand what will be disputed.
        inferences: runs so far, in units of the whole answer.
    """

    model: DisputedModel
    trees: ModelTrees
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    seed: bytes
    decoding: Decoding
    tamper: Tamper | None = None
    prompt_seed: bytes | None = None
    order_id: bytes = b""
    keep: tuple[tuple[int, int], ...] = ()
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
        """Number of the first claimed answer token that this run would not have chosen (as
        ``game.start`` counts); 0 if there is none. Costs what the trace costs, and is found on the
        same run."""
        _ = self.trace
        return self._wrong_token

    def _replay(self, recorder: Recorder, positions: int) -> int:
        """Run the first ``positions`` again; number of the first token among them that was not
        chosen so, or 0."""
        ids, prompt = self.fed[:positions], len(self.prompt_ids)
        self.inferences += len(ids) / len(self.fed)
        wrong = 0  # all is fed, whatever is found
        for position, logits in enumerate(self._logits(ids, recorder), start=prompt - 1):
            step = position + 1 - prompt
            drawn = draw(self.decoding.seed, step, self.order_id)
            chosen = self.model.choose(logits, self.decoding.temperature_milli, drawn)
            if chosen != self.token_ids[step]:
                wrong = wrong or position + 1
        return wrong

    def _logits(self, ids: Sequence[int], recorder: Recorder) -> Iterator[np.ndarray]:
        """The logits after each of the fed tokens from the prompt's last on."""
        first, tamper = len(self.prompt_ids) - 1, self.tamper
        watch = None if tamper is None else (tamper.position, tamper.layer)
        if isinstance(self.model, PortableModel):
            session = PortableSession(self.model, watch=watch, alter=tamper) if tamper else PortableSession(self.model)
            made = session.feed_batch([ids], [recorder], all_logits=True)[0]  # (positions, vocab)
            yield from (made[position].numpy() for position in range(first, len(ids)))
            return
        words = TensorSession(self.model, refuse=False, watch=watch, alter=tamper)
        # A changed position is fed alone; how a sequence is cut changes no bit.
        cuts = [] if watch is None else [watch[0], watch[0] + 1]
        ends = [0, *(cut for cut in cuts if 0 < cut < len(ids)), len(ids)]
        for begin, end in pairwise(ends):
            yield from words.feed_all(ids[begin:end], recorder, max(first - begin, 0))

    @cached_property
    def trace(self) -> Trace:
        """The trace this run commits to."""
        recorder, keeper = open_recorder(self.seed), StateKeeper(self.keep)
        self._wrong_token = self._replay(_Both(recorder, keeper) if self.keep else recorder, len(self.fed))
        self._states.update(keeper.states)
        return recorder.finish([*self.prompt_ids, *self.token_ids], len(self.prompt_ids), self.prompt_seed)

    @cached_property
    def states(self) -> Tree:
        """Tree over the trace's leaves."""
        return Tree([leaf_hash(leaf) for leaf in self.trace.leaves])

    @cached_property
    def tokens(self) -> Tree:
        """Tree over the salted tokens."""
        return Tree([leaf_hash(leaf) for leaf in self.trace.tokens])

    def with_seed(self, seed: bytes) -> Run:
        """The same run under the salts of another seed; the prompt's are the client's."""
        return replace(self, seed=seed, prompt_seed=self.prompt_seed or self.seed)

    @cached_property
    def prompt(self) -> Tree:
        """Tree over the salted tokens of the prompt, whose root is ordered."""
        return Tree([leaf_hash(leaf) for leaf in prompt_leaves(self.prompt_ids, self.prompt_seed or self.seed)])

    @property
    def claim(self) -> TraceClaim:
        """What this run would be claimed as."""
        trace, how = self.trace, (self.order_id, self.decoding.seed, self.decoding.temperature_milli)
        return TraceClaim(trace.states_root, trace.tokens_root, trace.seed_hash, trace.shape.positions, *how)

    def execution(self, target: int, position: int, layer: int) -> Execution:
        """This player's execution of a disputed program; runs the answer again up to it when states
        are not at hand. The last two are kept."""
        key = (target, position, layer)
        if key not in self._executions:
            while len(self._executions) >= 2:
                self._executions.pop(next(iter(self._executions)))
            self._executions[key] = self._execute(*key)
        return self._executions[key]

    def _execute(self, target: int, position: int, layer: int) -> Execution:
        d = self.trees.dims
        before = layer if target != LAYER else layer - 1
        wanted = [(q, layer) for q in range(position)] if target == LAYER else []
        wanted += [(position, before)] if before >= 0 else []
        # What the dispute may come to next is kept on the same run: what the trace holds of this
        # layer; of a first layer the choice of its token.
        wanted += [(position, layer)] if target == LAYER else []
        wanted += [(position - 1, d.layers - 1)] if target == LAYER and layer == 0 and position else []
        self._need(wanted)
        if before < 0:
            token = (*self.prompt_ids, *self.token_ids)[position]
            stream = self.trees.matrix(Matrix.EMBED, 0)[token].astype(np.int64)
        else:
            stream = _ints(self._states[position, before].output)
        rows = [self._states[q, layer] for q in range(position)] if target == LAYER else []
        keys, values = (
            np.array([_ints(row) for row in each], dtype=np.int64).reshape(-1, d.kv)
            for each in ([row.key for row in rows], [row.value for row in rows])
        )
        # A cheat's change belongs to one layer at one position; any other program is executed
        # honestly.
        at = self.tamper
        mine = at is not None and target == LAYER and (at.position, at.layer) == (position, layer)
        inputs, step = ProgramInputs(stream, keys, values), max(position + 1 - len(self.prompt_ids), 0)
        place, alter = (target, position, layer), at if mine else None
        return Execution(self.model, self.trees, self.claim, *place, inputs, step, alter)

    def piece(self, position: int, layer: int, piece: int) -> tuple[bytes, list[bytes]]:
        """(salt ‖ data, path through leaf and trace) of a piece of a committed state."""
        self._need([(position, layer)])
        pieces = self._states[position, layer].pieces()
        salted = [s + p for s, p in zip(salts(self.seed, position, layer, len(pieces)), pieces, strict=True)]
        inner = Tree([leaf_hash(each) for each in salted])
        return salted[piece], inner.path(piece) + self.states.path(position * self.trees.dims.layers + layer)

    def pieces(self, position: int, layer: int) -> Tree:
        """Tree over the salted pieces of a committed state."""
        count = self.trees.dims.pieces
        return Tree([leaf_hash(self.piece(position, layer, piece)[0]) for piece in range(count)])

    def token(self, at: int) -> tuple[bytes, list[bytes]]:
        """(data, path) of a token leaf."""
        return self.trace.tokens[at], self.tokens.path(at)

    def _need(self, wanted: Sequence[tuple[int, int]]) -> None:
        missing = [place for place in wanted if place not in self._states]
        if missing:
            keeper = StateKeeper(missing)
            self._replay(keeper, max(position for position, _ in missing) + 1)
            self._states.update(keeper.states)


@dataclass(frozen=True)
class _Both:
    """Two recorders of one run."""

    first: Recorder
    second: Recorder

    def absorb(self, *what: Any) -> None:
        """As ``Recorder.absorb``."""
        self.first.absorb(*what)
        self.second.absorb(*what)


def _ints(row: bytes) -> np.ndarray:
    return np.frombuffer(row, dtype="<i4").astype(np.int64)
