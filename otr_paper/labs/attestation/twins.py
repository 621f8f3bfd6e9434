"""A twin of the laboratory node for each check of the strict policy: one thing wrong at a time.

Whoever plays the twin signs everything anew that it can, with the keys of the node and, where the
check is about a vendor's word, with the vendor's. So no other check stops it first by accident.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from otr_core.attestation.policy import Policy
from otr_core.poea.tee import KEYS_EVENT, MODEL_EVENT
from otr_paper.labs.attestation.frame import Attack, Attempt, Evidence
from otr_paper.labs.attestation.node import DEVICE_NAMES, LabGpu, LabNode, honest_node

NOW, LONG_AGO = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
NONCE, OTHER_NONCE = bytes(range(32)), b"\xee" * 32
_KEYS, _OTHER_KEYS = b'{"hpke":"aa","signing":"bb"}', b'{"hpke":"cc","signing":"dd"}'
_OTHER = b"another laboratory"
_WRONG = b"\xdd" * 48

NODE = honest_node(NOW, NONCE, _KEYS, b"\x11" * 32)
"""The honest node. Its keys are not real ones: attestation only hashes them."""

TWINS: list[Attack] = []


def presented(node: LabNode) -> Attempt:
    """The node's files before a verifier who knows the honest node: its values, keys and roots."""
    given = {"nonce": NODE.nonce, "key": NODE.keys, "roots": NODE.roots}
    return Attempt(node.files(), NODE.policy, NOW, given)


@functools.cache
def _honest() -> Attempt:
    return presented(NODE)


def _add(check: str, story: str, attack: Callable[[Evidence, Attempt], Attempt], outcome: str) -> None:
    name = f"twin.{check}.{sum(one.claim == check for one in TWINS)}"
    claim = "" if outcome == "unreadable" else check
    TWINS.append(Attack(name, story, outcome, claim, lambda evidence: _honest(), attack))


def _node(check: str, story: str, change: Callable[[], LabNode], outcome: str = "refuted") -> None:
    """A twin that is another node."""
    _add(check, story, lambda evidence, twin: presented(change()), outcome)


def _files(
    check: str, story: str, change: Callable[[dict[str, Any]], dict[str, Any]], outcome: str = "refuted", **more: Any
) -> None:
    """A twin whose files were changed after they were made; ``more`` are fields of the attempt."""
    _add(check, story, lambda evidence, twin: twin.but(change(dict(twin.files)), **more), outcome)


def _gpu(check: str, story: str, outcome: str = "refuted", **changes: Any) -> None:
    """A twin with another GPU."""
    _node(check, story, lambda: replace(NODE, gpus=(replace(NODE.gpus[0], **changes),)), outcome)


def _rim(kind: str, check: str, story: str, **changes: Any) -> None:
    """A twin with another manifest of ``kind``."""
    _node(check, story, lambda: replace(NODE, **{kind: replace(getattr(NODE, kind), **changes)}))


def _events(check: str, story: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """A twin that shows another log than the one behind its registers."""
    _files(check, story, lambda files: {"event_log": json.dumps(change(json.loads(files["event_log"]))).encode()})


def _two_gpus(second: LabGpu, *nonces: bytes) -> LabNode:
    return replace(NODE, gpus=(NODE.gpus[0], second), answered=nonces)


def _relabelled(files: dict[str, Any]) -> dict[str, Any]:
    """The report's golden value changed in the manifest behind the signature's back."""
    raw = files["rims"][0]
    at = raw.index(b'Hash0="') + 7
    return {"rims": [raw[:at] + (b"0" if raw[at : at + 1] != b"0" else b"1") + raw[at + 1 :], files["rims"][1]]}


_files("evidence.present", "shows no GPU", lambda f: {"gpu": [], "gpu_certs": []})
_files("evidence.genuine", "is a laboratory's, to a policy for hardware", lambda f: {}, policy=Policy.strict())
_files("gpu.0.report", "appends a byte to the report", lambda f: {"gpu": [f["gpu"][0] + b"\0"]}, "unreadable")
_gpu("gpu.0.chain.length", "has one more issuer", names=(*DEVICE_NAMES[:2], "Lab Second ICA", *DEVICE_NAMES[2:]))
_gpu("gpu.0.chain.links", "issues its leaf with a key of its own", chained={"signer": b"own"})
_gpu("gpu.0.chain.validity", "has a leaf that expired", chained={"until": LONG_AGO})
_gpu("gpu.0.chain.usage", "has a leaf that may not sign data", chained={"usage": x509.KeyUsage(*[False] * 9)})
_gpu("gpu.0.chain.root", "brings a root of its own", seed=_OTHER)
_files(
    "gpu.0.signature",
    "signs the report with another GPU's key",
    lambda f: {"gpu": [NODE.gpus[0].report(NONCE, signer=replace(NODE.gpus[0], name="two").made)]},
)
_gpu("gpu.0.fwid", "runs other firmware than its leaf certifies", firmware=_WRONG)
_gpu("gpu.0.fwid", "has a leaf that certifies no firmware", "unknown", certified=bytes(48))
_node("gpu.0.nonce", "answers an old nonce", lambda: replace(NODE, answered=(OTHER_NONCE,), bound=OTHER_NONCE))
_node(
    "gpu.same_nonce",
    "has a second GPU that answered another nonce",
    lambda: _two_gpus(replace(NODE.gpus[0], name="two"), NONCE, OTHER_NONCE),
)
_node(
    "gpu.one_mode",
    "has a second GPU in another mode",
    lambda: _two_gpus(replace(NODE.gpus[0], name="two", fields={36: b"\1\0"}), NONCE, NONCE),
)
_node(
    "gpu.topology",
    "hides the NVSwitch that its GPU lists",
    lambda: replace(NODE, gpus=(replace(NODE.gpus[0], fields={21: b"\xaa", 22: b"\5" * 8}),)),
    "unknown",
)
_node("gpu.unique", "shows its GPU twice", lambda: _two_gpus(NODE.gpus[0], NONCE, NONCE))
_node("gpu.0.revocation", "has a revoked boot ROM", lambda: replace(NODE, revoked={"gpu": 1}))
_files("gpu.0.revocation", "leaves that response out", lambda f: {"ocsp": f["ocsp"][1:]}, "unknown")
_files(
    "gpu.0.revocation",
    "staples responses of two days ago",
    lambda f: {"ocsp": replace(NODE, now=NOW - timedelta(days=2)).files()["ocsp"]},
)
_rim("driver", "gpu.0.rim.driver.identity", "shows another driver's manifest", version="550.54.15")
_rim("vbios", "gpu.0.rim.vbios.identity", "shows another VBIOS's manifest", version="96.00.9F.00.02")
_files("gpu.0.rim.driver.signature", "edits a golden value", _relabelled)
_files(
    "gpu.0.rim.vbios.signature",
    "puts its manifest under the other's signature",
    lambda f: {"rims": [f["rims"][0], f["rims"][1].replace(b'edition="lab"', b'edition="own"')]},
)
for _kind in ("driver", "vbios"):
    _rim(_kind, f"gpu.0.rim.{_kind}.chain", "signs its manifest under a root of its own", seed=_OTHER)
    _rim(_kind, f"gpu.0.rim.{_kind}.validity", "has an expired signer", chained={"until": LONG_AGO})
    _node(
        f"gpu.0.rim.{_kind}.revocation",
        "has a manifest by a revoked signer",
        lambda kind=_kind: replace(NODE, revoked={kind: 0}),  # type: ignore[misc]
    )
_gpu("gpu.0.measurements.driver", "runs a patched driver", values={2: _WRONG})
_gpu("gpu.0.measurements.vbios", "runs a patched VBIOS", values={7: _WRONG})
_rim("vbios", "gpu.0.measurements.conflict", "has two manifests for one value", indices=range(5, 10))
_gpu("gpu.0.measurements.covered", "has a value that no manifest vouches for", "unknown", values={10: _WRONG})
_node(
    "cpu.quote",
    "has a revoked quoting key",
    lambda: replace(NODE, platform=replace(NODE.platform, revoked=(NODE.platform.pck_chain[0].serial_number,))),
)
_node("cpu.quote", "brings a root of its own", lambda: replace(NODE, platform=replace(NODE.platform, seed=_OTHER)))
_files(
    "cpu.quote", "writes other report data into the quote", lambda f: {"quote": f["quote"].replace(NONCE, OTHER_NONCE)}
)
_node("cpu.tcb", "stays unpatched", lambda: replace(NODE, platform=replace(NODE.platform, tcb_status="OutOfDate")))
_node(
    "cpu.advisories",
    "has an open advisory",
    lambda: replace(NODE, platform=replace(NODE.platform, advisories=("INTEL-SA-00837",))),
)
_node(
    "cpu.collateral",
    "shows collateral of last month",
    lambda: replace(NODE, platform=replace(NODE.platform, issued=NOW - timedelta(days=31), days=60)),
)
_node("cpu.debug", "runs under a debugger", lambda: replace(NODE, registers={"td_attributes": b"\x01" + bytes(7)}))
_node(
    "cpu.migration",
    "lets itself be moved",
    lambda: replace(NODE, registers={"td_attributes": b"\0\0\0\x30" + bytes(4)}),
)
for _number in range(3):
    _node("cpu.measurements", f"boots another RTMR{_number}", lambda number=_number: replace(NODE, patched=number))  # type: ignore[misc]
for _name in ("mr_td", "mr_config_id"):
    _node("cpu.measurements", f"has another {_name}", lambda name=_name: replace(NODE, registers={name: _WRONG}))  # type: ignore[misc]
_events(
    "cpu.event_log",
    "states another digest than its payload has",
    lambda log: [{**one, "digest": "00" * 48} if one.get("event") == MODEL_EVENT else one for one in log],
)
_node(
    "cpu.event_log",
    "reads an event as one with a colon in its name",
    lambda: replace(NODE, events=(*NODE.events[:2], (f"{KEYS_EVENT}:aa", b"bb"), NODE.events[2])),
)
_node(
    "cpu.boundary",
    "extends a compose hash behind its image's own events",
    lambda: replace(NODE, events=(*NODE.events, ("compose-hash", bytes(32)))),
)
for _number in range(4):
    _events(
        f"cpu.rtmr{_number}",
        "leaves an event out",
        lambda log, number=_number: log[: (at := [one["imr"] for one in log].index(number))] + log[at + 1 :],  # type: ignore[misc]
    )
_node("binding.gpu_nonce", "quotes another nonce than its GPU signed", lambda: replace(NODE, bound=OTHER_NONCE))
_node("binding.key", "quotes other keys than it serves with", lambda: replace(NODE, bound_keys=_OTHER_KEYS))
_files(
    "cpu.compose",
    "shows another workload",
    lambda f: {"compose": f["compose"] + b" "},
    policy=replace(NODE.policy, evidence=(*NODE.policy.evidence, "compose")),
)
