"""Every lie about a field of an answer statement, told on chain in both lanes whose answers a court
judges: data/results/statement_lies.json and docs/statement_lies.md. Some two minutes on one core.

The gas is that of a tiny model's dispute: of all transactions from the challenge to the verdict,
both sides. What is drawn of a lie, where it stands, is drawn from three seeds.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.statement_lies import LIES_OF, TABLE, Ending, Lie, tell
from otr_paper.labs.disputes.statement_table import PAGE, page
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers import frame

SEEDS = (0, 1, 2)


def _endings(lie: Lie, lane: str) -> list[Ending]:
    """How it ended, once for each seed; once in all if nothing of it is drawn."""
    found: dict[Any, Ending] = {}
    for seed in SEEDS:
        told = lie.tell(lane, seed)
        if told.signed in found:
            continue
        milli = told.signed.order.decoding.temperature_milli
        ending = found[told.signed] = tell(lie, both(tiny(milli, lane=lane).honest, TERMS), told)
        assert ending.convicted, lie.name
        assert ending.last == lie.ends, lie.name
    frame.progress(f"{lane}: {lie.name}: {lie.ends} {[ending.gas for ending in found.values()]}")
    return list(found.values())


def main() -> None:
    frame.arguments(__doc__).parse_args()
    ends = {lie.name: dict[str, list[Ending]]() for lie in TABLE}
    for lane, lies in LIES_OF.items():
        for lie in lies:
            ends[lie.name][lane] = _endings(lie, lane)
    rows: list[dict[str, Any]] = []
    for lie in TABLE:
        first, *_ = (each for found in ends[lie.name].values() for each in found)
        gas = {lane: [ending.gas for ending in found] for lane, found in ends[lie.name].items()}
        rows.append({"field": lie.part, "lie": lie.lie, "reason": lie.reason, **asdict(first), "gas": gas})
    packages = ("vyper", "py-evm", "eth-tester")
    frame.store("statement_lies", {"rows": rows, "seeds": SEEDS}, seed=SEEDS[0], packages=packages, cores=1)
    (frame.checkout().root / PAGE).write_text(page(rows), "utf-8")


if __name__ == "__main__":
    main()
