"""The lane h100-bf16 step by step: the definition gives the values that a player commits to, NaNs and
infinities among them, and what does not fit its contracts is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from otr_core.dispute.registry import judgeable
from otr_core.errors import ModelError
from otr_core.lane import formats as bits
from otr_core.lane.element import LAYER, TOKEN, Element, Place, program
from otr_core.lane.fp32 import Fp32, is_nan, ordered
from otr_core.lane.program import Kind, layer_program
from otr_core.lane.sampling import Decoding
from otr_core.lane.step import value
from otr_core.lane.tensor_primitives import fixed, held, narrowed
from otr_core.lane.tensor_program import TensorDims
from otr_core.lane.tensor_steps import LANE
from otr_node.commitment import commit_model
from otr_node.lanes import load_model
from otr_node.run import Run
from otr_node.tensor_values import fixed_logits, to_words
from otr_paper.labs.disputes.world import tiny
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.exact_floats import fp32, word_of

EDGES = [0.0, -0.0, 1e-45, -1e-45, 1.17e-38, 1.0, -1.0, 3.4e38, -3.4e38, math.inf, -math.inf, math.nan]
WORDS = [word_of(np.float32(edge)) for edge in EDGES]


def differing(run: Run, target: int, position: int, layer: int, each: int, random: Random) -> tuple[set[Kind], list]:
    """Kinds of which values were compared, and those that the definition makes otherwise."""
    done, kinds, found = run.execution(target, position, layer), set(), []
    for number, op in enumerate(done.program):
        assert len(done.vectors[number]) == op.length, op.name
        if op.kind == Kind.COPY:
            continue
        for element in random.sample(range(op.length), min(op.length, each)):
            place = Place(target, position, layer, number, element, 0, 0, 0, done.token_step)
            kinds.add(op.kind)
            made = value(Element(done.dims, run.claim, place, op, done.held))
            if made != done.vectors[number][element]:
                found.append((op.name, element, made, int(done.vectors[number][element])))
    return kinds, found


@pytest.mark.parametrize("temperature", [0, 800])
def test_every_value_is_the_definitions(temperature):
    run, random, kinds = tiny(temperature, lane=LANE).honest, Random(1), set()
    for place in ((LAYER, 0, 0), (LAYER, 9, 1), (LAYER, 12, 2), (TOKEN, 8, 2)):
        seen, found = differing(run, *place, 6, random)
        assert not found
        kinds |= seen
    last = {Kind.FIXED, Kind.TOP, Kind.TEMPER, Kind.SUM, Kind.DRAW} if temperature else {Kind.FIRST_HIGHEST}
    tensor = {kind for kind in Kind if kind > Kind.GELU}
    assert kinds == (tensor | last) - ({Kind.FIRST_HIGHEST} if temperature else {Kind.FIXED})


def test_what_the_trace_holds_is_what_the_program_ends_with():
    run = tiny(lane=LANE).honest
    done = run.execution(LAYER, 9, 1)
    names = [op.name for op in done.program]
    rows = np.concatenate([done.vectors[names.index(done.dims.kept(row)[0])] for row in range(3)])
    held_rows = b"".join(run.piece(9, 1, piece)[0][32:] for piece in range(done.dims.pieces))
    assert np.frombuffer(held_rows, "<i4").tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("name", "factor", "kind"), [("down", 1e38, "inf"), ("gate", 1e38, "nan"), ("input_layernorm", 1e-40, "")]
)
def test_states_that_are_no_numbers_are_computed_and_judged_like_others(tmp_path, name, factor, kind):
    """An operator may sign them, so that whoever disputes its answer must be able to run on."""
    tensors = {key: value * factor if name in key else value for key, value in tiny_tensors(TINY).items()}
    tensors = {key: np.clip(value, -3e38, 3e38).astype(np.float32) for key, value in tensors.items()}
    model = load_model(write_tiny(tmp_path / "m", TINY, tensors), lane=LANE)
    run = Run(model, commit_model(model), (5, 9, 33, 60), (7, 8, 9), bytes(32), Decoding(3), order_id=bytes(32))
    seen = {run.execution(LAYER, 5, layer).vectors[-1].tobytes() for layer in range(3)}
    words = [word & 0xFFFFFFFF for each in seen for word in np.frombuffer(each, np.int64).tolist()]
    if kind:
        with pytest.raises(ModelError, match="infinite or a NaN"):
            model.session().feed([5, 9, 33, 60])
        assert any(not math.isfinite(fp32(word)) for word in words)
    assert all(word == 0x7FFFFFFF for word in words if is_nan(word))
    for place in ((LAYER, 5, 0), (LAYER, 5, 1), (LAYER, 5, 2), (TOKEN, 5, 2)):
        assert not differing(run, *place, 5, Random(2))[1]


@pytest.mark.parametrize("position", [0, 9])
def test_a_changed_value_goes_the_same_way_in_trace_and_program(position):
    served = tiny(lane=LANE)
    names = [op.name for op in program(served.trees.dims, LAYER, position, 0)]
    tamper = served.effective(position, 1, names.index("attention.key"), 3)
    assert tamper.delta >= 2**16  # of a bf16 number
    false = served.run(tamper)
    assert not differing(false, LAYER, position, 2, 4, Random(3))[1]
    assert not differing(false, LAYER, 11, 1, 4, Random(3))[1]  # which reads the changed key
    first = next(
        at for at, (a, b) in enumerate(zip(false.trace.leaves, served.honest.trace.leaves, strict=True)) if a != b
    )
    assert first == 3 * position + 1


def test_words_are_ordered_as_numbers_are():
    for a in WORDS:
        for b in WORDS:
            x, y = fp32(a), fp32(b)
            assert (Fp32(a) < Fp32(b), Fp32(a) > Fp32(b), Fp32(a) >= Fp32(b)) == (x < y, x > y, x >= y)
            if not (is_nan(a) or is_nan(b)):
                assert (ordered(a) < ordered(b)) == (x < y)
    assert max(WORDS, key=ordered) == WORDS[-1]
    assert [int(Fp32(word_of(np.float32(x)))) for x in (0.0, 1.9, -1.9, 126.0, 3e9)] == [
        0,
        1,
        -1,
        126,
        int(np.float32(3e9)),
    ]


def test_logits_as_integers_are_rounded_saturated_and_defined_for_all_words():
    random = np.random.default_rng(5)
    near = random.normal(0, 20, 500), random.normal(0, 1e-4, 500), random.normal(0, 2e4, 500)
    ties = (np.arange(-40, 40) + 0.5) / 2**16
    words = [*WORDS, *(word_of(np.float32(x)) for x in np.concatenate([*near, ties]))]
    logits = np.array(words, np.uint32).view(np.float32)
    found = fixed_logits(logits).tolist()
    assert found == [fixed(word) for word in words]
    assert (found[9], found[10], found[11]) == (bits.INT32, -bits.INT32, bits.INT32)
    assert fixed(word_of(np.float32(0.5 / 2**16))) == 0
    assert fixed(0xFFC00000) == bits.INT32  # a NaN, whatever its sign
    assert fixed(word_of(np.float32(1.5 / 2**16))) == 2


def test_rounding_to_bf16_is_the_arrays():
    words = [*WORDS, 0x3F808000, 0x3F818000, 0x7F7FFFFF, 0xFFC00001]
    assert [narrowed(word) >> 16 for word in words] == to_words(np.array(words, np.uint32).view(np.float32)).tolist()
    assert [held(word) & 0xFFFFFFFF for word in words] == words


FITS = TensorDims.of(TINY)
WRONG = [{"tile": 4}, {"hidden": 40, "tile": 8}, {"intermediate": 40}, {"epsilon": 255 << 23}, {"hidden": 2**24}]
WRONG.append({"kv_heads": 2**10, "heads": 2**10, "context": 2**19})
WRONG += [{"tile": 8, "intermediate": 16}, {"tile": 8, "heads": 2, "kv_heads": 1}]  # a step of five openings


@pytest.mark.parametrize("change", WRONG)
def test_dimensions_that_the_contracts_cannot_hold_are_refused(change):
    assert judgeable(FITS, (2,))
    assert not judgeable(replace(FITS, **change), (2,))


def test_the_portable_lanes_programs_are_as_they_were():
    d = tiny().trees.dims
    assert program(d, LAYER, 5, 0) == layer_program(d, 5)
    assert {op.kind for op in program(FITS, LAYER, 5, 0)} & {op.kind for op in program(d, LAYER, 5, 0)} == {Kind.COPY}
