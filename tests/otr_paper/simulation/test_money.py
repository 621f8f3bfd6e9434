"""What an answer costs under each system, worked out by hand, and who pays it."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from otr_core.errors import ParameterError
from otr_paper.simulation import inputs, money, study


def test_costs_by_hand(cited, case, runs):
    found = {(item.system, item.item): item.usd for item in money.items(cited, case)}
    serving = 2 * 2.95 / 3600 / (9.0 * 0.6)
    gas = 0.005e-9 * 2000
    assert found["centralised", "inference"] == pytest.approx(serving)
    assert found["OTR", "confidential mode"] == pytest.approx(serving * (1 / 0.9 - 1))
    games = runs["disputes"]["disputes"]
    post = games[0]["moves"][0]["gas"]
    assert {game["moves"][0]["move"] for game in games} == {"commit_batch"}
    later = [move["gas"] for game in games for move in game["moves"][1:]]
    assert found["OTR", "commitment"] == pytest.approx(post * gas / 50, rel=1e-3)
    assert found["OTR", "sampled proofs"] == pytest.approx(0.0098)
    assert found["OTR", "proof checks"] == pytest.approx(0.01 * 493_000 * gas)
    assert found["OTR", "signature check"] == pytest.approx((3000 + 65 * 16) * gas)
    assert found["OTR", "key registration"] == pytest.approx(4.5e6 * gas / (5 * 86400))
    assert found["OTR", "interest on the stake"] == pytest.approx(10 / (5 * 365 * 86400))
    move = sum(later) / len(later)
    assert found["OTR", "disputes"] == pytest.approx(1e-4 * case.moves * move * gas)
    assert found["opML", "validator"] == pytest.approx(serving)
    assert found["opML", "disputes"] == pytest.approx(1e-4 * 102 * move * gas)
    assert found["ZKML", "proofs"] == pytest.approx(0.98)
    assert found["PoQ", "judges"] == pytest.approx(3 * 0.00061 * 2.95 / 3600)
    assert found["PoQ", "commitment"] == pytest.approx(4 * post * gas / 50, rel=1e-3)


def test_payers_add_up(cited, case):
    found = money.items(cited, case)
    table = money.by_payer([asdict(item) for item in found])
    for system in ("centralised", "OTR", "opML", "ZKML", "PoQ"):
        parts = {record["payer"]: record["usd"] for record in table if record["system"] == system}
        assert parts["all"] == pytest.approx(sum(parts[payer] for payer in money.PAYERS))
        assert parts["all"] == pytest.approx(money.total_usd(found, system))
    assert {item.payer for item in found} == set(money.PAYERS)


def test_gas_is_that_of_our_contracts_and_a_whole_inference_keeps_its_wrapper(cited, measured, case, runs):
    assert {measured.commit.kind, measured.move.kind, measured.unit.verify.kind} == {"measured"}
    assert case.commit == measured.commit
    assert case.move == measured.move
    wrapper = cited.number("quote.sp1_groth16", "gas")
    whole = inputs.provers(cited)
    assert {(one.verify.value, one.verify.kind, one.detects) for one in whole.values()} == {(wrapper, "cited", 1.0)}
    assert case.verify.value == wrapper
    ours = study.prices(cited, measured, measured.unit, capacity_per_s=9.0, kept=0.9, rate_per_s=5.0)
    (row,) = [row for row in runs["spot_onchain"]["rows"] if row["shape"] == "8x576"]
    assert ours.verify.value == row["verify_gas"]
    assert ours.proof_usd == pytest.approx(measured.unit.batch_s * 2.95 / 3600)
    assert set(inputs.all_provers(cited, measured)) - set(whole) == {"ours"}


@pytest.mark.parametrize(
    ("field", "bad"), [("capacity_per_s", 0.0), ("kept", 0.0), ("kept", 1.2), ("proof_usd", -1.0), ("disputed", 0.0)]
)
def test_impossible_prices_are_refused(case, field, bad):
    with pytest.raises(ParameterError, match=field):
        replace(case, **{field: bad})


def test_an_unknown_chain_is_refused(cited):
    with pytest.raises(ParameterError, match="chain"):
        money.gas_price_eth(cited, "Solana")
    assert money.gas_price_eth(cited, "L1") == pytest.approx(0.3e-9)
