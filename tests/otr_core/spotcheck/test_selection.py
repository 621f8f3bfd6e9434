"""Draws are recomputable, uniform and independent, and fit the protocol's shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from otr_core.errors import ParameterError
from otr_core.spotcheck import selection
from otr_core.spotcheck.selection import SHARES

BEACON, ROOT = b"r" * 32, b"b" * 32


@given(below=st.integers(1, 10**9), index=st.integers(0, 2**40))
def test_a_draw_is_in_range_and_repeats(below, index):
    value = selection.uniform(BEACON, ROOT, "test", index, below)
    assert 0 <= value < below
    assert value == selection.uniform(BEACON, ROOT, "test", index, below)


def test_every_argument_changes_the_draw():
    def draw(beacon=BEACON, root=ROOT, label="test", index=0):
        return selection.uniform(beacon, root, label, index, 2**64)

    values = {draw(), draw(beacon=b"s" * 32), draw(root=b"c" * 32), draw(label="other"), draw(index=1)}
    assert len(values) == 5


def test_numbers_above_the_largest_multiple_are_rejected_not_reduced(monkeypatch):
    """With a span of 8 and 5 outcomes, 5, 6 and 7 must be drawn again: reducing them would favour
    0, 1 and 2."""
    monkeypatch.setattr(selection, "SPAN", 8)
    stream = iter([b"\x07", b"\x05", b"\x03"])
    monkeypatch.setattr(selection, "tagged_hash", lambda tag, data: next(stream))
    assert selection.uniform(BEACON, ROOT, "test", 0, 5) == 3


def test_draws_are_uniform_and_neighbours_independent():
    values = np.array([selection.uniform(BEACON, ROOT, "test", i, 7) for i in range(7000)])
    assert chisquare(np.bincount(values, minlength=7)).pvalue > 1e-4
    table = np.zeros((7, 7))
    np.add.at(table, (values[:-1:2], values[1::2]), 1)
    assert chi2_contingency(table).pvalue > 1e-4


def test_places_cover_the_trace_evenly(tiny_operator):
    """Positions and layers are those that the receipt states: 3 and 3 tokens fed 5 positions."""
    stated = replace(tiny_operator.served.receipt, prompt_tokens=3, answer_tokens=3, layers=4)
    places = [selection.draw_place(BEACON, ROOT, query, stated) for query in range(4000)]
    counts = np.zeros((5, 4))
    np.add.at(counts, tuple(np.array(places).T), 1)
    assert chisquare(counts.ravel()).pvalue > 1e-4


def test_units_follow_the_shares(tiny_operator):
    blocks = tiny_operator.layout.blocks
    assert set(blocks) == set(SHARES)
    drawn = [selection.draw_unit(BEACON, ROOT, number, SHARES, blocks) for number in range(5400)]
    counts = np.array([sum(name == operator for operator, _ in drawn) for name in SHARES])
    assert chisquare(counts, np.array(list(SHARES.values())) * 100.0).pvalue > 1e-4
    assert all(0 <= block < blocks[operator] for operator, block in drawn)
    assert {block for operator, block in drawn if operator == "down"} == set(range(blocks["down"]))


def test_unusable_arguments_are_named():
    with pytest.raises(ParameterError):
        selection.uniform(BEACON, ROOT, "test", 0, 0)
