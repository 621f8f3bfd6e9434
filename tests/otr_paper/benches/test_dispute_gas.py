"""The gas of a whole dispute at the sizes of two models: what is counted, and that it is a real
game's."""

from __future__ import annotations

import json

import pytest

from otr_core import merkle
from otr_core.errors import ParameterError
from otr_core.lane.dims import Dims
from otr_core.lane.program import LayerOperator
from otr_paper.benches.dispute_gas import LARGE, DisputePlan, measure_dispute
from otr_paper.benches.verify import SIZE
from otr_paper.series import disputes
from otr_paper.store.results import read_result
from otr_paper.studies import dispute_costs

MOST_GAS = 2**24
"""Of a transaction (EIP-7825)."""


@pytest.mark.parametrize("bad", [{"answer": 0}, {"large_answer": 5000}, {"arities": ()}, {"arities": (7,)}])
def test_plans_that_measure_nothing_are_refused(bad):
    with pytest.raises(ParameterError):
        DisputePlan(**bad)


@pytest.mark.slow
def test_both_sizes_are_played_to_the_payout():
    found = measure_dispute(DisputePlan(answer=8, large_answer=8, prompt=4, arities=(4,)))
    assert found["gas_135m"] < found["gas_70b"]
    assert len(found["arities"]) == 2
    for name, shape in (("135m", SIZE), ("70b", LARGE)):
        calls = [call for call, _, _ in found["moves"][name]]
        assert calls[:2] == ["challenge", "open"]
        assert calls[-3:] == ["prove", "pay_reward", "withdraw"]
        assert found[f"gas_{name}"] == sum(gas for _, gas, _ in found["moves"][name])
        assert found["calldata_bytes"][name] == sum(size for _, _, size in found["moves"][name])
        assert all(gas > 21_000 for _, gas, _ in found["moves"][name])
        position = 2 * 11 // 3
        dims = Dims.of(shape)
        rounds = dispute_costs.expected_rounds(dims, 11, int(LayerOperator.OUTPUT), position, 4)
        walked = found["walked"][name]
        assert walked["rounds"] == rounds
        assert found["rounds"][name] == rounds - merkle.rounds(11 * dims.layers, 4)
        assert walked["gas"] > found[f"gas_{name}"] + 80_000 * (rounds - found["rounds"][name])


@pytest.mark.slow
def test_a_dispute_takes_no_more_gas_than_the_court_is_designed_for(project):
    """One million for 64 tokens of a model of 135M parameters, one and a half for a thousand at 70B; and
    what is stored, which the page about networks shows, is what is measured."""
    found = json.loads(json.dumps(measure_dispute(DisputePlan(arities=(4,)))))
    assert found["gas_135m"] <= 1_000_000
    assert found["gas_70b"] <= 1_500_000
    stored = read_result(project.results, "dispute_gas")[1]
    assert {**stored, "arities": [row for row in stored["arities"] if row["arity"] == 16]} == found
    assert all(gas < MOST_GAS for before in found["before"].values() for gas in before.values())
    rows = disputes.gas_by_size(stored)
    assert [(row["model"], row["leaves"]) for row in rows] == [
        (size, leaves) for size in ("135m", "70b") for leaves in ("told", "kept back")
    ]
    assert [row["gas"] for row in rows[::2]] == [found["gas_135m"], found["gas_70b"]]
    assert all(told["gas"] < kept["gas"] for told, kept in zip(rows[::2], rows[1::2], strict=True))
