"""The form for graphics processors, run on the CPU by the same code."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import HardwareError, InputError
from otr_node.integers import twins
from otr_node.integers.device import DeviceProducts, device_products
from otr_node.integers.forms import Scratch, chosen_form
from otr_node.integers.packed import LEAST, MOST, pack
from otr_node.portable import load_portable

FULL = pytest.mark.skipif(chosen_form().limb_bits < 8, reason="this processor's int8 product is not exact")


@FULL
@given(st.integers(0, 2**32 - 1), st.integers(8, 40), st.sampled_from([2, 33, 98]), st.integers(0, 31))
def test_products_are_the_twins(seed: int, tokens: int, width: int, power: int) -> None:
    random = np.random.default_rng(seed)
    most = min(2**power, 2**31 - 1)
    x = random.integers(-most, most + 1, (tokens, width)).astype(np.int32)
    x[0], x[1] = most, -most
    weights = random.integers(-(2**17), 2**17, (21, width)).astype(np.int32) >> random.integers(0, 9, (21, 1))
    weights[0], weights[1] = LEAST, MOST
    packed = pack(weights.astype(np.int32))
    found, expected = (np.zeros((tokens, 21), np.int64) for _ in range(2))
    form = replace(chosen_form(), device=device_products("cpu"))
    form.product(x, packed, 9, Scratch(), found)
    twins.product(x, *packed.parts, 9, expected)
    assert (found == expected).all()


@FULL
def test_a_model_has_the_same_bits(tiny: Path) -> None:
    model, ids = load_portable(tiny), [(7 * i * i + 1) % 64 for i in range(40)]
    moved = replace(model, form=replace(model.form, device=DeviceProducts("cpu")))
    assert moved.session().feed(ids).tolist() == model.session().feed(ids).tolist()


def test_products_that_are_wrong_are_refused() -> None:
    """On a processor whose int8 product saturates, the test at the start says so."""
    script = "from otr_node.integers.device import DeviceProducts; DeviceProducts('cpu')"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert f"{HardwareError.__name__}: device cpu: found" in done.stderr
    assert "expected 0; use cpu" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize(("name", "reason"), [("cuda", "torch sees no"), ("meta", "cpu or cuda"), ("x", "cpu or cuda")])
def test_a_device_that_is_not_here_is_refused_in_one_line(name: str, reason: str, tiny: Path) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_portable(tiny, device=name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_has_the_same_bits(tiny: Path) -> None:
    ids = [(7 * i * i + 1) % 64 for i in range(40)]
    expected = load_portable(tiny).session().feed(ids).tolist()
    assert load_portable(tiny, device="cuda").session().feed(ids).tolist() == expected
