"""Measure one attested answer in the native lane: ``python -m otr_paper.producers.native`` (`make bench`).

Writes data/results/native_run.json with its card. CPU milliseconds of this process, the median of several runs; the
answer and the trace root are those of this machine.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
import time

from otr_core.encoding import tagged_hash
from otr_core.errors import ReceiptError
from otr_core.poea.tee import EvidencePolicy
from otr_node.models import model_folder
from otr_node.project import find_project
from otr_paper.press.notebook import quiet
from otr_paper.store import results

PROMPT = "Ada lives in Lisbon and works as a baker. Where does Ada live?"
SEED = 20251223
TOKENS = 48
HONEST = 30


def cpu_ms(call, repeats: int) -> float:
    """Median CPU time of ``call``, ms."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(1000 * (time.process_time() - started))
    return statistics.median(times)


def main() -> None:
    quiet()
    import otr_node
    from otr_core import poea
    from otr_core.lane import sampling
    from otr_core.poea import trace, weights
    from otr_node import lanes
    from otr_node.enclave import SimulatedEnclave
    from otr_node.serve import serve, sign_answer

    def secret(what: str) -> bytes:
        return tagged_hash(what, SEED.to_bytes(8, "big"))

    project, now = find_project(), 1_766_448_000
    folder = model_folder(project, report=print)
    commit_ms = cpu_ms(lambda: weights.commit_folder(folder, tied=True), 5)
    model = lanes.load_model(folder)
    model_id = model.manifest.model_id
    decoding = sampling.Decoding(max_tokens=TOKENS, seed=0, temperature_milli=0)
    job, query = poea.order(PROMPT, model_id=model_id, decoding=decoding, job_id=secret("job"), nonce=secret("nonce"))
    enclave = SimulatedEnclave(
        secret=secret("enclave"), model_id=model_id, gpu_nonce=secret("gpu-nonce"), issued_at=now
    )
    file, answer = serve(enclave, model, job, query)
    ids = otr_node.generate(model, PROMPT, sampling.Decoding(1, 0, 0)).prompt_ids

    # decoding one token, with and without the trace, in turns: the machine's drift hits both alike
    pairs = []
    for _ in range(7):
        plain, traced = model.session(), model.session()
        recorder = trace.TraceRecorder(secret("trace"))
        plain.feed(ids), traced.feed(ids, recorder)
        for token in answer.token_ids[:16]:
            pairs.append(
                (
                    cpu_ms(lambda t=token, s=plain: s.feed([t]), 1),
                    cpu_ms(lambda t=token, s=traced, r=recorder: s.feed([t], r), 1),
                )
            )
    token_ms = statistics.median(without for without, _ in pairs)
    trace_ms = statistics.median(with_trace - without for without, with_trace in pairs)
    prefill_ms = cpu_ms(lambda: model.session().feed(ids), 5)
    raw = file.dump()

    def verify() -> None:
        loaded = poea.load_receipt_file(raw)
        poea.verify_receipt(loaded, policy=EvidencePolicy(allow_simulated=True), as_of=now + 60, job=job)

    verify_ms = cpu_ms(verify, 51)
    rejected = 0
    for number in range(HONEST):  # honest receipts: each a query of its own, none may be rejected
        asked, sent = poea.order(
            f"Name a word with {number + 3} letters.", model_id=model_id, decoding=sampling.Decoding(2, 0, 0),
            job_id=secret(f"job-{number}"), nonce=secret(f"nonce-{number}"),
        )  # fmt: skip
        signed, _ = serve(enclave, model, asked, sent)
        try:
            poea.verify_receipt(signed, policy=EvidencePolicy(allow_simulated=True), as_of=now + 60, job=asked)
        except ReceiptError:
            rejected += 1
    sign_ms = cpu_ms(lambda: sign_answer(enclave, model, job, query, answer), 21)
    payload = {
        "prompt": PROMPT,
        "answer": answer.text,
        "answer_tokens": len(answer.token_ids),
        "model_id": model_id.hex(),
        "trace_root": answer.trace.root.hex(),
        "trace_leaves": answer.trace.shape.leaves,
        "receipt_bytes": len(raw),
        "honest_count": HONEST,
        "honest_rejected_count": rejected,
        "cpu": [
            ["weight commitment", round(commit_ms, 3), "model"],
            ["prefill", round(prefill_ms, 3), f"{len(ids)} tokens"],
            ["decoding", round(token_ms, 3), "token"],
            ["trace commitment", round(trace_ms, 3), "token"],
            ["receipt signing", round(sign_ms, 3), "answer"],
            ["receipt verification", round(verify_ms, 3), "answer"],
        ],
    }
    card = results.Card(
        command="make bench", date=dt.date.today().isoformat(), machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(), seed=SEED, kind="measured",
    )  # fmt: skip
    print(
        results.write_result(project.results, "native_run", card, payload).name,
        *payload["cpu"],
        sep="\n",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
