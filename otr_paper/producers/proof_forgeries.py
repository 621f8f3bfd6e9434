"""Forged proofs of whole answers, put to the verifier: data/results/proof_forgeries.json.

An honest prover of a tiny model, one place of whose witness is another: every operator's column, every
limb of it, greedy and drawn, at places and by steps drawn from three seeds (``labs.forgeries``). One
thread, about half an hour. Each round of forgeries is kept as it is finished, so that a run that was cut
off goes on, unless the code has changed; one accepted forgery, and nothing is stored.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from otr_core.errors import DataError
from otr_paper.labs.forgeries import forge_round
from otr_paper.producers import frame
from otr_paper.studies.sweep import Point, run_sweep

SEEDS = (20251223, 20251224, 20251225)
ROUNDS = 14
"""Of each seed; with both answers more than ten thousand forged proofs."""
TEMPERATURES = (0, 900)
NAME = "proof_forgeries"


def counted(points: list[Point], found: list[dict[str, Any]]) -> dict[str, Any]:
    """The payload: how many were forged at each slot, and which checks refused them.

    Raises:
        DataError: a forged proof was accepted, or an honest one was not.
    """
    by: dict[tuple[Any, ...], Counter[str]] = {}
    read = whole = 0
    for point, part in zip(points, found, strict=True):
        if part["honest"]:
            raise DataError(f"{dict(point.config)}: found an honest proof refused by {part['honest']}")
        for row in part["rows"]:
            slot = (point.config["temperature_milli"], row["kind"], row["column"], row["limb"])
            if not row["refused_by"]:
                raise DataError(f"{slot}, seed {point.seed}, round {point.config['number']}: found it accepted")
            by.setdefault(slot, Counter())[row["refused_by"]] += 1
            read, whole = read + row["read_bytes"], whole + part["proof_bytes"]
    names = ("temperature_milli", "kind", "column", "limb")
    rows = [
        {**dict(zip(names, slot, strict=True)), "forged": count.total(), "accepted": 0, "refused_by": dict(count)}
        for slot, count in sorted(by.items())
    ]
    total = sum(row["forged"] for row in rows)
    return {"rows": rows, "forged": total, "accepted": 0, "seeds": list(SEEDS), "read_share": read / whole}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each seed and answer (default: %(default)s)")
    count = parser.parse_args().rounds
    points = [
        Point({"temperature_milli": milli, "number": number}, seed)
        for number in range(count)
        for seed in SEEDS
        for milli in TEMPERATURES
    ]
    found = run_sweep(
        forge_round,
        points,
        cache=frame.checkout().build / NAME,
        report=lambda done, of: frame.progress(f"{done} of {of} rounds"),
    )
    payload = counted(points, found)
    given = "" if count == ROUNDS else f"--rounds {count}"
    frame.store(NAME, payload, seed=SEEDS[0], packages=("numpy", "numba"), cores=1, given=given)


if __name__ == "__main__":
    main()
