"""Every attack ends where the design says; the tiny checkpoint stands in for the model, so this
takes seconds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otr_core.errors import InputError, ParameterError
from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, FRESHNESS
from otr_node.generate import replay
from otr_node.recorder import StateKeeper
from otr_paper.benches.workbench import Workbench
from otr_paper.claims.receipts import INEFFECTIVE, READING, SECOND_ANSWER, SERVING
from otr_paper.labs.receipts import ONLY_RE_EXECUTION, AttackRow, run_receipt_attacks
from otr_paper.labs.statements import false_statements
from otr_paper.labs.stretched import Stretched
from otr_paper.labs.variants import bit_flipped, requantised

NOW = 1_800_000_000

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
    "a word dropped by special_tokens_map.json": INEFFECTIVE,
    "a word renumbered by added_tokens.json": INEFFECTIVE,
    "a file of settings that nobody knows": SERVING,
    "temperature changed": "order",
    "seed changed": "order",
    "token limit lowered": "order",
    "seed ground until the draws please, and named": "order",
    "answer cut short": "response-digest",
    "answer edited": "response-digest",
    "answer's tokens swapped after signing": "response-digest",
    "cached answer to another prompt": "order",
    "cached answer under this order's name": "prompt",
    "receipt replayed": "freshness",
    "receipt reused for a new order": "order",
    "receipt of one query, response of another": "response-digest",
    "receipt of one response, query of another": "query-digest",
    "receipt edited after signing": "signature",
    "prompt swapped after sealing": SERVING,
    "sealed query served again with another token limit": SERVING,
    "order served twice": SERVING,
    "24 tokens for 12 ordered": "length",
    "ended for its length after 2 of 12 tokens": "finish",
    "stopped after 2 tokens, without a stop token": "stop",
    "a stop token hidden in the middle": "stop",
    "a stop token at the end, ended for its length": "stop",
    "an empty answer, its statement kept": "response",
    "an empty answer, stated": READING,
    "layers dropped, trace of the cheap run": "trace-shape",
    "a trace of one leaf": "trace-shape",
    "a trace of one position": "prompt",
    "a trace of rows half as long": "trace-shape",
    "configuration of another lane": "lane",
    "another lane, stated": "lane",
    "order rewritten in the file": "order",
    "order rewritten in the file, and signed": "order",
    "signed for another chain": "signature",
    "a token outside the vocabulary": "answer-tokens",
    "prompt tokens swapped inside the trace": "prompt",
    "a chosen token said to be given": "tokens-root",
    "tokens swapped in the response, and signed": "tokens-root",
    "another trace seed shown": "trace-seed",
    "order served by two enclaves": SECOND_ANSWER,
    "no hardware, to a client who wants some": "appraisal",
    "evidence signed by an own root": "appraisal",
    "evidence out of date": "appraisal",
    "event log edited": "appraisal",
    "key of another enclave": "keys-bound",
    "evidence relayed from another enclave": "keys-bound",
    "evidence and keys relayed, signed with the own key": "signature",
    "report of another machine's GPU": "gpu-nonce-bound",
    "layers dropped, trace of the cheap run stretched": ONLY_RE_EXECUTION,
    "layers dropped, trace made up": ONLY_RE_EXECUTION,
    "one layer's output altered once": ONLY_RE_EXECUTION,
    "one token replaced": ONLY_RE_EXECUTION,
    "sampled warm, signed as greedy": ONLY_RE_EXECUTION,
    "draws ground by seed, signed under the order": ONLY_RE_EXECUTION,
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
    """Except two. Changing how a result is said to be computed is no attack by itself. And who
    opens its own query finds the prompt that it ordered."""
    checks = {*CHECKS, *CONTENT_CHECKS, *FRESHNESS}
    assert checks - {row.caught_by for row in rows} == {"configuration-digest", "prompt-tokens"}


def test_a_broken_tee_passes_and_re_execution_says_where(rows: list[AttackRow]) -> None:
    broken = {row.attack: row.detail for row in rows if row.group == "broken TEE"}
    assert len(broken) == 6
    for detail in broken.values():
        assert re.search(
            r"accepted; run again: the trace (differs first at position \d+, layer \d+|is the honest)", detail
        )
    assert "position 0, layer 0" in broken["layers dropped, trace made up"]
    assert "token number 11" in broken["one token replaced"]
    assert "token number" in broken["sampled warm, signed as greedy"]
    assert "token number" in broken["draws ground by seed, signed under the order"]


def test_a_stretched_trace_is_false_where_a_layer_was_left_out_and_nowhere_else(tiny: Path) -> None:
    """Kept layers 0 and 2 of 3: the states of layer 1 are those of layer 0, and what the tiny model
    of two layers computed stands at 0 and 2."""
    ordered = Workbench(tiny).serve("w5 w9 w17", 6)
    cheap = ordered.bench.other(drop_layers=[1])
    few = ordered.answered_by(cheap)
    own, all_layers = StateKeeper([(4, 0), (4, 1)]), StateKeeper([(4, 0), (4, 1), (4, 2)])
    replay(cheap.model, few.prompt_ids, few.token_ids, own)
    replay(cheap.model, few.prompt_ids, few.token_ids, Stretched(all_layers, [0, 2], 3))
    assert all_layers.states == {(4, 0): own.states[4, 0], (4, 1): own.states[4, 0], (4, 2): own.states[4, 1]}
    trace = ordered.trace_over(few.token_ids, cheap, [0, 2])
    assert trace.shape == ordered.answer.committed.shape
    assert trace.tokens == few.committed.tokens
    assert trace.leaves[: 3 * trace.shape.positions : 3] == few.committed.leaves[: 2 * trace.shape.positions : 2]


def test_an_answer_too_short_to_lie_about_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="at most 3, expected 2 in one of at least 4"):
        next(false_statements(Workbench(tiny).serve("w5 w9 w17", 3)))


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
