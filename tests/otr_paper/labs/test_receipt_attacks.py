"""Every attack ends where the design says; the tiny checkpoint stands in for the model, so this
takes seconds."""

from __future__ import annotations

import re

import pytest

from otr_core.errors import ParameterError
from otr_core.poea import CHECKS
from otr_paper.labs.receipts import ONLY_RE_EXECUTION, AttackRow, run_receipt_attacks
from otr_paper.labs.variants import bit_flipped, requantised
from tests.helpers.receipts import NOW

EXPECTED = {
    "one layer in three dropped": "measured-model",
    "a 2-layer model": "measured-model",
    "int8 weights": "measured-model",
    "int4 weights": "measured-model",
    "one flipped weight bit": "measured-model",
    "bfloat16 for the ordered lane": "measured-model",
    "float32 for the ordered lane": "measured-model",
    "another tokenizer": "measured-model",
    "another chat template": "measured-model",
    "temperature changed": "decoding",
    "seed changed": "decoding",
    "token limit lowered": "decoding",
    "answer cut short": "response-digest",
    "answer edited": "response-digest",
    "cached answer to another prompt": "freshness",
    "cached answer under this job's name": "query-digest",
    "receipt replayed": "freshness",
    "nonce reused for a new job": "freshness",
    "receipt of one query, response of another": "response-digest",
    "receipt of one response, query of another": "query-digest",
    "prompt swapped after sealing": "serving",
    "receipt edited after signing": "signature",
    "no hardware, to a client who wants some": "appraisal",
    "evidence signed by an own root": "appraisal",
    "evidence out of date": "appraisal",
    "event log edited": "appraisal",
    "key of another enclave": "keys-bound",
    "evidence relayed from another enclave": "keys-bound",
    "evidence and keys relayed, signed with the own key": "signature",
    "report of another machine's GPU": "gpu-nonce-bound",
    "layers dropped, trace of the cheap run": ONLY_RE_EXECUTION,
    "layers dropped, trace made up": ONLY_RE_EXECUTION,
    "one layer's output altered once": ONLY_RE_EXECUTION,
    "last token replaced": ONLY_RE_EXECUTION,
    "sampled warm, signed as greedy": ONLY_RE_EXECUTION,
}


@pytest.fixture(scope="module", params=["native-float32", "portable-1"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[AttackRow]:
    """The attack table of the tiny model, in either lane."""
    from otr_paper.labs.tiny import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("tiny"))
    return run_receipt_attacks(
        folder,
        tmp_path_factory.mktemp("work"),
        now=NOW,
        secret=b"a" * 32,
        prompt="w5 w9 w17",
        other_prompt="w8 w8",
        lane=request.param,
    )


def test_each_attack_is_caught_where_it_should_be(rows: list[AttackRow]) -> None:
    found = {row.attack: row.caught_by for row in rows}
    assert len(found) == len(rows) == len(EXPECTED) - 1  # one of the two dtypes is the ordered one
    assert found == {attack: EXPECTED[attack] for attack in found}


def test_every_check_is_needed_by_some_attack(rows: list[AttackRow]) -> None:
    """Except the configuration's digest: changing how a result is said to be computed is no attack
    by itself."""
    assert set(CHECKS) - {row.caught_by for row in rows} == {"configuration-digest"}


def test_a_broken_tee_passes_and_re_execution_says_where(rows: list[AttackRow]) -> None:
    broken = {row.attack: row.detail for row in rows if row.group == "broken TEE"}
    assert len(broken) == 5
    for detail in broken.values():
        assert re.search(
            r"accepted; run again: the trace (differs first at position \d+, layer \d+|is the honest)", detail
        )
    assert "position 0, layer 0" in broken["layers dropped, trace made up"]
    assert "another token" in broken["last token replaced"]


def test_variants_do_what_they_say() -> None:
    import torch

    tensors = {"a": torch.tensor([[1.0, -0.6, 0.26], [0.0, 0.0, 0.0]]), "norm": torch.tensor([1.3])}
    four = requantised(tensors, 4)
    assert torch.allclose(four["a"][0], torch.tensor([7.0, -4.0, 2.0]) / 7)
    assert torch.equal(four["a"][1], torch.zeros(3))
    assert torch.equal(four["norm"], tensors["norm"])
    with pytest.raises(ParameterError, match="bits"):
        requantised(tensors, 16)
    flipped = bit_flipped(tensors, "a", 1, bit=3)
    different = flipped["a"].view(torch.int32) ^ tensors["a"].view(torch.int32)
    assert different.tolist() == [[0, 8, 0], [0, 0, 0]]
