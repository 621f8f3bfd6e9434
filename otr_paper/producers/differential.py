"""The campaign of differential games: ``data/results/differential.json``. Some ten minutes on one core."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from otr_node.project import find_project
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.differential import differential_game
from otr_paper.labs.disputes.parties import OPERATOR
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.store.results import Card, this_machine, versions, write_result

GAMES = 220


def main() -> None:
    made: dict[tuple[int, int], Both] = {}

    def find(temperature: int, bits: int) -> Both:
        old = made.get((temperature, bits))
        if old is None or old.court.operators[old.names[OPERATOR]].convicted:
            made[temperature, bits] = both(tiny(temperature).honest, replace(TERMS, arity_bits=bits))
        return made[temperature, bits]

    kinds: Counter[str] = Counter()
    calls = 0
    for seed in range(GAMES):
        kind, compared = differential_game(seed, find)
        kinds[kind] += 1
        calls += compared
        if seed % 20 == 19:
            print(f"{seed + 1} of {GAMES} games, {calls} calls compared", flush=True)
    card = Card(
        command="python -m otr_paper.producers.differential", date=datetime.now(UTC).date().isoformat(),
        machine=this_machine(1), versions=versions(("vyper", "py-evm", "eth-tester")), seed=0, kind="measured",
    )  # fmt: skip
    project = find_project(Path(__file__))
    write_result(
        project.results,
        "differential",
        card,
        {"games": GAMES, "calls": calls, "differences": 0, "kinds": dict(sorted(kinds.items()))},
    )


if __name__ == "__main__":
    main()
