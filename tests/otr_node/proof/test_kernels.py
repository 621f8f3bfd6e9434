"""The prover's loops give what the verifier's definitions say."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.spotcheck.proof import field
from otr_core.spotcheck.proof.field import Ext, P
from otr_node.proof import arithmetic, kernels
from otr_node.proof.cells import CodeWords
from otr_node.proof.prover import Fractions, Products, combined_integers, words_apart

EDGES = [0, 1, 2**32 - 1, 2**32, 2**63, P - 2**32, P - 2, P - 1]


def elements(count: int, seed: int = 0) -> np.ndarray:
    """Elements of the field, edges among them."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, P, count, dtype=np.uint64)
    at = rng.integers(0, count, count // 2)
    found[at] = np.array(EDGES, np.uint64)[rng.integers(0, len(EDGES), len(at))]
    return found


def test_the_field_is_the_integers_modulo_p():
    pairs = [(a, b) for a in EDGES for b in EDGES]
    x, y = (np.array(side, np.uint64) for side in zip(*pairs, strict=True))
    assert field.mul(x, y).tolist() == [a * b % P for a, b in pairs]
    assert field.add(x, y).tolist() == [(a + b) % P for a, b in pairs]
    assert field.sub(x, y).tolist() == [(a - b) % P for a, b in pairs]
    assert int(field.total(x)) == sum(a for a, _ in pairs) % P


def test_seven_is_no_square_and_the_roots_have_their_order():
    assert pow(field.NON_RESIDUE, (P - 1) // 2, P) == P - 1
    for bits in (1, 5, 32):
        root = field.root_of_unity(bits)
        assert pow(root, 1 << bits, P) == 1
        assert pow(root, 1 << (bits - 1), P) == P - 1


def test_products_of_the_extension():
    a, b = elements(400).reshape(-1, 2), elements(400, 1).reshape(-1, 2)
    expected = field.xmul(a, b)
    out = np.empty((2, len(a)), np.uint64)
    arithmetic.multiply(*np.ascontiguousarray(a.T), *np.ascontiguousarray(b.T), *out)
    assert (expected == out.T).all()
    for x, y, z in zip(a[:20], b[:20], expected[:20], strict=True):
        assert Ext.of(x) * Ext.of(y) == Ext.of(z)


def test_code_words_are_the_values_of_the_row_s_polynomial():
    cells = elements(3 * 64).reshape(3, 64)
    ((_, words),) = CodeWords.of(cells).parts()
    padded = np.concatenate([cells, np.zeros_like(cells)], 1)
    assert (words == field.transform(padded)).all()
    root = field.root_of_unity(7)
    for place in (0, 1, 77):
        value = sum(int(c) * pow(root, place * i, P) for i, c in enumerate(cells[1])) % P
        assert int(words[1, place]) == value


@pytest.mark.parametrize("bits", [11, 12, 13])
def test_longer_code_words_go_another_way(bits):
    cells = elements(2 << (bits - 1)).reshape(2, -1)
    ((_, words),) = CodeWords.of(cells).parts()
    assert (words == field.transform(np.concatenate([cells, np.zeros_like(cells)], 1))).all()


SHIFT = 2**25
"""Cells within which sums are reduced once in 64 products."""


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64), (65, 513), (130, 2)])
@pytest.mark.parametrize("kind", ["small", "signed", "largest", "least", "any"])
def test_sums_that_are_reduced_late_are_the_sums(shape, kind):
    rng = np.random.default_rng(5)
    cells = {
        "small": field.residues(rng.integers(0, SHIFT, shape)),
        "signed": field.residues(rng.integers(-SHIFT, SHIFT, shape)),
        "largest": np.full(shape, SHIFT - 1, np.uint64),
        "least": np.full(shape, P - SHIFT, np.uint64),
        "any": rng.choice(np.array([*EDGES, SHIFT - 1, SHIFT, P - SHIFT, P - SHIFT - 1], np.uint64), shape),
    }[kind]
    for word in (P - 1, 2**32 - 1, 1):  # halves of all ones: with the largest cells the sum is one step below 2^64
        weights = np.full((shape[0], 2), word, np.uint64)
        weights[1:, 1] = elements(shape[0])[1:]
        expected = field.xtotal(field.xscale(weights[:, None], cells))
        out = np.zeros((shape[1], 2), np.uint64)
        kernels.combine_rows(cells, weights, out)
        assert (out == expected).all()
        kernels.combine_rows(cells, weights, out)
        assert (out == field.add(expected, expected)).all()
        if kind != "any":
            signed = cells.astype(np.int64) - np.where(cells > P // 2, np.int64(1 - 2**32), np.int64(0))
            assert (combined_integers(signed, weights) == expected).all()
        if shape[0] <= 64:  # a row of a block has no more values
            folded = np.empty((shape[1], 2), np.uint64)
            kernels.fold_values(np.ascontiguousarray(cells.T), weights, folded)
            assert (folded == expected).all()


def test_limbs_and_their_counts():
    rng = np.random.default_rng(6)
    numbers = rng.integers(-(2**40), 2**40, (2, 3, 7))
    out = np.full((2, 2, 2, 2, 4), 99, np.uint64)
    kernels.cut_limb(numbers, np.array([5, 2**40]), 3, 10, out)
    placed = out.transpose(0, 1, 3, 2, 4).reshape(2, 4, 8)
    assert (placed[:, :3, :7] == (numbers + np.array([5, 2**40])[:, None, None] >> 3) % 2**10).all()
    assert (placed[:, 3:] == 99).all()
    assert (placed[:, :, 7:] == 99).all()
    beside = np.zeros(8, np.uint64)  # a table of four entries, and what lies behind it
    kernels.count_values(np.array([0, 3, 3, 4, 7], np.uint64), beside[:4])
    assert beside.tolist() == [1, 0, 0, 2, 0, 0, 0, 0]
    cells = np.array([[0, 1, 7, 8], [1, 1, 0, P - 1]], np.uint64)
    counts = np.zeros(16, np.uint64)
    kernels.count_ranges(cells, np.array([[3, 3, 3, 3], [1, 0, 0, 3]]), counts)
    assert counts.nonzero()[0].tolist() == [1, 3, 8, 9, 15]
    assert (counts[[1, 3, 8, 9, 15]] == 1).all()


def test_combined_integers_are_exact():
    rng = np.random.default_rng(3)
    matrix = rng.integers(-(2**31), 2**31, (5000, 5)).astype(np.int32)
    weights = elements(10_000).reshape(-1, 2)
    found = field.combine(matrix, weights)
    for column in range(5):
        for word in range(2):
            exact = sum(int(a) * int(b) for a, b in zip(matrix[:, column], weights[:, word], strict=True)) % P
            assert int(found[column, word]) == exact


@pytest.mark.parametrize("count", range(1, 9))
def test_weights_of_an_extension(count):
    point = [Ext(3, 4), Ext(5), Ext(P - 1, 7)]
    whole = field.eq_table(point)
    assert (field.eq_table(point, count) == whole[:count]).all()
    assert Ext.of(field.xtotal(whole)) == field.ONE


def test_a_round_of_three_factors_is_its_polynomial():
    factors = [elements(2 * 3 * 5, seed).reshape(3, 5, 2) for seed in range(3)]
    message = [Ext.of(each) for each in Products([words_apart(each) for each in factors], (3, 5)).message()]
    for x in range(4):
        expected = field.ZERO
        for row in range(3):
            for pair in range(3):
                term = field.ONE
                for own in factors:
                    low = Ext.of(own[row, 2 * pair])
                    high = Ext.of(own[row, 2 * pair + 1]) if 2 * pair + 1 < 5 else field.ZERO
                    term = term * (low + (high - low) * x)
                expected = expected + term
        assert message[x] == expected


@pytest.mark.parametrize("bits", [0, 1, 5, 8, 9, 12])
def test_some_columns_are_those_of_the_whole_code_words(bits):
    cells = elements(3 << bits, 5).reshape(3, -1)
    ((_, words),) = CodeWords.of(cells).parts()
    size = 2 << bits
    places = sorted(
        {0, 1, size - 1, size // 2, *np.random.default_rng(1).integers(0, size, 40).tolist()} & {*range(size)}
    )
    assert CodeWords.of(cells).columns_at(places).tolist() == words[:, places].T.tolist()


def test_the_root_of_a_tree_is_the_sum_of_its_fractions():
    leaves = elements(4 * 16).reshape(4, 16)
    p, q = (Ext.of(each) for each in Fractions(leaves).root())
    total, bottom = field.ZERO, field.ONE
    for a0, a1, c0, c1 in leaves.T.tolist():
        total, bottom = total * Ext(c0, c1) + Ext(a0, a1) * bottom, bottom * Ext(c0, c1)
    assert (p, q) == (total, bottom)


class _Told(Fractions):
    """A tree whose every round is worked out whole, and never from what is known."""

    def message(self):
        self._claim = None
        return super().message()


def _messages(tree: Fractions, bits: int, numbers: list[Ext], silent: bool = False) -> list[list[int]]:
    """All that a tree says from its root on, under challenges ``numbers``; ``silent``: every other round is bound
    unasked, as where a journal has it."""
    found, drawn, point = [tree.root().tolist()], iter(numbers), []
    for level in range(bits):
        rounds, bound = tree.level(level, point, next(drawn)), []
        for number in range(level):
            if not (silent and (number + level) % 2):
                found.append(rounds.message().tolist())
            bound.append(next(drawn))
            rounds.bind(bound[-1])
        if not (silent and level % 3 == 1):
            found.append(rounds.ends().tolist())
        point = [*reversed(bound), next(drawn)]
    return found


@pytest.mark.parametrize("bits", [1, 2, 5, 11])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_tree_of_ones_says_what_any_tree_says(bits, zeros):
    """Numerators left out and rounds that follow from the claim, against a tree that works out everything; challenges
    of 0 among them, where nothing can be divided."""
    bottom = elements(2 << bits, 3).reshape(2, -1)
    ones = np.concatenate([np.broadcast_to(np.array([[1], [0]], np.uint64), bottom.shape), bottom])
    numbers = [Ext.of(each) for each in elements(2 * bits * bits + 4, 7).reshape(-1, 2)]
    if zeros:
        numbers = [number if at % 3 else field.ZERO for at, number in enumerate(numbers)]
    expected = _messages(_Told(ones.copy()), bits, numbers)
    assert _messages(Fractions(ones.copy()), bits, numbers) == expected
    assert _messages(Fractions(bottom.copy()), bits, numbers) == expected
    for leaves in (ones, bottom):
        told = _messages(Fractions(leaves.copy()), bits, numbers, silent=True)
        assert told == _messages(_Told(ones.copy()), bits, numbers, silent=True)
