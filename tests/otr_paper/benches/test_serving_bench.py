"""The bench of the server runs two real ones, and its figures follow from what it measured."""

import pytest

from otr_core.errors import ParameterError
from otr_paper.benches.serving import ServingPlan, measure_serving


@pytest.mark.slow
def test_two_servers_are_measured_in_turns(tiny):
    found = measure_serving(tiny, ServingPlan(1, 4, 6, 5, 1))
    bare, receipts = found["bare"], found["receipts"]
    for way in (bare, receipts):
        assert all(value > 0 for name, value in way.items() if name != "hashing_s_per_token")
        assert way["first_alone_s"] < 60
    assert found["throughput_loss"] == pytest.approx(1 - receipts["tokens_per_s"] / bare["tokens_per_s"])
    assert found["first_delay_ms"] == pytest.approx(1000 * (receipts["first_s"] - bare["first_s"]))
    assert (found["lane"], found["batch"], found["most_tokens"]) == ("portable-1", 4, 6)


@pytest.mark.parametrize("name", ["rounds", "batch", "tokens", "words", "alone"])
def test_there_must_be_something_to_measure(name):
    with pytest.raises(ParameterError, match=name):
        ServingPlan(**{name: 0})


def test_prompts_differ():
    plan = ServingPlan()
    assert len({plan.prompt(number) for number in range(16)}) == 16
    assert len(plan.prompt(3).split()) == plan.words
