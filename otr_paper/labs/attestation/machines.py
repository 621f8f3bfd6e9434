"""Recorded machines of several devices, and recorded SEV-SNP guests, taken apart into their parts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from otr_core.attestation.snp import REPORT_BYTES

_SWITCHES = "nvswitches"


def machine_devices(exported: bytes) -> dict[str, list[bytes]]:
    """The devices of one machine in the jsonpickle form of NVIDIA's Python SDK, by kind.

    Returns:
        ``gpu`` and ``switch``: each device as JSON with ``evidence`` and ``certificate``.
    """
    document = json.loads(exported)
    return {
        "gpu": [_device(one) for one in document.get("gpus", ())],
        "switch": [_device(one) for one in document.get(_SWITCHES, ())],
    }


def _device(entry: Mapping[str, Any]) -> bytes:
    found = dict(_texts(entry))
    pems = [base64.b64decode(text) for name, text in _texts(entry) if name == "pem"]
    chain = base64.b64encode(b"".join(pems)).decode()
    return json.dumps({"evidence": found["py/b64"], "certificate": chain}).encode()


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Every text in JSON, with the name of its member."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        if isinstance(one, str):
            yield str(name), one
        else:
            yield from _texts(one)


def guest_in_attestation(exported: bytes) -> dict[str, bytes]:
    """The parts of dstack's recorded SEV-SNP attestation: report, certificates, configuration."""
    raw = bytes.fromhex(json.loads(exported)["attestation"])
    at = raw.index(b"\x03\0\0\0", 1)  # the report begins with its version
    rest = raw[at + REPORT_BYTES :]
    pems = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", rest, re.S)
    start = rest.index(b'{"app_id"')
    return {
        "quote": raw[at : at + REPORT_BYTES],
        "certificates": b"".join(pems),
        "config": rest[start : rest.index(b"}", start) + 1],
    }
