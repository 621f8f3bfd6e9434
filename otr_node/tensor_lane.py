"""The lane ``h100-bf16``: a plain Llama in blocks of tensor cores and IEEE fp32 steps, replayed on a CPU.

Every product with a matrix, and both of attention, are bf16 blocks of 16 in the order of columns, one
fp32 accumulator, no split (``otr_core.lane.blocks``). What stands between them is defined in
``otr_core.lane.tensor_steps``. The residual stream is fp32. Rounded to bf16, to nearest even, are:
weights, outputs of norms, turned queries and keys, values, weights of attention, its output, and what
enters the MLP's last matrix. No bit depends on threads, on the instruction set, or on how a sequence is
cut into pieces. On a GPU ``tensor_device`` computes the same; its authors had none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.errors import InputError, ModelError
from otr_core.lane.architecture import Architecture
from otr_core.lane.tensor_program import TensorDims, tensor_layer
from otr_core.lane.tensor_steps import LANE, gated_silu, normed, turned, weighed_scores
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder
from otr_node.block_check import check_device_steps, check_host_steps, open_block_device
from otr_node.checkpoint import commit_tensors, make_manifest, open_variant, read_checkpoint
from otr_node.integers.projections import Words, replay_projection
from otr_node.portable import chosen_token
from otr_node.tensor_device import BlockDevice, DeviceSession, TensorWeights
from otr_node.tensor_values import (
    Alter,
    Floats,
    Ints,
    bf16_floats,
    fixed_logits,
    layer_values,
    one_nan,
    rotary_floats,
    to_words,
)
from otr_node.tokenizer import ChatTokenizer

_FAMILY = {field.name for field in fields(Architecture)} - {
    *("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab", "context"),
    *("rms_eps", "rope_theta", "tied", "stop_ids", "rope_scaling"),
}
"""What other families have and a plain Llama leaves as it is."""
_ROOM = 256


@dataclass(frozen=True)
class TensorModel:
    """A checkpoint in bf16.

    Attributes:
        matrices: bf16 words by name; those that meet the same rows are stacked: ``0.qkv``, ``0.out``,
            ``0.gate_up``, ``0.down`` and so on, ``embed``, ``head``. norms: float32, by name.
        threads: that share the rows of a projection. device: that computes; None: this processor.
    """

    architecture: Architecture
    manifest: ModelManifest
    tokenizer: ChatTokenizer
    matrices: dict[str, Words]
    norms: dict[str, Floats]
    threads: int
    device: BlockDevice | None = None

    def session(self) -> TensorSession | DeviceSession:
        """A new, empty sequence.

        Raises:
            HardwareError: what computes it has other fp32 steps than IEEE 754 by now (this thread flushes
                small numbers to zero, or rounds another way).
        """
        if self.device is None:
            check_host_steps()
            return TensorSession(self)
        check_device_steps(self.device)
        return DeviceSession(self._weights)

    @functools.cached_property
    def _weights(self) -> TensorWeights:
        """On the device."""
        assert self.device is not None
        return TensorWeights(self, self.device)

    def choose(self, logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
        """Next token from fp32 logits: the first largest, or, of logits as integers, where ``drawn``
        falls; in integers alone."""
        if temperature_milli == 0:
            return int(np.argmax(logits))
        return chosen_token(fixed_logits(logits), temperature_milli, drawn)

    def configuration(self) -> dict[str, Any]:
        """Nothing but the lane, which names instruction and order: no other fact changes a bit."""
        return {"lane": LANE}


def load_tensor_lane(folder: Path | str, *, device: str = "cpu", threads: int = 1, **variant: Any) -> TensorModel:
    """``load_model`` for this lane.

    Args:
        device: cpu, or a GPU that ``block_check`` finds to give the same bits. variant: ``drop_layers`` and
            ``alter``.

    Raises:
        ModelError: as ``load_model``, or a decoder that is not a plain Llama.
        HardwareError, MissingExtraError: as ``block_check.open_block_device``.
    """
    opened = None if device == "cpu" else open_block_device(device)
    checkpoint = read_checkpoint(Path(folder))
    architecture, stored = open_variant(checkpoint, **variant)
    _check_plain(architecture)
    tensors = {name: stored[name].to(torch.bfloat16) for name in stored}
    manifest = make_manifest(checkpoint, architecture, LANE, commit_tensors(tensors))
    words = {name: value.contiguous().view(torch.int16).numpy().view(np.uint16) for name, value in tensors.items()}
    matrices = {"embed": words["model.embed_tokens.weight"]}
    matrices["head"] = matrices["embed"] if architecture.tied else words["lm_head.weight"]
    norms = {"final": bf16_floats(words["model.norm.weight"])}
    for layer in range(architecture.layers):
        own = f"model.layers.{layer}."
        for name, parts in {
            "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "out": ("self_attn.o_proj",),
            "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
            "down": ("mlp.down_proj",),
        }.items():
            matrices[f"{layer}.{name}"] = np.concatenate([words[f"{own}{part}.weight"] for part in parts])
        for name, part in {"before": "input_layernorm", "after": "post_attention_layernorm"}.items():
            norms[f"{layer}.{name}"] = bf16_floats(words[f"{own}{part}.weight"])
    return TensorModel(architecture, manifest, checkpoint.tokenizer, matrices, norms, threads, opened)


def _check_plain(architecture: Architecture) -> None:
    defaults = {field.name: field.default for field in fields(Architecture) if field.name in _FAMILY}
    for name, plain in defaults.items():
        if getattr(architecture, name) != plain:
            raise ModelError(
                f"{LANE}: found a decoder of family {architecture.family} ({name}), expected a plain Llama"
            )


def _held(values: Floats) -> Ints:
    """Words as the signed numbers that operators hold."""
    return np.ascontiguousarray(values).view(np.int32).astype(np.int64)


class TensorSession:
    """One sequence, with its keys and values as bf16 words.

    Args:
        refuse: whether a state that is infinite or a NaN ends it. Whoever disputes another's answer
            computes on: such states are judged like any other.
        watch, alter: a cheat's place (position, layer), where what is computed is changed; that
            position must be fed alone.
    """

    def __init__(
        self,
        model: TensorModel,
        *,
        refuse: bool = True,
        watch: tuple[int, int] | None = None,
        alter: Alter | None = None,
    ) -> None:
        a = model.architecture
        self._refuse, self._watch, self._alter = refuse, watch, alter
        self._model, self._seen = model, 0
        self._keys = np.zeros((a.layers, a.kv_heads, 0, a.head_dim), np.uint16)
        self._values = np.zeros((a.layers, a.kv_heads, a.head_dim, 0), np.uint16)
        self._turns = np.zeros((2, 0, a.head_dim // 2), np.float32)

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """As ``Session.feed``; float32 logits.

        Raises:
            ModelError: a state that is infinite or a NaN, from which nothing is computed on.
        """
        logits: np.ndarray = self._logits(self._run(ids, recorder)[-1:])[0]
        return logits

    def feed_all(self, ids: Sequence[int], recorder: Recorder | None = None, first: int = 0) -> np.ndarray:
        """``feed`` with the logits after each token from number ``first`` of them on: (tokens, vocab)."""
        states = self._run(ids, recorder)[first:]
        return self._logits(states) if len(states) else np.empty((0, self._model.architecture.vocab), np.float32)

    def _run(self, ids: Sequence[int], recorder: Recorder | None) -> Floats:
        """Feed tokens: the last layer's states, (tokens, hidden)."""
        model, begin, count = self._model, self._seen, len(ids)
        if not count:
            raise InputError("feed: found no token, expected one or more")
        self._grow(begin + count)
        stream = bf16_floats(model.matrices["embed"][np.array(ids, np.int64)])
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at after each layer
            stream = self._layers(stream, recorder)
        self._seen += count
        return stream

    def _layers(self, stream: Floats, recorder: Recorder | None) -> Floats:
        model, begin, count = self._model, self._seen, len(stream)
        for layer in range(model.architecture.layers):
            if (begin, layer) == self._watch and count == 1:
                stream = self._altered(layer, stream[0])[None]
            else:
                stream = self._layer(layer, stream)
            if not np.isfinite(stream).all():
                if self._refuse:
                    raise ModelError(f"layer {layer}: found a state that is infinite or a NaN, expected finite ones")
                stream = one_nan(stream)
            if recorder is not None:
                keys = self._keys[layer, :, begin : begin + count].swapaxes(0, 1)
                values = self._values[layer, :, :, begin : begin + count].transpose(2, 0, 1)
                rows = stream, *(bf16_floats(np.ascontiguousarray(each)).reshape(count, -1) for each in (keys, values))
                recorder.absorb(layer, begin, *(np.ascontiguousarray(each, "<f4").view("u1")[None] for each in rows))
        return stream

    def _project(self, x: Words, matrix: str) -> Floats:
        model = self._model
        return replay_projection(x, model.matrices[matrix], threads=model.threads).view(np.float32)

    def _norm(self, stream: Floats, name: str) -> Words:
        epsilon = np.float32(self._model.architecture.rms_eps)
        return to_words(normed(stream, self._model.norms[name], epsilon))

    def _logits(self, stream: Floats) -> Floats:
        return self._project(self._norm(stream, "final"), "head")

    def _layer(self, layer: int, stream: Floats) -> Floats:
        a, begin, count = self._model.architecture, self._seen, len(stream)
        made = self._project(self._norm(stream, f"{layer}.before"), f"{layer}.qkv").reshape(count, -1, a.head_dim)
        cosines, sines = (table[begin : begin + count, None] for table in self._turns)
        heads = to_words(turned(made[:, : a.heads + a.kv_heads], cosines, sines))
        self._keys[layer, :, begin : begin + count] = heads[:, a.heads :].swapaxes(0, 1)
        self._values[layer, :, :, begin : begin + count] = to_words(made[:, a.heads + a.kv_heads :]).transpose(1, 2, 0)
        mixed = np.empty((count, a.heads, a.head_dim), np.float32)
        group = a.heads // a.kv_heads  # query heads that share a key and a value
        for token in range(count):
            seen = begin + token + 1
            for shared in range(a.kv_heads):
                own = slice(shared * group, (shared + 1) * group)
                scores = replay_projection(heads[token, own], self._keys[layer, shared, :seen]).view(np.float32)
                weights, total = weighed_scores(scores, a.head_dim)
                summed = replay_projection(to_words(weights), self._values[layer, shared, :, :seen])
                mixed[token, own] = summed.view(np.float32) / total
        stream = stream + self._project(to_words(mixed).reshape(count, -1), f"{layer}.out")
        made = self._project(self._norm(stream, f"{layer}.after"), f"{layer}.gate_up")
        product = to_words(gated_silu(made[:, : a.intermediate], made[:, a.intermediate :]))
        return stream + self._project(product, f"{layer}.down")

    def _altered(self, layer: int, stream: Floats) -> Floats:
        """``_layer`` of one token, with a cheat's change."""
        a, begin = self._model.architecture, self._seen
        keys = self._keys[layer, :, :begin].swapaxes(0, 1)
        values = self._values[layer, :, :, :begin].transpose(2, 0, 1)
        held = (_held(bf16_floats(np.ascontiguousarray(each))) for each in (keys, values))
        before = [each.reshape(begin, a.kv_heads * a.head_dim) for each in held]  # of none at the first position
        turn = _held(self._turns[:, begin].reshape(-1))
        made = layer_values(self._model, layer, begin, _held(stream), before[0], before[1], turn, self._alter)
        names = [operator.name for operator in tensor_layer(TensorDims.of(a), begin)]
        key, value = ((made[names.index(f"attention.{row}")] >> 16).astype(np.uint16) for row in ("key", "value"))
        self._keys[layer, :, begin] = key.reshape(a.kv_heads, -1)
        self._values[layer, :, :, begin] = value.reshape(a.kv_heads, -1)
        return (made[-1] & 0xFFFFFFFF).astype(np.uint32).view(np.float32)

    def _grow(self, needed: int) -> None:
        """Room for ``needed`` tokens."""
        have, a = self._turns.shape[1], self._model.architecture
        if needed <= have:
            return
        more = max(_ROOM, 1 << (needed - 1).bit_length()) - have
        self._keys = np.pad(self._keys, ((0, 0), (0, 0), (0, more), (0, 0)))
        self._values = np.pad(self._values, ((0, 0), (0, 0), (0, 0), (0, more)))
        self._turns = rotary_floats(a, have + more)
