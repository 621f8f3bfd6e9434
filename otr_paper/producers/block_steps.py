"""Blocks and steps of the lane h100-bf16 at their contracts, on anvil: data/results/block_steps.json. About
ten minutes.

* 100,000 blocks at the ends of their range: the definition against the contract (``blocks.vy``).
* Random steps of every kind at the judge (``tensor_judge.vy``): the definition, the judge in Python and the
  contract must say the same of right steps and of false ones, and refuse changed openings.
* The gas of a block, as a transaction by itself.

What is done is kept in build/block_steps.json, and a run that is cut off goes on there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from otr_core.errors import MissingDataError
from otr_node.chain.anvil import Anvil, find_anvil, known_keys
from otr_node.chain.block_judge import SOURCE, packed_words
from otr_node.chain.evm import GENESIS_TIME, compile_vyper
from otr_node.chain.interface import AnyChain
from otr_node.chain.onchain import FOLDER, TENSOR_JUDGE
from otr_node.chain.rpc import RpcChain
from otr_node.commitment import commit_model
from otr_node.tensor_lane import load_tensor_lane
from otr_paper.benches.block_fuzz import compare_many, contract_at, extreme_blocks, summed_up
from otr_paper.benches.judge_steps import StepTally, by_batches, compare_at_judge, deploy_judge
from otr_paper.labs.tiny import TINY, write_tiny
from otr_paper.producers import frame

BLOCKS, STEPS, ROUND = 100_000, 20_000, 1_000
"""Blocks, and steps, in all, and of each round that is kept."""
TRANSACTIONS = 200
CHAIN_ID = 31337
TILES = (8, 16, 64)
"""Values of a tile of the models whose steps are drawn: blocks of two tiles, of one, and of a part of one."""


def _gas(chain: AnyChain) -> dict[str, int]:
    """Of a block by itself, the base of a transaction and its calldata included."""
    contract = chain.deploy(compile_vyper(SOURCE))[0]
    spent = [
        chain.transact(contract, "right", packed_words(one.a), packed_words(one.b), one.c, 0).gas
        for one in extreme_blocks(TRANSACTIONS, 3)
    ]
    return {"transactions": TRANSACTIONS, "least": min(spent), "median": int(median(spent)), "most": max(spent)}


def _steps(node: str, chain: AnyChain, folder: Path, seed: int) -> dict[str, Any]:
    """One round of steps, of one model."""
    tile, tally = TILES[seed % len(TILES)], StepTally()
    sizes: dict[str, Any] = {"head_dim": tile, "hidden": max(32, tile), "intermediate": 3 * max(16, tile)}
    model = commit_model(load_tensor_lane(write_tiny(folder / f"tiny{seed}", replace(TINY, **sizes))))
    judge = deploy_judge(chain, compile_vyper(FOLDER / f"{TENSOR_JUDGE}.vy"), model)
    compare_at_judge(model, by_batches(node, judge), judge, Random(seed), ROUND, tally, each=2)
    for each in tally.differing:
        print(each)
    return tally.payload()


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--rounds", type=int, help="of each kind now; stored once all are done")
    most, kept = parser.parse_args().rounds, frame.checkout().build / "block_steps.json"
    program = find_anvil(frame.checkout().build / "node")
    if program is None:
        raise MissingDataError("anvil is not here: npm install --prefix build/node @foundry-rs/anvil@1.7.1")
    done: dict[str, list[dict[str, Any]]] = {"blocks": [], "steps": []}
    if kept.exists():
        done = json.loads(kept.read_text())
    wanted = {"blocks": BLOCKS // ROUND, "steps": STEPS // ROUND}
    with TemporaryDirectory() as folder, Anvil(program, chain_id=CHAIN_ID, timestamp=GENESIS_TIME) as node:
        chain = RpcChain(node.url, known_keys(1), chain_id=CHAIN_ID, moved=True, poll_s=0.01)
        ask = {"contract": contract_at(node.url, chain)}
        for part, rounds in done.items():
            for number in range(len(rounds), min(wanted[part], len(rounds) + (most or wanted[part]))):
                rounds.append(
                    compare_many(ROUND, ask, number)
                    if part == "blocks"
                    else _steps(node.url, chain, Path(folder), number)
                )
                kept.write_text(json.dumps(done))
                frame.progress(f"{part}: {number + 1} of {wanted[part]} rounds, {rounds[-1]['differing']} differing")
        if any(len(rounds) < wanted[part] for part, rounds in done.items()):
            return
        payload: dict[str, Any] = {part: summed_up(rounds) for part, rounds in done.items()}
        payload |= {"gas": _gas(chain), "tiles": TILES}
    frame.store("block_steps", payload, seed=1, packages=("vyper", "numpy"), cores=1)
    kept.unlink()


if __name__ == "__main__":
    main()
