"""The table of lanes says what the stored results say."""

from __future__ import annotations

import copy

import pytest

from otr_paper.series.lanes import RESULTS, lanes
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def stored(project):
    return {name: read_result(project.results, name)[1] for name in RESULTS}


def test_every_lane_has_a_row(stored):
    rows = {row["lane"]: row for row in lanes(stored)}
    assert list(rows) == ["portable-1", "h100-bf16", "native, bf16", "native, fp32"]
    assert all(all(row.values()) for row in rows.values())


@pytest.mark.parametrize(
    ("path", "value", "lane", "column", "text"),
    [
        (("lane_bench", "decode_over_fp32"), 0.77, "portable-1", "costs", "0.77 of"),
        (("block_lane", "decode_cpu_s"), 1.25, "h100-bf16", "costs", "1.25 CPU s"),
        (("block_lane", "perplexity", "h100-bf16"), 1e6, "h100-bf16", "costs", "perplexity +"),
        (("block_steps", "blocks", "differing", "contract"), 17, "h100-bf16", "lets_through", "17 of"),
        (("dispute_gas", "walked", "135m", "gas"), 8_888_888, "portable-1", "dispute", "8,888,888"),
        (("block_gas", "sizes", "135m", "walked", "gas"), 9_999_999, "h100-bf16", "dispute", "9,999,999"),
        (("block_steps", "gas", "most"), 59_999, "h100-bf16", "dispute", "59,999"),
    ],
)
def test_a_changed_result_changes_its_cell(stored, path, value, lane, column, text):
    changed = copy.deepcopy(stored)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    rows = {row["lane"]: row for row in lanes(changed)}
    assert text in rows[lane][column]
    assert rows[lane] != {row["lane"]: row for row in lanes(stored)}[lane]
