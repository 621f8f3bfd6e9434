"""The profile is read from a file of bounded size, and a stored result of another deployment is refused."""

from __future__ import annotations

import dataclasses

import pytest

from otr_core.dispute.profile import FILE, ProfileError, own_profile, profile_numbers, read_profile
from otr_core.errors import DataError, InputError
from otr_core.files import data_folder
from otr_node.chain.fisherman import MARGIN_S, PATIENCE_S
from otr_paper.claims.published import load_published
from otr_paper.store.results import check_made_with


def test_the_shipped_profile_is_the_one_in_the_data(project):
    assert own_profile() == read_profile(project.data / FILE) == read_profile(data_folder() / FILE)


def test_what_a_source_cites_is_what_the_row_says(project):
    profile, rows = own_profile(), load_published(project.data)
    cited = {name: source for name, source in profile.sources.items() if not source.startswith("ours")}
    assert cited == {"court.spot_bps": "otr.rho", "parties.proof_s": "zkml.latency_7b"}
    assert profile.court.spot_bps / 10_000 == rows.number("otr.rho", "1")
    assert profile.parties.proof_s == rows.number("zkml.latency_7b", "s")


def test_a_fisherman_keeps_to_it():
    assert own_profile().parties.margin_s == MARGIN_S
    assert own_profile().parties.patience_s == PATIENCE_S


def test_a_file_that_is_no_profile_is_refused(tmp_path):
    path = tmp_path / "own.toml"
    with pytest.raises(InputError, match=r"own\.toml"):
        read_profile(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ProfileError, match="UTF-8"):
        read_profile(path)
    path.write_bytes(b"#" * (2**16 + 1))
    with pytest.raises(InputError, match="at most 65536 bytes"):
        read_profile(path)


def test_a_result_of_another_deployment_is_refused():
    profile = own_profile()
    numbers = profile_numbers(profile)
    assert numbers["court.window_s"] == profile.court.window_s
    assert numbers["parties.batch_s"] == profile.parties.batch_s
    check_made_with("x", numbers, profile, "make")
    longer = dataclasses.replace(profile, court=dataclasses.replace(profile.court, window_s=7200))
    with pytest.raises(
        DataError, match=r"^x: made with court.window_s 3600, the profile says 7200; make it again: make$"
    ):
        check_made_with("x", numbers, longer, "make")
    with pytest.raises(DataError, match="the profile says None"):
        check_made_with("x", {"court.colour": 1}, profile, "make")
