"""Structured cheats on a tiny model: each breaks the units of one operator and no others, each forged
proof is refused, and the stored table says what the code says."""

from __future__ import annotations

import pytest

from otr_paper.benches.workbench import Workbench
from otr_paper.labs import cheats
from otr_paper.labs.tiny import write_tiny
from otr_paper.series import spotchecks
from otr_paper.store.results import read_result

BREAKS = {
    "a fifth of the MLP pruned": {"gate"},
    "windowed attention, every head": {"attention"},
    "sparse attention, a third of the heads": {"attention"},
    "every fifth layer skipped": {"attention.norm", "mlp.norm"},
    "one layer steered": {"down"},
    "one value of one leaf": {"down"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    bench = Workbench(write_tiny(tmp_path_factory.mktemp("cheats")), unit_weights=64)
    return bench.serve("w3 w4 w5 w6 w7 w8", 6, trace_secret=bytes(range(32)))


def test_an_operator_that_cheats_at_nothing_breaks_nothing(served):
    honest = cheats.StructuredCheat("none", lambda layer, of: True, lambda d, p, op, v: v, "", lambda d, row, v: v)
    for place in ((0, 0), (10, 1), (5, 2)):
        assert cheats.broken_by(honest, served.checked, *place) is None
    assert cheats.proof_refused(served, None) == ""


@pytest.mark.parametrize("cheat", cheats.CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_breaks_its_own_operator_and_no_other(served, cheat):
    found = cheats.broken_by(cheat, served.checked, 10, 1)
    broken = {name: float(blocks.mean()) for name, blocks in found.items() if blocks.any()}
    assert set(broken) == BREAKS[cheat.name]
    assert set(found) == set(served.bench.layout.blocks)
    if cheat.name == "a fifth of the MLP pruned":
        assert broken["gate"] < 0.3
    if cheat.name.startswith("sparse"):
        assert broken["attention"] == 1 / 4
    if cheat.name.startswith("one"):
        assert cheats.broken_by(cheat, served.checked, 10, 0) is None  # another layer than the one
    if "attention, " in cheat.name:
        assert cheats.broken_by(cheat, served.checked, cheats.WINDOW - 1, 1) is None  # all is within the window


def test_every_forged_proof_is_refused(served):
    for cheat in cheats.CHEATS:
        assert cheats.proof_refused(served, cheat), cheat.name
    assert cheats.proof_refused(served, None, cheats.drafted_tokens(served))
    assert cheats.cheaper_refused(served, served.bench.rounded(8).portable)


def test_the_stored_table_has_every_cheat_under_every_check(project):
    card, found = read_result(project.results, "spot_cheats")
    rows = {row["cheat"]: row for row in found["rows"]}
    assert {cheat.name for cheat in cheats.CHEATS} < set(rows)
    assert len(rows) == len(cheats.CHEATS) + 3
    for name, row in rows.items():
        assert row["proofs"] >= 3
        assert row["refused"] == row["proofs"], name
        for units in (1, 4, 16, 64):
            seeds = row[f"units_{units}"]["simulated"]
            computed = row[f"units_{units}"]["computed"]
            assert len(seeds) >= 3
            if name != "one value of one leaf":  # its map has more places than were sampled
                spread = (max(computed * (1 - computed), 1e-3) / found["draws"]) ** 0.5
                assert all(abs(seen - computed) < 5 * spread for seen in seeds), (name, units)
    assert rows["another model's tokens, one prefill"]["per_unit"] == 0
    least = min(row["per_unit"] for row in found["rows"] if row["per_unit"])
    assert least < 1 / 18  # the counting bound of a fault in every direction is no bound for these
    assert card.kind


def test_the_figure_of_cheats_by_hand():
    rows = [{"cheat": "c", "proofs": 4, "refused": 3, "again": 1.0}]
    rows[0] |= {f"units_{n}": {"simulated": [0.1, 0.3], "computed": 0.25} for n in (1, 4, 16, 64)}
    found = spotchecks.cheats_under_checks({"rows": rows})
    assert [row["check"] for row in found] == [
        "1 drawn unit", "16 drawn units", "64 drawn units", "proof of the whole answer", "running it again",
    ]  # fmt: skip
    assert [(row["least"], row["detected"], row["most"]) for row in found[2:4]] == [(0.1, 0.2, 0.3), (0.75,) * 3]


def test_the_table_of_costs_by_hand():
    whole = {"again_cpu_s": 0.3, "check_cpu_s": 5.0, "prove_cpu_s": 90.0, "proof_bytes": 7}
    audit = {"again_s": 0.4, "products_s": 0.25, "audit_s": 0.1, "bytes": 9}
    units = {"prove_cpu_s": 2.0, "witness_cpu_s": 0.5, "proof_bytes": 10}
    found = {row["check"]: row for row in spotchecks.checks(whole, audit, units, proofs_per_unit=0.5)}
    assert found["audit every product, the rest again"]["cost_s"] == pytest.approx(0.25)
    assert found["prove 16 drawn units"]["cost_s"] == pytest.approx(20.0)
    assert found["prove 16 drawn units"]["sent_bytes"] == pytest.approx(80)
    assert found["run the answer again"]["cost_s"] == 0.3


def test_running_again_is_cheaper_than_any_proof(project):
    """The awkward fact, as stored: one run, one machine."""
    _, found = read_result(project.results, "spot_whole")
    assert found["again_cpu_s"] < found["check_cpu_s"] < found["prove_cpu_s"]
    assert len(found["again_cpu_s_all"]) >= 3
    assert found["soundness_bits"] >= 100


def test_a_served_answer_is_proven_without_telling_anything(served):
    found = cheats.proven_hidden(served, b"s" * 32)
    assert found.tokens == len(served.answer.token_ids)
    assert found.soundness_bits >= 100
