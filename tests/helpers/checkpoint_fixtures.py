"""A tiny random Llama checkpoint: every rule can be tested on it in milliseconds. The real model
has its own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from otr_paper.labs.tiny import write_tiny


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """``write_checkpoint(folder, architecture, tensors)``: a checkpoint folder with a 64-word
    tokenizer."""

    return write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> Path:
    """Folder of the tiny checkpoint; not to be written to."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))
