"""Policies: the files in the repository, and every way of writing one wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from otr_core.attestation import Policy
from otr_core.encoding import canonical_json
from otr_core.errors import PolicyError

POLICIES = Path(__file__).parents[2] / "data" / "policies"


@pytest.mark.parametrize("name", ["default", "strict"])
def test_policy_files_are_the_built_in_ones(name: str) -> None:
    assert Policy.from_bytes((POLICIES / f"{name}.toml").read_bytes()) == getattr(Policy, name)()


def test_policy_survives_its_own_json() -> None:
    policy = dataclasses.replace(Policy.strict(), measurements=(("mr_td", "ab" * 48),), gpu_drivers=("550.90.07",))
    assert Policy.from_bytes(policy.to_bytes()) == policy


@pytest.mark.parametrize("text", ["", "\n", "{}", "# nothing\n", 'name = "x"\n', 'name = "x"\nrequire = []\n'])
def test_an_empty_policy_fails(text: str) -> None:
    with pytest.raises(PolicyError, match=r"no required check|no name"):
        Policy.from_bytes(text.encode())


def test_numbers_beyond_json_fail() -> None:
    with pytest.raises(PolicyError, match="canonical JSON"):
        Policy.from_bytes(b'{"name":"a","require":["gpu.report"],"gpu_count":99999999999999999999}')


def test_an_empty_policy_object_fails() -> None:
    with pytest.raises(PolicyError, match="no required check"):
        Policy()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"requires": ["gpu.signature"]}, "did you mean 'require'"),
        ({"require": ["gpu.signatur"]}, "did you mean 'gpu.signature'"),
        ({"require": ["gpu.signature", "gpu.signature"]}, "twice"),
        ({"require": "gpu.signature"}, "found str"),
        ({"evidence": ["gpus"]}, "did you mean 'gpu'"),
        ({"allow_simulated": 1}, "found int"),
        ({"gpu_count": True}, "found bool"),
        ({"gpu_count": 0}, "at least 1"),
        ({"gpu_drivers": []}, "empty list"),
        ({"tcb_statuses": ["Revoked"]}, "found 'Revoked'"),
        ({"binding": "secretmv"}, "did you mean 'secretvm'"),
        ({"measurements": {"mr_tdd": "00"}}, "did you mean 'mr_td'"),
        ({"measurements": {"mr_td": "xyz"}}, "lower-case hex"),
        ({"measurements": {"mr_td": 1}}, "table of register"),
        ({"ocsp_max_staleness_s": 0}, "at least 1"),
        ({"name": ""}, "no name"),
    ],
)
def test_a_misspelt_policy_fails(change: dict[str, object], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        Policy.from_bytes(canonical_json({"name": "mine", "require": ["gpu.signature"], **change}))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe",
        b"{",
        b"name = ",
        b"[1]",
        b'{"name":"a","name":"b"}',
        b'{"name":"\\ud800","require":["gpu.report"]}',
        b"{" * 5000,
    ],
)
def test_an_unreadable_policy_fails(raw: bytes) -> None:
    with pytest.raises(PolicyError):
        Policy.from_bytes(raw)
