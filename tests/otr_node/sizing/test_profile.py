"""``otr size --profile``: what is sized is what a court is deployed with, and what is missing is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from otr_core.dispute.profile import ProfileError, parse_profile, profile_numbers, read_profile
from otr_core.dispute.records import BASIS
from otr_core.economics.scenarios import CourtChoices, parse
from otr_core.errors import InputError, NodeError, ParameterError
from otr_node.chain.access import attached
from otr_node.chain.anvil import EmbeddedNode
from otr_node.chain.deployment import load_deployment
from otr_node.chain.keys import VARIABLE
from otr_node.chain.onchain import FIRST_COURT
from otr_node.chain.rpc import RpcChain
from otr_node.sizing.cases import read_scenario
from otr_node.sizing.claims import read_claims
from otr_node.sizing.profile import profile_toml, sized_profile
from otr_node.sizing.size import NetworkReport
from otr_node.sizing.terms import set_terms
from tests.helpers.command_line import assert_one_line, otr
from tests.helpers.networks import REGISTRAR


@pytest.fixture(scope="module")
def example(project) -> Path:
    return project.root / "docs" / "example_network.toml"


@pytest.fixture(scope="module")
def report(project, example) -> NetworkReport:
    case, claims = read_scenario(example), read_claims(project.root / "docs" / "example_claims.csv")
    nothing = {"final": None, "served": None, "outage": None, "changes": [], "breaks": []}
    return NetworkReport(scenario=case, claims=claims, terms=set_terms(case, claims), **nothing)


def test_amounts_and_rates_are_the_sized_ones_on_the_side_that_deters(report):
    profile, terms, bond = sized_profile(report), report.terms, report.scenario.bond
    court, ether = profile.court, report.scenario.deployment.eth_usd
    assert court.least_stake_wei / 10**18 * ether == pytest.approx(terms.stake_usd, rel=1e-12)
    assert court.least_stake_wei * ether >= terms.stake_usd * 10**18 * (1 - 1e-15)
    assert (court.slash_bps, court.reward_bps) == (BASIS * bond.slash_fraction, BASIS * bond.reward_share)
    assert terms.rhos.max() <= court.spot_bps / BASIS < terms.rhos.max() + 1 / BASIS
    assert profile.parties.stake_usd == math.ceil(terms.penalty_usd)
    assert profile.parties.proof_s == report.scenario.limits.proof_s
    chosen = vars(report.scenario.deployment)
    found = {name.partition(".")[2]: value for name, value in profile_numbers(profile).items()}
    assert {name: found[name] for name in chosen if name != "eth_usd"} == {
        name: value for name, value in chosen.items() if name != "eth_usd"
    }
    assert set(profile.sources) == set(profile_numbers(profile))
    assert parse_profile(profile_toml(profile, report)) == profile


def test_a_bond_makes_challenges_that_are_never_opened_dearer_than_a_catchers_share(report):
    """A wei less is refused by the profile itself; half the ether price doubles stake and bond."""
    profile = sized_profile(report)
    with pytest.raises(ParameterError, match="bond_wei"):
        replace(profile, court=replace(profile.court, bond_wei=profile.court.bond_wei - 1))
    case = report.scenario
    cheaper = replace(case, deployment=replace(case.deployment, eth_usd=case.deployment.eth_usd / 2))
    half = sized_profile(replace(report, scenario=cheaper)).court
    assert half.least_stake_wei == pytest.approx(2 * profile.court.least_stake_wei, rel=1e-15)
    assert half.bond_wei == pytest.approx(2 * profile.court.bond_wei, rel=1e-15)
    watched = replace(report.terms, fisherman_stake_usd=10 * report.terms.stake_usd)
    bonded = sized_profile(replace(report, terms=watched)).court
    assert bonded.bond_wei == pytest.approx(10 * profile.court.least_stake_wei, rel=1e-12)


def test_every_number_that_is_missing_is_named(example):
    text = example.read_text()
    for name in CourtChoices.__dataclass_fields__:
        (line,) = (each for each in text.splitlines() if each.startswith(f"{name} ="))
        with pytest.raises(ParameterError, match=rf"deployment\.{name}: found None"):
            parse("own", text.replace(line, ""))
    with pytest.raises(ParameterError, match=r"window_s: found 3600\.5, allowed: a whole number"):
        parse("own", text.replace("window_s = { value = 3600,", "window_s = { value = 3600.5,"))
    with pytest.raises(ParameterError, match="eth_usd"):
        parse("own", text.replace("eth_usd = { value = 2000.0,", "eth_usd = { value = 0.0,"))


def test_numbers_that_do_not_fit_and_terms_that_do_not_deter_give_no_profile(report):
    case = report.scenario
    for name, value in (("duty_s", 300), ("patience_s", 5), ("increment_s", 30), ("claim_s", 60)):
        other = replace(case, deployment=replace(case.deployment, **{name: value}))
        with pytest.raises(ProfileError):
            sized_profile(replace(report, scenario=other))
    with pytest.raises(InputError, match="do not deter"):
        sized_profile(replace(report, terms=replace(report.terms, deters=False)))


def test_the_command_writes_it_where_there_is_something_to_write(example, tmp_path):
    bare = tmp_path / "bare.toml"
    bare.write_text(example.read_text().partition("# What a court takes")[0])
    out = tmp_path / "own.toml"
    none = "--profile: found no table deployment"
    assert_one_line(otr("size", bare, "--profile", out), 2, none, "eth_usd", "window_s")
    assert_one_line(otr("size", example, "--profile", tmp_path / "none" / "own.toml"), 2, "found no folder")
    assert not out.exists()


@pytest.mark.slow
def test_a_sized_network_is_deployed_and_its_court_has_the_profiles_constants(example, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "correct horse")
    claims, out, court = example.with_name("example_claims.csv"), tmp_path / "own.toml", tmp_path / "court.json"
    done = otr("size", example, claims, "--out", tmp_path / "report", "--profile", out)
    assert done.returncode == 0, done.stderr
    stated = read_profile(out).court
    key = tmp_path / "registrar.key"
    key.write_text(json.dumps(Account.encrypt(REGISTRAR.key, "correct horse", kdf="scrypt", iterations=2)))
    with EmbeddedNode(chain_id=FIRST_COURT.chain_id) as node:
        done = otr("chain", "deploy", "--rpc", node.url, "--key", key, "--profile", out, "--out", court)
        assert done.returncode == 0, done.stderr
        stands = load_deployment(court.read_bytes())
        assert stands.terms == stated
        # The terms are part of the contracts' code, which is compared with what stands on the chain.
        attached(RpcChain(node.url), court)
        other = tmp_path / "other.json"
        other.write_bytes(replace(stands, terms=replace(stated, least_stake_wei=stated.least_stake_wei - 1)).dump())
        with pytest.raises(NodeError, match="contract"):
            attached(RpcChain(node.url), other)
