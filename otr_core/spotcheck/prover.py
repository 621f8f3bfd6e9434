"""The proof system behind a spot check: circuit, keys, proofs and commitments of ezkl, kept at arm's length.

One circuit per shape (rows, columns) proves, for committed W, x and y, that y is W·x rounded as the portable lane
rounds: ``r = W·x − y·2^SHIFT`` lies in [−2^(SHIFT−1), 2^(SHIFT−1)) for each row. Its one public output is the
violation, the sum of what sticks out at either side: 0 exactly where every row is right. Matrices with another shift s
enter multiplied by 2^(SHIFT−s), so that one circuit, one key and one contract serve every matrix of that shape. W, x
and y are inputs in columns of their own, whose KZG points are the first points of the proof; no range is
assumed of them, so an honest unit always fits.

**The structured reference string is drawn here, by one party: test only.** Whoever draws it can open a
commitment to anything. A deployment takes one from a ceremony.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import InputError, ParameterError, ProofError, ProverError, SpotCheckError
from otr_core.files import check_sha256, sha256_file, whole_file, write_text

if TYPE_CHECKING:
    import numpy as np

#: Order of BN254's scalar field, the field of all circuits here.
FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617
SHIFT = 20
"""Bits every unit's accumulator is rounded by, after its weights are scaled."""
BASE, LEGS = 128, 4
"""Digits of the range check: a remainder below 2^28 is representable, an honest one is below 2^20."""
_BLINDING = 16  # rows of a column kept free for blinding, generously
_POINT = 64  # bytes of a curve point in a proof
_FILES = ("settings.json", "circuit.ezkl", "vk.key", "pk.key")
_TIMEOUT_S = 900


@dataclass(frozen=True)
class ChildRun:
    """What a step gave and took: CPU seconds of its process, its peak memory in MB."""

    value: Any
    cpu_s: float
    peak_mb: float


def call(op: str, *, memory_mb: int | None = None, timeout_s: float = _TIMEOUT_S, **arguments: Any) -> ChildRun:
    """One step in a child process.

    Args:
        op: a function of ``worker``. memory_mb: limit of its address space.

    Raises:
        ProverError: the step failed, was killed, ran out of memory or out of time.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result = Path(folder) / "request.json", Path(folder) / "result.json"
        request.write_text(json.dumps({"op": op, "memory_mb": memory_mb, **arguments}))
        command = [sys.executable, "-m", "otr_core.spotcheck.worker", str(request), str(result)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ProverError(f"{op}: no result after {timeout_s:.0f} s; the process was ended") from error
        if not result.is_file():
            words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ProverError(
                f"{op}: the process ended with status {done.returncode} and no result ({' '.join(words) or 'silent'}); "
                "too little memory looks like this"
            )
        answer = json.loads(result.read_text())
    if "error" in answer:
        raise ProverError(f"{op}: {answer['error']}")
    return ChildRun(answer["value"], answer["cpu_s"], answer["peak_mb"])


@dataclass(frozen=True)
class Shape:
    """Shape of a unit's circuit.

    Attributes:
        rows, columns: of the weight block.
        slack: how far beyond rounding a row may be off, in units of 2^−SHIFT of an output's last bit; 0 in the portable
            lane, where results are exact. In a native lane this is the room left to a cheat.
    """

    rows: int
    columns: int
    slack: int = 0

    def __post_init__(self) -> None:
        for name, most in (("rows", 4096), ("columns", 65536)):
            if not 1 <= getattr(self, name) <= most:
                raise ParameterError(name, getattr(self, name), f"1 to {most}")
        if not 0 <= self.slack < 2 ** (7 * LEGS - 1):
            raise ParameterError("slack", self.slack, f"0 to 2^{7 * LEGS - 1} - 1")

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}" + (f"~{self.slack}" if self.slack else "")


def felt(value: int) -> str:
    """A signed integer as the library writes field elements: 32 bytes, little-endian, hex."""
    return (int(value) % FIELD).to_bytes(32, "little").hex()


def export_onnx(shape: Shape, path: Path) -> None:
    """The circuit's arithmetic as an ONNX graph: inputs w, x, y, output the violation."""
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str, *dims: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))

    def constant(name: str, value: int) -> Any:
        return helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [float(value)])

    half = 2 ** (SHIFT - 1)
    nodes = [
        helper.make_node("MatMul", ["w", "x"], ["sum"]),
        helper.make_node("Mul", ["y", "unit"], ["scaled"]),
        helper.make_node("Sub", ["sum", "scaled"], ["rest"]),
        helper.make_node("Sub", ["rest", "most"], ["above"]),
        helper.make_node("Sub", ["least", "rest"], ["below"]),
        helper.make_node("Relu", ["above"], ["over"]),
        helper.make_node("Relu", ["below"], ["under"]),
        helper.make_node("Add", ["over", "under"], ["out"]),
        helper.make_node("ReduceSum", ["out", "axes"], ["violation"], keepdims=0),
    ]
    constants = [
        constant("unit", 2**SHIFT),
        constant("most", half - 1 + shape.slack),
        constant("least", -half - shape.slack),
        helper.make_tensor("axes", TensorProto.INT64, [1], [0]),
    ]
    inputs = [tensor("w", shape.rows, shape.columns), tensor("x", shape.columns, 1), tensor("y", shape.rows, 1)]
    graph = helper.make_graph(nodes, "unit", inputs, [tensor("violation", 1)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    with whole_file(path) as part:
        part.write_bytes(model.SerializeToString())


_OPTIONS = {
    "input_visibility": "polycommit",
    "param_visibility": "fixed",
    "output_visibility": "public",
    "input_scale": 0,
    "param_scale": 0,
    "decomp_base": BASE,
    "decomp_legs": LEGS,
    "ignore_range_check_inputs_outputs": True,
}


@dataclass(frozen=True)
class Circuit:
    """A circuit with its keys, as files in one folder.

    Attributes:
        k: the circuit has 2^k rows; rows_used of them are assigned.
        srs: the reference string of exactly 2^k (a larger one would cost seconds to shrink at every step).
        setup_cpu_s: CPU seconds the keys took.
    """

    shape: Shape
    folder: Path
    srs: Path
    k: int
    rows_used: int
    setup_cpu_s: float
    setup_peak_mb: float

    def path(self, name: str) -> str:
        return str(self.folder / name)


def make_srs(store: Path, k: int) -> Path:
    """The store's reference string for 2^k rows, drawn at the first call (k = 13: seconds, k = 16: a minute)."""
    path = store / f"test-only-k{k}.srs"
    if not path.is_file():
        with whole_file(path) as part:
            call("srs", path=str(part), k=k)
    return path


def make_circuit(shape: Shape, store: Path, *, visibility: str = "polycommit", memory_mb: int | None = None) -> Circuit:
    """The circuit of ``shape`` with its keys out of ``store``, made at the first call, whole or not at all.

    Args:
        visibility: of the inputs; "private" makes the circuit that binds nothing, for showing so.

    Raises:
        ProverError: set-up failed. HashMismatchError: a stored key was altered since.
    """
    folder = store / (shape.name if visibility == "polycommit" else f"{shape.name}-{visibility}")
    card_file = folder / "card.json"
    if not card_file.is_file() or json.loads(card_file.read_text()).get("recipe") != _recipe():
        store.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=store))
        try:
            _set_up(shape, part, store, visibility, memory_mb)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    card = json.loads(card_file.read_text())
    del card["recipe"]
    for name, digest in card.pop("sha256").items():
        check_sha256(folder / name, digest, mend=f"rm -r {folder.name}")
    return Circuit(shape, folder, make_srs(store, card["k"]), **card)


def _recipe() -> list[Any]:
    """What keys hang on besides their shape: stored ones of another recipe are made again."""
    return [importlib.metadata.version("ezkl"), SHIFT, sorted(map(list, _OPTIONS.items()))]


def _set_up(shape: Shape, folder: Path, store: Path, visibility: str, memory_mb: int | None) -> None:
    onnx, settings = folder / "unit.onnx", folder / "settings.json"
    export_onnx(shape, onnx)
    options = {**_OPTIONS, "input_visibility": visibility}
    # Rows used do not depend on how many there are, as long as all fit one column.
    rows = call("settings", onnx=str(onnx), settings=str(settings), options={**options, "logrows": 20}).value
    k = max(rows + _BLINDING, shape.rows * shape.columns + _BLINDING).bit_length()
    call("settings", onnx=str(onnx), settings=str(settings), options={**options, "logrows": k})
    done = call(
        "setup", onnx=str(onnx), settings=str(settings), compiled=str(folder / "circuit.ezkl"),
        vk=str(folder / "vk.key"), pk=str(folder / "pk.key"), srs=str(make_srs(store, k)), memory_mb=memory_mb,
    )  # fmt: skip
    card = {
        "recipe": _recipe(),
        "k": k,
        "rows_used": rows,
        "setup_cpu_s": done.cpu_s,
        "setup_peak_mb": done.peak_mb,
        "sha256": {name: sha256_file(folder / name) for name in _FILES},
    }
    write_text(folder / "card.json", json.dumps(card, indent=1))


@dataclass(frozen=True)
class Statement:
    """The integers of one unit: weights (rows, columns) already scaled to SHIFT, activations, outputs."""

    weights: np.ndarray
    activations: np.ndarray
    outputs: np.ndarray

    def felts(self) -> list[list[str]]:
        """The three vectors as field elements, in the order in which the circuit commits to them."""
        return [[felt(v) for v in part.flatten().tolist()] for part in (self.weights, self.activations, self.outputs)]

    def violation(self, slack: int = 0) -> int:
        """What the circuit's public output is, by Python's integers."""
        half, total = 2 ** (SHIFT - 1), 0
        for row, y in zip(self.weights.tolist(), self.outputs.tolist(), strict=True):
            rest = sum(w * x for w, x in zip(row, self.activations.tolist(), strict=True)) - (y << SHIFT)
            total += max(rest - (half - 1 + slack), 0) + max(-half - slack - rest, 0)
        return total


@dataclass(frozen=True)
class Proof:
    """A proof as it travels: the library's proof bytes and its public output.

    Attributes:
        raw: proof bytes; the commitments are its first points. violation: the public output claimed.
    """

    raw: bytes
    violation: int

    def points(self, count: int) -> tuple[bytes, ...]:
        """The first ``count`` points, 64 bytes each: commitments to W, x and y."""
        return tuple(self.raw[at * _POINT : (at + 1) * _POINT] for at in range(count))


def read_proof(document: Mapping[str, Any]) -> Proof:
    """A proof out of the library's JSON form, whose two copies of the bytes must agree (it verifies only one).

    Raises:
        ProofError: they differ, or there is not one public output.
    """
    try:
        raw, instances = bytes(document["proof"]), document["instances"]
        same = document["hex_proof"].removeprefix("0x") == raw.hex()
        violation = int.from_bytes(bytes.fromhex(instances[0][0]), "little")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ProofError(f"proof document: not readable ({error!r})") from error
    if not same or len(instances) != 1 or len(instances[0]) != 1:
        raise ProofError("proof document: its hex form or its instances are not those of its bytes")
    return Proof(raw, violation)


def write_witness(
    circuit: Circuit, statement: Statement, path: Path, *, memory_mb: int | None = None
) -> tuple[int, ChildRun]:
    """Run the circuit on a statement; returns the violation and what it took.

    Raises:
        SpotCheckError: the statement is false by more than the circuit's digits hold (check ``violation``).
        ProverError: the step failed.
    """
    _check_shape(circuit.shape, statement)
    with tempfile.TemporaryDirectory() as folder, whole_file(path) as part:
        data = Path(folder) / "input.json"
        data.write_text(json.dumps({"input_data": statement.felts()}))
        try:
            done = call("witness", data=str(data), compiled=circuit.path("circuit.ezkl"), vk=circuit.path("vk.key"),
                        srs=str(circuit.srs), witness=str(part), memory_mb=memory_mb)  # fmt: skip
        except ProverError as error:
            if wrong := statement.violation(circuit.shape.slack):  # so far off that no witness exists
                raise SpotCheckError("violation", f"{wrong}, for which no proof can be made", 0) from error
            raise
    return int.from_bytes(bytes.fromhex(done.value[0][0]), "little"), done


def prove_witness(
    circuit: Circuit, witness: Path, violation: int, *, memory_mb: int | None = None
) -> tuple[Proof, ChildRun]:
    """A proof for a witness file, not verified yet (the library proves forged witnesses without a word)."""
    with tempfile.TemporaryDirectory() as folder:
        proof = Path(folder) / "proof.json"
        done = call("prove", witness=str(witness), compiled=circuit.path("circuit.ezkl"), pk=circuit.path("pk.key"),
                    srs=str(circuit.srs), proof=str(proof), memory_mb=memory_mb)  # fmt: skip
        return Proof(bytes(json.loads(proof.read_text())["proof"]), violation), done


def prove_unit(
    circuit: Circuit, statement: Statement, *, memory_mb: int | None = None
) -> tuple[Proof, dict[str, ChildRun]]:
    """Witness, proof and a verification of it, with what each took.

    Raises:
        SpotCheckError, ProverError: see ``write_witness``; a proof that does not verify is a failure as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        witness = Path(folder) / "witness.json"
        violation, ran = write_witness(circuit, statement, witness, memory_mb=memory_mb)
        proof, proved = prove_witness(circuit, witness, violation, memory_mb=memory_mb)
    verified = verify(circuit, proof)
    if not verified.value:
        raise ProverError("prove: the proof just made does not verify")
    return proof, {"witness": ran, "prove": proved, "verify": verified}


def proof_document(proof: Proof) -> str:
    """A proof in the library's JSON form."""
    document = {"instances": [[felt(proof.violation)]], "proof": list(proof.raw), "hex_proof": "0x" + proof.raw.hex()}
    unused = ("protocol", "split", "pretty_public_inputs", "timestamp", "version")
    return json.dumps(document | dict.fromkeys(unused))


def contract_source(circuit: Circuit) -> str:
    """The Solidity text of the contract that verifies this circuit's proofs."""
    with tempfile.TemporaryDirectory() as folder:
        code, abi = (str(Path(folder) / name) for name in ("code", "abi"))
        done = call("solidity", vk=circuit.path("vk.key"), settings=circuit.path("settings.json"),
                    srs=str(circuit.srs), code=code, abi=abi)  # fmt: skip
    return str(done.value)


def contract_calldata(proof: Proof) -> bytes:
    """Calldata that puts a proof to that contract."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        path.write_text(proof_document(proof))
        done = call("calldata", proof=str(path), calldata=str(Path(folder) / "calldata"))
    return bytes.fromhex(done.value)


def verify(circuit: Circuit, proof: Proof) -> ChildRun:
    """Whether a proof holds for its public output; ``value`` is a bool. Reads proof bytes and instance only."""
    if not 0 <= proof.violation < FIELD:
        raise InputError(f"proof: violation found {proof.violation}, expected a field element")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        path.write_text(proof_document(proof))
        return call("verify", proof=str(path), settings=circuit.path("settings.json"), vk=circuit.path("vk.key"),
                    srs=str(circuit.srs))  # fmt: skip


def commit_vectors(circuit: Circuit, vectors: Sequence[Sequence[int]]) -> tuple[list[tuple[bytes, ...]], ChildRun]:
    """KZG points of vectors of integers as the circuit's columns hold them: one point per column filled."""
    done = call("commit", vectors=[[felt(v) for v in vector] for vector in vectors], vk=circuit.path("vk.key"),
                settings=circuit.path("settings.json"), srs=str(circuit.srs))  # fmt: skip
    return [tuple(bytes.fromhex(point) for point in points) for points in done.value], done


def _check_shape(shape: Shape, statement: Statement) -> None:
    found = (statement.weights.shape, statement.activations.shape, statement.outputs.shape)
    expected = ((shape.rows, shape.columns), (shape.columns,), (shape.rows,))
    if found != expected:
        raise InputError(f"unit: found shapes {found}, expected {expected}")
