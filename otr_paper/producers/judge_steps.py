"""At least 100,000 random steps at the court's judge: data/results/judge_steps.json. Two minutes.

Every step is judged by the definition, by the judge in Python and by the contract, which anvil runs;
right ones must be called right and false ones false, and a changed opening must be refused. Models:
the tiny one, and one of each family that adds operators or has long tiles.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from otr_core.errors import MissingDataError
from otr_core.lane.program import PORTABLE_KINDS
from otr_node.chain.anvil import Anvil, find_anvil, known_keys
from otr_node.chain.evm import GENESIS_TIME, compile_vyper
from otr_node.chain.onchain import FOLDER
from otr_node.chain.rpc import RpcChain
from otr_node.commitment import commit_model
from otr_node.portable import load_portable
from otr_paper.benches.judge_steps import StepTally, by_batches, compare_at_judge, deploy_judge
from otr_paper.labs.families import write_family
from otr_paper.labs.tiny import write_tiny
from otr_paper.producers import frame

STEPS, LEAST, ROUND = 100_000, 2_000, 2_500
"""Steps in all, of each kind of primitive, and of one model at a time."""
CHAIN_ID = 31337
#: Cases of ``labs.families``: every operator that a family adds, and tiles of 128 and of 256 values.
FAMILIES = ("gemma2", "qwen3", "mistral", "gemma3", "llama, heads of 128", "llama, heads of 256")


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer: nothing is stored")
    steps, tally, random = parser.parse_args().steps, StepTally(), Random(1)
    program = find_anvil(frame.checkout().build / "node")
    if program is None:
        raise MissingDataError("anvil is not here: npm install --prefix build/node @foundry-rs/anvil@1.7.1")
    with TemporaryDirectory() as folder, Anvil(program, chain_id=CHAIN_ID, timestamp=GENESIS_TIME) as node:
        at, judges = Path(folder), []
        chain = RpcChain(node.url, known_keys(1), chain_id=CHAIN_ID, moved=True, poll_s=0.01)
        written = [write_tiny(at / "tiny"), *(write_family(at / name, name) for name in FAMILIES)]
        for model in (commit_model(load_portable(each)) for each in written):
            judge = deploy_judge(chain, compile_vyper(FOLDER / "judge.vy"), model)
            judges.append((model, by_batches(node.url, judge), judge))
        wanting = True
        while wanting:
            for model, ask, judge in judges:
                compare_at_judge(model, ask, judge, random, min(ROUND, steps), tally)
            frame.progress(f"{tally.steps.total()} steps, {len(tally.differing)} differing")
            fewest = min(tally.steps[kind.name.lower()] for kind in PORTABLE_KINDS)
            wanting = tally.steps.total() < steps or (steps == STEPS and fewest < LEAST)
    for each in tally.differing:
        print(each)
    if steps == STEPS:
        payload = {**tally.payload(), "models": ["tiny", *FAMILIES]}
        frame.store("judge_steps", payload, seed=1, packages=("vyper", "numpy"), cores=1)


if __name__ == "__main__":
    main()
