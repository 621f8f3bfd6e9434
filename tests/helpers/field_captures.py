"""Recorded guests: quotes with the event log beside them, as providers answered in the field.

A whole answer may hold several guests (gateway, model servers, compose managers). Collateral is
Intel's of the same minute; a provider recorded without it gets that of the next recorded day.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from otr_core.attestation.quote import parse_quote

ROOT = Path(__file__).parents[2]
SOURCE = "field-captures"


def listed() -> list[str]:
    """Files of the source, by their paths in it."""
    sources = tomllib.loads((ROOT / "data/sources.toml").read_text())["repository"]
    return next(list(one["files"]) for one in sources if one["id"] == SOURCE)


#: Answers with event logs; those of Chutes and Tinfoil have none.
_WITHOUT_LOGS = ("chutes", "tinfoil", "phalacloud", "deepseek", "kimi", "llama3")
ANSWERS = [
    name
    for name in listed()
    if name.endswith(("_attestation.json", "_report.body", "tee_attestation.body"))
    and not any(word in name for word in _WITHOUT_LOGS)
    and not (name.endswith(".json") and "/0001_" in name)  # headers of the answer beside it
]
FOLDERS = sorted({name.partition("/")[0] for name in listed() if "intel" in name.rpartition("/")[2]})


@dataclass(frozen=True)
class Guest:
    """One guest's evidence.

    Attributes:
        place: where in the answer it stands. files: arguments of ``load_bundle``, with a GPU's
            where the answer has them. nonce: the client's; None where none is written there.
        address: the signing key or address that stands beside the quote.
    """

    place: str
    files: dict[str, Any]
    nonce: bytes | None
    address: bytes


def guests(answer: Any, place: str = "") -> Iterator[Guest]:
    """Every object of an answer that has both a quote and an event log."""
    if isinstance(answer, dict):
        quote, log = answer.get("intel_quote") or answer.get("quote"), answer.get("event_log")
        if isinstance(quote, str) and log:
            files = {"quote": quote.encode(), "event_log": (log if isinstance(log, str) else json.dumps(log)).encode()}
            if answer.get("nvidia_payload"):
                payload = answer["nvidia_payload"]
                files["gpu"] = [(payload if isinstance(payload, str) else json.dumps(payload)).encode()]
            nonce, address = answer.get("request_nonce") or answer.get("nonce"), answer.get("signing_address", "")
            yield Guest(place or "/", files, nonce and bytes.fromhex(nonce), bytes.fromhex(address.removeprefix("0x")))
        for key, part in answer.items():
            yield from guests(part, f"{place}/{key}")
    elif isinstance(answer, list):
        for at, part in enumerate(answer):
            yield from guests(part, f"{place}/{at}")


def collateral(read: Callable[[str], bytes], folder: str, fmspc: str) -> tuple[bytes, datetime] | None:
    """Intel's word on a platform family out of a capture, and the minute of it; None without it."""
    names = [name for name in listed() if name.startswith(f"{folder}/")]
    for tcb in (name for name in names if name.endswith("_v4_tcb.body")):
        body = read(tcb).decode()
        if json.loads(body)["tcbInfo"]["fmspc"].lower() != fmspc:
            continue
        at = int(tcb.rpartition("/")[2][:4])
        qe, crl, root = (next(n for n in names if f"/{at + i:04d}" in n and n.endswith(".body")) for i in (1, 2, 3))
        head, identity = json.loads(read(tcb.replace(".body", ".json"))), read(qe).decode()
        parts = {
            "pck_crl_issuer_chain": _chain(read, crl, "Sgx-Pck-Crl-Issuer-Chain"),
            "root_ca_crl": read(root).hex(),
            "pck_crl": read(crl).hex(),
            "tcb_info_issuer_chain": _chain(read, tcb, "Tcb-Info-Issuer-Chain"),
            "tcb_info": body[len('{"tcbInfo":') : body.rindex(',"signature"')],
            "tcb_info_signature": json.loads(body)["signature"],
            "qe_identity_issuer_chain": _chain(read, qe, "Sgx-Enclave-Identity-Issuer-Chain"),
            "qe_identity": identity[len('{"enclaveIdentity":') : identity.rindex(',"signature"')],
            "qe_identity_signature": json.loads(identity)["signature"],
        }
        moment = datetime.strptime(head["headers"]["Date"][0], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        return json.dumps(parts).encode(), moment
    return None


def _chain(read: Callable[[str], bytes], name: str, header: str) -> str:
    return unquote(json.loads(read(re.sub(r"\.body$", ".json", name)))["headers"][header][0])


def fmspc_of(guest: Guest) -> str:
    return parse_quote(guest.files["quote"]).fmspc
