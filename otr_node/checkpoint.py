"""Reading a checkpoint folder: its decoder, checked tensors, tokenizer, manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from otr_core.errors import ModelError
from otr_core.lane.architecture import Architecture
from otr_core.poea import manifest, weights
from otr_core.poea.manifest import ModelManifest
from otr_node.convert import read_source_sha256

Tensors = dict[str, torch.Tensor]
"""Tensors by their name in the checkpoint."""
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NAMES = {dtype: name for name, dtype in _STORED.items()} | {torch.int32: "I32", torch.int16: "I16", torch.int64: "I64"}


def read_variant(
    folder: Path, drop_layers: Sequence[int] = (), alter: Callable[[Tensors], Tensors] | None = None
) -> tuple[Architecture, Tensors]:
    """Decoder and checked tensors of a checkpoint or a variant (arguments as ``load_model``).

    Raises:
        ModelError: no such folder, or a checkpoint or variant that does not fit its own
            description.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder, expected a checkpoint; get the default model with: otr data fetch")
    architecture = manifest.read_architecture(folder)
    tensors = read_checked(folder, architecture)
    if drop_layers:
        architecture, tensors = without_layers(architecture, tensors, drop_layers)
    if alter is not None:
        tensors = alter(tensors)
        architecture.check_tensors({name: tuple(value.shape) for name, value in tensors.items()})
    return architecture, tensors


def read_checked(folder: Path, architecture: Architecture) -> Tensors:
    """The checkpoint's tensors as torch tensors, in their stored dtype.

    Raises:
        ModelError: missing, extra or wrongly shaped tensors, NaN or infinite values, a file that
            does not parse.
    """
    result: Tensors = {}
    unused = {"lm_head.weight"} if architecture.tied else set()  # the embedding stands in its place
    found = {tensor.name: tensor for tensor in weights.read_tensors(folder) if tensor.name not in unused}
    architecture.check_tensors({name: tensor.shape for name, tensor in found.items()})
    for name, tensor in found.items():
        if tensor.dtype not in _STORED:
            raise ModelError(f"tensor {name}: found dtype {tensor.dtype}, expected one of {', '.join(_STORED)}")
        value = torch.frombuffer(bytearray(tensor.data), dtype=_STORED[tensor.dtype]).reshape(tensor.shape)
        # A sum is finite only if all its values are, which takes one pass and no mask. Weights are
        # far from the limit of the format, so that a sum of finite ones does not overflow.
        if not torch.isfinite(value.sum(dtype=torch.float64 if value.numel() < 4096 else torch.float32)):
            raise ModelError(f"tensor {name}: holds NaN or infinite values, expected finite weights")
        result[name] = value
    return result


def without_layers(
    architecture: Architecture, tensors: Tensors, dropped: Sequence[int]
) -> tuple[Architecture, Tensors]:
    """The decoder with some layers left out and the rest renumbered.

    Raises:
        ModelError: a layer that is not there, or none left.
    """
    gone = set(dropped)
    kept = [layer for layer in range(architecture.layers) if layer not in gone]
    if not kept or gone - set(range(architecture.layers)):
        raise ModelError(f"drop_layers: found {sorted(gone)}, expected some of 0 to {architecture.layers - 1}, not all")
    result = {name: value for name, value in tensors.items() if not name.startswith("model.layers.")}
    for new, old in enumerate(kept):
        prefix = f"model.layers.{old}."
        result |= {
            f"model.layers.{new}.{name.removeprefix(prefix)}": value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    return replace(architecture, layers=len(kept)), result


def commit_tensors(tensors: Tensors) -> weights.WeightCommitment:
    """Weight commitment of tensors in memory, in the bytes that are executed."""

    def stored(name: str, value: torch.Tensor) -> weights.Tensor:
        data = value.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data
        return weights.Tensor(name, _NAMES[value.dtype], tuple(value.shape), data)

    return weights.commit_weights(stored(name, value) for name, value in sorted(tensors.items()))


def make_manifest(
    folder: Path, architecture: Architecture, lane: str, commitment: weights.WeightCommitment
) -> ModelManifest:
    """Manifest of executed tensors together with the tokenizer and template of ``folder``."""
    return ModelManifest(
        weights_root=commitment.root.hex(),
        weights_leaves=len(commitment.leaf_hashes),
        tokenizer=manifest.tokenizer_digest(folder).hex(),
        config=manifest.config_digest(architecture).hex(),
        chat_template=manifest.chat_template_digest(manifest.read_chat_template(folder)).hex(),
        lane=lane,
        source_sha256=read_source_sha256(folder),
    )


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer, with its chat template.

    Raises:
        ModelError: the files do not parse.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: tokenizer not readable ({str(error).splitlines()[0]})") from error
    tokenizer.chat_template = manifest.read_chat_template(folder)
    return tokenizer


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` torch threads, and put back what was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
