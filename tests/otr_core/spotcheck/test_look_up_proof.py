"""Forgers of the trees of fractions: each is consistent from its lie on, so that one check alone finds it."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import AnswerProofError
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof import layout
from otr_core.spotcheck.proof.field import ZERO, Ext, P
from otr_core.spotcheck.proof.sumcheck import sum_fractions, sumcheck
from otr_core.spotcheck.proof.transcript import Channel
from otr_node.proof import prover
from otr_node.proof.prover import AnswerProver, Fractions
from tests.helpers.answer_proofs import provable, refused

TREES = ("ranges", "look up exp", "look up chance", "look up sigmoid", "table range", "table exp", "table sigmoid")


def forge(monkeypatch, answer, tree: str, build, number: int = 1) -> bytes:
    """A proof whose first tree of this name, or the one with this number, is another."""
    label: list[str] = []

    class Forger(AnswerProver):
        def __init__(self, *given):
            super().__init__(*given)
            self.report = label.append

    def made(leaves, room):
        if label[-1].startswith(f"  {tree},") and sum(line.startswith(f"  {tree},") for line in label) == number:
            return build(leaves)
        return Fractions(leaves)

    with monkeypatch.context() as own:
        own.setattr(prover, "Fractions", made)
        return answer.prove(prover=Forger)


@pytest.mark.parametrize("tree", TREES)
def test_numerators_and_denominators_are_those_of_the_cells(drawn_answer, monkeypatch, tree):
    """A look-up that counts twice, or of another key; the sums that follow are the right ones of these."""
    for word in (0, 2):

        def build(leaves, word=word):
            if len(leaves) == 2:  # denominators alone: every numerator is one
                ones = np.broadcast_to(np.array([[1], [0]], np.uint64), leaves.shape)
                leaves = np.concatenate([ones, leaves])
            leaves[word, 0] = (int(leaves[word, 0]) + 1) % P
            return Fractions(leaves)

        assert refused(drawn_answer, forge(monkeypatch, drawn_answer, tree, build)) == tree


def counted_twice(leaves):
    """The first fraction of a tree for two, or of another key where numerators are all one."""
    leaves[0, 0] = (int(leaves[0, 0]) + 1) % P
    return Fractions(leaves)


def test_every_tree_of_a_group_is_compared_and_every_group(tiny_portable, monkeypatch):
    """As of long answers, at a small size."""
    monkeypatch.setattr(layout, "MOST_LOOKUPS_BITS", 15)
    monkeypatch.setattr(layout, "MOST_LEAVES_BITS", 13)
    answer = provable(tiny_portable, "w3 w4", Decoding(5, 1, 900))
    groups = answer.sizes.lookup_groups["range"]
    trees = sum(len(answer.sizes.trees(group.cells)) for group in groups)
    assert trees > len(groups) > 1
    for number in range(1, trees + 1):
        assert refused(answer, forge(monkeypatch, answer, "ranges", counted_twice, number)) == "ranges"
    for number in range(1, len(groups) + 1):
        assert refused(answer, forge(monkeypatch, answer, "table range", counted_twice, number)) == "table range"


@pytest.mark.parametrize("tree", TREES)
def test_a_level_follows_from_the_one_above(drawn_answer, monkeypatch, tree):
    """Two halves that give the right sum and are not the tree's; each later message is the tree's own."""

    class Shared(Fractions):
        told = False

        def ends(self):
            found = super().ends()
            if not self.told:
                self.told = True
                p0, p1, q0, q1 = (Ext.of(each) for each in found.reshape(4, 2))
                found = np.stack([each.words for each in (p0 + q0, p1 - q1, q0, q1)]).reshape(found.shape)
            return found

    assert refused(drawn_answer, forge(monkeypatch, drawn_answer, tree, Shared)) == tree


@pytest.mark.parametrize("tree", TREES)
def test_a_sum_is_that_of_the_two_halves(drawn_answer, monkeypatch, tree):
    """Another sum of fractions is told, and below it the tree is as it is."""

    class Told(Fractions):
        def root(self):
            p, q = (Ext.of(each) for each in super().root())
            return np.stack([(p + q).words, q.words])

    assert refused(drawn_answer, forge(monkeypatch, drawn_answer, tree, Told)) == tree


def test_a_tree_whose_denominator_is_zero_is_refused():
    """Of two such trees every sum of fractions would be 0."""
    words = np.array([[1, 0], [0, 0]], "<u8")
    with pytest.raises(AnswerProofError, match="a denominator of zero"):
        sum_fractions(Channel(words.tobytes()), "tree", 3, lambda: pytest.fail("a verifier makes nothing"))


def test_a_sum_check_is_of_the_claim():
    """Rounds that are right for another sum."""

    class Rounds:
        def __init__(self):
            self.values = [Ext(number, 0) for number in (3, 5, 7, 11)]

        def message(self):
            (low, high), sums = (self.values[::2], self.values[1::2]), []
            for at in range(2):
                sums.append(sum((a + (b - a) * at for a, b in zip(low, high, strict=True)), ZERO))
            return np.stack([each.words for each in sums])

        def bind(self, challenge):
            pairs = zip(self.values[::2], self.values[1::2], strict=True)
            self.values = [a + (b - a) * challenge for a, b in pairs]

    channel = Channel()
    sumcheck(channel, "sum", Ext(26, 0), (4,), 1, Rounds)
    sumcheck(Channel(channel.proof), "sum", Ext(26, 0), (4,), 1, Rounds)
    with pytest.raises(AnswerProofError, match="a round that sums to another value"):
        sumcheck(Channel(channel.proof), "sum", Ext(27, 0), (4,), 1, Rounds)
