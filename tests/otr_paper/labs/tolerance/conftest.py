"""The tiny decoder of these tests, with random weights, in the native lanes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.lane.rotary import RopeScaling
from otr_node.native import load_native
from otr_paper.labs.tiny import TINY, write_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of the tiny decoder: with plain rotary positions, and with those of Llama 3."""
    return {
        "plain": write_tiny(tmp_path_factory.mktemp("tiny")),
        "llama3": write_tiny(
            tmp_path_factory.mktemp("llama3"), replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32), tied=False)
        ),
    }


@pytest.fixture(scope="module", params=["native-float32", "native-bfloat16"])
def lane(request):
    """Each native lane in turn."""
    return request.param


@pytest.fixture(scope="module")
def model(folder, lane):
    """The tiny decoder, loaded in the lane."""
    return load_native(folder["plain"], lane=lane)
