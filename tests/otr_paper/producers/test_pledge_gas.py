"""The gas of pledges: what is stored is measured, and a fraud proof's parts compute what they are to show."""

from __future__ import annotations

import json

import numpy as np

from otr_core import merkle
from otr_core.spotcheck.proof.commitment import code_word_at, column_leaf
from otr_core.spotcheck.proof.field import P, root_of_unity
from otr_node.chain.evm import Chain, compile_source
from otr_paper.producers.pledge_gas import PART_CELLS, PARTS, measure_fraud, measure_moves
from otr_paper.store.results import read_result


def test_what_is_stored_is_what_pledges_cost_today(project):
    found = json.loads(json.dumps({"moves": measure_moves(), "fraud": measure_fraud()}))
    assert found == read_result(project.results, "pledge_gas")[1]
    assert all(row["gas"] > 21_000 for row in found["moves"])


def test_a_number_of_a_column_is_the_rows_polynomial_and_weights_are_those_of_the_models_tree():
    weights = np.random.default_rng(5).integers(-(2**20), 2**20, PART_CELLS).astype(">i4")
    tiles = weights.tobytes()
    chain = Chain(accounts=1)
    contract, _ = chain.deploy(compile_source(PARTS, "parts.vy"))
    place = 4097
    row = np.zeros((PART_CELLS, 2), np.uint64)
    row[:, 0] = [int(each) % P for each in weights]
    point = pow(root_of_unity(PART_CELLS.bit_length()), place, P)
    chain.transact(contract, "cells", tiles, pow(point, -1, P))  # Horner from the lowest power on, at the inverse
    value = chain.call(contract, "value") * pow(point, PART_CELLS - 1, P) % P
    assert value == code_word_at(row, [place], PART_CELLS.bit_length())[0, 0]
    leaves = [merkle.leaf_hash(tiles[at : at + 256]) for at in range(0, len(tiles), 256)]
    assert chain.call(contract, "root") == merkle.Tree(leaves).root
    # One column of four under its root, and one number of it.
    columns = np.random.default_rng(6).integers(0, P, (4, 9), np.uint64)
    tree = merkle.Tree([column_leaf(each) for each in columns])
    for at, column in enumerate(columns):
        chain.transact(contract, "column", column.astype("<u8").tobytes(), 3, tree.path(at), at)
        assert chain.call(contract, "root") == tree.root
        assert chain.call(contract, "value").to_bytes(8, "big") == column[3].astype("<u8").tobytes()
