"""The prover's side of a spot check: circuits, keys, proofs and commitments of ezkl, kept at arm's
length.

What is proven is said in ``otr_core.spotcheck.proofs``. Every call of the library runs in a child
process (``otr_node.worker``), whose time and memory are measured and can be bounded.

**The structured reference string is drawn here, by one party: test only.** Whoever draws it can
open a commitment to anything. A deployment takes one from a ceremony.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from otr_core.encoding import tagged_json_hash
from otr_core.errors import ProverError, SpotCheckError
from otr_core.files import check_sha256, sha256_file, whole_file, write_text
from otr_core.spotcheck.proofs import BASE, LEGS, SHIFT, Proof, Shape, Statement, felt, proof_document
from otr_node.folders import whole_folder

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
        op: a method of ``worker.Steps``. memory_mb: limit of its address space.

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


def write_graph(path: Path, steps: str, inputs: Mapping[str, tuple[int, ...]], constants: Mapping[str, float]) -> None:
    """Write a circuit's arithmetic as an ONNX graph whose one output is the number ``violation``.

    Args:
        steps: "output = operator of ONNX, and its inputs", joined by "; ". The last one sums along
            ``axes``.
        inputs: name -> dimensions. constants: name -> value.
    """
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str, *dims: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))

    options: dict[str, dict[str, Any]] = {"ReduceMean": {"axes": [0], "keepdims": 1}, "ReduceSum": {"keepdims": 0}}
    nodes = []
    for step in steps.split("; "):
        output, _, operator, *sources = step.split()
        nodes.append(helper.make_node(operator, sources, [output], **options.get(operator, {})))
    held = [helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [value]) for name, value in constants.items()]
    held.append(helper.make_tensor("axes", TensorProto.INT64, [1], [0]))
    given = [tensor(name, *dims) for name, dims in inputs.items()]
    graph = helper.make_graph(nodes, path.stem, given, [tensor("violation", 1)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def make_srs(store: Path, k: int) -> Path:
    """The store's reference string for 2^k rows, drawn at the first call (k = 13: seconds, k = 16:
    a minute)."""
    path = store / f"test-only-k{k}.srs"
    if not path.is_file():
        with whole_file(path) as part:
            call("draw_srs", path=str(part), k=k)
    return path


@dataclass(frozen=True)
class Keys:
    """A circuit with its keys, as files in one folder (see ``worker.Steps``).

    Attributes:
        srs: the reference string of exactly 2^k (a larger one would cost seconds to shrink at every
            step).
        k: the circuit has 2^k rows; rows_used of them are assigned. proof_bytes: of every proof.
        key_sha256, srs_sha256: of the verifying key and the reference string, hex.
        setup_cpu_s: CPU seconds the keys took. setup_peak_mb: memory, MB.
    """

    folder: Path
    srs: Path
    k: int
    rows_used: int
    proof_bytes: int
    key_sha256: str
    srs_sha256: str
    setup_cpu_s: float
    setup_peak_mb: float

    def call(self, op: str, **arguments: Any) -> ChildRun:
        """A step that reads the circuit's files (see ``call``)."""
        return call(op, folder=str(self.folder), srs=str(self.srs), **arguments)


def make_keys(
    folder: Path,
    write: Callable[[Path], None],
    options: Mapping[str, Any],
    sample: Sequence[Any],
    *,
    least_rows: int,
    memory_mb: int | None = None,
) -> Keys:
    """The keys in ``folder``, made at the first call, whole or not at all. Reference strings lie
    beside it.

    Args:
        write: writes the circuit's graph. options: of the library's settings. sample: inputs that
            it takes, which are proven once: all its proofs are as long. least_rows: rows that there
            must be beside the blinding ones, even if the circuit uses fewer.

    Raises:
        ProverError: set-up failed. HashMismatchError: a stored key or reference string was altered
            since, or its folder holds another circuit's graph.
    """
    card_file = folder / "card.json"
    # What keys hang on besides their shape: stored ones of another recipe are made again.
    recipe = [importlib.metadata.version("ezkl"), SHIFT, sorted(map(list, options.items()))]
    if not card_file.is_file() or json.loads(card_file.read_text()).get("recipe") != recipe:
        with whole_folder(folder) as part:
            write(part / "unit.onnx")
            # Rows used do not depend on how many there are, as long as all fit one column.
            rows = call("write_settings", folder=str(part), options={**options, "logrows": 20}).value
            k = (max(rows, least_rows) + _BLINDING).bit_length()
            call("write_settings", folder=str(part), options={**options, "logrows": k})
            srs = make_srs(folder.parent, k)
            done = call("make_keys", folder=str(part), srs=str(srs), memory_mb=memory_mb)
            digests = {name: sha256_file(part / name) for name in _FILES}
            keys = Keys(part, srs, k, rows, 0, digests["vk.key"], sha256_file(srs), done.cpu_s, done.peak_mb)
            proof, _ = prove_inputs(keys, partial(run_circuit, keys, sample, memory_mb=memory_mb))
            named = {name: value for name, value in vars(keys).items() if name not in ("folder", "srs")}
            card = {"recipe": recipe, **named, "proof_bytes": len(proof.raw), "sha256": digests}
            write_text(part / "card.json", json.dumps(card, indent=1))
    card = json.loads(card_file.read_text())
    del card["recipe"]
    for name, digest in card.pop("sha256").items():
        check_sha256(folder / name, digest, mend=f"rm -r {folder.name}")
    with tempfile.TemporaryDirectory() as own:  # a folder whose card fits its files may be another circuit's
        write(Path(own) / "unit.onnx")
        check_sha256(folder / "unit.onnx", sha256_file(Path(own) / "unit.onnx"), mend=f"rm -r {folder.name}")
    srs = make_srs(folder.parent, card["k"])
    check_sha256(srs, card["srs_sha256"], mend=f"rm -r {folder.name}")
    return Keys(folder, srs, **card)


OPTIONS: Mapping[str, Any] = {
    "input_visibility": "polycommit",
    "param_visibility": "fixed",
    "output_visibility": "public",
    "input_scale": 0,
    "param_scale": 0,
    "decomp_base": BASE,
    "decomp_legs": LEGS,
    "ignore_range_check_inputs_outputs": True,
}
"""Settings of the circuit of a matrix unit."""
STEPS = (
    "sum = MatMul w x; scaled = Mul y unit; rest = Sub sum scaled; above = Sub rest most; below = Sub least rest; "
    "over = Relu above; under = Relu below; out = Add over under; violation = ReduceSum out axes"
)
"""Its arithmetic: how far w·x lies from y times the unit beyond what rounding leaves, summed over
the rows."""


@dataclass(frozen=True)
class Circuit(Keys):
    """The circuit of a matrix unit with its keys; to a verifier it is its ``VerificationKey``."""

    shape: Shape

    @property
    def digest(self) -> bytes:
        """See ``VerificationKey.digest``."""
        named = {"shape": self.shape.name, "key": self.key_sha256, "srs": self.srs_sha256, "bytes": self.proof_bytes}
        return tagged_json_hash("spot-check/circuit", named)

    def holds(self, proof: Proof) -> bool:
        """See ``VerificationKey.holds``."""
        return bool(verify_proof(self, proof).value)

    def commit(self, vectors: Sequence[Sequence[int]]) -> list[tuple[bytes, ...]]:
        """See ``VerificationKey.commit``."""
        return commit_vectors(self, vectors)[0]


def make_circuit(shape: Shape, store: Path, *, visibility: str = "polycommit", memory_mb: int | None = None) -> Circuit:
    """The circuit of ``shape`` with its keys out of ``store`` (see ``make_keys``).

    Args:
        visibility: of the inputs; "private" makes the circuit that binds nothing, for showing so.
    """
    half = 2 ** (SHIFT - 1)
    inputs = {"w": (shape.rows, shape.columns), "x": (shape.columns, 1), "y": (shape.rows, 1)}
    constants = {"unit": 2**SHIFT, "most": half - 1 + shape.slack, "least": -half - shape.slack}
    folder = store / (shape.name if visibility == "polycommit" else f"{shape.name}-{visibility}")
    keys = make_keys(
        folder,
        partial(write_graph, steps=STEPS, inputs=inputs, constants=constants),
        {**OPTIONS, "input_visibility": visibility},
        [
            [felt(0)] * (side * other)
            for side, other in ((shape.rows, shape.columns), (shape.columns, 1), (shape.rows, 1))
        ],
        least_rows=shape.rows * shape.columns,
        memory_mb=memory_mb,
    )
    return Circuit(**vars(keys), shape=shape)


def run_circuit(keys: Keys, inputs: Sequence[Any], path: Path, *, memory_mb: int | None = None) -> tuple[int, ChildRun]:
    """Run a circuit on its inputs and write the witness; returns the violation and what it took.

    Raises:
        ProverError: the step failed.
    """
    with tempfile.TemporaryDirectory() as folder, whole_file(path) as part:
        data = Path(folder) / "input.json"
        data.write_text(json.dumps({"input_data": inputs}))
        done = keys.call("run_circuit", data=str(data), witness=str(part), memory_mb=memory_mb)
    return int.from_bytes(bytes.fromhex(done.value[0][0]), "little"), done


def write_witness(
    circuit: Circuit, statement: Statement, path: Path, *, memory_mb: int | None = None
) -> tuple[int, ChildRun]:
    """``run_circuit`` on a statement.

    Raises:
        SpotCheckError: the statement is false by more than the circuit's digits hold (check
            ``violation``).
        ProverError: the step failed.
    """
    statement.check_shape(circuit.shape)
    try:
        return run_circuit(circuit, statement.felts(), path, memory_mb=memory_mb)
    except ProverError as error:
        if wrong := statement.violation(circuit.shape.slack):  # so far off that no witness exists
            raise SpotCheckError("violation", f"{wrong}, for which no proof can be made", 0) from error
        raise


def prove_witness(keys: Keys, witness: Path, violation: int) -> tuple[Proof, ChildRun]:
    """A proof for a witness file, not verified yet (the library proves forged witnesses without a
    word)."""
    done = keys.call("make_proof", witness=str(witness))
    return Proof(bytes.fromhex(done.value), violation), done


def prove_inputs(keys: Keys, write: Callable[[Path], tuple[int, ChildRun]]) -> tuple[Proof, dict[str, ChildRun]]:
    """Witness, proof and a verification of it, with what each took.

    Args:
        write: writes the witness, as ``run_circuit`` does.

    Raises:
        ProverError: a step failed, or the proof does not verify.
    """
    with tempfile.TemporaryDirectory() as folder:
        witness = Path(folder) / "witness.json"
        violation, ran = write(witness)
        proof, proved = prove_witness(keys, witness, violation)
    verified = verify_proof(keys, proof)
    if not verified.value:
        raise ProverError("prove: the proof just made does not verify")
    return proof, {"witness": ran, "prove": proved, "verify": verified}


def prove_unit(circuit: Circuit, statement: Statement) -> tuple[Proof, dict[str, ChildRun]]:
    """``prove_inputs`` for a statement.

    Raises:
        SpotCheckError, ProverError: see ``write_witness``; a proof that does not verify is a
            failure as well.
    """
    return prove_inputs(circuit, partial(write_witness, circuit, statement))


def contract_source(circuit: Circuit) -> str:
    """The Solidity text of the contract that verifies this circuit's proofs."""
    return str(circuit.call("write_contract").value)


def contract_calldata(proof: Proof) -> bytes:
    """Calldata that puts a proof to that contract."""
    return bytes.fromhex(call("write_calldata", proof=proof_document(proof)).value)


def verify_proof(keys: Keys, proof: Proof) -> ChildRun:
    """Whether a proof holds for its public output; ``value`` is a bool. Reads proof bytes and
    instance only."""
    return keys.call("check_proof", proof=proof_document(proof))


def commit_vectors(circuit: Circuit, vectors: Sequence[Sequence[int]]) -> tuple[list[tuple[bytes, ...]], ChildRun]:
    """KZG points of vectors of integers as the circuit's columns hold them: one point per column
    filled."""
    done = circuit.call("commit_points", vectors=[[felt(v) for v in vector] for vector in vectors])
    return [tuple(bytes.fromhex(point) for point in points) for points in done.value], done
