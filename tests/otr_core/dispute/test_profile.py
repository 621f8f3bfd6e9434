"""A profile of a deployment: every number with unit and source, and numbers that fit together."""

from __future__ import annotations

import dataclasses

import pytest

from otr_core.dispute.profile import DeploymentProfile, PartyTerms, ProfileError, parse_profile, read_profile
from otr_core.errors import ParameterError
from otr_core.files import data_folder


@pytest.fixture(scope="module")
def text() -> str:
    return (data_folder() / "deployment.toml").read_text()


@pytest.fixture(scope="module")
def profile(text) -> DeploymentProfile:
    return parse_profile(text)


def line(text: str, name: str) -> str:
    return next(each for each in text.splitlines() if each.startswith(f"{name} ="))


def test_every_number_of_the_deployment_has_a_unit_and_a_source(profile):
    names = {*vars(profile.court), *vars(profile.parties)}
    assert {name.partition(".")[2] for name in profile.sources} == names
    assert profile.court.window_s == 3600


@pytest.mark.parametrize(
    ("name", "new", "field"),
    [
        ("window_s", "", "court"),
        ("window_s", "colour_s = { value = 1, unit = 's', source = 'x' }", "court"),
        ("window_s", "window_s = 3600", "court.window_s"),
        ("window_s", "window_s = { value = 3600, unit = 's' }", "court.window_s"),
        ("window_s", "window_s = { value = 3600, unit = 's', source = 'x', date = 'x' }", "court.window_s"),
        ("window_s", "window_s = { value = 3600, unit = 'h', source = 'x' }", "court.window_s"),
        ("window_s", "window_s = { value = 3600, unit = 's', source = ' ' }", "court.window_s"),
        ("window_s", "window_s = { value = 3600.0, unit = 's', source = 'x' }", "court.window_s"),
        ("window_s", "window_s = { value = true, unit = 's', source = 'x' }", "court.window_s"),
        ("window_s", "window_s = { value = 59, unit = 's', source = 'x' }", "court.window_s"),
        ("reward_bps", "reward_bps = { value = 10000, unit = 'bp', source = 'x' }", "court.reward_bps"),
        ("batch_s", "batch_s = { value = 0, unit = 's', source = 'x' }", "parties.batch_s"),
        ("batch_s", "batch_s = { value = true, unit = 's', source = 'x' }", "parties.batch_s"),
        ("stake_usd", "stake_usd = { value = 2000000000, unit = 'USD', source = 'x' }", "parties.stake_usd"),
        ("stake_usd", "stake_usd = { value = 1, unit = 'wei', source = 'x' }", "parties.stake_usd"),
        ("[parties]", "[others]", "document"),
        ("[parties]", "[parties", "document"),
        ("move_s", "move_s = { value = 121, unit = 's', source = 'x' }", "profile.move_s"),
    ],
)
def test_anything_else_is_refused_with_the_place_in_one_line(text, name, new, field):
    old = name if name.startswith("[") else line(text, name)
    with pytest.raises(ProfileError) as refused:
        parse_profile(text.replace(old, new, 1))
    assert refused.value.field == field
    assert str(refused.value).startswith(f"profile {field}: found ")
    assert ", expected " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "\x00", "court = 5", "x = " + "[" * 5000, "x = " + "1" * 5000, "[court]\n[parties]", "[[court]]"]
)
def test_what_is_no_profile_at_all_is_refused(text):
    with pytest.raises(ProfileError):
        parse_profile(text)


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path):
    (tmp_path / "own.toml").write_bytes(b"# \xff")
    with pytest.raises(ProfileError, match=r"profile document: found .*, expected text in UTF-8$"):
        read_profile(tmp_path / "own.toml")


def test_what_was_found_is_shown_in_few_characters(text):
    with pytest.raises(ProfileError) as refused:
        parse_profile(
            text.replace(line(text, "window_s"), f"window_s = {{ value = '{'9' * 10**5}', unit = 's', source = 'x' }}")
        )
    assert len(str(refused.value)) < 300


def test_numbers_that_do_not_fit_together_are_refused(profile):
    def fitting(court: dict[str, int], parties: dict[str, int]) -> DeploymentProfile:
        terms = dataclasses.replace(profile.court, **court)
        return DeploymentProfile(terms, dataclasses.replace(profile.parties, **parties), profile.sources)

    for name, court, parties, good in (
        ("margin_s", {}, {"margin_s": 3600, "proof_s": 1}, {"margin_s": 3599, "proof_s": 1}),
        ("move_s", {}, {"move_s": 121}, {"move_s": 120}),
        ("proof_s", {}, {"proof_s": 3541}, {"proof_s": 3540}),
        ("batch_s", {}, {"batch_s": 3601, "patience_s": 3602}, {"batch_s": 3600, "patience_s": 3601}),
        ("patience_s", {}, {"patience_s": 10}, {"patience_s": 11}),
    ):
        with pytest.raises(ParameterError) as refused:
            fitting(court, parties)
        assert refused.value.field == name
        assert fitting({}, good)
    # Four bonds fit into the window where a challenge may stay unopened for a quarter of it, and six now.
    with pytest.raises(ParameterError, match="bond_wei"):
        fitting({"reveal_s": 900}, {})
    assert fitting({"reveal_s": 900, "bond_wei": 126 * 10**15}, {})
    with pytest.raises(ParameterError, match="bond_wei"):
        fitting({"reveal_s": 900, "bond_wei": 125 * 10**15}, {})


@pytest.mark.parametrize("name", [own.name for own in dataclasses.fields(PartyTerms)])
def test_what_parties_keep_to_has_a_range(profile, name):
    for value in (0, -1, 2**31 + 1):
        with pytest.raises(ParameterError, match=name):
            dataclasses.replace(profile.parties, **{name: value})
