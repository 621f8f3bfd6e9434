"""Bounds of what families add: checkpoints that break the lane where the bound is removed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.dims import Matrix
from otr_core.lane.element import LAYER, Element, Place, TraceClaim
from otr_core.lane.held import HeldValues
from otr_core.lane.program import Kind, layer_program
from otr_core.lane.step import value
from otr_core.lane.tables import turns
from otr_node import rounding
from otr_node.integers import kernels
from otr_node.integers.forms import Form
from otr_node.integers.packed import RowSizes
from otr_node.portable import PortableSession, load_portable
from otr_node.recorder import StateKeeper
from otr_paper.labs.families import write_family
from otr_paper.labs.tiny import TINY

AT = 3
IDS = [5, 6, 7, 8]


def adverse(name: str) -> tuple[dict[str, float], dict[str, object]]:
    """Tensors of layer 0 that are set to one value, and entries of the config."""
    return {
        # All in one direction: a raw stream's sums grow with int32 values. They wrap to another sign.
        "olmo2": ({"embed_tokens": 60000.0, "gate_proj": 28000.0, "up_proj": 1.0, "down_proj": 1.0}, {}),
        # One value in a head carries it all, so that its norm makes it as long as the head. Queries are as large,
        # but for a bit: nothing that keys could be balanced with.
        "qwen3": (
            {"self_attn.k_proj": 1.0, "self_attn.q_norm": 57_000.0, "self_attn.k_norm": 20_000.0},
            {"head_dim": 64},
        ),
        # A row that just fits, and a bias on top of it; nothing that it could be balanced with.
        "qwen2": ({"embed_tokens": 1.0, "v_proj.weight": 1900.0, "o_proj": 0.0, "v_proj.bias": 32767.0}, {}),
        "gemma2": ({"self_attn.q_proj": 5.0, "self_attn.k_proj": 5.0}, {"attn_logit_softcapping": 2.0**17}),
    }[name]


@pytest.mark.parametrize(
    ("name", "kind"), [("olmo2", "gate"), ("qwen3", "key"), ("qwen2", "value"), ("gemma2", "cap of scores")]
)
def test_a_removed_bound_of_a_family_gives_wrong_results(name, kind, tmp_path, monkeypatch):
    values, entries = adverse(name)
    folder = write_family(tmp_path / "m", name, entries)
    tensors = load_file(folder / "model.safetensors")
    for label, tensor in tensors.items():
        for part, number in values.items():
            if part in label and (".layers.0." in label or "embed" in part):
                tensor[...] = number
                if part == "self_attn.k_proj" and name == "qwen3":
                    tensor.reshape(-1, 64, 64)[:, 1:] = 0
        if "input_layernorm" in label:
            tensor[...] = 0.0 if name == "gemma2" else 1.0
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=kind):
        load_portable(folder)

    checked = rounding.check_bounds

    def unchecked(architecture, sizes):
        small = {label: replace(size, longest=1.0, largest=1.0, total=1.0) for label, size in sizes.items()}
        return checked(replace(architecture, score_cap=1.0 if architecture.score_cap else 0.0), small)

    monkeypatch.setattr(rounding, "check_bounds", unchecked)
    assert differs(replace(load_portable(folder), form=Form(kernels, 0)))


def differs(model) -> bool:
    """Whether layer 0 leaves something else behind than the definition says, on the values before."""
    keeper, session = StateKeeper([(at, 0) for at in range(AT + 1)]), PortableSession(model)
    session.feed(IDS, keeper)
    d, embed = model.dims, model.matrices["embed"]
    keys, rows = (
        np.stack([np.frombuffer(getattr(keeper.states[at, 0], side), "<i4").astype(np.int64) for at in range(AT)])
        for side in ("key", "value")
    )
    sides = turns(model.architecture, AT + 1)[d.second_turns & 1]
    held = HeldValues(
        d,
        {0: embed[IDS[AT]].astype(np.int64)},
        keys,
        rows,
        np.array([x for side in sides for x in side[AT]]),
        model.bounds.saturation[0].bit_length() - 1,
        lambda matrix: model.matrix(matrix, 0),
    )
    claim, operators = TraceClaim(bytes(32), bytes(32), bytes(32), AT + 1, bytes(32), 0, 0), layer_program(d, AT)
    for number, operator in enumerate(operators):
        if operator.kind == Kind.COPY:
            continue
        places = [Place(LAYER, AT, 0, number, element, 0, 0) for element in range(operator.length)]
        made = [value(Element(d, claim, place, operator, held)) for place in places]
        if max(map(abs, made)) >= 2**63:
            return True  # beyond what the lane can hold
        held.vectors[number] = np.array(made, np.int64)
    names = [operator.name for operator in operators]
    state = keeper.states[AT, 0]
    found = [np.frombuffer(row, "<i4").tolist() for row in (state.output, state.key, state.value)]
    qkv = held.vectors[names.index("attention.qkv")][-d.kv :]
    return found != [
        held.vectors[len(names) - 1].tolist(),
        held.vectors[names.index("attention.key")].tolist(),
        qkv.tolist(),
    ]


def test_the_one_that_biases_are_multiplied_with_counts_in_the_bound():
    normed = math.sqrt(TINY.hidden) * (2.0**bits.NORMED * (1 + 2**-8) + 1)
    longest = 0.999 * bits.INT32 * 2.0**Matrix.QKV.shift / normed
    sizes = {name: RowSizes(0.0, 0.0, 1.0) for name in [*TINY.tensors(), "lm_head.weight"]}
    sizes["model.layers.1.self_attn.v_proj.weight"] = RowSizes(1.0, longest, 1.0)
    rounding.check_bounds(TINY, sizes)
    with pytest.raises(ModelError, match=r"1\.value"):
        rounding.check_bounds(replace(TINY, family="qwen2", biased=True), sizes)
