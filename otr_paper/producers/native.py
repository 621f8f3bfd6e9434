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
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.serve import serve, sign_answer
from otr_node.weights import commit_folder
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


def _order(model: Model, prompt: str, tokens: int, suffix: str = "") -> poea.PlacedOrder:
    return poea.place_order(
        prompt_tokens(model, prompt, tokens),
        model_id=model.manifest.model_id,
        decoding=Decoding(max_tokens=tokens),
        job_id=_secret(f"job{suffix}"),
        nonce=_secret(f"nonce{suffix}"),
        client_secret=_secret(f"client{suffix}"),
    )


def _rejected(model: Model, enclave: SimulatedEnclave) -> int:
    """How many of ``HONEST`` honest receipts, each for a query of its own, are rejected. None may
    be."""
    rejected, served, nonces = 0, poea.OnceStore(), poea.OnceStore()
    for number in range(HONEST):
        placed = _order(model, f"Name a word with {number + 3} letters.", 2, f"-{number}")
        file, _ = serve(enclave, model, placed.order, placed.query, served=served)
        try:
            poea.check_answer(file, placed, policy=POLICY, as_of=NOW + 60, nonces=nonces)
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
    placed = _order(model, PROMPT, TOKENS)
    order, query, said = placed.order, placed.query, placed.said
    file, answer = serve(enclave, model, order, query, served=poea.OnceStore())
    raw, ids = file.dump(), said.prompt_ids
    trace = measure_trace(model)

    def verify() -> None:
        poea.check_answer(poea.load_receipt_file(raw), placed, policy=POLICY, as_of=NOW + 60, nonces=None)

    cpu = (
        ("weight commitment", commit_ms, "model"),
        ("prefill", frame.median_cpu_ms(5, lambda: model.session().feed(ids)), f"{len(ids)} tokens"),
        ("decoding", 1000 * trace["decode_cpu_s"], "token"),
        ("trace commitment", 1000 * trace["trace_decode_cpu_s"], "token"),
        ("receipt signing", frame.median_cpu_ms(21, sign_answer, enclave, model, order, query, said, answer), "answer"),
        ("receipt verification", frame.median_cpu_ms(51, verify), "answer"),
    )
    payload = {
        "prompt": PROMPT,
        "answer": model.tokenizer.decode(answer.token_ids),
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
