"""``otr economics``: what it shows of a use case."""

from __future__ import annotations

import json

import pytest

from otr_core.economics import guide, scenarios
from otr_node.sizing.cases import size_case
from tests.helpers.command_line import assert_one_line, otr


class TestEconomics:
    def test_every_packaged_use_case(self):
        run = otr("economics")
        assert run.returncode == 0
        for title in ("Chatbot", "DeFi agent", "Game character", "High-value oracle"):
            assert title in run.stdout
        assert "least stake for that rate" in run.stdout

    def test_json_says_what_guidance_says(self, project):
        found = {one["name"]: one for one in json.loads(otr("economics", "--json").stdout, parse_constant=pytest.fail)}
        cases = scenarios.load(project.data)
        assert found.keys() == cases.keys()
        for name, case in cases.items():
            advice = guide(case)
            assert found[name]["recommended"]["rho"] == advice.rho
            assert found[name]["recommended"]["deters"] == advice.deters
            assert found[name]["given"]["detection"] == case.watch.detection(0.0)
        # no rate deters at the stake the use case states
        assert found["oracle"]["least"]["rho"] is None
        assert found["chatbot"]["recommended"]["most_in_flight"] is None  # nothing limits it

    def test_the_least_stake_is_where_cheating_stops_to_pay(self, project):
        case = scenarios.load(project.data)["defi_agent"]
        sized = size_case(case)
        answer, bond, caught = case.answer, case.bond, sized.detection
        # The operator cheats on each of the 61 answers until the verdict, and its own fisherman reports it.
        loss = (1 - bond.reward_share) * bond.slash_fraction * sized.least_stake_usd
        rolling = answer.gain_usd / caught - answer.price_usd - loss + 61 * (answer.gain_usd - answer.price_usd)
        assert rolling == pytest.approx(0, abs=1e-9 * loss)
        rate = sized.least_rho * case.watch.d
        loss = (1 - bond.reward_share) * bond.slash_fraction * case.bond.stake_usd
        rolling = answer.gain_usd / rate - answer.price_usd - loss + 61 * (answer.gain_usd - answer.price_usd)
        assert rolling == pytest.approx(0, abs=1e-9 * loss)

    def test_planted_faults_that_pay_no_look_are_said(self, project):
        for name, case in scenarios.load(project.data).items():
            sized = size_case(case)
            pays = case.watch.planted_rate * case.watch.bounty_usd > case.watch.check_cost_usd
            assert pays == (name == "game_npc")
            assert ("pay no look" not in sized.sentence) == pays

    def test_a_use_case_of_ones_own(self, project, tmp_path):
        own = tmp_path / "mine.toml"
        own.write_text((project.data / "scenarios" / "chatbot.toml").read_text().replace('"Chatbot"', '"Mine"'))
        run = otr("economics", own, "--json")
        assert [(one["name"], one["title"]) for one in json.loads(run.stdout)] == [("mine", "Mine")]

    @pytest.mark.parametrize(
        ("raw", "word"), [(b"", "title"), (b"\xff", "UTF-8"), (b"title = ", "TOML"), (b"rate = 1\n", "rate")]
    )
    def test_unusable_use_cases(self, tmp_path, raw, word):
        path = tmp_path / "mine.toml"
        path.write_bytes(raw)
        assert_one_line(otr("economics", path), 2, word)
        assert_one_line(otr("economics", tmp_path / "none.toml"), 2, "none.toml")
