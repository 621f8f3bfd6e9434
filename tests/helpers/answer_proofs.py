"""A tiny answer with what it takes to prove it, honestly and not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.errors import AnswerProofError, OtrError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import PlacedOrder
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Query, Response
from otr_core.poea.once import OnceStore
from otr_core.poea.trace import token_leaves
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.facts import Facts
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import (
    ProvenAnswer,
    check_committed,
    check_proof,
    check_proven,
    converse,
    draws_of,
    proven_statement,
)
from otr_node.answers import order_of_model
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import Answer
from otr_node.portable import PortableModel, load_portable
from otr_node.proof.answers import KeptCommitment, commit_for_proofs
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import Witness, make_witness
from otr_node.proof.witness_rows import Change
from otr_node.serve import serve, sign_answer
from otr_paper.labs.tiny import write_tiny


@dataclass
class ProvableAnswer:
    """A served answer of the tiny model, and provers and the verifier for it."""

    model: PortableModel
    placed: PlacedOrder
    computed: Answer
    file: ReceiptFile
    said: Query
    response: Response
    sizes: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = check_proven(
            self.file,
            self.said,
            self.response,
            model_id=self.model.manifest.model_id,
            saturation=self.model.bounds.saturation,
        )

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.said.prompt_ids, *self.response.token_ids)

    @property
    def draws(self) -> tuple[int, ...]:
        return draws_of(self.file.order, self.sizes.answer)

    def witness(self, change: Change | None = None, model: PortableModel | None = None) -> Witness:
        """What a prover runs."""
        return make_witness(model or self.model, self.sizes, self.tokens, change, draws=self.draws)

    def prove(
        self,
        change: Change | None = None,
        facts: Callable[[Facts], Facts] = lambda facts: facts,
        prover: type[AnswerProver] = AnswerProver,
        bound: dict[str, Any] | None = None,
        channel: Channel | None = None,
        under: KeptCommitment | None = None,
        model: PortableModel | None = None,
    ) -> bytes:
        """A proof by a prover whose witness, facts or messages are changed.

        Args:
            under: for a verifier who holds this commitment. model: what is run and opened; None:
                this answer's.
        """
        witness = self.witness(change, model)
        witness = replace(witness, facts=facts(witness.facts))
        statement = (self.sizes, self.model.architecture, model or self.model, self.tokens, self.draws)
        if under is None:
            side = prover(channel or Channel(), *statement)
        else:
            side = prover(channel or Channel(), *statement, under.commitment)
            side.column_hashes = under.hashes
        root = side.commit(witness)
        committed = None if under is None else under.commitment
        own = proven_statement(self.file, self.said, self.response, committed) if bound is None else bound
        converse(side, own, root, witness.facts)
        return side.channel.proof

    def check(self, proof: bytes, **other: Any) -> ProvenAnswer:
        """What the verifier says."""
        given: dict[str, Any] = {"file": self.file, "said": self.said, "response": self.response}
        held = {"model": self.model, "model_id": self.model.manifest.model_id}
        return check_proof(proof, **{**given, **held, "saturation": self.model.bounds.saturation, **other})

    def check_under(self, proof: bytes, committed: ModelCommitment, **other: Any) -> ProvenAnswer:
        """What a verifier says who holds a commitment to the model alone."""
        given: dict[str, Any] = {"file": self.file, "said": self.said, "response": self.response}
        return check_committed(proof, **{**given, "committed": committed, **other})


class Marking(Channel):
    """Keeps where each message lies in the proof."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[str, int, int]] = []
        self.at = 0

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        self.marks.append((label, self.at, size))
        self.at += size
        return super().data(label, size, make)


def one_more_each(answer: ProvableAnswer, after: str) -> dict[int, bytes]:
    """By the offset of a message: the honest proof with one more in that message's first word. Of all claims about
    columns, and of each other kind of message, behind the last one of a label, the first."""
    channel = Marking()
    honest = answer.prove(channel=channel)
    begin = max(number for number, mark in enumerate(channel.marks) if mark[0] == after)
    found, seen = {}, set()
    for label, at, size in channel.marks[begin + 1 :]:
        if label in seen and not (label in answer.sizes.columns and size == 16):
            continue
        seen.add(label)
        own = ((int.from_bytes(honest[at : at + 8], "little") + 1) % P).to_bytes(8, "little")
        found[at] = honest[:at] + own + honest[at + 8 :]
    return found


def counting(seen: dict[str, int]) -> type[AnswerProver]:
    """A prover that counts a statement's steps: equalities of relations, sum-checks, and claims of either kind."""

    class Counting(AnswerProver):
        def equal(self, check: str, found: Any, expected: Any) -> None:
            seen["equal"] = seen.get("equal", 0) + (
                not check.startswith(("look", "ranges", "table", "join", "opening"))
            )

        def reduce(self, *given: Any) -> Any:
            seen["reduce"] = seen.get("reduce", 0) + 1
            return super().reduce(*given)

        def join(self, claim_powers: list[Any]) -> Any:
            seen["columns"], seen["flat"] = len(self.ledger.numbers), len(self.ledger.flat)
            return super().join(claim_powers)

    return Counting


def provable(model: PortableModel, prompt: str, decoding: Decoding, tag: bytes = b"\x07") -> ProvableAnswer:
    """A served answer."""
    placed = order_of_model(model, prompt, decoding, secret=lambda count: tag * count)
    enclave = SimulatedEnclave(b"s" * 32, model.manifest.model_id, b"g" * 32, 1)
    file, computed = serve(enclave, model, placed.order, placed.query, served=OnceStore(None))
    return ProvableAnswer(model, placed, computed, file, placed.said, Response.from_json(file.response.plain))


def refused(answer: ProvableAnswer, proof: bytes, **other: Any) -> str:
    """The check that refuses a proof."""
    with pytest.raises(OtrError) as caught:
        answer.check(proof, **other)
    assert isinstance(caught.value, AnswerProofError | ReceiptError)
    return caught.value.check


def refused_under(answer: ProvableAnswer, proof: bytes, committed: ModelCommitment, **other: Any) -> str:
    """The check that refuses a proof under a commitment."""
    with pytest.raises(OtrError) as caught:
        answer.check_under(proof, committed, **other)
    assert isinstance(caught.value, AnswerProofError | ReceiptError)
    return caught.value.check


def signed_lie(honest: ProvableAnswer, token_ids: tuple[int, ...]) -> ProvableAnswer:
    """The same with other chosen tokens, in a receipt that is consistent and signed for them."""
    enclave = SimulatedEnclave(b"s" * 32, honest.model.manifest.model_id, b"g" * 32, 1)
    order, said = honest.placed.order, honest.said
    leaves = token_leaves(said.prompt_ids, said.prompt_seed, token_ids, honest.response.trace_seed)
    told = replace(honest.computed, token_ids=token_ids, trace=replace(honest.computed.committed, tokens=tuple(leaves)))
    file = sign_answer(enclave, honest.model, order, honest.placed.query, said, told)
    response = Response.from_json(file.response.plain)
    return ProvableAnswer(honest.model, honest.placed, told, file, said, response)


@pytest.fixture(scope="session")
def tiny_portable(tmp_path_factory: pytest.TempPathFactory) -> PortableModel:
    """The tiny checkpoint in the portable lane."""
    folder: Path = write_tiny(tmp_path_factory.mktemp("tiny-proof"))
    return load_portable(folder)


@pytest.fixture(scope="session")
def answer(tiny_portable: PortableModel) -> ProvableAnswer:
    """Five words, nine tokens."""
    return provable(tiny_portable, "w3 w4 w5 w6 w7", Decoding(9))


@pytest.fixture(scope="session")
def honest_proof(answer: ProvableAnswer) -> bytes:
    """Its proof."""
    return answer.prove()


@pytest.fixture(scope="session")
def drawn_answer(tiny_portable: PortableModel) -> ProvableAnswer:
    """Three words, seven tokens drawn at temperature 0.9."""
    return provable(tiny_portable, "w3 w4 w5", Decoding(7, 1, 900))


@pytest.fixture(scope="session")
def drawn_proof(drawn_answer: ProvableAnswer) -> bytes:
    """Its proof."""
    return drawn_answer.prove()


@pytest.fixture(scope="session")
def tiny_commitment(tiny_portable: PortableModel) -> KeptCommitment:
    """The commitment to the tiny model."""
    return commit_for_proofs(tiny_portable, lambda line: None)


@pytest.fixture(scope="session")
def committed_proof(answer: ProvableAnswer, tiny_commitment: KeptCommitment) -> bytes:
    """The proof of the nine tokens for a verifier who holds that commitment."""
    return answer.prove(under=tiny_commitment)
