"""A player's own execution of one disputed program: every operator's values, and the trees
committed to in the game."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from otr_core.lane import step
from otr_core.lane.dims import Dims, Table
from otr_core.lane.element import LAYER, Accumulator, Element, Place, TraceClaim, program
from otr_core.lane.held import HeldValues
from otr_core.lane.program import Operator
from otr_core.lane.sampling import draw
from otr_core.merkle import Tree, leaf_hash
from otr_node.commitment import ModelTrees
from otr_node.portable import Alter, PortableModel, PortableSession, sampling_weights
from otr_node.tensor_lane import TensorModel
from otr_node.tensor_values import fixed_logits, head_values, layer_values


@dataclass(frozen=True)
class ProgramInputs:
    """What a program reads of the trace: int64 arrays.

    Attributes:
        stream: the residual stream that enters, (hidden,).
        keys, values: rows of earlier positions in this layer, (position, kv); none for a token's
            choice.
    """

    stream: np.ndarray
    keys: np.ndarray
    values: np.ndarray


@dataclass
class Execution:
    """The values of every operator of one program, and what is committed of them.

    The values are the vectorised lane's (``PortableSession``, ``tensor_values``); the accumulators between them are
    computed step by step when a dispute comes to an element, by the definition that the judge
    applies (``lane.step``).

    Attributes:
        lane, model: what is run, and its commitments.
        target, position, layer, claim: as in ``step.Place``.
        token_step: of a token's choice: number of the answer token.
        alter: changes a layer's values; None for an honest player.
        vectors: the values, by number of the operator.
    """

    lane: PortableModel | TensorModel
    model: ModelTrees
    claim: TraceClaim
    target: int
    position: int
    layer: int
    inputs: ProgramInputs
    token_step: int = 0
    alter: Alter | None = None
    vectors: list[np.ndarray] = field(init=False)
    _tile_trees: dict[int, Tree] = field(init=False, default_factory=dict)
    _accumulators: dict[tuple[int, int], list[Accumulator]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.lane, TensorModel):
            self.vectors = self._of_words(self.lane)
            return
        self.vectors = self._of_integers(self.lane)

    def _of_words(self, lane: TensorModel) -> list[np.ndarray]:
        given = self.inputs
        if self.target == LAYER:
            rows = given.stream, given.keys, given.values, self._turn()
            return list(layer_values(lane, self.layer, self.position, *rows, self.alter))
        made: list[np.ndarray] = list(head_values(lane, given.stream))
        logits, milli = (made[-1] & 0xFFFFFFFF).astype(np.uint32).view(np.float32), self.claim.temperature_milli
        if milli:
            integers = fixed_logits(logits)
            weights = sampling_weights(integers, milli)
            made += [integers, integers.max(keepdims=True), weights, weights.sum(keepdims=True)]
        return [*made, np.array([lane.choose(logits, milli, self._drawn())])]

    def _of_integers(self, lane: PortableModel) -> list[np.ndarray]:
        session, given = PortableSession(lane, alter=self.alter), self.inputs
        if self.target == LAYER:
            session.run_layer(self.position, self.layer, given.stream, given.keys, given.values)
            return list(session.operators.values())
        session.run_head(given.stream)
        made = [given.stream, *session.operators.values()]
        logits, milli = made[-1], self.claim.temperature_milli
        if milli:
            weights = sampling_weights(logits, milli)
            made += [logits.max(keepdims=True), weights, weights.sum(keepdims=True)]
        return [*made, np.array([lane.choose(logits, milli, self._drawn())])]

    def _drawn(self) -> int:
        return draw(self.claim.seed, self.token_step, self.claim.order_id)

    def _turn(self) -> np.ndarray:
        first = self.dims.turn(self.layer, self.position)
        return self.model.tables[Table.ROTARY][first : first + self.dims.tile]

    @property
    def dims(self) -> Dims:
        return self.model.dims

    @cached_property
    def program(self) -> tuple[Operator, ...]:
        return program(self.dims, self.target, self.position, self.claim.temperature_milli)

    @cached_property
    def held(self) -> HeldValues:
        """The values as a step of the definition reads them."""
        saturation = self.model.tables[Table.SATURATION]
        return HeldValues(
            d=self.dims,
            vectors=dict(enumerate(self.vectors)),
            keys=self.inputs.keys,
            values=self.inputs.values,
            turn=self._turn(),
            saturation=int(saturation[self.layer]) if len(saturation) else 0,
            matrix=lambda matrix: self.model.matrix(matrix, self.layer),
        )

    def accumulators(self, operator: int, element: int) -> list[Accumulator]:
        """The accumulator after each step of an element."""
        if (operator, element) not in self._accumulators:
            place = Place(self.target, self.position, self.layer, operator, element, 0, 0, 0, self.token_step)
            made = step.accumulators(Element(self.dims, self.claim, place, self.program[operator], self.held))
            self._accumulators[operator, element] = list(made)
        return self._accumulators[operator, element]

    # --- what is committed

    def tile_data(self, operator: int, tile: int) -> bytes:
        """Content of a tile's leaf."""
        values = self.vectors[operator][tile * self.dims.tile : (tile + 1) * self.dims.tile]
        return bytes(values.astype(">i8").tobytes())

    def tiles(self, operator: int) -> Tree:
        """Tree over an operator's tiles."""
        if operator not in self._tile_trees:
            count = self.dims.tiles(self.program[operator].length)
            self._tile_trees[operator] = Tree([leaf_hash(self.tile_data(operator, i)) for i in range(count)])
        return self._tile_trees[operator]

    @cached_property
    def operators(self) -> Tree:
        """Tree over the operators; a leaf's content is the root of its tiles."""
        return Tree([leaf_hash(self.tiles(i).root) for i in range(len(self.program))])
