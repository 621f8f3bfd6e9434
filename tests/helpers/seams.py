"""Both implementations of the seam between receipts and evidence, to be put to the same tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from otr_core.encoding import canonical_json, tagged_json_hash
from otr_core.poea.attested import pack_evidence
from otr_core.poea.simulated import TEST_ROOT, replay_log, signer
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT, EvidencePolicy
from otr_node.enclave import SimulatedEnclave
from otr_paper.labs.attestation.node import LabNode, honest_node
from tests.helpers.receipts import ALLOW, NOW, enclave

TEE = enclave()
NONCE = TEE.gpu_nonce
MOMENT = datetime.fromtimestamp(NOW, UTC)
NODE = honest_node(MOMENT, NONCE, canonical_json(TEE.keys.to_json()), TEE.model_id)
Events = Sequence[tuple[str, bytes]]
MODEL, KEYS, BOUNDARY = (MODEL_EVENT, TEE.model_id), (KEYS_EVENT, TEE.keys.digest), (BOUNDARY_EVENT, b"")
TAKES_LAB = EvidencePolicy(True, NODE.policy, NONCE, roots=NODE.roots)


@dataclass(frozen=True)
class SimulatedSeam:
    """Evidence of the simulated TEE, signed anew whatever it says."""

    name = "simulated"
    tee: SimulatedEnclave = TEE
    policy: EvidencePolicy = ALLOW

    def evidence(self, events: Events = (MODEL, KEYS, BOUNDARY), *, gpu_nonce: bytes = NONCE) -> dict[str, Any]:
        log = [{"event": name, "payload": payload.hex()} for name, payload in events]
        honest = self.tee.evidence()
        quote = {**honest["quote"], "rtmr3": replay_log(log).hex()}
        report = {"nonce": gpu_nonce.hex()}
        signed = {"quote": resigned("simulated-quote", quote), "gpu_report": resigned("simulated-gpu-report", report)}
        return {**honest, "event_log": log, **signed}

    def relogged(self, evidence: dict[str, Any], events: Events) -> dict[str, Any]:
        """The evidence with another log than its register replays."""
        return {**evidence, "event_log": self.evidence(events)["event_log"]}


@dataclass(frozen=True)
class HardwareSeam:
    """Evidence of the laboratory node, under a policy that takes the laboratory's roots."""

    name = "hardware"
    node: LabNode = NODE
    policy: EvidencePolicy = TAKES_LAB

    def evidence(self, events: Events = (MODEL, KEYS, BOUNDARY), *, gpu_nonce: bytes = NONCE) -> dict[str, Any]:
        node = replace(self.node, events=tuple(events), answered=(gpu_nonce,))
        return pack_evidence({**node.files(), "keys": self.node.keys})

    def relogged(self, evidence: dict[str, Any], events: Events) -> dict[str, Any]:
        log = json.dumps(replace(self.node, events=tuple(events)).log).encode()
        return {**evidence, "event_log": pack_evidence({"event_log": log})["event_log"]}


def resigned(tag: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A part of simulated evidence under a fresh signature of the test root."""
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    return {**unsigned, "signature": signer(TEST_ROOT).sign(tagged_json_hash(tag, unsigned)).hex()}


SEAMS = (SimulatedSeam(), HardwareSeam())
