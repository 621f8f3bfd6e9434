"""Published numbers, stored runs, what follows from both, and the prices of one case."""

from __future__ import annotations

import pytest

from otr_paper.claims import published
from otr_paper.simulation import inputs, study
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def cited(project):
    """The published numbers."""
    return published.load_published(project.data)


@pytest.fixture(scope="module")
def runs(project):
    """The stored runs that the simulation takes numbers from."""
    return {name: read_result(project.results, name)[1] for name in inputs.RUNS}


@pytest.fixture(scope="module")
def measured(cited, runs):
    """What this project measured, as the simulation reads it."""
    return inputs.measurements(cited, runs)


@pytest.fixture(scope="module")
def case(cited, measured):
    """Prices of one case: whole inferences proven at the paper's stated speed."""
    stated = inputs.provers(cited)["stated"]
    return study.prices(cited, measured, stated, capacity_per_s=9.0, kept=0.9, rate_per_s=5.0, proof_usd=0.98)
