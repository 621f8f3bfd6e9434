"""The adversary's game: against counting by hand, and bad input."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from otr_core.errors import ParameterError
from otr_paper.studies.schedules import Schedules, best_value

ONE = {"gains_usd": (1.0,), "detections": (0.25,), "price_usd": 0.5, "loss_usd": 1.0, "pending": 2}


def played(plan, game):
    """Expected profit of a fixed plan of slots (then nothing), over every outcome of every cheat."""
    total, places = 0.0, [n for n, kind in enumerate(plan) if kind]
    for outcome in product((False, True), repeat=len(places)):
        found = dict(zip(places, outcome, strict=True))
        chance = 1.0
        for place, caught in found.items():
            detection = game.detections[plan[place] - 1]
            chance *= detection if caught else 1 - detection
        first = min((place for place, caught in found.items() if caught), default=None)
        pay = 0.0
        for place in places:
            if first is not None and place > first + game.pending:
                continue  # evicted before
            pay += game.gains_usd[plan[place] - 1]
            if first is None:
                continue
            late = first < place <= first + game.late and not found[place]
            final = place < first - game.kept or late
            pay -= 0.0 if final else game.price_usd
        total += chance * (pay - (game.loss_usd if first is not None else 0.0))
    return total


@pytest.mark.parametrize("extra", [{}, {"late": 1}, {"late": 2}, {"kept": 2}])
def test_value_iteration_beats_every_short_plan_and_no_more_than_the_best(extra):
    for loss in (0.2, 1.0, 2.4, 4.0):
        for gains, caught in (((1.0,), (0.25,)), ((1.0, 0.4), (0.45, 0.2))):
            game = Schedules(**{**ONE, "gains_usd": gains, "detections": caught, "loss_usd": loss}, **extra)
            best = max(played(plan, game) for plan in product(range(len(gains) + 1), repeat=6))
            assert best_value(game) >= best - 1e-9
            if best_value(game) == 0:
                assert best <= 1e-9


def test_long_plans_come_as_near_as_they_should():
    game = Schedules(**{**ONE, "detections": (0.6,), "loss_usd": 0.4})
    # after eight cheats in a row some were missed with 0.4^8
    assert played((1,) * 9, game) == pytest.approx(best_value(game), abs=0.02)


def test_the_table_is_a_game():
    game = Schedules(**{**ONE, "gains_usd": (1.0, 2.0), "detections": (0.5, 0.1), "kept": 1})
    pay, on, after = game.table()
    assert pay.shape == on.shape == after.shape == (27, 3)
    assert set(after.ravel()) == set(range(27))
    assert set(np.unique(on)) == {0.5, 0.9, 1.0}
    assert pay[0].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "change",
    [
        {"detections": (0.5, 0.5)}, {"detections": (0.0,)}, {"detections": (1.5,)}, {"gains_usd": ()},
        {"gains_usd": (-1.0,)}, {"price_usd": -1.0}, {"loss_usd": float("nan")}, {"pending": 20}, {"late": 3},
        {"late": 1, "kept": 1}, {"pending": 0.5},
    ],
)  # fmt: skip
def test_bad_games_are_refused(change):
    Schedules(**ONE)
    with pytest.raises(ParameterError):
        Schedules(**{**ONE, **change})
