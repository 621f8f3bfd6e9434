"""Layers as wide as those of real models: they load, and each operator's elements are what the
definition makes of the values before them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from otr_core.lane import formats
from otr_core.lane.architecture import Architecture
from otr_core.lane.element import LAYER, Element, Place, TraceClaim
from otr_core.lane.held import HeldValues
from otr_core.lane.program import LayerOperator, layer_program
from otr_core.lane.step import value
from otr_core.lane.tables import rotary_table
from otr_node.integers import kernels, twins
from otr_node.integers.forms import Form
from otr_node.portable import PortableSession, load_portable
from otr_node.recorder import StateKeeper
from otr_paper.labs.tiny import TINY, write_tiny

IDS = [1, 5, 9, 17, 33, 2, 60, 61, 5, 3]


def llama_like(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Weights as an untrained Llama's: deviation 0.02, norms 1."""
    random = np.random.default_rng(seed)
    return {
        name: np.float32(0.02) * random.standard_normal(shape, np.float32)
        if len(shape) == 2
        else np.ones(shape, np.float32)
        for name, shape in architecture.tensors().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "head_dim"), [(4096, 128), (5120, 128), (8192, 256)])
def test_a_wide_layer_is_what_the_definition_says(hidden: int, head_dim: int, tmp_path: Path) -> None:
    shape = {"hidden": hidden, "intermediate": 1024, "heads": 8, "kv_heads": 2, "head_dim": head_dim}
    architecture = replace(TINY, layers=1, context=512, **shape)
    folder = write_tiny(tmp_path / "m", architecture, llama_like(architecture, hidden))
    model = load_portable(folder)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == hidden
    assert 4 * hidden * 2.0**38 >= 2.0**52  # what refused such widths when the norm was summed in floats
    at = len(IDS) - 1
    session, keeper = PortableSession(model, watch=(at, 0)), StateKeeper([(position, 0) for position in range(at)])
    expected = session.feed(IDS, keeper)
    for form in (Form(kernels, 8, True), Form(kernels, 0, False), Form(kernels, 7), Form(kernels, 0), Form(twins, 0)):
        other = PortableSession(replace(model, form=form))
        assert (other.feed(IDS[:at]), other.feed(IDS[at:]))[1].tolist() == expected.tolist()
        assert PortableSession(replace(model, form=form)).feed(IDS).tolist() == expected.tolist()

    d, operators = model.dims, layer_program(model.dims, at)
    states = [keeper.states[position, 0] for position in range(at)]
    keys, values = (
        np.stack([np.frombuffer(row, "<i4").astype(np.int64) for row in rows])
        for rows in ([state.key for state in states], [state.value for state in states])
    )
    sides = rotary_table(10000.0, head_dim, at + 1, formats.ROTARY)
    turn = np.array([x for side in sides for x in side[at]])
    vectors = {int(operator): session.operators[operator] for operator in LayerOperator}
    saturation = model.bounds.saturation[0].bit_length() - 1
    held = HeldValues(d, vectors, keys, values, turn, saturation, lambda matrix: model.matrix(matrix, 0))
    claim, random = TraceClaim(bytes(32), bytes(32), bytes(32), at + 1, bytes(32), 0, 0), Random(hidden)
    for operator in LayerOperator:
        if operator == LayerOperator.INPUT:
            continue
        length = operators[operator].length
        for element in {0, length - 1, *(random.randrange(length) for _ in range(6))}:
            place = Place(LAYER, at, 0, operator, element, 0, 0)
            found = value(Element(d, claim, place, operators[operator], held))
            assert found == vectors[operator][element], (operator.label, element)
