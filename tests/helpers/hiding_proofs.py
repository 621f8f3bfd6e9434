"""A tiny answer proven under a commitment that hides the model; provers whose draws and challenges are fixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof.field import Words
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import check_proven, converse, proven_statement
from otr_node.portable import PortableModel
from otr_node.proof.answers import KeptCommitment, commit_for_proofs
from otr_node.proof.hiding import HidingProver
from tests.helpers.answer_proofs import ProvableAnswer, provable

ANSWERS = 2


def hiding_commitment(model: PortableModel, seed: bytes = b"k" * 32) -> KeptCommitment:
    """A commitment for two answers."""
    return commit_for_proofs(model, lambda line: None, seed, ANSWERS)


def hiding_prover(
    answer: ProvableAnswer,
    under: KeptCommitment,
    prover: type[HidingProver] = HidingProver,
    channel: Channel | None = None,
    model: PortableModel | None = None,
) -> HidingProver:
    """A prover of an answer whose ``sizes`` are hidden ones; it has said nothing yet."""
    held = model or answer.model
    side = prover(
        channel or Channel(), answer.sizes, held.architecture, held, answer.tokens, answer.draws, under.commitment
    )
    side.column_hashes, side.seed = under.hashes, under.seed
    return side


def speak(answer: ProvableAnswer, under: KeptCommitment, side: HidingProver, witness: Any) -> bytes:
    """The proof of a prover."""
    root = side.commit(witness)
    converse(side, proven_statement(answer.file, answer.said, answer.response, under.commitment), root, None)
    return side.channel.proof


class Programmed(Channel):
    """A sending side whose challenges depend on nothing that is said, and who keeps each message.

    Attributes:
        said: (label, bytes) in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, bytes]] = []
        self._drawn = 0

    def absorb(self, label: str, data: bytes) -> None:
        self._drawn += 1
        self._state = hashlib.sha256(f"{label} {self._drawn}".encode()).digest()

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        message = super().data(label, size, make)
        self.said.append((label, message))
        return message

    def words_of(self, label: str) -> Words:
        """All numbers that were said under a label."""
        return np.frombuffer(b"".join(raw for own, raw in self.said if own == label), "<u8")


class Draws:
    """A source whose n-th draw is always the same, but for those that are asked to be others."""

    def __init__(self, *others: int) -> None:
        self._others, self.count = others, 0

    def __call__(self, size: int) -> bytes:
        other = b"other" if self.count in self._others else b""
        self.count += 1
        return hashlib.shake_256(other + self.count.to_bytes(4, "little")).digest(size)


@pytest.fixture(scope="session")
def hidden_answer(tiny_portable: PortableModel) -> ProvableAnswer:
    """Two words, three tokens; what is proven of it is hidden."""
    found = provable(tiny_portable, "w3 w4", Decoding(3))
    bounds, own = tiny_portable.bounds.saturation, tiny_portable.manifest.model_id
    found.sizes = check_proven(found.file, found.said, found.response, model_id=own, saturation=bounds, hidden=True)
    return found


@pytest.fixture(scope="session")
def hiding(tiny_portable: PortableModel) -> KeptCommitment:
    """The commitment that hides the tiny model."""
    return hiding_commitment(tiny_portable)


@pytest.fixture(scope="session")
def hiding_proof(hidden_answer: ProvableAnswer, hiding: KeptCommitment) -> bytes:
    """The proof of the three tokens."""
    return speak(hidden_answer, hiding, hiding_prover(hidden_answer, hiding), hidden_answer.witness())
