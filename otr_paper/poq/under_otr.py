"""The same adversary under OTR: what its receipts say, which check rejects them, and what a broken
TEE changes.

Five receipts for one question. With a working TEE the loaded weights are measured, whatever the
operator claims. With a broken one it signs what it likes and has three traces to choose from: that
of its own run, stretched to as many layers as the ordered model has (a receipt of fewer is
refused), one made up, or the honest model's trace over its own false tokens, which costs the honest
model's run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otr_core.economics import detection_probability
from otr_core.economics.detection import detection_after
from otr_core.encoding import canonical_json, parse_json, tagged_hash
from otr_core.errors import ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import PlacedOrder, check_answer, place_order
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Query
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, prompt_tokens, replay
from otr_node.model import Model
from otr_node.recorder import TraceRecorder
from otr_node.serve import answer_order, sign_answer, trace_seed
from otr_paper.benches.workbench import derive
from otr_paper.labs.receipts import ONLY_RE_EXECUTION, first_difference
from otr_paper.labs.stretched import Stretched
from otr_paper.poq.questions import Question

#: Attempts in the order in which they are made: what is done.
ATTEMPTS = {
    "names its own model": "working TEE; the receipt says what ran",
    "claims the model ordered": "working TEE; the receipt names the model ordered, the event log what was loaded",
    "trace of its own run": "broken TEE: measures the model ordered, runs the adversary, commits its trace, stretched",
    "trace made up": "broken TEE; random leaves in the shape of the honest model's trace",
    "honest trace over its own tokens": "broken TEE; the honest model is run over the adversary's tokens as well",
}
BROKEN = ("trace of its own run", "trace made up", "honest trace over its own tokens")


@dataclass(frozen=True)
class PoqCase:
    """One question, tokenised and ordered by a client, all secrets derived from ``secret`` (32
    bytes)."""

    prompt_ids: tuple[int, ...]
    model_id: bytes
    decoding: Decoding
    now: int
    secret: bytes

    def enclave(self, measured: bytes) -> SimulatedEnclave:
        """A TEE that has measured the model ``measured``, or says so."""
        return SimulatedEnclave(self._derive("enclave"), measured, self._derive("gpu"), self.now)

    def placed(self) -> PlacedOrder:
        """The client's order, in the clear: who sees the prompt is not the question here."""
        return place_order(
            self.prompt_ids,
            model_id=self.model_id,
            decoding=self.decoding,
            job_id=self._derive("job"),
            nonce=self._derive("nonce"),
            client_secret=self._derive("client"),
        )

    def _derive(self, name: str) -> bytes:
        return derive("poq-under-otr", name, self.secret)


def case_of(prompt_ids: Sequence[int], model_id: bytes, max_tokens: int) -> PoqCase:
    """The case that is stored and verified again: one question, a fixed day, fixed secrets of a
    simulated TEE."""
    secret = tagged_hash("poq-case", b"stored")
    return PoqCase(tuple(prompt_ids), model_id, Decoding(max_tokens), 1_766_448_000, secret)


def asked(question: Question, honest: Model, max_tokens: int) -> PoqCase:
    """The case of a question, tokenised for the ``honest`` model."""
    return case_of(prompt_tokens(honest, question.prompt, max_tokens), honest.manifest.model_id, max_tokens)


def stored_case(stored: Mapping[str, Any]) -> PoqCase:
    """The case of the stored experiment's attempts, its prompt as their queries have it."""
    file = read_receipt(stored["receipts"]["claims the model ordered"]["receipt"])
    prompt_ids = Query.from_json(file.query.plain, sealed=False).prompt_ids
    return case_of(prompt_ids, bytes.fromhex(stored["model_id"]), stored["recipe"]["max_tokens"])


def attempt_all(case: PoqCase, honest: Model, adversary: Model) -> tuple[dict[str, Any], Answer]:
    """Every attempt of ``ATTEMPTS`` by name: {receipt: the file as JSON, where: first difference
    found by running again, honest_ms: CPU ms of the honest model it took}; and the honest answer
    with its trace."""
    placed, own_id = case.placed(), adversary.manifest.model_id
    order, query, said = placed.order, placed.query, placed.said
    working, broken = case.enclave(own_id), case.enclave(case.model_id)
    truth = answer_order(broken, honest, order, said)
    named_order = replace(order, model_id=own_id)
    owned = answer_order(working, adversary, named_order, said)
    named = sign_answer(working, adversary, named_order, query, said, owned)
    lie = answer_order(broken, adversary, order, said)
    prompt, salts, layers = len(said.prompt_ids), trace_seed(broken, order), honest.architecture.layers

    def traced(model: Model, stretch: bool) -> Trace:
        """The trace of a run on the adversary's tokens, in the honest model's shape."""
        recorder = TraceRecorder(salts)
        few = model.architecture.layers
        kept = [number * layers // few for number in range(few)]
        replay(model, said.prompt_ids, lie.token_ids, Stretched(recorder, kept, layers) if stretch else recorder)
        return recorder.finish([*said.prompt_ids, *lie.token_ids], prompt, said.prompt_seed)

    own = traced(adversary, True)
    leaves = tuple(tagged_hash("made-up leaf", case.secret + b"%d" % number) for number in range(own.shape.leaves))
    started = time.process_time()
    covered = traced(honest, False)
    honest_ms = 1000 * (time.process_time() - started)

    claiming = sign_answer(working, honest, order, query, said, lie)
    files: dict[str, tuple[ReceiptFile, str, float]] = {
        "names its own model": (named, "", 0.0),
        "claims the model ordered": (claiming, "", 0.0),
    }
    traces = (own, replace(own, leaves=leaves), covered)
    for name, trace, cost in zip(BROKEN, traces, (0.0, 0.0, honest_ms), strict=True):
        claimed = replace(lie, trace=trace, configuration=truth.configuration)
        where = first_difference(truth, claimed)
        files[name] = (sign_answer(broken, honest, order, query, said, claimed), where, cost)
    return {
        name: {"receipt": parse_json(file.dump(), what="receipt"), "where": where, "honest_ms": round(cost, 1)}
        for name, (file, where, cost) in files.items()
    }, truth


def read_receipt(receipt: Mapping[str, Any]) -> ReceiptFile:
    """A stored receipt as an object."""
    return load_receipt_file(canonical_json(dict(receipt)) + b"\n")


def caught_by(case: PoqCase, receipt: Mapping[str, Any]) -> tuple[str, str]:
    """The check that rejects a stored receipt, with what it found; ``ONLY_RE_EXECUTION`` when none
    does."""
    file = read_receipt(receipt)
    try:
        policy = EvidencePolicy(allow_simulated=True)
        check_answer(file, case.placed(), policy=policy, as_of=case.now + 60, nonces=None)
    except ReceiptError as error:
        return error.check, str(error)
    return ONLY_RE_EXECUTION, "accepted"


def closest_id(target: bytes, honest: Any, tries: int) -> list[tuple[int, int]]:
    """Selection against the measured identity: ``tries`` other weights roots, and after every
    doubling the most leading bits of a model id that agreed with ``target``. Pairs (tries so far,
    bits)."""
    best, found, number = -1, [], 0
    for number in range(1, tries + 1):
        root = tagged_hash("other weights", number.to_bytes(8, "big")).hex()
        best = max(best, _leading_bits(replace(honest, weights_root=root).model_id, target))
        if number & (number - 1) == 0:
            found.append((number, best))
    return found


def _leading_bits(first: bytes, second: bytes) -> int:
    difference = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
    return 8 * len(first) - difference.bit_length()


def not_yet_caught(answers: Sequence[int], *, rho: float, looked_at: float) -> list[float]:
    """Chance that none of so many answers of a downgraded model has been caught, for each number of
    ``answers``.

    A sampled answer is always caught (every unit of its trace is false), and so is one that a
    fisherman runs again.

    Args:
        rho: spot-check rate. looked_at: chance that a fisherman runs an answer again.
    """
    caught = detection_probability(rho=rho, d=1.0, phi=looked_at, w=1.0)
    return [1.0 - float(detection_after(cheats=number, rho=caught)) for number in answers]
