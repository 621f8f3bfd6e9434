"""Each row of the table of lies, played in both courts; and the page is what is stored."""

from __future__ import annotations

import pytest

from otr_node.chain.onchain import operator_fields
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.parties import OPERATOR
from otr_paper.labs.disputes.statement_lies import LIES_OF, TABLE, tell
from otr_paper.labs.disputes.statement_table import PAGE, page
from otr_paper.labs.disputes.world import TERMS, tiny
from otr_paper.producers.statement_lies import SEEDS
from otr_paper.store.results import read_result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lane", "lie"), [pytest.param(lane, lie, id=f"{lane}, {lie.name}") for lane in LIES_OF for lie in LIES_OF[lane]]
)
def test_the_lie_convicts_on_chain_by_its_move(lane, lie):
    told = lie.tell(lane)
    pair: Both = both(tiny(told.signed.order.decoding.temperature_milli, lane=lane).honest, TERMS)
    ending = tell(lie, pair, told)
    assert ending.convicted
    assert ending.last == lie.ends
    stored = pair.chain.chain.call(pair.chain.court, "operators", pair.names[OPERATOR])
    stake = operator_fields(stored)[0]
    assert stake < 3 * TERMS.least_stake_wei  # slashed in the contract too


def test_the_page_is_made_of_the_stored_rows(project):
    rows = read_result(project.results, "statement_lies")[1]["rows"]
    assert [(row["field"], row["lie"], row["last"], row["reason"]) for row in rows] == [
        (lie.part, lie.lie, lie.ends, lie.reason) for lie in TABLE
    ]
    assert all(row["convicted"] for row in rows)
    for lane, lies in LIES_OF.items():
        assert [row["lie"] for row in rows if lane in row["gas"]] == [lie.lie for lie in TABLE if lie in lies]
    drawn = {len(gas) for row in rows for gas in row["gas"].values() if row["lie"].startswith("a wrong value")}
    assert drawn == {len(SEEDS)}
    assert (project.root / PAGE).read_text() == page(rows)
