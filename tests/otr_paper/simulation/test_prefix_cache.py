"""The cache that forgets: by hand, against one that is searched, and between its two guesses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.simulation import SERVING_LAW, accuracy, law
from otr_paper.simulation.arrivals import BLOCK_TOKENS, Requests
from otr_paper.simulation.law import StepLaw
from otr_paper.simulation.prefix_cache import GUESSES, parents, remembered, room_tokens
from otr_paper.store.results import read_result

B = BLOCK_TOKENS


def requests_of(*rows):
    """(arrival, whole blocks of the prompt, blocks known), answers of ten tokens."""
    times, blocks, known = zip(*rows, strict=True)
    read = np.array(blocks) * B + 1
    return Requests(np.array(times, float), read, np.full(len(read), 10), np.array(known) * B)


def test_a_prompt_goes_on_from_one_that_was_read_and_no_two_from_the_same():
    some = requests_of((0, 3, 0), (1, 3, 1), (2, 5, 3), (3, 6, 3), (4, 7, 3), (5, 9, 5))
    assert parents(some, 0.0, "latest").tolist() == [-1, -1, 1, 0, -1, 2]
    assert parents(some, 0.0, "oldest").tolist() == [-1, -1, 0, 1, -1, 2]
    # an answer of ten tokens takes fifteen tenths of a second: at 2 only the first can have been read
    assert parents(some, 0.15, "latest").tolist() == [-1, -1, 0, 1, -1, 2]
    # a single known block is one that all share: nothing goes on from it
    assert parents(requests_of((0, 1, 0), (1, 3, 1), (2, 3, 2)), 0.0, "latest").tolist() == [-1, -1, -1]
    with pytest.raises(ParameterError, match="guess"):
        parents(some, 0.0, "first")


def test_the_conversation_used_longest_ago_is_forgotten_first():
    # a, b; a goes on, so that b is the older one; c is put in, b is asked for
    some = requests_of((0, 3, 0), (1, 4, 0), (2, 5, 3), (3, 4, 0), (4, 6, 4))
    sizes = (some.tokens_in + some.tokens_out).tolist()
    full = sizes[1] + sizes[2] + sizes[3]
    assert remembered(some, full, 0.0, "oldest").reused.tolist() == some.reused.tolist()
    forgot = remembered(some, full - 1, 0.0, "oldest")
    assert forgot.reused.tolist() == [0, 0, 3 * B, 0, B]
    assert remembered(some, 0, 0.0, "latest").reused.tolist() == [0, 0, B, 0, B]
    with pytest.raises(ParameterError, match="capacity"):
        remembered(some, -1.0, 0.0, "latest")


rows = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6), st.integers(0, 6)), min_size=2, max_size=25)


@given(rows, st.integers(0, 40))
def test_a_cache_holds_what_fits_beside_all_that_was_used_since(found, blocks):
    """Another definition: a conversation is there if, at every moment since it was used, it fitted beside
    those used after it, each as far as it had gone on by then."""
    some = requests_of(*((at, size, min(size, known)) for at, size, known in sorted(found)))
    size, capacity = some.tokens_in + some.tokens_out, blocks * B
    for guess in GUESSES:
        line = parents(some, 0.1, guess).tolist()
        child = {parent: number for number, parent in enumerate(line) if parent >= 0}
        expected = some.reused.copy()
        for number, parent in enumerate(line):
            moments = range(parent, number) if parent >= 0 else ()
            alive = ([j for j in range(parent, now + 1) if child.get(j, now + 1) > now] for now in moments)
            if any(size[those].sum() > capacity for those in alive):
                expected[number] = min(expected[number], B)
        assert remembered(some, capacity, 0.1, guess).reused.tolist() == expected.tolist()


def test_what_a_cache_forgets_is_read_again():
    """Forty conversations of five turns: a machine's memory holds some of them, and none where each waits."""
    turns = [(20.0 * turn + number / 3, 4 * (turn + 1), 4 * turn) for turn in range(5) for number in range(40)]
    some, machine = requests_of(*turns), StepLaw(0.02, 6e-5, 2e-8, 6e-5, 1.5e-9, 100_000, budget_tokens=2_000)
    found = accuracy.prefix_study(some, machine)
    assert found["capacity_tokens"] == found["machines"] * 100_000
    late, soon = (found["forgetting"][guess] for guess in ("oldest", "latest"))
    assert 0 < late["reused"] < soon["reused"] < found["reused"]
    assert found["with_mean_s"] < soon["mean_s"] < late["mean_s"] < found["without_mean_s"]
    assert found["with_busy"] < soon["busy"] < late["busy"] < found["without_busy"]
    for guess in GUESSES:
        shares = [one[guess] for one in found["capacities"]]
        assert shares == sorted(shares)
        assert shares[1] == found["forgetting"][guess]["reused"]
        assert shares[-1] == found["reused"]


def test_the_memory_of_the_law_is_what_the_weights_leave(project, cited):
    """Fitted from the fullest published run; a seventh is missing of what the cards have beside the weights,
    and as much for either model."""
    laws = law.stored_laws(read_result(project.results, SERVING_LAW)[1])
    for name, size in (("llama31_8b", "8b"), ("llama33_70b", "70b")):
        share = laws[name][0].kv_tokens / room_tokens(cited, size, law.MODELS[name])
        assert share == pytest.approx(0.86, abs=0.01), name
