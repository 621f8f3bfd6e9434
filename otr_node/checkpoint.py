"""Reading a checkpoint folder: every small file once, and what is built from those bytes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch

from otr_core.encoding import json_object, parse_json
from otr_core.errors import InputError, ModelError, reported_as
from otr_core.lane.architecture import Architecture
from otr_core.poea.manifest import ModelManifest
from otr_node import weights
from otr_node.tokenizer import ChatTokenizer

Tensors = dict[str, torch.Tensor]
"""Tensors by their name in the checkpoint."""
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NAMES = {dtype: name for name, dtype in _STORED.items()} | {torch.int32: "I32", torch.int16: "I16", torch.int64: "I64"}

#: The small files that are read, and their most bytes. What is made of a model is made of these
#: and of its tensors.
_READ = {
    "config.json": 2**20,
    "generation_config.json": 2**20,
    "tokenizer.json": 2**26,
    "tokenizer_config.json": 2**23,
    "chat_template.jinja": 2**19,
}
#: Names that are never opened: they can change nothing. What tokenizers keep twice (its forms before
#: ``tokenizer.json``), what people read, what tools for copying and training leave behind. Any other
#: name is refused, so that nobody takes a file for part of the model that is not in its identity.
_INERT = (
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
    *("README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", ".gitattributes", ".gitignore", "conversion.json"),
    *("all_results.json", "eval_results.json", "train_results.json", "trainer_state.json"),
)
_DOCUMENTS = ("config.json", "generation_config.json", "tokenizer_config.json")
_OPTIONAL = ("generation_config.json", "chat_template.jinja")
_INERT_FOLDERS = (".git", ".cache")


@dataclass(frozen=True)
class Checkpoint:
    """What the small files of a checkpoint folder say, each read once.

    Attributes:
        folder: where its tensors lie.
        architecture: its decoder and stop ids. tokenizer: with its chat template.
    """

    folder: Path
    architecture: Architecture
    tokenizer: ChatTokenizer


def read_checkpoint(folder: Path, *, outlined: bool = False) -> Checkpoint:
    """Read the small files of a checkpoint folder and check that no unknown ones lie beside them.

    The stop ids are those of ``generation_config.json`` where it has some, as the library's own
    ``generate`` takes them, else those of ``config.json``. Nothing else of that file is read: how tokens
    are chosen is the order's to say, and penalties or lists of tokens there change no answer. The chat
    template is the file ``chat_template.jinja``, else the entry of ``tokenizer_config.json``.

    Args:
        outlined: whether a decoder will do whose operators are not known here, for a native lane.

    Raises:
        ModelError: no such folder, a file that is absent, unknown, too large or does not parse,
            or not a decoder that can be read.
    """
    check_names(folder)
    content = {name: _read(folder / name, most) for name, most in _READ.items()}
    with reported_as(ModelError, str(folder), InputError, UnicodeDecodeError):
        texts = {name: raw.decode("utf-8") for name, raw in content.items() if raw is not None}
        config, generation, settings = (
            json_object(parse_json(texts.get(name, "{}"), what=name), what=name) for name in _DOCUMENTS
        )
        stop = generation.get("eos_token_id")
        template = texts.get("chat_template.jinja", settings.get("chat_template"))
        if not isinstance(template, str):
            raise ModelError(f"{folder}: no chat template, expected chat_template.jinja (an instruction-tuned model)")
        tokenizer = ChatTokenizer(content["tokenizer.json"] or b"", settings, template)
        read = Architecture.outlined if outlined else Architecture.from_config
        architecture = read(config if stop is None else {**config, "eos_token_id": stop})
    return Checkpoint(folder, architecture, tokenizer)


def check_names(folder: Path) -> None:
    """Refuse a checkpoint folder that holds anything but its own files and inert ones.

    Raises:
        ModelError: no such folder, or the first name in it that is neither.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder, expected a checkpoint; get the default model with: otr data fetch")
    known = {*_READ, *(path.name for path in weights.safetensors_files(folder)), weights.INDEX}
    for path in sorted(folder.iterdir()):
        inert = _INERT_FOLDERS if path.is_dir() else _INERT
        if (path.name in known and not path.is_dir()) or any(fnmatchcase(path.name, pattern) for pattern in inert):
            continue
        raise ModelError(
            f"{path}: found a {'folder' if path.is_dir() else 'file'} that is no part of a checkpoint here, expected "
            f"{', '.join(_READ)}, safetensors weights and files that nothing reads; move it out of the folder"
        )


class StoredTensors(Mapping[str, torch.Tensor]):
    """The checkpoint's tensors as torch tensors in their stored dtype, each read when it is asked
    for.

    Raises:
        ModelError: missing, extra or wrongly shaped tensors, a file that does not parse; where one
            is read, NaN or infinite values.
    """

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self._found = {tensor.name: tensor for tensor in weights.read_tensors(folder)}
        if architecture.tied and not architecture.stated:
            self._drop_copy()
        architecture.check_tensors({name: tensor.shape for name, tensor in self._found.items()})
        for name, tensor in self._found.items():
            if tensor.dtype not in _STORED:
                raise ModelError(f"tensor {name}: found dtype {tensor.dtype}, expected one of {', '.join(_STORED)}")

    def _drop_copy(self) -> None:
        """Leave out a tied output matrix: the embedding stands in its place."""
        head, embedding = self._found.pop("lm_head.weight", None), self._found.get("model.embed_tokens.weight")
        if head is None or embedding is None:
            return
        ours, theirs = (np.frombuffer(tensor.data, np.uint8) for tensor in (head, embedding))
        if head.dtype != embedding.dtype or not np.array_equal(ours, theirs):
            raise ModelError(
                "tensor lm_head.weight: found another matrix than model.embed_tokens.weight, expected its copy or none "
                "where config.json says tie_word_embeddings"
            )

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._found[name]
        value = torch.frombuffer(bytearray(tensor.data), dtype=_STORED[tensor.dtype]).reshape(tensor.shape)
        # A sum is finite only if all its values are, which takes one pass and no mask. Weights are
        # far from the limit of the format, so that a sum of finite ones does not overflow.
        if not torch.isfinite(value.sum(dtype=torch.float64 if value.numel() < 4096 else torch.float32)):
            raise ModelError(f"tensor {name}: holds NaN or infinite values, expected finite weights")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _Renamed(Mapping[str, torch.Tensor]):
    """Tensors under other names.

    Args:
        names: the name in ``tensors`` of each.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_variant(
    checkpoint: Checkpoint, drop_layers: Sequence[int] = (), alter: Callable[[Tensors], Tensors] | None = None
) -> tuple[Architecture, Mapping[str, torch.Tensor]]:
    """Decoder and tensors of a checkpoint or a variant (arguments as ``load_model``), each tensor
    read when it is asked for; all at once where ``alter`` wants them.

    Raises:
        ModelError: a checkpoint or variant that does not fit its own description.
    """
    architecture = checkpoint.architecture
    tensors: Mapping[str, torch.Tensor] = StoredTensors(checkpoint.folder, architecture)
    if drop_layers:
        architecture, tensors = without_layers(architecture, tensors, drop_layers)
    if alter is not None:
        tensors = alter(dict(tensors))
        architecture.check_tensors({name: tuple(value.shape) for name, value in tensors.items()})
    return architecture, tensors


def read_variant(
    checkpoint: Checkpoint, drop_layers: Sequence[int] = (), alter: Callable[[Tensors], Tensors] | None = None
) -> tuple[Architecture, Tensors]:
    """``open_variant`` with all tensors read."""
    architecture, tensors = open_variant(checkpoint, drop_layers, alter)
    return architecture, dict(tensors)


def without_layers(
    architecture: Architecture, tensors: Mapping[str, torch.Tensor], dropped: Sequence[int]
) -> tuple[Architecture, Mapping[str, torch.Tensor]]:
    """The decoder with some layers left out and the rest renumbered.

    Raises:
        ModelError: a layer that is not there, or none left.
    """
    gone = set(dropped)
    kept = [layer for layer in range(architecture.layers) if layer not in gone]
    if not kept or gone - set(range(architecture.layers)):
        raise ModelError(f"drop_layers: found {sorted(gone)}, expected some of 0 to {architecture.layers - 1}, not all")
    names = {name: name for name in tensors if not name.startswith("model.layers.")}
    for new, old in enumerate(kept):
        prefix = f"model.layers.{old}."
        own = [name for name in tensors if name.startswith(prefix)]
        names |= {f"model.layers.{new}.{name.removeprefix(prefix)}": name for name in own}
    return replace(architecture, layers=len(kept)), _Renamed(tensors, names)


def commit_tensors(tensors: Tensors) -> weights.WeightCommitment:
    """Weight commitment of tensors in memory, in the bytes that are executed."""
    return weights.commit_weights(stored(name, value) for name, value in sorted(tensors.items()))


def stored(name: str, value: torch.Tensor) -> weights.Tensor:
    """A tensor as it is committed to."""
    data = value.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data
    return weights.Tensor(name, _NAMES[value.dtype], tuple(value.shape), data)


def make_manifest(
    checkpoint: Checkpoint, architecture: Architecture, lane: str, commitment: weights.WeightCommitment
) -> ModelManifest:
    """Manifest of executed tensors and their decoder, with the tokenizer and template of
    ``checkpoint``."""
    return ModelManifest(
        weights_root=commitment.root.hex(),
        weights_leaves=len(commitment.leaf_hashes),
        tokenizer=checkpoint.tokenizer.tokenizer_digest.hex(),
        config=architecture.config(),
        chat_template=checkpoint.tokenizer.template_digest.hex(),
        lane=lane,
    )


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` torch threads, and put back what was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read(path: Path, most: int) -> bytes | None:
    """All bytes of a regular file, at most ``most``; None if an optional one is not there."""
    try:
        # without waiting: a pipe in the file's place would never end
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ModelError(f"{path}: not a regular file, expected a file of a checkpoint folder")
            raw = stream.read(most + 1)
    except OSError as error:
        if path.name in _OPTIONAL and isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        raise ModelError(
            f"{path}: {error.strerror}, expected a file of a checkpoint folder; run: otr data fetch"
        ) from error
    if len(raw) > most:
        raise ModelError(f"{path}: found more than {most} bytes, expected a small file of a checkpoint folder")
    return raw
