"""The table of lies about an answer statement, as a page and as rows for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_core.lane.dims import Dims
from otr_core.lane.tensor_steps import LANE
from otr_paper.labs.disputes.statement_lies import BY_ITSELF, SILENCE, UNSEEN

PAGE = "docs/statement_lies.md"
"""Where the page stands in a checkout."""
TEST = "tests/otr_node/chain/test_statement_lies.py"
"""Plays each row on chain; the same rows without one in ``tests/otr_core/dispute/test_statement.py``."""
COLUMNS = ("field", "lie", "what convicts", "why", "gas", f"gas, {LANE}")

_INTRODUCTION = """# Every field of an answer statement, and what convicts who lies about it

Made by `python -m otr_paper.producers.statement_lies`; each row is played in Python and on chain by
`{test}`. An operator signs the lie and commits to whatever it likes; the fisherman has the order and its own run of it.
Gas is that of a tiny model's dispute, from the challenge to the verdict, both sides together: of the portable lane,
then of `{lane}`. Where a lie can stand in many places, it was told at three that were drawn, and the least and the most
gas is given; the moves are those of the first. A lane without an operator has no lie about its values.

{rows}

What a court cannot see, and only who can open a sealed response: {unseen}.
This goes to the arbiter of another class of TEE. A client that gets such a response refuses it (`otr verify`), and a
fisherman has nothing to dispute: where it is the seed that does not fit, it demands the seed, finds the trace right and
withdraws with its bond.
"""


def line(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A stored row as the table's columns have it."""
    ends = row["last"]
    if ends == BY_ITSELF:
        move, why = "the opened receipt", row["reason"]
    elif ends == SILENCE:
        refused = row["refused"]
        move, why = "time", f"no move is left: {refused}" if refused else "no move is left"
    else:
        move, why = f"`{ends}`", "after " + ", ".join(row["moves"][:-1]) if len(row["moves"]) > 1 else "at once"
    return row["field"], row["lie"], move, why, *(_span(row["gas"].get(lane, ())) for lane in (Dims.lane, LANE))


def _span(gas: Sequence[int]) -> str:
    """The least and the most, or the one number there is."""
    return "–".join(f"{each:,}" for each in sorted({min(gas), max(gas)})) if gas else ""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of the stored ``rows``."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(line, rows)]
    table = "\n".join(f"| {' | '.join(each)} |" for each in lines)
    unseen = "; ".join(f"`{name}`, {what}" for name, what in UNSEEN.items())
    return _INTRODUCTION.format(test=TEST, lane=LANE, rows=table, unseen=unseen)
