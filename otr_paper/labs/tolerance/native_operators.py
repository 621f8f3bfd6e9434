"""The operators of a native lane's decoder: what each reads and gives, how a run is recorded, what
an honest one gives.

A *state* holds the values between the operators of one layer by name: float64 arrays (positions,
width), exact copies of what the lane computed. A *run* is the list of the layers' states; one more
state, at number ``layers``, holds what follows the last layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.models.llama import modeling_llama as llama

from otr_core.lane.architecture import Architecture
from otr_node.checkpoint import torch_threads
from otr_node.native import NativeModel
from otr_paper.labs.tolerance import tolerance
from otr_paper.labs.tolerance.tolerance import FORMATS, Format, Reference

State = dict[str, np.ndarray]
"""Values between the operators of one layer, by name."""
Run = list[State]
"""The states of all layers, and of what follows the last."""


@dataclass(frozen=True)
class NativeOperator:
    """One operator of the decoder.

    Attributes:
        name: as tables show it. kind: which of the rule's formulas bounds it.
        inputs: names of the committed values it reads. output: name of the one it gives.
        weight: its tensor's name in the checkpoint, without the layer's prefix; "" if it has none.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    weight: str = ""


def _linear(name: str, source: str, part: str) -> NativeOperator:
    return NativeOperator(name, "linear", (source,), name, f"{part}.{name}_proj.weight")


LAYER_OPERATORS = (
    NativeOperator("attention norm", "norm", ("in",), "normed", "input_layernorm.weight"),
    _linear("q", "normed", "self_attn"),
    _linear("k", "normed", "self_attn"),
    _linear("v", "normed", "self_attn"),
    NativeOperator("q rotary", "rotary", ("q",), "q rotated"),
    NativeOperator("k rotary", "rotary", ("k",), "k rotated"),
    NativeOperator("attention", "attention", ("q rotated", "k rotated", "v"), "mixed"),
    _linear("o", "mixed", "self_attn"),
    NativeOperator("attention residual", "residual", ("in", "o"), "middle"),
    NativeOperator("MLP norm", "norm", ("middle",), "MLP normed", "post_attention_layernorm.weight"),
    _linear("gate", "MLP normed", "mlp"),
    _linear("up", "MLP normed", "mlp"),
    NativeOperator("SiLU · up", "swiglu", ("gate", "up"), "activated"),
    _linear("down", "activated", "mlp"),
    NativeOperator("MLP residual", "residual", ("middle", "down"), "out"),
)
FINAL_OPERATORS = (
    NativeOperator("final norm", "norm", ("in",), "normed", "model.norm.weight"),
    NativeOperator("lm_head", "linear", ("normed",), "logits", "lm_head.weight"),
)
OPERATORS: Mapping[str, NativeOperator] = {operator.name: operator for operator in (*LAYER_OPERATORS, *FINAL_OPERATORS)}


@dataclass(frozen=True)
class Referee:
    """Knows what an honest run of one model may give.

    Attributes:
        fmt: how the model's lane stores and accumulates. tensors: the executed weights by name,
            float64.
    """

    architecture: Architecture
    fmt: Format
    tensors: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, model: NativeModel) -> Referee:
        tensors = {
            name: value.detach().double().cpu().numpy()
            for name, value in model.module.state_dict().items()
            if not name.endswith("lm_head.weight") or not model.architecture.tied
        }
        if model.architecture.tied:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        return cls(model.architecture, FORMATS[model.manifest.lane], tensors)

    def operators(self, layer: int) -> tuple[NativeOperator, ...]:
        """The operators of a layer in the order of computation; for number ``layers``, those after
        the last layer."""
        return LAYER_OPERATORS if layer < self.architecture.layers else FINAL_OPERATORS

    def reference(self, operator: NativeOperator, layer: int, state: State) -> Reference:
        """Exact output and bound at every position, from the committed inputs in ``state``."""
        a, fmt = self.architecture, self.fmt
        inside = f"model.layers.{layer}." if layer < a.layers else ""
        weight = self.tensors[inside + operator.weight] if operator.weight else np.empty(0)
        rows = [state[name] for name in operator.inputs]
        match operator.kind:
            case "linear":
                return tolerance.linear(rows[0], weight, fmt)
            case "norm":
                return tolerance.rms_norm(rows[0], weight, a.rms_eps, fmt)
            case "rotary":
                return tolerance.rotary(rows[0], np.arange(len(rows[0])), tolerance.rotary_frequencies(a), fmt)
            case "attention":
                return tolerance.attention(rows[0], rows[1], rows[2], a.head_dim, fmt)
            case "swiglu":
                return tolerance.swiglu(rows[0], rows[1], fmt)
        return tolerance.residual(rows[0], rows[1], fmt)


@dataclass(frozen=True)
class Schedule:
    """One honest way to run a sequence.

    Attributes:
        threads: of each forward pass. rows: equal sequences in the batch. pad: padding tokens on
            the left.
        first_piece: so many tokens are fed at once, the rest one by one; None: all at once.
    """

    name: str
    threads: int = 1
    rows: int = 1
    pad: int = 0
    first_piece: int | None = None


def record(model: NativeModel, ids: Sequence[int], schedule: Schedule) -> Run:
    """Run ``ids`` as ``schedule`` says and keep every operator's inputs and outputs (of the batch's
    last row)."""
    mask = torch.tensor([[0] * schedule.pad + [1] * len(ids)] * schedule.rows, device=model.device)
    batch = torch.tensor([[0] * schedule.pad + list(ids)] * schedule.rows, device=model.device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    total = batch.shape[1]
    first = total if schedule.first_piece is None else schedule.pad + min(schedule.first_piece, len(ids))
    cuts = [0, first, *range(first + 1, total + 1)]
    kept: dict[tuple[int, str], list[np.ndarray]] = {}

    def keep(layer: int, name: str, value: torch.Tensor) -> None:
        kept.setdefault((layer, name), []).append(_rows(value).detach().double().cpu().numpy())

    cache = DynamicCache()
    with torch_threads(schedule.threads), torch.inference_mode(), watching(model.module, keep):
        for begin, end in pairwise(cuts):
            model.module(
                batch[:, begin:end],
                attention_mask=mask[:, :end],
                position_ids=places[:, begin:end],
                past_key_values=cache,
                use_cache=True,
            )
    run: Run = [{} for _ in range(model.architecture.layers + 1)]
    for (layer, name), parts in kept.items():
        run[layer][name] = np.concatenate(parts)[schedule.pad :]
    return run


def _rows(value: torch.Tensor) -> torch.Tensor:
    """The last sequence's values as (positions, width); rotated heads (batch, heads, positions,
    values) are joined."""
    last = value[-1]
    return last.transpose(0, 1).flatten(1) if last.ndim == 3 else last


@contextlib.contextmanager
def watching(module: Any, keep: Callable[[int, str, torch.Tensor], None]) -> Iterator[None]:
    """Call ``keep(layer, name, value)`` with every value between operators while ``module``
    runs."""
    handles = []
    layers = module.model.layers

    def watch(part: Any, layer: int, before: str, after: str) -> None:
        def hook(_part: Any, inputs: Any, output: Any) -> None:
            if before:
                keep(layer, before, inputs[0])
            keep(layer, after, output[0] if isinstance(output, tuple) else output)

        handles.append(part.register_forward_hook(hook))

    for number, layer in enumerate(layers):
        attention, mlp = layer.self_attn, layer.mlp
        for part, before, after in (
            (layer.input_layernorm, "in", "normed"),
            (attention.q_proj, "", "q"),
            (attention.k_proj, "", "k"),
            (attention.v_proj, "", "v"),
            (attention.o_proj, "mixed", "o"),
            (layer.post_attention_layernorm, "middle", "MLP normed"),
            (mlp.gate_proj, "", "gate"),
            (mlp.up_proj, "", "up"),
            (mlp.down_proj, "activated", "down"),
            (layer, "", "out"),
        ):
            watch(part, number, before, after)
    watch(module.model.norm, len(layers), "in", "normed")
    watch(module.lm_head, len(layers), "", "logits")

    plain, calls = llama.apply_rotary_pos_emb, iter(range(10**9))

    def rotated(*args: Any, **kwargs: Any) -> Any:
        query, key = plain(*args, **kwargs)
        layer = next(calls) % len(layers)
        keep(layer, "q rotated", query)
        keep(layer, "k rotated", key)
        return query, key

    llama.apply_rotary_pos_emb = rotated
    try:
        yield
    finally:
        llama.apply_rotary_pos_emb = plain
        for handle in handles:
            handle.remove()
