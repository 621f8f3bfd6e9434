"""The shape of a decoder: what a checkpoint must hold, and what its config may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from otr_core.encoding import json_object, parse_json
from otr_core.errors import ModelError, OperatorError
from otr_core.lane import families
from otr_core.lane.rotary import Scaling, scaling_of

_PASSING = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache")
"""Entries of a config that change nothing in what is computed."""
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
FUSED = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Tensors that some families keep in one, one below the other."""


@dataclass(frozen=True)
class Architecture:
    """Dimensions (counts) and constants of a decoder, under the names of the checkpoint.

    Attributes:
        hidden, intermediate: width of the residual stream and of the MLP.
        layers, heads, kv_heads, head_dim: decoder layers, query heads, key/value heads, values per
            head.
        vocab, context: token ids, and the most positions that the model was trained for.
        rms_eps, rope_theta: constants of RMSNorm and of the rotary embedding.
        tied: the output matrix is the embedding matrix.
        stop_ids: token ids that end an answer.
        rope_scaling: how rotary positions are stretched; None for plain ones.

    What its family adds to a plain Llama:

    Attributes:
        family: its ``model_type``, one of ``families.FAMILIES``.
        biased: queries, keys and values have biases. head_norms: of queries and keys, "head" for
            each by itself, "all" for one over all of them, "" for none.
        normed_before, normed_after: norms of what enters attention and MLP, and of what leaves them.
        gelu: the activation is the GELU in its tanh form. one_plus: norms multiply with 1 + weight.
        window, sliding: positions that a sliding layer sees; which layers slide.
        second_turns: layers that turn heads by other rotations, of base ``second_theta``, or where
            that is 0 by none.
        rotary_share: of a head's values, the part that is turned.
        score_cap, logit_cap: of attention's scores and of the logits; 0 for none.
        query_scalar: attention's scores are divided by its root; 0 for ``head_dim``.
        attention_scale: by what scores are multiplied instead; 0 for none.
        scaled_by_width, embedding_scale: the embedding is multiplied by the root of its width, and
            by a constant.
        residual_scale: by what is multiplied what attention and MLP add. logit_divisor: by what
            logits are divided.
        fused: queries, keys and values are one tensor of the checkpoint, gates and ups another.
        stated: of a decoder that only the native lanes run (``outlined``), its config as JSON; its
            family and what that adds are then not known here.
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
    rope_scaling: Scaling | None = None
    family: str = "llama"
    biased: bool = False
    head_norms: str = ""
    normed_before: bool = True
    normed_after: bool = False
    gelu: bool = False
    one_plus: bool = False
    window: int = 0
    sliding: tuple[int, ...] = ()
    second_turns: tuple[int, ...] = ()
    second_theta: float = 0.0
    rotary_share: float = 1.0
    score_cap: float = 0.0
    logit_cap: float = 0.0
    query_scalar: float = 0
    attention_scale: float = 0.0
    scaled_by_width: bool = False
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    fused: bool = False
    stated: str = ""

    def __post_init__(self) -> None:
        for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"config {name}: found {value!r}, expected a positive integer")
        if self.layers > families.MOST_LAYERS:
            raise ModelError(f"config layers: found {self.layers}, expected at most {families.MOST_LAYERS}")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ModelError(
                f"config heads: found {self.heads} over {self.kv_heads} of {self.head_dim} values, "
                "expected a whole number of query heads per key head and an even head size"
            )
        if not 0 < self.rms_eps < 1 or not self.rope_theta > 1:
            raise ModelError(f"config constants: found rms_eps {self.rms_eps}, rope_theta {self.rope_theta}")
        if type(self.window) is not int or self.window < 0:
            raise ModelError(f"config sliding_window: found {self.window!r}, expected a positive integer or none")
        scales: tuple[str, ...] = ("embedding_scale", "residual_scale", "logit_divisor", "rotary_share")
        scales += ("attention_scale",) if self.family == "granite" and not self.stated else ()
        for name in (*scales, "score_cap", "logit_cap", "query_scalar", "attention_scale"):
            value = getattr(self, name)
            if not (value > 0 if name in scales else value >= 0) or value > 2**20:
                raise ModelError(f"config {name}: found {value!r}, expected a positive number")
        partial = self.family == "phi3" and not (self.rope_scaling or self.rotary % 2 or self.rotary_share > 1)
        if self.rotary_share != 1 and not partial:
            raise ModelError(
                f"config partial_rotary_factor: found {self.rotary_share} of {self.head_dim}, "
                "expected 1, or of a phi3 a whole number of pairs without rope scaling"
            )
        if self.family == "phi3" and self.rope_scaling:
            raise families.unsupported(f"rotations {type(self.rope_scaling).__name__}", "rope_type of phi3")
        if type(self.tied) is not bool:
            raise ModelError(f"config tie_word_embeddings: found {self.tied!r}, expected true or false")
        if not self.stop_ids or any(type(token) is not int or not 0 <= token < self.vocab for token in self.stop_ids):
            raise ModelError(f"config stop ids: found {self.stop_ids}, expected ids below {self.vocab}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a checkpoint's ``config.json``.

        Raises:
            ModelError: no decoder of a known family, or one that needs an operator which this lane
                does not have; names it.
        """
        family = families.family_of(config)
        # A null stands for an absent entry, except where it switches something off.
        stated = {name: value for name, value in config.items() if value is not None or name in family.stated}
        config = {**family.defaults, **stated}
        try:
            rope, second = _rotations(config)
            heads = config["num_attention_heads"]
            stop = config["eos_token_id"]
            added = families.features(config, config["num_hidden_layers"])
            if added.get("second_turns"):
                added["second_theta"] = second
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
                tied=config.get("tie_word_embeddings", False),
                stop_ids=tuple(sorted(set(stop))) if isinstance(stop, list) else (stop,),
                rope_scaling=scaling_of(rope),
                family=config["model_type"],
                rotary_share=float(rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))),
                **added,
            )
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise ModelError(
                f"config: {error!r}, expected the fields of a {config['model_type']} config.json"
            ) from error

    @classmethod
    def outlined(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a checkpoint's ``config.json`` for a lane that leaves the decoder to a library.

        A decoder of known operators is read as in ``from_config``. Of any other its config is kept
        whole, and its sizes are read under the names that are in use for them.

        Raises:
            ModelError: a known decoder's entries are out of their domain, or another does not say its
                sizes.
        """
        try:
            return cls.from_config(config)
        except OperatorError:
            pass
        try:
            return cls._outline({name: value for name, value in config.items() if name not in _PASSING})
        except (TypeError, ValueError) as error:
            raise ModelError(f"config: {error!r}, expected the sizes of a decoder and its stop ids") from error

    @classmethod
    def _outline(cls, config: Mapping[str, Any]) -> Architecture:
        def size(*names: str) -> Any:
            found = next((config[name] for name in names if config.get(name) is not None), None)
            if found is None:
                raise ModelError(f"config {names[0]}: found none, expected the sizes of a decoder")
            return found

        hidden, heads = size("hidden_size", "n_embd", "d_model"), size(*_HEADS)
        stop = size("eos_token_id")
        if any(type(each) is not int or each < 1 for each in (hidden, heads)):
            raise ModelError(f"config sizes: found {hidden!r}, {heads!r}, expected positive integers")
        return cls(
            hidden=hidden,
            intermediate=config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
            layers=size("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocab=size("vocab_size"),
            context=size("max_position_embeddings", "n_positions", "max_seq_len"),
            rms_eps=1e-5,
            rope_theta=10000.0,
            tied=config.get("tie_word_embeddings") or False,
            stop_ids=tuple(sorted(set(stop))) if isinstance(stop, list) else (stop,),
            family=str(config.get("model_type")),
            stated=json.dumps({**config, "eos_token_id": stop}, sort_keys=True, allow_nan=False),
        )

    def config(self) -> dict[str, Any]:
        """The same facts as a ``config.json``, in the form that a model id hashes."""
        if self.stated:
            return dict(json_object(parse_json(self.stated, what="config"), what="config"))
        scaling = {"rope_type": "default"} if self.rope_scaling is None else self.rope_scaling.config()
        rope: dict[str, Any] = {**scaling, "rope_theta": self.rope_theta}
        if self.rotary_share != 1:
            rope["partial_rotary_factor"] = self.rotary_share
        if self.family == "gemma3_text":
            local = {"rope_type": "default", "rope_theta": self.second_theta or 10000.0}
            rope = {"full_attention": rope, "sliding_attention": local}
        return {
            "architectures": [families.FAMILIES[self.family].class_name],
            "model_type": self.family,
            "attention_bias": False,
            "mlp_bias": False,
            **families.config_entries(self.family, vars(self), self.layers),
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.rms_eps,
            "rope_parameters": rope,
            "tie_word_embeddings": self.tied,
            "eos_token_id": sorted(set(self.stop_ids)),
        }

    @property
    def rotary(self) -> int:
        """Values of a head that are turned."""
        return int(self.head_dim * self.rotary_share)

    @property
    def added(self) -> dict[str, Any]:
        """What its family adds to a plain Llama: the fields that are not as there."""
        own = {name: field.default for name, field in self.__dataclass_fields__.items() if field.default is not MISSING}
        return {name: getattr(self, name) for name, plain in own.items() if getattr(self, name) != plain}

    @property
    def layer_norms(self) -> tuple[str | None, str | None, str | None, str | None]:
        """A layer's norms by their names in the checkpoint: before and after attention, before and
        after the MLP."""
        after = "post_attention_layernorm", "post_feedforward_layernorm"
        if not self.normed_after:
            return "input_layernorm", None, "post_attention_layernorm", None
        if not self.normed_before:
            return None, after[0], None, after[1]
        return "input_layernorm", after[0], "pre_feedforward_layernorm", after[1]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor of the checkpoint, without a tied output matrix."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        inner = {"": (0, 0), "head": (self.head_dim, self.head_dim), "all": (query, key)}[self.head_norms]
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab, self.hidden)
        for layer in range(self.layers):
            norms = {f"{name}.weight": (self.hidden,) for name in self.layer_norms if name}
            parts: dict[str, tuple[int, ...]] = dict(list(norms.items())[:1])
            parts |= {
                "self_attn.q_proj.weight": (query, self.hidden),
                "self_attn.k_proj.weight": (key, self.hidden),
                "self_attn.v_proj.weight": (key, self.hidden),
                "self_attn.o_proj.weight": (self.hidden, query),
                **norms,
                "mlp.gate_proj.weight": (self.intermediate, self.hidden),
                "mlp.up_proj.weight": (self.intermediate, self.hidden),
                "mlp.down_proj.weight": (self.hidden, self.intermediate),
            }
            if self.biased:
                parts |= {f"self_attn.{side}_proj.bias": (query if side == "q" else key,) for side in "qkv"}
            if self.head_norms:
                parts |= {"self_attn.q_norm.weight": (inner[0],), "self_attn.k_norm.weight": (inner[1],)}
            if self.fused:
                for whole, halves in FUSED.items():
                    rows = sum(parts.pop(f"{half}.weight")[0] for half in halves)
                    parts[f"{whole}.weight"] = (rows, self.hidden)
            shapes |= {f"model.layers.{layer}.{part}": shape for part, shape in parts.items()}
        return shapes

    def check_tensors(self, found: Mapping[str, tuple[int, ...]]) -> None:
        """Compare a checkpoint's tensors with what this decoder needs.

        Of an outlined decoder the library that runs it says what it needs.

        Raises:
            ModelError: a tensor is missing, extra or of another shape.
        """
        if self.stated:
            return
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


def _rotations(config: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Rotary entries of a config, and the base of the second rotations, 0 where there are none.

    Where a config states them under both names, the older one holds, as in transformers.
    """
    older, newer = (config.get(name) or {} for name in ("rope_scaling", "rope_parameters"))
    for name, stated in (("rope_scaling", older), ("rope_parameters", newer)):
        if not isinstance(stated, Mapping):
            raise ModelError(f"config {name}: found {type(stated).__name__}, expected an object")
        if config["model_type"] != "gemma3_text" and any(isinstance(entry, Mapping) for entry in stated.values()):
            raise families.unsupported("rotations by layer", name)
    usual = {"original_max_position_embeddings": config.get("max_position_embeddings")}
    if config["model_type"] != "gemma3_text":
        outer = {name: config[name] for name in usual if name in config}
        return {**usual, **(older or newer), **outer}, 0.0
    # Its sliding layers have rotations of their own; older files state them one by one.
    plain = {"rope_type": "default"}
    sliding, full = (
        dict((newer or {kind: plain}).get(kind) or plain) for kind in ("sliding_attention", "full_attention")
    )
    if sliding.get("rope_type", "default") != "default":
        raise families.unsupported(f"rotations {sliding['rope_type']}", "rope_type of sliding layers")
    second = float(sliding.get("rope_theta", config.get("rope_local_base_freq", 10000.0)))
    return {**usual, "rope_theta": config.get("rope_theta", 1000000.0), **full, **older}, second
