"""A tiny random model for the rules, the real model for what must be real; keys are made once per
session."""

from __future__ import annotations

from pathlib import Path

import pytest

from otr_core.spotcheck import proofs
from otr_node import prover
from otr_node.spotchecks import CheckedOperator
from otr_paper.benches.workbench import Workbench, key_store
from otr_paper.labs.tiny import write_tiny

SEED = bytes(range(32))
PROMPT = "w3 w4 w5 w6"


class TinyOperator:
    """The tiny model with a signed answer and its operator; no circuits: for checks that need no
    proof."""

    def __init__(self, folder: Path, **options) -> None:
        self.bench = Workbench(folder, options=options, unit_weights=64)
        self.model, self.layout, self.verifier = self.bench.portable, self.bench.layout, self.bench.verifier
        self.served = self.bench.serve(PROMPT, 6, trace_secret=SEED)
        self.operator = self.served.checked

    def serve(self, prompt: str) -> CheckedOperator:
        return self.bench.serve(prompt, 6, trace_secret=SEED).checked


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
