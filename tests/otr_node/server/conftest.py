"""One server that the tests of its answers share, on a tiny checkpoint with room for long ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from otr_node.portable import PortableModel, load_portable
from otr_paper.labs.tiny import TINY
from tests.helpers.serving import Server

LIMITS = ("--max-tokens", 900, "--max-prompt-tokens", 200, "--batch", 16, "--queue", 24, "--max-body-bytes", 2**21)


@pytest.fixture(scope="session")
def roomy(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> Path:
    """Folder of a tiny checkpoint whose context is 1,024 tokens."""
    return write_checkpoint(tmp_path_factory.mktemp("served") / "roomy", replace(TINY, context=1024))


@pytest.fixture(scope="session")
def exact(roomy: Path) -> PortableModel:
    """It, in the portable lane."""
    return load_portable(roomy)


@pytest.fixture(scope="session")
def server(roomy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It, served."""
    with Server(roomy, tmp_path_factory.mktemp("server") / "state", LIMITS) as running:
        yield running
