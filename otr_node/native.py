"""The native lanes: a checkpoint run by transformers in fp32 or bf16, offline, in one way.

Attention is eager, there is one thread unless told otherwise, batch 1 and no padding, and the
prompt is fed in one piece, then one token at a time. On one machine this repeats bit for bit.
Across thread counts, batches and instruction sets it does not; the portable lane does.
"""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otr_core.errors import InputError, ModelError, reported_as
from otr_core.lane.architecture import Architecture
from otr_core.lane.sampling import choose_token
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.trace import Recorder
from otr_node.checkpoint import commit_tensors, make_manifest, read_checkpoint, read_variant, torch_threads
from otr_node.model import ROWS_AT_ONCE, Session
from otr_node.quiet import quiet_transformers
from otr_node.tokenizer import ChatTokenizer

DTYPES = {"native-float32": "float32", "native-bfloat16": "bfloat16"}
"""Native lane -> name of the torch type that it computes in."""


@dataclass(frozen=True)
class NativeModel:
    """A checkpoint loaded by ``load_native``.

    Attributes:
        manifest: of what was loaded: its digests are over the executed tensors, those of a variant
            included.
        tokenizer: with the chat template. module: the transformers one. device: as torch names it. threads: of each
            forward pass.
    """

    architecture: Architecture
    manifest: ModelManifest
    tokenizer: ChatTokenizer
    module: Any
    device: str
    threads: int

    def session(self) -> Session:
        """A new, empty sequence."""
        return _NativeSession(self)

    def choose(self, logits: np.ndarray, temperature_milli: int, drawn: int) -> int:
        """The next token (``sampling.choose_token``), from logits of shape (vocab,)."""
        return choose_token(logits, temperature_milli, drawn)

    def configuration(self) -> dict[str, Any]:
        """What the bits of a native lane depend on besides the model; goes into the receipt."""
        import transformers

        cuda = self.device.startswith("cuda")
        if cuda:
            kernels = f"sm_{''.join(map(str, torch.cuda.get_device_capability(self.device)))}"
        else:
            kernels = torch.backends.cpu.get_cpu_capability()
        return {
            "lane": self.manifest.lane,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "attention": "eager",
            "schedule": "whole prompt, then single tokens; batch 1; no padding",
            "threads": self.threads,
            "device": torch.cuda.get_device_name(self.device) if cuda else platform.machine(),
            "kernels": kernels,
        }


def load_native(
    folder: Path | str,
    *,
    lane: str = "native-float32",
    device: str = "cpu",
    threads: int = 1,
    **variant: Any,
) -> NativeModel:
    """``load_model`` for the native lanes: "native-float32" or "native-bfloat16".

    Args:
        variant: ``drop_layers`` and ``alter``.

    Raises:
        ModelError: see ``load_model``.
    """
    checkpoint = read_checkpoint(Path(folder), outlined=True)
    architecture, tensors = read_variant(checkpoint, **variant)
    tensors = {name: value.to(getattr(torch, DTYPES[lane])) for name, value in tensors.items()}
    manifest = make_manifest(checkpoint, architecture, lane, commit_tensors(tensors))
    known = architecture.family == "llama" and not architecture.stated
    module = _llama(architecture, tensors) if known else _any(architecture, tensors)
    module.eval().requires_grad_(False)
    module.to(torch.device(device))
    model = NativeModel(architecture, manifest, checkpoint.tokenizer, module, device, threads)
    if architecture.stated:
        _check_kept(model)
    return model


def _check_kept(model: NativeModel) -> None:
    """
    Raises:
        ModelError: a decoder whose state is not in its keys and values, where a session keeps it.
    """
    session, found = _NativeSession(model), f"config model_type: found {model.architecture.family!r}"
    what = "a decoder that keeps keys and values of all positions"
    with reported_as(ModelError, found, LookupError, TypeError, ValueError, AttributeError, expected=what):
        for token in (0, 0):
            session.feed([token])
        kept = session._cache.get_seq_length()
    if kept != 2:
        raise ModelError(f"{found}, which kept {kept} positions of 2, expected {what}")


def _llama(architecture: Architecture, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The module of a Llama, which holds ``tensors`` themselves."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(**{**architecture.config(), "attn_implementation": "eager"})
    with torch.device("meta"):
        module = LlamaForCausalLM(config)
    module.load_state_dict(tensors, assign=True, strict=False)
    if architecture.tied:
        module.tie_weights()
    # its table is no tensor of the checkpoint
    module.model.rotary_emb = LlamaRotaryEmbedding(config)
    return module


def _any(architecture: Architecture, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The module of any decoder that transformers has, with weights ``tensors``.

    Raises:
        ModelError: the library has no such decoder, or its tensors are others.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    # what the library takes as padding may lie beyond the vocabulary; nothing is padded here
    entries = {"pad_token_id": None, **architecture.config()}
    name = entries.get("model_type")
    entries.pop("auto_map", None)  # code that a checkpoint brings along is never run
    try:
        with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
            # Read as the library reads a file: a few families are known there by more than their name.
            (Path(folder) / "config.json").write_text(json.dumps(entries))
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            dtype = next(iter(tensors.values())).dtype
            how: dict[str, Any] = {"attn_implementation": "eager", "dtype": dtype, "output_loading_info": True}
            module, found = kind.from_pretrained(None, config=config, state_dict=dict(tensors), **how)
    except Exception as error:  # a library raises whatever a config that it cannot read leads it to
        why = " ".join(str(error).split())
        raise ModelError(f"config model_type: found {name!r}, which transformers does not run ({why})") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found[what]:
            named = sorted(map(str, found[what]))[0]
            raise ModelError(f"checkpoint tensors: found {what.replace('_', ' ')} ({named}), expected those of {name}")
    return module


def _layers(module: Any, count: int) -> Any:
    """The list of decoder layers in a module."""
    lists = [each for each in module.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == count]
    if not lists:
        raise InputError(f"decoder layers: found no list of {count}, expected one to trace")
    return lists[0]


class _NativeSession:
    """One sequence, with keys and values in a cache of transformers."""

    def __init__(self, model: NativeModel) -> None:
        from transformers import DynamicCache

        self._model = model
        self._cache = DynamicCache()
        self._position = 0

    def feed(self, ids: Sequence[int], recorder: Recorder | None = None) -> np.ndarray:
        """As ``Session.feed``; float32 logits."""
        model, count = self._model, len(ids)
        with torch_threads(model.threads), torch.inference_mode(), contextlib.ExitStack() as stack:
            if recorder is not None:
                layers = _layers(model.module, model.architecture.layers)
                stack.enter_context(_capture(layers, self._cache, self._position, count, recorder))
            result = model.module(
                input_ids=torch.tensor([list(ids)], device=model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self._position += count
            return np.asarray(result.logits[0, -1].float().cpu())


@contextlib.contextmanager
def _capture(layers: Any, cache: Any, position: int, count: int, recorder: Recorder) -> Iterator[None]:
    """Hand each layer's output and new cache rows to ``recorder`` during one forward pass.

    Args:
        layers: the decoder's. position: of the first token fed. count: how many are fed.
    """
    pending: list[tuple[int, Any]] = []

    def as_bytes(rows: Any) -> np.ndarray:
        return np.asarray(rows.contiguous().view(torch.uint8).cpu())

    def new_rows(side: str) -> Any:
        # (layers, 1, heads, positions, values) to (layers, positions, heads × values): one row per
        # position
        rows = [getattr(cache.layers[layer], side).narrow(2, position, count) for layer, _ in pending]
        return torch.cat(rows).transpose(1, 2).flatten(2)

    def watched(layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            pending.append((layer, output[0] if isinstance(output, tuple) else output))
            if len(pending) * count >= ROWS_AT_ONCE or layer == len(layers) - 1:
                outputs = torch.cat([rows for _, rows in pending])
                rows = (as_bytes(each) for each in (outputs, new_rows("keys"), new_rows("values")))
                recorder.absorb(pending[0][0], position, *rows)
                pending.clear()
            return output

        return run

    # The forward method is replaced, and no hook registered: with hooks torch takes a slower way
    # through every layer, which would be a third of what the trace costs.
    for number, layer in enumerate(layers):
        layer.forward = watched(number, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own comes back
