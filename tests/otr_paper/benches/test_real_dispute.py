"""SmolLM2's own answer, one value of it false, disputed by transactions."""

from __future__ import annotations

import pytest

from otr_core.errors import InputError
from otr_core.lane import program
from otr_paper.benches.disputes import TERMS
from otr_paper.benches.workbench import Workbench
from otr_paper.series.disputes import MOST_GAS, MOST_JUDGED_GAS

pytestmark = [pytest.mark.slow, pytest.mark.model]


def test_a_lie_in_a_real_answer_ends_in_a_slash_within_the_bars(project):
    served = Workbench.of(project).serve("What is the capital of France?", 6)
    positions = served.honest.trace.shape.positions
    lie = served.effective(positions - 2, 11, program.LayerOperator.OUTPUT, 7)
    ended = served.dispute(served.run(lie))
    assert ended["verdict"] == "OPERATOR_LOSES"
    found = (ended["position"], ended["layer"], ended["operator"], ended["element"])
    assert found == (positions - 2, 11, "output", 7)
    assert ended["rounds"] == ended["rounds_expected"] <= ended["rounds_bound"]
    assert ended["gas_dispute"] <= MOST_GAS
    assert ended["gas_leaf"] <= MOST_JUDGED_GAS
    assert max(ended["inferences_fisherman"], ended["inferences_operator"]) <= 2
    money = ended["money"]
    assert money["stake_slashed_wei"] == money["reward_wei"] + money["costs_wei"] + money["burnt_wei"]
    crowd = served.crowd(3, TERMS, slot_s=12, stall=True, seed=1)
    assert crowd.operator_lost == 0
    padding = served.trees.dims.padded(positions) - 1
    with pytest.raises(InputError, match="no change that reaches the trace"):
        served.effective(positions - 2, 11, program.LayerOperator.WEIGHTS, padding)
