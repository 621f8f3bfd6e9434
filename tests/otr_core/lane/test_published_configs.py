"""Configs as published models state them: read, with what each of them means, or refused by the operator's name.

Facts from the models' own config.json files (Hugging Face, as of 2025); entries that say nothing of the arithmetic are
those that such files carry along.
"""

from __future__ import annotations

from typing import Any

import pytest

from otr_core.errors import OperatorError
from otr_core.lane.architecture import Architecture
from otr_core.lane.rotary import RopeScaling

CARRIED: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "attention_dropout": 0.0,
    "transformers_version": "4.43.0",
}


def sizes(hidden: int, inner: int, heads: int, layers: int, kv_heads: int, context: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": context,
        "vocab_size": vocab,
    }


GELU = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"}
UNUSED = {"sliding_window": None, "use_sliding_window": False, "rope_scaling": None, "attention_bias": False}
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Llama 3.1 8B": (
        {
            **sizes(4096, 14336, 32, 32, 8, 131072, 128256),
            **{"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False},
            **{"pretraining_tp": 1, "mlp_bias": False, "attention_bias": False},
            "eos_token_id": [128001, 128008, 128009],
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
        },
        {
            "head_dim": 128,
            "rope_theta": 500000.0,
            "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 8192),
            "stop_ids": (128001, 128008, 128009),
        },
    ),
    "Mistral 7B v0.1": (
        {
            **sizes(4096, 14336, 32, 32, 8, 32768, 32000),
            **{"model_type": "mistral", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 4096},
        },
        {"window": 4096},
    ),
    "Mistral 7B v0.3": (
        {
            **sizes(4096, 14336, 32, 32, 8, 32768, 32768),
            **{"model_type": "mistral", "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None},
        },
        {"window": 0, "rope_theta": 1000000.0},
    ),
    "Qwen 2.5 7B": (
        {
            **sizes(3584, 18944, 28, 28, 4, 32768, 152064),
            **{"model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_window_layers": 28},
            **{"sliding_window": 131072, "use_sliding_window": False, "use_mrope": False, "eos_token_id": 151645},
        },
        {"window": 0, "head_dim": 128},
    ),
    "Qwen 3 8B": (
        {
            **sizes(4096, 12288, 32, 36, 8, 40960, 151936),
            **{"model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1000000, "max_window_layers": 36},
            **{"head_dim": 128, "eos_token_id": 151645, **UNUSED},
        },
        {"window": 0, "head_dim": 128},
    ),
    "Gemma 2 9B": (
        {
            **sizes(3584, 14336, 16, 42, 8, 8192, 256000),
            **{"model_type": "gemma2", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "head_dim": 256, **GELU},
            **{"sliding_window": 4096, "sliding_window_size": 4096, "query_pre_attn_scalar": 256},
            **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "pad_token_id": 0},
        },
        {"window": 4096, "score_cap": 50.0, "logit_cap": 30.0, "tied": True},
    ),
    "Gemma 3 1B": (
        {
            **sizes(1152, 6912, 4, 26, 1, 32768, 262144),
            **{"model_type": "gemma3_text", "rms_norm_eps": 1e-6, "rope_theta": 1000000, "head_dim": 256, **GELU},
            **{"rope_local_base_freq": 10000, "rope_scaling": None, "sliding_window": 512, "pad_token_id": 0},
            **{"sliding_window_pattern": 6, "query_pre_attn_scalar": 256, "eos_token_id": [1, 106]},
            **{"attn_logit_softcapping": None, "final_logit_softcapping": None},
        },
        {"window": 512, "score_cap": 0, "logit_cap": 0, "tied": True},
    ),
    "Phi 3 mini 4k": (
        {
            **sizes(3072, 8192, 32, 32, 32, 4096, 32064),
            **{"model_type": "phi3", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None},
            **{"original_max_position_embeddings": 4096, "sliding_window": 2047, "pad_token_id": 32000},
            **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "tie_word_embeddings": False},
        },
        {"window": 2047, "head_dim": 96},
    ),
    "Phi 4": (
        {
            **sizes(5120, 17920, 40, 40, 10, 16384, 100352),
            **{"model_type": "phi3", "rms_norm_eps": 1e-5, "rope_theta": 250000, "rope_scaling": None},
            **{"original_max_position_embeddings": 16384, "sliding_window": None, "eos_token_id": 100265},
            **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "tie_word_embeddings": False},
        },
        {"window": 0, "head_dim": 128},
    ),
    "OLMo 2 7B": (
        {
            **sizes(4096, 11008, 32, 32, 32, 4096, 100352),
            **{"model_type": "olmo2", "rms_norm_eps": 1e-6, "rope_theta": 500000, "rope_scaling": None},
            **{"tie_word_embeddings": False, "attention_bias": False, "eos_token_id": 100257},
        },
        {"window": 0, "rope_theta": 500000.0},
    ),
    "SmolLM 3 3B": (
        {
            **sizes(2048, 11008, 16, 36, 4, 65536, 128256),
            **{"model_type": "smollm3", "rms_norm_eps": 1e-6, "rope_theta": 5000000.0, **UNUSED, "mlp_bias": False},
            **{"no_rope_layers": [1, 1, 1, 0] * 9, "no_rope_layer_interval": 4, "eos_token_id": 128012},
            **{"layer_types": ["full_attention"] * 36, "max_window_layers": 28, "pretraining_tp": 2},
        },
        {"window": 0, "tied": True},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_config_is_read_for_what_it_means(name):
    stated, means = CONFIGS[name]
    found = Architecture.from_config({**CARRIED, **stated})
    assert (found.hidden, found.layers, found.vocab) == (
        stated["hidden_size"],
        stated["num_hidden_layers"],
        stated["vocab_size"],
    )
    assert {entry: getattr(found, entry) for entry in means} == means


def test_what_each_layer_of_a_published_config_does():
    names = ("Gemma 2 9B", "Gemma 3 1B", "SmolLM 3 3B", "Mistral 7B v0.1")
    second, third, smol, mistral = (Architecture.from_config({**CARRIED, **CONFIGS[name][0]}) for name in names)
    assert second.sliding == tuple(range(0, 42, 2))
    assert third.sliding == third.second_turns == tuple(each for each in range(26) if each % 6 != 5)
    assert third.second_theta == 10000.0
    assert smol.second_turns == tuple(range(3, 36, 4))  # which are not turned at all
    assert (smol.sliding, smol.second_theta) == ((), 0.0)
    assert mistral.sliding == tuple(range(32))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "Phi 3 mini 4k",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}},
        ),
        ("Qwen 3 8B", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
        ("Llama 3.1 8B", {"quantization_config": {"quant_method": "awq", "bits": 4}}),
        ("Gemma 2 9B", {"model_type": "gemma3n_text"}),
        ("Llama 3.1 8B", {"model_type": "mixtral", "num_local_experts": 8}),
    ],
)
def test_what_the_lane_lacks_is_named(name, change):
    with pytest.raises(OperatorError):
        Architecture.from_config({**CARRIED, **CONFIGS[name][0], **change})
