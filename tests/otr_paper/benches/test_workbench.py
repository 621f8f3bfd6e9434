"""The workbench on the tiny model: what a client orders is what it accepts, however it is served,
and measured results are repeated to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core import merkle
from otr_core.lane.sampling import Decoding
from otr_core.poea.once import OnceStore
from otr_core.poea.order import Domain
from otr_paper.benches.workbench import Workbench, resigned
from otr_paper.claims.receipts import READING

SECRET = bytes(range(32))
PROMPT = "w3 w4 w5 w6"


@pytest.fixture(scope="module")
def bench(tiny):
    """The tiny model in the portable lane."""
    return Workbench(tiny)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"sealed": False},
        {"trace_secret": SECRET},
        {"domain": Domain()},
        {"domain": Domain(31_337, b"c" * 20)},
        {"decoding": Decoding(8, seed=5, temperature_milli=900)},
    ],
)
def test_what_is_ordered_is_accepted(bench, how):
    served = bench.serve(PROMPT, how.get("decoding", 6), **{k: v for k, v in how.items() if k != "decoding"})
    assert served.rejection(served.file) is None
    assert served.rejection(served.file.dump()) is None
    assert served.receipt.order_id == served.order.id
    assert served.order.prompt_root == merkle.root(served.answer.committed.tokens[: len(served.said.prompt_ids)])
    assert served.honest.trace == served.answer.committed
    assert served.honest.wrong_token == 0
    assert served.checked.receipt.trace_root == served.checked.trace.root


def test_orders_under_other_domains_are_other_orders_with_other_draws(bench):
    warm = Decoding(8, seed=5, temperature_milli=2000)
    found = [bench.serve(PROMPT, warm, domain=Domain(chain, bytes(20))) for chain in range(4)]
    assert len({served.order.id for served in found}) == 4
    assert len({served.answer.token_ids for served in found}) > 1


def test_a_measured_trace_is_repeated_to_the_bit(bench):
    """Facts recorded before orders had ids and prompts had salts of their own: a result measured
    then under a given secret is the one that is measured now."""
    served = bench.serve(PROMPT, 6, trace_secret=SECRET)
    assert served.answer.token_ids == (44, 38, 32, 18, 36, 42)
    assert served.receipt.trace_root.hex() == "b3e14f8fa6de568479d5c149b38dd52c749876b2706abe065b5c4b70bee2d5f0"
    rows = served.checked.commit(served.checked.rows(5, 1), 5, 1)
    assert rows.root.hex() == "3dd43aa682834bf5b63d62866f887320aa7dd130c692ef1aaa501cc8773bb879"


def test_the_client_says_why_it_rejects(bench):
    served = bench.serve(PROMPT, 6)
    raw, accepted = served.file.dump(), OnceStore()
    assert served.rejection(raw[:-1]).check == READING
    assert served.rejection(b"{}").check == READING
    assert served.rejection(raw, nonces=accepted) is None
    assert served.rejection(raw, nonces=accepted).check == "freshness"
    assert served.rejection(raw, placed=replace(served, number=" 2").placed).check == "order"
    assert served.rejection(resigned(served.file, served.enclave, finish="stop")).check == "stop"
    cheap = bench.other(drop_layers=[1])
    lie = served.answered_by(cheap)
    assert served.rejection(served.passed_off(cheap, lie)).check == "measured-model"
    assert served.rejection(served.sign(lie)).check == "trace-shape"
    stretched = replace(lie, trace=served.trace_over(lie.token_ids, cheap, [0, 2]))
    assert served.rejection(served.sign(stretched)) is None
