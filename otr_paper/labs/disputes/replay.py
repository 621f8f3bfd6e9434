"""One lie told by several operators: by one that computes on from a changed value, and by free ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otr_core.dispute.openings import OwnExecution
from otr_core.dispute.play import OperatorPlayer, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, Move, case
from otr_core.dispute.records import Terms
from otr_core.dispute.state import Game
from otr_core.lane import program as pr
from otr_core.lane.dims import PIECE_VALUES
from otr_core.poea.trace import SALT_BYTES
from otr_node.run import Run, Tamper
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes.chance import challenged
from otr_paper.labs.disputes.free import FreeOperator, FreeState, FreeTrace, Leaves, other_value
from otr_paper.labs.disputes.parties import new_court, vouched
from otr_paper.labs.disputes.world import START
from otr_paper.store.records import Records, records


@dataclass
class OneLie:
    """A free operator's lie about one value of a layer's output, and the accumulators under it.

    Attributes:
        tamper: the value. wrong_from: place in the list of accumulators from which they are wrong by
            as much; past its end: all are right.
    """

    tamper: Tamper
    wrong_from: int

    def results(self, game: Game, honest: OwnExecution) -> Iterator[Mapping[int, Leaves | bytes | None]]:
        """As ``Choices.results``: the lie, or, told elsewhere, nothing but what is right."""
        tile, at = divmod(self.tamper.element, honest.dims.tile)
        data = honest.tile_data(self.tamper.operator, tile)
        yield {self.tamper.operator: {tile: other_value(data, at, layout=">q", delta=self.tamper.delta)}}

    def accumulators(self, game: Game, entries: Sequence[bytes]) -> Iterator[Mapping[int, bytes]]:
        """As ``Choices.accumulators``."""
        inside = range(max(self.wrong_from, 1), len(entries) - 1)
        yield {number: other_value(entries[number], 0, layout=">q", delta=2**20) for number in inside}


@dataclass
class Only:
    """Plays the only move of a free operator."""

    free: FreeOperator

    def move(self, game: Game) -> Move:
        """As ``OperatorPlayer.move``."""
        return next(move for move in self.free.moves(game) if not move or move[0] != "misquoted")


def told(served: Served, tamper: Tamper, terms: Terms) -> Records:
    """One lie about an output, told three times, and how each game ended.

    Columns: who told it; moves; operator, and step of the value's accumulation, that was judged;
    verdict.
    """
    assert tamper.operator == pr.LayerOperator.OUTPUT
    false, honest = served.run(tamper), served.honest
    leaf = tamper.position * honest.trees.dims.layers + tamper.layer
    piece, number = divmod(tamper.element, PIECE_VALUES)
    data = honest.piece(tamper.position, tamper.layer, piece)[0]
    (value,) = struct.unpack_from("<i", data, SALT_BYTES + 4 * number)
    spoilt = other_value(data, number, layout="<i", start=SALT_BYTES, delta=tamper.delta if value < 2**30 else -1)
    trace = FreeTrace(honest, {leaf: FreeState({piece: spoilt})})
    tellers: dict[str, tuple[Run, FreeTrace | None, OperatorPlayer]] = {
        "computes on from the lie": (false, None, HonestOperator(false)),
        "free: right accumulators under a false value": (
            honest,
            trace,
            Only(FreeOperator(trace, OneLie(tamper, 10**9), honest.seed)),
        ),
        "free: accumulators wrong from the fifth on": (
            honest,
            trace,
            Only(FreeOperator(trace, OneLie(tamper, 5), honest.seed)),
        ),
    }
    rows = [(name, *_played(served, *teller, terms)) for name, teller in tellers.items()]
    return records("operator, moves, judged, step, verdict", rows)


def _played(
    served: Served, claimed: Run, trace: FreeTrace | None, operator: OperatorPlayer, terms: Terms
) -> tuple[Any, ...]:
    court = new_court(served.honest, terms, now=START, stake_wei=3 * terms.least_stake_wei)
    roots = {} if trace is None else {"states_root": trace.states.root}
    signed = vouched(served.order, claimed, **roots)
    model = court.models[served.order.model_id]
    own = replace(served.honest, token_ids=claimed.token_ids, tamper=None)
    game = challenged(court, signed, 0, START + 1).court.challenges[-1].game
    assert game is not None
    token = case(own, game.claim, model.stop_ids)
    assert token is not None
    start = challenged(court, signed, token, START + 1)
    after, log = play(start.court, start.number, operator, HonestChallenger(own), now=start.now)
    last, ended = log[-1].before, after.challenges[start.number - 1]
    assert ended.game is not None
    reached = last.program[last.operator].name if last.operator < len(last.program) else "trace"
    return len(log), reached, last.step, ended.game.verdict.name
