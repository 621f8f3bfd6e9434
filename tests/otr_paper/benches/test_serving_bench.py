"""The bench of the server runs two real ones, and its figures follow from what it measured."""

import pytest

from otr_core.errors import ParameterError
from otr_node.project import Project
from otr_paper.benches.serving import ServingPlan, measure_serving
from otr_paper.press.pages import overhead_markdown
from otr_paper.store.results import card_of_now, write_result


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


def test_the_page_on_serving_says_what_was_measured_and_before_that_nothing_was(tmp_path):
    project = Project(tmp_path)
    project.results.mkdir(parents=True)
    assert overhead_markdown(project).startswith("Not measured yet: `python -m otr_paper.producers.serving`")
    times = {"cpu_s_per_token": 0.1, "hashing_s_per_token": 0.0, "first_s": 1.0, "first_alone_s": 0.5}
    bare = {"tokens_per_s": 40.0, **times}
    receipts = {"tokens_per_s": 39.0, **times, "hashing_s_per_token": 0.0125, "first_s": 1.25}
    found = {"batch": 16, "rounds": 3, "bare": bare, "receipts": receipts, "throughput_loss": 1 / 40}
    found |= {"first_delay_ms": 250.0, "first_delay_alone_ms": -2.0, "load": {"before": 0.5, "after": 2.25}}
    write_result(project.results, "serving", card_of_now("a command"), found)
    said = overhead_markdown(project)
    for line in (
        "| tokens a second, 16 clients at once | 40.0 | 39.0 |",
        "| CPU of the process that hashes for it a token, ms | 0.0 | 12.5 |",
        "| first token of 16 that come at once, ms | 1,000 | 1,250 |",
        "Tokens a second: -2.5% (3 % less was to be the most). First token: +250 ms, -2 ms alone",
        "Measured with `a command` on ",
        "load 0.5 before, 2.2 after",
    ):
        assert line in said


@pytest.mark.parametrize("name", ["rounds", "batch", "tokens", "words", "alone"])
def test_there_must_be_something_to_measure(name):
    with pytest.raises(ParameterError, match=name):
        ServingPlan(**{name: 0})


def test_prompts_differ():
    plan = ServingPlan()
    assert len({plan.prompt(number) for number in range(16)}) == 16
    assert len(plan.prompt(3).split()) == plan.words
