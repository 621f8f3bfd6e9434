"""Every lie about a field of an answer statement, told on chain: data/results/statement_lies.json
and docs/statement_lies.md. About six minutes on one core.

The gas is that of a tiny model's dispute: of all transactions from the challenge to the verdict,
both sides.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.statement_lies import LIES, tell
from otr_paper.labs.disputes.statement_table import PAGE, page
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers import frame


def main() -> None:
    frame.arguments(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    for lie in LIES:
        milli = lie.tell().signed.order.decoding.temperature_milli
        ending = tell(lie, both(tiny(milli).honest, TERMS))
        assert ending.convicted, lie.name
        assert ending.last == lie.ends, lie.name
        rows.append({"field": lie.part, "lie": lie.lie, "reason": lie.reason, **asdict(ending)})
        frame.progress(f"{lie.name}: {ending.last} {ending.gas}")
    frame.store("statement_lies", {"rows": rows}, seed=0, packages=("vyper", "py-evm", "eth-tester"), cores=1)
    (frame.checkout().root / PAGE).write_text(page(rows), "utf-8")


if __name__ == "__main__":
    main()
