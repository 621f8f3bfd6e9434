"""Policies: the files that come with the package, and every way of writing one wrong."""

from __future__ import annotations

import dataclasses

import pytest

from otr_core.attestation import Policy
from otr_core.attestation.claims import CHECKS
from otr_core.encoding import canonical_json
from otr_core.errors import PolicyError

#: Checks that no policy can demand before its author states a value, or that are about a part which
#: evidence may lack.
VALUE_NEEDED = {
    *("gpu.count", "gpu.switch_count", "gpu.driver", "gpu.vbios", "gpu.mode", "gpu.platform", "gpu.architecture"),
    *("gpu.board", "cpu.measurements", "cpu.platform", "cpu.tcb_date"),
}
#: ``gpu.confidential`` needs a field that no report has.
PART_NEEDED = {"evidence.readable", "gpu.stated_nonce", "gpu.switch_fwid", "gpu.confidential", "cpu.compose"}


def test_the_strict_policy_demands_every_check_that_needs_no_value_or_part() -> None:
    assert set(Policy.strict().require) == set(CHECKS) - VALUE_NEEDED - PART_NEEDED
    assert Policy.strict().evidence == ("gpu", "cpu", "event_log")


def test_the_default_policy_demands_neither_freshness_nor_revocation() -> None:
    missing = {name.rpartition(".")[2] for name in set(Policy.strict().require) - set(Policy.default().require)}
    run_time = {"collateral", "event_log", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "boundary"}
    assert missing == {"nonce", "revocation", "covered", "key", *run_time}
    assert set(Policy.default().require) < set(Policy.strict().require)
    assert not Policy.default().allow_simulated
    assert not Policy.strict().allow_simulated


def test_policy_survives_its_own_json() -> None:
    policy = dataclasses.replace(Policy.strict(), measurements=(("mr_td", "ab" * 48),), gpu_drivers=("550.90.07",))
    assert Policy.from_bytes(policy.to_bytes()) == policy


@pytest.mark.parametrize("text", ["", "\n", "{}", "# nothing\n", 'name = "x"\n', 'name = "x"\nrequire = []\n'])
def test_an_empty_policy_fails(text: str) -> None:
    with pytest.raises(PolicyError, match=r"no required check|no name"):
        Policy.from_bytes(text.encode())


def test_numbers_beyond_json_fail() -> None:
    with pytest.raises(PolicyError, match="expected 1 to"):
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
        ({"gpu_count": 0}, "expected 1 to"),
        ({"gpu_drivers": []}, "empty list"),
        ({"gpu_drivers": ["550.90.07", 550]}, "found list"),
        ({"tcb_statuses": ["Revoked"]}, "found 'Revoked'"),
        ({"binding": "secretmv"}, "did you mean 'secretvm'"),
        ({"measurements": {"mr_tdd": "00"}}, "did you mean 'mr_td'"),
        ({"measurements": {"mr_td": "xyz"}}, "lower-case hex"),
        ({"measurements": {"mr_td": ""}}, "lower-case hex"),
        ({"measurements": {"mr_td": 1}}, "table of register"),
        ({"ocsp_max_staleness_s": 0}, "expected 1 to"),
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
        b"x = " + b"1" * 5000,
    ],
)
def test_an_unreadable_policy_fails(raw: bytes) -> None:
    with pytest.raises(PolicyError):
        Policy.from_bytes(raw)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        ("gpu.count", {"gpu_count": 8}),
        ("gpu.driver", {"gpu_drivers": ("550.90.07",)}),
        ("gpu.vbios", {"gpu_vbios": ("96.00.9F.00.01",)}),
        ("gpu.mode", {"gpu_protected_pcie": False}),
        ("gpu.platform", {"gpu_ids": ("1",)}),
        ("gpu.platform", {"gpu_max_nodes": 1}),
        ("cpu.measurements", {"measurements": (("mr_td", "ab" * 48),)}),
        ("cpu.platform", {"cpu_ids": ("ab",)}),
        ("cpu.platform", {"cpu_max_nodes": 1}),
        ("gpu.switch_count", {"switch_count": 4}),
        ("gpu.mode", {"gpu_modes": ("single",)}),
        ("gpu.architecture", {"gpu_architectures": ("GH100",)}),
        ("gpu.board", {"gpu_boards": ("G520 0200 885",)}),
        ("cpu.tcb_date", {"min_tcb_date": "2025-05-14"}),
    ],
)
def test_a_required_value_must_be_stated(check: str, value: dict[str, object]) -> None:
    """Required and unstated, the check was never made, and so never stood against anything."""
    with pytest.raises(PolicyError, match=f"policy {check}: required, but the policy states no value"):
        Policy(name="mine", require=(check,))
    assert Policy(name="mine", require=(check,), **value).require == (check,)
