from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core import merkle


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % i).digest() for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 6), st.data())
def test_a_descent_reaches_any_leaf_in_log_k_rounds_and_every_node_is_bound(size, bits, data):
    hashes = leaves(size)
    tree = merkle.Tree(hashes)
    assert tree.root == merkle.root_of_hashes(hashes)
    wanted = data.draw(st.integers(0, size - 1))
    at, index, node, rounds = merkle.height(size), 0, tree.root, 0
    while at:
        shown = tree.children(at, index, bits)
        assert len(shown) <= 2**bits
        assert merkle.root_of_hashes(shown) == node
        below, first, count = merkle.span(size, at, index, bits)
        assert count == len(shown)
        child = (wanted >> below) - first
        path = merkle.inclusion_proof_of_hashes(shown, child)
        merkle.verify_inclusion(node, shown[child], child, count, path)
        at, index, node, rounds = below, first + child, shown[child], rounds + 1
    assert (index, node) == (wanted, hashes[wanted])
    assert rounds == merkle.rounds(size, bits)
    power, exact = 1, 0
    while power < size:  # a second opinion on the ceiling of a logarithm
        power, exact = power * 2**bits, exact + 1
    assert rounds == exact
    merkle.verify_inclusion(merkle.root_of_hashes(hashes), hashes[wanted], wanted, size, tree.path(wanted))


@pytest.mark.outside
def test_positions_are_those_of_the_published_dispute_game(outside_file):
    """A binary descent of a tree of 2^max_depth leaves is the OP stack's game of attacks and
    defences."""
    rows = json.loads(outside_file("vectors/op-dispute-game/positions.json").read_bytes())["tree_nodes"]
    for row in rows:
        at, index = row["max_depth"] - row["depth"], row["index_at_depth"]
        size = 2 ** row["max_depth"]
        assert row["gindex"] == 2 ** row["depth"] + index
        # the last leaf under the node
        assert row["trace_index"] == min((index + 1) << at, size) - 1
        # none at a leaf, or not listed
        attack, defend = row.get("attack_gindex"), row.get("defend_gindex")
        if at and attack is not None:
            below, first, count = merkle.span(size, at, index, 1)
            assert count == 2
            assert attack == 2 ** (row["max_depth"] - below) + first
        if at and defend is not None:  # the first node under the next sibling
            below, first, _ = merkle.span(size, at, index + 1, 1)
            assert defend == 2 ** (row["max_depth"] - below) + first
    assert len(rows) > 20
