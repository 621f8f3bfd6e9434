"""The tiny random Llama checkpoint of these tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from otr_core.lane.architecture import Architecture

TINY = Architecture(
    hidden=32,
    intermediate=48,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=8,
    vocab=64,
    context=48,
    rms_eps=1e-5,
    rope_theta=10000.0,
    tied=True,
    stop_ids=(2,),
)


def tiny_tensors(architecture: Architecture, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in architecture.tensors().items():
        value = rng.normal(0, 0.4, shape) if len(shape) == 2 else rng.uniform(0.5, 1.5, shape)
        result[name] = value.astype(np.float32)
    return result


def write_tiny(folder: Path, architecture: Architecture = TINY, tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A checkpoint folder with a tokenizer of as many words as the vocabulary has."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors or tiny_tensors(architecture), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(architecture.config()))
    write_tokenizer(folder, architecture.vocab)
    return folder


def write_tokenizer(folder: Path, vocab: int) -> None:
    """Tokenizer and chat template of a checkpoint whose words are w3, w4 and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<user>", "<end>", *(f"w{i}" for i in range(3, vocab))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<user> {{ m['content'] }} <end> {% endfor %}")
