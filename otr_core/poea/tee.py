"""The seam between receipts and evidence: what ``verify_receipt`` learns from evidence of any TEE.

The simulated TEE (``simulated.py``) is the one implementation of this seam so far; appraised
evidence of hardware is to be another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import from_hex
from otr_core.errors import ReceiptError

#: Names of the two events that a TEE measures: the model's id when it is loaded, then the hash of
#: the serving keys.
MODEL_EVENT, KEYS_EVENT = "otr-model", "otr-keys"


@dataclass(frozen=True)
class EvidencePolicy:
    """What a verifier of receipts accepts as evidence.

    Attributes:
        allow_simulated: whether evidence of a simulated TEE is acceptable at all. Only ``True``
            itself says yes, and not another value that Python takes for true.
    """

    allow_simulated: bool


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


#: ``appraiser(evidence, policy, as_of)`` gives what the evidence says or raises
#: ``ReceiptError("appraisal", …)``.
Appraiser = Callable[[Mapping[str, Any], EvidencePolicy, int], TeeClaims]


def measured_model(log: Sequence[Mapping[str, Any]]) -> bytes:
    """The one model id that the log names before it names the keys.

    Raises:
        ReceiptError: check "measured-model": no model, two models, or keys released before the
            model was measured.
    """
    names = [event["event"] for event in log]
    if [name for name in names if name in (MODEL_EVENT, KEYS_EVENT)] != [MODEL_EVENT, KEYS_EVENT]:
        raise ReceiptError("measured-model", f"events {names}", f"one {MODEL_EVENT}, then one {KEYS_EVENT}")
    return from_hex(log[names.index(MODEL_EVENT)]["payload"], what="measured model id")
