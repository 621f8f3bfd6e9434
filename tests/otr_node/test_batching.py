"""Sequences that are computed together have the bits that each has alone, whoever joins or leaves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.errors import InputError
from otr_node.batching import ContinuousBatch
from otr_node.integers import kernels, twins
from otr_node.integers.forms import Form
from otr_node.portable import PortableModel, PortableSession, feed_together, load_portable
from otr_node.recorder import TraceRecorder

SEED = bytes(range(32))


@pytest.fixture(scope="module")
def model(tiny: Path) -> PortableModel:
    return load_portable(tiny)


@dataclass
class Watched:
    """A sequence in a batch: what was fed to it, and all logits that came back."""

    prompt: list[int]
    recorder: TraceRecorder = field(default_factory=lambda: TraceRecorder(SEED))
    tokens: list[int] = field(default_factory=list)
    logits: list[list[int]] = field(default_factory=list)


def alone(model: PortableModel, watched: Watched) -> tuple[list[list[int]], bytes]:
    """Logits and trace root of the same tokens in a session of their own."""
    recorder, session = TraceRecorder(SEED), model.session()
    logits = [session.feed(watched.prompt, recorder).tolist()]
    logits += [session.feed([token], recorder).tolist() for token in watched.tokens]
    return logits, recorder.finish().root


@pytest.mark.parametrize("form", [None, Form(kernels, 8, True), Form(kernels, 0), Form(twins, 0)], ids=str)
@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 9, 40]))
def test_every_schedule_gives_the_bits_of_each_alone(
    model: PortableModel, form: Form | None, seed: int, most_tokens: int
) -> None:
    own = replace(model, form=form or model.form)
    random, batch = np.random.default_rng(seed), ContinuousBatch(own, most_tokens)
    here: dict[int, Watched] = {}
    gone: list[Watched] = []
    for _ in range(25):
        if len(here) < 6 and random.random() < 0.5:
            watched = Watched(random.integers(0, 64, random.integers(1, 25)).tolist())
            here[batch.add(watched.prompt, watched.recorder)] = watched
        ready = [number for number, watched in here.items() if watched.logits]
        chosen = [number for number in ready if len(here[number].logits) < 15 and random.random() < 0.8]
        tokens = {number: int(np.argmax(here[number].logits[-1])) for number in chosen}
        for number, logits in batch.step(tokens).items():
            if number in tokens:
                here[number].tokens.append(tokens[number])
            here[number].logits.append(logits.tolist())
        for number in [number for number in here if random.random() < 0.1]:
            batch.remove(number)
            gone.append(here.pop(number))
        assert len(batch) == len(here)
    compared = [watched for watched in [*gone, *here.values()] if watched.logits]
    assert compared or most_tokens < 9
    for watched in compared:
        assert (watched.logits, watched.recorder.finish().root) == alone(own, watched)


def test_what_cannot_be_fed_is_refused_and_feeds_nothing(model: PortableModel) -> None:
    batch = ContinuousBatch(model, 3)
    with pytest.raises(InputError, match="most_tokens"):
        ContinuousBatch(model, 0)
    for prompt in ([], [64], [-1], [1] * 49):
        with pytest.raises(InputError, match="tokens"):
            batch.add(prompt)
    first, second = batch.add([1, 2, 3]), batch.add([1] * 48)
    assert list(batch.step({})) == [first]
    for tokens, reason in (({7: 1}, "sequence"), ({second: 1}, "prompt"), ({first: 64}, "ids")):
        with pytest.raises(InputError, match=reason):
            batch.step(tokens)
    for _ in range(15):
        assert batch.step({}) == {}
    assert list(batch.step({})) == [second]
    assert batch.step({}) == {}
    with pytest.raises(InputError, match="context"):
        batch.step({first: 2, second: 1})
    expected = model.session()
    expected.feed([1, 2, 3])
    assert batch.step({first: 2})[first].tolist() == expected.feed([2]).tolist()
    batch.remove(second)
    with pytest.raises(InputError, match="sequence"):
        batch.remove(second)


def test_sessions_that_do_not_belong_together_are_refused(model: PortableModel, tiny: Path) -> None:
    session = model.session()
    other = load_portable(tiny).session()
    watched, pair = PortableSession(model, watch=(1, 1)), PortableSession(model, (0, 0))
    for sessions, pieces in (
        ([], []),
        ([session], [[]]),
        ([session, session], [[1], [2]]),
        ([session, other], [[1], [2]]),
        ([session, watched], [[1], [2]]),
        ([session, pair], [[1], [2]]),
    ):
        with pytest.raises(InputError, match="batch"):
            feed_together(sessions, pieces, [None] * len(sessions))
