"""The stored experiment of Proof of Quality."""

import pytest

from otr_paper.poq import scores
from otr_paper.store.results import read_result


@pytest.fixture(scope="module")
def stored(project):
    """The stored result, as it stands in its file."""
    return read_result(project.results, scores.RESULT)[1]


@pytest.fixture(scope="module")
def experiment(stored):
    """The stored result, read and checked."""
    return scores.read_experiment(stored)
