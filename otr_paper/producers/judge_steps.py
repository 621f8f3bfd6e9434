"""At least 100,000 random steps at the portable lane's judge and 30,000 at that of the lane h100-bf16, of
three seeds: data/results/judge_steps.json. Some ten minutes on one core.

Every step is judged by the definition, by the judge in Python and by the contract, which anvil runs;
right ones must be called right and false ones false, and a changed opening must be refused. Models of
the portable lane: the tiny one, and one of each family that adds operators or has long tiles. Of the
other lane: the tiny one with tiles of three widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from otr_core.errors import MissingDataError
from otr_core.lane.dims import Dims
from otr_core.lane.element import program
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.anvil import Anvil, find_anvil, known_keys
from otr_node.chain.evm import GENESIS_TIME, compile_vyper
from otr_node.chain.interface import Contract
from otr_node.chain.onchain import FOLDER, judge_of
from otr_node.chain.rpc import RpcChain
from otr_node.commitment import ModelTrees, commit_model
from otr_node.lanes import load_model
from otr_node.run import DisputedModel
from otr_paper.benches.block_fuzz import summed_up
from otr_paper.benches.judge_steps import TARGETS, Ask, StepTally, by_batches, compare_at_judge, deploy_judge
from otr_paper.labs.families import write_family
from otr_paper.labs.tiny import TINY, write_tiny
from otr_paper.producers import frame

SEEDS = (1, 2, 3)
STEPS = {Dims.lane: 100_000, LANE: 30_000}
"""Steps in all, of all seeds, by lane; or more, until each kind has enough."""
LEAST, ROUND = 2_000, 1_000
"""Steps of each kind of primitive of a lane, of all seeds; and of one model at a time."""
CHAIN_ID = 31337
#: Cases of ``labs.families``: every operator that a family adds, and tiles of 128 and of 256 values.
FAMILIES = ("gemma2", "qwen3", "mistral", "gemma3", "llama, heads of 128", "llama, heads of 256")
TILES = (8, 16, 64)
"""Values of a tile of the second lane's models: blocks of two tiles, of one, and of a part of one."""


@dataclass(frozen=True)
class _Judged:
    """A model and its deployed judge."""

    model: ModelTrees
    ask: Ask
    judge: Contract

    def kinds(self, target: int) -> set[str]:
        """The primitives of its programs of a target, greedy and drawn."""
        return {
            operator.kind.name.lower() for milli in (0, 700) for operator in program(self.model.dims, target, 1, milli)
        }


def _steps(judges: Sequence[_Judged], seed: int, steps: int, least: int) -> dict[str, Any]:
    """One seed's steps of a lane, of its models in turn. While a kind has too few, only programs that
    have such a kind are drawn."""
    random, tally = Random(seed), StepTally()
    kinds = set().union(*(each.kinds(target) for each in judges for target in TARGETS))
    while (few := {kind for kind in kinds if tally.steps[kind] < least}) or tally.steps.total() < steps:
        for each in judges:
            targets = [target for target in TARGETS if not few or few & each.kinds(target)]
            if targets:
                compare_at_judge(each.model, each.ask, each.judge, random, min(ROUND, steps), tally, targets=targets)
        frame.progress(f"seed {seed}: {tally.steps.total()} steps, {len(tally.differing)} differing")
    for line in tally.differing:
        print(line)
    return tally.payload()


def _written(at: Path) -> dict[str, dict[str, Path]]:
    """Lane -> names of its models and their folders."""
    made = {"tiny": write_tiny(at / "tiny"), **{name: write_family(at / name, name) for name in FAMILIES}}
    wide = {}
    for tile in TILES:
        sizes: dict[str, Any] = {"head_dim": tile, "hidden": max(32, tile), "intermediate": 3 * max(16, tile)}
        wide[f"tiny, tiles of {tile}"] = write_tiny(at / f"tiny{tile}", replace(TINY, **sizes))
    return {Dims.lane: made, LANE: wide}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--share", type=int, default=1, help="so many times fewer steps: nothing is stored")
    share = parser.parse_args().share
    program_file = find_anvil(frame.checkout().build / "node")
    if program_file is None:
        raise MissingDataError("anvil is not here: npm install --prefix build/node @foundry-rs/anvil@1.7.1")
    lanes: dict[str, Any] = {}
    with TemporaryDirectory() as folder, Anvil(program_file, chain_id=CHAIN_ID, timestamp=GENESIS_TIME) as node:
        chain = RpcChain(node.url, known_keys(1), chain_id=CHAIN_ID, moved=True, poll_s=0.01)
        for lane, written in _written(Path(folder)).items():
            judges = []
            for path in written.values():
                model = load_model(path, lane=lane)
                assert isinstance(model, DisputedModel)
                trees = commit_model(model)
                judge = deploy_judge(chain, compile_vyper(FOLDER / f"{judge_of(trees)[0]}.vy"), trees)
                judges.append(_Judged(trees, by_batches(node.url, judge), judge))
            many = len(SEEDS) * share
            runs = [_steps(judges, seed, STEPS[lane] // many + 1, -(-LEAST // many)) for seed in SEEDS]
            by_seed = [{"seed": seed, "total": run["total"]} for seed, run in zip(SEEDS, runs, strict=True)]
            lanes[lane] = {**summed_up(runs), "models": list(written), "by_seed": by_seed}
    if share == 1:
        payload = {"lanes": lanes, "seeds": SEEDS, "differing": sum(each["differing"] for each in lanes.values())}
        frame.store("judge_steps", payload, seed=SEEDS[0], packages=("vyper", "numpy"), cores=1)


if __name__ == "__main__":
    main()
