"""The campaign of differential games: data/results/differential.json. Some ten minutes on one core.

Every game is played by the court in Python and by the contracts at once, legal and illegal calls
alike; a difference stops the campaign.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.differential import differential_game
from otr_paper.labs.disputes.illegal import illegal_game
from otr_paper.labs.disputes.parties import OPERATOR
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers import frame

GAMES, ILLEGAL_GAMES = 220, 200


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--games", type=int, default=GAMES, help="fewer: nothing is stored")
    games = parser.parse_args().games
    made: dict[tuple[int, int], Both] = {}
    lenient = False

    def find(temperature: int, bits: int) -> Both:
        old = made.get((temperature, bits))
        if old is None or old.court.operators[old.names[OPERATOR]].convicted:
            made[temperature, bits] = both(tiny(temperature).honest, replace(TERMS, arity_bits=bits))
            made[temperature, bits].lenient = lenient
        return made[temperature, bits]

    kinds: Counter[str] = Counter()
    calls = 0
    for seed in range(games):
        kind, compared = differential_game(seed, find)
        kinds[kind] += 1
        calls += compared
        if seed % 20 == 19 or seed == games - 1:
            frame.progress(f"{seed + 1} of {games} games, {calls} calls compared")
    reasons: Counter[str] = Counter()
    lenient = True  # arguments that no type of the contracts holds are refused without a reason
    made.clear()
    for seed in range(min(games, ILLEGAL_GAMES)):
        reasons += illegal_game(seed, find)
        if seed % 20 == 19:
            frame.progress(f"{seed + 1} games with illegal moves, {reasons.total()} calls compared")
    refused = {each: count for each, count in sorted(reasons.items()) if not each.endswith(": ")}
    payload = {
        "games": games, "calls": calls, "differences": 0, "kinds": dict(sorted(kinds.items())),
        "illegal_games": min(games, ILLEGAL_GAMES), "illegal_calls": reasons.total(), "illegal_refused": refused,
        "illegal_undecoded": sum(pair.undecoded for pair in made.values()),
    }  # fmt: skip
    if games >= GAMES:
        frame.store("differential", payload, seed=0, packages=("vyper", "py-evm", "eth-tester"), cores=1)


if __name__ == "__main__":
    main()
