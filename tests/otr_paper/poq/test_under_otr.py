"""The same cheats under OTR: receipts, identities and the time until they are caught."""

import json

import pytest

from otr_paper.labs.tiny import TINY
from otr_paper.poq import under_otr


def test_selection_against_the_identity_gains_a_bit_a_doubling():
    from otr_core.poea.manifest import ModelManifest

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
    case = under_otr.case_of(
        experiment.questions[0], bytes.fromhex(experiment.stored["model_id"]),
        experiment.stored["recipe"]["max_tokens"],
    )  # fmt: skip
    kept = experiment.stored["receipts"]
    assert list(under_otr.ATTEMPTS) == [name for name in under_otr.ATTEMPTS if name in kept]
    for name in under_otr.ATTEMPTS:
        check, _ = under_otr.caught_by(case, kept[name]["receipt"])
        assert check == ("only by dispute or spot check" if name in under_otr.BROKEN else "measured-model")
        assert bool(kept[name]["where"]) == (name in under_otr.BROKEN)
    edited = json.loads(json.dumps(kept["trace made up"]["receipt"]))
    edited["receipt"]["trace_root"] = "00" * 32
    assert under_otr.caught_by(case, edited)[0] == "signature"
