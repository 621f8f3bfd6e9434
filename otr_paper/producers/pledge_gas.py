"""What pledges cost on chain, move by move, and what a fraud proof of a commitment would: data/results/pledge_gas.json.

Gas depends on what is called and on which bytes of it are zero. Statements and digests are made up, keys are those of
test chains; no byte of the weights in the fraud proof is zero, so that its gas is the most.
"""

from __future__ import annotations

from typing import Any

from otr_core.lane.dims import Dims
from otr_core.poea.order import Domain
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS
from otr_core.spotcheck.proof.committed import WeightLayout
from otr_core.spotcheck.proof.pledges import PledgeTerms, refutation
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_node.chain.anvil import known_keys
from otr_node.chain.evm import GAS_LIMIT, Chain, compile_source
from otr_node.chain.keys import sign_hash
from otr_node.chain.onchain import deploy_arbiter
from otr_node.chain.pledges import ChainPledges
from otr_paper.benches.verify import SIZE
from otr_paper.producers import frame

TERMS = PledgeTerms(14 * 86_400, 5_000)
ETHER = 10**18
PART_CELLS = 4096
"""Weights that one call of ``cells`` takes: 64 tiles."""
MODEL, LANE, DATE = b"m" * 32, "portable-1", 1_800_000_000

#: What a contract would have to do with the two large parts of the evidence, and no more.
PARTS = """
# pragma version 0.4.3
P: constant(uint256) = 18446744069414584321
value: public(uint256)
root: public(bytes32)

@external
def column(numbers: Bytes[65536], at: uint256, path: DynArray[bytes32, 32], place: uint256):
    # One column of code words, its place under the commitment's root, and one number of it.
    node: bytes32 = sha256(concat(x"00", numbers))
    left: uint256 = place
    for other: bytes32 in path:
        node = sha256(concat(x"01", other, node)) if left % 2 == 1 else sha256(concat(x"01", node, other))
        left //= 2
    self.root = node
    self.value = convert(slice(numbers, 8 * at, 8), uint256)

@external
def cells(tiles: Bytes[16384], point: uint256):
    # 64 tiles of 64 weights: the root over them, and their part of the row's polynomial, highest power first.
    nodes: bytes32[64] = empty(bytes32[64])
    found: uint256 = self.value
    for tile: uint256 in range(64):
        nodes[tile] = sha256(concat(x"00", slice(tiles, 256 * tile, 256)))
        for word: uint256 in range(8):
            eight: uint256 = convert(extract32(tiles, 256 * tile + 32 * word), uint256)
            for each: uint256 in range(8):
                weight: uint256 = (eight >> (224 - 32 * each)) & 4294967295
                if weight >= 2147483648:
                    weight = P + weight - 4294967296
                found = uint256_addmod(uint256_mulmod(found, point, P), weight, P)
    count: uint256 = 64
    for level: uint256 in range(6):
        count //= 2
        for at: uint256 in range(count, bound=32):
            nodes[at] = sha256(concat(x"01", nodes[2 * at], nodes[2 * at + 1]))
    self.value = found
    self.root = nodes[0]
"""


def measure_moves() -> list[dict[str, Any]]:
    """Every move of pledges, once: {move, who pays, gas, calldata_bytes}, those of its calls added up."""
    chain, keys = Chain(accounts=6), known_keys(6)
    honest, liar, other, catcher, *arbiters = keys
    domain = Domain(chain.id, b"\x05" * 20)
    judges = deploy_arbiter(chain, *(key.address for key in arbiters))
    at = ChainPledges.deploy(chain, domain, TERMS, judges)
    rows: list[dict[str, Any]] = []

    def row(move: str, who: str) -> None:
        gas, size = (sum(getattr(each, own) for each in at.ledger) for own in ("gas", "calldata_bytes"))
        rows.append({"move": move, "who": who, "gas": gas, "calldata_bytes": size})
        at.ledger.clear()

    def act(key: Any, *calls: str, value: int = 0) -> None:
        for call in calls:
            at.send(key.address.lower(), call, value=value)

    def said(key: Any, commitment: bytes) -> SignedStatement:
        return SignedStatement.by(bytes(key.key), CommitmentStatement(domain, MODEL, commitment * 32, LANE, DATE))

    row("deploy", "who sets it up, once")
    act(honest, "put", value=ETHER)
    row("put", "signer")
    act(honest, "put", value=ETHER)
    row("put, more of it", "signer")
    act(honest, "ask_back")
    row("ask-back", "signer")
    chain.travel(chain.time + TERMS.notice_s + 1)
    act(honest, "take_back", "withdraw")
    row("take-back", "signer")
    for key in (liar, other):
        act(key, "put", value=ETHER)
    at.ledger.clear()
    false = said(other, b"d")
    at.contradict(catcher.address.lower(), said(liar, b"c"), said(liar, b"d"), b"s" * 32)
    row("contradict", "catcher")
    act(catcher, "withdraw")
    row("withdraw", "catcher")
    word = refutation(false, bytes.fromhex(catcher.address[2:]))
    at.refute(catcher.address.lower(), false, b"".join(sign_hash(key, word) for key in arbiters))
    row("refute", "catcher")
    return rows


def measure_fraud() -> dict[str, Any]:
    """The two large parts of a proof that a commitment to a model of SmolLM2's sizes is false: one column of it, and
    the weights of one committed row.

    Returns:
        rows, row_cells: of the commitment. column_gas, column_bytes: to show one column. row_gas, row_bytes: to show
        a row's weights, in parts. transactions: of all, none with more gas than one may use.
    """
    layout = WeightLayout(Dims.of(SIZE))
    chain = Chain(accounts=1)
    contract, _ = chain.deploy(compile_source(PARTS, "parts.vy"))
    path = [b"\x01" * 32] * (layout.row_bits + BLOWUP_BITS)
    column = chain.transact(contract, "column", b"\x01" * 8 * layout.rows, 0, path, 1)
    part = chain.transact(contract, "cells", b"\xff" * 4 * PART_CELLS, 7)
    parts = (1 << layout.row_bits) // PART_CELLS
    return {
        **{"rows": layout.rows, "row_cells": 1 << layout.row_bits},
        **{"column_gas": column.gas, "column_bytes": column.calldata_bytes},
        **{"row_gas": parts * part.gas, "row_bytes": parts * part.calldata_bytes},
        "transactions": 1 - -parts // (GAS_LIMIT // part.gas),
    }


def main() -> None:
    frame.arguments(__doc__).parse_args()
    libraries = ("vyper", "py-evm", "eth-tester")
    found = {"moves": measure_moves(), "fraud": measure_fraud()}
    frame.store("pledge_gas", found, seed=None, packages=libraries, cores=1)


if __name__ == "__main__":
    main()
