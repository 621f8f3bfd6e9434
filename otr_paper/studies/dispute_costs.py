"""What a dispute takes: rounds, bytes, opened values, time; counted in played games and computed in
closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.dispute.play import Step
from otr_core.dispute.profile import own_profile
from otr_core.dispute.records import Terms
from otr_core.dispute.state import MOST_INTERVALS
from otr_core.lane import program as pr
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.element import LAYER, Place
from otr_core.lane.element import program as program_of

TERMS = own_profile().court
"""The terms of the measured disputes: those of the deployment (``data/deployment.toml``)."""
POINTING = ("choose", "choose_kept", "choose_last", "choose_token", "element", "choose_step")
"""Moves that end a round: the challenger points at something."""


def levels(d: Dims, positions: int, position: int) -> dict[str, int]:
    """The largest number of units of each level below an answer of ``positions`` fed tokens, for
    the deepest operator of a layer at ``position``: tokens, layers, operators, tiles of it, steps
    of an element."""
    operators = program_of(d, LAYER, position, 0)
    return {
        "token": positions,
        "layer": d.layers,
        "operator": len(operators) + 1,
        "tile": max(d.tiles(op.length) for op in operators),
        "step": max(op.steps for op in operators) + 1,
    }


def most_rounds(d: Dims, positions: int, arity_bits: int) -> int:
    """Bound on the rounds of a dispute: ⌈log_k n⌉ over tokens and layers, one that shows the whole
    program, ⌈log_k n⌉ over tiles, one for an element, and the lists of accumulators."""
    most = levels(d, positions, positions - 1)
    trees = sum(merkle.rounds(most[name], arity_bits) for name in ("token", "layer", "tile"))
    return trees + 2 + list_rounds(most["step"])


def list_rounds(steps: int) -> int:
    """Lists of accumulators that an accumulation of so many steps takes, the finish counted as
    one."""
    rounds = 0
    while steps > 1:
        steps, rounds = -(-steps // MOST_INTERVALS), rounds + 1
    return rounds


def expected_rounds(d: Dims, positions: int, operator: int, position: int, arity_bits: int) -> int:
    """Closed form of the rounds of a dispute about ``operator`` (``len(program)``: what the trace
    holds)."""
    operators = program_of(d, LAYER, position, 0)
    trace = merkle.rounds(positions * d.layers, arity_bits)
    if operator == len(operators):
        return trace + 1 + merkle.rounds(d.pieces, arity_bits) + 1
    op = operators[operator]
    rounds = trace + 1 + merkle.rounds(d.tiles(op.length), arity_bits) + 1
    return rounds + (list_rounds(op.steps + 1) if op.steps > 1 else 0)


def descent_bytes(size: int, arity_bits: int, index: int = 0) -> int:
    """Bytes of hashes in a whole descent to leaf ``index`` of ``size``: nodes shown, and answers
    with their paths."""
    total, at = 0, merkle.height(size)
    while at:
        below, first, count = merkle.span(size, at, index >> at, arity_bits)
        total += 32 * count + 32 + 32 * merkle.path_length((index >> below) - first, count)
        at = below
    return total


def expected_bytes(d: Dims, positions: int, place: Place, arity_bits: int) -> int:
    """Closed form of the hashes and values that a dispute about one step of a layer's operator
    carries, up to the openings of the last move (``opening_bytes``)."""
    program = program_of(d, LAYER, place.position, 0)
    op = program[place.operator]
    tile, tiles = place.element // d.tile, d.tiles(op.length)
    total = descent_bytes(positions * d.layers, arity_bits, place.position * d.layers + place.layer)
    # content of the leaf, all operators' leaves, and the answer
    total += 32 + 32 * len(program) + 32 + 32 * merkle.path_length(place.operator, len(program))
    if place.layer == 0:
        total += 40 + 32 * merkle.path_length(place.position, positions + 1)  # the token fed
    total += descent_bytes(tiles, arity_bits, tile)
    total += 8 * min(d.tile, op.length - tile * d.tile)  # the tile, published
    interval = 0, op.steps + 1
    before = 0
    while op.steps > 1 and interval[1] - interval[0] > 1:
        first, end = interval
        stride = -(-(end - first) // MOST_INTERVALS)
        shown = 8 * (-(-(end - first) // stride) + 1)
        total, before = total + before + shown, shown
        first += (place.step - first) // stride * stride
        interval = first, min(first + stride, end)
    return total


def opening_bytes(d: Dims, place: Place) -> int:
    """Bytes of the openings that prove one step of the down projection, or its finish, with their
    paths, and of the accumulators shown last."""
    program = program_of(d, LAYER, place.position, 0)
    steps = program[pr.LayerOperator.OUTPUT].steps

    def tile(operator: int, number: int) -> int:
        tiles = d.tiles(program[operator].length)
        return 8 * d.tile + 32 * (merkle.path_length(number, tiles) + merkle.path_length(operator, len(program)))

    points = 8 * (steps + 2)
    if place.step == steps:
        return points + tile(pr.LayerOperator.RESIDUAL_SUM, place.element // d.tile)
    weight = d.weight_leaf(Matrix.DOWN, place.layer, place.element, place.step)
    weights = 4 * d.tile + 32 * merkle.path_length(weight, d.weight_leaves)
    return points + tile(pr.LayerOperator.PRODUCT, place.step) + weights


@dataclass(frozen=True)
class Tally:
    """One game, counted.

    Attributes:
        rounds: times that the challenger pointed. moves: of both. payload_bytes: hashes and values,
            encoding apart.
        published: activations shown in the clear. accumulators, weights: partial sums; public model
            values and table entries. hashes: 32-byte hashes shown.
    """

    rounds: int
    moves: int
    payload_bytes: int
    published: int
    accumulators: int
    weights: int
    hashes: int


def tally(log: Sequence[Step]) -> Tally:
    """Count a game's log."""
    published = accumulators = weights = hashes = 0
    for step in log:
        name, *args = step.move
        d = step.before.model.dims
        if name == "publish":
            kept = step.before.at_kept
            published += (len(args[0]) - 32) // 4 if kept else len(args[0]) // 8
        if name == "expand_steps":
            accumulators += len(args[1]) // 8
        if name == "prove":
            for opening in args[1]:
                kind, count = _opened(opening, d.tile)
                published += count if kind == "values" else 0
                weights += count if kind == "weights" else 0
        hashes += _hashes(args)
    rounds = sum(step.move[0] in POINTING for step in log)
    return Tally(rounds, len(log), sum(step.payload_bytes for step in log), published, accumulators, weights, hashes)


def _opened(opening: Opening, tile: int) -> tuple[str, int]:
    """What an opening shows, told by its length: a token, values of the model or of the run."""
    size = len(opening.data)
    if size == 40:
        return "values", 1
    if size == 4 * tile:
        return "weights", tile
    return ("values", size // 8) if size % 8 == 0 and size <= 8 * tile else ("values", (size - 32) // 4)


def _hashes(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value) == 32
    if isinstance(value, (tuple, list)):
        return sum(_hashes(each) for each in value)
    return _hashes(value.proof) if isinstance(value, Opening) else 0


def trace_values(d: Dims, positions: int) -> int:
    """Values that all operators of an answer's layers make: what a dispute could have opened."""
    return d.layers * sum(sum(op.length for op in program_of(d, LAYER, position, 0)) for position in range(positions))


def longest_game_s(terms: Terms, rounds: int) -> int:
    """Most seconds from a game's opening to its verdict: both clocks, and an increment for every
    move (a round is two moves, of which the first few openings may take one more)."""
    return 2 * terms.clock_s + (2 * rounds + 6) * terms.increment_s


def longest_verdict_s(terms: Terms, rounds: int) -> int:
    """Most seconds from a batch's commitment to the verdict on it, however many challenge: all
    games run at once."""
    return terms.window_s + terms.reveal_s + longest_game_s(terms, rounds)
