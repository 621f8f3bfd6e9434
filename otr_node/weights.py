"""Weight commitment: one RFC 6962 tree over the executed tensors, by name, in 1 MiB chunks.

A leaf's content is ``u32 length ‖ header ‖ chunk``. The header is the canonical JSON of {name,
dtype, shape, chunk, chunks}, so that no byte of one tensor can stand for another's. Tied tensors
are committed once. Bytes are little-endian as in a safetensors file, but the header and padding of
such a file are not hashed: two files with the same tensors have the same root.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core import merkle
from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import InputError, ModelError

CHUNK_BYTES = 2**20
#: Bytes of one number, by the name that safetensors gives its type.
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_ITEM_BYTES |= {"U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
INDEX = "model.safetensors.index.json"
"""File that names the shards of weights which lie in several files."""
_HEADER_LIMIT = 100 * 2**20  # as the safetensors format itself states


@dataclass(frozen=True)
class Tensor:
    """One tensor as committed: ``dtype`` as safetensors spells it, row-major little-endian data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def __post_init__(self) -> None:
        if self.dtype not in _ITEM_BYTES:
            raise ModelError(f"tensor {self.name}: found dtype {self.dtype!r}, expected one of {sorted(_ITEM_BYTES)}")
        expected = _ITEM_BYTES[self.dtype]
        for size in self.shape:
            expected *= size
        if self.data.nbytes != expected:
            raise ModelError(f"tensor {self.name}: found {self.data.nbytes} bytes, expected {expected}")


@dataclass(frozen=True)
class WeightCommitment:
    """Root of the tree, and its leaf hashes (32 bytes each, in tree order) to make proofs from."""

    root: bytes
    leaf_hashes: tuple[bytes, ...]


def chunk_header(name: str, dtype: str, shape: tuple[int, ...], chunk: int, chunks: int) -> bytes:
    """The header that binds a chunk to its place; ``leaf content = header ‖ chunk``."""
    text = canonical_json({"name": name, "dtype": dtype, "shape": list(shape), "chunk": chunk, "chunks": chunks})
    return struct.pack("<I", len(text)) + text


def commit_weights(tensors: Iterable[Tensor]) -> WeightCommitment:
    """Commit to tensors, each read once.

    Args:
        tensors: in sorted-name order (checked); tied tensors appear once.

    Raises:
        ModelError: names unsorted or repeated, or no tensors.
    """
    hashes: list[bytes] = []
    last = ""
    for tensor in tensors:
        if tensor.name <= last:
            raise ModelError(f"tensor order: found {tensor.name!r} after {last!r}, expected sorted names, each once")
        last = tensor.name
        hashes += _leaf_hashes(tensor)
    if not hashes:
        raise ModelError("weights: found no tensors, expected a checkpoint")
    return WeightCommitment(merkle.root_of_hashes(hashes), tuple(hashes))


def _leaf_hashes(tensor: Tensor) -> Iterator[bytes]:
    data = tensor.data.cast("B") if tensor.data.format != "B" or tensor.data.ndim != 1 else tensor.data
    chunks = max(1, -(-data.nbytes // CHUNK_BYTES))
    for chunk in range(chunks):
        digest = hashlib.sha256(b"\x00")  # as merkle.leaf_hash, but the chunk is not copied first
        digest.update(chunk_header(tensor.name, tensor.dtype, tensor.shape, chunk, chunks))
        digest.update(data[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES])
        yield digest.digest()


def safetensors_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint: ``model.safetensors``, or the shards its index names.

    Raises:
        ModelError: neither is there, or a shard is missing.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(parse_json(index.read_bytes())["weight_map"].values()))
        except (InputError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index}: not readable as a shard index ({error!r})") from error
        if any(Path(str(name)).name != name or len(name) > 200 for name in names):
            raise ModelError(f"{index}: a shard lies outside the checkpoint's folder, or has too long a name")
        files = [folder / name for name in names]
    else:
        files = [folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path}: not here, expected the weights of a checkpoint; get it with: otr data fetch")
    return files


def read_header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Where tensor bytes begin in a safetensors file, and its entries {dtype, shape, data_offsets}.

    Raises:
        ModelError: truncated, altered or not such a file: entries must tile the file's data
            exactly.
    """

    def bad(reason: str) -> ModelError:
        return ModelError(f"{path}: corrupted safetensors file ({reason}); delete its folder and run: otr data fetch")

    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise bad(f"found a header of {length} bytes in a file of {size}")
        try:
            header = parse_json(stream.read(length).decode("utf-8"))
            header.pop("__metadata__", None)
            spans = []
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                spans.append((begin, end, name))
                entry["shape"] = tuple(entry["shape"])
                if any(type(number) is not int or number < 0 for number in (begin, end, *entry["shape"])):
                    raise ValueError(f"tensor {name}: offsets {begin!r} and {end!r}, shape {entry['shape']!r}")
                if entry["dtype"] not in _ITEM_BYTES:
                    raise ValueError(f"found dtype {entry['dtype']!r}")
        except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise bad(f"unreadable header: {error!r}") from error
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position or end < begin:
            raise bad(f"tensor {name} begins at {begin}, expected {position}")
        position = end
    if 8 + length + position != size:
        raise bad(f"found {size} bytes, expected {8 + length + position}")
    return 8 + length, header


def read_tensors(folder: Path) -> Iterator[Tensor]:
    """The tensors of a checkpoint in sorted-name order, mapped from disk and not read until used.

    Raises:
        ModelError: see ``safetensors_files`` and ``read_header``; a tensor in two shards.
    """
    places: dict[str, tuple[memoryview, dict[str, Any]]] = {}
    for path in safetensors_files(folder):
        start, header = read_header(path)
        with open(path, "rb") as stream:
            view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        for name, entry in header.items():
            if name in places:
                raise ModelError(f"{path}: tensor {name} found in two shards, expected once")
            begin, end = entry["data_offsets"]
            places[name] = (view[start + begin : start + end], entry)
    for name in sorted(places):
        data, entry = places[name]
        yield Tensor(name, entry["dtype"], entry["shape"], data)


def commit_folder(folder: Path, *, tied: bool) -> WeightCommitment:
    """Commit to a checkpoint, with ``tied`` without ``lm_head.weight``, the embedding's copy."""
    return commit_weights(tensor for tensor in read_tensors(folder) if not (tied and tensor.name == "lm_head.weight"))
