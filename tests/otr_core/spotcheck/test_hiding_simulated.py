"""What a proof that hides tells could have been made without the model: a simulator that knows the statement
alone, and the challenges before it speaks, says what the verifier accepts.

Its numbers are drawn, all that are not fixed by what the verifier computes. Those of an honest prover are as
uniform, which ``test_hiding_proof`` shows of each; so the two cannot be told apart, whatever the witness is.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from otr_core.errors import AnswerProofError
from otr_core.spotcheck.proof import hiding as protocol
from otr_core.spotcheck.proof.commitment import code_word_at, column_leaf, combined_columns
from otr_core.spotcheck.proof.field import Ext, Words, dot, sub, xmul
from otr_core.spotcheck.proof.hiding import SALT
from otr_core.spotcheck.proof.masked import Book
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import converse, proven_statement
from otr_node.proof.cells import paths_at, tree_over
from otr_node.proof.randomness import field_numbers, seeded
from tests.helpers.answer_proofs import signed_lie


class Told(Channel):
    """A channel whose challenges are known before anything is said."""

    def absorb(self, label: str, data: bytes) -> None:
        self._count = getattr(self, "_count", 0) + 1
        self._state = hashlib.sha256(f"{label} {self._count}".encode()).digest()


class Drawn(Told):
    """What the simulator says: numbers that are drawn, but for those that it solves for."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator, self._draws = simulator, 0

    def _draw(self, *shape: int) -> Words:
        self._draws += 1
        return field_numbers(shape, seeded(b"simulator", str(self._draws)))

    def clear(self, label, count, make):
        own = None if label == "rounds mask sum" else self._draw(count, 2)
        return super().clear(label, count, make if own is None else lambda: own)

    def words(self, label, shape, make):
        return super().words(label, shape, make if "columns" in label else lambda: self._draw(*shape))


class Simulator:
    """Whoever speaks without a witness. It speaks twice: first to learn what it will be asked."""

    def __init__(self) -> None:
        self.book, self.mask_root, self.root, self.model_root = Book(), bytes(32), bytes(32), bytes(32)
        self.rows: dict[str, Any] = {}
        self.shown: dict[str, Words] = {}
        self.trees: dict[str, Any] = {}
        self.mask_total = Ext(0)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self

    def round_masks(self) -> None:
        return None

    def mask_sum(self, of: str, across: Words) -> Words:
        return self.mask_total.words[None]

    def weight_opener(self) -> Any:
        return _Shows(self, "weights ")

    def hiding_columns(self) -> Any:
        return _Shows(self, "weights mask ")

    def columns_at(self, places: list[int]) -> Words:
        return _Shows(self, "").columns_at(places)

    def paths_at(self, places: list[int]) -> bytes:
        return _Shows(self, "").paths_at(places)

    def solve(self, rows: int, bits: dict[str, int], places: dict[str, list[int]]) -> None:
        """Columns that fit the combined rows, and trees over them."""
        of = "weights "
        row, epsilon, high = self.rows[of]
        count = len(high)
        model = field_numbers((len(places[of]), count + SALT), seeded(b"simulator", of))
        known = combined_columns(model[:, :count], xmul(high, epsilon.words))
        self.shown[of] = model
        self.shown["weights mask "] = self._hides(sub(code_word_at(row, places[of], bits[of]), known), of)
        row, epsilon, high = self.rows[""]
        own = field_numbers((len(places[""]), rows + 6 + SALT), seeded(b"simulator", "witness"))
        known = combined_columns(own[:, :rows], xmul(high, epsilon.words))
        own[:, rows : rows + 2] = sub(code_word_at(row, places[""], bits[""]), known)
        row, epsilon, _ = self.rows["rounds "]
        known = xmul(own[:, rows + 2 : rows + 4], epsilon.words)
        own[:, rows + 4 : rows + 6] = sub(code_word_at(row, places[""], bits[""]), known)
        self.shown[""] = own
        for name, columns in self.shown.items():
            at = "weights " if name else ""
            leaves = [hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(1 << bits[at])]
            for place, column in zip(places[at], columns, strict=True):
                leaves[place] = column_leaf(column)
            self.trees[name] = tree_over(b"".join(leaves))
        self.root, self.model_root, self.mask_root = (
            self.trees[name].root for name in ("", "weights ", "weights mask ")
        )

    def _hides(self, columns: Words, of: str) -> Words:
        salts = field_numbers((len(columns), SALT), seeded(b"simulator", f"{of} salts"))
        return np.concatenate([columns, salts], 1)


class _Shows:
    """Columns as the simulator solved for them; zeros while it learns what it is asked."""

    def __init__(self, simulator: Simulator, of: str) -> None:
        self._simulator, self._of = simulator, of

    def columns_at(self, places: list[int]) -> Any:
        return self._simulator.shown.get(self._of, self._simulator)

    def paths_at(self, places: list[int]) -> bytes:
        return paths_at(self._simulator.trees[self._of], places)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self._simulator


class _Learning(Drawn):
    """The first time: columns and paths are not yet there."""

    def words(self, label, shape, make):
        return super().words(label, shape, (lambda: np.zeros(shape, np.uint64)) if "columns" in label else make)

    def data(self, label, size, make):
        return super().data(label, size, (lambda: bytes(size)) if "paths" in label else make)

    def places(self, label, count, below_bits):
        found = super().places(label, count, below_bits)
        self._simulator.rows[f"places {label}"] = found, below_bits
        return found


@pytest.fixture
def learned(monkeypatch):
    """Every combined row with its weights and challenge, as it is said."""
    kept: dict[str, Any] = {}
    honest = protocol.say_row

    def remembered(p, of, code, opened, high, across):
        row, epsilon = honest(p, of, code, opened, high, across)
        kept[of] = row, epsilon, high, opened, across
        return row, epsilon

    monkeypatch.setattr(protocol, "say_row", remembered)
    return kept


def _speak(answer, kept, simulator: Simulator, kind: type[Drawn]) -> tuple[Drawn, Any]:
    committed = replace(kept.commitment, root=simulator.model_root)
    channel = kind(simulator)
    own = (answer.sizes, answer.model.architecture, None, answer.tokens, answer.draws, committed)
    side = Party(channel, *own)
    side.sender = side.hider = simulator
    simulator.book = Book(np.zeros((0, 2), np.uint64))
    converse(side, proven_statement(answer.file, answer.said, answer.response, committed), simulator.root, None)
    return channel, committed


def _listen(answer, committed, proof: bytes) -> None:
    """The verifier, with the challenges that were known before."""
    own = (answer.sizes, answer.model.architecture, None, answer.tokens, answer.draws, committed)
    side = Party(Told(proof), *own)
    converse(side, proven_statement(answer.file, answer.said, answer.response, committed), b"", None)


def _simulate(answer, kept, learned) -> tuple[bytes, Any]:
    """A conversation that nobody who knows the model took part in, and the commitment that goes with it."""
    simulator = Simulator()
    _speak(answer, kept, simulator, _Learning)
    for of, (row, epsilon, high, _, _) in learned.items():
        simulator.rows[of] = row, epsilon, high
    row, epsilon, _, opened, across = learned["rounds "]
    simulator.mask_total = dot(row[: len(across)], across) - opened * epsilon
    found = {"weights ": simulator.rows["places weights columns"], "": simulator.rows["places columns"]}
    rows = len(simulator.rows[""][2])
    simulator.solve(rows, {of: bits for of, (_, bits) in found.items()}, {of: at for of, (at, _) in found.items()})
    channel, committed = _speak(answer, kept, simulator, Drawn)
    return channel.proof, committed


@pytest.fixture
def simulated(hidden_answer, hiding, learned):
    """Of the tiny model's answer."""
    return _simulate(hidden_answer, hiding, learned)


def test_the_verifier_accepts_what_was_said_without_the_model(hidden_answer, simulated, hiding_proof):
    proof, committed = simulated
    _listen(hidden_answer, committed, proof)
    assert len(proof) == pytest.approx(len(hiding_proof), rel=0.01)


def test_it_accepts_the_same_of_an_answer_that_the_model_does_not_give(hidden_answer, hiding, learned):
    """So that nothing in it depends on what is true: what convinces are challenges that follow from what was said."""
    chosen = hidden_answer.response.token_ids
    lie = signed_lie(hidden_answer, (*chosen[:-1], (chosen[-1] + 1) % hidden_answer.model.dims.vocab))
    lie.sizes = hidden_answer.sizes
    proof, committed = _simulate(lie, hiding, learned)
    _listen(lie, committed, proof)
    with pytest.raises(AnswerProofError):
        lie.check_under(proof, committed)


def test_a_number_of_it_that_is_another_is_refused(hidden_answer, simulated):
    proof, committed = simulated
    for share in (0.2, 0.5, 0.8):  # combined rows, and columns, are most of it
        at = int(share * len(proof)) // 8 * 8 + len(proof) % 8
        changed = proof[:at] + bytes(8) + proof[at + 8 :]
        with pytest.raises(AnswerProofError):
            _listen(hidden_answer, committed, changed)
