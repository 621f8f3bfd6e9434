"""The judge's constructor refuses what ``RegisteredModel`` refuses."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from otr_core.errors import ChainError
from otr_core.lane.program import Dims
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER
from otr_paper.benches.dispute_gas import LARGE
from otr_paper.benches.verify import SIZE
from tests.otr_core.dispute.test_dims import ROOT, TINY, UNUSABLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deploy():
    chain, judge = Chain(accounts=2), compile_vyper(FOLDER / "judge.vy")
    return lambda dims, stop_ids=(): chain.deploy(judge, list(astuple(dims)), ROOT, ROOT, list(stop_ids))


@pytest.mark.parametrize("dims", [TINY, Dims.of(SIZE), Dims.of(LARGE)])
def test_models_of_today_deploy(deploy, dims):
    assert deploy(dims, (0, 2))[0].address


@pytest.mark.parametrize("name", UNUSABLE)
def test_dimensions_at_which_a_side_has_no_move_do_not_deploy(deploy, name):
    with pytest.raises(ChainError):
        deploy(replace(TINY, **UNUSABLE[name]))


@pytest.mark.parametrize("stop_ids", [(TINY.vocab,), tuple(range(17))])
def test_stop_ids_are_tokens_and_few(deploy, stop_ids):
    with pytest.raises(ChainError):
        deploy(TINY, stop_ids)
