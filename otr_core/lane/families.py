"""The families of decoders that the portable lane computes, as what each adds to a plain Llama.

A family is known by its ``model_type``. What stands in its ``config.json`` beside a Llama's entries
is read here into fields of ``Architecture``, and written back in one form, which a model id hashes.
Source of the entries and their defaults: the configuration classes of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otr_core.errors import ModelError, OperatorError

SILU, GELU = "silu", "gelu_pytorch_tanh"
_SLIDES = "sliding_attention"
MOST_LAYERS = 4096
"""Far more than any decoder has; a config that says more would be read for hours."""

#: Entries of a config.json that name an operator which this lane does not have.
_UNKNOWN = {
    "num_local_experts": "mixture of experts",
    "num_experts": "mixture of experts",
    "n_routed_experts": "mixture of experts",
    "q_lora_rank": "latent attention",
    "kv_lora_rank": "latent attention",
    "state_size": "state space",
    "mamba_d_state": "state space",
    "linear_num_key_heads": "linear attention",
    "layer_norm_eps": "LayerNorm",
    "layer_norm_epsilon": "LayerNorm",
    "vision_config": "image encoder",
    "text_config": "image encoder",
}
#: Entries of known families that switch an operator on which this lane does not have.
_SWITCHES = {
    "attention_bias": "biases of attention's output",
    "mlp_bias": "biases of the MLP",
    "use_bidirectional_attention": "attention to later positions",
    "quantization_config": "quantised weights",
}


def unsupported(operator: str, found: str) -> OperatorError:
    """The refusal of a model that needs an operator which this lane does not have."""
    return OperatorError(f'config {found}: needs the operator "{operator}", which the portable lane does not have')


@dataclass(frozen=True)
class Family:
    """What a family adds to a plain Llama.

    Attributes:
        class_name: of its decoder in transformers.
        always: fields of ``Architecture`` that all its models have.
        stated: config entry → (field of ``Architecture``, its value where the entry is absent); a
            value that is null or false stands for none.
        defaults: of a Llama's entries where they are absent. activation: entry that names it.
        slides: of layer number i, whether it slides, from the config; used where no "layer_types"
            are stated. None: all layers slide, if there is a window.
        switch: entry that must be true for a window to count.
    """

    class_name: str
    always: Mapping[str, Any] = field(default_factory=dict)
    stated: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "hidden_act"
    slides: Callable[[Mapping[str, Any], int], bool] | None = None
    switch: str = ""


def _late(config: Mapping[str, Any], layer: int) -> bool:
    return layer >= int(config.get("max_window_layers", 28))


def _alternating(config: Mapping[str, Any], layer: int) -> bool:
    return layer % 2 == 0


def _mostly(config: Mapping[str, Any], layer: int) -> bool:
    return (layer + 1) % int(config.get("sliding_window_pattern", 6)) != 0


def unturned(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The layers of a SmolLM3 that do not turn queries and keys by their position."""
    stated, layers = config.get("no_rope_layers"), int(config["num_hidden_layers"])
    if stated is None:
        interval = int(config.get("no_rope_layer_interval", 4))
        stated = [(layer + 1) % interval != 0 for layer in range(layers)]
    return tuple(layer for layer in range(layers) if not stated[layer])


def _unturned_too(config: Mapping[str, Any], layer: int) -> bool:
    return layer in unturned(config)


def _gemma(score_cap: float, logit_cap: float) -> dict[str, tuple[str, Any]]:
    return {
        "sliding_window": ("window", 4096),
        "attn_logit_softcapping": ("score_cap", score_cap),
        "final_logit_softcapping": ("logit_cap", logit_cap),
        "query_pre_attn_scalar": ("query_scalar", 256),
    }


_WINDOW, _NO_WINDOW = {"sliding_window": ("window", 4096)}, {"sliding_window": ("window", 0)}
_GEMMA = {"one_plus": True, "scaled_by_width": True}
_SANDWICH = {**_GEMMA, "normed_after": True}
_WIDE_HEADS = {"head_dim": 256, "tie_word_embeddings": True}
_MULTIPLIERS = {
    "embedding_multiplier": ("embedding_scale", 1.0),
    "residual_multiplier": ("residual_scale", 1.0),
    "attention_multiplier": ("attention_scale", 1.0),
    "logits_scaling": ("logit_divisor", 1.0),
}

FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", {}, _WINDOW),
    "qwen2": Family("Qwen2ForCausalLM", {"biased": True}, _WINDOW, slides=_late, switch="use_sliding_window"),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        {"head_norms": "head"},
        _WINDOW,
        {"head_dim": 128},
        slides=_late,
        switch="use_sliding_window",
    ),
    "gemma": Family("GemmaForCausalLM", _GEMMA, {}, _WIDE_HEADS),
    "gemma2": Family(
        "Gemma2ForCausalLM", _SANDWICH, _gemma(50.0, 30.0), _WIDE_HEADS, "hidden_activation", _alternating
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {**_SANDWICH, "head_norms": "head"},
        _gemma(0.0, 0.0),
        _WIDE_HEADS,
        "hidden_activation",
        _mostly,
    ),
    "phi3": Family("Phi3ForCausalLM", {"fused": True}, _NO_WINDOW),
    "olmo2": Family("Olmo2ForCausalLM", {"head_norms": "all", "normed_before": False, "normed_after": True}),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        {},
        _NO_WINDOW,
        {"tie_word_embeddings": True, "rope_theta": 2000000.0},
        slides=_unturned_too,
        switch="use_sliding_window",
    ),
    "granite": Family("GraniteForCausalLM", {}, _MULTIPLIERS),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family that a ``config.json`` names.

    Raises:
        OperatorError: another family, or an entry that needs an operator which this lane does not
            have; names it.
    """
    name = config.get("model_type")
    found = FAMILIES.get(name) if isinstance(name, str) else None
    if found is None:
        for entry, operator in _UNKNOWN.items():
            if config.get(entry) is not None:
                raise unsupported(operator, f"model_type {name!r}, {entry}")
        raise OperatorError(f"config model_type: found {name!r}, expected one of {', '.join(FAMILIES)}")
    for entry, operator in _SWITCHES.items():
        if config.get(entry):
            raise unsupported(operator, f"{entry} of {name}")
    if name == "mistral" and "layer_types" in config:  # which transformers takes for another family
        raise unsupported("windows by layer", "layer_types of mistral")
    if name == "gemma3_text" and config.get("attn_logit_softcapping"):  # which transformers reads and leaves out
        raise unsupported("a cap that is not applied", "attn_logit_softcapping of gemma3_text")
    return found


def features(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Fields of ``Architecture`` beyond a plain Llama's, from a config of a known family.

    Raises:
        ModelError: an activation that the lane does not have, or "layer_types" of other layers.
    """
    family = family_of(config)
    if type(layers) is not int or layers > MOST_LAYERS:
        raise ModelError(f"config num_hidden_layers: found {layers!r:.20}, expected at most {MOST_LAYERS}")
    result = dict(family.always)
    activation = config.get(family.activation) or config.get("hidden_act")
    if config["model_type"] == "gemma" and activation == "gelu":
        activation = GELU  # what the first release of its checkpoints says, and does not mean
    expected = GELU if config["model_type"].startswith("gemma") else SILU
    if (activation or expected) not in (SILU, GELU):
        raise unsupported(f"activation {activation}", family.activation)
    result["gelu"] = (activation or expected) == GELU
    for entry, (name, default) in family.stated.items():
        value = config.get(entry, default)
        if entry in config and value == 0 and value is not False:
            raise ModelError(f"config {entry}: found 0, expected a positive number, or null where there is none")
        value = value or 0
        result[name] = value if name in ("window", "query_scalar") else float(value)
    if family.switch and not config.get(family.switch):
        result["window"] = 0
    elif family.slides is not None and not family.switch and not result["window"]:
        raise ModelError("config sliding_window: found none, expected a positive integer: layers of this family slide")
    if config["model_type"] == "smollm3":
        result["second_turns"] = unturned(config)
    if not result.get("window"):
        return result
    types = config.get("layer_types")
    if types is not None and family.slides is not None:
        if not isinstance(types, list) or len(types) != layers or not set(types) <= {_SLIDES, "full_attention"}:
            raise ModelError(f"config layer_types: found {types!r}, expected sliding or full attention of each layer")
        sliding = [layer for layer in range(layers) if types[layer] == _SLIDES]
    else:
        sliding = [layer for layer in range(layers) if family.slides is None or family.slides(config, layer)]
    result["sliding"] = tuple(sliding)
    if config["model_type"] == "gemma3_text":
        result["second_turns"] = tuple(sliding)
    return result


def config_entries(name: str, fields: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The config entries that ``features`` reads, from the fields that it gives."""
    family = FAMILIES[name]
    result: dict[str, Any] = {family.activation: GELU if fields["gelu"] else SILU}
    for entry, (attribute, _) in family.stated.items():
        result[entry] = fields[attribute] or None
    if family.switch:
        result[family.switch] = bool(fields["window"])
    if family.slides is not None:
        sliding = set(fields["sliding"])
        result["layer_types"] = [_SLIDES if layer in sliding else "full_attention" for layer in range(layers)]
    if name == "smollm3":
        result["no_rope_layers"] = [int(layer not in fields["second_turns"]) for layer in range(layers)]
    return result
