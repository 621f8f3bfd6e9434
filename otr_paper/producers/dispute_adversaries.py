"""Free adversaries against the honest strategy: data/results/dispute_adversaries.json. Some six
minutes on one core.

First the exhaustive search on small models (``labs.disputes.campaign``), then random games of three
seeds (``labs.disputes.chance``) about answers of the tiny model, in either lane whose answers a court
judges, and of SmolLM2, greedy and drawn. A game that an honest side loses, or that costs it more than
gas, stops the producer.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

from otr_core.dispute.play import most_moves
from otr_core.errors import ChainError
from otr_core.lane.element import LAYER, program
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_node.run import Run
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.campaign import FAMILIES, SHAPES, SmallWorld, small_world
from otr_paper.labs.disputes.chance import Played, against_challenger, against_operator, random_trace
from otr_paper.labs.disputes.free import FreeTrace
from otr_paper.labs.disputes.parties import new_court
from otr_paper.labs.disputes.world import START, tiny
from otr_paper.producers import frame
from otr_paper.studies.dispute_costs import TERMS

SEEDS = (1, 2, 3)
GAMES = 200
"""Of each seed, about one answer of the tiny model; half as many about one of SmolLM2."""
PROMPT, TOKENS = "What is the capital of France?", 12
SECRET = hashlib.sha256(b"trace").digest()


def _searched(name: str, world: SmallWorld) -> Iterator[dict[str, Any]]:
    """One row per family of opponents."""
    run, stops = world.honest, world.served.order.decoding.max_tokens > len(world.honest.token_ids)
    bound = most_moves(world.model.dims, len(run.fed), world.arity_bits)
    for family, search in FAMILIES.items():
        if (family.startswith("every trace") and len(run.trace.leaves) > 8) or (
            family == "a longer answer" and not stops
        ):
            continue  # 2^16 of them; none is allowed
        found, undisputed = search(world, False)
        if found.losses or undisputed or found.most_moves > bound or found.latest_read >= 0:
            raise ChainError(family, f"{found.losses[:1]}, {undisputed} undisputed", "no loss of an honest side")
        frame.progress(f"{name}: {family}: {found.places} places")
        ends = {end.lower(): count for end, count in sorted(found.ends.items())}
        yield {
            "shape": name, "family": family, "places": found.places, **ends,
            "most_moves": found.most_moves, "bound_moves": bound, "losses": len(found.losses),
        }  # fmt: skip


def _games(served: Served, false: Run, count: int) -> dict[str, Any]:
    """Random games about one answer, ``count`` of each seed: of five, three about states, one about a
    false token, one against a challenger."""
    honest, order = served.honest, served.order
    court = new_court(honest, TERMS, now=START, stake_wei=3 * TERMS.least_stake_wei)
    ends: Counter[str] = Counter()
    reached: dict[str, Counter[str]] = defaultdict(Counter)
    by_seed, bound = [], most_moves(honest.trees.dims, len(honest.fed), TERMS.arity_bits)
    for seed in SEEDS:
        longest, found = 0, Counter[str]()
        for number in range(count):
            random = Random(f"{seed} {number} {honest.decoding}")
            game = _game(court, order, honest, false, random, number % 5)
            good = game.status == ("WON" if game.kind == "operator" else "LOST")
            if not good or game.paid_wei < 0 or len(game.log) > bound:
                moves = [step.move[0] for step in game.log]
                raise ChainError(f"game {number} of seed {seed}", moves, "the honest side to win")
            ends[f"{game.kind} {game.log[-1].move[0]}"] += 1
            reached[game.reached or "above"][_end(game)] += 1
            found[_end(game)] += 1
            longest = max(longest, len(game.log))
        by_seed.append({"seed": seed, "games": count, "most_moves": longest, "losses": 0, **found})
        frame.progress(f"{honest.trees.dims.lane}, {honest.decoding.temperature_milli}: {by_seed[-1]}")
    return {
        "games": count * len(SEEDS), "positions": len(honest.fed), "lane": honest.trees.dims.lane,
        "temperature_milli": honest.decoding.temperature_milli,
        "losses": 0, "most_moves": max(row["most_moves"] for row in by_seed), "bound_moves": bound,
        "ends": dict(sorted(ends.items())), "by_seed": by_seed,
        "reached": {name: dict(sorted(found.items())) for name, found in sorted(reached.items())},
    }  # fmt: skip


def _end(game: Played) -> str:
    """How a game ended, in one word: at a step, at a leaf that was opened, or for want of a move."""
    last = game.log[-1].move[0]
    return "step" if last == "prove" else "silence" if last == "timeout" else "leaf"


def _operators(run: Run) -> int:
    """Of a layer, and two more: with those all results are right."""
    return len(program(run.trees.dims, LAYER, 0, 0)) + 2


def _game(court: Any, order: Any, honest: Run, false: Run, random: Random, kind: int) -> Played:
    now = START + 1
    if kind == 4:
        return against_challenger(court, order, honest, random, now=now)
    if kind == 3:
        how = {"first": random.randrange(11), "now": now}
        game = against_operator(court, order, FreeTrace(false), random.choice((honest, false)), random, **how)
    else:
        trace = random_trace(honest, random, [random.randrange(len(honest.trace.leaves))])
        game = against_operator(
            court, order, trace, honest, random, first=random.randrange(_operators(honest)), now=now
        )
    assert game is not None
    return game


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--games", type=int, default=GAMES, help="of each seed; fewer: nothing is stored")
    games = parser.parse_args().games
    searched = [row for name in SHAPES for row in _searched(name, small_world(name))]
    bench, rows = Workbench.of(frame.checkout(), report=frame.progress), []
    for milli in (0, 1500):
        real = bench.serve(PROMPT, Decoding(TOKENS, seed=7, temperature_milli=milli), trace_secret=SECRET)
        for model, served in (("tiny", tiny(milli)), ("tiny", tiny(milli, lane=LANE)), ("SmolLM2-135M", real)):
            false = served.with_token(4, served.answer.token_ids[4] + 1)
            rows.append({"model": model, **_games(served, false, games // (1 + (served is real)))})
    places = sum(row["places"] for row in searched)
    payload = {"search": searched, "places": places, "random": rows, "seeds": SEEDS}
    if games >= GAMES:
        frame.store("dispute_adversaries", payload, seed=SEEDS[0], packages=frame.MODEL_LIBRARIES, cores=1)


if __name__ == "__main__":
    main()
