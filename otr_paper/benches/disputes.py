"""A dispute about a real answer, played by transactions: what notebook 03 replays and ``make
bench`` measures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.play import ChallengerPlayer, OperatorPlayer, Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import Terms
from otr_core.dispute.state import Game, Level
from otr_core.errors import InputError
from otr_core.lane.element import LAYER
from otr_core.poea.order import Order
from otr_node.chain.onchain import FIRST_COURT, Spent
from otr_node.run import Run
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, leaf_of, new_court, vouched
from otr_paper.studies import dispute_costs
from otr_paper.studies.crowd import Crowd, play_crowd
from otr_paper.studies.dispute_costs import TERMS

PROMPT = "Write a short letter that asks a library to extend a loan by two weeks, and gives a reason."
TOKENS = 64
TRACE_SECRET = hashlib.sha256(b"trace").digest()
"""Of the measured answers' traces: gas depends on how many bytes of a transaction are zero, so on
the salts as well."""
BATCH = 256
"""Receipts in the batch of a disputed one, so that its path has eight hashes."""


def dispute(
    order: Order,
    honest: Run,
    false: Run,
    token: int = 0,
    terms: Terms = TERMS,
    operator: Callable[[Run], OperatorPlayer] = HonestOperator,
    challenger: Callable[[Run], ChallengerPlayer] = HonestChallenger,
    own: Run | None = None,
) -> dict[str, Any]:
    """Dispute ``false`` by transactions on a fresh chain, and tell what it took.

    The operator plays ``false``. The fisherman runs what ``honest`` runs, on the tokens that
    ``false`` claims. The Python court stands beside the contract and is compared with it after
    every move.

    Args:
        order: what both answer, under the domain ``FIRST_COURT``. token: number of the disputed
            token; 0: the trace is disputed. operator, challenger: how ``false``
            and the fisherman's run are played. own: the
            fisherman's run, where it has made it already.

    Raises:
        InputError: the order is for another court.
    """
    if order.domain != FIRST_COURT:
        raise InputError(f"order domain: found {order.domain}, expected the first court's of a fresh chain")
    fisherman = own or replace(honest, token_ids=false.token_ids, tamper=None)
    courts = both(honest, terms, stake_wei=terms.least_stake_wei)
    others = [hashlib.sha256(b"%d" % number).digest() for number in range(BATCH - 1)]
    salt = hashlib.sha256(b"salt").digest()
    number, now = courts.open_challenge(vouched(order, false), others, token=token, salt=salt)
    before = false.inferences
    players = operator(false), challenger(fisherman)
    courts.court, log = play(courts.court, number, *players, now=now, observe=courts.observe)
    game = courts.court.challenges[0].game
    assert game is not None
    sent = [spent for spent in courts.chain.ledger if not spent.call.startswith(("deploy", "register"))]
    return {
        "arity": 2**terms.arity_bits,
        **_ending(game),
        **_rounds(game, log, false, terms),
        **_gas(sent),
        "inferences_fisherman": round(fisherman.inferences, 3),
        "inferences_operator": round(false.inferences - min(before, 1.0), 3),
        "money": _money(courts),
        "path": [_stand(step) for step in log],
    }


def _ending(game: Game) -> dict[str, Any]:
    """The verdict, and the step that the game has come down to."""
    reached = game.program[game.operator] if game.operator < len(game.program) else None
    return {
        "verdict": game.verdict.name,
        "position": game.position,
        "layer": game.layer,
        "operator": reached.name if reached else "kept",
        "kind": int(reached.kind) if reached else 0,
        "element": game.element,
        "step": game.step,
    }


def _rounds(game: Game, log: Sequence[Step], false: Run, terms: Terms) -> dict[str, int]:
    """What was played, beside the closed forms: the expected rounds of this game, the bound on
    those of any."""
    dims, positions, bits = false.trees.dims, false.trace.shape.positions, terms.arity_bits
    if game.target == LAYER:
        expected = dispute_costs.expected_rounds(dims, positions, game.operator, game.position, bits)
    else:  # the choice is pointed at, then its accumulators: at most so many lists
        steps = game.program[game.operator].steps
        expected = 1 + (dispute_costs.list_rounds(steps + 1) if steps > 1 else 0)
    return {
        **{name: count for name, count in asdict(dispute_costs.tally(log)).items() if name != "moves"},
        "rounds_bound": dispute_costs.most_rounds(dims, positions, bits),
        "rounds_expected": expected,
    }


def _gas(sent: Sequence[Spent]) -> dict[str, Any]:
    """Gas of all transactions, of those that only a dispute needs, of the judgement (the last), and
    of each."""
    return {
        "gas": sum(spent.gas for spent in sent),
        "gas_dispute": sum(spent.gas for spent in sent if spent.call != "commit_batch"),
        "gas_leaf": sent[-1].gas,
        "moves": [{"move": one.call, "gas": one.gas, "calldata_bytes": one.calldata_bytes} for one in sent],
    }


def _money(courts: Both) -> dict[str, int]:
    court, fisherman = courts.court, courts.names[FISHERMAN]
    operator = court.operators[courts.names[OPERATOR]]
    return {
        "stake_slashed_wei": court.terms.least_stake_wei - operator.stake_wei,
        "reward_wei": operator.reward_wei,
        "costs_wei": operator.costs_wei,
        "burnt_wei": court.burnt_wei,
        "bond_back_wei": court.credits.get(fisherman, 0),
    }


def _stand(step: Step) -> dict[str, Any]:
    """A move, and where the game stood before it: the disputed node in a tree of ``size`` leaves, or
    so many ``units`` of them from number ``index`` on."""
    game = step.before
    stood = {name: getattr(game, name) for name in ("height", "index", "size")}
    if game.level == Level.ELEMENT:
        stood |= {"index": 0, "units": game.size}
    elif game.level in (Level.STEPS, Level.LEAF) and not game.at_kept:
        stood |= {"units": game.size, "size": game.program[game.operator].steps + 1}
    return {"by": step.who, "move": step.move[0], "level": game.level.name, **stood}


def crowd(order: Order, honest: Run, challengers: int, terms: Terms, *, slot_s: int, stall: bool, seed: int) -> Crowd:
    """So many Sybils of one challenger against an honest answer at once, all along the same random
    path.

    Args:
        order: what is answered, under the court's domain. slot_s: seconds between two transactions
            of the operator. stall: every Sybil moves as late as it may.
    """
    signed, salt, numbers = vouched(order, honest), bytes(32), range(1, challengers + 1)
    court = new_court(honest, terms, order.domain, now=0, stake_wei=terms.least_stake_wei)
    root = merkle.root([leaf_of(signed)])
    court, batch = court.commit_batch(1, OPERATOR, root, 1), batch_id(OPERATOR, root)
    commitment = challenge_hash(FISHERMAN, batch, 0, 0, salt)
    opening: dict[str, Any] = {"batch": batch, "index": 0, "token": 0, "salt": salt, **vars(signed)}
    for number in numbers:
        court = court.challenge(2, FISHERMAN, commitment, terms.bond_wei)
        court = court.open(3, FISHERMAN, number, path=(), **opening)
    operator, sybil = HonestOperator(honest), lambda: Griefer(Random(seed))
    return play_crowd(court, numbers, operator, sybil, now=3, slot_s=slot_s, stall=stall)
