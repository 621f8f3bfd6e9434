"""The workbench: an operator with a model, and everything the protocol makes of an answer.

``Workbench`` is the operator's machine, ``Served`` one query put to it. Both make each thing when
it is first asked for, so that whoever looks at receipts loads no circuit, and whoever looks at
proofs no court. Every secret derives from one seed, so that results repeat; a real client and a
real enclave draw theirs at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from eth_keys import keys

from otr_core.dispute.records import Terms
from otr_core.encoding import tagged_hash
from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane import program as pr
from otr_core.lane.element import LAYER
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message, sign_receipt
from otr_core.poea.simulated import TEST_ROOT
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.verify import verify_receipt
from otr_core.spotcheck.units import SMALL, Layout, Unit
from otr_core.spotcheck.verify import Verifier
from otr_node import prover
from otr_node.commitment import ModelTrees, commit_model
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer, generate
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.models import model_folder
from otr_node.portable import LANE, PortableModel
from otr_node.project import Project
from otr_node.run import Run, Tamper
from otr_node.serve import open_query, sign_answer, trace_seed
from otr_node.spotchecks import CheckedOperator, embedding, weights_of
from otr_paper.benches import disputes
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
        """The model as exact integers, which alone can be disputed and proven.

        Raises:
            ModelError: it runs in another lane.
        """
        if not isinstance(self.model, PortableModel):
            raise ModelError(f"lane: found {self.lane}, expected {LANE}")
        return self.model

    @cached_property
    def trees(self) -> ModelTrees:
        """What a court's registry holds of the model."""
        return commit_model(self.portable)

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
    """One query at a workbench.

    Attributes:
        place: tells the enclaves (and clients) of a workbench apart, number: the orders of one
            client.
        trace_secret: 32 bytes from which the trace's salts derive; None: the enclave's own, as in
            every receipt.
    """

    bench: Workbench
    prompt: str
    decoding: Decoding
    place: str = ""
    number: str = ""
    trace_secret: bytes | None = None

    # ordered, answered, signed, judged

    @cached_property
    def enclave(self) -> SimulatedEnclave:
        return self.bench.enclave(self.place)

    @cached_property
    def _ordered(self) -> tuple[Job, Message]:
        secret, order_name = self.bench.secret, f"{self.place}{self.number}"
        return order(
            self.prompt,
            model_id=self.bench.model.manifest.model_id,
            decoding=self.decoding,
            job_id=secret(f"job{order_name}"),
            nonce=secret(f"nonce{order_name}"),
            seal_to=self.enclave.keys.hpke,
            client_secret=secret(f"client{self.place}"),
        )

    @property
    def job(self) -> Job:
        return self._ordered[0]

    @property
    def query(self) -> Message:
        """Sealed to the enclave."""
        return self._ordered[1]

    @cached_property
    def reply_to(self) -> bytes | None:
        """The key to which the client wants the answer sealed; known to the enclave that opens the
        query."""
        return open_query(self.enclave, self.job, self.query)[1]

    @property
    def salts(self) -> bytes:
        """32 bytes from which the salts of the trace derive."""
        return self.trace_secret or trace_seed(self.enclave, self.job)

    @cached_property
    def answer(self) -> Answer:
        return generate(self.bench.model, self.prompt, self.decoding, trace_seed=self.salts)

    @cached_property
    def file(self) -> ReceiptFile:
        """The receipt of the answer."""
        return self.sign(self.answer)

    def sign(self, answer: Answer) -> ReceiptFile:
        """The receipt of any answer: an enclave that is broken signs what its operator likes.

        Raises:
            InputError: the trace has a secret that is not the enclave's, which the receipt would
                not tell the client.
        """
        if self.trace_secret is not None:
            raise InputError("receipt: found a trace secret of the bench's own, expected the enclave's")
        return sign_answer(self.enclave, self.bench.model, self.job, self.query, answer, self.reply_to)

    def passed_off(self, cheap: Served) -> ReceiptFile:
        """The receipt of another model's answer, put under the ordered model's name by a TEE that
        works otherwise."""
        renamed = resigned(cheap.file, cheap.enclave, model_id=self.job.model_id)
        return replace(renamed, job=self.job, model=self.bench.model.manifest)

    def rejection(self, file: ReceiptFile, **options: Any) -> ReceiptError | None:
        """Why the client of this query rejects ``file``, None if it does not.

        Args:
            options: of ``verify_receipt``, in the place of: simulated evidence is fine, now, this
                job.
        """
        policy = EvidencePolicy(allow_simulated=True)
        usual: dict[str, Any] = {"policy": policy, "as_of": self.bench.now, "job": self.job}
        try:
            verify_receipt(file, **(usual | options))
        except ReceiptError as error:
            return error
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
        model, prompt = self.bench.portable, self.answer.prompt_ids
        return Run(model, self.trees, prompt, ids, self.salts, self.decoding, tamper)

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
        kept = (pr.LayerOperator.OUTPUT, pr.LayerOperator.KEY, pr.LayerOperator.QKV)
        for power in range(50):
            tamper = Tamper(position, layer, operator, element, 2**power)
            false = replace(honest, alter=tamper)
            if any((false.vectors[at] != honest.vectors[at]).any() for at in kept):
                return tamper
        raise InputError(f"operator {operator}, element {element}: found no change that reaches the trace")

    def dispute(self, false: Run, token: int = 0, terms: Terms = TERMS) -> dict[str, Any]:
        """Dispute ``false`` on a fresh chain, and tell what it took (``disputes.dispute``)."""
        return disputes.dispute(self.honest, false, token, terms)

    def crowd(self, challengers: int, terms: Terms, *, slot_s: int, stall: bool, seed: int) -> Crowd:
        """So many challengers of the honest answer at once (``disputes.crowd``)."""
        return disputes.crowd(self.honest, challengers, terms, slot_s=slot_s, stall=stall, seed=seed)

    # spot-checked

    @cached_property
    def checked(self) -> CheckedOperator:
        """The operator as a spot check asks it: for rows of a place, then for a unit with its
        proof."""
        bench = self.bench
        return CheckedOperator(bench.portable, self.answer, self.salts, bench.layout, bench.circuits)


def resigned(file: ReceiptFile, enclave: SimulatedEnclave, **changes: Any) -> ReceiptFile:
    """``file`` with a receipt that says something else, signed again by the key of ``enclave``."""
    signed = sign_receipt(keys.PrivateKey(enclave.signing_key), replace(file.receipt, **changes))
    return replace(file, receipt=signed.receipt, signature=signed.signature)
