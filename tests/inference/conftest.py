"""A tiny random Llama checkpoint: every rule can be tested on it in milliseconds. The real model has its own tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest_tiny import TINY, tiny_tensors

from otr_core.inference.architecture import Architecture


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """``write_checkpoint(folder, architecture, tensors)``: a checkpoint folder with a 64-word tokenizer."""

    def write(folder: Path, architecture: Architecture = TINY, tensors: dict[str, np.ndarray] | None = None) -> Path:
        from safetensors.numpy import save_file
        from tokenizers import Tokenizer, models, pre_tokenizers

        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors or tiny_tensors(architecture), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(architecture.config()))
        words = ["<unk>", "<user>", "<end>", *(f"w{i}" for i in range(3, architecture.vocab))]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "<end>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}<user> {{ m['content'] }} <end> {% endfor %}"
        )
        return folder

    return write


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> Path:
    """Folder of the tiny checkpoint; not to be written to."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))
