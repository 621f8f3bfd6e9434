"""From a GGUF file to a checkpoint folder, once: fp32 tensors, tokenizer, configuration.

Tensors are de-quantised. Tokenizer and configuration are written without the metadata of the
converting library, so that a model id, which hashes them, does not change with the library's
version.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from otr_core.encoding import canonical_json, json_object, parse_json
from otr_core.errors import InputError, ModelError, reported_as
from otr_core.files import check_sha256, sha256_file
from otr_core.lane.architecture import Architecture
from otr_node.folders import whole_folder
from otr_node.quiet import quiet_transformers

_FORMAT = "otr-conversion/1"
_RECORD = "conversion.json"
_WRITTEN = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
_TOKENIZER_FACTS = ("tokenizer_class", "bos_token", "eos_token", "pad_token", "unk_token")


def convert_gguf(gguf: Path, folder: Path, *, report: Callable[[str], None] = lambda line: None) -> Path:
    """``folder``, with the model of ``gguf`` in it: converted at the first call, checked later.

    Takes about 20 s of CPU time and 1.5 GB for 135M parameters. Written whole or not at all; safe
    to call from several processes at once.

    Args:
        gguf: a GGUF file of a Llama decoder, already checked against its pinned hash by the caller.
        report: gets one line when a conversion starts and one when it is done.

    Raises:
        ModelError: not a GGUF file that holds a plain Llama decoder; or the record of an earlier
            conversion says nothing of a file that each has.
        HashMismatchError, MissingDataError: an earlier conversion was truncated or altered.
        InputError: the folder cannot be written, or the disk is full.
    """
    with _only_one(folder):
        source = sha256_file(gguf)
        if (folder / _RECORD).is_file():
            what = str(folder / _RECORD)
            record = json_object(parse_json((folder / _RECORD).read_bytes(), what=what), what=what)
            if (record.get("format"), record.get("gguf_sha256")) == (_FORMAT, source):
                files = json_object(record.get("files"), what=f"files of {what}")
                if missing := ", ".join(sorted(_WRITTEN - files.keys())):
                    raise ModelError(f"{what}: found no hash of {missing}, expected one; rm -r {folder}")
                for name, digest in files.items():
                    check_sha256(folder / name, digest, mend=f"rm -r {folder} && otr data fetch")
                return folder
        report(f"converting {gguf.name} to safetensors (once, about half a minute) …")
        _remove_parts(folder)
        with reported_as(InputError, f"{folder.parent}: cannot write here", OSError), whole_folder(folder) as part:
            _write(gguf, part, source)
        report(f"converted: {folder.name}")
        return folder


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep other processes from converting into ``folder`` meanwhile, by a lock beside it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{folder.parent}: cannot write here ({error.strerror}); make the folder writable") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_parts(folder: Path) -> None:
    """Remove what processes left that were killed while they converted into ``folder``; none does so now."""
    for path in folder.parent.glob(f".{folder.name}.????????"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _write(gguf: Path, part: Path, source: str) -> None:
    """Convert ``gguf`` into ``part``."""
    with open(gguf, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{gguf}: not a GGUF file (wrong first bytes); expected a model in GGUF format")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                local_files_only=True,
            )
    except Exception as error:  # the library's parser raises whatever a damaged file leads it to
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{gguf}: not readable as a GGUF model ({why})") from error
    architecture = Architecture.from_config(model.config.to_dict())
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if architecture.tied:
        tensors.pop("lm_head.weight", None)  # the same memory as the embedding
    architecture.check_tensors({name: tuple(value.shape) for name, value in tensors.items()})
    write_converted(part, tensors, tokenizer, architecture, source)


def write_converted(
    part: Path, tensors: dict[str, Any], tokenizer: Any, architecture: Architecture, source: str
) -> None:
    """Write a converted model, with the hashes of its files and its source.

    Args:
        part: an empty folder. tensors: torch's, by name. tokenizer: transformers'. source: SHA-256 of
            what it was converted from.

    Raises:
        InputError: the disk is full, or does not take so large a file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(sorted(tensors.items())), part / "model.safetensors", metadata={"format": "pt"})
        with reported_as(InputError, "tokenizer.json", Exception):  # as such its library reports a full disk
            tokenizer.save_pretrained(str(part))
        settings = json.loads((part / "tokenizer_config.json").read_bytes())
        _dump(part / "tokenizer_config.json", {key: settings[key] for key in _TOKENIZER_FACTS if key in settings})
        _dump(part / "config.json", architecture.config())
        files = {path.name: sha256_file(path) for path in sorted(part.iterdir())}
        _dump(part / _RECORD, {"format": _FORMAT, "gguf_sha256": source, "files": files})
    except (OSError, SafetensorError, InputError) as error:
        needed = sum(tensor.nbytes for tensor in tensors.values())
        raise InputError(
            f"{part.parent}: cannot write the converted model, which takes {needed} bytes ({error})"
        ) from error


def _dump(path: Path, value: Any) -> None:
    path.write_bytes(canonical_json(value) + b"\n")
