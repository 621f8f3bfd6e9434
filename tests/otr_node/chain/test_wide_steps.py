"""Steps of layers as wide as those of real models: the contract's verdict is the definition's."""

from __future__ import annotations

from dataclasses import astuple, replace
from random import Random

import pytest

from otr_core.dispute.judge import verdict
from otr_core.dispute.openings import Openings
from otr_core.dispute.words import judge_words
from otr_core.lane.element import LAYER, Place
from otr_core.lane.sampling import Decoding
from otr_core.lane.step import right
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER
from otr_node.commitment import commit_model
from otr_node.portable import load_portable
from otr_node.run import Run
from otr_paper.labs.tiny import TINY, write_tiny
from tests.helpers.ends import ends_of
from tests.otr_node.integers.test_wide import IDS, llama_like


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "head_dim"), [(4096, 128), (5120, 128), (8192, 256)])
def test_steps_of_a_wide_layer_are_judged_the_same(hidden, head_dim, tmp_path):
    shape = {"hidden": hidden, "intermediate": 1024, "heads": 8, "kv_heads": 2, "head_dim": head_dim}
    architecture = replace(TINY, layers=1, context=64, **shape)
    model = load_portable(write_tiny(tmp_path / "m", architecture, llama_like(architecture, hidden)))
    run = Run(model, commit_model(model), tuple(IDS[:6]), (7, 8), bytes(32), Decoding(2), order_id=bytes(32))
    chain, random = Chain(accounts=1), Random(hidden)
    words = judge_words(run.trees.dims), run.trees.weights_root, run.trees.tables_root, []
    judge, _ = chain.deploy(compile_vyper(FOLDER / "judge.vy"), *words)
    done, seen = run.execution(LAYER, 6, 0), set()
    for number, op in enumerate(done.program):
        for change in (0, 1):
            element = random.randrange(op.length)
            step = random.randrange(op.steps + 1) if op.steps > 1 else 0
            before, after = ends_of(done, number, element, step)
            value = int(done.vectors[number][element]) + change
            place = Place(LAYER, 6, 0, number, element, step, value)
            reader = Openings(done, place, piece=run.piece, token=run.token)
            expected = right(done.dims, run.claim, place, reader)
            given = {
                "weights_root": run.trees.weights_root,
                "tables_root": run.trees.tables_root,
                "operators_root": done.operators.root,
                "ends": (before, after),
            }
            assert verdict(done.dims, run.claim, place, reader.made, **given) == expected
            where = (LAYER, 6, 0, number, element, step, 0, 0, value)
            claim = run.claim
            roots = (claim.states_root, claim.tokens_root, done.operators.root, *before, *after, *astuple(claim)[3:])
            openings = [(opening.data, list(opening.proof)) for opening in reader.made]
            assert chain.call(judge, "judge", where, roots, openings) == expected, op.name
            seen.add((op.kind, expected))
    assert {kind for kind, good in seen if good} == {op.kind for op in done.program}
