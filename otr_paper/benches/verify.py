"""What checking a receipt costs, measured now: CPU time of reading a file of real size and making
every check, beside what the signature alone takes, here and in pure Python."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_keys.backends.native import NativeECCBackend
from eth_keys.datatypes import Signature

from otr_core import merkle
from otr_core.errors import ParameterError
from otr_core.lane.architecture import Architecture
from otr_core.lane.sampling import Decoding
from otr_core.poea import PlacedOrder, check_answer, load_receipt_file, place_order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.message import Response
from otr_core.poea.receipt import make_receipt, recover_signer, sign_receipt
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace, TraceShape, seed_hash, token_leaves
from otr_node.enclave import SimulatedEnclave
from otr_node.serve import response_message, trace_seed

SIZE = Architecture(
    hidden=576,
    intermediate=1536,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    vocab=49152,
    context=8192,
    rms_eps=1e-5,
    rope_theta=100000.0,
    tied=True,
    stop_ids=(2,),
)
"""The decoder of SmolLM2-135M-Instruct, as its ``config.json`` states it. What a check costs depends
on the sizes that a file states and not on what was computed, so that no model runs here."""

_NOW = 1_800_000_000
_CONFIGURATION = {"lane": "portable-1", "kernels": "numba", "threads": 2, "libraries": {"numpy": "2", "numba": "0"}}


@dataclass(frozen=True)
class VerifyPlan:
    """How much is measured.

    Attributes:
        runs: verifications of either kind. prompt, tokens: token ids of prompt and answer.

    Raises:
        ParameterError: nothing to measure, or more than the model's context.
    """

    runs: int = 200
    prompt: int = 50
    tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("runs", "prompt", "tokens"):
            if not 1 <= getattr(self, name) <= SIZE.context // 2:
                raise ParameterError(name, getattr(self, name), f"1 to {SIZE.context // 2}")


def measure_verify(plan: VerifyPlan) -> dict[str, Any]:
    """Median CPU milliseconds of one verification, from the file's bytes to the checked answer.

    Returns:
        plain_ms, sealed_ms: ``load_receipt_file`` and ``check_answer`` of a plain and of a sealed
        answer; verify_ms: the larger. signature_ms: of it, recovering the signer.
        python_ecrecover_ms: the same by the pure Python of ``eth_keys``. runs, prompt_tokens,
        answer_tokens, file_bytes: of what.
    """
    spent, files = {}, {}
    for name in ("plain", "sealed"):
        placed, raw = real_size_answer(plan, sealed=name == "sealed")
        files[name] = len(raw)

        def verify(placed: PlacedOrder = placed, raw: bytes = raw) -> None:
            check_answer(load_receipt_file(raw), placed, policy=EvidencePolicy(True), as_of=_NOW, nonces=None)

        spent[f"{name}_ms"] = median_ms(verify, plan.runs)
    file = load_receipt_file(raw)
    signature = median_ms(lambda: recover_signer(placed.order.domain, file.receipt, file.signature), plan.runs)
    return {
        "verify_ms": max(spent.values()),
        **spent,
        "signature_ms": signature,
        "python_ecrecover_ms": _python_ecrecover(placed, file, max(plan.runs // 10, 3)),
        "runs": plan.runs,
        "prompt_tokens": plan.prompt,
        "answer_tokens": plan.tokens,
        "file_bytes": files,
    }


def real_size_answer(plan: VerifyPlan, *, sealed: bool) -> tuple[PlacedOrder, bytes]:
    """An order, and the receipt file of an answer to it, in the sizes of ``SIZE``."""
    manifest = ModelManifest("11" * 32, 9000, "22" * 32, SIZE.config(), "44" * 32, "portable-1")
    enclave = SimulatedEnclave(b"s" * 32, manifest.model_id, b"g" * 32, _NOW - 60)
    placed = place_order(
        [(7919 * at) % SIZE.vocab for at in range(1, plan.prompt + 1)],
        model_id=manifest.model_id,
        decoding=Decoding(plan.tokens),
        job_id=b"j" * 32,
        nonce=b"n" * 32,
        client_secret=b"c" * 32,
        seal_to=enclave.keys.hpke if sealed else None,
    )
    order, seed = placed.order, trace_seed(enclave, placed.order)
    ids = (*[3 + (104729 * at) % (SIZE.vocab - 3) for at in range(1, plan.tokens)], *SIZE.stop_ids)
    shape = TraceShape(plan.prompt + len(ids) - 1, SIZE.layers, SIZE.hidden * 4, SIZE.kv_heads * SIZE.head_dim * 4)
    tokens = tuple(token_leaves(placed.said.prompt_ids, placed.said.prompt_seed, ids, seed))
    trace = Trace(shape, (bytes(32),) * shape.leaves, seed_hash(seed), tokens)
    response = response_message(enclave, order, placed.said, Response(ids, seed))
    receipt = make_receipt(
        order,
        trace,
        prompt_tokens=plan.prompt,
        finish="stop",
        response=response,
        configuration=_CONFIGURATION,
        keys=enclave.keys,
    )
    file = ReceiptFile(
        order=order,
        model=manifest,
        query=placed.query,
        response=response,
        prompt_proof=tuple(merkle.consistency_proof(tokens, plan.prompt)),
        configuration=_CONFIGURATION,
        receipt=receipt,
        signature=sign_receipt(enclave.signing_key, order, receipt).signature,
        keys=enclave.keys,
        evidence=enclave.evidence(),
    )
    return placed, file.dump()


def median_ms(work: Callable[[], object], runs: int) -> float:
    """Median CPU time of ``work`` in milliseconds, after one run that is not counted."""
    work()
    spent = []
    for _ in range(runs):
        start = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(spent)


def _python_ecrecover(placed: PlacedOrder, file: ReceiptFile, runs: int) -> float:
    """What the signature took before the core had a library with native code for it."""
    raw = file.signature[:64] + bytes([file.signature[64] - 27])
    digest = file.receipt.signing_hash(placed.order.domain)
    signature, backend = Signature(raw), NativeECCBackend()
    return median_ms(lambda: backend.ecdsa_recover(digest, signature), runs)
