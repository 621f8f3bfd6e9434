"""What a policy expects, and that nobody gains by leaving something out.

The property: whatever part is taken from a bundle, recorded or spoilt in any one part, *rejected*
never becomes *accepted*.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from otr_core.attestation import Appraisal, Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import CHECKS, Status
from otr_core.attestation.eventlog import RUNTIME_EVENT
from otr_core.attestation.policy import Waiver
from otr_core.errors import EvidenceError, PolicyError
from otr_paper.labs.attestation import authentic_policy
from otr_paper.labs.attestation.cases import recorded_machine_policy
from otr_paper.labs.attestation.machines import guest_in_attestation, machine_devices
from otr_paper.labs.attestation.twins import NODE, presented

CACHE = VerifiedCache()
Files = Mapping[str, Any]
Outside = Callable[[str], bytes]
LISTS = ("gpu", "gpu_certs", "rims", "ocsp")


@dataclasses.dataclass(frozen=True)
class Shown:
    """A bundle's files, and how they are judged."""

    files: Files
    policy: Policy
    as_of: datetime
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def judged(self, files: Files | None = None) -> Appraisal | None:
        """None where the files are none of a bundle."""
        try:
            bundle = load_bundle(**(self.files if files is None else files))
        except EvidenceError:
            return None
        return appraise(bundle, self.policy, self.as_of, cache=CACHE, **self.given)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def bundles(outside: Outside, h100_files: Files, h100_ocsp: Mapping[str, bytes]) -> dict[str, Shown]:
    hgx = machine_devices(outside("hgx/test_ppcie_data.json"))
    blackwell = machine_devices(outside("hgx/blackwell_two_of_mpt.json"))["gpu"]
    snp = guest_in_attestation(outside("dstack/sev-snp-attestation.json"))
    ark = outside("google-go-sev-guest/ask_ark_milan.pem").split(b"-----END CERTIFICATE-----\n")[1]
    dstack = json.loads(outside("near-vllm-proxy/dstack_quote.json"))
    compose = json.loads(outside("near-vllm-proxy/dstack_info.json"))["tcb_info"]["app_compose"].encode()
    machine = {
        "gpu": [outside("secretvm-verify/gpu_attest.txt")],
        "quote": outside("secretvm-verify/cpu_quote.txt"),
        "collateral": outside("near-mpc/collateral.json"),
        "rims": [outside("nvidia-attestation-sdk/rims/NV_GPU_DRIVER_GH100_550.144.03.xml")],
    }
    default = Policy.default()
    laboratory = presented(NODE)
    logged = {
        "quote": dstack["quote"].encode(),
        "collateral": outside("phala-dcap-qvl/near_gas_test_quote_collateral.json"),
        "event_log": dstack["event_log"].encode(),
        "compose": compose,
    }
    with_log = default.expecting("tdx", "event_log", "compose")
    with_log = dataclasses.replace(with_log, require=(*with_log.require, "cpu.event_log", "cpu.rtmr3", "cpu.compose"))
    floor = dataclasses.replace(default.expecting("snp"), snp_min_tcb=(("snp", 1),))
    tdx = {
        name: outside(f"phala-dcap-qvl/tdx_quote{more}")
        for name, more in (("quote", ""), ("collateral", "_collateral.json"))
    }
    return {
        "H100": Shown(h100_files, default.expecting("gpu"), day("2025-01-15")),
        "H100 with OCSP": Shown(
            {**h100_files, "ocsp": list(h100_ocsp.values())}, default.expecting("gpu"), day("2025-10-24T12:00:00")
        ),
        "HGX": Shown({"gpu": [*hgx["gpu"], *hgx["switch"]]}, authentic_policy("gpu", "switch"), day("2026-08-14")),
        "Blackwell": Shown({"gpu": blackwell}, dataclasses.replace(authentic_policy(), gpu_count=2), day("2026-08-14")),
        "machine": Shown(machine, recorded_machine_policy(), day("2026-08-14")),
        "its GPU alone": Shown(machine, authentic_policy(), day("2026-08-14")),
        "TDX": Shown(tdx, default.expecting("cpu"), day("2025-06-20")),
        "dstack": Shown(logged, with_log, day("2025-09-03")),
        "dstack, quote alone": Shown(logged, default.expecting("tdx"), day("2025-09-03")),
        "SNP": Shown(
            {
                "quote": snp["quote"],
                "collateral": snp["certificates"] + ark + b"-----END CERTIFICATE-----\n",
                "config": snp["config"],
            },
            floor,
            day("2026-08-01"),
        ),
        "laboratory": Shown(laboratory.files, laboratory.policy, laboratory.as_of, laboratory.given),
    }


def parts(files: Files) -> list[tuple[str, int]]:
    """Every part: slot and position."""
    listed = [(slot, at) for slot in files if slot in LISTS for at in range(len(files[slot]))]
    return listed + [(slot, 0) for slot in files if slot not in LISTS and files[slot] is not None]


def without(files: Files, slot: str, at: int) -> dict[str, Any]:
    if slot not in LISTS:
        return {name: value for name, value in files.items() if name != slot}
    result = {**files, slot: [one for place, one in enumerate(files[slot]) if place != at]}
    if slot == "gpu" and files.get("gpu_certs"):  # its chain goes with it
        result["gpu_certs"] = [one for place, one in enumerate(files["gpu_certs"]) if place != at]
    return result


def spoilt(files: Files, slot: str, at: int, rng: random.Random) -> dict[str, Any]:
    """The files with one part changed somewhere, in the bytes or inside its base64."""
    data = bytearray(files[slot][at] if slot in LISTS else files[slot])
    place = rng.randrange(len(data))
    data[place : place + 1] = bytes([rng.choice(b"ABab01")]) if bytes(data).isascii() else bytes([data[place] ^ 1])
    changed = bytes(data)
    if slot not in LISTS:
        return {**files, slot: changed}
    return {**files, slot: [changed if place == at else one for place, one in enumerate(files[slot])]}


def versions(shown: Shown, rng: random.Random) -> Iterator[Files]:
    yield shown.files
    for slot, at in parts(shown.files):
        for _ in range(3):
            yield spoilt(shown.files, slot, at, rng)
        yield without(shown.files, slot, at)


NAMES = (
    *("H100", "H100 with OCSP", "HGX", "Blackwell", "machine", "its GPU alone", "TDX", "dstack"),
    *("dstack, quote alone", "SNP", "laboratory"),
)


@pytest.mark.parametrize("name", NAMES)
def test_taking_a_part_away_never_helps(bundles: dict[str, Shown], name: str) -> None:
    shown, rng = bundles[name], random.Random(name)
    honest = shown.judged()
    assert honest is not None
    assert honest.accepted, honest.summary()
    tried = 0
    for files in versions(shown, rng):
        before = shown.judged(files)
        if before is None or before.accepted:
            continue
        for slot, at in parts(files):
            after = shown.judged(without(files, slot, at))
            tried += 1
            assert after is None or not after.accepted, (slot, at, before.summary())
    assert tried > 1


def test_a_debug_quote_left_out_is_missed(bundles: dict[str, Shown]) -> None:
    """With it the machine is rejected for what it is, without it because it is not there."""
    shown = bundles["machine"]
    raw = bytearray(bytes.fromhex(shown.files["quote"].decode()))
    raw[48 + 120] |= 1
    with_quote = shown.judged({**shown.files, "quote": bytes(raw)})
    without_quote = shown.judged({**without(shown.files, "quote", 0), "collateral": None})
    assert with_quote is not None
    assert without_quote is not None
    assert "cpu.debug" in {claim.id for claim in with_quote.because}
    assert not without_quote.accepted
    missed = [claim for claim in without_quote.because if claim.status is Status.NOT_MADE]
    assert {"cpu.quote", "cpu.tcb", "cpu.debug", "binding.gpu_nonce"} <= {claim.id for claim in missed}
    assert "no cpu in the bundle" in without_quote.summary()


def test_every_check_leaves_a_claim(bundles: dict[str, Shown]) -> None:
    for shown in bundles.values():
        result = shown.judged()
        assert result is not None
        assert {claim.check for claim in result.claims} == set(CHECKS)
        said = {claim.id for claim in result.claims if claim.status is Status.NOT_MADE}
        assert set(json.loads(result.to_json())["not_made"]) == said


def test_why_a_check_was_not_made(bundles: dict[str, Shown]) -> None:
    reasons = {
        ("TDX", "gpu.report"): "no NVIDIA device in the bundle",
        ("TDX", "binding.gpu_nonce"): "no GPU in the bundle to bind to",
        ("H100", "cpu.quote"): "no CPU quote in the bundle",
        ("H100", "binding.key"): "no CPU quote in the bundle",
        ("SNP", "cpu.advisories"): "SNP evidence has nothing to make this check on",
        ("TDX", "cpu.measurements"): "the policy states no value, or the evidence has nothing, to compare with",
    }
    for (name, check), reason in reasons.items():
        result = bundles[name].judged()
        assert result is not None
        claim = result.claim(check)
        assert (claim.status, claim.reason) == (Status.NOT_MADE, reason)


def test_the_verdict_line_says_what_was_not_made(bundles: dict[str, Shown]) -> None:
    result = bundles["TDX"].judged()
    assert result is not None
    assert "not required and not made: gpu.report" in result.summary()


def test_unexpected_evidence_decides_nothing_and_is_shown(bundles: dict[str, Shown]) -> None:
    shown = bundles["its GPU alone"]
    raw = bytearray(bytes.fromhex(shown.files["quote"].decode()))
    raw[48 + 120] |= 1
    result = shown.judged({**shown.files, "quote": bytes(raw)})
    assert result is not None
    assert result.accepted
    assert "not required and refuted: cpu.quote, cpu.debug" in result.summary()


def test_what_the_vendor_revoked_counts_even_if_nobody_asked(bundles: dict[str, Shown]) -> None:
    revoked = dataclasses.replace(NODE, revoked={"gpu": 1})
    policy = dataclasses.replace(authentic_policy(), allow_simulated=True)
    result = appraise(load_bundle(**revoked.files()), policy, NODE.now, roots=NODE.roots, nonce=NODE.nonce)
    assert [claim.id for claim in result.because] == ["gpu.0.revocation"]


def test_a_refuted_claim_counts_where_its_evidence_is_expected(
    h100_files: dict[str, Any], h100_report: bytes, outside: Outside
) -> None:
    """By the family of a required check, by a kind, and by what is asked of the evidence as a whole."""

    def against(policy: Policy, **files: Any) -> set[str]:
        return {claim.id for claim in appraise(load_bundle(**files), policy, day("2025-06-20")).because}

    one_check = Policy(name="one", require=("gpu.report",))
    spoilt = {**h100_files, "gpu": [h100_report[:-1] + bytes([h100_report[-1] ^ 1])]}
    assert not against(one_check, **h100_files)
    assert against(one_check, **spoilt) == {"gpu.0.signature"}
    assert against(dataclasses.replace(one_check, evidence=("cpu",)), **h100_files) == {"evidence.present"}
    # a TD beside a GPU whose nonce it does not bind: told, and in the way of who expects the GPU alone
    name = "phala-dcap-qvl/tdx_quote"
    beside = {**h100_files, "quote": outside(name), "collateral": outside(f"{name}_collateral.json")}
    assert not against(Policy.default().expecting("tdx"), **beside)
    assert against(Policy.default().expecting("gpu", "tdx"), **beside) == {"binding.gpu_nonce"}
    # a log that gives other registers: told, and in the way of who expects a log
    td = dataclasses.replace(one_check, require=("cpu.quote",), evidence=("tdx",))
    log = [{"imr": 3, "event_type": RUNTIME_EVENT, "event": "app-id", "event_payload": "07"}]
    logged = {**beside, "event_log": json.dumps(log).encode()}
    assert not against(td, **logged)
    assert "cpu.rtmr3" in against(dataclasses.replace(td, evidence=("tdx", "event_log")), **logged)
    raw = beside["quote"]
    beside["quote"] = raw[:600] + bytes([raw[600] ^ 1]) + raw[601:]
    assert not against(one_check, **beside)
    assert "cpu.quote" in against(dataclasses.replace(one_check, evidence=("cpu",)), **beside)


# -- waivers -----------------------------------------------------------------------------------------------------------

EXPIRED = Waiver("gpu.rim.vbios.validity", "2026-12-31", "not re-signed yet", found="expired")


def test_a_waiver_lets_one_check_fail_and_stays_visible(bundles: dict[str, Shown]) -> None:
    shown = dataclasses.replace(bundles["H100"], as_of=day("2026-03-01"))
    plain = shown.judged()
    assert plain is not None
    assert [claim.id for claim in plain.because] == ["gpu.0.rim.vbios.validity"]
    policy = dataclasses.replace(shown.policy, waivers=(EXPIRED,))
    result = dataclasses.replace(shown, policy=policy).judged()
    assert result is not None
    assert result.accepted
    last_day = dataclasses.replace(policy, waivers=(dataclasses.replace(EXPIRED, until="2026-03-01"),))
    until = dataclasses.replace(shown, policy=last_day).judged()
    assert until is not None
    assert until.accepted
    assert result.claim("gpu.0.rim.vbios.validity").status is Status.REFUTED
    assert "waived until 2026-12-31: gpu.0.rim.vbios.validity (not re-signed yet)" in result.table()[-1][-1]
    document = json.loads(result.to_json())
    assert document["waived"] == [
        {"claim": "gpu.0.rim.vbios.validity", "until": "2026-12-31", "why": "not re-signed yet"}
    ]


@pytest.mark.parametrize(
    ("change", "moment"),
    [
        ({"until": "2026-02-28"}, "2026-03-01"),  # over
        ({"found": "valid from"}, "2026-03-01"),  # for another failure
        ({"check": "gpu.rim.driver.validity"}, "2026-03-01"),  # of another check
        ({}, "2026-07-01"),  # the driver's manifest expired too
    ],
)
def test_a_waiver_covers_nothing_else(bundles: dict[str, Shown], change: dict[str, str], moment: str) -> None:
    waiver = dataclasses.replace(EXPIRED, **change)
    policy = dataclasses.replace(bundles["H100"].policy, waivers=(waiver,))
    result = dataclasses.replace(bundles["H100"], policy=policy, as_of=day(moment)).judged()
    assert result is not None
    assert not result.accepted


def test_a_waiver_does_not_stand_in_for_a_check_that_was_not_made(bundles: dict[str, Shown]) -> None:
    shown = bundles["machine"]
    waivers = tuple(Waiver(f"cpu.{one}", "2099-01-01", "x") for one in ("tcb", "advisories", "debug", "migration"))
    policy = dataclasses.replace(shown.policy, waivers=waivers)
    result = dataclasses.replace(shown, policy=policy).judged({"gpu": shown.files["gpu"]})
    assert result is not None
    assert {"cpu.tcb", "cpu.debug"} <= {claim.id for claim in result.because}


def test_a_certificate_on_hold_can_be_waived_and_a_stolen_key_cannot(bundles: dict[str, Shown]) -> None:
    """The laboratory's revocation says key compromise; the waiver is for a hold."""
    hold = Waiver("gpu.revocation", "2099-01-01", "on hold while the vendor looks", found="certificate_hold")
    revoked = dataclasses.replace(NODE, revoked={"gpu": 1})
    policy = dataclasses.replace(NODE.policy, waivers=(hold,))
    given = {"roots": NODE.roots, "nonce": NODE.nonce, "key": NODE.keys}
    result = appraise(load_bundle(**revoked.files()), policy, NODE.now, **given)
    assert [claim.id for claim in result.because] == ["gpu.0.revocation"]
    wide = dataclasses.replace(policy, waivers=(dataclasses.replace(hold, found="key_compromise"),))
    assert appraise(load_bundle(**revoked.files()), wide, NODE.now, **given).accepted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('check = "gpu.signature"\nuntil = 2026-12-31\nwhy = "x"', "cannot be waived"),
        ('check = "cpu.quote"\nuntil = 2026-12-31\nwhy = "x"', "cannot be waived"),
        ('check = "gpu.revocaton"\nuntil = 2026-12-31\nwhy = "x"', "did you mean 'gpu.revocation'"),
        ('check = "gpu.revocation"\nuntil = "someday"\nwhy = "x"', "a day as YYYY-MM-DD"),
        ('check = "gpu.revocation"\nuntil = 2026-12-31\nwhy = " "', "no reason"),
        ('check = "gpu.revocation"\nuntil = 2026-12-31', "expected the texts"),
        ('check = "gpu.revocation"\nuntil = 5\nwhy = "x"', "expected the texts"),
        ('check = "gpu.revocation"\nuntil = 2026-12-31\nwhy = "x"\nwho = "y"', "found 'who'"),
    ],
)
def test_a_waiver_without_check_day_or_reason_fails(text: str, reason: str) -> None:
    head = 'name = "mine"\nrequire = ["gpu.report"]\n[[waivers]]\n'
    with pytest.raises(PolicyError, match=reason):
        Policy.from_bytes((head + text).encode())
    good = Policy.from_bytes((head + 'check = "gpu.revocation"\nuntil = 2026-12-31\nwhy = "x"').encode())
    assert Policy.from_bytes(good.to_bytes()) == good


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('min_tcb_date = "soon"', "a day as YYYY-MM-DD"),
        *((f"[snp_min_tcb]\nsnp = {value}", "below 256") for value in ("300", "-1", "3.5", "true", '"3"')),
        ("[snp_min_tcb]\nsoc = 3", "found 'soc'"),
        ('gpu_modes = ["both"]', "found 'both'"),
        ("ocsp_grace_s = -1", "0 or more"),
        ("switch_count = 0", "expected 1 to"),
        ("waivers = 1", "list of tables"),
    ],
)
def test_other_fields_written_wrong_fail(line: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        Policy.from_bytes(f'name = "mine"\nrequire = ["gpu.report"]\n{line}\n'.encode())


# -- the platform's age ------------------------------------------------------------------------------------------------


def test_an_out_of_date_platform_is_told_how_old_it_is(outside: Outside) -> None:
    bundle = load_bundle(quote=outside("phala-dcap-qvl/tdx_quote"), collateral=outside("near-mpc/collateral.json"))
    result = appraise(bundle, Policy.default().expecting("cpu"), day("2026-08-14"))
    assert result.cpu is not None
    assert result.cpu["tcb_date"] == "2025-05-14"
    assert result.cpu["days_behind"] > 0
    reason = result.claim("cpu.tcb").reason
    assert f"of 2025-05-14, {result.cpu['days_behind']} days behind the latest" in reason
    assert "INTEL-SA-01192" in reason


@pytest.mark.parametrize(("floor", "accepted"), [("2024-03-13", True), ("2024-03-14", False)])
def test_the_tcb_date_floor(bundles: dict[str, Shown], floor: str, accepted: bool) -> None:
    shown = bundles["TDX"]
    policy = dataclasses.replace(shown.policy, min_tcb_date=floor)
    result = dataclasses.replace(shown, policy=policy).judged()
    assert result is not None
    assert result.accepted == accepted
    assert result.accepted or [claim.id for claim in result.because] == ["cpu.tcb_date"]
    assert "2024-03-13" in result.claim("cpu.tcb_date").reason


def test_expecting_keeps_only_what_can_be_answered() -> None:
    default = Policy.default()
    assert not [name for name in default.expecting("gpu").require if name.startswith(("cpu.", "binding."))]
    assert "binding.gpu_nonce" in default.expecting("gpu", "tdx").require
    assert "cpu.advisories" not in default.expecting("snp").require
    assert "cpu.advisories" in default.expecting("snp", "tdx").require
    with pytest.raises(PolicyError, match="found 'gpus'"):
        default.expecting("gpus")


def test_base64_of_the_recorded_devices_is_whole(outside: Outside) -> None:
    devices = machine_devices(outside("hgx/test_ppcie_data.json"))
    assert {kind: len(found) for kind, found in devices.items()} == {"gpu": 8, "switch": 4}
    assert all(base64.b64decode(json.loads(one)["evidence"], validate=True) for one in devices["gpu"])


def test_who_is_admitted_is_asked_where_the_policy_asks_and_the_evidence_says(h100_files: Files) -> None:
    """No list: no claim. A list, and a device whose certificate is not there: unknown, not refuted."""
    policy, as_of = Policy.default().expecting("gpu"), day("2025-01-15")
    listed = dataclasses.replace(policy, gpu_ids=("1",))
    known, unnamed = load_bundle(**h100_files), load_bundle(gpu=h100_files["gpu"])
    for bundle, rules, status in (
        (known, policy, Status.NOT_MADE),
        (known, listed, Status.REFUTED),
        (unnamed, listed, Status.UNKNOWN),
    ):
        assert appraise(bundle, rules, as_of, cache=CACHE).claim("gpu.0.platform").status is status
