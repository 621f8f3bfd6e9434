"""A small checkpoint's projections, replayed and compared with the definition."""

import torch

from otr_paper.benches.block_projections import bf16_words, measure_projections


def test_projections_of_a_checkpoint_are_the_definitions(tiny):
    found = measure_projections(tiny, checked=3)
    assert found["matrices"] > 7
    assert found["checked"] == 3 * found["matrices"]
    assert (found["differing"], found["threads_differing"]) == (0, 0)
    assert found["blocks"] > found["matrices"]
    assert found["ns_per_block"] > 0


def test_words_are_rounded_to_nearest_even():
    values = torch.tensor([1.0, -2.0, 1.00390625, 1.01171875, 3.4e38])
    assert bf16_words(values).tolist() == [0x3F80, 0xC000, 0x3F80, 0x3F82, 0x7F80]
