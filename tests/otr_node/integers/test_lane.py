"""The lane in integers against the lane in float64 (``float_lane``), bit for bit; in every form, on
every instruction set that can be asked for, and at the edges of what its bounds allow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otr_core.errors import InputError, ModelError
from otr_core.lane import formats
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims
from otr_core.lane.element import TOKEN, Place, TraceClaim
from otr_core.lane.held import HeldValues
from otr_core.lane.program import LayerOperator
from otr_core.lane.sampling import draw
from otr_core.lane.tables import exp2_entries
from otr_node import rounding
from otr_node.checkpoint import read_checkpoint, read_variant
from otr_node.integers import kernels, twins
from otr_node.integers.forms import Form, compiled_loops
from otr_node.portable import PortableSession, load_portable, sampling_weights
from otr_node.recorder import StateKeeper, TraceRecorder
from otr_paper.labs.tiny import TINY, tiny_tensors
from tests.helpers.float_lane import FloatModel, FloatSession, load_float, to_integers
from tests.helpers.portable_second_opinion import Reference
from tests.helpers.token_operators import SampledOperator

FORMS = [Form(loops, limb_bits) for loops in (kernels, twins) for limb_bits in (8, 7, 0)]
FORMS += [Form(kernels, 8, True), Form(kernels, 8, False)]
IDS = [(7 * i * i + 3 * i + 1) % 64 for i in range(40)]
Write = Callable[..., Path]


def states(session: PortableSession | FloatSession, layers: int, ids: list[int], cuts: list[int]) -> list[object]:
    """What every layer leaves at every position, and the last logits, when ``ids`` are fed in pieces."""
    keeper = StateKeeper([(position, layer) for position in range(len(ids)) for layer in range(layers)])
    for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        logits = session.feed(ids[begin:end], keeper)
    return [*(keeper.states[place] for place in sorted(keeper.states)), logits.tolist()]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [{}, {"tied": False, "heads": 6, "kv_heads": 3, "head_dim": 4}])
def test_a_tiny_model_gives_the_oracles_bits(form: Form, shape: dict, write_checkpoint: Write, tmp_path: Path) -> None:
    architecture = replace(TINY, **shape)
    folder = write_checkpoint(tmp_path / "m", architecture, tiny_tensors(architecture, seed=6))
    model, oracle = replace(load_portable(folder), form=form), load_float(folder)
    assert model.manifest.weights_root == oracle.weights_root.hex()
    assert model.bounds.saturation == oracle.saturation
    expected = states(FloatSession(oracle), 3, IDS, [])
    for cuts in ([], [1, 2, 5, 13, 30], list(range(30, 40))):
        assert states(PortableSession(model), 3, IDS, cuts) == expected
    pads = (0, 4, 9)
    rows = [[0] * pad + IDS[: 30 - pad] for pad in pads]
    found = PortableSession(model, pads).feed_batch(rows, all_logits=True)
    theirs = FloatSession(oracle, pads).feed_batch(rows, all_logits=True)
    for row, pad in enumerate(pads):
        assert found[row, pad:].equal(theirs[row, pad:])


@pytest.mark.parametrize("shape", [{}, {"heads": 3, "kv_heads": 1}], ids=["as it is", "heads that do not divide QKV"])
def test_what_is_watched_and_altered_is_the_oracles(
    tmp_path: Path, write_checkpoint: Write, shape: dict[str, int]
) -> None:
    architecture = replace(TINY, **shape)
    folder = write_checkpoint(tmp_path / "m", architecture, tiny_tensors(architecture, seed=6))
    model, oracle = load_portable(folder), load_float(folder)
    for operator in LayerOperator:

        def alter(number: int, values: np.ndarray, operator: int = operator) -> np.ndarray:
            return values + (number == operator) * np.where(np.arange(len(values)) == 0, 2**10, 0)

        for change in (None, alter):
            sessions = [
                PortableSession(model, watch=(5, 1), alter=change),
                FloatSession(oracle, watch=(5, 1), alter=change),
            ]
            logits = [session.feed(IDS[:9]).tolist() for session in sessions]
            assert logits[0] == logits[1]
            ours, theirs = (session.operators for session in sessions)
            assert [(int(k), v.tolist()) for k, v in ours.items()] == [(int(k), v.tolist()) for k, v in theirs.items()]


def test_altered_and_shortened_models_are_packed_as_they_run(tiny: Path) -> None:
    def halved(tensors: dict) -> dict:
        return {name: value / 2 for name, value in tensors.items()}

    model, oracle = load_portable(tiny, alter=halved), load_float(tiny, alter=halved)
    assert model.manifest.weights_root == oracle.weights_root.hex()
    assert model.session().feed(IDS).tolist() == FloatSession(oracle).feed(IDS).tolist()
    short = load_portable(tiny, drop_layers=[1])
    assert (short.matrices["1.down"].dense() == load_portable(tiny).matrices["2.down"].dense()).all()
    with pytest.raises(InputError, match="device"):
        load_portable(tiny, device="cuda")


# --- bounds: each has a model that the lane computes wrongly once the bound is gone


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("score", {"q": 4800.0, "k": 2580.0}),
        ("output", {"v": 1950.0, "o": 6000.0}),
        ("product", {"gate": 2700.0, "up": 2700.0, "down": 680.0}),
        ("value", {"v": 4500.0}),
        ("key", {"k": 4500.0}),
    ],
)
def test_a_removed_bound_gives_wrong_results(
    kind: str, change: dict[str, float], write_checkpoint: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its check such a model loads, and its lane is not the definition's any more."""
    architecture = replace(TINY, tied=False, layers=1)
    tensors = tiny_tensors(architecture, seed=2)
    # All tokens, and all rows of the enlarged matrices, in one direction: sums come near their bounds.
    along = np.where(np.arange(32) % 3, 1.0, -1.0).astype(np.float32)
    for name, value in tensors.items():
        part = name.split(".")[-2].removesuffix("_proj")
        if part in ("input_layernorm", "post_attention_layernorm"):
            value[:] = 1
        elif part == "embed_tokens":
            value[:] = along * (1 + 0.1 * np.arange(64, dtype=np.float32)[:, None])
        elif part in change:
            value[:] = (1 if part in ("o", "down") else along) * np.float32(change[part])
        elif part == "o" or (part == "q" and kind == "key"):  # nothing that a key could be balanced with
            value[:] = 0
    folder = write_checkpoint(tmp_path / "m", architecture, tensors)
    with pytest.raises(ModelError, match=kind):
        load_portable(folder)

    checked = rounding.check_bounds

    def unchecked(architecture: Architecture, sizes: dict) -> rounding.Bounds:
        return checked(architecture, {name: replace(size, longest=1.0) for name, size in sizes.items()})

    monkeypatch.setattr(rounding, "check_bounds", unchecked)
    model = replace(load_portable(folder), form=Form(kernels, 0))
    integers = to_integers(*read_variant(read_checkpoint(folder)))
    reference = Reference(architecture, {name: value.numpy() for name, value in integers.items()})
    expected = [reference.feed(token, position) for position, token in enumerate(IDS[:7])]
    keeper, session = StateKeeper([(6, 0)]), PortableSession(model, watch=(6, 0))
    logits = session.feed(IDS[:7], keeper).tolist()
    kept = [np.frombuffer(row, "<i4").tolist() for row in (keeper.states[6, 0].key, keeper.states[6, 0].value)]
    made = {operator.label: session.operators[operator].tolist() for operator in LayerOperator}
    assert (logits, *kept, made) != (expected[-1], *reference.states[6, 0][1:], reference.operators[6, 0])


# --- the choice of a token


def test_the_draw_is_the_definitions_where_a_product_leaves_64_bits(write_checkpoint: Write, tmp_path: Path) -> None:
    """Logits so far apart that their distance times the temperature's factor is beyond int64: lane
    and court must still draw the same token."""
    architecture = replace(TINY, tied=False)
    tensors = tiny_tensors(architecture, seed=3)
    tensors["lm_head.weight"] *= np.float32(11000)
    model = load_portable(write_checkpoint(tmp_path / "m", architecture, tensors))
    logits = model.session().feed(IDS[:5])
    assert int(logits.max() - logits.min()) * formats.TEMPERATURE_FACTOR >= 2**63
    op, none = SampledOperator, np.empty((0, 16), np.int64)
    for milli in (1, 700, 5000):
        claim = TraceClaim(bytes(32), bytes(32), bytes(32), 5, bytes(32), 9, milli)
        vectors = {int(op.LOGITS): logits}
        held = HeldValues(Dims.of(architecture), vectors, none, none, np.empty(0), 0)
        held.compute(claim, Place(TOKEN, 4, 2, 0, 0, 0, 0), [op.TOP, op.WEIGHTS, op.TOTAL, op.CHOICE])
        assert sampling_weights(logits, milli).tolist() == vectors[op.WEIGHTS].tolist()
        assert model.choose(logits, milli, draw(9, 0, bytes(32))) == vectors[op.CHOICE][0]


@pytest.mark.parametrize("apart", [2**62 - 1, 2**33, 2**20, 1])
def test_logits_within_their_bound_are_weighed_as_in_whole_numbers(apart: int) -> None:
    """No sum of a logit reaches 2^62: two of them are then less than 2^63 apart, and no distance wraps."""
    logits, table = np.array([-apart, 0, apart - 1, apart]), exp2_entries()
    for milli in (1, 700, 2000):
        distances = [int(logits.max()) - int(each) for each in logits]
        scaled = (d * formats.TEMPERATURE_FACTOR // (milli << formats.TEMPERATURE_SHIFT) for d in distances)
        assert sampling_weights(logits, milli).tolist() == [table[min(each, len(table) - 1)] for each in scaled]
    assert rounding.INT64 == 2**62


# --- the real model, and other instruction sets

_CHILD = """
import sys
from pathlib import Path
from otr_node.integers.forms import chosen_form
from otr_node.portable import load_portable
from otr_node.recorder import TraceRecorder
recorder = TraceRecorder(bytes(range(32)))
session = load_portable(Path(sys.argv[1])).session()
ids = [int(x) for x in sys.argv[2].split(",")]
session.feed(ids[:-3], recorder)
for token in ids[-3:]:
    logits = session.feed([token], recorder)
form = chosen_form()
print(form.compiled, form.limb_bits, recorder.finish().root.hex(), int((logits % 1000003).sum()))
"""


def cpu(name: str) -> dict[str, str]:
    """Environment in which numba compiles for a processor: the name alone leaves the features of the
    one at hand."""
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}


#: Environment of a child process, and whether its operations are compiled.
MACHINES: dict[str, tuple[dict[str, str], bool]] = {
    "as it is": ({}, True),
    "AVX-512 without VNNI": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, True),
    "AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", **cpu("haswell")}, True),
    "SSE4.1": ({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", **cpu("nehalem")}, True),
    "no compilation": ({"NUMBA_DISABLE_JIT": "1"}, False),
    "no cache": ({"NUMBA_CACHE_DIR": "/proc/none"}, True),
    "no numba": ({"PYTHONPATH": ""}, False),
    "two threads": ({"OMP_NUM_THREADS": "2"}, True),
}


def child(folder: Path, ids: list[int], machine: str, tmp_path: Path) -> list[str]:
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **MACHINES[machine][0]}
    if "PYTHONPATH" in environment:
        (tmp_path / "numba.py").write_text("raise ModuleNotFoundError('No module named numba', name='numba')\n")
        environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{Path(__file__).parents[3]}"
    command = [sys.executable, "-c", _CHILD, str(folder), ",".join(map(str, ids))]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def oracle_line(model: FloatModel, ids: list[int]) -> list[str]:
    recorder, session = TraceRecorder(bytes(range(32))), FloatSession(model)
    logits = session.feed(ids, recorder)
    return [recorder.finish().root.hex(), str(int((logits.astype(np.int64) % 1000003).sum()))]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_a_tiny_model_has_the_same_bits_everywhere(machine: str, tiny: Path, tmp_path: Path) -> None:
    compiled, limb_bits, *found = child(tiny, IDS, machine, tmp_path)
    assert found == oracle_line(load_float(tiny), IDS)
    assert compiled == str(MACHINES[machine][1])
    if "ONEDNN_MAX_CPU_ISA" in MACHINES[machine][0]:
        assert limb_bits == "7"  # the library's product of full limbs is wrong there, and was found out


@pytest.mark.model
@pytest.mark.slow
def test_the_real_model_has_the_oracles_bits(smollm2: Path, tmp_path: Path) -> None:
    """Every output, key and value of 80 positions, logits, and the same in child processes."""
    ids = [(7919 * i * i + 11 * i) % 49152 for i in range(80)]
    oracle, model = load_float(smollm2), load_portable(smollm2)
    assert model.manifest.weights_root == oracle.weights_root.hex()
    expected = states(FloatSession(oracle), 30, ids, [])
    for form in (Form(kernels, 8, True), Form(kernels, 8, False), Form(kernels, 7), Form(kernels, 0)):
        assert states(PortableSession(replace(model, form=form)), 30, ids, [77, 78, 79]) == expected
    line = oracle_line(oracle, ids)
    del oracle
    for machine in ("AVX2", "SSE4.1", "no numba"):
        assert child(smollm2, ids, machine, tmp_path)[2:] == line


def test_full_limbs_are_wrong_without_their_instructions_and_are_found_out() -> None:
    """The control: what the self-test prevents does happen on such processors."""
    script = """
import numpy as np
from otr_node.integers import kernels
from otr_node.integers.forms import Form, Scratch, chosen_form, exact_limbs
from otr_node.integers.packed import pack
x = np.random.default_rng(1).integers(-2**22, 2**22, (64, 576)).astype(np.int32)
w = np.random.default_rng(2).integers(-2**15, 2**15, (96, 576)).astype(np.int32)
right = (x.astype(np.int64) @ w.astype(np.int64).T + 2**15) >> 16
found = [Form(kernels, bits).product(x, pack(w), 16, Scratch(), np.zeros((64, 96), np.int64)) for bits in (8, 7, 0)]
print(*[int((each != right).sum()) for each in found], exact_limbs(8), exact_limbs(7), chosen_form().limb_bits)
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    full, *rest = done.stdout.split()
    assert int(full) > 1000
    assert rest == ["0", "0", "False", "True", "7"]


KERNELS = [name for name in vars(twins) if name in vars(kernels) and name not in ("np", "bits", "square_root")]


@pytest.mark.parametrize("broken", [name for name in KERNELS if callable(vars(twins)[name])])
def test_loops_that_disagree_or_fail_are_not_used(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_loops() is kernels
    whole = getattr(kernels, broken)

    def off_by_one(*arguments: np.ndarray) -> object:
        value = whole(*arguments)
        out = arguments[0] if broken == "soften" else arguments[-1]
        out[(0,) * out.ndim] += 1
        return value

    def failing(*arguments: np.ndarray) -> None:
        raise OSError("no space left on the device")  # as a compiler that writes its cache

    for wrong in (off_by_one, failing):
        monkeypatch.setattr(kernels, broken, wrong)
        assert compiled_loops() is twins
