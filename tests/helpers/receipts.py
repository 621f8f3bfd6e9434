"""A signed answer without a model: the receipt's rules do not depend on where tokens come from."""

from __future__ import annotations

from types import SimpleNamespace

from otr_core.lane.sampling import Decoding
from otr_core.poea import Job, Message, order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace, TraceShape
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer
from otr_node.serve import open_query, sign_answer

MANIFEST = ModelManifest("11" * 32, 7, "22" * 32, "33" * 32, "44" * 32, "native-float32")
CLIENT = b"c" * 32
NOW = 1_800_000_000
ALLOW = EvidencePolicy(allow_simulated=True)


def enclave(**changes: object) -> SimulatedEnclave:
    fields: dict = {"secret": b"s" * 32, "model_id": MANIFEST.model_id, "gpu_nonce": b"g" * 32, "issued_at": NOW - 60}
    return SimulatedEnclave(**(fields | changes))


def ordered(
    tee: SimulatedEnclave, prompt: str = "Why?", number: int = 1, *, sealed: bool = False
) -> tuple[Job, Message]:
    return order(
        prompt,
        model_id=MANIFEST.model_id,
        decoding=Decoding(16, 5, 700),
        job_id=bytes([number]) * 32,
        nonce=bytes([number, 1]) * 16,
        seal_to=tee.keys.hpke if sealed else None,
        client_secret=CLIENT if sealed else None,
    )


def answer(text: str = "Because.") -> Answer:
    shape = TraceShape(3, 2, 64, 32)
    trace = Trace(shape, tuple(bytes([i]) * 32 for i in range(6)), bytes(32))
    return Answer(text, (1, 2), (3, 4), "stop", trace, {"lane": "native-float32", "threads": 1})


def signed(
    tee: SimulatedEnclave | None = None, *, sealed: bool = False, prompt: str = "Why?", number: int = 1
) -> ReceiptFile:
    tee = enclave() if tee is None else tee
    job, query = ordered(tee, prompt, number, sealed=sealed)
    _, reply_to = open_query(tee, job, query)
    return sign_answer(tee, SimpleNamespace(manifest=MANIFEST), job, query, answer(), reply_to)  # type: ignore[arg-type]
