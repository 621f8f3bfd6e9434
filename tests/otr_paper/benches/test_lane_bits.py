from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from otr_core.errors import ModelError
from otr_node.integers import kernels
from otr_node.integers.forms import Form
from otr_node.portable import load_portable
from otr_paper.benches.lane_bits import MACHINES, fingerprints, measure_bits
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny


def test_every_way_of_feeding_gives_the_same_fingerprint(tiny: Path) -> None:
    model = load_portable(tiny)
    found = fingerprints(model, 40)
    assert len(found) == 5
    assert len({*found.values()}) == 1
    assert fingerprints(model, 39) != found
    other = replace(model, form=Form(kernels, 0))
    assert fingerprints(other, 40) == found


@pytest.mark.slow
def test_every_machine_gives_the_same_bits(tiny: Path) -> None:
    found = measure_bits(tiny, 40)
    assert found["differing"] == 0, found["rows"]
    assert {row["machine"] for row in found["rows"]} == set(MACHINES)
    forms = {row["machine"]: row["form"] for row in found["rows"]}
    assert not forms["no compilation"]["compiled"]
    # The library's product of full limbs is wrong there, and was found out.
    assert {forms[name]["limb_bits"] for name in ("AVX-512 without VNNI", "AVX2", "SSE4.1")} == {7}


@pytest.mark.slow
def test_a_context_of_8192_tokens_has_one_fingerprint(tmp_path: Path) -> None:
    architecture = replace(TINY, context=8300)
    folder = write_tiny(tmp_path / "m", architecture, tiny_tensors(architecture, seed=4))
    found = measure_bits(folder, 8192, ["as it is", "AVX2"])
    assert found["differing"] == 0, found["rows"]


@pytest.mark.slow
def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bits on as it is"):
        measure_bits(tmp_path / "nothing", 40, ["as it is"])
