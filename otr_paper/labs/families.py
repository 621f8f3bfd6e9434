"""Tiny random checkpoints of decoder families, as transformers itself saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otr_paper.labs.tiny import write_tokenizer

_SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
_WINDOW = {"sliding_window": 5}
_WIDE_HEAD = {"head_dim": 256, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
_WIDE_HEAD |= {"num_attention_heads": 2, "num_key_value_heads": 1}

#: By name: model_type, what its config says beside the sizes.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, llama3 rotations": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, **_LLAMA3}},
    ),
    "llama, linear rotations": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "llama, yarn rotations": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **_YARN}}),
    "llama, heads of 128": ("llama", {**_WIDE_HEAD, "head_dim": 128}),
    "llama, heads of 256": ("llama", _WIDE_HEAD),
    "mistral": ("mistral", _WINDOW),
    "qwen2": ("qwen2", {}),
    "qwen2, sliding": ("qwen2", {**_WINDOW, "use_sliding_window": True, "max_window_layers": 2}),
    "qwen3": ("qwen3", {}),
    "gemma": ("gemma", {"tie_word_embeddings": True}),
    "gemma2": ("gemma2", {**_WINDOW, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}),
    "gemma3": ("gemma3_text", {**_WINDOW, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}),
    "phi3": (
        "phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    ),
    # A key lies in two pieces of the trace, and the last tile of an inner row is shorter.
    "phi3, heads of 96": (
        "phi3",
        {
            **_WIDE_HEAD,
            **{"head_dim": 96, "hidden_size": 192, "num_attention_heads": 4, "num_key_value_heads": 4},
            **{"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
        },
    ),
    # as Gemma 3 1B, whose width is four heads and a half
    "gemma3, half a head over": ("gemma3_text", {"hidden_size": 72, "tie_word_embeddings": True}),
    "qwen2, half a head over": ("qwen2", {"hidden_size": 72, "intermediate_size": 100}),
    "olmo2": ("olmo2", {}),
    "smollm3": ("smollm3", {}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        },
    ),
}


def write_family(folder: Path, name: str, changes: Mapping[str, Any] | None = None, seed: int = 1) -> Path:
    """A checkpoint folder of the case ``name`` with random weights, saved by transformers, with the
    tiny tokenizer.

    Args:
        changes: entries of its config that are otherwise.
    """
    model_type, entries = CASES[name]
    return write_config(folder, model_type, {**entries, **(changes or {})}, seed)


def write_config(folder: Path, model_type: str, entries: Mapping[str, Any], seed: int = 1) -> Path:
    """As ``write_family``, of any decoder that transformers has."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {} if model_type == "gpt2" else _SIZES  # which has other names for them
    config = AutoConfig.for_model(model_type, **{**sizes, **entries})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for label, value in model.named_parameters():
            with torch.no_grad():
                if value.ndim == 1 and label.endswith("norm.weight"):
                    value.uniform_(-0.5, 0.5) if "gemma" in model_type else value.uniform_(0.5, 1.5)
                elif "embed" in label:
                    value.normal_(0, 0.15 if "gemma" in model_type else 0.6)
                else:
                    value.normal_(0, 2.4 / value.shape[-1] ** 0.5 if value.ndim == 2 else 0.5)
        model.tie_weights()
    model.save_pretrained(folder)
    write_tokenizer(folder, int(config.vocab_size))
    # what the library writes of its own generation is no part of these models
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    return folder
