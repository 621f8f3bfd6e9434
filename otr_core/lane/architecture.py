"""The shape of a Llama decoder: what a checkpoint must hold, and what its config may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.errors import ModelError

PLAIN = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""What a ``config.json`` says of a decoder that is computed here; only the first must be there."""


@dataclass(frozen=True)
class RopeScaling:
    """Rotary scaling "llama3" (Llama 3.1 and later): only slow rotations are stretched.

    Attributes:
        factor: stretch of the slow rotations, at least 1.
        low_freq_factor, high_freq_factor: where the transition between the two begins and ends, low
            below high.
        original_context: positions the unscaled model was trained for.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and 0 < self.low_freq_factor < self.high_freq_factor and self.original_context >= 1):
            raise ModelError(f"config rope scaling: found {self}, expected factor >= 1 and 0 < low < high")

    @classmethod
    def from_config(cls, rope: Mapping[str, Any]) -> RopeScaling:
        """Read the "llama3" entries of ``rope_parameters`` or ``rope_scaling``."""
        return cls(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_context=int(rope["original_max_position_embeddings"]),
        )

    def config(self) -> dict[str, Any]:
        """The entries as transformers reads them."""
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_context,
        }


@dataclass(frozen=True)
class Architecture:
    """Dimensions (counts) and constants of a Llama decoder, under the names of the checkpoint.

    Attributes:
        hidden, intermediate: width of the residual stream and of the MLP.
        layers, heads, kv_heads, head_dim: decoder layers, query heads, key/value heads, values per
            head.
        vocab, context: token ids, and the most positions that the model was trained for.
        rms_eps, rope_theta: constants of RMSNorm and of the rotary embedding.
        tied: the output matrix is the embedding matrix.
        stop_ids: token ids that end an answer.
        rope_scaling: of Llama 3.1 and later; None for plain rotary positions.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rms_eps: float
    rope_theta: float
    tied: bool
    stop_ids: tuple[int, ...]
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"config {name}: found {value!r}, expected a positive integer")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ModelError(
                f"config heads: found {self.heads} over {self.kv_heads} of {self.head_dim} values, "
                "expected a whole number of query heads per key head and an even head size"
            )
        if not 0 < self.rms_eps < 1 or not self.rope_theta > 1:
            raise ModelError(f"config constants: found rms_eps {self.rms_eps}, rope_theta {self.rope_theta}")
        if not self.stop_ids or any(type(token) is not int or not 0 <= token < self.vocab for token in self.stop_ids):
            raise ModelError(f"config stop ids: found {self.stop_ids}, expected ids below {self.vocab}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a checkpoint's ``config.json``.

        Raises:
            ModelError: not a Llama decoder, or one with a feature (biases, other rotary scalings)
                not computed here.
        """
        rope: dict[str, Any] = {}
        for name in ("rope_scaling", "rope_parameters"):
            entries = config.get(name) or {}
            if not isinstance(entries, Mapping):
                raise ModelError(f"config {name}: found {type(entries).__name__}, expected an object")
            rope |= entries
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type not in ("default", "llama3"):
            raise ModelError(f"config rope_type: found {rope_type!r}, expected 'default' or 'llama3'")
        for name, expected in PLAIN.items():
            found = config.get(name, None if name == "model_type" else expected)
            if found != expected:
                raise ModelError(f"config {name}: found {found!r}, expected {expected!r} (only plain Llama runs)")
        try:
            heads = config["num_attention_heads"]
            stop = config["eos_token_id"]
            return cls(
                hidden=config["hidden_size"],
                intermediate=config["intermediate_size"],
                layers=config["num_hidden_layers"],
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                vocab=config["vocab_size"],
                context=config["max_position_embeddings"],
                rms_eps=float(config["rms_norm_eps"]),
                rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
                tied=bool(config.get("tie_word_embeddings", False)),
                stop_ids=tuple(sorted(set(stop))) if isinstance(stop, list) else (stop,),
                rope_scaling=RopeScaling.from_config(rope) if rope_type == "llama3" else None,
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ModelError(f"config: {error!r}, expected the fields of a Llama config.json") from error

    def config(self) -> dict[str, Any]:
        """The same facts as a ``config.json``, in the form that a model id hashes."""
        scaling = {"rope_type": "default"} if self.rope_scaling is None else self.rope_scaling.config()
        return {
            "architectures": ["LlamaForCausalLM"],
            **PLAIN,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.rms_eps,
            "rope_parameters": {**scaling, "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tied,
            "eos_token_id": sorted(set(self.stop_ids)),
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor of the checkpoint, without a tied output matrix."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab, self.hidden)
        for layer in range(self.layers):
            for part, shape in (
                ("input_layernorm", (self.hidden,)),
                ("self_attn.q_proj", (query, self.hidden)),
                ("self_attn.k_proj", (key, self.hidden)),
                ("self_attn.v_proj", (key, self.hidden)),
                ("self_attn.o_proj", (self.hidden, query)),
                ("post_attention_layernorm", (self.hidden,)),
                ("mlp.gate_proj", (self.intermediate, self.hidden)),
                ("mlp.up_proj", (self.intermediate, self.hidden)),
                ("mlp.down_proj", (self.hidden, self.intermediate)),
            ):
                shapes[f"model.layers.{layer}.{part}.weight"] = shape
        return shapes

    def check_tensors(self, found: Mapping[str, tuple[int, ...]]) -> None:
        """Compare a checkpoint's tensors with what this decoder needs.

        Raises:
            ModelError: a tensor is missing, extra or of another shape.
        """
        expected = self.tensors()
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        if missing or extra:
            detail = f"{missing[0]} missing" if missing else f"{extra[0]} extra"
            raise ModelError(
                f"checkpoint tensors: found {len(found)} ({len(missing)} missing, {len(extra)} extra: {detail}), "
                f"expected {len(expected)}; the checkpoint does not fit its config.json"
            )
        for name, shape in expected.items():
            if tuple(found[name]) != shape:
                raise ModelError(f"tensor {name}: found shape {tuple(found[name])}, expected {shape}")
