"""Recorded guests of the field are genuine in every respect that receipts need but one.

They measure no model. Under a policy that fits it, each is stopped at the event log, and nothing
stops it earlier. Not among them are recorded quotes that come without an event log (SecretVM,
Chutes, Phala's gateway for DeepSeek, Kimi, Tinfoil) and dstack's own fixture, whose platform family
has no collateral on record: receipts cannot come from either, and no log is there to be asked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from otr_core.attestation import Appraisal, Policy, appraise, load_bundle
from otr_core.attestation.claims import Status
from otr_core.errors import ReceiptError
from otr_core.poea.attested import GPU_CHECKS, attested
from otr_core.poea.tee import BOUNDARY_EVENT, MODEL_EVENT, PINNED_REGISTERS, EvidencePolicy
from otr_paper.labs.attestation import authentic_policy
from tests.helpers import field_captures as field

Reader = Callable[[str], bytes]


def fitting(files: Mapping[str, Any], as_of: datetime, nonce: bytes | None = None) -> Appraisal:
    """The appraisal under a policy that pins the guest's own values and allows its TCB status."""
    first = appraise(load_bundle(**files), authentic_policy("cpu"), as_of)
    cpu = first.cpu or {}
    names = [*PINNED_REGISTERS, "compose_hash"]
    policy = dataclasses.replace(
        authentic_policy("cpu"),
        require=(*authentic_policy("cpu").require, "cpu.measurements", "cpu.event_log", "cpu.rtmr3"),
        measurements=tuple((name, cpu["measured"][name]) for name in names),
        tcb_statuses=(cpu["tcb_status"],),
        advisories=tuple(cpu["advisories"]),
    )
    found = appraise(load_bundle(**files), policy, as_of, nonce=nonce)
    assert found.accepted, [(claim.id, claim.reason) for claim in found.because]
    return found


def stops_at_the_log(appraisal: Appraisal, boundary: str) -> None:
    with pytest.raises(ReceiptError, match=f"no {MODEL_EVENT} event") as caught:
        attested(appraisal, EvidencePolicy(allow_simulated=False, boundary=boundary))
    assert caught.value.check == "measured-model"


@pytest.mark.parametrize("name", field.ANSWERS)
def test_guests_of_the_field_measure_no_model(name: str, outside: Reader) -> None:
    def read(path: str) -> bytes:
        return outside(f"{field.SOURCE}/{path}")

    found = list(field.guests(json.loads(read(name))))
    assert found
    for guest in found:
        own = [name.partition("/")[0], *field.FOLDERS]
        words = (field.collateral(read, folder, field.fmspc_of(guest)) for folder in own)
        collateral, as_of = next(word for word in words if word)
        appraisal = fitting({**guest.files, "collateral": collateral}, as_of, guest.nonce)
        for boundary in (BOUNDARY_EVENT, "system-ready"):
            stops_at_the_log(appraisal, boundary)
        if appraisal.devices:
            made = {claim.check: claim.status for claim in appraisal.claims}
            assert all(made[check] is Status.ASSERTED for check in GPU_CHECKS if check != "binding.key"), guest.place


def test_how_many_guests_are_on_record(outside: Reader) -> None:
    """All providers that show an event log, most with GPUs."""
    shown = [guest for name in field.ANSWERS for guest in field.guests(json.loads(outside(f"{field.SOURCE}/{name}")))]
    with_gpu = sum("gpu" in guest.files for guest in shown)
    assert (len(field.ANSWERS), len(shown), with_gpu) == (16, 40, 29)


def test_a_dstack_guest_measures_no_model(outside: Reader) -> None:
    files = {
        "quote": outside("near-vllm-proxy/dstack_quote.json"),
        "collateral": outside("phala-dcap-qvl/near_gas_test_quote_collateral.json"),
    }
    stops_at_the_log(fitting(files, datetime(2025, 9, 3, tzinfo=UTC)), "system-ready")


def test_an_applications_event_stands_behind_system_ready(outside: Reader) -> None:
    """Why system-ready cannot be the boundary of a guest whose containers measure the model."""
    files = {
        "quote": outside("near-mpc/quote.json"),
        "collateral": outside("near-mpc/collateral.json"),
        "event_log": outside("near-mpc/tcb_info.json"),
    }
    appraisal = fitting(files, datetime(2026, 8, 14, tzinfo=UTC))
    names = [event["event"] for event in (appraisal.cpu or {})["runtime_events"]]
    assert names[-2:] == ["system-ready", "mpc-image-digest"]
    stops_at_the_log(appraisal, "system-ready")


def test_a_quote_without_a_log_does_not_get_that_far(outside: Reader) -> None:
    files = {
        "quote": outside("secretvm-verify/cpu_quote.txt"),
        "collateral": outside("near-mpc/collateral.json"),
        "gpu": [outside("secretvm-verify/gpu_attest.txt")],
    }
    bundle = load_bundle(**files)
    assert bundle.quote is not None
    pinned = (("mr_td", bundle.quote.registers["mr_td"].hex()),)
    policy = dataclasses.replace(authentic_policy("cpu"), measurements=pinned)
    appraisal = appraise(bundle, policy, datetime(2026, 8, 14, tzinfo=UTC))
    assert appraisal.accepted
    with pytest.raises(ReceiptError, match="no event log in the bundle"):
        attested(appraisal, EvidencePolicy(allow_simulated=False))


def test_the_lite_fixture_of_dstack_has_no_collateral_on_record(outside: Reader) -> None:
    """It is left out for that reason alone; its log names no model either."""
    log = load_bundle(quote=outside("dstack/tdx-lite-getquote.json")).event_log
    assert log is not None
    assert MODEL_EVENT not in [event["event"] for event in log.runtime_events()]
    appraisal = appraise(
        load_bundle(quote=outside("dstack/tdx-lite-getquote.json")), Policy.default(), datetime(2026, 8, 14, tzinfo=UTC)
    )
    assert "cpu.quote" in [claim.id for claim in appraisal.because]
