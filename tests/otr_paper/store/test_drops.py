"""What was left out of each stored result is written down: one entry a result, none more."""

from __future__ import annotations

import re
import tomllib

import pytest

from otr_paper.producers.families import POSITIONS
from otr_paper.simulation import study
from otr_paper.store.results import read_result

#: Results that draw something, with fewer than three seeds: none may be added.
TOO_FEW = {
    "h100_blocks",
    "h100_hunted",
}


@pytest.fixture(scope="module")
def drops(project):
    return tomllib.loads((project.data / "drops.toml").read_text())


def test_every_result_has_an_entry_and_every_entry_a_result(drops, project):
    assert drops.keys() == {path.stem for path in project.results.glob("*.json")}
    for name, entry in drops.items():
        assert {"seeds", "left_out"} <= entry.keys() <= {"seeds", "left_out", "why", "fixed"}, name
        assert entry["left_out"].strip(), name


def test_seeds_are_those_of_the_card(drops, project):
    for name, entry in drops.items():
        card, _ = read_result(project.results, name)
        assert (card.seed is None) == (entry["seeds"] == 0), name


def test_at_least_three_seeds_or_a_reason(drops):
    few = {name for name, entry in drops.items() if 0 < entry["seeds"] < 3 and "fixed" not in entry}
    assert all(drops[name]["why"].strip() for name in few)
    assert few == TOO_FEW, "a result drawn with three seeds leaves the list"


def test_several_seeds_are_in_the_result(drops, project):
    stored = {name: read_result(project.results, name)[1] for name in drops}
    assert drops["poq_adversary"]["seeds"] == len(stored["poq_adversary"]["training"])
    fresh = (
        "attestation_fuzz",
        "block_contract",
        "block_disputes",
        "differential",
        "dispute_adversaries",
        "disputes",
        "guarantee",
        "judge_steps",
        "lane_steps",
        "statement_lies",
        "economics_run",
        "four_systems",
        "spot_attacks",
        "spot_detection",
        "spot_honest",
        "spot_links",
        "spot_onchain",
        "spot_whole",
    )
    for name in ("block_fuzz", "block_projections", "free_forgeries", "proof_forgeries", *fresh):
        assert drops[name]["seeds"] == len(set(stored[name]["seeds"])), name
    # A result that names its seeds has as many here, whenever it is stored: a new one leaves its reason and TOO_FEW.
    named = {name: payload["seeds"] for name, payload in stored.items() if "seeds" in payload}
    assert {name: drops[name]["seeds"] for name in named} == {name: len(set(seeds)) for name, seeds in named.items()}
    assert drops["proof_growth"]["seeds"] == len(
        {(row["hidden"], row["layers"], row["positions"]) for row in stored["proof_growth"]["rows"]}
    )
    assert drops["simulation"]["seeds"] == len(stored["simulation"]["draws"]) == study.REPLICATIONS
    assert drops["simulation_sweep"]["seeds"] == study.SEEDS
    assert all("spread" in point for points in stored["simulation_sweep"].values() for point in points)
    assert {row["positions"] for row in stored["families"]["rows"]} == {drops["families"]["seeds"] * POSITIONS}


#: Producers of results of which the drops say that nothing is drawn, with what does their work.
FIXED = {
    "block_recordings": ("benches/blocks.py",),
    "block_lane": ("benches/tensor_lane.py",),
    "h100_replayed": ("producers/h100.py",),
    "native_run": ("producers/native.py", "benches/tracing.py"),
    "spot_block": ("labs/nonlinear.py",),
}


def test_where_no_chance_enters_nothing_is_drawn(drops, project):
    """Else a reason and three seeds are asked for: these modules name no source of chance."""
    assert {name for name, entry in drops.items() if "fixed" in entry} == FIXED.keys()
    for name, modules in FIXED.items():
        assert drops[name]["fixed"].strip()
        assert drops[name]["seeds"] == 1
        for module in modules:
            text = (project.root / "otr_paper" / module).read_text()
            assert not re.search(r"default_rng|\bRandom\(|secrets\.|urandom|np\.random|torch\.rand", text), module
