"""Freer provers of forged proofs: each is refused by name, and what alone can find a lie is what finds it."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import DataError
from otr_core.spotcheck.proof.party import Party
from otr_paper.labs import free_forgeries
from otr_paper.labs.forgeries import Forger
from otr_paper.labs.forging_ground import ground_of
from otr_paper.labs.free_forgeries import ALTERED, JOINT, KINDS, PARTS, altered, first_and_last, forge_freely
from otr_paper.producers import free_forgeries as producer
from otr_paper.store.results import read_result
from otr_paper.studies.sweep import Point


@pytest.fixture(scope="module")
def ground():
    return ground_of(0, "held", 5)


@pytest.fixture(scope="module")
def forger(ground):
    return Forger(ground.served)


def of(forger, kind, what):
    found = free_forgeries.joint_places(forger, np.random.default_rng(3))
    return next(each for each in found if (each.kind, each.what) == (kind, what))


@pytest.mark.parametrize(
    ("kind", "what", "check"),
    [
        ("row", "mixed", "mix"),
        ("positions", "above", "peak"),
        ("layers", "qkv_rest", "dot qkv"),
        ("columns", "up up_rest", "product"),
        ("product", "qkv", "normed"),
        ("limbs", "up", "look-ups"),
        ("counts", "count_range", "look-ups"),
    ],
)
def test_places_that_cancel_are_refused(forger, kind, what, check):
    attempt = of(forger, kind, what)
    assert attempt.forger.put(attempt.prove)[0] == check


@pytest.mark.parametrize(("kind", "what"), [("limbs", "up"), ("counts", "count_exp")])
def test_without_its_check_what_cancels_passes(forger, monkeypatch, kind, what):
    """So that it is one lie, and everything else about it holds."""
    equal = Party.equal

    def lenient(self, name, found, expected):
        if name != "look-ups":
            equal(self, name, found, expected)

    monkeypatch.setattr(Party, "equal", lenient)
    attempt = of(forger, kind, what)
    assert attempt.forger.put(attempt.prove)[0] == ""


def test_every_kind_of_cancelling_place_is_tried(forger):
    found = list(free_forgeries.joint_places(forger, np.random.default_rng(1)))
    assert {each.kind for each in found} == set(JOINT)
    columns = {each.what for each in found if each.kind == "row"}
    assert columns == {name for name in forger.sizes.columns if not name.startswith("count")}


@pytest.mark.parametrize("size", [1, 7, 8, 32, 120])
def test_an_altered_message_is_another_one_as_long(size):
    rng = np.random.default_rng(size)
    message = rng.bytes(size)
    for how in ALTERED:
        for replayed in (b"", message, rng.bytes(size), bytes(size + 1)):
            found = altered(message, how, replayed, rng)
            assert found != message
            assert len(found) == size
    other = rng.bytes(size)
    assert altered(message, "replayed", other, rng) == other


def test_the_ends_of_runs_of_messages():
    labels = ["a", "b", "b", "b", "c", "c", "a"]
    assert first_and_last([(label, 0, 1) for label in labels]) == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(("part", "turns"), [("edited", 120), ("answered", 40)])
def test_messages_are_shared_out_and_refused(part, turns):
    config = {"temperature_milli": 900, "mode": "committed", "part": part, "turn": 3, "turns": turns}
    found = forge_freely(config, 7)
    assert found["honest"] == ""
    assert 3 < len(found["rows"]) < 20
    assert all(row["refused_by"] and row["kind"] == part for row in found["rows"])
    assert forge_freely(config, 7) == found
    others = forge_freely({**config, "turn": 4}, 7)["rows"]
    assert others != found["rows"]


def test_other_runs_are_refused_in_either_mode():
    """One of each kind; the stored result has them all."""
    for mode in producer.MODES:
        ground, seen = ground_of(0, mode, 9), {}
        forger = Forger(ground.served, kept=ground.kept)
        for each in free_forgeries.other_runs(ground, forger, np.random.default_rng(2)):
            if (each.kind, each.what.partition(", ")[2]) not in seen:
                seen[each.kind, each.what.partition(", ")[2]] = each.forger.put(each.prove)[0]
        assert all(seen.values()), seen
        kinds = {kind for kind, _ in seen}
        assert kinds == {"weights", "copied", "token"} | ({"opened", "cancelled"} if mode == "committed" else set())
        if mode == "committed":
            assert seen["opened", "the committed cells"] == "weights join"
            assert seen["opened", "their own tree"] == "weights columns"


def test_an_accepted_proof_is_never_stored():
    config = {"temperature_milli": 0, "mode": "held", "part": "joint", "turn": 0, "turns": 3}
    row = {"kind": "row", "what": "up", "refused_by": "silu"}
    good = {"honest": "", "rows": [row]}
    found = producer.freely_counted([Point(config, 1), Point(config, 2)], [good, good])
    assert found["rows"] == [
        {"temperature_milli": 0, "mode": "held", "kind": "row", "what": "up", "forged": 2, "accepted": 0,
         "refused_by": {"silu": 2}}
    ]  # fmt: skip
    assert found["forged"] == 2
    with pytest.raises(DataError, match="found it accepted"):
        producer.freely_counted([Point(config, 1)], [{**good, "rows": [{**row, "refused_by": ""}]}])
    with pytest.raises(DataError, match="honest proof refused by peak"):
        producer.freely_counted([Point(config, 1)], [{**good, "honest": "peak"}])


def test_the_points_share_every_message():
    points = producer.points_of()
    assert {point.config["part"] for point in points} == set(PARTS)
    for part in PARTS:
        turns = {(p.config["mode"], p.config["turn"], p.config["turns"]) for p in points if p.config["part"] == part}
        assert turns == {(mode, at, 3) for mode in producer.MODES for at in range(3)}


def test_the_stored_forgeries_are_of_every_kind_and_none_was_accepted(project):
    _, found = read_result(project.results, producer.NAME)
    for mode in producer.MODES:
        kinds = {row["kind"] for row in found["rows"] if row["mode"] == mode}
        assert kinds == set(KINDS) - ({"opened", "cancelled"} if mode == "held" else set())
    assert len(found["seeds"]) >= 3
    assert sum(row["forged"] for row in found["rows"]) == found["forged"] > 3000
    assert all(
        sum(row["refused_by"].values()) == row["forged"] and "" not in row["refused_by"] for row in found["rows"]
    )
    assert found["accepted"] == sum(row["accepted"] for row in found["rows"]) == 0
