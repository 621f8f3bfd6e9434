from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from otr_core import merkle
from otr_core.errors import ModelError
from otr_node import weights
from otr_paper.labs.tiny import TINY, tiny_tensors


def second_opinion(tensors: dict[str, np.ndarray]) -> bytes:
    """The definition, written naively: whole leaves, then the public Merkle root."""
    leaves = []
    for name in sorted(tensors):
        data, shape = tensors[name].tobytes(), list(tensors[name].shape)
        chunks = [data[i : i + 2**20] for i in range(0, len(data), 2**20)] or [b""]
        for number, chunk in enumerate(chunks):
            fields = {"name": name, "dtype": "F32", "shape": shape, "chunk": number, "chunks": len(chunks)}
            header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
            leaves.append(struct.pack("<I", len(header)) + header + chunk)
    return merkle.root(leaves)


def test_root_is_the_definition(tmp_path: Path) -> None:
    tensors = {"b": np.arange(600_000, dtype=np.float32).reshape(2, -1), "a": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"anything": "else"})
    commitment = weights.commit_folder(tmp_path, tied=False)
    assert commitment.root == second_opinion(tensors)
    assert len(commitment.leaf_hashes) == 1 + 3
    proof = merkle.inclusion_proof_of_hashes(commitment.leaf_hashes, 3)
    content = weights.chunk_header("b", "F32", (2, 300_000), 2, 3) + tensors["b"].tobytes()[2**21 :]
    merkle.verify_inclusion(commitment.root, merkle.leaf_hash(content), 3, 4, proof)


def test_shards_and_metadata_do_not_matter(tmp_path: Path) -> None:
    tensors = tiny_tensors(TINY)
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    whole.mkdir(), shards.mkdir()
    save_file(tensors, whole / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number in range(2):
        part = {name: tensors[name] for name in names[number::2]}
        save_file(part, shards / f"part-{number}.safetensors", metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, f"part-{number}.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert weights.commit_folder(whole, tied=True).root == weights.commit_folder(shards, tied=True).root
    (shards / "part-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"part-1.safetensors: not here"):
        weights.commit_folder(shards, tied=True)


def test_tied_output_matrix_counts_once(tmp_path: Path) -> None:
    tensors = tiny_tensors(TINY)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    save_file(tensors, tmp_path / "a" / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}, tmp_path / "b" / "model.safetensors")
    assert (
        weights.commit_folder(tmp_path / "a", tied=True).root == weights.commit_folder(tmp_path / "b", tied=True).root
    )
    assert (
        weights.commit_folder(tmp_path / "a", tied=True).root != weights.commit_folder(tmp_path / "b", tied=False).root
    )


@pytest.mark.parametrize("change", ["bit", "name", "dtype", "shape"])
def test_each_fact_about_a_tensor_changes_the_root(change: str) -> None:
    data = bytearray(np.ones(8, np.float32).tobytes())
    plain = weights.commit_weights([weights.Tensor("t", "F32", (8,), memoryview(bytes(data)))]).root
    name, dtype, shape = "t", "F32", (8,)
    if change == "bit":
        data[17] ^= 1
    name = "u" if change == "name" else name
    dtype = "I32" if change == "dtype" else dtype
    shape = (2, 4) if change == "shape" else shape
    assert weights.commit_weights([weights.Tensor(name, dtype, shape, memoryview(bytes(data)))]).root != plain


def test_order_and_emptiness_are_checked() -> None:
    def tensor(name: str) -> weights.Tensor:
        return weights.Tensor(name, "U8", (1,), memoryview(b"x"))

    for names in (["b", "a"], ["a", "a"], []):
        with pytest.raises(ModelError, match=r"tensor order|no tensors"):
            weights.commit_weights(map(tensor, names))
    with pytest.raises(ModelError, match="found 1 bytes, expected 2"):
        weights.Tensor("t", "U8", (2,), memoryview(b"x"))
    with pytest.raises(ModelError, match="found dtype 'Q4'"):
        weights.Tensor("t", "Q4", (1,), memoryview(b"x"))


def header_of(raw: bytes) -> bytes:
    return raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]].strip()


def with_header(raw: bytes, text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + raw[8 + struct.unpack("<Q", raw[:8])[0] :]


def corrupt_header(raw: bytes, change: Callable[[dict], None]) -> bytes:
    header = json.loads(header_of(raw))
    change(header)
    return with_header(raw, json.dumps(header).encode())


FIRST = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:7],
        lambda raw: raw[:100],
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: struct.pack("<Q", 2**60) + raw[8:],
        lambda raw: raw[:9] + b"\xff" + raw[10:],
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].pop("shape")),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(dtype="Q4")),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(data_offsets=[4, 8192])),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(data_offsets=[0])),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(dtype=["F32"])),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(shape=[64.0, 32])),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(shape=["64", 32])),
        lambda raw: corrupt_header(raw, lambda header: header[FIRST].update(shape=[-64, -32])),
        lambda raw: with_header(raw, b"[" * 100_000),
        lambda raw: with_header(raw, b"[]"),
        lambda raw: with_header(raw, header_of(raw).decode().encode("utf-16")),
        lambda raw: with_header(raw, header_of(raw).replace(b'"data_offsets":[0,', b'"data_offsets":[1e999,')),
        lambda raw: with_header(raw, header_of(raw)[:-1] + b',"a":1,"a":1}'),
    ],
)
def test_a_corrupted_file_is_a_named_error(tiny: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "model.safetensors").write_bytes(damage((tiny / "model.safetensors").read_bytes()))
    with pytest.raises(ModelError, match="corrupted safetensors file"):
        weights.commit_folder(tmp_path, tied=True)


def test_no_weights_and_odd_indexes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not here"):
        weights.commit_folder(tmp_path, tied=True)
    index = tmp_path / "model.safetensors.index.json"
    odd = ["{", "[]", "[" * 100_000, '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "x", "a": "x"}}']
    odd += [json.dumps({"weight_map": {"a": name}}) for name in ("../outside.safetensors", "a" * 5000)]
    for text in odd:
        index.write_text(text)
        with pytest.raises(ModelError, match="index"):
            weights.commit_folder(tmp_path, tied=True)


def test_the_parser_agrees_with_the_library(tiny: Path) -> None:
    expected = load_file(tiny / "model.safetensors")
    found = {tensor.name: tensor for tensor in weights.read_tensors(tiny)}
    assert list(found) == sorted(expected)
    for name, tensor in found.items():
        assert hashlib.sha256(tensor.data).digest() == hashlib.sha256(expected[name].tobytes()).digest()
        assert tensor.shape == expected[name].shape


@pytest.mark.model
def test_smollm2_root_is_the_recorded_fact(smollm2: Path) -> None:
    """Recomputed fact: 135M fp32 tensors de-quantised from the pinned GGUF file."""
    commitment = weights.commit_folder(smollm2, tied=True)
    assert commitment.root.hex() == "5a75bc6b706f7cb100b9bd76e117089b9eec79634dbdd615e54f02e1185bf6d4"
    assert len(commitment.leaf_hashes) == 709
