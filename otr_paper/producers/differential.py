"""The campaign of differential games: data/results/differential.json. Some ten minutes on one core.

Every game is played by the court in Python and by the contracts at once, legal and illegal calls
alike; a difference stops the campaign. Games are of three streams, about answers of the tiny model in
either lane whose answers a court judges.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from otr_core.lane.dims import Dims
from otr_core.lane.tensor_steps import LANE
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.differential import differential_game
from otr_paper.labs.disputes.illegal import illegal_game
from otr_paper.labs.disputes.parties import OPERATOR
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers import frame

SEEDS, LANES = (1, 2, 3), (Dims.lane, LANE)
GAMES, ILLEGAL_GAMES = 30, 25
"""Of each seed and lane."""


class _Pairs:
    """Courts of a lane in which no operator is convicted, by temperature and arity.

    Attributes:
        lenient: as of ``Both``. made: all of them, those with a convicted operator too.
    """

    def __init__(self, lane: str, lenient: bool) -> None:
        self._lane, self._lenient = lane, lenient
        self._by: dict[tuple[int, int], Both] = {}
        self.made: list[Both] = []

    def __call__(self, temperature: int, bits: int) -> Both:
        old = self._by.get((temperature, bits))
        if old is None or old.court.operators[old.names[OPERATOR]].convicted:
            old = both(tiny(temperature, lane=self._lane).honest, replace(TERMS, arity_bits=bits))
            old.lenient, self._by[temperature, bits] = self._lenient, old
            self.made.append(old)
        return old


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--games", type=int, default=GAMES, help="of each seed and lane; fewer: nothing is stored")
    games = parser.parse_args().games
    illegal_games = min(games, ILLEGAL_GAMES)
    kinds, reasons, rows, undecoded = Counter[str](), Counter[str](), list[dict[str, Any]](), 0
    for seed, lane in ((seed, lane) for lane in LANES for seed in SEEDS):
        how: dict[str, Any] = {"seed": seed, "lane": lane}
        pairs, row = _Pairs(lane, False), {**how, "games": games, "calls": 0, "illegal_games": illegal_games}
        for number in range(games):
            kind, compared = differential_game(number, pairs, **how)
            kinds[kind] += 1
            row["calls"] += compared
        # Arguments that no type of the contracts holds are refused without a reason.
        lenient, found = _Pairs(lane, True), Counter[str]()
        for number in range(illegal_games):
            found += illegal_game(number, lenient, **how)
        undecoded += sum(pair.undecoded for pair in lenient.made)
        reasons += found
        rows.append({**row, "illegal_calls": found.total()})
        frame.progress(f"{lane}, seed {seed}: {rows[-1]}")
    refused = {each: count for each, count in sorted(reasons.items()) if not each.endswith(": ")}
    added = {name: sum(row[name] for row in rows) for name in ("games", "calls", "illegal_games", "illegal_calls")}
    payload = {
        **added, "differences": 0, "kinds": dict(sorted(kinds.items())), "illegal_refused": refused,
        "illegal_undecoded": undecoded, "rows": rows, "seeds": SEEDS,
    }  # fmt: skip
    if games >= GAMES:
        frame.store("differential", payload, seed=SEEDS[0], packages=("vyper", "py-evm", "eth-tester"), cores=1)


if __name__ == "__main__":
    main()
