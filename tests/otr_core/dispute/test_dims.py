"""Which dimensions a court can judge a model by: those that no honest side is left without a move
at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.dispute.state import RegisteredModel
from otr_core.errors import ParameterError
from otr_core.lane.program import Dims
from otr_paper.benches.dispute_gas import LARGE
from otr_paper.benches.verify import SIZE
from otr_paper.labs.disputes.world import tiny

ROOT = bytes(32)
TINY = tiny().trees.dims

UNUSABLE = {
    "a tile that no move takes": {"tile": 256, "hidden": 256, "intermediate": 256, "vocab": 256},
    "no tile": {"tile": 0},
    "a tile that pieces do not divide into": {"tile": 24, "hidden": 24, "intermediate": 24, "vocab": 24},
    "a ragged row": {"hidden": TINY.hidden + 1},
    "a ragged inner row": {"intermediate": TINY.intermediate + 1},
    "a ragged vocabulary": {"vocab": TINY.vocab + 1},
    "no layers": {"layers": 0},
    "no keys": {"kv_heads": 0},
    "heads that share no key": {"heads": 3, "kv_heads": 2},
    "no context": {"context": 0},
    "more leaves than a game can number": {"context": 2**31 - 1, "layers": 4, "heads": 1, "kv_heads": 1},
    "more scores than a game can number": {"heads": 2**20, "kv_heads": 1, "context": 2**12},
    "more gates than a game can number": {"intermediate": 2**30},
    "more ids than a leaf can hold": {"vocab": 2**31},
    "more tiles than a game can number": {"vocab": 2**28},
    "more queries than a game can number": {"heads": 2**28, "kv_heads": 2**28, "context": 1},
}


@pytest.mark.parametrize("dims", [TINY, Dims.of(SIZE), Dims.of(LARGE)])
def test_models_of_today_are_usable(dims):
    assert RegisteredModel(dims, ROOT, ROOT, (0, 2)).dims == dims


@pytest.mark.parametrize("name", UNUSABLE)
def test_dimensions_at_which_a_side_has_no_move_are_refused(name):
    with pytest.raises(ParameterError):
        RegisteredModel(replace(TINY, **UNUSABLE[name]), ROOT, ROOT)


@pytest.mark.parametrize("stop_ids", [(TINY.vocab,), (-1,), tuple(range(17))])
def test_stop_ids_are_tokens_and_few(stop_ids):
    with pytest.raises(ParameterError):
        RegisteredModel(TINY, ROOT, ROOT, stop_ids)
