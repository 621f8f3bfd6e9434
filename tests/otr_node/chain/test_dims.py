"""Registry and judge refuse the same dimensions: those at which an honest side is left without a
move."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.dispute.registry import judgeable
from otr_core.errors import ChainError
from otr_core.lane.dims import Dims
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER
from otr_paper.benches.dispute_gas import LARGE
from otr_paper.benches.verify import SIZE
from otr_paper.labs.disputes.world import tiny
from tests.helpers.unusable import words_of

pytestmark = pytest.mark.slow
ROOT = bytes(32)
TINY = tiny().trees.dims

UNUSABLE = {
    "a tile that no move takes": {"tile": 512, "hidden": 512, "intermediate": 512, "vocab": 512},
    "no tile": {"tile": 0},
    "a head without halves": {"tile": 25, "hidden": 25, "intermediate": 25, "vocab": 25},
    "no layers": {"layers": 0},
    "no keys": {"kv_heads": 0},
    "heads that share no key": {"heads": 3, "kv_heads": 2},
    "no context": {"context": 0},
    "more leaves than a game can number": {"context": 2**31 - 1, "layers": 4, "heads": 1, "kv_heads": 1},
    "more scores than a game can number": {"heads": 2**20, "kv_heads": 1, "context": 2**12},
    "more gates than a game can number": {"intermediate": 2**30},
    "more ids than a leaf can hold": {"vocab": 2**31},
}


@pytest.fixture(scope="module")
def deploy():
    chain, judge = Chain(accounts=2), compile_vyper(FOLDER / "judge.vy")
    return lambda dims, stop_ids=(), words=None: chain.deploy(
        judge, words or words_of(dims), ROOT, ROOT, list(stop_ids)
    )


@pytest.mark.parametrize("dims", [TINY, Dims.of(SIZE), Dims.of(LARGE)])
def test_models_of_today_deploy(deploy, dims):
    assert judgeable(dims, (0, 2))
    assert deploy(dims, (0, 2))[0].address


@pytest.mark.parametrize(
    "ragged",
    [
        {"tile": 24, "hidden": 24, "intermediate": 24, "vocab": 24},
        {"tile": 96, "hidden": 192, "intermediate": 256},
        {"hidden": TINY.hidden + 1},
        {"intermediate": TINY.intermediate + 1},
    ],
)
def test_heads_need_not_divide_a_piece_nor_a_row(deploy, ragged):
    dims = replace(TINY, **ragged)
    assert judgeable(dims)
    assert deploy(dims)[0].address


@pytest.mark.parametrize("name", UNUSABLE)
def test_dimensions_at_which_a_side_has_no_move_do_not_deploy(deploy, name):
    assert not judgeable(replace(TINY, **UNUSABLE[name]))
    with pytest.raises(ChainError):
        deploy(replace(TINY, **UNUSABLE[name]))


@pytest.mark.parametrize("name", ["hidden", "intermediate", "layers", "heads", "kv_heads", "vocab", "context"])
def test_a_dimension_whose_double_no_word_holds_is_refused_by_name(deploy, name):
    assert not judgeable(replace(TINY, **{name: 2**255}))
    words = words_of(TINY)
    words[("hidden", "intermediate", "layers", "heads", "kv_heads", "", "vocab", "context").index(name)] = 2**255
    with pytest.raises(ChainError, match="dims"):
        deploy(TINY, words=words)


@pytest.mark.parametrize("cap", ["score_cap", "logit_cap"])
def test_a_cap_is_bounded(deploy, cap):
    assert judgeable(replace(TINY, **{cap: 2**62 - 1}))
    assert deploy(replace(TINY, **{cap: 2**62 - 1}))
    assert not judgeable(replace(TINY, **{cap: 2**62}))
    with pytest.raises(ChainError, match="dims"):
        deploy(replace(TINY, **{cap: 2**62}))


@pytest.mark.parametrize("stop_ids", [(TINY.vocab,), tuple(range(17))])
def test_stop_ids_are_tokens_and_few(deploy, stop_ids):
    assert not judgeable(TINY, stop_ids)
    with pytest.raises(ChainError):
        deploy(TINY, stop_ids)
