"""A tiny random model for the rules, the real model for what must be real; keys are made once per
session."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from otr_core.lane.sampling import Decoding
from otr_core.spotcheck import proofs
from otr_core.spotcheck.units import Layout
from otr_core.spotcheck.verify import Verifier
from otr_node import prover
from otr_node.generate import generate
from otr_node.portable import load_portable
from otr_node.spotchecks import CheckedOperator, embedding
from otr_paper.benches.workbench import Workbench, key_store
from otr_paper.labs.tiny import write_tiny

SEED = bytes(range(32))
PROMPT = "w3 w4 w5 w6"


class TinyOperator:
    """The tiny model with an answer and its operator; no circuits: for checks that need no
    proof."""

    def __init__(self, folder: Path, **options) -> None:
        self.model = load_portable(folder, **options)
        self.layout = Layout(self.model.architecture, weights=64)
        self.operator = self.serve(PROMPT)
        self.verifier = Verifier(
            self.layout, {}, lambda *block: (), self.model.bounds.saturation, partial(embedding, self.model)
        )

    def serve(self, prompt: str) -> CheckedOperator:
        answer = generate(self.model, prompt, Decoding(6), trace_seed=SEED)
        return CheckedOperator(self.model, answer, SEED, self.layout, {})


@pytest.fixture(scope="session")
def tiny_operator(tmp_path_factory) -> TinyOperator:
    return TinyOperator(write_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def keys(project):
    """Circuit of the small unit (8 × 576) with keys."""
    return prover.make_circuit(proofs.Shape(8, 576), key_store(project))


@pytest.fixture(scope="session")
def bench(project, smollm2) -> Workbench:
    """The real model, its circuits and keys."""
    return Workbench.of(project)
