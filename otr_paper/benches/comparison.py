"""The same questions under four systems: honest answers once, frauds injected into each, every system's own check.

What ``otr_paper.producers.comparison`` runs and stores; ``otr_paper.claims.trilemma`` judges the rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from otr_core.encoding import tagged_hash
from otr_core.errors import OtrError, ReceiptError, SpotCheckError
from otr_core.lane import program as pr
from otr_core.poea.client import order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message, sign_receipt
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace
from otr_core.poea.verify import verify_receipt
from otr_core.spotcheck import selection
from otr_core.spotcheck.beacon import verify_round
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.units import Layout, Unit
from otr_core.spotcheck.verify import SpotCheckChallenge, Verifier
from otr_node.commitment import commit_model
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, generate
from otr_node.models import judge_folder, model_folder
from otr_node.portable import PortableModel, load_portable
from otr_node.project import Project
from otr_node.run import Run, Tamper
from otr_node.serve import open_query, sign_answer, trace_seed
from otr_node.spotchecks import CheckedOperator, embedding, weights_of
from otr_paper.benches.disputes import TERMS, Scene
from otr_paper.benches.spotchecks import circuits_of, load_beacon
from otr_paper.claims import published
from otr_paper.claims.trilemma import FRAUDS, TrilemmaInputs
from otr_paper.labs.variants import requantised
from otr_paper.poq.questions import Question, is_right, words
from otr_paper.store.results import read_result

if TYPE_CHECKING:
    from otr_paper.poq.judges import Embedder

RESULT = "four_systems"
NOW = 1_766_448_000
BATCH_RECEIPTS, UNITS, RHO = 256, 4, 0.01
"""Receipts in the measured batch; units of a spot check; the paper's rate."""
COSTED = 8
"""Questions answered a second time without a trace, for what the trace costs."""


def cpu_seconds() -> float:
    """CPU seconds of this process and of its ended children (the prover runs in one)."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Clock:
    """CPU seconds of what is run under a name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        begin = cpu_seconds()
        result = work()
        self.spent[name] = self.spent.get(name, 0.0) + cpu_seconds() - begin
        return result


@dataclass
class ComparedAnswer:
    """One question as ordered (sealed) and answered honestly, with a receipt.

    Attributes:
        seed: of the trace's salts. runs: re-executions by claimed tokens, made once each.
    """

    question: Question
    enclave: SimulatedEnclave
    job: Job
    query: Message
    seed: bytes
    reply_to: bytes | None
    answer: Answer
    file: ReceiptFile
    clock: Clock
    runs: dict[tuple[int, ...], Run] = field(default_factory=dict)


def read_inputs(project: Project) -> TrilemmaInputs:
    """The stored measurements of this checkout that the four systems are judged by.

    Raises:
        DataError: one is absent.
    """
    stored = {
        name: read_result(project.results, name)[1]
        for name in (RESULT, "proof_cost", "spot_detection", "disputes", "spot_onchain", "spot_honest")
    }
    moves = stored["disputes"]["disputes"][0]["moves"]
    return TrilemmaInputs(
        payload=stored[RESULT],
        proofs=stored["proof_cost"]["rows"],
        detection=stored["spot_detection"]["rows"],
        batch_gas=next(move["gas"] for move in moves if move["move"] == "commit_batch"),
        batch_receipts=BATCH_RECEIPTS,
        verify_gas=max(row["verify_gas"] for row in stored["spot_onchain"]["rows"]),
        unit_bytes=stored["spot_honest"]["proof_bytes"],
        window_s=TERMS.window_s,
        slot_s=published.load_published(project.data).number("hw.ethereum_slot", "s"),
        round_s=load_beacon(project)[0]["period"],
        rho=RHO,
        units=UNITS,
    )


def _derive(name: str, number: int) -> bytes:
    return tagged_hash("four-systems", f"{name} {number}".encode())


class Comparison:
    """The honest model, two downgraded ones, and the checks of the four systems.

    Args:
        first: question whose answer is also disputed and spot-checked. tokens: most tokens of an answer.
    """

    def __init__(
        self, project: Project, first: Question, tokens: int, *, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.project, self.report, self._first_prompt = project, report, first.prompt
        self.scene = Scene(project, first.prompt, tokens, report=report)
        self.model: PortableModel = self.scene.model
        self.trees, self.decoding = self.scene.trees, self.scene.decoding

    @cached_property
    def cheap(self) -> dict[str, PortableModel]:
        """The downgraded models by fraud: one layer in three dropped; matrices rounded to eight bits."""
        folder = model_folder(self.project, report=self.report)
        layers = self.model.architecture.layers
        return {
            "layers dropped": load_portable(folder, drop_layers=range(1, layers, 3)),
            "8-bit weights": load_portable(folder, alter=lambda tensors: requantised(tensors, 8)),
        }

    @cached_property
    def embedder(self) -> Embedder:
        from otr_paper.poq.judges import load_embedder

        return load_embedder(judge_folder(self.project))

    def honest(self, question: Question, number: int) -> ComparedAnswer:
        """Order, answer in the lane with a trace, sign; CPU seconds of each go to the case's clock."""
        clock, model = Clock(), self.model
        enclave = self._enclave(number, model.manifest.model_id)
        job, query = order(
            question.prompt, model_id=model.manifest.model_id, decoding=self.decoding, job_id=_derive("job", number),
            nonce=_derive("nonce", number), seal_to=enclave.keys.hpke, client_secret=_derive("client", number),
        )  # fmt: skip
        _, reply_to = clock("open", lambda: open_query(enclave, job, query))
        seed = trace_seed(enclave, job)
        answer = clock("answer", lambda: generate(model, question.prompt, self.decoding, trace_seed=seed))
        if number < COSTED:
            clock("answer without trace", lambda: generate(model, question.prompt, self.decoding))
        file = clock("sign", lambda: sign_answer(enclave, model, job, query, answer, reply_to))
        return ComparedAnswer(question, enclave, job, query, seed, reply_to, answer, file, clock)

    def _enclave(self, number: int, measured: bytes) -> SimulatedEnclave:
        return SimulatedEnclave(_derive("enclave", number), measured, _derive("gpu", number), NOW)

    def lies(self, case: ComparedAnswer, other: ComparedAnswer, number: int) -> dict[str, Answer]:
        """The false answer of every fraud, as a broken TEE would sign it.

        Args:
            other: an honest answer to another question, for the replay.
        """
        answer, found = case.answer, {}
        for name, model in self.cheap.items():
            found[name] = generate(model, case.question.prompt, self.decoding, trace_seed=case.seed)
        shape = _trace(answer).shape
        draw = int.from_bytes(_derive("place", number), "big")
        position, draw = len(answer.prompt_ids) // 2 + draw % (shape.positions // 2), draw >> 64
        layer, draw = 1 + draw % (shape.layers - 1), draw >> 64
        tamper = Tamper(position, layer, pr.OUTPUT, draw % self.trees.dims.hidden, 1)
        altered = Run(self.model, self.trees, answer.prompt_ids, answer.token_ids, case.seed, self.decoding, tamper)
        found["one value altered"] = replace(answer, trace=altered.trace)
        ids = self._false_tokens(case)
        text = self.model.tokenizer.decode(ids, skip_special_tokens=True)
        covered = self._run(case, ids).trace  # the honest model's own trace over the false tokens
        found["answer replaced"] = replace(answer, token_ids=ids, text=text, trace=covered)
        found["another answer replayed"] = replace(other.answer, prompt_ids=answer.prompt_ids)
        return {name: found[name] for name in FRAUDS}

    def _false_tokens(self, case: ComparedAnswer) -> tuple[int, ...]:
        """The answer's tokens with the true value exchanged for another of its kind; where the answer does not name
        it, with the last token exchanged."""
        question, answer = case.question, case.answer
        others = [word for word in words(question.kind, "held-out") if word != question.truth]
        if question.truth.lower() in answer.text.lower():
            at = answer.text.lower().index(question.truth.lower())
            text = answer.text[:at] + others[0] + answer.text[at + len(question.truth) :]
            ids = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
            return (*ids, answer.token_ids[-1]) if answer.finish == "stop" else tuple(ids)
        return (*answer.token_ids[:-1], (answer.token_ids[-1] + 1) % self.trees.dims.vocab)

    def receipt_check(self, case: ComparedAnswer, file: ReceiptFile) -> str:
        """Name of the check that rejects ``file``, "" if none does."""
        try:
            verify_receipt(file, policy=EvidencePolicy(allow_simulated=True), as_of=NOW + 60, job=case.job)
        except ReceiptError as error:
            return error.check
        return ""

    def working(
        self, case: ComparedAnswer, other: ComparedAnswer, name: str, lie: Answer, signed: ReceiptFile, number: int
    ) -> str:
        """What the receipt's checks say when the TEE works: it measures what is loaded, and signs nothing else; what an
        operator changes, it changes outside."""
        if name in self.cheap:
            cheap = self.cheap[name]
            enclave = self._enclave(number, cheap.manifest.model_id)
            own = sign_answer(enclave, cheap, replace(case.job, model_id=cheap.manifest.model_id), case.query, lie,
                              case.reply_to)  # fmt: skip
            return self.receipt_check(case, self._renamed(case, own, enclave))
        if name == "one value altered":
            edited = replace(case.file.receipt, trace_root=_trace(lie).root)
            return self.receipt_check(case, replace(case.file, receipt=edited))
        if name == "answer replaced":
            return self.receipt_check(case, replace(case.file, response=signed.response))
        return self.receipt_check(case, other.file)

    def _renamed(self, case: ComparedAnswer, own: ReceiptFile, enclave: SimulatedEnclave) -> ReceiptFile:
        """A cheap model's receipt with the ordered model's name on it, signed again by the enclave's own key."""
        from eth_keys import keys

        receipt = replace(own.receipt, model_id=case.job.model_id)
        signed = sign_receipt(keys.PrivateKey(enclave.signing_key), receipt)
        return replace(own, job=case.job, model=self.model.manifest, receipt=signed.receipt, signature=signed.signature)

    def _run(self, case: ComparedAnswer, token_ids: tuple[int, ...]) -> Run:
        if token_ids not in case.runs:
            case.runs[token_ids] = Run(
                self.model, self.trees, case.answer.prompt_ids, token_ids, case.seed, self.decoding
            )
        return case.runs[token_ids]

    def re_executed(self, case: ComparedAnswer, claimed: Answer) -> str:
        """What a fisherman finds who runs the ordered model on the ordered prompt and the claimed tokens: "" if all is
        as claimed, "trace" if another root, "token" if a token that the model would not have chosen."""
        if claimed.token_ids not in case.runs:
            case.clock("re-execution", lambda: self._run(case, claimed.token_ids).trace)
            case.clock.spent["re-executions"] = case.clock.spent.get("re-executions", 0) + 1
        run = self._run(case, claimed.token_ids)
        if run.trace.root != _trace(claimed).root:
            return "trace"
        return "token" if run.wrong_token else ""

    def row(self, case: ComparedAnswer, other: ComparedAnswer, number: int) -> dict[str, Any]:
        """One question under every check but the judges': what is stored of it."""
        verdict = case.clock("verify", lambda: self.receipt_check(case, case.file))
        honest_run = self.re_executed(case, case.answer)
        frauds = {}
        for name, lie in self.lies(case, other, number).items():
            signed = sign_answer(case.enclave, self.model, case.job, case.query, lie, case.reply_to)
            frauds[name] = {
                "text": lie.text,
                "right": is_right(case.question, lie.text),
                "working_tee": self.working(case, other, name, lie, signed, number),
                "broken_tee": self.receipt_check(case, signed),
                "re_execution": self.re_executed(case, lie),
            }
        dump = case.file.dump()
        return {
            "kind": case.question.kind,
            "prompt_tokens": len(case.answer.prompt_ids),
            "answer_tokens": len(case.answer.token_ids),
            "positions": _trace(case.answer).shape.positions,
            "text": case.answer.text,
            "right": is_right(case.question, case.answer.text),
            "receipt_check": verdict,
            "re_execution": honest_run,
            "receipt_bytes": len(dump),
            "prompt_in_receipt": case.question.context.encode() in dump,
            "plain_bytes": len(case.question.prompt.encode()) + len(case.answer.text.encode()),
            "cpu_s": {name: round(value, 4) for name, value in case.clock.spent.items()},
            "frauds": frauds,
        }

    def judged(self, questions: Sequence[Question], texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Scores of every judge by kind of answer, and CPU seconds a judge takes for one answer."""
        from otr_paper.poq.judges import all_judges

        scores: dict[str, dict[str, list[float]]] = {}
        spent: dict[str, float] = {}
        judges = all_judges(self.embedder)
        judges["question"](questions[:2], list(texts["honest"])[:2])  # warm
        for judge, score in judges.items():
            begin = cpu_seconds()
            scores[judge] = {
                kind: [round(float(value), 5) for value in score(questions, answers)] for kind, answers in texts.items()
            }
            spent[judge] = (cpu_seconds() - begin) / (len(questions) * len(texts))
        return {"scores": scores, "cpu_s": {name: round(value, 6) for name, value in spent.items()}}

    def disputes(self) -> dict[str, dict[str, Any]]:
        """Three frauds on the first question's answer, each disputed to a verdict by transactions on a fresh chain."""
        scene, answer = self.scene, self.scene.answer
        ids, prompt = answer.token_ids, len(answer.prompt_ids)
        step = len(ids) // 2
        replaced = (*ids[:step], (ids[step] + 1) % self.trees.dims.vocab, *ids[step + 1 :])
        rounded = self.cheap["8-bit weights"]
        downgraded = generate(rounded, self._first_prompt, self.decoding, trace_seed=scene.secret)
        lowered = Run(
            rounded, commit_model(rounded), answer.prompt_ids, downgraded.token_ids, scene.secret, self.decoding
        )
        cases = {
            "one value altered": (scene.run(Tamper(prompt + step, 17, pr.OUTPUT, 123, 1)), 0),
            "answer replaced": (scene.run(token_ids=replaced), prompt + step),
            "8-bit weights": (lowered, 0),
        }
        found = {}
        for name, (false, token) in cases.items():
            begin = cpu_seconds()
            row = scene.dispute(false, token, TERMS)
            found[name] = {key: row[key] for key in ("verdict", "rounds", "gas", "moves", "inferences_fisherman",
                                                     "inferences_operator", "payload_bytes")}  # fmt: skip
            found[name]["cpu_s"] = round(cpu_seconds() - begin, 2)
            self.report(f"dispute, {name}: {row['verdict']}, {row['gas']} gas")
        return found

    def units(self) -> dict[str, int]:
        """What proving all of an answer would take: weights of a layer's matrices and of the output matrix; and blocks
        of the down projection, one of which a single altered output value breaks."""
        layout = Layout(self.model.architecture)
        return {
            "layer_weights": sum(m.rows * m.columns for m in layout.matrices.values()),
            "head_weights": self.model.architecture.vocab * self.model.architecture.hidden,
            "down_blocks": layout.blocks["down"],
        }

    def spot_check(self, operator_model: PortableModel) -> dict[str, Any]:
        """One spot check with a proof, drawn with the protocol's own draws from recorded rounds of the beacon, of the
        first question's answer by ``operator_model``.

        Returns:
            place, unit, refused_by ("" if accepted), cpu_s of each step, proof_bytes.
        """
        layout, clock, scene = Layout(self.model.architecture), Clock(), self.scene
        circuits = circuits_of(self.project, layout)
        answer = generate(operator_model, self._first_prompt, self.decoding, trace_seed=scene.secret)
        operator = CheckedOperator(operator_model, answer, scene.secret, layout, circuits)
        chain, recorded = load_beacon(self.project)
        first, second = (verify_round(chain, number, signature) for number, signature in sorted(recorded.items())[:2])
        position, layer = selection.draw_place(first, operator.trace.root, 0, operator.trace.shape)
        rows = clock("rows again", lambda: operator.rows(position, layer))
        committed = operator.commit(rows, position, layer)
        drawn = (
            SpotCheckChallenge(
                operator.trace.root, operator.trace.shape, position, layer, committed.root, second, n, SHARES
            )
            for n in range(100)
        )
        # the first of the drawn units that is a matrix: one that needs a proof
        challenge = next(one for one in drawn if one.unit(layout).operator in layout.matrices)
        unit = challenge.unit(layout)
        operator.state(position, layer)
        response = clock("proof", lambda: operator.respond(challenge, committed))
        verifier = self._verifier(layout, circuits)
        try:
            clock("verification", lambda: verifier.verify(challenge, response))
            refused = ""
        except SpotCheckError as error:
            refused = str(getattr(error, "check", error))
        return {
            "position": position,
            "layer": layer,
            "operator": unit.operator,
            "refused_by": refused,
            "proof_bytes": len(response.proof.raw),
            "cpu_s": {name: round(value, 4) for name, value in clock.spent.items()},
        }

    def _verifier(self, layout: Layout, circuits: Mapping[str, Any]) -> Verifier:
        from functools import partial

        from otr_core.spotcheck import prover

        def registered(layer: int, operator: str, block: int) -> tuple[bytes, ...]:
            vector = weights_of(layout, self.model, Unit(0, layer, operator, block)).flatten().tolist()
            return tuple(prover.commit_vectors(circuits[layout.shape(operator).name], [vector])[0][0])

        embed = partial(embedding, self.model)
        return Verifier(layout, circuits, registered, self.model.bounds.saturation, embed)


def _trace(answer: Answer) -> Trace:
    if answer.trace is None:
        raise OtrError("answer: found no trace, expected a committed one")
    return answer.trace
