"""The seam between receipts and evidence: what ``verify_receipt`` learns from evidence of any TEE.

It has two implementations, the simulated TEE (``simulated.py``) and appraised evidence of hardware
(``attested.py``), and the rules here hold for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core.attestation.chain import VENDOR_ROOTS, TrustRoots
from otr_core.attestation.policy import Policy
from otr_core.errors import PolicyError, ReceiptError

#: Names of the two events that a TEE measures: the model's id when it is loaded, then the hash of
#: the serving keys.
MODEL_EVENT, KEYS_EVENT = "otr-model", "otr-keys"

#: The event that ends start-up. The serving program extends it when it holds model and keys, before
#: it opens its door: what is extended later may be anybody's word. A stock dstack guest has no
#: event that would do. ``system-ready`` comes from its image before any container runs (the
#: recorded log of NEAR's MPC node shows an application's event behind it), so that no workload can
#: extend anything before it. A policy for an image that loads the model itself may name it instead.
BOUNDARY_EVENT = "otr-ready"

#: Registers that a policy must pin, so that the program which extends the events is a known one:
#: firmware, its configuration, kernel and command line; and one of two that name the workload.
PINNED_REGISTERS, WORKLOAD_REGISTERS = ("mr_td", "rt_mr0", "rt_mr1", "rt_mr2"), ("mr_config_id", "compose_hash")


@dataclass(frozen=True)
class EvidencePolicy:
    """What a verifier of receipts accepts as evidence.

    Attributes:
        allow_simulated: whether evidence of a simulated TEE is acceptable at all. Only ``True``
            itself says yes, and not another value that Python takes for true.
        hardware: by which evidence of hardware is appraised; None if none is acceptable. It must
            pin ``PINNED_REGISTERS`` and one of ``WORKLOAD_REGISTERS``, and bind by the profile
            "otr".
        nonce: the verifier's own 32 bytes, which evidence of hardware must answer.
        boundary: name of the event that ends start-up.
        roots: what chains must end in; others than the vendors' make evidence simulated.

    Raises:
        PolicyError: ``hardware`` is no such policy, or a value that it needs is not stated.
    """

    allow_simulated: bool
    hardware: Policy | None = None
    nonce: bytes | None = None
    boundary: str = BOUNDARY_EVENT
    roots: TrustRoots = VENDOR_ROOTS

    def __post_init__(self) -> None:
        if self.hardware is None:
            return
        if not isinstance(self.hardware, Policy):
            raise PolicyError(f"policy hardware: found {type(self.hardware).__name__}, expected an attestation Policy")
        stated = {name for name, _ in self.hardware.measurements}
        missing = [name for name in PINNED_REGISTERS if name not in stated]
        if not stated & set(WORKLOAD_REGISTERS):
            missing.append(" or ".join(WORKLOAD_REGISTERS))
        if missing:
            raise PolicyError(f"policy measurements: found no {', no '.join(missing)}, expected the guest's values")
        if self.hardware.binding != "otr":
            raise PolicyError(f"policy binding: found {self.hardware.binding!r}, expected 'otr'")
        if not isinstance(self.nonce, bytes) or len(self.nonce) != 32:
            raise PolicyError("policy nonce: found none of 32 bytes, expected the nonce that the evidence must answer")
        if not self.boundary or ":" in self.boundary or self.boundary in (MODEL_EVENT, KEYS_EVENT):
            raise PolicyError(f"policy boundary: found {self.boundary!r}, expected the name of an event of its own")


@dataclass(frozen=True)
class TeeClaims:
    """What appraised evidence says, whatever TEE it came from.

    Attributes:
        report_data: 64 bytes that the guest chose. gpu_nonce: 32 bytes out of the GPU's signed
            report.
        measured_model: model id out of the replayed event log.
        simulated: whether the evidence comes from a simulated TEE, so that no hardware vouches for
            it.
    """

    report_data: bytes
    gpu_nonce: bytes
    measured_model: bytes
    simulated: bool


#: ``appraiser(evidence, policy, as_of)`` gives what the evidence says at ``as_of`` (Unix seconds)
#: or raises ``ReceiptError("appraisal", …)``; ``PolicyError`` if ``policy`` is none.
Appraiser = Callable[[Mapping[str, Any], EvidencePolicy, int], TeeClaims]


def evidence_policy(policy: Any) -> EvidencePolicy:
    """``policy``, if it is one for evidence of receipts.

    Raises:
        PolicyError: it is something else, such as an attestation ``Policy``, whose fields would be
            ignored here.
    """
    if not isinstance(policy, EvidencePolicy):
        raise PolicyError(f"policy: found {type(policy).__name__}, expected EvidencePolicy (otr_core.poea.tee)")
    return policy


def measured_model(log: Sequence[Mapping[str, Any]], boundary: str, report_data: bytes) -> bytes:
    """The one model id that the log names before it names the keys of ``report_data``.

    Args:
        log: all extensions of the register, in order; ``payload`` is hex.
        boundary: both must come before this event.

    Raises:
        ReceiptError: check "measured-model": no model, two models, keys released before the model
            was measured, or a boundary that is not behind both; check "keys-bound": the log
            releases other keys.
    """
    order = (MODEL_EVENT, KEYS_EVENT, boundary)
    said = [event for event in log if event["event"] in order]
    names = [event["event"] for event in said]
    if names != list(order):
        found = f"events {names[:9]}" if MODEL_EVENT in names else f"no {MODEL_EVENT} event"
        raise ReceiptError("measured-model", found, f"one {MODEL_EVENT}, then one {KEYS_EVENT}, then one {boundary}")
    released = said[1]["payload"]
    if released != report_data[:32].hex():
        bound = f"those in report_data, {report_data[:32].hex()}"
        raise ReceiptError("keys-bound", f"keys {released[:64]} released", bound)
    model = bytes.fromhex(said[0]["payload"])
    if len(model) != 32:
        raise ReceiptError("measured-model", f"a model id of {len(model)} bytes", "32 bytes")
    return model
