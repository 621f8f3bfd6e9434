"""What a verification costs is measured on files that are accepted, of the sizes that are stated."""

from __future__ import annotations

import pytest

from otr_core.errors import ParameterError
from otr_core.poea import load_receipt_file
from otr_paper.benches.verify import SIZE, VerifyPlan, measure_verify, real_size_answer


def test_the_figures_belong_together() -> None:
    found = measure_verify(VerifyPlan(runs=3, prompt=5, tokens=4))
    assert found["verify_ms"] == max(found["plain_ms"], found["sealed_ms"])
    assert 0 < found["signature_ms"] < found["verify_ms"]
    assert found["python_ecrecover_ms"] > found["signature_ms"]
    assert (found["runs"], found["prompt_tokens"], found["answer_tokens"]) == (3, 5, 4)


@pytest.mark.parametrize("sealed", [False, True])
def test_the_file_has_the_size_that_is_stated(sealed: bool) -> None:
    placed, raw = real_size_answer(VerifyPlan(prompt=50, tokens=64), sealed=sealed)
    receipt = load_receipt_file(raw).receipt
    assert (receipt.prompt_tokens, receipt.answer_tokens, receipt.layers) == (50, 64, SIZE.layers)
    assert len(placed.said.prompt_ids) == 50


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"prompt": 0}, {"tokens": 8193}])
def test_nothing_to_measure_is_an_error(wrong: dict[str, int]) -> None:
    with pytest.raises(ParameterError):
        VerifyPlan(**wrong)
