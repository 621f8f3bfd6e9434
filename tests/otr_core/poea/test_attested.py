"""Evidence before a receipt check: the same rules whether a simulated TEE or hardware speaks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.eventlog import RUNTIME_EVENT, runtime_digest
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, PolicyError, ReceiptError
from otr_core.poea import verify_receipt
from otr_core.poea.attested import (
    GPU_CHECKS,
    GUEST_CHECKS,
    PARTS,
    appraise_evidence,
    appraise_hardware,
    appraiser_with,
    attested,
    pack_evidence,
)
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.simulated import appraise_simulated, replay_log
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT, EvidencePolicy, TeeClaims
from otr_paper.labs.attestation.platform import LabPlatform
from tests.helpers.receipts import ALLOW, NOW, signed
from tests.helpers.seams import (
    BOUNDARY,
    KEYS,
    MODEL,
    MOMENT,
    NODE,
    NONCE,
    SEAMS,
    TEE,
    HardwareSeam,
    SimulatedSeam,
    resigned,
)

SIMULATED, HARDWARE = SEAMS
Seam = SimulatedSeam | HardwareSeam
FILE = signed(tee=TEE)
both = pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.name)
FILES = {**NODE.files(), "keys": NODE.keys}
EVIDENCE = pack_evidence(FILES)


def check_of(seam: Seam, evidence: Any, *, policy: Any = None, file: ReceiptFile = FILE, as_of: int = NOW) -> str:
    """Name of the check that rejects a receipt with this evidence; "" if none does."""
    try:
        verify_receipt(replace(file, evidence=evidence), policy=policy or seam.policy, as_of=as_of, order_from="file")
    except ReceiptError as error:
        return error.check if "\n" not in str(error) and len(str(error)) < 1000 else "a message of many lines"
    return ""


def message_of(seam: Seam, evidence: Any, policy: Any = None) -> str:
    with pytest.raises(ReceiptError) as caught:
        appraise_evidence(evidence, policy or seam.policy, NOW)
    return str(caught.value)


# -- the same for both -------------------------------------------------------------------------------------------------


@both
def test_what_honest_evidence_says(seam: Seam) -> None:
    expected = TeeClaims(TEE.keys.digest + NONCE, NONCE, TEE.model_id, simulated=True)
    assert appraise_evidence(seam.evidence(), seam.policy, NOW) == expected


@both
def test_a_receipt_of_the_attested_key_is_accepted(seam: Seam) -> None:
    file = replace(FILE, evidence=seam.evidence())
    read = load_receipt_file(file.dump())
    found = verify_receipt(read, policy=seam.policy, as_of=NOW, order_from="file")
    assert found.simulated
    assert found.signer == TEE.keys.address


@both
@pytest.mark.parametrize("wrong", [Policy.strict(), {"allow_simulated": True}, True, None], ids=lambda one: type(one))
def test_a_policy_of_another_kind_is_an_error(seam: Seam, wrong: Any) -> None:
    """An attestation policy has ``allow_simulated`` too; its other fields would be ignored."""
    own = appraise_simulated if seam is SIMULATED else appraise_hardware
    wrong = replace(wrong, allow_simulated=True) if isinstance(wrong, Policy) else wrong
    for appraiser in (appraise_evidence, own):
        with pytest.raises(PolicyError, match=f"found {type(wrong).__name__}, expected EvidencePolicy"):
            appraiser(seam.evidence(), wrong, NOW)


@both
@pytest.mark.parametrize("allowed", [False, 1, "yes", None])
def test_what_no_vendor_vouches_for_needs_to_be_allowed(seam: Seam, allowed: Any) -> None:
    """Only ``True`` allows. The node's hardware policy takes any root, so this is one more lock."""
    assert check_of(seam, seam.evidence(), policy=replace(seam.policy, allow_simulated=allowed)) == "appraisal"


LOGS = {
    "no model": ((KEYS, BOUNDARY), "measured-model", f"no {MODEL_EVENT} event"),
    "no event at all": ((), "measured-model", f"no {MODEL_EVENT} event"),
    "no keys": ((MODEL, BOUNDARY), "measured-model", KEYS_EVENT),
    "two models": ((MODEL, MODEL, KEYS, BOUNDARY), "measured-model", KEYS_EVENT),
    "another model first": (((MODEL_EVENT, b"\0" * 32), MODEL, KEYS, BOUNDARY), "measured-model", KEYS_EVENT),
    "another model afterwards": ((MODEL, KEYS, BOUNDARY, MODEL), "measured-model", BOUNDARY_EVENT),
    "two releases of keys": ((MODEL, KEYS, KEYS, BOUNDARY), "measured-model", KEYS_EVENT),
    "keys before the model": ((KEYS, MODEL, BOUNDARY), "measured-model", KEYS_EVENT),
    "no boundary": ((MODEL, KEYS), "measured-model", BOUNDARY_EVENT),
    "all after the boundary": ((BOUNDARY, MODEL, KEYS), "measured-model", BOUNDARY_EVENT),
    "keys after the boundary": ((MODEL, BOUNDARY, KEYS), "measured-model", BOUNDARY_EVENT),
    "two boundaries": ((BOUNDARY, MODEL, KEYS, BOUNDARY), "measured-model", BOUNDARY_EVENT),
    "other keys": ((MODEL, (KEYS_EVENT, b"\1" * 32), BOUNDARY), "keys-bound", "01" * 32),
    "more than the keys": ((MODEL, (KEYS_EVENT, TEE.keys.digest + b"\0"), BOUNDARY), "keys-bound", "keys"),
    "a short model id": (((MODEL_EVENT, b"\1" * 31), KEYS, BOUNDARY), "measured-model", "31 bytes"),
    "a model that was not ordered": (((MODEL_EVENT, b"\1" * 32), KEYS, BOUNDARY), "measured-model", "01" * 32),
}


@both
@pytest.mark.parametrize(("events", "check", "said"), LOGS.values(), ids=LOGS.keys())
def test_logs_that_do_not_speak_for_the_keys(seam: Seam, events: Any, check: str, said: str) -> None:
    file = replace(FILE, evidence=seam.evidence(events))
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(file, policy=seam.policy, as_of=NOW, order_from="file")
    assert caught.value.check == check
    assert said in str(caught.value)


@both
def test_events_of_other_names_may_stand_anywhere(seam: Seam) -> None:
    other = ("mpc-image-digest", b"\2" * 32)
    assert check_of(seam, seam.evidence((other, MODEL, other, KEYS, BOUNDARY, other))) == ""


@both
def test_the_boundary_is_the_one_that_the_policy_names(seam: Seam) -> None:
    policy = replace(seam.policy, boundary="image-done")
    assert check_of(seam, seam.evidence(), policy=policy) == "measured-model"
    assert check_of(seam, seam.evidence((MODEL, KEYS, ("image-done", b""))), policy=policy) == ""


@both
def test_a_log_that_does_not_replay(seam: Seam) -> None:
    assert check_of(seam, seam.relogged(seam.evidence((KEYS, MODEL, BOUNDARY)), (MODEL, KEYS, BOUNDARY))) == "appraisal"


@both
def test_a_gpu_that_signed_another_nonce(seam: Seam) -> None:
    check = {"simulated": "gpu-nonce-bound", "hardware": "appraisal"}[seam.name]
    assert check_of(seam, seam.evidence(gpu_nonce=b"x" * 32)) == check


@both
@pytest.mark.parametrize("as_of", [NOW - 10**7, NOW + 10**7, 10**30, -(10**30)])
def test_evidence_out_of_date(seam: Seam, as_of: int) -> None:
    assert check_of(seam, seam.evidence(), as_of=as_of) == "appraisal"


@both
def test_members_are_exactly_those(seam: Seam) -> None:
    honest = seam.evidence()
    assert "'verified'" in message_of(seam, {**honest, "verified": True})
    for name in honest.keys() - {"kind"}:
        assert "unreadable evidence" in message_of(seam, {key: part for key, part in honest.items() if key != name})
        for wrong in (7, True, 1.0, {"a": {}}, "\ud800", [[]], "zz", [None]):
            assert check_of(seam, {**honest, name: wrong}) == "appraisal", (name, wrong)


@both
@pytest.mark.parametrize("kind", ["Simulated", "", None, ["hardware"], {}, "hardware ", 1])
def test_kinds_that_nobody_knows(seam: Seam, kind: Any) -> None:
    assert "evidence of kind" in message_of(seam, {**seam.evidence(), "kind": kind})


@both
def test_evidence_under_the_other_kind(seam: Seam) -> None:
    other = "hardware" if seam.name == "simulated" else "simulated"
    assert check_of(seam, {**seam.evidence(), "kind": other}, policy=HARDWARE.policy) == "appraisal"
    own = appraise_simulated if seam is SIMULATED else appraise_hardware
    with pytest.raises(ReceiptError, match=other):
        own({**seam.evidence(), "kind": other}, HARDWARE.policy, NOW)


def test_a_policy_without_hardware_takes_none() -> None:
    assert "states no hardware" in message_of(HARDWARE, EVIDENCE, ALLOW)


# -- simulated evidence has one form -----------------------------------------------------------------------------------


def edited(part: str, name: str, value: Any) -> dict[str, Any]:
    """Honest evidence with one member changed and the part signed anew."""
    honest = SIMULATED.evidence()
    tag = {"quote": "simulated-quote", "gpu_report": "simulated-gpu-report"}[part]
    return {**honest, part: resigned(tag, {**honest[part], name: value})}


@pytest.mark.parametrize("value", [float(NOW - 60), str(NOW - 60), True, None, [NOW - 60]])
@pytest.mark.parametrize("name", ["issued_at", "expires_at"])
def test_times_are_integers(name: str, value: Any) -> None:
    assert name in message_of(SIMULATED, edited("quote", name, value))


HEX = [("quote", "report_data"), ("quote", "rtmr3"), ("gpu_report", "nonce")]
SPELLINGS: list[Callable[[str], str]] = [str.upper, "0x{}".format, " {}".format, "{}\n".format, lambda text: text[2:]]


@pytest.mark.parametrize(("part", "name"), HEX)
@pytest.mark.parametrize("spell", SPELLINGS)
def test_bytes_are_lower_case_hex(part: str, name: str, spell: Callable[[str], str]) -> None:
    written = SIMULATED.evidence()[part][name]
    changed = "ab" + written[2:] if written[:2].isdigit() else written
    assert spell(changed) != changed
    assert "unreadable evidence" in message_of(SIMULATED, edited(part, name, spell(changed)))


@pytest.mark.parametrize("part", ["quote", "gpu_report"])
def test_parts_have_exactly_their_members(part: str) -> None:
    assert "'model'" in message_of(SIMULATED, edited(part, "model", "the best one"))
    honest = SIMULATED.evidence()
    for spell in SPELLINGS:
        signature = spell(honest[part]["signature"].replace("1", "a"))
        changed = {**honest, part: {**honest[part], "signature": signature}}
        assert "unreadable" in message_of(SIMULATED, changed)
    for wrong in ([], None, "quote", [["nonce", "00"]]):
        assert "unreadable" in message_of(SIMULATED, {**honest, part: wrong})


@pytest.mark.parametrize(
    "entry",
    [
        {"event": "a"},
        {"event": "a", "payload": "00", "digest": ""},
        {"event": "a:b", "payload": ""},
        {"event": 1, "payload": ""},
        {"event": None, "payload": ""},
        {"event": "a", "payload": "AB"},
        {"event": "a", "payload": None},
        {"event": "\ud800", "payload": ""},
        {"event": "a\nb", "payload": ""},
        ["a", ""],
    ],
)
def test_log_entries_have_one_form(entry: Any) -> None:
    honest = SIMULATED.evidence()
    assert "unreadable" in message_of(SIMULATED, {**honest, "event_log": [*honest["event_log"], entry]})


@pytest.mark.parametrize("log", [{"event": "a", "payload": ""}, "ab", None, [{"event": "a", "payload": ""}] * 4097])
def test_logs_are_lists_of_bounded_length(log: Any) -> None:
    with pytest.raises(InputError, match="list of at most 4096"):
        replay_log(log)


# -- hardware ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mr_td", "rt_mr0", "rt_mr1", "rt_mr2", "mr_config_id"])
def test_a_policy_that_pins_no_launch_is_an_error(name: str) -> None:
    rules = NODE.policy
    assert rules.measurements
    left = replace(rules, measurements=tuple(pair for pair in rules.measurements if pair[0] != name))
    with pytest.raises(PolicyError, match=name):
        EvidencePolicy(False, left, NONCE)
    named = {"measurements": (*left.measurements, ("compose_hash", "ab" * 32))}
    if name == "mr_config_id":  # either of the two names the workload
        EvidencePolicy(False, replace(left, **named), NONCE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hardware": Policy.strict()}, "mr_td"),
        ({"hardware": SIMULATED.policy}, "found EvidencePolicy"),
        ({"hardware": replace(NODE.policy, binding="auto")}, "binding"),
        ({"nonce": None}, "nonce"),
        ({"nonce": NONCE[:31]}, "nonce"),
        ({"nonce": NONCE.hex()}, "nonce"),
        ({"boundary": ""}, "boundary"),
        ({"boundary": "a:b"}, "boundary"),
        ({"boundary": MODEL_EVENT}, "boundary"),
        ({"boundary": KEYS_EVENT}, "boundary"),
    ],
)
def test_policies_that_leave_a_value_open(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        replace(HARDWARE.policy, **change)


def test_a_compose_hash_may_name_the_workload() -> None:
    stated = dict(NODE.policy.measurements)
    compose = next(one["event_payload"] for one in NODE.log if one.get("event") == "compose-hash")
    pins = {name: value for name, value in stated.items() if name != "mr_config_id"} | {"compose_hash": compose}
    rules = replace(NODE.policy, measurements=tuple(pins.items()))
    assert check_of(HARDWARE, EVIDENCE, policy=replace(HARDWARE.policy, hardware=rules)) == ""
    pins["compose_hash"] = "00" * 32
    rules = replace(NODE.policy, measurements=tuple(pins.items()))
    assert check_of(HARDWARE, EVIDENCE, policy=replace(HARDWARE.policy, hardware=rules)) == "appraisal"


def test_evidence_that_answers_another_verifier() -> None:
    policy = replace(HARDWARE.policy, nonce=b"h" * 32)
    assert "gpu.0.nonce" in message_of(HARDWARE, EVIDENCE, policy)


def test_a_laboratorys_roots_are_not_the_vendors() -> None:
    policy = EvidencePolicy(True, NODE.policy, NONCE)
    assert "gpu.0.chain.root" in message_of(HARDWARE, EVIDENCE, policy)
    strict = replace(NODE.policy, allow_simulated=False)
    assert "evidence.genuine" in message_of(HARDWARE, EVIDENCE, replace(HARDWARE.policy, hardware=strict))
    locked = replace(HARDWARE.policy, allow_simulated=False)
    assert "laboratory's root" in message_of(HARDWARE, EVIDENCE, locked)


@pytest.mark.parametrize("check", [*GUEST_CHECKS, *GPU_CHECKS])
def test_what_a_receipt_needs_is_needed_whatever_the_policy_requires(check: str) -> None:
    """A claim that was not made, or is unknown, counts as little as one that is refuted."""
    rules = replace(NODE.policy, require=("gpu.report",))
    loose = replace(HARDWARE.policy, hardware=rules)
    full = appraise(load_bundle(**NODE.files()), rules, MOMENT, nonce=NONCE, key=NODE.keys, roots=NODE.roots)
    assert attested(full, loose).measured_model == TEE.model_id
    without = replace(full, claims=tuple(claim for claim in full.claims if claim.check != check))
    assert without != full
    with pytest.raises(ReceiptError, match=f"{check}: not made"):
        attested(without, loose)


def test_switches_alone_are_no_gpu() -> None:
    full = appraise(load_bundle(**NODE.files()), NODE.policy, MOMENT, nonce=NONCE, key=NODE.keys, roots=NODE.roots)
    assert attested(full, HARDWARE.policy).gpu_nonce == NONCE
    switches = tuple(replace(one, facts={**one.facts, "kind": "switch"}) for one in full.devices)
    with pytest.raises(ReceiptError, match="switches alone"):
        attested(replace(full, devices=switches), HARDWARE.policy)


@pytest.mark.parametrize("missing", ["gpu", "gpu_certs", "event_log", "collateral", "quote", "keys"])
def test_a_lenient_policy_does_not_make_up_for_files(missing: str) -> None:
    rules = replace(NODE.policy, require=("gpu.report",), evidence=())
    absent = {"gpu": ("gpu", "gpu_certs"), "quote": ("quote", "event_log", "collateral", "compose")}
    files = {name: data for name, data in FILES.items() if name not in absent.get(missing, (missing,))}
    assert check_of(HARDWARE, pack_evidence(files), policy=replace(HARDWARE.policy, hardware=rules)) == "appraisal"


def test_no_extension_hides_behind_its_digest() -> None:
    """Events of another type state only a digest: one could be a second model."""
    hidden = runtime_digest(RUNTIME_EVENT, MODEL_EVENT, b"\7" * 32).hex()
    node = replace(NODE, events=((MODEL_EVENT, b"\7" * 32), MODEL, KEYS, BOUNDARY))
    log = [{"imr": 3, "event_type": 1, "digest": hidden} if one.get("digest") == hidden else one for one in node.log]
    evidence = pack_evidence({**node.files(), "keys": NODE.keys, "event_log": json.dumps(log).encode()})
    assert "no runtime event" in message_of(HARDWARE, evidence)


def test_collateral_is_held_against_the_given_root() -> None:
    other = LabPlatform(b"other", NODE.platform.issued)
    assert "cpu.quote" in message_of(HARDWARE, pack_evidence({**FILES, "collateral": other.collateral()}))


# -- the form of evidence, and files beside it -------------------------------------------------------------------------


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("name", PARTS)
def test_files_are_canonical_base64(name: str) -> None:
    part = EVIDENCE[name]
    one = part if isinstance(part, str) else part[0]
    spelt = (one + "\n", one.rstrip("=") + "====", "-" + one[1:], " " + one, "\u00e9" + one, one[:-1])
    for wrong in spelt:
        changed = wrong if isinstance(part, str) else [wrong, *part[1:]]
        assert f"evidence {name}" in message_of(HARDWARE, {**EVIDENCE, name: changed}), wrong[-5:]
    assert f"evidence {name}" in message_of(HARDWARE, {**EVIDENCE, name: [one] * 65 if part is not one else [one]})


def test_base64_with_stray_bits_is_another_spelling() -> None:
    written = text(b"a")
    assert base64.b64decode("YR==") == b"a" != written
    assert "another spelling" in message_of(HARDWARE, {**EVIDENCE, "keys": "YR=="})


def test_reports_and_quotes_in_evidence_are_raw() -> None:
    """Vendors' JSON has room for claims that nobody signed."""
    report, quote = NODE.files()["gpu"][0], NODE.files()["quote"]
    for name, wrapped in (("gpu", report.hex().encode()), ("quote", json.dumps({"quote": quote.hex()}).encode())):
        part = text(wrapped) if name == "quote" else [text(wrapped)]
        assert f"evidence {name}" in message_of(HARDWARE, {**EVIDENCE, name: part})


def accept(files: list[bytes], evidence: dict[str, Any], seam: HardwareSeam = HARDWARE) -> TeeClaims:
    return appraiser_with(files)(evidence, seam.policy, NOW)


def test_files_may_come_beside_the_receipt() -> None:
    """Collateral, manifests and revocation are the vendors' word: the verifier brings them."""
    made = NODE.files()
    own = pack_evidence({name: FILES[name] for name in ("keys", "quote", "gpu", "gpu_certs", "event_log")})
    assert check_of(HARDWARE, own) == "appraisal"
    beside = [made["collateral"], made["compose"], *made["rims"], *made["ocsp"]]
    assert accept(beside, own) == appraise_evidence(EVIDENCE, HARDWARE.policy, NOW)


def test_everything_may_come_beside_the_receipt() -> None:
    made = NODE.files()
    lists = [one for name in ("gpu", "gpu_certs", "rims", "ocsp") for one in made[name]]
    forms = {
        "raw": [made["quote"], made["event_log"]],
        "hex": [made["quote"].hex().encode(), made["event_log"]],
        "as a guest agent answers": [
            json.dumps({"quote": made["quote"].hex(), "event_log": made["event_log"].decode()}).encode()
        ],
    }
    expected = appraise_evidence(EVIDENCE, HARDWARE.policy, NOW)
    for form, files in forms.items():
        assert accept([*files, *lists, made["collateral"], NODE.keys], pack_evidence({})) == expected, form
    assert accept([canonical_json(EVIDENCE)], pack_evidence({})) == expected


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([b""], "empty"),
        ([b"\xff\xd8\xff"], "JPEG"),
        ([b"{}"], "JSON"),
        ([b"[]"], "JSON"),
        ([b"[1]"], "gpu"),
        ([b"7"], "hex"),
        ([b'{"claims": []}'], "JSON"),
        ([canonical_json({**EVIDENCE, "extra": 1})], "extra"),
        ([NODE.keys, NODE.keys[:-1] + b" }"], "keys"),
        ([b"{" * 100], "JSON"),
    ],
)
def test_files_that_cannot_be_used(files: list[bytes], said: str) -> None:
    with pytest.raises((InputError, ReceiptError), match=said) as caught:
        accept(files, EVIDENCE)
    assert len(str(caught.value)) < 900


def test_two_files_of_one_part_must_agree() -> None:
    other = LabPlatform(b"other", NODE.platform.issued).collateral()
    assert accept([NODE.files()["collateral"]], EVIDENCE)
    with pytest.raises(ReceiptError, match="evidence collateral: found two that differ"):
        accept([other], EVIDENCE)


def test_no_file_stands_beside_simulated_evidence() -> None:
    with pytest.raises(ReceiptError, match="hardware"):
        appraiser_with([NODE.keys])(SIMULATED.evidence(), HARDWARE.policy, NOW)
