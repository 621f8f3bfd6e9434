"""The name of the portable lane: models whose queries and keys have norms are rounded under one of
their own, and neither name is taken for the other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from otr_core.dispute.registry import configuration_of, receipt_fault
from otr_core.dispute.words import judge_words
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ModelError
from otr_core.lane.formats import PORTABLE
from otr_core.lane.sampling import Decoding
from otr_core.poea.document import load_receipt_file
from otr_core.poea.order import keccak256
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.followed import receipt_shown
from otr_node.chain.onchain import FOLDER, struct_words
from otr_node.lanes import load_model
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.parties import OPERATOR, registered_key, registered_model, vouched
from otr_paper.labs.families import write_family

LANES = {"llama": "portable-1", "qwen2": "portable-1", "phi3": "portable-1"}
LANES |= {"qwen3": "portable-2", "gemma3": "portable-2", "olmo2": "portable-2"}


@cache
def served(name: str) -> Served:
    bench = Workbench(write_family(Path(mkdtemp(prefix="otr-lane-")) / "m", name))
    return bench.serve("w3 w5 w7", Decoding(2), trace_secret=b"s" * 32)


def other(lane: str) -> str:
    (found,) = {*PORTABLE} - {lane}
    return found


@pytest.mark.parametrize("name", LANES)
def test_a_model_has_the_lane_of_its_family(name):
    mine, lane = served(name), LANES[name]
    model = mine.bench.model
    assert model.manifest.lane == model.dims.lane == mine.receipt.lane == lane
    assert model.configuration() == {"lane": lane}
    assert mine.rejection(mine.file) is None
    # Whoever asks for the portable lane gets the one that the family has.
    assert load_model(mine.bench.folder, lane="portable-1").manifest == model.manifest


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "olmo2"])
def test_a_receipt_under_the_other_name_is_refused_by_what_it_says(name):
    mine, lane = served(name), LANES[name]
    with pytest.raises(ModelError, match=f"lane: found '{other(lane)}', expected '{lane}', by which .* are rounded"):
        replace(mine.file.model, lane=other(lane))
    document = mine.file.model.to_json() | {"lane": other(lane)}
    raw = mine.file.dump().replace(canonical_json(mine.file.model.to_json()), canonical_json(document))
    with pytest.raises(InputError, match=f"lane: found '{other(lane)}', expected '{lane}'") as refused:
        load_receipt_file(raw)
    assert "\n" not in str(refused.value)
    # and so is one that states the other lane of the same model
    stated = replace(mine.answer, configuration={"lane": other(lane)})
    rejected = mine.rejection(replace(mine.sign(stated), receipt=replace(mine.receipt, lane=other(lane))))
    assert rejected is not None
    assert rejected.check == "lane"


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_the_registry_knows_one_lane_of_a_model(name):
    mine, lane = served(name), LANES[name]

    def fault(**changes: object) -> str:
        signed = vouched(mine.order, mine.honest, **changes)
        key = registered_key(OPERATOR, mine.order.model_id)
        model = registered_model(mine.trees)
        return receipt_fault(mine.order.domain, OPERATOR, key, model, mine.order, signed.receipt, signed.signature)

    assert fault() == ""
    assert fault(lane=other(lane)) == "lane"
    assert fault(configuration_digest=configuration_of(other(lane))) == "configuration"


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_receipt_that_was_shown_to_a_court_is_read_with_its_lane(name):
    receipt = vouched(served(name).order, served(name).honest).receipt
    assert receipt_shown(struct_words(receipt)) == receipt


def test_the_contract_knows_one_lane_of_a_model():
    chain, judge = Chain(accounts=1), compile_vyper(FOLDER / "judge.vy")
    for name in ("llama", "qwen3", "olmo2"):
        trees = served(name).trees
        roots = trees.weights_root, trees.tables_root, list(trees.stop_ids)
        contract, _ = chain.deploy(judge, judge_words(trees.dims), *roots)
        expected = keccak256(LANES[name].encode()), configuration_of(LANES[name])
        assert tuple(chain.call(contract, "lane")) == expected
