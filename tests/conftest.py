"""Fixtures that hand outside data to tests; what is absent is skipped with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from otr_core.errors import MissingDataError
from otr_node import outside
from otr_node.project import Project, find_project

pytest_plugins = [
    "tests.helpers.answer_proofs",
    "tests.helpers.hiding_proofs",
    "tests.helpers.checkpoint_fixtures",
    "tests.helpers.drawn_checks",
    "tests.helpers.evidence_fixtures",
    "tests.helpers.spotcheck_fixtures",
]

# No time limit per example: a loaded machine is not a failing test. The same examples in every run
# of the gate, so that a red test is always about the change at hand; `--hypothesis-profile=explore`
# looks further.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("gate")


def pytest_configure(config: pytest.Config) -> None:
    """xdist would give out the modules of most tests first, and so the longest of few tests last."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The modules that take longest begin first: notebooks, then those of most slow tests, then of most tests.
    At the end, when one worker has nothing left to do, the other has seconds left and not a minute."""
    slow, every = Counter[str](), Counter[str]()
    for item in items:
        file = item.nodeid.split("::")[0]
        every[file] += 1
        slow[file] += item.get_closest_marker("slow") is not None

    def rank(item: pytest.Item) -> tuple[bool, int, int]:
        file = item.nodeid.split("::")[0]
        return not file.endswith(".ipynb"), -slow[file], -every[file]

    items.sort(key=rank)


@pytest.fixture(scope="session")
def project() -> Project:
    """The checkout under test."""
    return find_project(Path(__file__).parent)


@pytest.fixture(scope="session")
def wheel_file(project: Project) -> Callable[[str, str], Path]:
    """``wheel_file(source, member)``: a file inside one of the wheels of data/sources.toml (always
    available)."""
    return lambda source, member: outside.get(project, source, member)


@pytest.fixture(scope="session")
def outside_file(project: Project) -> Callable[[str], Path]:
    """``outside_file("evidence/…")``: a file at a pinned commit, by its path below the mirror;
    skips when absent."""
    sources = outside.load_sources(project).values()
    by_path = {f"{s.mirror}/{file}": (s.id, file) for s in sources if s.mirror for file in s.files}

    def find(path: str) -> Path:
        try:
            return outside.get(project, *by_path[path], mirror=outside.mirror_folder())
        except MissingDataError as error:
            pytest.skip(f"outside data: {error}")

    return find


@pytest.fixture(scope="session")
def smollm2(project: Project) -> Path:
    """Folder of SmolLM2-135M-Instruct, converted to safetensors."""
    from otr_node.models import model_folder

    return model_folder(project, report=lambda line: None)
