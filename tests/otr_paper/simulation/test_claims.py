"""The simulated readings of L01 to L18: the stored study's own numbers, and they follow it when it
changes."""

from __future__ import annotations

import copy
from statistics import median

import pytest

from otr_core.errors import DataError
from otr_paper.claims import cost, latency, throughput
from otr_paper.claims.grounds import Grounds
from otr_paper.simulation import SIMULATION
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def grounds(project):
    return Grounds(project.data)


@pytest.fixture(scope="module")
def study(project):
    return read_result(project.results, SIMULATION)[1]


def of(study, system, kind, statistic="mean"):
    (record,) = [r for r in study["latency"] if (r["system"], r["kind"]) == (system, kind)]
    return record[statistic]["value"]


def all_items(study, system, case):
    return sum(item["usd"] for item in study["cost"] if (item["system"], item["case"]) == (system, case))


def readings(evaluation):
    return {reading.name: reading for reading in evaluation.all_readings() if reading.kind == "simulated"}


def test_latency_readings(grounds, study):
    first = readings(latency.L01_provisional_finality(grounds))
    assert first["attested answer, simulated"].value == of(study, "OTR", "provisional", "p50")
    assert not first["attested answer, simulated"].holds
    assert first["first token, simulated"].holds
    mean = readings(latency.L03_weighted_latency(grounds))
    assert mean["simulated, proofs waited for"].value == study["otr"]["waited_mean_s"]
    assert mean["simulated, nobody waits"].value == of(study, "OTR", "provisional")
    speed = readings(latency.L06_speedup_over_zkml(grounds))["simulated, proof over attested answer"]
    assert speed.value == pytest.approx(of(study, "ZKML", "proof") / of(study, "OTR", "provisional"))
    early = readings(latency.L08_speedup_over_opml(grounds))["provisional against provisional, simulated"]
    assert early.value == pytest.approx(1 - of(study, "OTR", "provisional") / of(study, "opML", "provisional"))


def test_cost_readings(grounds, study):
    found = readings(cost.L09_otr_cost(grounds))
    assert found["simulated on Base"].value == pytest.approx(all_items(study, "OTR", "Base"))
    assert found["simulated on L1"].value == pytest.approx(all_items(study, "OTR", "L1"))
    dear = found["simulated, proofs at 45 USD"]
    assert dear.value == pytest.approx(all_items(study, "OTR", "Base, proofs at 45 USD"))
    assert not dear.holds
    assert dear.value > 0.45
    # only with another proof price than the stated one does the stated cost hold
    assert found["simulated on Base"].holds
    (items,) = [one for one in cost.L09_otr_cost(grounds).conditions if one.name == "all_items_usd"]
    assert items.gives_up
    assert not items.rescues
    ratio = readings(cost.L12_zkml_over_otr(grounds))["simulated on Base"].value
    assert ratio == pytest.approx(all_items(study, "ZKML", "Base") / all_items(study, "OTR", "Base"))
    native = all_items(study, "centralised", "Base")
    near = readings(cost.L16_near_native_cost(grounds))["simulated on Base"].value
    assert near == pytest.approx((all_items(study, "OTR", "Base") - native) / native)
    check = [
        item["usd"]
        for item in study["cost"]
        if item["case"] == "L1" and item["item"] in ("signature check", "key registration")
    ]
    assert readings(cost.L14_signature_margin(grounds))["simulated on L1"].value == pytest.approx(sum(check))


def test_throughput_readings(grounds, study):
    found = readings(throughput.L18_throughput_vs_centralised(grounds))
    assert found["simulated, bare metal is the baseline"].value == median(study["kept"])
    provers = study["provers"]["OTR"]
    assert found["simulated, GPUs counted with the provers'"].value == pytest.approx(4 / (4 + provers))


def test_readings_follow_the_study(project, study):
    """Were the attested answer there in 0.3 s, the code would say so."""
    faster = copy.deepcopy(study)
    for record in faster["latency"]:
        if (record["system"], record["kind"]) == ("OTR", "provisional"):
            record["p50"]["value"] = 0.3
    grounds = Grounds(project.data, results={SIMULATION: faster})
    found = readings(latency.L01_provisional_finality(grounds))
    assert found["attested answer, simulated"].holds
    assert found["promise of inclusion on an L2, simulated"].value == pytest.approx(0.5)
    assert not found["promise of inclusion on an L2, simulated"].holds


def test_what_the_simulation_does_not_have_is_named(grounds):
    with pytest.raises(DataError, match="no stable"):
        grounds.simulation.latency_s("ZKML", "provisional")
    with pytest.raises(DataError, match="no cost"):
        grounds.simulation.cost_usd("OTR", "Solana")
