"""The table of lanes says what the stored results say."""

from __future__ import annotations

import copy

import pytest

from otr_paper.series.lanes import RESULTS, SEEN, lanes, product_times, seen_on_gpu
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


def test_what_was_seen_on_a_gpu_is_counted(project):
    found = {name: read_result(project.results, name)[1] for name in SEEN}
    rows = {row["what"]: row for row in seen_on_gpu(found)}
    assert all(0 <= row["differing"] <= row["compared"] > 0 for row in rows.values())
    assert all(row["why"] for row in rows.values() if row["differing"])
    recorded = rows["blocks that others recorded on an H100"]
    assert (recorded["compared"], recorded["differing"]) == (5000, 0)
    changed = copy.deepcopy(found)
    changed["h100_hunted"]["rows"][0]["vanishing"] += 1
    assert "not explained" in {row["why"] for row in seen_on_gpu(changed)}


def test_times_are_over_those_of_the_library(project):
    times = read_result(project.results, "h100_blocks")[1]["times"]
    rows = product_times(times)
    assert len(rows) == 2 * len(times)
    first, own = times[0], [row for row in rows if (row["matrix"], row["tokens"]) == ("qkv", 1)]
    assert own[0]["times_library"] == first["blocks"] / first["library"]
    fastest = min(first[name] for name in first if name.startswith("blocks, w") and not name.endswith("differing"))
    assert own[1]["times_library"] == min(fastest, first["blocks, two warp groups"]) / first["library"]
    assert {row["same_words"] for row in rows} == {True, False}
