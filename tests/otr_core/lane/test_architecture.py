from __future__ import annotations

import dataclasses

import pytest

from otr_core.errors import ModelError
from otr_core.lane.architecture import Architecture
from otr_core.lane.rotary import RopeScaling
from otr_paper.labs.tiny import TINY


def test_config_round_trip() -> None:
    assert Architecture.from_config(TINY.config()) == TINY


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def test_scaled_rotary_positions_round_trip_in_both_spellings_and_change_the_identity() -> None:
    scaled = dataclasses.replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16))
    assert scaled.config()["rope_parameters"] == {**LLAMA3, "rope_theta": TINY.rope_theta}
    assert Architecture.from_config(scaled.config()) == scaled
    older = {**TINY.config(), "rope_theta": TINY.rope_theta, "rope_scaling": LLAMA3}
    del older["rope_parameters"]
    assert Architecture.from_config(older) == scaled
    assert scaled.config() != TINY.config()


@pytest.mark.parametrize("change", [{"factor": 0.5}, {"low_freq_factor": 4.0}, {"original_max_position_embeddings": 0}])
def test_scaled_rotary_positions_outside_their_domain_are_refused(change: dict[str, float]) -> None:
    config = TINY.config() | {"rope_parameters": {**LLAMA3, **change, "rope_theta": 1e4}}
    with pytest.raises(ModelError, match="rope scaling"):
        Architecture.from_config(config)


def test_older_spelling_of_rope_and_missing_defaults() -> None:
    config = TINY.config()
    theta = config.pop("rope_parameters")["rope_theta"]
    config |= {"rope_theta": theta, "rope_scaling": None, "eos_token_id": 2}
    for name in ("attention_bias", "mlp_bias", "head_dim"):
        del config[name]
    assert Architecture.from_config(config) == TINY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mixtral"),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4}),
        ("rope_scaling", {"type": "dynamic", "factor": 2}),
        ("num_key_value_heads", 3),
        ("hidden_size", 0),
        ("hidden_size", "32"),
        ("eos_token_id", 64),
        ("eos_token_id", []),
        ("rms_norm_eps", 0),
        ("head_dim", 7),
    ],
)
def test_what_the_lane_does_not_compute_is_refused(field: str, value: object) -> None:
    config = TINY.config() | {field: value}
    if field == "rope_scaling":
        del config["rope_parameters"]
    with pytest.raises(ModelError, match="config"):
        Architecture.from_config(config)


def test_a_missing_field_is_named() -> None:
    config = TINY.config()
    del config["intermediate_size"]
    with pytest.raises(ModelError, match="intermediate_size"):
        Architecture.from_config(config)


def test_check_tensors_names_what_is_wrong() -> None:
    good = TINY.tensors()
    TINY.check_tensors(good)
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelError, match=f"{name} missing"):
        TINY.check_tensors({key: shape for key, shape in good.items() if key != name})
    with pytest.raises(ModelError, match=r"lm_head.weight extra"):
        TINY.check_tensors(good | {"lm_head.weight": (64, 32)})
    with pytest.raises(ModelError, match=r"up_proj.*found shape \(32, 48\), expected \(48, 32\)"):
        TINY.check_tensors(good | {name: (32, 48)})


def test_tensors_are_those_of_the_library() -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        architecture = Architecture.from_config(TINY.config() | {"tie_word_embeddings": tied})
        with torch.device("meta"):
            module = LlamaForCausalLM(LlamaConfig(**architecture.config()))
        expected = {name: tuple(value.shape) for name, value in module.named_parameters()}
        assert architecture.tensors() == expected
