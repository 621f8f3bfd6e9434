"""Both sides break rules all the time: Python and contracts refuse alike, and hold the same after."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from otr_core.dispute.game import MOVES
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.illegal import illegal_game
from otr_paper.labs.disputes.parties import OPERATOR
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers.differential import LANES, SEEDS
from otr_paper.store.results import read_result

pytestmark = pytest.mark.slow
GAMES = 12


@pytest.mark.parametrize("lane", LANES)
def test_illegal_moves_are_refused_alike(lane):
    made: dict[tuple[int, int], Both] = {}

    def find(temperature: int, bits: int) -> Both:
        old = made.get((temperature, bits))
        if old is None or old.court.operators[old.names[OPERATOR]].convicted:
            # at one arity: courts take seconds to deploy
            old = made[temperature, bits] = both(tiny(temperature, lane=lane).honest, replace(TERMS, arity_bits=bits))
            old.lenient = True
        return old

    seen: Counter[str] = Counter()
    for seed in range(GAMES):
        seen += illegal_game(seed, find, lane=lane)
    refused = {each for each in seen if not each.endswith(": ")}
    assert sum(seen[each] for each in refused) > 100
    assert {each.split(": ")[1] for each in refused if ": " in each} >= {"turn", "level", "sender", "game", "path"}
    assert {each.split(":")[0] for each in seen} >= set(MOVES) - {"dispute", "reveal_seed", "withdraw", "accuse_salt"}


def test_the_stored_campaign_found_no_difference(project):
    found = read_result(project.results, "differential")[1]
    assert found["differences"] == 0
    assert found["games"] >= 180
    assert found["illegal_games"] >= 150
    for name in ("games", "calls", "illegal_games", "illegal_calls"):
        assert found[name] == sum(row[name] for row in found["rows"])
    assert [(row["lane"], row["seed"]) for row in found["rows"]] == list(product(LANES, SEEDS))
    assert sum(found["kinds"].values()) == found["games"]
    assert sum(found["illegal_refused"].values()) > 3_000
    assert len(found["illegal_refused"]) > 80
