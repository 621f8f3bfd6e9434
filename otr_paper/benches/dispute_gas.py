"""What a whole dispute costs on chain, measured now: gas, rounds and calldata at the sizes of two
models.

The gas depends on sizes alone, and on how many bytes of a transaction are zero; not on what was
computed. So the operator here commits to made-up values of the usual magnitude, in trees of the
real sizes, of which the registered weights are one path. The court convicts it at the step that was
pointed at. All transactions count that a dispute takes, from the challenge to the payout of reward
and bond; what comes before and whether there is a dispute or not, such as the batch, is told apart.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from otr_core import merkle
from otr_core.dispute.moves_steps import places
from otr_core.dispute.openings import DataAndPath
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestOperator, Move, choice
from otr_core.dispute.state import STATES, Game, Level
from otr_core.errors import ChainError, ParameterError
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix, Table
from otr_core.lane.element import LAYER, Accumulator, TraceClaim, program
from otr_core.lane.program import Operator
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_program import TensorDims, blocks_of
from otr_core.merkle import Tree, leaf_hash
from otr_core.poea import Order
from otr_core.poea.trace import Trace, TraceShape, prompt_leaves, prompt_root, seed_hash, token_leaves
from otr_node.chain.onchain import FIRST_COURT
from otr_paper.benches.verify import SIZE
from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, vouched
from otr_paper.studies.dispute_costs import POINTING, TERMS

LARGE = Architecture(
    hidden=8192,
    intermediate=28672,
    layers=80,
    heads=64,
    kv_heads=8,
    head_dim=128,
    vocab=128256,
    context=8192,
    rms_eps=1e-5,
    rope_theta=500000.0,
    tied=False,
    stop_ids=(128001, 128009),
)
"""The decoder of Llama 3.1 70B, as its ``config.json`` states it."""
BATCH = 256
"""Receipts in the disputed one's batch."""
PAYMENT_WEI = 10**12
"""What the disputed answer was paid: its gas does not depend on it."""
BEFORE = ("deploy", "register", "commit_batch", "escrow")
"""Beginnings of the calls that come before a dispute, and without one."""
BLOB_SHARE = 1 / 16
"""Least price of a byte of blob data in units of the price of L1 gas: 2^13 / 2^17 (EIP-7918)."""


@dataclass(frozen=True)
class DisputePlan:
    """Which disputes are measured.

    Attributes:
        answer, large_answer: tokens of the answer at the sizes of SmolLM2-135M and of a 70B model.
        prompt: tokens of the prompt. arities: bits; the first is the one whose figures are told,
            the others are for comparison.
        l1_gwei, l2_gwei: prices of gas on L1 and on a rollup.
    """

    answer: int = 64
    large_answer: int = 1000
    prompt: int = 50
    arities: tuple[int, ...] = (4, 2, 3, 5, 6)
    l1_gwei: float = 0.3
    l2_gwei: float = 0.005

    def __post_init__(self) -> None:
        for name in ("answer", "large_answer", "prompt"):
            if not 1 <= getattr(self, name) <= 4000:
                raise ParameterError(name, getattr(self, name), "1 to 4000")
        if not self.arities or not all(1 <= bits <= 6 for bits in self.arities):
            raise ParameterError("arities", self.arities, "1 to 6 bits each")


def measure_dispute(plan: DisputePlan) -> dict[str, Any]:
    """One dispute about a product of the down projection at either size, and one about a token.

    Returns:
        gas_135m, gas_70b: of all transactions, both sides, where the challenger has the leaves of the
        states and names one. rounds, calldata_bytes: by size. moves: by size: each transaction's gas
        and bytes. before: by size, the gas of each call of ``BEFORE``. walked: by size, gas and bytes
        and rounds where the leaves were kept back, and the tree of states is walked down. arities: gas
        and bytes by size and arity, and both as gas of a rollup that pays for its data: data_gas.
    """
    sizes = {"135m": (SIZE, plan.answer), "70b": (LARGE, plan.large_answer)}
    found: dict[str, Any] = {"rounds": {}, "calldata_bytes": {}, "moves": {}, "before": {}}
    found |= {"walked": {}, "arities": []}
    for name, (shape, tokens) in sizes.items():
        for bits in plan.arities:
            moves, rounds, before = _played(shape, plan.prompt, tokens, bits, named=True)
            gas, data = _sums(moves)
            if bits == plan.arities[0]:
                walked, steps, _ = _played(shape, plan.prompt, tokens, bits, named=False)
                found["walked"][name] = dict(zip(("gas", "calldata_bytes"), _sums(walked), strict=True)) | {
                    "rounds": steps
                }
                found |= {f"gas_{name}": gas}
                found["before"][name] = before
                found["rounds"][name], found["calldata_bytes"][name], found["moves"][name] = rounds, data, moves
            data_gas = round(data * plan.l1_gwei * BLOB_SHARE / plan.l2_gwei)
            row = {"size": name, "arity": 2**bits, "gas": gas, "calldata_bytes": data, "data_gas": data_gas}
            found["arities"].append(row | {"rounds": rounds})
    return found


def measure_block_dispute(plan: DisputePlan) -> dict[str, Any]:
    """The same in the lane ``h100-bf16``, at the plan's first arity: one block of the down projection.

    Returns:
        sizes: by size, of the dispute that is ``named`` and of the one that is ``walked``: gas,
            calldata_bytes, rounds, and leaf, the gas of the last move that is judged; and the blocks of
            the disputed element.
    """
    found: dict[str, Any] = {}
    for name, (shape, tokens) in {"135m": (SIZE, plan.answer), "70b": (LARGE, plan.large_answer)}.items():
        found[name] = {"blocks": blocks_of(shape.intermediate)}
        for way in ("named", "walked"):
            moves, rounds, _ = _played(shape, plan.prompt, tokens, plan.arities[0], named=way == "named", words=True)
            gas, data = _sums(moves)
            leaf = next(spent for call, spent, _ in moves if call == "prove")
            found[name][way] = {"gas": gas, "calldata_bytes": data, "rounds": rounds, "leaf": leaf}
    return {"sizes": found}


def _sums(moves: Sequence[tuple[str, int, int]]) -> tuple[int, int]:
    """Gas and bytes of all transactions."""
    return sum(gas for _, gas, _ in moves), sum(size for *_, size in moves)


def _played(
    shape: Architecture, prompt: int, tokens: int, bits: int, *, named: bool, words: bool = False
) -> tuple[list[tuple[str, int, int]], int, dict[str, int]]:
    """Name, gas and bytes of each transaction of a dispute, its rounds, and the gas of what came before.

    Args:
        named: whether the challenger names the disputed state, or walks down to it. words: whether in
            the lane of fp32 words.
    """
    run = _Sized(shape, prompt, tokens, TensorDims.of(shape) if words else Dims.of(shape))
    terms = replace(TERMS, arity_bits=bits)
    pair = both(run, terms, stake_wei=terms.least_stake_wei)  # type: ignore[arg-type]
    signed = vouched(run.order, run)  # type: ignore[arg-type]
    others = [hashlib.sha256(b"%d" % number).digest() * 3 for number in range(BATCH - 1)]
    token = STATES + run.position * run.dims.layers + run.layer if named else 0
    salt = hashlib.sha256(b"salt").digest()
    number, now = pair.open_challenge(signed, others, token=token, salt=salt, pay=PAYMENT_WEI)
    court, log = play(pair.court, number, HonestOperator(run), _Pointing(run), now=now, observe=pair.observe)
    if not court.operators[pair.names[OPERATOR]].convicted:
        raise ChainError("dispute", "an operator that stands", "one convicted of made-up values")
    then = log[-1].now + terms.claim_s + 1
    for later, (call, args) in enumerate((("pay_reward", (OPERATOR,)), ("withdraw", ()))):
        if reason := pair.do(then + later, FISHERMAN, call, *args):
            raise ChainError(call, reason, "a payout")
    sent = [one for one in pair.chain.ledger if not one.call.startswith(BEFORE)]
    rounds = sum(step.move[0] in POINTING for step in log)
    before = {one.call: one.gas for one in pair.chain.ledger if one.call.startswith(BEFORE)}
    return [(one.call, one.gas, one.calldata_bytes) for one in sent], rounds, before


def _bytes(*place: object) -> bytes:
    """32 bytes for a place that nobody computes."""
    return hashlib.sha256(repr(place).encode()).digest()


def _drawn(
    d: Dims, random: np.random.Generator, spread: float, integers: float, count: int, *, whole: bool = False
) -> np.ndarray:
    """Values of the usual magnitude, int64: integers of the portable lane, or words of numbers, in bf16 but
    for ``whole`` ones."""
    if not isinstance(d, TensorDims):
        return random.normal(0, integers, count).astype(np.int64)
    words = random.normal(0, spread, count).astype(np.float32).view(np.int32).astype(np.int64)
    return words if whole else words >> 16 << 16


@dataclass
class _SizedModel:
    """A registered model of which one chunk of weights is known, in the path of its tree."""

    dims: Dims
    stop_ids: tuple[int, ...]
    layer: int
    row: int
    chunk: int
    tables_root: bytes = field(default_factory=lambda: _bytes("tables"))

    def weight(self, matrix: Matrix, layer: int, row: int, chunk: int) -> DataAndPath:
        assert (layer, row, chunk) == (self.layer, self.row, self.chunk)
        length = merkle.path_length(self.dims.weight_leaf(matrix, layer, row, chunk), self.dims.weight_leaves)
        values = _drawn(self.dims, np.random.default_rng(1), 0.05, 2**14, self.dims.tile)
        return values.astype(">i4").tobytes(), [_bytes("weights", level) for level in range(length)]

    def table(self, table: Table, entry: int) -> DataAndPath:
        raise LookupError("no step of a product reads a table")

    @functools.cached_property
    def weights_root(self) -> bytes:
        data, path = self.weight(Matrix.DOWN, self.layer, self.row, self.chunk)
        index = self.dims.weight_leaf(Matrix.DOWN, self.layer, self.row, self.chunk)
        return merkle.root_of_inclusion(leaf_hash(data), index, self.dims.weight_leaves, path)


@dataclass
class _SizedExecution:
    """Made-up values of a layer's program, as large as they usually are."""

    dims: Dims
    model: _SizedModel
    program: tuple[Operator, ...]

    @functools.cached_property
    def vectors(self) -> list[np.ndarray]:
        draw = np.random.default_rng(2)
        return [_drawn(self.dims, draw, 1.0, 2**20, op.length) for op in self.program]

    def tile_data(self, operator: int, tile: int) -> bytes:
        t = self.dims.tile
        return self.vectors[operator][tile * t : (tile + 1) * t].astype(">i8").tobytes()

    @functools.cache  # noqa: B019 - one execution a dispute
    def tiles(self, operator: int) -> Tree:
        count = self.dims.tiles(self.program[operator].length)
        return Tree([leaf_hash(self.tile_data(operator, tile)) for tile in range(count)])

    @functools.cached_property
    def operators(self) -> Tree:
        return Tree([leaf_hash(self.tiles(number).root) for number in range(len(self.program))])

    def accumulators(self, operator: int, element: int) -> Sequence[Accumulator]:
        # of the lane of words an accumulator is one, too
        drawn = _drawn(self.dims, np.random.default_rng(3), 1.0, 2**36, self.program[operator].steps, whole=True)
        return [(int(value), 0) for value in drawn]

    __hash__ = object.__hash__


class _Sized:
    """A run of which only the sizes are real: what is disputed is one product of the down
    projection, two thirds through the answer and the model."""

    def __init__(self, shape: Architecture, prompt: int, tokens: int, d: Dims) -> None:
        self.dims = d
        self.prompt_ids, self.token_ids = tuple(range(10, 10 + prompt)), tuple(range(500, 500 + tokens))
        positions = prompt + tokens - 1
        self.position, self.layer = 2 * positions // 3, 2 * d.layers // 3
        listed = program(d, LAYER, self.position, 0)
        self.operator = len(listed) - 1  # the output
        self.element = 2 * d.hidden // 3
        steps = listed[self.operator].steps
        self.step = 2 * steps // 3
        self.seed, self.wrong_token = _bytes("seed"), 0
        chunk = self.step * (d.intermediate // steps) // d.tile
        self.trees = _SizedModel(d, shape.stop_ids, self.layer, self.element, chunk)
        manifest = SimpleNamespace(model_id=_bytes("model"))
        self.model = SimpleNamespace(manifest=manifest, configuration=lambda: {"lane": d.lane})
        self.order = Order(
            FIRST_COURT,
            _bytes("job"),
            _bytes("nonce"),
            manifest.model_id,
            prompt_root(self.prompt_ids, self.seed),
            prompt,
            _bytes("query"),
            Decoding(tokens),
        )
        leaves = tuple(_bytes("leaf", number) for number in range(positions * d.layers))
        salted = token_leaves(self.prompt_ids, self.seed, self.token_ids, self.seed)
        self.trace = Trace(
            TraceShape(positions, d.layers, 4 * d.hidden, 4 * d.kv), leaves, seed_hash(self.seed), tuple(salted)
        )
        self.states = Tree([leaf_hash(leaf) for leaf in leaves])
        self.tokens = Tree([leaf_hash(leaf) for leaf in salted])
        self.prompt = Tree([leaf_hash(leaf) for leaf in prompt_leaves(self.prompt_ids, self.seed)])
        self._execution = _SizedExecution(d, self.trees, listed)

    @property
    def claim(self) -> TraceClaim:
        raise LookupError("nobody asks a made-up run what it claims")

    def execution(self, target: int, position: int, layer: int) -> _SizedExecution:
        assert (target, position, layer) == (LAYER, self.position, self.layer)
        return self._execution

    def with_seed(self, seed: bytes) -> _Sized:
        raise LookupError("the seed is known")

    def piece(self, position: int, layer: int, piece: int) -> DataAndPath:
        raise LookupError("no step of a product reads the trace")

    def pieces(self, position: int, layer: int) -> Tree:
        raise LookupError("no step of a product reads the trace")

    def token(self, at: int) -> DataAndPath:
        return self.trace.tokens[at], self.tokens.path(at)


@dataclass
class _Pointing:
    """A challenger that points at one step, from the root down."""

    run: _Sized

    def move(self, game: Game, shown: Move) -> Move:
        run = self.run
        if game.level == Level.ELEMENT:
            number = run.element % run.dims.tile
            return "element", number, int(run.execution(LAYER, run.position, run.layer).vectors[-1][run.element])
        if game.level == Level.STEPS:
            ends = places(game)
            return "choose_step", next(i for i, end in enumerate(ends[1:]) if run.step < end)
        if game.level == Level.OPERATORS:
            return choice(shown[2], run.operator)
        wanted = run.element // run.dims.tile
        if game.level == Level.TRACE:
            wanted = run.position * run.dims.layers + run.layer
        below, first, _ = merkle.span(game.size, game.height, game.index, game.arity_bits)
        return choice(shown[-1], (wanted >> below) - first)
