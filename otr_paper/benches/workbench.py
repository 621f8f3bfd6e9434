"""The workbench: an operator with a model, and everything the protocol makes of an answer.

``Workbench`` is the operator's machine, ``Served`` one query put to it. Both make each thing when
it is first asked for, so that whoever looks at receipts loads no circuit, and whoever looks at
proofs no court. Every secret derives from one seed, so that results repeat; a real client and a
real enclave draw theirs at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from otr_core.dispute.records import Terms
from otr_core.encoding import tagged_hash
from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane.element import LAYER
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import PlacedOrder, check_answer, place_order
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Message, Query
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Domain, Order
from otr_core.poea.receipt import Receipt, sign_receipt
from otr_core.poea.simulated import TEST_ROOT
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace, prompt_root
from otr_core.spotcheck.units import SMALL, Layout, Unit
from otr_core.spotcheck.verify import Verifier
from otr_node import prover
from otr_node.chain.onchain import FIRST_COURT
from otr_node.commitment import ModelTrees, commit_model
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, generate, prompt_tokens, replay
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.models import model_folder
from otr_node.portable import LANE, PortableModel
from otr_node.project import Project
from otr_node.recorder import TraceRecorder
from otr_node.run import DisputedModel, Run, Tamper
from otr_node.serve import open_query, sign_answer, trace_seed
from otr_node.spotchecks import CheckedOperator, embedding, weights_of
from otr_paper.benches import disputes
from otr_paper.claims.receipts import READING
from otr_paper.labs.stretched import Stretched
from otr_paper.labs.variants import requantised
from otr_paper.studies.crowd import Crowd
from otr_paper.studies.dispute_costs import TERMS

NOW = 1_766_448_000
"""When everything here happens unless said otherwise: 2025-12-23 00:00 UTC, in Unix seconds."""


def derive(context: str, name: str, seed: bytes = b"") -> bytes:
    """32 bytes for one purpose: the same for the same context, seed and name, and unrelated to any
    other."""
    return tagged_hash(context, seed + name.encode())


def key_store(project: Project) -> Path:
    """Where reference strings and proving keys are kept: made on this machine, never committed,
    *test only*."""
    return project.build / "spotcheck"


@dataclass(frozen=True, eq=False)
class Workbench:
    """An operator's machine with a model on it.

    Attributes:
        folder: the checkpoint. lane: in which it runs. options: of ``load_model``; what a cheating
            operator changes.
        context, seed: what all secrets derive from (``derive``).
        now: Unix seconds at which enclaves are booted and receipts judged.
        store: folder of proving keys; None: no unit with weights can be proven or verified.
        unit_weights: weights in one matrix unit of a spot check.
    """

    folder: Path
    lane: str = LANE
    options: Mapping[str, Any] = field(default_factory=dict)
    context: str = "workbench"
    seed: bytes = b""
    now: int = NOW
    store: Path | None = None
    unit_weights: int = SMALL

    @classmethod
    def of(cls, project: Project, *, report: Callable[[str], None] = lambda line: None, **fields: Any) -> Workbench:
        """With the default model, SmolLM2-135M; in the portable lane unless ``fields`` say
        otherwise."""
        return cls(model_folder(project, report=report), store=key_store(project), **fields)

    def secret(self, name: str) -> bytes:
        return derive(self.context, name, self.seed)

    # the model

    @cached_property
    def model(self) -> Model:
        return load_model(self.folder, lane=self.lane, **self.options)

    @property
    def portable(self) -> PortableModel:
        """The model as exact integers, which alone can be proven.

        Raises:
            ModelError: it runs in another lane.
        """
        if not isinstance(self.model, PortableModel):
            raise ModelError(f"lane: found {self.lane}, expected {LANE}")
        return self.model

    @property
    def disputed(self) -> DisputedModel:
        """The model in a lane whose answers the court judges.

        Raises:
            ModelError: it runs in another lane.
        """
        if not isinstance(self.model, DisputedModel):
            raise ModelError(f"lane: found {self.lane}, expected one whose steps a court judges")
        return self.model

    @cached_property
    def trees(self) -> ModelTrees:
        """What a court's registry holds of the model."""
        return commit_model(self.disputed)

    def other(self, *, folder: Path | None = None, lane: str | None = None, **options: Any) -> Workbench:
        """The same operator, with the same secrets, who runs another model: a changed checkpoint,
        another lane, or ``options`` of ``load_model`` (``drop_layers``, ``alter``)."""
        return replace(self, folder=folder or self.folder, lane=lane or self.lane, options=options)

    def rounded(self, bits: int, layer: int | None = None) -> Workbench:
        """The same operator, whose matrices (of one layer only) are rounded to ``bits`` bits."""
        prefix = "" if layer is None else f"model.layers.{layer}."

        def alter(tensors: dict[str, Any]) -> dict[str, Any]:
            chosen = {name: value for name, value in tensors.items() if name.startswith(prefix)}
            return tensors | requantised(chosen, bits)

        return self.other(alter=alter)

    # an answer

    def enclave(self, place: str = "", *, root: bytes = TEST_ROOT) -> SimulatedEnclave:
        """A simulated TEE that has measured the model; another ``place``, another machine."""
        measured = self.model.manifest.model_id
        return SimulatedEnclave(self.secret(f"enclave{place}"), measured, self.secret(f"gpu{place}"), self.now, root)

    def serve(self, prompt: str, decoding: int | Decoding, **fields: Any) -> Served:
        """A query about ``prompt``, ordered, answered and signed as soon as something of it is
        asked for.

        Args:
            decoding: most tokens of a greedy answer, or how to decode. fields: others of
                ``Served``.
        """
        return Served(self, prompt, Decoding(decoding) if isinstance(decoding, int) else decoding, **fields)

    # spot checks

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.model.architecture, self.unit_weights)

    @cached_property
    def circuits(self) -> Mapping[str, prover.Circuit]:
        """One circuit per shape of a unit, by the shape's name; the first call ever makes its keys
        (seconds)."""
        if self.store is None:
            return {}
        shapes = {self.layout.shape(name) for name in self.layout.matrices}
        return {shape.name: prover.make_circuit(shape, self.store) for shape in sorted(shapes, key=repr)}

    def registered(self, layer: int, operator: str, block: int) -> tuple[bytes, ...]:
        """The points of a weight block, made from the weights that the model's identity commits
        to."""
        vector = weights_of(self.layout, self.portable, Unit(0, layer, operator, block)).flatten().tolist()
        return prover.commit_vectors(self.circuits[self.layout.shape(operator).name], [vector])[0][0]

    @property
    def verifier(self) -> Verifier:
        """A verifier of spot checks who has made the points itself."""
        embed = partial(embedding, self.portable)
        return Verifier(self.layout, self.circuits, self.registered, self.portable.bounds.saturation, embed)


@dataclass(frozen=True, eq=False)
class Served:
    """One query at a workbench: ordered by its client, answered and signed by the operator.

    Attributes:
        place: tells the enclaves (and clients) of a workbench apart, number: the orders of one
            client.
        trace_secret: 32 bytes from which all salts of the trace derive, those of the prompt too,
            as measured results are repeated with; the query then travels in the open. None: client
            and enclave have salts of their own, as in every real order.
        domain: court and chain of the order; by default the first court of a fresh chain, where
            the answer can be disputed. sealed: whether the query is sealed to the enclave.
    """

    bench: Workbench
    prompt: str
    decoding: Decoding
    place: str = ""
    number: str = ""
    trace_secret: bytes | None = None
    domain: Domain = FIRST_COURT
    sealed: bool = True

    # ordered, answered, signed, judged

    @cached_property
    def enclave(self) -> SimulatedEnclave:
        return self.bench.enclave(self.place)

    @cached_property
    def placed(self) -> PlacedOrder:
        """The client's own copy of its order."""
        secret, name, model = self.bench.secret, f"{self.place}{self.number}", self.bench.model
        ids, model_id = prompt_tokens(model, self.prompt, self.decoding.max_tokens), model.manifest.model_id
        job_id, nonce = secret(f"job{name}"), secret(f"nonce{name}")
        if self.trace_secret is not None:
            said = Query(ids, self.trace_secret)
            query, root = Message("query", plain=said.to_json()), prompt_root(ids, self.trace_secret)
            order = Order(self.domain, job_id, nonce, model_id, root, len(ids), query.digest, self.decoding)
            return PlacedOrder(order, query, said)
        return place_order(
            ids,
            model_id=model_id,
            decoding=self.decoding,
            job_id=job_id,
            nonce=nonce,
            client_secret=secret(f"client{self.place}"),
            domain=self.domain,
            seal_to=self.enclave.keys.hpke if self.sealed else None,
        )

    @property
    def order(self) -> Order:
        return self.placed.order

    @property
    def query(self) -> Message:
        return self.placed.query

    @cached_property
    def said(self) -> Query:
        """What the query says to the enclave that opens it."""
        return open_query(self.enclave, self.order, self.query)

    @property
    def salts(self) -> bytes:
        """32 bytes from which the salts of the trace derive, but for those of the prompt."""
        return self.trace_secret or trace_seed(self.enclave, self.order)

    @cached_property
    def answer(self) -> Answer:
        return self.answered_by(self.bench)

    def answered_by(
        self, other: Workbench, decoding: Decoding | None = None, *, order_id: bytes | None = None
    ) -> Answer:
        """What another model, or another way of decoding, makes of this order, under its salts.

        Args:
            order_id: on which the draws depend; None: this order's, as it should be.
        """
        return generate(
            other.model,
            self.said.prompt_ids,
            decoding or self.decoding,
            order_id=self.order.id if order_id is None else order_id,
            trace_seed=self.salts,
            prompt_seed=self.said.prompt_seed,
        )

    def trace_over(
        self, token_ids: Sequence[int], other: Workbench | None = None, kept: Sequence[int] | None = None
    ) -> Trace:
        """The trace of a run on claimed tokens, under this order's salts.

        Args:
            token_ids: the answer as claimed. other: whose model runs; None: the ordered one.
            kept: which layers of the ordered model that is, where it has fewer; the trace is then
                ``Stretched`` to the ordered shape.
        """
        runs, recorder = (other or self.bench).model, TraceRecorder(self.salts)
        stretched = recorder if kept is None else Stretched(recorder, kept, self.bench.model.architecture.layers)
        replay(runs, self.said.prompt_ids, token_ids, stretched)
        ids = (*self.said.prompt_ids, *token_ids)
        return recorder.finish(ids, len(self.said.prompt_ids), self.said.prompt_seed)

    def claiming(self, token_ids: Sequence[int], finish: str = "") -> Answer:
        """A false answer of these tokens, with the ordered model's own trace over them; its finish
        is what the last token makes it, unless another is stated."""
        ids = tuple(token_ids)
        ended = "stop" if ids[-1] in self.bench.model.architecture.stop_ids else "length"
        return replace(self.answer, token_ids=ids, finish=finish or ended, trace=self.trace_over(ids))

    @cached_property
    def file(self) -> ReceiptFile:
        """The receipt of the answer."""
        return self.sign(self.answer)

    @property
    def receipt(self) -> Receipt:
        return self.file.receipt

    def sign(self, answer: Answer, enclave: SimulatedEnclave | None = None) -> ReceiptFile:
        """The receipt of any answer: an enclave that is broken signs what its operator likes."""
        parts = (self.bench.model, self.order, self.query, self.said, answer)
        return sign_answer(enclave or self.enclave, *parts, seed=self.salts)

    def passed_off(self, other: Workbench, answer: Answer) -> ReceiptFile:
        """The receipt of another model's ``answer``, put under the ordered model's name by a TEE
        that works otherwise: it has measured what it loads."""
        return self.sign(answer, other.enclave(self.place))

    def rejection(self, file: ReceiptFile | bytes, **options: Any) -> ReceiptError | None:
        """Why the client of this query rejects ``file``, None if it does not.

        The client reads the file's bytes (``READING``) and makes every check against its own order
        and with its own key (``check_answer``). ``options`` of that take the place of: this
        client's order, simulated evidence is fine, now, no nonce accepted before.
        """
        usual: dict[str, Any] = {"policy": EvidencePolicy(allow_simulated=True), "as_of": self.bench.now}
        usual |= {"placed": self.placed, "nonces": OnceStore()}
        try:
            check_answer(load_receipt_file(file if isinstance(file, bytes) else file.dump()), **(usual | options))
        except ReceiptError as error:
            return error
        except InputError as error:
            return ReceiptError(READING, error, "a receipt file")
        return None

    # run again, disputed

    @property
    def trees(self) -> ModelTrees:
        return self.bench.trees

    @cached_property
    def honest(self) -> Run:
        """The honest run of the answer."""
        honest = self.run()
        if honest.trace != self.answer.trace:
            raise ModelError("run again: found another trace than the one committed while answering")
        return honest

    def run(self, tamper: Tamper | None = None, *, token_ids: tuple[int, ...] | None = None) -> Run:
        """A player's run of the answer: honest, with one value changed, or on other tokens than
        were chosen."""
        ids = token_ids or self.answer.token_ids
        model, prompt = self.bench.disputed, self.answer.prompt_ids
        own: dict[str, Any] = {"prompt_seed": self.said.prompt_seed, "order_id": self.order.id}
        return Run(model, self.trees, prompt, ids, self.salts, self.decoding, tamper, **own)

    def with_token(self, step: int, token: int) -> Run:
        """The run on the answer with token number ``step`` replaced: what follows is computed from
        the false one."""
        ids = self.answer.token_ids
        return self.run(token_ids=(*ids[:step], token % self.trees.dims.vocab, *ids[step + 1 :]))

    def effective(self, position: int, layer: int, operator: int, element: int) -> Tamper:
        """The smallest power of two whose addition there changes what the trace holds.

        Raises:
            InputError: none does.
        """
        honest = self.honest.execution(LAYER, position, layer)
        names = [self.trees.dims.kept(row)[0] for row in range(3)]
        kept = [number for number, each in enumerate(honest.program) if each.name in names]
        for power in range(50):
            tamper = Tamper(position, layer, operator, element, 2**power)
            false = replace(honest, alter=tamper)
            if any((false.vectors[at] != honest.vectors[at]).any() for at in kept):
                return tamper
        raise InputError(f"operator {operator}, element {element}: found no change that reaches the trace")

    def dispute(self, false: Run, token: int = 0, terms: Terms = TERMS) -> dict[str, Any]:
        """Dispute ``false`` on a fresh chain, and tell what it took (``disputes.dispute``)."""
        return disputes.dispute(self.order, self.honest, false, token, terms)

    def crowd(self, challengers: int, terms: Terms, *, slot_s: int, stall: bool, seed: int) -> Crowd:
        """So many challengers of the honest answer at once (``disputes.crowd``)."""
        return disputes.crowd(self.order, self.honest, challengers, terms, slot_s=slot_s, stall=stall, seed=seed)

    # spot-checked

    @cached_property
    def checked(self) -> CheckedOperator:
        """The operator as a spot check asks it: for rows of a place, then for a unit with its
        proof."""
        bench = self.bench
        said = (self.answer, self.receipt, self.salts)
        return CheckedOperator(bench.portable, *said, bench.layout, bench.circuits)


def resigned(file: ReceiptFile, enclave: SimulatedEnclave, **changes: Any) -> ReceiptFile:
    """``file`` with a receipt that says something else, signed again by the key of ``enclave``
    under the domain of the order in the file."""
    signed = sign_receipt(enclave.signing_key, file.order, replace(file.receipt, **changes))
    return replace(file, receipt=signed.receipt, signature=signed.signature)
