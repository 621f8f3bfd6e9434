"""A guest from its first event to a receipt; a laboratory plays agent, TDX and GPU.

The agent listens on a real socket and answers as dstack's does: an event is extended for good, a
quote is over what was extended so far.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.claims import Status
from otr_core.cli import add_commands, app
from otr_core.encoding import canonical_json
from otr_core.errors import HardwareError, InputError, ReceiptError
from otr_core.poea import verify_receipt
from otr_core.poea.attested import appraiser_with, unpack_evidence
from otr_core.poea.document import load_receipt_file
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT, EvidencePolicy
from otr_node.evidence.intake import read_evidence
from otr_node.evidence.pieces import PieceReader
from otr_node.guest import AttestedEnclave, GuestAgent, collect, start_enclave
from otr_node.hardware import LocalHardware, switch_evidence
from otr_paper.labs.attestation import authentic_policy
from otr_paper.labs.attestation.node import LabNode, honest_node
from tests.helpers.receipts import MANIFEST, NOW, ordered, signed

NONCE = b"\x5a" * 32
SECRET = b"q" * 32
KEYS = AttestedEnclave(SECRET, MANIFEST.model_id, NONCE, NOW).keys
MOMENT = datetime.fromtimestamp(NOW, UTC)


class LabAgent(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The laboratory node behind the interface of dstack's guest agent."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.node = replace(honest_node(MOMENT, NONCE, b"{}", MANIFEST.model_id), events=())
        self.refuse: str | None = None
        self.reply: Callable[[str, dict[str, str]], bytes] = self.answer
        super().__init__(str(path), Handler)

    def answer(self, method: str, message: dict[str, str]) -> bytes:
        if method == "EmitEvent":
            event = (message["event"], bytes.fromhex(message["payload"]))
            self.node = replace(self.node, events=(*self.node.events, event))
            return b""
        assert method == "GetQuote"
        registers = {**self.node.measured, "report_data": bytes.fromhex(message["report_data"])}
        quote = self.node.platform.quote(registers).hex()
        return json.dumps({"quote": quote, "event_log": json.dumps(self.node.log), "vm_config": "{}"}).encode()


class Handler(BaseHTTPRequestHandler):
    server: LabAgent

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        method = self.path.removeprefix("/")
        self.send_response(500 if method == self.server.refuse else 200)
        body = self.server.reply(method, json.loads(raw))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who was refused does not wait for more
            self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket of the file system"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[LabAgent]:
    with LabAgent(tmp_path / "agent.sock") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class LabHardware(LocalHardware):
    """The machine of this process, with the laboratory's GPU in it."""

    def __init__(self, agent: GuestAgent, node: LabNode) -> None:
        super().__init__("cpu", agent=agent.quote)
        self._gpu = node.gpus[0]

    def gpu_report(self, nonce: bytes) -> bytes:
        return self._gpu.report(nonce)

    def gpu_certificates(self) -> bytes:
        return honest_node(MOMENT, NONCE, b"{}", MANIFEST.model_id).files()["gpu_certs"][0]


def path_of(agent: LabAgent) -> Path:
    return Path(str(agent.server_address))


def started(agent: LabAgent) -> AttestedEnclave:
    inside = GuestAgent(path_of(agent))
    hardware = LabHardware(inside, agent.node)
    return start_enclave(inside, hardware, model_id=MANIFEST.model_id, nonce=NONCE, secret=SECRET, now=NOW)


def test_a_guest_measures_model_keys_and_boundary_in_this_order(agent: LabAgent) -> None:
    started(agent)
    expected = [(MODEL_EVENT, MANIFEST.model_id), (KEYS_EVENT, KEYS.digest), (BOUNDARY_EVENT, b"")]
    assert list(agent.node.events) == expected


def test_a_receipt_out_of_a_guest_is_accepted(agent: LabAgent) -> None:
    """All that is left to hardware is to be hardware: the vendor's part comes from the verifier."""
    enclave = started(agent)
    placed = ordered(tee=enclave)
    read = load_receipt_file(signed(placed, tee=enclave).dump())
    vendors = agent.node.files()
    beside = appraiser_with([vendors["collateral"], *vendors["rims"], *vendors["ocsp"]])
    policy = EvidencePolicy(True, agent.node.policy, NONCE, roots=agent.node.roots)
    found = verify_receipt(read, policy=policy, as_of=NOW, order=placed.order, appraise=beside)
    assert found.signer == KEYS.address
    with pytest.raises(ReceiptError, match="nonce"):
        verify_receipt(read, policy=replace(policy, nonce=b"1" * 32), as_of=NOW, order=placed.order, appraise=beside)
    with pytest.raises(ReceiptError, match="no stapled OCSP"):
        verify_receipt(read, policy=policy, as_of=NOW, order=placed.order)


def test_a_guest_that_starts_twice_speaks_for_no_model(agent: LabAgent) -> None:
    started(agent)
    enclave = started(agent)
    vendors = agent.node.files()
    beside = appraiser_with([vendors["collateral"], *vendors["rims"], *vendors["ocsp"]])
    policy = EvidencePolicy(True, agent.node.policy, NONCE, roots=agent.node.roots)
    with pytest.raises(ReceiptError, match=MODEL_EVENT) as caught:
        beside(enclave.evidence(), policy, NOW)
    assert caught.value.check == "measured-model"


@pytest.mark.parametrize("method", ["EmitEvent", "GetQuote"])
def test_an_agent_that_refuses(agent: LabAgent, method: str) -> None:
    agent.refuse = method
    inside = GuestAgent(path_of(agent))
    call = (lambda: inside.emit("a", b"")) if method == "EmitEvent" else (lambda: inside.quote(bytes(64)))
    with pytest.raises(HardwareError, match=f"{method}: found status 500"):
        call()
    if method == "EmitEvent":
        with pytest.raises(HardwareError):
            started(agent)
    else:
        assert set(started(agent).collected.absent) == {"quote", "event_log"}


@pytest.mark.parametrize("reply", [b"", b"[]", b"{}", b'{"quote": 1, "event_log": ""}', b'{"quote": "zz"}', b"\xff"])
def test_an_agent_that_answers_something_else(agent: LabAgent, reply: bytes) -> None:
    agent.reply = lambda method, message: reply
    with pytest.raises(HardwareError, match="guest agent"):
        GuestAgent(path_of(agent)).quote(bytes(64))


def test_no_agent(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"EmitEvent at .* failed"):
        GuestAgent(tmp_path / "none.sock").emit("a", b"")


# -- collect, with recorded replies ------------------------------------------------------------------------------------


class Recorded(LocalHardware):
    """A machine whose GPU and TDX answer what was recorded, whatever they are asked."""

    def __init__(self, report: bytes, chain: bytes, quote: tuple[bytes, bytes | None]) -> None:
        super().__init__("cpu")
        self._replies, self.asked = (report, chain, quote), []

    def gpu_report(self, nonce: bytes) -> bytes:
        self.asked.append(nonce)
        return self._replies[0]

    def gpu_certificates(self) -> bytes:
        return self._replies[1]

    def tdx_evidence(self, report_data: bytes) -> tuple[bytes, bytes | None]:
        self.asked.append(report_data)
        return self._replies[2]


@pytest.fixture
def machine(h100_report: bytes, h100_chain: bytes, outside: Callable[[str], bytes]) -> Recorded:
    reply = json.loads(outside("near-vllm-proxy/dstack_quote.json"))
    return Recorded(h100_report, h100_chain, (bytes.fromhex(reply["quote"]), reply["event_log"].encode()))


def test_what_is_collected_is_what_is_appraised(
    machine: Recorded, outside: Callable[[str], bytes], tmp_path: Path
) -> None:
    found = collect(machine, NONCE, KEYS)
    assert machine.asked == [KEYS.digest + NONCE, NONCE]
    assert not found.absent
    names = [path.name for path in found.write(tmp_path / "evidence")]
    assert names == ["event_log.json", "evidence.json", "gpu_0.bin", "gpu_certs_0.pem", "keys.json", "quote.bin"]
    read = {path.name: path.read_bytes() for path in (tmp_path / "evidence").iterdir()}
    files = {
        "gpu": [read["gpu_0.bin"]],
        "gpu_certs": [read["gpu_certs_0.pem"]],
        "quote": read["quote.bin"],
        "event_log": read["event_log.json"],
        "collateral": outside("phala-dcap-qvl/near_gas_test_quote_collateral.json"),
    }
    moment = datetime(2025, 9, 3, tzinfo=UTC)
    rules = replace(authentic_policy(), evidence=("gpu", "cpu"))
    appraisal = appraise(load_bundle(**files), rules, moment)
    # GPU and quote were recorded on two machines, so one thing stands against them together.
    assert [claim.id for claim in appraisal.because] == ["binding.gpu_nonce"]
    whole = unpack_evidence(json.loads(read["evidence.json"]))
    assert {name: whole[name] for name in ("gpu", "gpu_certs", "quote", "event_log")} == {
        name: files[name] for name in ("gpu", "gpu_certs", "quote", "event_log")
    }
    assert whole["keys"] == read["keys.json"] == canonical_json(KEYS.to_json())


class OneOfEight(LocalHardware):
    """A GPU of the recorded HGX machine."""

    def __init__(self, report: bytes, chain: bytes) -> None:
        super().__init__("cpu")
        self._replies = report, chain

    def gpu_report(self, nonce: bytes) -> bytes:
        return self._replies[0]

    def gpu_certificates(self) -> bytes:
        return self._replies[1]


def test_all_gpus_and_switches_of_a_machine_are_collected(outside: Callable[[str], bytes], tmp_path: Path) -> None:
    recorded = outside("hgx/test_ppcie_data.json")
    devices = PieceReader([]).file("hgx", recorded).devices
    gpus = [OneOfEight(report.data, pem or b"") for report, pem, _ in devices[:8]]
    switches = json.dumps({"nvswitches": json.loads(recorded)["nvswitches"]}).encode()
    found = collect(gpus[0], NONCE, KEYS, more=gpus[1:], switches=lambda nonce: switches)
    assert found.absent.keys() == {"quote", "event_log"}
    found.write(tmp_path / "node")
    for files in ([tmp_path / "node/evidence.json"], [*(tmp_path / "node").glob("gpu*")]):
        (node,) = read_evidence([(str(path), path.read_bytes()) for path in sorted(files)]).nodes
        result = appraise(node.bundle, Policy.default().expecting("gpu", "switch"), datetime(2026, 8, 14, tzinfo=UTC))
        assert [device.kind for device in node.bundle.devices].count("switch") == 4
        assert result.claim("gpu.topology").status is Status.ASSERTED
        assert {claim.status for claim in result.claims if claim.check == "gpu.signature"} == {Status.ASSERTED}


def test_a_gpu_or_switch_that_gives_nothing_is_named_and_the_rest_stay_paired(outside: Callable[[str], bytes]) -> None:
    devices = PieceReader([]).file("hgx", outside("hgx/test_ppcie_data.json")).devices
    gpus = [OneOfEight(report.data, pem or b"") for report, pem, _ in devices[:3]]
    found = collect(
        LocalHardware("cpu"), NONCE, KEYS, more=[gpus[0], LocalHardware("cpu"), *gpus[1:]], switches=lambda _: b"{}"
    )
    assert found.absent.keys() == {"quote", "event_log", "gpu", "gpu_certs", "gpu 2", "switches"}
    (node,) = read_evidence([("e", canonical_json(found.evidence))]).nodes
    result = appraise(node.bundle, Policy.default().expecting("gpu"), datetime(2026, 8, 14, tzinfo=UTC))
    assert [claim.status for claim in result.claims if claim.check == "gpu.signature"] == [Status.ASSERTED] * 3


def test_the_program_for_switches_is_asked_with_the_nonce(tmp_path: Path) -> None:
    assert (
        switch_evidence([sys.executable, "-c", "import sys; print(sys.argv[1])"], NONCE).strip() == NONCE.hex().encode()
    )
    for command in ([sys.executable, "-c", "raise SystemExit(3)"], [str(tmp_path / "none")]):
        with pytest.raises(HardwareError, match="no switch evidence"):
            switch_evidence(command, NONCE)


def test_the_command_line_reads_what_was_collected(machine: Recorded, tmp_path: Path) -> None:
    add_commands_once()
    collect(machine, NONCE, KEYS).write(tmp_path / "evidence")
    folder = tmp_path / "evidence"
    options = {"gpu": "gpu_0.bin", "gpu-certs": "gpu_certs_0.pem", "quote": "quote.bin", "event-log": "event_log.json"}
    words = [word for name, file in options.items() for word in (f"--{name}", str(folder / file))]
    result = CliRunner().invoke(app, ["appraise", "--as-of", "2025-09-03", "--json", *words])
    claims = {one["id"]: one["status"] for one in json.loads(result.stdout)["claims"]}
    for name in ("gpu.0.signature", "gpu.0.chain.root", "gpu.0.fwid", "cpu.event_log", "cpu.rtmr3", "cpu.debug"):
        assert claims[name] == "asserted", name
    appraise_files = appraiser_with([path.read_bytes() for path in folder.iterdir() if path.name != "evidence.json"])
    appraise_whole = appraiser_with([(folder / "evidence.json").read_bytes()])
    pinned = tuple((name, "00" * 48) for name in ("mr_td", "rt_mr0", "rt_mr1", "rt_mr2", "mr_config_id"))
    policy = EvidencePolicy(False, replace(Policy.strict(), measurements=pinned), NONCE)
    said = []
    for appraiser in (appraise_files, appraise_whole):
        with pytest.raises(ReceiptError, match="rejected evidence") as caught:
            appraiser(collect(machine, NONCE, KEYS).evidence, policy, NOW)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_a_machine_cannot_give(tmp_path: Path) -> None:
    found = collect(LocalHardware("cpu", tmp_path), NONCE, KEYS)
    assert set(found.absent) == {"quote", "event_log", "gpu", "gpu_certs"}
    assert unpack_evidence(found.evidence)["gpu"] == []
    assert list(found.files) == ["keys"]


def test_a_quote_without_a_log_says_so(machine: Recorded) -> None:
    quote_alone = Recorded(b"report", b"chain", (b"quote", None))
    found = collect(quote_alone, NONCE, first_half=b"f" * 32)
    assert found.absent == {"event_log": "this machine keeps no event log"}
    assert quote_alone.asked[0] == b"f" * 32 + NONCE


@pytest.mark.parametrize("nonce", [b"", b"n" * 31, b"n" * 33])
def test_nonces_of_another_length(nonce: bytes) -> None:
    with pytest.raises(InputError, match="nonce"):
        collect(LocalHardware("cpu"), nonce, KEYS)


def run(*words: str) -> Any:
    add_commands_once()
    return CliRunner().invoke(app, ["collect", *words])


def add_commands_once() -> None:
    if "collect" not in [one.name for one in app.registered_commands]:
        names = [group.typer_instance for group in app.registered_groups]
        if not any("collect" in [one.name for one in (group.registered_commands if group else [])] for group in names):
            add_commands()


def test_the_command_collects_through_the_agent(agent: LabAgent, tmp_path: Path) -> None:
    """The GPU is missing here, which is said, and the rest is written."""
    (tmp_path / "keys.json").write_bytes(canonical_json(KEYS.to_json()))
    out = tmp_path / "out"
    words = ["--nonce", NONCE.hex(), "--keys", str(tmp_path / "keys.json"), "--out", str(out)]
    result = run(*words, "--agent", str(path_of(agent)), "--device", "cpu")
    assert result.exit_code == 1, result.exception
    assert sorted(path.name for path in out.iterdir()) == ["event_log.json", "evidence.json", "keys.json", "quote.bin"]
    bundle = load_bundle(quote=(out / "quote.bin").read_bytes(), event_log=(out / "event_log.json").read_bytes())
    assert bundle.quote is not None
    assert bundle.quote.registers["report_data"] == KEYS.digest + NONCE
    again = run(*words, "--agent", str(path_of(agent)))
    assert isinstance(again.exception, InputError)
    assert "not there yet" in str(again.exception)


@pytest.mark.parametrize(
    ("keys", "nonce", "said"),
    [
        (b"{}", "5a" * 32, "keys"),
        (b'{"hpke": "aa", "signing": "bb"}', "5a" * 32, "hpke"),
        (canonical_json(KEYS.to_json()), "5a", "--nonce"),
        (canonical_json(KEYS.to_json()), "zz" * 32, "--nonce"),
    ],
)
def test_the_command_refuses_unusable_input(tmp_path: Path, keys: bytes, nonce: str, said: str) -> None:
    (tmp_path / "keys.json").write_bytes(keys)
    result = run("--nonce", nonce, "--keys", str(tmp_path / "keys.json"), "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_an_answer_out_of_a_guest(agent: LabAgent, tiny: Path, tmp_path: Path) -> None:
    """``otr infer --nonce`` measures, answers and collects. No GPU is here, so no receipt is
    believed; all the rest of the evidence is."""
    add_commands_once()
    out = tmp_path / "receipt.json"
    words = ["--prompt", "w5 w9", "--model", str(tiny), "--max-tokens", "3", "--out", str(out)]
    guest = ["--nonce", NONCE.hex(), "--agent", str(path_of(agent))]
    result = CliRunner().invoke(app, ["infer", *words, *guest])
    assert result.exit_code == 0, result.exception
    file = load_receipt_file(out.read_bytes())
    assert [name for name, _ in agent.node.events] == [MODEL_EVENT, KEYS_EVENT, BOUNDARY_EVENT]
    assert agent.node.events[0][1] == file.model.model_id
    assert agent.node.events[1][1] == file.keys.digest
    vendors = agent.node.files()
    beside = appraiser_with([vendors["collateral"], *vendors["rims"], *vendors["ocsp"]])
    rules = replace(agent.node.policy, evidence=("cpu", "event_log"))
    policy = EvidencePolicy(True, rules, NONCE, roots=agent.node.roots)
    with pytest.raises(ReceiptError, match=r"gpu\.report: no NVIDIA device in the bundle"):
        verify_receipt(file, policy=policy, as_of=NOW, order=file.order, appraise=beside)


def test_a_guest_without_an_agent_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    add_commands_once()
    words = ["--prompt", "w5", "--model", str(tmp_path / "none"), "--nonce", NONCE.hex()]
    result = CliRunner().invoke(app, ["infer", *words, "--agent", str(tmp_path / "none.sock")])
    assert isinstance(result.exception, InputError)
    assert "--agent" in str(result.exception)
