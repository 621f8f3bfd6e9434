"""Proofs forged by freer provers, put to the verifier: data/results/free_forgeries.json.

Several places at once that cancel in a sum, other weights and other tokens with everything recomputed, weights
that are not the committed ones, and each message of the transcript replaced (``labs.free_forgeries``); for a
verifier who holds the model and for one who holds its commitment. One thread, minutes. Each part of a round is
kept as it is finished; one accepted forgery, and nothing is stored.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from otr_core.errors import DataError
from otr_paper.labs.free_forgeries import PARTS, forge_freely
from otr_paper.producers import frame
from otr_paper.producers.proof_forgeries import SEEDS, TEMPERATURES
from otr_paper.studies.sweep import Point, run_sweep

MODES = ("held", "committed")
NAME = "free_forgeries"


def points_of() -> list[Point]:
    """Of each seed one greedy answer for a verifier who holds the model, and one drawn answer for one who holds
    its commitment. The seeds share the messages: each message is replaced once."""
    return [
        Point({"temperature_milli": milli, "mode": mode, "part": part, "turn": turn, "turns": len(SEEDS)}, seed)
        for turn, seed in enumerate(SEEDS)
        for milli, mode in zip(TEMPERATURES, MODES, strict=True)
        for part in PARTS
    ]


def freely_counted(points: list[Point], found: list[dict[str, Any]]) -> dict[str, Any]:
    """The payload: how many were forged in each way, and which checks refused them.

    Raises:
        DataError: a forged proof was accepted, or an honest one was not.
    """
    by: dict[tuple[Any, ...], Counter[str]] = {}
    for point, part in zip(points, found, strict=True):
        if part["honest"]:
            raise DataError(f"{dict(point.config)}: found an honest proof refused by {part['honest']}")
        for row in part["rows"]:
            way = (point.config["temperature_milli"], point.config["mode"], row["kind"], row["what"])
            if not row["refused_by"]:
                raise DataError(f"{way}, seed {point.seed}: found it accepted")
            by.setdefault(way, Counter())[row["refused_by"]] += 1
    names = ("temperature_milli", "mode", "kind", "what")
    rows = [
        {**dict(zip(names, way, strict=True)), "forged": count.total(), "accepted": 0, "refused_by": dict(count)}
        for way, count in sorted(by.items())
    ]
    return {"rows": rows, "forged": sum(row["forged"] for row in rows), "accepted": 0, "seeds": list(SEEDS)}


def main() -> None:
    frame.arguments(__doc__).parse_args()
    points = points_of()
    found = run_sweep(
        forge_freely,
        points,
        cache=frame.checkout().build / NAME,
        report=lambda done, of: frame.progress(f"{done} of {of} parts"),
    )
    frame.store(NAME, freely_counted(points, found), seed=SEEDS[0], packages=("numpy", "numba"), cores=1)


if __name__ == "__main__":
    main()
