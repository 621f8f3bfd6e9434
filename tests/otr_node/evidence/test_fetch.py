"""``otr fetch`` with recorded replies of the services: what it asks, keeps, tries again and goes on with."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp

from otr_core.attestation import Policy, appraise
from otr_core.attestation.claims import Status
from otr_core.errors import EvidenceError, InputError
from otr_node.evidence import fetch
from otr_node.evidence.fetch import (
    KDS,
    MAX_FILES,
    MAX_REPLY_BYTES,
    RIM_SERVICE,
    TRIES,
    Reply,
    Request,
    bundle_files,
    fetch_for,
)
from otr_node.evidence.intake import read_evidence
from tests.helpers.field_captures import listed

Outside = Callable[[str], bytes]
CAPTURE = "nanogpt_tee_gemma-3-27b-it_20260610_014905"


class Recorded:
    """A transport that answers from recordings, and remembers what it was asked."""

    def __init__(self, answers: dict[str, Reply], revocation: dict[int, bytes] | None = None) -> None:
        self.answers, self.revocation, self.asked = answers, revocation or {}, list[str]()

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.url)
        if request.body is not None:
            serial = ocsp.load_der_ocsp_request(request.body).serial_number
            data = self.revocation.get(serial)
            return Reply(200 if data else 404, {}, data or b"")
        return self.answers.get(request.url, Reply(404, {}, b""))


def intel(outside: Outside, folder: str = CAPTURE) -> dict[str, Reply]:
    """Replies of Intel's service as recorded, by address."""
    found = {}
    for name in listed():
        if name.startswith(f"{folder}/") and ("intel" in name) and name.endswith(".json"):
            head = json.loads(outside(f"field-captures/{name}"))
            headers = {key: value[0] for key, value in head["headers"].items()}
            body = outside(f"field-captures/{name.removesuffix('.json')}.body")
            found[head["url"]] = Reply(head["status"], headers, body)
    return found


@pytest.fixture
def response(tmp_path: Path, outside: Outside) -> Path:
    name = next(one for one in listed() if one.startswith(f"{CAPTURE}/0001") and one.endswith(".body"))
    path = tmp_path / "response.json"
    path.write_bytes(outside(f"field-captures/{name}"))
    return path


def read_all(path: Path) -> Any:
    extra = sorted(path.with_name(f"{path.name}.fetched").glob("*")) if not path.is_dir() else []
    return read_evidence([(str(one), one.read_bytes()) for one in [*bundle_files(path), *extra]])


def test_intels_word_makes_a_response_appraise_offline(response: Path, outside: Outside) -> None:
    transport = Recorded(intel(outside))
    report = fetch_for(response, transport=transport, pause=lambda _: None)
    assert len([name for name in report.fetched if name.startswith(("tcb", "qe", "pck", "intel"))]) == 4
    assert {name.partition("_")[0] for name in report.missing} == {"rim", "ocsp"}  # nobody recorded those
    found = read_all(response)
    result = appraise(found.nodes[0].bundle, Policy.default(), datetime(2026, 6, 10, 2, tzinfo=UTC))
    assert result.claim("cpu.quote").status is Status.ASSERTED
    assert result.claim("cpu.tcb").status is Status.ASSERTED


def test_a_fetch_goes_on_where_it_was_cut_off(response: Path, outside: Outside) -> None:
    answers = intel(outside)
    crl = next(url for url in answers if "pckcrl" in url)
    first = fetch_for(
        response, transport=Recorded({k: v for k, v in answers.items() if k != crl}), pause=lambda _: None
    )
    assert "pckcrl_platform.json" in first.missing
    again = Recorded(answers)
    second = fetch_for(response, transport=again, pause=lambda _: None)
    assert second.fetched == ("pckcrl_platform.json",)
    assert set(second.kept) == set(first.fetched)
    assert sum("intel" in url for url in again.asked) == 1
    assert not list(response.parent.rglob("*.part"))


def test_manifests_and_revocation_answers_for_a_real_gpu(
    tmp_path: Path, h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]
) -> None:
    """A folder with a report and its chain becomes one that the strictest revocation check accepts."""
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "gpu.bin").write_bytes(h100_files["gpu"][0])
    (folder / "chain.pem").write_bytes(h100_files["gpu_certs"][0])
    names = ("NV_GPU_DRIVER_GH100_550.90.07", "NV_GPU_VBIOS_1010_0200_882_96009F0001")
    rims = {
        f"https://rim.attestation.nvidia.com/v1/rim/{name}": Reply(
            200, {}, json.dumps({"id": name, "rim": base64.b64encode(data).decode()}).encode()
        )
        for name, data in zip(names, h100_files["rims"], strict=True)
    }
    ders = [base64.b64decode(data) for data in h100_ocsp.values()]
    answers = {next(iter(ocsp.load_der_ocsp_response(one).responses)).serial_number: one for one in ders}
    report = fetch_for(folder, transport=Recorded(rims, answers), pause=lambda _: None)
    assert sum(name.startswith("rim_") for name in report.fetched) == 2
    assert sum(name.startswith("ocsp_") for name in report.fetched) == 7  # after the manifests came: theirs too
    bundle = read_all(folder).nodes[0].bundle
    assert (len(bundle.rims), len(bundle.ocsp)) == (2, 7)
    result = appraise(bundle, Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))
    assert result.accepted
    assert fetch_for(folder, transport=Recorded({}), pause=lambda _: None).fetched == ()


def test_amds_certificates(tmp_path: Path, outside: Outside) -> None:
    folder = tmp_path / "snp"
    folder.mkdir()
    # A report of version 2 does not name its family, so one is set as later versions do.
    (folder / "report.bin").write_bytes(outside("coco-trustee/snp/test-report.bin"))
    transport = Recorded({})
    fetch_for(folder, transport=transport, pause=lambda _: None)
    assert transport.asked == []
    raw = bytearray(outside("coco-trustee/snp/test-report.bin"))
    raw[0], raw[0x188:0x18B] = 3, bytes([0x19, 0x01, 0x01])
    (folder / "report.bin").write_bytes(raw)
    fetch_for(folder, transport=transport, pause=lambda _: None)
    assert all(url.startswith(f"{KDS}/vcek/v1/Milan/") for url in transport.asked)
    chip = bytes(raw[0x1A0:0x1E0]).hex()
    vcek = next(url for url in transport.asked if chip in url)
    assert "blSPL=" in vcek
    replies = {vcek: Reply(200, {}, outside("coco-trustee/snp/test-vcek.der"))}
    replies[f"{KDS}/vcek/v1/Milan/cert_chain"] = Reply(200, {}, outside("google-go-sev-guest/ask_ark_milan.pem"))
    report = fetch_for(folder, transport=Recorded(replies), pause=lambda _: None)
    assert len(report.fetched) == 2
    (folder / "report.bin").write_bytes(outside("coco-trustee/snp/test-report.bin"))
    result = appraise(
        read_all(folder).nodes[0].bundle, Policy.default().expecting("cpu"), datetime(2024, 8, 14, tzinfo=UTC)
    )
    assert result.claim("cpu.quote").status is Status.ASSERTED


class TestTries:
    def test_a_busy_service_is_asked_again_and_waited_for(self, response: Path, outside: Outside) -> None:
        answers, calls, waits = intel(outside), dict[str, int](), list[float]()

        def busy(request: Request) -> Reply:
            calls[request.url] = calls.get(request.url, 0) + 1
            if request.url in answers and calls[request.url] == 1:
                return Reply(503, {"Retry-After": "7"}, b"")
            if request.url in answers and calls[request.url] == 2:
                raise OSError("connection reset")
            return answers.get(request.url, Reply(404, {}, b""))

        report = fetch_for(response, transport=busy, pause=waits.append)
        assert sum("intel" not in name or True for name in report.fetched) == 4
        assert waits[:2] == [7.0, 2.0]
        assert {calls[url] for url in calls if url in answers} == {3}

    def test_a_service_can_make_nobody_wait_long_nor_take_half_an_answer(
        self, response: Path, outside: Outside
    ) -> None:
        answers, waits = intel(outside), list[float]()
        slow = {url: Reply(503, {"retry-after": "86400"}, b"") for url in answers}
        fetch_for(response, transport=Recorded(slow), pause=waits.append)
        assert set(waits) == {60.0}
        for status, asked in ((206, 1), (302, 1), (404, 1), (429, TRIES)):
            part = {url: dataclasses.replace(one, status=status) for url, one in answers.items()}
            transport = Recorded(part)
            assert not fetch_for(response, transport=transport, pause=waits.append).fetched
            assert {transport.asked.count(url) for url in answers} == {asked}, status

    def test_tries_end(self, response: Path) -> None:
        waits, calls = list[float](), list[str]()

        def dead(request: Request) -> Reply:
            calls.append(request.url)
            raise OSError("no route to host\nat all")

        report = fetch_for(response, transport=dead, pause=waits.append)
        assert not report.fetched
        assert len(calls) == TRIES * len(report.missing)
        assert max(waits) <= 60
        assert all("no route to host at all" in reason for reason in report.missing.values())

    @pytest.mark.parametrize("body", [b"", b"<html>captive portal</html>", b"{}", b"[", bytes(MAX_REPLY_BYTES + 1)])
    def test_what_was_not_asked_for_is_not_kept(self, response: Path, outside: Outside, body: bytes) -> None:
        answers = {url: Reply(200, {}, body) for url in intel(outside)}
        report = fetch_for(response, transport=Recorded(answers), pause=lambda _: None)
        assert not report.fetched
        assert not response.with_name("response.json.fetched").exists()

    def test_a_reply_longer_than_any_is_not_kept(self, response: Path, outside: Outside) -> None:
        answers = intel(outside)
        url = next(url for url in answers if "tcb" in url)
        long = dataclasses.replace(answers[url], body=answers[url].body + b" " * MAX_REPLY_BYTES)
        report = fetch_for(response, transport=Recorded({url: long}), pause=lambda _: None)
        assert not report.fetched
        assert any("expected an answer of fewer" in reason for reason in report.missing.values())

    def test_no_bundle_asks_without_end(
        self, response: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetch, "MAX_REQUESTS", 2)
        with pytest.raises(InputError, match="more than 2 questions"):
            fetch_for(response, transport=Recorded(intel(outside)), pause=lambda _: None)

    def test_another_familys_reply_is_no_crl(self, response: Path, outside: Outside) -> None:
        answers = intel(outside)
        tcb = next(url for url in answers if "tcb" in url)
        report = fetch_for(response, transport=Recorded(dict.fromkeys(answers, answers[tcb])), pause=lambda _: None)
        assert [name.partition("_")[0] for name in report.fetched] == ["tcb"]


def test_a_bundle_without_evidence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 files"):
        fetch_for(tmp_path, transport=Recorded({}))
    (tmp_path / "x").write_text("hello")
    with pytest.raises(EvidenceError):
        fetch_for(tmp_path, transport=Recorded({}))


class TestWhatEvidenceMayAskFor:
    """The operator writes the evidence, and it decides what is asked and where replies are kept."""

    def test_a_version_is_no_path(self, tmp_path: Path, h100_report: bytes, h100_chain: bytes) -> None:
        assert h100_report.count(b"550.90.07") == 1
        (tmp_path / "gpu.bin").write_bytes(h100_report.replace(b"550.90.07", b"../../x/y"))
        (tmp_path / "chain.pem").write_bytes(h100_chain)
        transport = Recorded({})
        report = fetch_for(tmp_path, transport=transport, pause=lambda _: None)
        named = [name for name in report.missing if name.startswith("rim_NV_GPU_DRIVER")]
        assert named == ["rim_NV_GPU_DRIVER_GH100_.._.._x_y.json"]
        assert all(url.count("/") == RIM_SERVICE.count("/") + 1 for url in transport.asked if RIM_SERVICE in url)
        assert len(fetch.as_word("x" * 300)) == 100

    def test_a_report_without_a_chain_asks_for_nothing(self, tmp_path: Path, h100_report: bytes) -> None:
        (tmp_path / "gpu.bin").write_bytes(h100_report)
        transport = Recorded({})
        assert not fetch_for(tmp_path, transport=transport, pause=lambda _: None).missing
        assert transport.asked == []

    def test_a_clouds_own_key_is_not_asked_of_amd(self, tmp_path: Path, outside: Outside) -> None:
        raw = bytearray(outside("coco-trustee/snp/test-vlek-report.bin"))
        raw[0], raw[0x188:0x18B] = 3, bytes([0x19, 0x01, 0x01])
        (tmp_path / "report.bin").write_bytes(raw)
        transport = Recorded({})
        fetch_for(tmp_path, transport=transport, pause=lambda _: None)
        assert transport.asked == []

    def test_a_folder_of_too_many_files(self, tmp_path: Path) -> None:
        for number in range(MAX_FILES):
            (tmp_path / str(number)).touch()
        assert len(bundle_files(tmp_path)) == MAX_FILES
        (tmp_path / "more").touch()
        with pytest.raises(InputError, match=f"found {MAX_FILES + 1} files, expected 1 to {MAX_FILES}"):
            bundle_files(tmp_path)
