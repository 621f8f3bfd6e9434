"""A config is read as transformers reads the same file, or refused: nothing is passed over in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from otr_core.errors import ModelError, OperatorError
from otr_core.lane.families import features
from otr_node.lanes import load_model
from otr_node.portable import load_portable
from otr_paper.labs.families import write_config, write_family
from tests.otr_node.test_families import folder

__all__ = ["folder"]  # a fixture
IDS = [int(i) for i in np.random.default_rng(3).integers(3, 96, 40)]
#: Most that a logit may differ from the library's, in the portable and in the native lane. What a
#: misread config does to these models is 0.1 and more.
MOST_ERRORS = 0.05, 2e-3

_LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0}
_FULL = {"layer_types": ["full_attention", "sliding_attention"] * 2}

#: Family, what its config says, and the entries that it leaves out.
READ: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "older entry beside the newer": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}, ()),
    "older entry alone": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}, ("rope_parameters",)),
    "original context outside": ("llama", {"original_max_position_embeddings": 16, "rope_parameters": _LLAMA3}, ()),
    "original context twice": (
        "qwen3",
        {
            "original_max_position_embeddings": 16,
            "rope_parameters": {**_YARN, "original_max_position_embeddings": 64},
        },
        (),
    ),
    "original context nowhere": ("llama", {"rope_parameters": _LLAMA3, "max_position_embeddings": 96}, ()),
    "yarn without original context": ("llama", {"rope_parameters": _YARN, "max_position_embeddings": 64}, ()),
    "gemma3, older entry": ("gemma3", {**_FULL, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, ()),
    "gemma3, flat rotations": ("gemma3", {**_FULL, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}, ()),
    "gemma3, no rotations": (
        "gemma3",
        {**_FULL, "rope_theta": 50.0, "rope_local_base_freq": 9.0},
        ("rope_parameters",),
    ),
}


def altered(source: Path, place: Path, change: dict[str, Any], dropped: tuple[str, ...] = ()) -> Path:
    """A copy of a checkpoint whose config says something else."""
    shutil.copytree(source, place)
    config = json.loads((place / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in dropped}
    (place / "config.json").write_text(json.dumps({**kept, **change}))
    return place


def by_transformers(place: Path) -> np.ndarray:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        return np.asarray(model(torch.tensor([IDS])).logits[0])


def native(place: Path) -> np.ndarray:
    session = load_model(place).session()
    return np.stack([session.feed([token]) for token in IDS])


@pytest.mark.parametrize("name", READ)
def test_both_lanes_read_a_config_as_transformers_does(
    name: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    family, change, dropped = READ[name]
    place = altered(folder(family), tmp_path / "m", change, dropped)
    expected = by_transformers(place)
    ours = load_portable(place).session().feed_batch([IDS], all_logits=True)[0].numpy() / 2**16
    for found, most in zip((ours, native(place)), MOST_ERRORS, strict=True):
        assert np.abs(found - expected).max() < most
    if "nowhere" not in name and "without" not in name:  # the entry changes what is computed
        assert np.abs(expected - by_transformers(folder(family))).max() > 10 * MOST_ERRORS[1]


@pytest.mark.parametrize(
    ("family", "change", "operator"),
    [
        ("mistral", {"layer_types": ["full_attention"] * 4}, "windows by layer"),
        ("gemma3", {"attn_logit_softcapping": 5.0}, "a cap that is not applied"),
        ("llama", {"rope_parameters": {**_YARN, "truncate": False}}, "without truncation"),
        (
            "gemma3",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "rotations linear",
        ),
    ],
)
def test_what_only_the_library_computes_is_left_to_the_native_lane(
    family: str, change: dict[str, Any], operator: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    place = altered(folder(family), tmp_path / "m", change)
    with pytest.raises(OperatorError, match=operator):
        load_portable(place)
    assert np.abs(native(place) - by_transformers(place)).max() < MOST_ERRORS[1]


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings: found 'false'"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantised weights|does not run"),
        ("llama", {"num_hidden_layers": 5000}, "at most 4096"),
        (
            "qwen3",
            {"layer_types": ["full_attention"] * 4, "rope_parameters": {"full_attention": {}}},
            "rotations by|run",
        ),
        ("llama", {"rope_parameters": {**_YARN, "attention_factor": 0.0}}, "rope scaling"),
        ("granite", {"attention_multiplier": 0.0}, "attention_multiplier: found 0"),
        ("granite", {"attention_multiplier": None}, "attention_scale: found 0"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: found 0"),
        ("phi3", {"sliding_window": 0}, "sliding_window: found 0"),
        ("gemma2", {"sliding_window": None}, "sliding_window: found none"),
        ("phi3", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "phi3"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "IndexError"),
        ("gemma3", {"rope_parameters": {"full_attention": [3]}}, "expected the fields"),
        ("gemma3", {"rope_parameters": {}, "rope_local_base_freq": "x"}, "expected the fields"),
        ("llama", {"rope_parameters": {"rope_type": ["default"]}}, "rope_type|does not run"),
        ("llama", {"hidden_act": ["silu"]}, "activation|does not run"),
        ("llama", {"attention_bias": True}, "biases|missing keys"),
    ],
)
def test_a_config_that_transformers_would_refuse_is_refused_in_both_lanes(
    family: str, change: dict[str, Any], message: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    place = altered(folder(family), tmp_path / "m", change)
    for load in (load_portable, load_model):
        with pytest.raises(ModelError, match=message) as refused:
            load(place)
        assert "\n" not in str(refused.value)


def test_layers_are_counted_before_lists_of_them_are_made() -> None:
    with pytest.raises(ModelError, match="at most 4096"):
        features({"model_type": "gemma2"}, 5000)


def test_layers_without_number_are_refused_of_unknown_decoders_too(tmp_path: Path) -> None:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 96, "eos_token_id": 2}
    place = altered(write_config(tmp_path / "gpt2", "gpt2", sizes), tmp_path / "m", {"n_layer": 5000})
    with pytest.raises(ModelError, match="at most 4096"):
        load_model(place)


# --- tensors


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_output_matrix_is_the_embedding_s_copy_or_refused(same: bool, tmp_path: Path) -> None:
    """Transformers ties no matrix to one that has other values; it would compute another function."""
    place = write_family(tmp_path / "m", "qwen2", {"tie_word_embeddings": True})
    honest, tensors = load_portable(place).manifest, load_file(place / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].copy()
    if not same:
        head[5, 7] += 1
    save_file({**tensors, "lm_head.weight": head}, place / "model.safetensors", metadata={"format": "pt"})
    if same:
        assert load_portable(place).manifest == honest
        return
    for load in (load_portable, load_model):
        with pytest.raises(ModelError, match=r"lm_head\.weight: found another matrix"):
            load(place)


@pytest.mark.parametrize(
    ("change", "message"), [("extra", "unexpected keys"), ("missing", "missing keys"), ("shape", "does not run")]
)
def test_tensors_of_a_llama_with_unknown_operators_are_checked(
    change: str, message: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """What is committed to is what is executed, also where only the library knows which tensors those are."""
    rope = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
    place = altered(folder("llama"), tmp_path / "m", rope)
    assert np.abs(native(place) - by_transformers(place)).max() < MOST_ERRORS[1]
    tensors, name = load_file(place / "model.safetensors"), "model.layers.0.self_attn.q_proj.weight"
    tensors |= {
        "extra": {"model.layers.0.more": np.ones(3, np.float32)},
        "missing": {},
        "shape": {name: np.ones((63, 64), np.float32)},
    }[change]
    if change == "missing":
        del tensors[name]
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message) as refused:
        load_model(place)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["gpt_neo", "xglm"])
def test_sizes_under_older_names_are_found(name: str, tmp_path: Path) -> None:
    own = {
        "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8},
        "xglm": {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96},
    }
    place = write_config(tmp_path / "m", name, own[name])
    assert np.abs(native(place) - by_transformers(place)).max() < MOST_ERRORS[1]


def test_a_decoder_whose_state_is_elsewhere_is_refused(tmp_path: Path) -> None:
    """Token by token it would forget what came before, and answer all the same."""
    place = write_config(tmp_path / "m", "mamba", {"state_size": 8})
    with pytest.raises(ModelError, match="kept 0 positions of 2"):
        load_model(place)
