"""The same cheats under OTR: receipts, identities and the time until they are caught."""

import json

import pytest

from otr_core.lane.sampling import Decoding
from otr_core.poea.manifest import ModelManifest
from otr_node.lanes import load_model
from otr_paper.labs.tiny import TINY
from otr_paper.poq import under_otr


def test_selection_against_the_identity_gains_a_bit_a_doubling():
    honest = ModelManifest("11" * 32, 3, "22" * 32, TINY.config(), "44" * 32, "native-float32")
    found = under_otr.closest_id(honest.model_id, honest, 1024)
    bits = [b for _, b in found]
    assert [t for t, _ in found] == [2**k for k in range(11)]
    assert bits == sorted(bits)
    # ten doublings: ten bits, give or take; 2^-10 a time for each beyond
    assert 6 <= bits[-1] <= 20


def test_not_yet_caught_by_hand():
    assert under_otr.not_yet_caught([1, 100], rho=0.01, looked_at=0.0) == pytest.approx([0.99, 0.99**100])
    assert under_otr.not_yet_caught([2], rho=0.01, looked_at=0.5) == pytest.approx([(0.99 * 0.5) ** 2])
    assert under_otr.not_yet_caught([7], rho=0.0, looked_at=0.0) == [1.0]


def test_receipts_are_rejected_by_the_measured_model_unless_the_tee_is_broken(experiment):
    case = under_otr.stored_case(experiment.stored)
    kept = experiment.stored["receipts"]
    assert list(under_otr.ATTEMPTS) == [name for name in under_otr.ATTEMPTS if name in kept]
    for name in under_otr.ATTEMPTS:
        check, _ = under_otr.caught_by(case, kept[name]["receipt"])
        assert check == ("only by dispute or spot check" if name in under_otr.BROKEN else "measured-model")
        assert bool(kept[name]["where"]) == (name in under_otr.BROKEN)
    edited = json.loads(json.dumps(kept["trace made up"]["receipt"]))
    edited["receipt"]["states_root"] = "00" * 32
    assert under_otr.caught_by(case, edited)[0] == "signature"


def test_every_attempt_on_the_tiny_model_ends_where_it_should(tiny):
    """The attempts made now: an adversary of two layers against a model of three."""
    honest, adversary = load_model(tiny), load_model(tiny, drop_layers=[1])
    case = under_otr.PoqCase((1, 5, 9, 17, 2), honest.manifest.model_id, Decoding(8), 1_766_448_000, b"p" * 32)
    attempts, truth = under_otr.attempt_all(case, honest, adversary)
    assert list(attempts) == list(under_otr.ATTEMPTS)
    for name, one in attempts.items():
        check, _ = under_otr.caught_by(case, one["receipt"])
        assert check == ("only by dispute or spot check" if name in under_otr.BROKEN else "measured-model")
    file = under_otr.read_receipt(attempts["honest trace over its own tokens"]["receipt"])
    assert file.receipt.trace.layers == truth.committed.shape.layers == 3
    assert "token number" in attempts["honest trace over its own tokens"]["where"]
    assert "position 0, layer 1" in attempts["trace of its own run"]["where"]
    assert "position 0, layer 0" in attempts["trace made up"]["where"]
    stored = {"receipts": attempts, "model_id": honest.manifest.model_id.hex(), "recipe": {"max_tokens": 8}}
    assert under_otr.stored_case(stored).prompt_ids == case.prompt_ids
