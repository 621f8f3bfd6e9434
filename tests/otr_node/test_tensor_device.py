"""The lane h100-bf16 on a device: the kernel in Triton's interpreter gives the replay's bits, its compiled code
is one instruction, and what is not the lane's is refused by name before anything is signed."""

import ctypes
import json
import platform
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from otr_core.errors import HardwareError, InputError, MissingExtraError, ModelError
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_core.poea import OnceStore, check_answer, place_order
from otr_core.poea.tee import EvidencePolicy
from otr_node import block_check
from otr_node.block_check import Compared, check_device_steps, check_host_steps, compare_device, require_replayed
from otr_node.enclave import SimulatedEnclave
from otr_node.integers import block_twins, projections
from otr_node.integers.device_floats import STEPS, DeviceFloats
from otr_node.lanes import load_model
from otr_node.serve import serve
from otr_node.tensor_device import check_generation
from otr_paper.benches import blocks as recorded
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.block_interpreter import interpreted, triton
from tests.otr_node.test_tensor_lane import IDS, traced

UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}
"""FE_UPWARD of C's fenv.h, by kind of processor."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("lane") / "tiny"), lane=LANE)


@pytest.fixture(scope="module")
def device():
    with interpreted() as opened:
        yield opened


def test_the_kernel_is_the_replay_to_the_bit(device):
    found = compare_device(device, products=1)
    assert set(found) == {
        *("blocks of numbers", "blocks at the ends", "blocks of any words", "products"),
        *("roundings to bf16", "fp32 steps"),
    }
    assert {each.differing for each in found.values()} == {0}
    assert min(each.words for each in found.values()) > 2000
    require_replayed("device", found)


@pytest.mark.parametrize("tokens", [3, 20])
def test_rows_and_batches_may_lie_apart(device, tokens):
    """As keys and values do in their room: each of a batch is the product of its own."""
    random = np.random.default_rng(tokens)
    x, w = (random.integers(0, 2**16, (2, rows, 72)).astype(np.uint16) & 0xBFFF for rows in (tokens, 37))
    out = torch.zeros((2, tokens, 37))
    device.kernel(device.words(x)[:, :, :40], device.words(w)[:, :, :40], out)
    for each in range(2):
        expected = projections.replay_projection(*(np.ascontiguousarray(side[each, :, :40]) for side in (x, w)))
        assert out[each].numpy().view(np.uint32).tolist() == expected.tolist()


@pytest.mark.outside
def test_what_an_h100_recorded_comes_out_of_the_kernel(device, outside_file):
    records = recorded.recordings(outside_file(f"vectors/h100-mma/{recorded.RECORDINGS[1]}"), "bf16")[:60]
    blocks = [(each.a, each.b, each.c, each.result) for each in records]
    found = compare_device(device, products=1, recorded=blocks)
    assert found["recorded blocks"] == Compared(60, 0)
    other = [(each.a, each.b, each.c, each.result ^ 1) for each in records[:3]]
    assert compare_device(device, products=1, recorded=[*blocks[3:], *other])["recorded blocks"] == Compared(60, 3)


def halves(x, w, out):
    """Two steps of eight products: the tensor cores of the generation before."""
    apart = [np.pad(each.reshape(len(each), -1, 8), ((0, 0), (0, 0), (0, 8))) for each in (x, w)]
    block_twins.project(*(each.reshape(len(each), -1) for each in apart), out)


def floats(x, w, out):
    """The sum of NumPy's own products, as Triton's interpreter computes a dot."""
    left, right = ((each.astype(np.uint32) << 16).view(np.float32) for each in (x, w))
    with np.errstate(all="ignore"):
        out[:] = (left @ right.T + out.view(np.float32)).view(np.uint32)


def backward(x, w, out):
    """The blocks of a tile from the last one on."""
    for first in reversed(range(0, x.shape[1], 16)):
        block_twins.project(x[:, first : first + 16], w[:, first : first + 16], out)


def flushed(x, w, out):
    """No results below the normal numbers."""
    block_twins.project(x, w, out)
    out[(out & 0x7F800000) == 0] &= 0x80000000


def other_nan(x, w, out):
    block_twins.project(x, w, out)
    out[out == 0x7FFFFFFF] = 0x7FC00000


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (halves, {"blocks of numbers", "blocks at the ends", "products"}),
        (floats, {"blocks of numbers", "blocks at the ends", "blocks of any words", "products"}),
        (backward, {"products"}),
        (flushed, {"blocks at the ends"}),
        (other_nan, {"blocks at the ends", "blocks of any words"}),
    ],
)
def test_a_device_of_another_rule_is_refused_by_name(rule, wrong):
    with interpreted(rule) as other:
        found = compare_device(other, products=1)
    assert wrong <= {name for name, each in found.items() if each.differing} <= {*wrong, "blocks of any words"}
    with pytest.raises(HardwareError, match=rf"device other: found .*{min(wrong)}.* expected 0; h100-bf16 is refused"):
        require_replayed("device other", found)


def test_states_and_logits_are_the_replays(model, device):
    on_device = replace(model, device=device)
    whole = model.session().feed_all(IDS)
    assert on_device.session().feed_all(IDS).tobytes() == whole.tobytes()
    session, pieces = on_device.session(), (IDS[:7], IDS[7:8], IDS[8:])
    found = np.concatenate([session.feed_all(piece) for piece in pieces])
    assert found.tobytes() == whole.tobytes()
    assert traced(on_device, [IDS[:9], IDS[9:]]).root == traced(model, [IDS]).root
    assert on_device.session().feed(IDS[:3]).tobytes() == whole[2].tobytes()


def test_a_receipt_does_not_say_what_computed_it(model, device):
    own = model.manifest.model_id
    placed = place_order(
        IDS[:5], model_id=own, decoding=Decoding(4), job_id=b"j" * 32, nonce=b"n" * 32, client_secret=b"c" * 32
    )
    files = []
    for each in (model, replace(model, device=device)):
        enclave = SimulatedEnclave(b"s" * 32, own, b"g" * 32, 1_800_000_000)
        files.append(serve(enclave, each, placed.order, placed.query, served=OnceStore())[0])
    assert files[0].dump() == files[1].dump()
    check_answer(files[1], placed, policy=EvidencePolicy(allow_simulated=True), as_of=1_800_000_000, nonces=None)


def test_a_state_that_is_no_number_is_refused_on_a_device(tmp_path, device):
    tensors = tiny_tensors(TINY)
    tensors["model.layers.1.mlp.down_proj.weight"][:] = np.float32(3e38)
    loaded = load_model(write_tiny(tmp_path / "large", TINY, tensors), lane=LANE)
    session = replace(loaded, device=device).session()
    with pytest.raises(ModelError, match="layer 1: found a state that is infinite or a NaN"):
        session.feed(IDS[:2])
    with pytest.raises(InputError, match="feed: found no token"):
        session.feed([])


def test_the_kernel_is_compiled_to_one_instruction_in_order():
    """For sm_90, which takes no GPU: nothing else computes in floating point, and each accumulator goes from one
    instruction to the next, in as many chains as a warp has tiles."""
    triton()
    from otr_node.integers.block_triton import FEW, INSTRUCTION, MANY, check_instructions, compiled_code, instructions

    for (tokens, rows, columns), chains in ((FEW, 1), (MANY, 4)):
        code = compiled_code((tokens, rows, columns))
        found = instructions(code)
        check_instructions(found)
        assert found[INSTRUCTION] == chains * columns // 16 == tokens * rows // (16 * 8 * 4) * columns // 16
        calls = re.findall(r"mma\.sync\S+\s+\{([^}]*)\},\s*\{[^}]*\},\s*\{[^}]*\},\s*\{([^}]*)\};", code)
        made = [re.findall(r"%\w+", result) for result, _ in calls]
        taken = [re.findall(r"%\w+", accumulator) for _, accumulator in calls]
        assert len(calls) == found[INSTRUCTION]
        assert sum(accumulator not in made[:place] for place, accumulator in enumerate(taken)) == chains


def test_another_instruction_is_refused_by_name():
    triton()
    from otr_node.integers.block_triton import INSTRUCTION, check_instructions, compiled_code, instructions

    wide = instructions(compiled_code((64, 64, 64)))
    with pytest.raises(HardwareError, match=r"found wgmma.mma_async.*m64n64k16.*, expected mma.sync"):
        check_instructions(wide)
    with pytest.raises(HardwareError, match=r"found none, expected mma\.sync"):
        check_instructions({})
    for line in ("fma.rn.f32 %f1, %f2, %f3, %f4;", "@%p1 add.ftz.f32 %f1, %f2, %f3;", "ex2.approx.f32 %f1, %f2;"):
        found = instructions(f"\t{line}\n\t{INSTRUCTION} {{%f1}}, {{%r1}}, {{%r2}}, {{%f1}};\n")
        assert found[INSTRUCTION] == 1
        with pytest.raises(HardwareError, match=re.escape(line.removeprefix("@%p1 ").split()[0])):
            check_instructions(found)


def test_another_generation_is_refused_by_name():
    check_generation("NVIDIA H100 80GB HBM3", (9, 0))
    for name, capability in (("NVIDIA A100", (8, 0)), ("NVIDIA L40S", (8, 9)), ("NVIDIA B200", (10, 0))):
        with pytest.raises(HardwareError, match=f"found {name} of compute capability .*, expected 9.0"):
            check_generation(name, capability)


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    folder = write_tiny(tmp_path / "tiny")
    with pytest.raises(InputError, match="found no CUDA device" if not torch.cuda.is_available() else "expected cpu"):
        load_model(folder, lane=LANE, device="cuda:7")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MissingExtraError, match="cuda"):
        block_check.open_block_device("cuda:7")


def test_a_processor_that_flushes_or_rounds_otherwise_is_refused_before_an_answer(model):
    """On this thread, for real: what a driver or another program in the process may have set."""
    check_host_steps()
    assert torch.set_flush_denormal(True)
    try:
        with pytest.raises(HardwareError, match=r"this processor: found .* of 324 fp32 steps .* flushed to zero"):
            model.session()
    finally:
        torch.set_flush_denormal(False)
    if platform.machine() not in UPWARD:
        return
    libm = ctypes.CDLL("libm.so.6")
    mode = libm.fegetround()
    assert libm.fesetround(UPWARD[platform.machine()]) == 0
    try:
        with pytest.raises(HardwareError, match=r"this processor: found .* fp32 steps"):
            model.session()
    finally:
        libm.fesetround(mode)
    model.session()


def test_steps_of_a_device_are_checked_at_every_start(model, device, monkeypatch):
    check_device_steps(device)
    monkeypatch.setitem(STEPS, np.divide, lambda x, y: x * (1 / y))
    with pytest.raises(HardwareError, match=r"device cpu: found .* fp32 steps other than those of IEEE 754"):
        replace(model, device=device).session()


def test_no_other_step_is_made_on_a_device():
    x = DeviceFloats(torch.ones(3))
    for step in (np.exp, np.tanh):
        with pytest.raises(InputError, match="expected one of the lane's"):
            step(x)
    with pytest.raises(InputError, match="expected one of the lane's"):
        np.sum(x)
    with pytest.raises(InputError, match="expected one of the lane's"):
        np.add.reduce(x)


def test_a_manifest_of_another_order_or_instruction_is_refused(model):
    document = model.manifest.to_json()
    for lane in ("h100-bf16-split", "h100-fp8", "H100-BF16", "a100-bf16"):
        with pytest.raises(ModelError, match=f"lane: found '{lane}', expected one of"):
            type(model.manifest).from_json(json.loads(json.dumps({**document, "lane": lane})))
