"""The prover's side of a spot check: circuits, keys, proofs and commitments of ezkl, kept at arm's length.

What is proven is said in ``otr_core.spotcheck.proofs``. Every call of the library runs in a child process
(``otr_node.worker``), whose time and memory are measured and can be bounded.

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import ProverError, SpotCheckError
from otr_core.files import check_sha256, sha256_file, whole_file, write_text
from otr_core.spotcheck.proofs import BASE, LEGS, SHIFT, Proof, Shape, Statement, felt, proof_document

_BLINDING = 16  # rows of a column kept free for blinding, generously
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
        command = [sys.executable, "-m", "otr_node.worker", str(request), str(result)]
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
    """A circuit with its keys, as files in one folder; to a verifier it is its ``VerificationKey``.

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

    def holds(self, proof: Proof) -> bool:
        """See ``VerificationKey.holds``."""
        return bool(verify_proof(self, proof).value)

    def commit(self, vectors: Sequence[Sequence[int]]) -> list[tuple[bytes, ...]]:
        """See ``VerificationKey.commit``."""
        return commit_vectors(self, vectors)[0]


def make_srs(store: Path, k: int) -> Path:
    """The store's reference string for 2^k rows, drawn at the first call (k = 13: seconds, k = 16: a minute)."""
    path = store / f"test-only-k{k}.srs"
    if not path.is_file():
        with whole_file(path) as part:
            call("draw_srs", path=str(part), k=k)
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
    rows = call("write_settings", onnx=str(onnx), settings=str(settings), options={**options, "logrows": 20}).value
    k = max(rows + _BLINDING, shape.rows * shape.columns + _BLINDING).bit_length()
    call("write_settings", onnx=str(onnx), settings=str(settings), options={**options, "logrows": k})
    done = call(
        "make_keys",
        onnx=str(onnx),
        settings=str(settings),
        compiled=str(folder / "circuit.ezkl"),
        vk=str(folder / "vk.key"),
        pk=str(folder / "pk.key"),
        srs=str(make_srs(store, k)),
        memory_mb=memory_mb,
    )
    card = {
        "recipe": _recipe(),
        "k": k,
        "rows_used": rows,
        "setup_cpu_s": done.cpu_s,
        "setup_peak_mb": done.peak_mb,
        "sha256": {name: sha256_file(folder / name) for name in _FILES},
    }
    write_text(folder / "card.json", json.dumps(card, indent=1))


def write_witness(
    circuit: Circuit, statement: Statement, path: Path, *, memory_mb: int | None = None
) -> tuple[int, ChildRun]:
    """Run the circuit on a statement; returns the violation and what it took.

    Raises:
        SpotCheckError: the statement is false by more than the circuit's digits hold (check ``violation``).
        ProverError: the step failed.
    """
    statement.check_shape(circuit.shape)
    with tempfile.TemporaryDirectory() as folder, whole_file(path) as part:
        data = Path(folder) / "input.json"
        data.write_text(json.dumps({"input_data": statement.felts()}))
        try:
            done = call(
                "run_circuit",
                data=str(data),
                compiled=circuit.path("circuit.ezkl"),
                vk=circuit.path("vk.key"),
                srs=str(circuit.srs),
                witness=str(part),
                memory_mb=memory_mb,
            )
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
        done = call(
            "make_proof",
            witness=str(witness),
            compiled=circuit.path("circuit.ezkl"),
            pk=circuit.path("pk.key"),
            srs=str(circuit.srs),
            proof=str(proof),
            memory_mb=memory_mb,
        )
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
    verified = verify_proof(circuit, proof)
    if not verified.value:
        raise ProverError("prove: the proof just made does not verify")
    return proof, {"witness": ran, "prove": proved, "verify": verified}


def contract_source(circuit: Circuit) -> str:
    """The Solidity text of the contract that verifies this circuit's proofs."""
    with tempfile.TemporaryDirectory() as folder:
        code, abi = (str(Path(folder) / name) for name in ("code", "abi"))
        done = call(
            "write_contract",
            vk=circuit.path("vk.key"),
            settings=circuit.path("settings.json"),
            srs=str(circuit.srs),
            code=code,
            abi=abi,
        )
    return str(done.value)


def contract_calldata(proof: Proof) -> bytes:
    """Calldata that puts a proof to that contract."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        path.write_text(proof_document(proof))
        done = call("write_calldata", proof=str(path), calldata=str(Path(folder) / "calldata"))
    return bytes.fromhex(done.value)


def verify_proof(circuit: Circuit, proof: Proof) -> ChildRun:
    """Whether a proof holds for its public output; ``value`` is a bool. Reads proof bytes and instance only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        path.write_text(proof_document(proof))
        return call(
            "check_proof",
            proof=str(path),
            settings=circuit.path("settings.json"),
            vk=circuit.path("vk.key"),
            srs=str(circuit.srs),
        )


def commit_vectors(circuit: Circuit, vectors: Sequence[Sequence[int]]) -> tuple[list[tuple[bytes, ...]], ChildRun]:
    """KZG points of vectors of integers as the circuit's columns hold them: one point per column filled."""
    done = call(
        "commit_points",
        vectors=[[felt(v) for v in vector] for vector in vectors],
        vk=circuit.path("vk.key"),
        settings=circuit.path("settings.json"),
        srs=str(circuit.srs),
    )
    return [tuple(bytes.fromhex(point) for point in points) for points in done.value], done
