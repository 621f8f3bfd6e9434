"""The proof's field: its arrays against Python's integers, and large ones against small ones."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.spotcheck.proof import field
from otr_core.spotcheck.proof.commitment import code_word_at, combined_columns
from otr_core.spotcheck.proof.field import NON_RESIDUE, Ext, P
from otr_core.spotcheck.proof.sumcheck import interpolate

EDGES = [0, 1, 7, 2**32 - 2, 2**32 - 1, 2**32, 2**63, 2**64 - 2**33, P - 2**32, P - 2, P - 1]
MANY = 3 * 2**13 + 5
"""More numbers than are computed at once."""


def random_words(*shape: int) -> field.Words:
    return np.random.default_rng(shape).integers(0, P, shape, dtype=np.uint64)


def numbers(words: field.Words) -> list[Ext]:
    return [Ext.of(each) for each in words]


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_every_pair_of_edges_gives_what_integers_give(name: str) -> None:
    rule = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}[name]
    x, y = np.meshgrid(np.array(EDGES, np.uint64), np.array(EDGES, np.uint64))
    expected = [
        [rule(a, b) % P for a, b in zip(*rows, strict=True)] for rows in zip(x.tolist(), y.tolist(), strict=True)
    ]
    assert getattr(field, name)(x, y).tolist() == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [((MANY,), (MANY,)), ((MANY, 1), (1, 3)), ((2, 1, MANY), (3, 1)), ((3, MANY), (MANY,)), ((1, 2, MANY), (4, 1, 1))],
)
def test_large_arrays_are_computed_as_one_number_after_the_other(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    x, y = random_words(*one), random_words(*other)
    a, b = (side.astype(object) for side in np.broadcast_arrays(x, y))
    for name, expected in (("add", (a + b) % P), ("sub", (a - b) % P), ("mul", a * b % P)):
        found = getattr(field, name)(x, y)
        assert np.array_equal(found, expected.astype(np.uint64)), name


@pytest.mark.parametrize(("one", "other"), [((2,), (2,)), ((5, 2), (2,)), ((3, 1, 2), (4, 2)), ((MANY, 2), (MANY, 2))])
def test_products_of_the_extension_are_those_of_its_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    x, y = random_words(*one), random_words(*other)
    a, b = (side.reshape(-1, 2).astype(object) for side in np.broadcast_arrays(x, y))
    expected = np.stack(
        [a[:, 0] * b[:, 0] + NON_RESIDUE * a[:, 1] * b[:, 1], a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]], -1
    )
    found = field.xmul(x, y)
    assert found.shape == np.broadcast_shapes(one, other)
    assert (found.reshape(-1, 2) == (expected % P).astype(np.uint64)).all()


def test_totals_do_not_wrap_around() -> None:
    values = np.full((2**12, 2), P - 1, np.uint64)
    assert field.total(values, 0).tolist() == [-(2**12) % P] * 2


@pytest.mark.parametrize("bits", range(7))
def test_a_table_of_equality_is_its_definition_and_sums_to_what_is_said_without_it(bits: int) -> None:
    point = numbers(random_words(bits, 2))
    expected = []
    for entry in range(1 << bits):
        value = Ext(1)
        for bit, own in enumerate(point):
            value = value * (own if entry >> bit & 1 else 1 - own)
        expected.append(value)
    for count in range(1, (1 << bits) + 1):
        assert numbers(field.eq_table(point, count)) == expected[:count]
    for count in range((1 << bits) + 1):
        assert field.eq_below(point, count) == sum(expected[:count], Ext(0))


@pytest.mark.parametrize(("largest", "rows"), [(2**31, 2**16 + 9), (2**31, 70), (2**19, 5000), (3, 2**15 + 1)])
def test_sums_of_extreme_rows_are_exact(largest: int, rows: int) -> None:
    matrix = np.full((rows, 2), -largest, np.int32)
    matrix[:, 1] = largest - 1
    coefficients = np.full((rows, 2), P - 1, np.uint64)
    found = field.combine(matrix, coefficients).tolist()
    assert found == [[rows * largest % P] * 2, [-rows * (largest - 1) % P] * 2]


@pytest.mark.parametrize("bits", [0, 1, 2, 5])
def test_a_transform_is_the_polynomial_at_every_root(bits: int) -> None:
    values, root = random_words(3, 1 << bits), field.root_of_unity(bits)
    expected = [
        [sum(c * pow(root, place * k, P) for k, c in enumerate(row)) % P for place in range(1 << bits)]
        for row in values.tolist()
    ]
    assert field.transform(values).tolist() == expected


@pytest.mark.parametrize("degree", range(5))
def test_interpolation_gives_a_polynomial_anywhere(degree: int) -> None:
    coefficients, x = numbers(random_words(degree + 1, 2)), Ext(P - 3, 12345)

    def at(where: Ext) -> Ext:
        value = Ext(0)
        for each in reversed(coefficients):
            value = value * where + each
        return value

    assert interpolate([at(Ext(i)) for i in range(degree + 1)], x) == at(x)


@pytest.mark.parametrize("cells", [2, 4, 32, 2**11])
def test_places_of_a_code_word_are_the_polynomial_there(cells: int) -> None:
    row, bits = random_words(cells, 2), cells.bit_length()
    places = sorted(
        {0, 1, cells - 1, cells, 2 * cells - 1, *np.random.default_rng(3).integers(0, 2 * cells, 9).tolist()}
    )
    for terms in {cells, cells + 1, cells + cells // 3}:  # a row may have a tail
        longer = np.concatenate([row, random_words(terms - cells, 2)])
        found = code_word_at(longer, places, bits)
        for place, own in zip(places, found.tolist(), strict=True):
            x = pow(field.root_of_unity(bits), place, P)
            assert own == [sum(int(c) * pow(x, i, P) for i, c in enumerate(word)) % P for word in longer.T], place


def test_columns_are_combined_as_their_numbers_are() -> None:
    columns, high = random_words(5, 70), random_words(70, 2)
    columns[:2], high[:3] = np.array([[P - 1], [2**64 - 2**33]], np.uint64), P - 1
    expected = columns.astype(object) @ high.astype(object) % P
    assert combined_columns(columns, high).tolist() == expected.tolist()
