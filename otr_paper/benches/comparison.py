"""The same questions under four systems: honest answers once, frauds injected into each, every
system's own check.

What ``otr_paper.producers.comparison`` runs and stores; ``otr_paper.claims.trilemma`` judges the
rows.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from otr_core.encoding import canonical_json
from otr_core.errors import SpotCheckError
from otr_core.lane import program as pr
from otr_core.lane.sampling import Decoding
from otr_core.poea.document import ReceiptFile
from otr_core.poea.trace import Trace, seed_hash, token_leaves
from otr_core.spotcheck import selection
from otr_core.spotcheck.beacon import verify_round
from otr_node.generate import Answer, generate
from otr_node.models import judge_folder
from otr_node.project import Project
from otr_node.run import Run, Tamper
from otr_paper.benches.disputes import TRACE_SECRET
from otr_paper.benches.spotchecks import load_beacon
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.claims.trilemma import FRAUDS
from otr_paper.poq.judges import Embedder, all_judges, load_embedder
from otr_paper.poq.questions import Question, is_right, words

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

    def rounded(self) -> dict[str, float]:
        return {name: round(spent, 4) for name, spent in self.spent.items()}


@dataclass
class ComparedAnswer:
    """One question, ordered and answered honestly; and the same order as the cheap models answer
    it.

    Attributes:
        clock: CPU seconds of what was done for it.
        cheap: by fraud, the answer of the downgraded model under the same order. stretched: its
            trace in the ordered model's shape. runs: re-executions by claimed tokens, made once
            each.
    """

    question: Question
    served: Served
    cheap: Mapping[str, Answer]
    stretched: Mapping[str, Trace]
    clock: Clock = field(default_factory=Clock)
    runs: dict[tuple[int, ...], Run] = field(default_factory=dict)

    @property
    def answer(self) -> Answer:
        return self.served.answer

    def run(self, token_ids: tuple[int, ...]) -> Run:
        """The ordered model's run on the tokens claimed."""
        if token_ids not in self.runs:
            self.runs[token_ids] = self.served.run(token_ids=token_ids)
        return self.runs[token_ids]


class Comparison:
    """The honest model, two downgraded ones, and the checks of the four systems.

    Args:
        first: question whose answer is also disputed and spot-checked. tokens: most tokens of an
            answer.
    """

    def __init__(
        self, project: Project, first: Question, tokens: int, *, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.project, self.report, self.decoding = project, report, Decoding(tokens)
        self.bench = Workbench.of(project, report=report, context="four-systems")
        self.first = self._first(self.bench, first.prompt)

    def _first(self, bench: Workbench, prompt: str) -> Served:
        """The first question served with the salts of the measured disputes, which are not those of
        its receipt."""
        return bench.serve(prompt, self.decoding, trace_secret=TRACE_SECRET)

    @property
    def kept(self) -> dict[str, list[int]]:
        """Layers of the ordered model that the downgraded ones run, by fraud: two in three, or
        all."""
        layers = self.bench.model.architecture.layers
        return {
            "layers dropped": [layer for layer in range(layers) if layer % 3 != 1],
            "8-bit weights": list(range(layers)),
        }

    @cached_property
    def cheap(self) -> dict[str, Workbench]:
        """The downgraded models by fraud: one layer in three dropped; matrices rounded to eight
        bits."""
        layers = range(self.bench.model.architecture.layers)
        return {
            "layers dropped": self.bench.other(drop_layers=sorted({*layers} - {*self.kept["layers dropped"]})),
            "8-bit weights": self.bench.rounded(8),
        }

    @cached_property
    def embedder(self) -> Embedder:
        return load_embedder(judge_folder(self.project))

    def honest(self, question: Question, number: int) -> ComparedAnswer:
        """Order, answer in the lane with a trace, sign; CPU seconds of each go to the case's
        clock."""
        served = self.bench.serve(question.prompt, self.decoding, place=f" {number}")
        cheap = {name: served.answered_by(bench) for name, bench in self.cheap.items()}
        stretched = {
            name: served.trace_over(cheap[name].token_ids, bench, self.kept[name]) for name, bench in self.cheap.items()
        }
        case = ComparedAnswer(question, served, cheap, stretched)
        # keys, and the trees of the re-executions, are there before the clock runs
        clock, model, _, _ = case.clock, self.bench.model, served.salts, self.bench.trees
        clock("open", lambda: served.said)
        clock("answer", lambda: served.answer)
        if number < COSTED:
            clock("answer without trace", lambda: generate(model, served.said.prompt_ids, self.decoding))
        clock("sign", lambda: served.file)
        return case

    def lies(self, case: ComparedAnswer, other: ComparedAnswer, number: int) -> dict[str, Answer]:
        """The false answer of every fraud, as a broken TEE would sign it.

        Args:
            other: an honest answer to another question, for the replay.
        """
        answer, shape = case.answer, case.answer.committed.shape
        # where one value is altered: a position of the answer or of the prompt's second half, any
        # layer but the first
        draw = int.from_bytes(self.bench.secret(f"place {number}"), "big")
        position, draw = len(answer.prompt_ids) // 2 + draw % (shape.positions // 2), draw >> 64
        layer, draw = 1 + draw % (shape.layers - 1), draw >> 64
        tamper = Tamper(position, layer, pr.LayerOperator.OUTPUT, draw % self.bench.trees.dims.hidden, 1)
        ids = self._false_tokens(case)
        found = {
            # in the ordered model's shape, or the receipt would be refused for it
            **{name: replace(lie, trace=case.stretched[name]) for name, lie in case.cheap.items()},
            "one value altered": replace(answer, trace=case.served.run(tamper).trace),
            # under the honest model's own trace over the false tokens
            "answer replaced": replace(case.served.claiming(ids), trace=case.run(ids).trace),
            "another answer replayed": self._replayed(case, other),
        }
        return {name: found[name] for name in FRAUDS}

    def _replayed(self, case: ComparedAnswer, other: ComparedAnswer) -> Answer:
        """The other question's answer under this one's order: its tokens after the ordered prompt,
        and its states over and over, as many as so many tokens have."""
        said, old = case.served.said, other.answer
        positions = len(said.prompt_ids) + len(old.token_ids) - 1
        shape = replace(old.committed.shape, positions=positions)
        leaves = tuple(itertools.islice(itertools.cycle(old.committed.leaves), shape.leaves))
        tokens = token_leaves(said.prompt_ids, said.prompt_seed, old.token_ids, case.served.salts)
        trace = Trace(shape, leaves, seed_hash(case.served.salts), tuple(tokens))
        return replace(old, prompt_ids=said.prompt_ids, trace=trace)

    def text(self, answer: Answer) -> str:
        """The words of an answer, as its client decodes them."""
        return self.bench.model.tokenizer.decode(answer.token_ids)

    def _false_tokens(self, case: ComparedAnswer) -> tuple[int, ...]:
        """The answer's tokens with the true value exchanged for another of its kind; where the
        answer does not name it, with the last token exchanged."""
        question, answer, model = case.question, case.answer, self.bench.model
        others = [word for word in words(question.kind, "held-out") if word != question.truth]
        said, most = self.text(answer), self.decoding.max_tokens
        if question.truth.lower() in said.lower():
            at = said.lower().index(question.truth.lower())
            ids = model.tokenizer.encode(said[:at] + others[0] + said[at + len(question.truth) :])
            if answer.finish == "stop" and len(ids) < most:
                return (*ids, answer.token_ids[-1])
            # as long as ordered: a receipt of another length would be refused for it
            return (*ids, *answer.token_ids)[:most]
        before, stops = answer.token_ids, model.architecture.stop_ids
        at = max(at for at, token in enumerate(before) if token not in stops)
        return (*before[:at], (before[at] + 1) % self.bench.trees.dims.vocab, *before[at + 1 :])

    def receipt_check(self, case: ComparedAnswer, file: ReceiptFile) -> str:
        """Name of the check that rejects ``file``, "" if none does."""
        rejection = case.served.rejection(file)
        return rejection.check if rejection else ""

    def working(self, case: ComparedAnswer, other: ComparedAnswer, name: str, lie: Answer, signed: ReceiptFile) -> str:
        """What the receipt's checks say when the TEE works: it measures what is loaded, and signs
        nothing else; what an operator changes, it changes outside."""
        honest = case.served.file
        if name in case.cheap:
            shown = case.served.passed_off(self.cheap[name], case.cheap[name])
        elif name == "one value altered":
            shown = replace(honest, receipt=replace(honest.receipt, states_root=lie.committed.states_root))
        elif name == "answer replaced":
            shown = replace(honest, response=signed.response)
        else:
            shown = other.served.file
        return self.receipt_check(case, shown)

    def re_executed(self, case: ComparedAnswer, claimed: Answer) -> str:
        """What a fisherman finds who runs the ordered model on the ordered prompt and the claimed
        tokens: "" if all is as claimed, "trace" if another root, "token" if a token that the model
        would not have chosen."""
        if claimed.token_ids not in case.runs:
            case.clock("re-execution", lambda: case.run(claimed.token_ids).trace)
            case.clock.spent["re-executions"] = case.clock.spent.get("re-executions", 0) + 1
        run = case.run(claimed.token_ids)
        if run.trace.root != claimed.committed.root:
            return "trace"
        return "token" if run.wrong_token else ""

    def row(self, case: ComparedAnswer, other: ComparedAnswer, number: int) -> dict[str, Any]:
        """One question under every check but the judges': what is stored of it."""
        verdict = case.clock("verify", lambda: self.receipt_check(case, case.served.file))
        honest_run = self.re_executed(case, case.answer)
        frauds = {}
        for name, lie in self.lies(case, other, number).items():
            signed = case.served.sign(lie)
            frauds[name] = {
                "text": self.text(lie),
                "right": is_right(case.question, self.text(lie)),
                "working_tee": self.working(case, other, name, lie, signed),
                "broken_tee": self.receipt_check(case, signed),
                "re_execution": self.re_executed(case, lie),
            }
        dump, text = case.served.file.dump(), self.text(case.answer)
        prompt = (case.question.context.encode(), canonical_json(list(case.answer.prompt_ids)))
        return {
            "kind": case.question.kind,
            "prompt_tokens": len(case.answer.prompt_ids),
            "answer_tokens": len(case.answer.token_ids),
            "positions": case.answer.committed.shape.positions,
            "text": text,
            "right": is_right(case.question, text),
            "receipt_check": verdict,
            "re_execution": honest_run,
            "receipt_bytes": len(dump),
            "prompt_in_receipt": any(form in dump for form in prompt),
            "plain_bytes": len(case.question.prompt.encode()) + len(text.encode()),
            "cpu_s": case.clock.rounded(),
            "frauds": frauds,
        }

    def judged(self, questions: Sequence[Question], texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Scores of every judge by kind of answer, and CPU seconds a judge takes for one answer."""
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
        """Three frauds on the first question's answer, each disputed to a verdict by transactions
        on a fresh chain."""
        first, answer = self.first, self.first.answer
        prompt, step = len(answer.prompt_ids), len(answer.token_ids) // 2
        cases = {
            "one value altered": (first.run(Tamper(prompt + step, 17, pr.LayerOperator.OUTPUT, 123, 1)), 0),
            "answer replaced": (first.with_token(step, answer.token_ids[step] + 1), prompt + step),
            "8-bit weights": (self._first(self.cheap["8-bit weights"], first.prompt).honest, 0),
        }
        told = ("verdict", "rounds", "gas", "moves", "inferences_fisherman", "inferences_operator", "payload_bytes")
        found = {}
        for name, (false, token) in cases.items():
            begin = cpu_seconds()
            row = first.dispute(false, token)
            found[name] = {key: row[key] for key in told} | {"cpu_s": round(cpu_seconds() - begin, 2)}
            self.report(f"dispute, {name}: {row['verdict']}, {row['gas']} gas")
        return found

    def units(self) -> dict[str, int]:
        """What proving all of an answer would take: weights of a layer's matrices and of the output
        matrix; and blocks of the down projection, one of which a single altered output value
        breaks."""
        layout, architecture = self.bench.layout, self.bench.model.architecture
        return {
            "layer_weights": sum(m.rows * m.columns for m in layout.matrices.values()),
            "head_weights": architecture.vocab * architecture.hidden,
            "down_blocks": layout.blocks["down"],
        }

    def spot_check(self, bench: Workbench) -> dict[str, Any]:
        """One spot check with a proof, of the first question's answer as ``bench`` serves it, drawn
        with the protocol's own draws from recorded rounds of the beacon.

        Returns:
            place, unit, refused_by ("" if accepted), cpu_s of each step, proof_bytes.
        """
        layout, clock, operator = self.bench.layout, Clock(), self._first(bench, self.first.prompt).checked
        receipt = operator.receipt
        chain, recorded = load_beacon(self.project)
        first, second = (verify_round(chain, number, signature) for number, signature in sorted(recorded.items())[:2])
        position, layer = selection.draw_place(first, receipt.trace_root, 0, receipt)
        rows = clock("rows again", lambda: operator.rows(position, layer))
        committed = operator.commit(rows, position, layer)
        drawn = (operator.challenge(committed, position, layer, second, number) for number in range(100))
        # the first of the drawn units that is a matrix: one that needs a proof
        challenge = next(one for one in drawn if one.unit(layout).operator in layout.matrices)
        operator.state(position, layer)  # the answer is run again once, before the proof is timed
        response = clock("proof", lambda: operator.respond(challenge, committed))
        try:
            clock("verification", lambda: self.bench.verifier.verify(challenge, response))
            refused = ""
        except SpotCheckError as error:
            refused = str(getattr(error, "check", error))
        return {
            "position": position,
            "layer": layer,
            "operator": challenge.unit(layout).operator,
            "refused_by": refused,
            "proof_bytes": len(response.proof.raw),
            "cpu_s": clock.rounded(),
        }
