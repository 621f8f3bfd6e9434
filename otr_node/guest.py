"""Evidence from the inside: what a program in a confidential guest measures and collects.

``docs/guest.md`` says what such a guest must do; ``start_enclave`` does it. The guest's own agent
extends events and makes quotes (dstack's HTTP interface, on a socket of the file system). Tests
answer in its place: this was never run in a confidential guest.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core.encoding import canonical_json, from_hex, parse_json
from otr_core.errors import EvidenceError, HardwareError, InputError, reported_as
from otr_core.poea.attested import SINGLE, pack_evidence
from otr_core.poea.receipt import AttestedKeys
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT
from otr_node.enclave import SimulatedEnclave
from otr_node.evidence.pieces import PieceReader
from otr_node.folders import whole_folder
from otr_node.hardware import Hardware

#: Where dstack's guest agent listens, in the guest and in containers that mount it (dstack 0.5).
AGENT_SOCKET = Path("/var/run/dstack.sock")
_MOST_BYTES = 8 * 2**20  # of an answer: a quote of 10 kB and its event log
_TIMEOUT_S = 60.0


class GuestAgent:
    """dstack's guest agent.

    Args:
        path: its socket.
    """

    def __init__(self, path: Path = AGENT_SOCKET) -> None:
        self._path = path

    def emit(self, event: str, payload: bytes) -> None:
        """Extend an event into RTMR3, for good."""
        self._call("EmitEvent", {"event": event, "payload": payload.hex()})

    def quote(self, report_data: bytes) -> tuple[bytes, bytes]:
        """A TDX quote over 64 bytes, and the event log (JSON) that goes with it."""
        raw = self._call("GetQuote", {"report_data": report_data.hex()})
        with reported_as(HardwareError, "guest agent: found another reply", InputError, KeyError, TypeError):
            reply = parse_json(raw, what="reply to GetQuote")
            return from_hex(reply["quote"], what="quote"), str(reply["event_log"]).encode()

    def _call(self, method: str, message: Mapping[str, str]) -> bytes:
        connection = http.client.HTTPConnection("dstack", timeout=_TIMEOUT_S)
        found = f"guest agent: {method} at {self._path} failed"
        with reported_as(HardwareError, found, OSError, http.client.HTTPException):
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(_TIMEOUT_S)
            try:
                connection.sock.connect(str(self._path))
                connection.request("POST", f"/{method}", json.dumps(message), {"Content-Type": "application/json"})
                reply = connection.getresponse()
                raw = reply.read(_MOST_BYTES)
            finally:
                connection.close()
        if reply.status != http.client.OK:
            raise HardwareError(f"guest agent: {method}: found status {reply.status}, expected 200")
        return raw


@dataclass(frozen=True)
class Collected:
    """Evidence of one node.

    Attributes:
        files: by the names of ``attested.PARTS``. absent: what the machine could not give, with the
            reason.
    """

    files: Mapping[str, Any]
    absent: Mapping[str, str]

    @property
    def evidence(self) -> dict[str, Any]:
        """Evidence of kind "hardware" for a receipt."""
        return pack_evidence(self.files)

    def write(self, folder: Path) -> list[Path]:
        """Write the files one by one, in the forms that ``otr appraise`` reads, and all of them as
        ``evidence.json``, which ``otr verify --evidence`` reads; returns their paths."""
        with reported_as(InputError, f"{folder}: cannot be written", OSError), whole_folder(folder) as part:
            for name, content in self.files.items():
                for number, data in enumerate([content] if name in SINGLE else content):
                    stem = name if name in SINGLE else f"{name}_{number}"
                    (part / f"{stem}{_SUFFIX.get(name, '.json')}").write_bytes(data)
            (part / "evidence.json").write_bytes(canonical_json(self.evidence))
        return sorted(folder.iterdir())


_SUFFIX = {"quote": ".bin", "gpu": ".bin", "gpu_certs": ".pem"}


def collect(
    hardware: Hardware,
    nonce: bytes,
    keys: AttestedKeys | None = None,
    first_half: bytes = b"",
    *,
    more: Sequence[Hardware] = (),
    switches: Callable[[bytes], bytes] | None = None,
) -> Collected:
    """Have all GPUs, the NVSwitches and TDX answer the verifier's ``nonce`` (32 bytes).

    Args:
        more: the machine's other GPUs, each as a machine of one; ``hardware`` has the first.
        switches: gives the switches' evidence over the nonce, as vendor JSON.
        keys: of the program that serves; the quote's report_data is their digest ‖ nonce.
        first_half: 32 bytes in place of the digest, where nothing is served.

    Raises:
        InputError: ``nonce`` is not 32 bytes.
    """
    if len(nonce) != 32:
        raise InputError(f"nonce: found {len(nonce)} bytes, expected 32")
    files: dict[str, Any] = {} if keys is None else {"keys": canonical_json(keys.to_json())}
    absent: dict[str, str] = {}

    def ask(names: tuple[str, ...], call: Callable[[], tuple[Any, ...]]) -> None:
        try:
            files.update(zip(names, call(), strict=True))
        except HardwareError as error:
            absent.update(dict.fromkeys(names, str(error)))

    report_data = (first_half if keys is None else keys.digest) + nonce
    ask(("quote", "event_log"), lambda: hardware.tdx_evidence(report_data))
    ask(("gpu",), lambda: ([hardware.gpu_report(nonce)],))
    ask(("gpu_certs",), lambda: ([hardware.gpu_certificates()],))
    if more and "gpu" not in files:  # reports and chains go by their order: without one, neither
        files.pop("gpu_certs", None)
    if more and "gpu_certs" not in files:
        files.pop("gpu", None)
    for number, other in enumerate(more, 1):
        try:
            pair = other.gpu_report(nonce), other.gpu_certificates()
        except HardwareError as error:
            absent[f"gpu {number}"] = str(error)
        else:
            for name, data in zip(("gpu", "gpu_certs"), pair, strict=True):
                files[name] = [*files.get(name, []), data]
    if switches is not None:
        try:
            devices = PieceReader([]).file("switches", switches(nonce)).devices
            if not devices:
                raise HardwareError("no switch evidence: found no report with its chain")
            files["gpu"] = [*files.get("gpu", []), *(report.data for report, _, _ in devices)]
            files["gpu_certs"] = [*files.get("gpu_certs", []), *(pem for _, pem, _ in devices)]
        except (HardwareError, EvidenceError) as error:
            absent["switches"] = str(error)
    found = {name: content for name, content in files.items() if content is not None}
    absent.update({name: "this machine keeps no event log" for name in files.keys() - found.keys()})
    return Collected(found, absent)


@dataclass(frozen=True)
class AttestedEnclave(SimulatedEnclave):
    """A program in a confidential guest that has measured one model and its own keys.

    Attributes:
        collected: the hardware's word on it, over the verifier's nonce.
    """

    collected: Collected = field(default_factory=lambda: Collected({}, {}))

    def evidence(self) -> dict[str, Any]:
        """The hardware's evidence, in place of a signature under the published test root."""
        return self.collected.evidence


def start_enclave(
    agent: GuestAgent, hardware: Hardware, *, model_id: bytes, nonce: bytes, secret: bytes, now: int
) -> AttestedEnclave:
    """Extend model, keys and boundary, in this order and once in the guest's life, then collect.

    Args:
        model_id: of the model that is loaded already. nonce: the verifier's. secret: 32 random
            bytes out of the guest, from which keys derive; they never leave it. now: Unix seconds.

    Raises:
        HardwareError: an event could not be extended. Keys were not released then, but the guest
            can no longer serve: its register already says what it says.
    """
    bare = AttestedEnclave(secret, model_id, nonce, now)
    for event, payload in ((MODEL_EVENT, model_id), (KEYS_EVENT, bare.keys.digest), (BOUNDARY_EVENT, b"")):
        agent.emit(event, payload)
    return AttestedEnclave(secret, model_id, nonce, now, collected=collect(hardware, nonce, bare.keys))
