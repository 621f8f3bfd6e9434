"""Measure one attested answer in the native lane: data/results/native_run.json.

CPU milliseconds of this process, medians of several runs; the answer and the trace root are those
of this machine.
"""

from __future__ import annotations

from functools import partial

from otr_core import poea
from otr_core.encoding import tagged_hash
from otr_core.errors import ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.weights import commit_folder
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import generate
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.serve import serve, sign_answer
from otr_paper.benches.tracing import measure_trace
from otr_paper.producers import frame

PROMPT = "Ada lives in Lisbon and works as a baker. Where does Ada live?"
SEED = 20251223
TOKENS = 48
HONEST = 30
NOW = 1_766_448_000  # Unix seconds at which the receipts are issued
POLICY = EvidencePolicy(allow_simulated=True)


def _secret(what: str) -> bytes:
    return tagged_hash(what, SEED.to_bytes(8, "big"))


def _order(model: Model, prompt: str, tokens: int, suffix: str = "") -> tuple[poea.Job, poea.Message]:
    decoding = Decoding(max_tokens=tokens, temperature_milli=0, seed=0)
    ids = {"job_id": _secret(f"job{suffix}"), "nonce": _secret(f"nonce{suffix}")}
    return poea.order(prompt, model_id=model.manifest.model_id, decoding=decoding, **ids)


def _rejected(model: Model, enclave: SimulatedEnclave) -> int:
    """How many of ``HONEST`` honest receipts, each for a query of its own, are rejected. None may
    be."""
    rejected = 0
    for number in range(HONEST):
        job, query = _order(model, f"Name a word with {number + 3} letters.", 2, f"-{number}")
        file, _ = serve(enclave, model, job, query)
        try:
            poea.verify_receipt(file, policy=POLICY, as_of=NOW + 60, job=job)
        except ReceiptError:
            rejected += 1
    return rejected


def main() -> None:
    frame.arguments(__doc__).parse_args()
    folder = frame.model_files()
    commit_ms = frame.median_cpu_ms(5, partial(commit_folder, folder, tied=True))
    model = load_model(folder)
    model_id = model.manifest.model_id
    enclave = SimulatedEnclave(
        secret=_secret("enclave"), model_id=model_id, gpu_nonce=_secret("gpu-nonce"), issued_at=NOW
    )
    job, query = _order(model, PROMPT, TOKENS)
    file, answer = serve(enclave, model, job, query)
    raw = file.dump()
    ids = generate(model, PROMPT, Decoding(1, 0, 0)).prompt_ids
    trace = measure_trace(model)

    def verify() -> None:
        poea.verify_receipt(poea.load_receipt_file(raw), policy=POLICY, as_of=NOW + 60, job=job)

    cpu = (
        ("weight commitment", commit_ms, "model"),
        ("prefill", frame.median_cpu_ms(5, lambda: model.session().feed(ids)), f"{len(ids)} tokens"),
        ("decoding", 1000 * trace["decode_cpu_s"], "token"),
        ("trace commitment", 1000 * trace["trace_decode_cpu_s"], "token"),
        ("receipt signing", frame.median_cpu_ms(21, sign_answer, enclave, model, job, query, answer), "answer"),
        ("receipt verification", frame.median_cpu_ms(51, verify), "answer"),
    )
    payload = {
        "prompt": PROMPT,
        "answer": answer.text,
        "answer_tokens": len(answer.token_ids),
        "model_id": model_id.hex(),
        "trace_root": answer.committed.root.hex(),
        "trace_leaves": answer.committed.shape.leaves,
        "receipt_bytes": len(raw),
        "honest_count": HONEST,
        "honest_rejected_count": _rejected(model, enclave),
        "cpu": [[what, round(ms, 3), unit] for what, ms, unit in cpu],
    }
    frame.store("native_run", payload, seed=SEED)


if __name__ == "__main__":
    main()
