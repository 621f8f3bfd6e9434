"""Forged proofs of whole answers: every slot is forged, each forgery refused by its own check, and a verifier
who leaves a check out accepts what that check alone can find."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import DataError
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.verify import HEADER
from otr_paper.labs import forgeries
from otr_paper.labs.forgeries import CARRY, COUNT, KINDS, ROUNDING, VALUE, Slot, forge_round, slots
from otr_paper.producers import proof_forgeries
from otr_paper.store.results import read_result
from otr_paper.studies.sweep import Point


@pytest.fixture(scope="module")
def forger():
    return forgeries.tiny_forger(0)


def forged(forger, slot, seed=3):
    return forger.refused(slot, np.random.default_rng(seed))


@pytest.mark.parametrize("temperature_milli", proof_forgeries.TEMPERATURES)
def test_every_limb_of_every_column_is_a_slot(temperature_milli):
    sizes = forgeries.tiny_forger(temperature_milli).sizes
    found = slots(sizes)
    assert len(set(found)) == len(found)
    assert {slot.kind for slot in found} == set(KINDS)
    for name, column in sizes.columns.items():
        limbs = {slot.limb for slot in found if slot.column == name and slot.kind in (VALUE, COUNT)}
        assert limbs == set(range(column.limbs)), name
        carried = {slot.limb for slot in found if (slot.column, slot.kind) == (name, CARRY)}
        assert carried == set(range(column.limbs - 1)), name


def test_an_honest_prover_is_accepted_to_the_last_byte(forger):
    refused, read = forged(forger, None)
    assert refused == ""
    assert read > 100_000
    assert forged(forger, None, 4) == ("", read)


@pytest.mark.parametrize(
    ("slot", "check"),
    [
        (Slot(VALUE, "below", 0), "peak"),
        (Slot(VALUE, "qkv", 1), "dot qkv"),
        (Slot(VALUE, "silu_rest", 0), "silu"),
        (Slot(VALUE, "sigmoid", 0), "look-ups"),
        (Slot(VALUE, "room", 0), "dot head"),
        (Slot(ROUNDING, "mixed", 0), "look-ups"),
        (Slot(CARRY, "up", 0), "look-ups"),
        (Slot(COUNT, "count_range", 0), "look-ups"),
    ],
)
def test_a_forgery_is_refused_by_its_own_check_before_it_is_whole(forger, slot, check):
    whole = forged(forger, None)[1]
    refused, read = forged(forger, slot)
    assert refused == check
    assert len(HEADER) < read < whole
    assert forged(forger, slot) == (refused, read)


@pytest.mark.parametrize(
    ("check", "slot"),
    [
        ("look-ups", Slot(CARRY, "up", 0)),
        ("look-ups", Slot(ROUNDING, "silu", 0)),
        ("look-ups", Slot(VALUE, "sigmoid", 0)),
        ("look-ups", Slot(COUNT, "count_exp", 0)),
        ("weight", Slot(VALUE, "weight_rest", 0)),
    ],
)
def test_without_its_check_a_forgery_passes(forger, monkeypatch, check, slot):
    """So that a forgery is one: everything else about it holds."""
    equal = Party.equal

    def lenient(self, name, found, expected):
        if name != check:
            equal(self, name, found, expected)

    monkeypatch.setattr(Party, "equal", lenient)
    assert forged(forger, slot)[0] == ""


def test_what_is_read_while_it_is_made_is_the_proof(forger):
    """Asked for in small and in large parts, and again."""
    made = []

    def prove(channel):
        for number in range(40):
            made.append(number)
            channel.data("x", number, lambda number=number: bytes([number]) * number)

    proof = forgeries.OnDemand(prove)
    whole = b"".join(bytes([number]) * number for number in range(40))
    assert proof[0:7] == whole[:7]
    assert len(made) < 10  # no further than was asked
    assert proof[3:5] == whole[3:5]
    assert proof[5 : len(whole) + 9] == whole[5:]
    assert len(proof) == len(whole)
    proof.stop()


def test_a_prover_that_breaks_is_no_refusal():
    def prove(channel):
        channel.data("x", 3, lambda: b"abc")
        raise ValueError("its own mistake")

    proof = forgeries.OnDemand(prove)
    with pytest.raises(ValueError, match="its own mistake"):
        assert proof[0:4] == b"abc"
    proof.stop()


def test_a_round_is_the_same_each_time_and_another_with_another_number(monkeypatch):
    monkeypatch.setattr(forgeries, "slots", lambda s: [Slot(VALUE, "above", 0), Slot(VALUE, "up", 1)])
    one, again = (forge_round({"temperature_milli": 0, "number": 3}, 1) for _ in range(2))
    assert one == again
    assert [row["column"] for row in one["rows"]] == ["above", "up"]
    assert one["honest"] == ""
    assert all(row["refused_by"] for row in one["rows"])


def test_an_accepted_forgery_or_a_refused_honest_proof_is_never_stored():
    point = Point({"temperature_milli": 0, "number": 0}, 1)
    row = {"kind": VALUE, "column": "up", "limb": 0, "refused_by": "dot gate_up", "read_bytes": 5}
    good = {"honest": "", "proof_bytes": 10, "rows": [row]}
    found = proof_forgeries.counted([point, point], [good, good])
    assert found["rows"] == [
        {"temperature_milli": 0, "kind": VALUE, "column": "up", "limb": 0, "forged": 2, "accepted": 0,
         "refused_by": {"dot gate_up": 2}}
    ]  # fmt: skip
    assert (found["forged"], found["read_share"]) == (2, 0.5)
    with pytest.raises(DataError, match="found it accepted"):
        proof_forgeries.counted([point], [{**good, "rows": [{**row, "refused_by": ""}]}])
    with pytest.raises(DataError, match="honest proof refused by peak"):
        proof_forgeries.counted([point], [{**good, "honest": "peak"}])


def test_the_stored_forgeries_are_of_every_slot_and_none_was_accepted(project):
    _, found = read_result(project.results, "proof_forgeries")
    for milli in proof_forgeries.TEMPERATURES:
        own = {(row["kind"], row["column"], row["limb"]) for row in found["rows"] if row["temperature_milli"] == milli}
        assert own == {(s.kind, s.column, s.limb) for s in slots(forgeries.tiny_forger(milli).sizes)}
    assert len(found["seeds"]) >= 3
    assert sum(row["forged"] for row in found["rows"]) == found["forged"]
    assert all(
        sum(row["refused_by"].values()) == row["forged"] and "" not in row["refused_by"] for row in found["rows"]
    )
    assert found["accepted"] == sum(row["accepted"] for row in found["rows"]) == 0
