"""Plain rows for the tables and figures of notebook 03 about free opponents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otr_paper.store.records import Records, records

ENDS = {
    "step": "a step was judged",
    "leaf": "a leaf was opened that shows it",
    "silence": "nothing left to show",
}
"""How a game ended, and in words."""


def searches(adversaries: Mapping[str, Any]) -> Records:
    """One row a family of opponents and shape of model, of the exhaustive search."""
    columns = ("shape", "family", "places", "losses", "most_moves", "bound_moves")
    ends = ("operator_loses", "challenger_loses", "withdrawn", "silence", "refused")
    rows = [(*(row[name] for name in columns), *(row.get(name, 0) for name in ends)) for row in adversaries["search"]]
    return records(", ".join((*columns, *ends)), rows)


def games_title(searched: Records, games: Records) -> str:
    """What the search and these games found.

    Args:
        searched: of ``searches``. games: of ``random_games``, those that are drawn.
    """
    lost = sum(row["losses"] for row in (*searched, *games))
    played, places = sum(row["games"] for row in games), sum(row["places"] for row in searched)
    return f"{played:,} games against free opponents, {places:,} places searched: the honest side lost {lost}"


def random_games(adversaries: Mapping[str, Any]) -> Records:
    """Games against free opponents, of all seeds, by model, lane, temperature, where they ended, and how; of each game
    lost by an honest side one in ``losses``."""
    rows = []
    for each in adversaries["random"]:
        for reached, ends in each["reached"].items():
            answer = each["model"], each["lane"], each["temperature_milli"]
            rows += [(*answer, reached, end, games, 0) for end, games in ends.items()]
        rows[-1] = (*rows[-1][:-1], each["losses"])
    return records("model, lane, temperature_milli, reached, end, games, losses", rows)
