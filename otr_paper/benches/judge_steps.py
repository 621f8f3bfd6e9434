"""Random steps at the court's judge: what the definition says of them, the judge in Python, and the
contract.

The values are nobody's run: every operator, state, token and accumulator is drawn, among them the
smallest and largest that a leaf holds, as a cheat may commit to. What follows from them by the
definition (``lane.step``) is a right step; each is judged as it is, with a false result, and now and
then with a changed opening, which no judge may take.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from http.client import HTTPConnection
from random import Random
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from otr_core import merkle
from otr_core.dispute.judge import Opening, verdict
from otr_core.dispute.openings import DataAndPath, Openings
from otr_core.errors import MoveError
from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.element import LAYER, TOKEN, Accumulator, Element, Place, TraceClaim, program
from otr_core.lane.program import Kind, Operator
from otr_core.lane.step import PRIMITIVES, right, value
from otr_core.lane.tensor_program import TensorDims
from otr_core.poea.trace import SALT_BYTES
from otr_node.chain.evm import compile_vyper, revert_reason, signature_hash
from otr_node.chain.interface import AnyChain, Contract
from otr_node.chain.node import RefusedError
from otr_node.chain.onchain import FOLDER, STEP_JUDGES, TENSOR_JUDGE, judge_of
from otr_node.commitment import ModelTrees

Ask = Callable[[Sequence[bytes]], list[bool | str]]
"""Calldata of calls of ``judge`` -> what each returns, or the reason why it reverts."""
POSITIONS = 12
TARGETS = (LAYER, LAYER, TOKEN)
"""What a drawn program computes: a layer, twice as often as a token."""
_BATCH = 250
_EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**52, -(2**52), 2**62, 2**63 - 1, -(2**63))
_SPOILT = 0.02  # share of steps that are shown with a changed opening as well


@dataclass
class DrawnProgram:
    """A drawn program of a model, and all that its steps may read.

    Attributes:
        model: its commitments. target, position, layer: as in ``Place``. random: draws everything.
        claim: over drawn states and tokens. vectors: int64 values by number of the operator.
    """

    model: ModelTrees
    target: int
    position: int
    layer: int
    random: Random
    claim: TraceClaim = field(init=False)
    program: tuple[Operator, ...] = field(init=False)
    vectors: list[np.ndarray] = field(init=False)
    _pieces: dict[tuple[int, int], list[bytes]] = field(init=False, default_factory=dict)
    _trees: dict[Any, merkle.Tree] = field(init=False, default_factory=dict)
    _weights: dict[tuple[int, ...], DataAndPath] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        random, d = self.random, self.dims
        positions, temperature = self.position + random.randrange(1, 4), random.choice((0, 0, 1, 700, 2**31))
        leaves = [random.randbytes(32) for _ in range(positions * d.layers)]
        for at in range(self.position + 1):
            for layer in {self.layer, max(self.layer - 1, 0)}:
                leaves[at * d.layers + layer] = merkle.leaf_hash(self._state(at, layer).root)
        self._trees["states"] = merkle.Tree(leaves)
        self.token_data = random.randbytes(SALT_BYTES) + random.randrange(d.vocab).to_bytes(4, "little") + bytes(4)
        tokens = [random.randbytes(32) for _ in range(positions + 1)]
        tokens[self.position] = merkle.leaf_hash(self.token_data)
        self._trees["tokens"] = merkle.Tree(tokens)
        roots = self._trees["states"].root, self._trees["tokens"].root, random.randbytes(32)
        how = random.randbytes(32), random.randrange(2**64), temperature if self.target == TOKEN else 0
        self.claim = TraceClaim(*roots, positions, *how)
        self.program = program(d, self.target, self.position, how[2])
        self.vectors = [self._drawn(operator.length, 63) for operator in self.program]

    def _drawn(self, count: int, bits: int) -> np.ndarray:
        """Values of the lane: integers, or mostly words of fp32."""
        words = isinstance(self.dims, TensorDims) and self.random.random() < 0.9
        return drawn_words(self.random, count) if words else drawn_values(self.random, count, bits)

    def _state(self, position: int, layer: int) -> merkle.Tree:
        """Tree over the drawn pieces of a state."""
        d, made = self.dims, []
        for piece in range(d.pieces):
            row, first = d.piece_place(piece)
            values = self._drawn(min(PIECE_VALUES, d.row_values(row) - first), 31)
            made.append(self.random.randbytes(SALT_BYTES) + values.astype("<i4").tobytes())
        self._pieces[position, layer] = made
        self._trees[position, layer] = merkle.Tree([merkle.leaf_hash(each) for each in made])
        return self._trees[position, layer]

    # --- what ``Openings`` reads

    @property
    def dims(self) -> Dims:
        return self.model.dims

    def tile_data(self, operator: int, tile: int) -> bytes:
        t = self.dims.tile
        return bytes(self.vectors[operator][tile * t : (tile + 1) * t].astype(">i8").tobytes())

    def tiles(self, operator: int) -> merkle.Tree:
        if ("tiles", operator) not in self._trees:
            count = self.dims.tiles(self.program[operator].length)
            hashes = [merkle.leaf_hash(self.tile_data(operator, tile)) for tile in range(count)]
            self._trees["tiles", operator] = merkle.Tree(hashes)
        return self._trees["tiles", operator]

    @cached_property
    def operators(self) -> merkle.Tree:
        return merkle.Tree([merkle.leaf_hash(self.tiles(number).root) for number in range(len(self.program))])

    def weight(self, matrix: Matrix, layer: int, row: int, chunk: int) -> DataAndPath:
        key = (matrix, layer, row, chunk)
        if key not in self._weights:
            self._weights[key] = self.model.weight(*key)
        return self._weights[key]

    def table(self, table: Table, entry: int) -> DataAndPath:
        return self.model.table(table, entry)

    def piece(self, position: int, layer: int, piece: int) -> DataAndPath:
        inner, leaf = self._trees[position, layer].path(piece), position * self.dims.layers + layer
        return self._pieces[position, layer][piece], inner + self._trees["states"].path(leaf)

    def token(self, at: int) -> DataAndPath:
        return self.token_data, self._trees["tokens"].path(at)

    # --- steps

    def reader(self, place: Place, ends: tuple[Accumulator, Accumulator]) -> Openings:
        """Answers from the drawn values, and records what it has opened."""
        execution: Any = self  # whose accumulators are never read: those of ``ends`` are
        made = _Drawn(execution, place, piece=self.piece, token=self.token)
        made.ends = ends
        return made

    def steps(self, each: int) -> Iterator[JudgedStep]:
        """Right steps of every operator, ``each`` of it, and of what the trace holds."""
        random, step = self.random, self.random.randrange(2**31)
        where = (self.target, self.position, self.layer)
        for number, operator in enumerate(self.program):
            for _ in range(each):
                element = random.choice((0, operator.length - 1, random.randrange(operator.length)))
                at = random.randrange(operator.steps + 1) if operator.steps > 1 else 0
                place = Place(*where, number, element, at, 0, token_step=step)
                yield self._right(operator, place)
        if self.target == LAYER:
            for piece in range(self.dims.pieces):
                row, first = self.dims.piece_place(piece)
                element = random.randrange(min(PIECE_VALUES, self.dims.row_values(row) - first))
                names = [operator.name for operator in self.program]
                name, tiles = self.dims.kept(row)
                source, at = self.vectors[names.index(name)], first + element + tiles * self.dims.tile
                place = Place(*where, len(self.program), element, 0, int(source[at]), piece)
                yield JudgedStep(self, place, ((0, 0), (0, 0)), None)

    def _right(self, operator: Operator, place: Place) -> JudgedStep:
        """What follows from a drawn accumulator, or at once."""
        none, primitive = (0, 0), PRIMITIVES[operator.kind]
        before = _accumulator(self.random) if place.step else primitive.start
        element = Element(self.dims, self.claim, place, operator, self.reader(place, (none, none)))
        if operator.steps == 1:
            return JudgedStep(self, replace(place, value=value(element)), (none, none), operator.kind)
        if place.step == operator.steps:
            return JudgedStep(
                self, replace(place, value=primitive.finish(element, before)), (before, none), operator.kind
            )
        after = primitive.step(element, place.step, before)
        return JudgedStep(self, place, (before if place.step else none, after), operator.kind)


class _Drawn(Openings):
    """Openings of drawn values, between drawn accumulators."""

    ends: tuple[Accumulator, Accumulator] = ((0, 0), (0, 0))

    def accumulator(self, step: int) -> Accumulator:
        """As the game has it in the clear."""
        return self.ends[step - self._place.step + 1]


@dataclass(frozen=True)
class JudgedStep:
    """A step, as it is shown to a judge.

    Attributes:
        of: the program that it is of. place: with the published value. ends: the accumulators before
            and after. kind: of the operator; None: what the trace holds.
    """

    of: DrawnProgram
    place: Place
    ends: tuple[Accumulator, Accumulator]
    kind: Kind | None

    def false(self, random: Random) -> JudgedStep:
        """The same with a false result."""
        before, (value_after, index) = self.ends
        steps = 1 if self.kind is None else self.of.program[self.place.operator].steps
        delta = random.choice((1, -1, 2**31, -(2**62)))
        if steps == 1 or self.place.step == steps:
            return replace(self, place=replace(self.place, value=self.place.value + delta))
        after = (value_after + delta, index) if random.random() < 0.7 else (value_after, index + 1)
        return replace(self, ends=(before, after))

    def opened(self) -> tuple[bool, list[Opening]]:
        """What the definition says, and the openings that it has asked for."""
        reader = self.of.reader(self.place, self.ends)
        return right(self.of.dims, self.of.claim, self.place, reader), reader.made

    def judged(self, openings: Sequence[Opening]) -> bool | str:
        """What the judge in Python says, or why it refuses."""
        model = self.of.model
        roots = {"weights_root": model.weights_root, "tables_root": model.tables_root}
        given = {**roots, "operators_root": self.of.operators.root, "ends": self.ends}
        try:
            return verdict(self.of.dims, self.of.claim, self.place, openings, **given)
        except MoveError as error:
            return error.reason

    def words(self, openings: Sequence[Opening]) -> tuple[Any, ...]:
        """The same as arguments of the contract's ``judge``."""
        p, claim, (before, after) = self.place, self.of.claim, self.ends
        where = (p.target, p.position, p.layer, p.operator, p.element, p.step, p.piece, p.token_step, p.value)
        committed = (claim.states_root, claim.tokens_root, self.of.operators.root)
        roots = (*committed, *before, *after, *astuple(claim)[3:])
        return where, roots, [(each.data, list(each.proof)) for each in openings]


def drawn_values(random: Random, count: int, bits: int) -> np.ndarray:
    """Int64 values of up to so many bits and a sign: of all orders of magnitude, small ones, or the
    extremes."""
    most, mode = 2**bits - 1, random.random()
    if mode < 0.4:
        made = [random.choice((1, -1)) * random.getrandbits(random.randrange(1, bits + 1)) for _ in range(count)]
    elif mode < 0.8:
        narrow = random.randrange(1, min(bits, 30))
        made = [random.randrange(-(2**narrow), 2**narrow) for _ in range(count)]
    else:
        made = [random.choice(_EXTREMES) for _ in range(count)]
    return np.array([max(min(each, most), -most - 1) for each in made], dtype=np.int64)


def drawn_words(random: Random, count: int) -> np.ndarray:
    """Words of fp32 as signed int64: near 1, of all exponents, close together, or NaNs, infinities,
    zeros and subnormal numbers; some with nothing in the lower half."""
    mode = random.choice(("near", "wide", "close", "special"))
    centre, made = random.randrange(256), []
    for _ in range(count):
        spread = {"near": (120, 134), "wide": (0, 255), "close": (max(centre - 3, 0), min(centre + 3, 255))}
        field = random.choice((0, 0, 1, 255, 254, 127)) if mode == "special" else random.randint(*spread[mode])
        word = random.randrange(2) << 31 | field << 23 | random.choice((0, 1, 2**23 - 1, random.getrandbits(23)))
        made.append(word & ~0xFFFF if random.random() < 0.3 else word)
    return np.array(made, np.uint32).view(np.int32).astype(np.int64)


def _accumulator(random: Random) -> Accumulator:
    """Any that a game could hold: a value of up to 127 bits, and an index."""
    made = random.choice((*_EXTREMES, 2**126, -(2**126), random.getrandbits(100), -random.getrandbits(60)))
    return made, random.choice((0, 0, -1, random.randrange(2**31)))


def calldata(judge: Contract, words: tuple[Any, ...]) -> bytes:
    """Calldata of ``judge`` by the ABI, without the general encoder, which takes longer than the call."""
    where, roots, openings = words
    parts = []
    for data, path in openings:
        padded = data + bytes(-len(data) % 32)
        parts.append(b"".join((_word(64), _word(96 + len(padded)), _word(len(data)), padded, _word(len(path)), *path)))
    head = [_word(each) for each in (*where, *roots)]
    offsets, at = [], 32 * len(parts)
    for part in parts:
        offsets.append(_word(at))
        at += len(part)
    start = signature_hash(judge.entry("judge"))[:4]
    return b"".join((start, *head, _word(32 * (len(head) + 1)), _word(len(parts)), *offsets, *parts))


def _word(x: int | bytes) -> bytes:
    return x if isinstance(x, bytes) else (x % 2**256).to_bytes(32, "big")


def deploy_judge(chain: AnyChain, contract: Contract, model: ModelTrees) -> Contract:
    """The judge of a model."""
    name, args = judge_of(model)
    steps = STEP_JUDGES if name == TENSOR_JUDGE else ()
    at = [chain.deploy(compile_vyper(FOLDER / f"{step}.vy"))[0].address for step in steps]
    return chain.deploy(contract, *args, *at)[0]


def by_batches(url: str, judge: Contract) -> Ask:
    """Ask a contract behind a node's door, many calls in one request."""
    door = HTTPConnection(urlsplit(url).netloc, timeout=120)

    def ask(calls: Sequence[bytes]) -> list[bool | str]:
        about = [{"to": judge.address, "data": "0x" + each.hex()} for each in calls]
        request = [
            {"jsonrpc": "2.0", "id": number, "method": "eth_call", "params": [each, "latest"]}
            for number, each in enumerate(about)
        ]
        door.request("POST", "/", json.dumps(request), {"content-type": "application/json"})
        answers = sorted(json.loads(door.getresponse().read()), key=lambda each: each["id"])
        return [
            revert_reason(RefusedError(each["error"]).output) if "error" in each else int(each["result"], 16) == 1
            for each in answers
        ]

    return ask


@dataclass
class StepTally:
    """What was compared.

    Attributes:
        steps: judged by all three, by kind of primitive; ``kept``: what the trace holds. right, false:
            of them. refused: shown with a changed opening. differing: those about which not all three
            say the same, or a false one that is not called false.
    """

    steps: Counter[str] = field(default_factory=Counter)
    right: int = 0
    false: int = 0
    refused: int = 0
    differing: list[str] = field(default_factory=list)

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "steps": dict(sorted(self.steps.items())), "total": self.steps.total(), "right": self.right,
            "false": self.false, "refused": self.refused, "differing": len(self.differing),
        }  # fmt: skip


def compare_at_judge(
    model: ModelTrees,
    ask: Ask,
    judge: Contract,
    random: Random,
    wanted: int,
    tally: StepTally,
    each: int = 4,
    targets: Sequence[int] = TARGETS,
) -> None:
    """Compare ``wanted`` steps of drawn programs of a model, or somewhat more.

    Args:
        each: right steps of an operator of a program. targets: of the programs; one of them is drawn
            each time.
    """
    waiting: list[tuple[bytes, bool | str, str]] = []

    def settle() -> None:
        for (_, expected, about), found in zip(waiting, ask([call for call, _, _ in waiting]), strict=True):
            if found != expected:
                tally.differing.append(f"{about}: the contract says {found}, the judge in Python {expected}")
        waiting.clear()

    end = tally.steps.total() + wanted
    while tally.steps.total() < end:
        target = random.choice(targets)
        layer = random.randrange(model.dims.layers) if target == LAYER else model.dims.layers - 1
        made = DrawnProgram(model, target, random.randrange(POSITIONS), layer, random)
        for honest in made.steps(each):
            name = "kept" if honest.kind is None else honest.kind.name.lower()
            for step, good in ((honest, True), (honest.false(random), False)):
                defined, openings = step.opened()
                judged = step.judged(openings)
                if not defined == judged == good:
                    tally.differing.append(f"{step.place}: {good} is {defined} by the definition, {judged} in Python")
                tally.steps[name] += 1
                tally.right += good
                tally.false += not good
                waiting.append((calldata(judge, step.words(openings)), judged, str(step.place)))
            if openings and random.random() < _SPOILT:
                bad = [
                    replace(openings[0], data=bytes([openings[0].data[0] ^ 1]) + openings[0].data[1:]),
                    *openings[1:],
                ]
                refused = honest.judged(bad)
                tally.refused += refused == "opening root"
                waiting.append((calldata(judge, honest.words(bad)), refused, f"changed: {honest.place}"))
            if len(waiting) >= _BATCH:
                settle()
    if waiting:  # a node takes no batch of none
        settle()
