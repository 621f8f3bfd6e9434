"""One non-linear unit in zero knowledge, at small width: RMSNorm, then SwiGLU, with a tolerance.

The portable lane's own operators without weights are recomputed in the open (``opened``); this circuit shows what
hiding them would take. Fixed point with 2^SCALE steps cannot follow the lane bit for bit, so a unit is accepted within
``tolerance`` of the true value, and whatever stays within it is a cheater's room. Its range is calibrated: an
activation beyond it is refused before the circuit is asked (*inconclusive*: drawn again).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.errors import InconclusiveError, ProverError
from otr_core.files import whole_file, write_text
from otr_core.spotcheck import proofs
from otr_node import prover

if TYPE_CHECKING:
    import numpy as np

SCALE = 10
"""Fraction bits inside the circuit."""
EPSILON = 1e-5
TOLERANCE = 0.0625
"""Largest difference accepted per output, in the units of the residual stream."""
MOST = 7.0
"""Largest mean square of x, and largest gate value, the look-up tables are calibrated for."""
GRAPH = (
    "square = Mul x x; power = ReduceMean square; shifted = Add power epsilon; root = Sqrt shifted; n = Div x root; "
    "g = MatMul gate n; s = Sigmoid g; silu = Mul g s; u = MatMul up n; product = Mul silu u; "
    "out = MatMul down product; rest = Sub out y; size = Abs rest; beyond = Sub size tolerance; "
    "wrong = Relu beyond; violation = ReduceSum wrong axes"
)
"""The circuit's steps: output = operator of ONNX, and its inputs."""


@dataclass(frozen=True)
class Block:
    """A small gated block: x (width,), gate and up (inner, width), down (width, inner), claimed output y (width,)."""

    x: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    y: np.ndarray

    def true_output(self) -> np.ndarray:
        """down · (silu(gate·n) * up·n), n = x / rms(x), in float64."""
        import numpy as np

        n = self.x / np.sqrt(np.mean(self.x**2) + EPSILON)
        g = self.gate @ n
        result: np.ndarray = self.down @ (g / (1 + np.exp(-g)) * (self.up @ n))
        return result


def export(width: int, inner: int, path: Path) -> None:
    """The block as an ONNX graph whose one output is the sum of max(|block(x) − y| − TOLERANCE, 0)."""
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str, *dims: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))

    def constant(name: str, value: float) -> Any:
        return helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [value])

    options: dict[str, dict[str, Any]] = {"ReduceMean": {"axes": [0], "keepdims": 1}, "ReduceSum": {"keepdims": 0}}
    nodes = []
    for step in GRAPH.split("; "):
        output, _, op, *sources = step.split()
        nodes.append(helper.make_node(op, sources, [output], **options.get(op, {})))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    constants = [constant("epsilon", EPSILON), constant("tolerance", TOLERANCE), axes]
    shapes = {"x": (width, 1), "gate": (inner, width), "up": (inner, width), "down": (width, inner), "y": (width, 1)}
    inputs = [tensor(name, *shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "block", inputs, [tensor("violation", 1)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    with whole_file(path) as part:
        part.write_bytes(model.SerializeToString())


def set_up(width: int, inner: int, store: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Folder with circuit and keys, its reference string, and its facts (k, rows_used, setup_cpu_s); made once."""
    folder = store / f"block-{width}x{inner}"
    card = folder / "card.json"
    if not card.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        export(width, inner, folder / "unit.onnx")
        options = {"input_visibility": "polycommit", "param_visibility": "fixed", "output_visibility": "public",
                   "input_scale": SCALE, "param_scale": SCALE, "decomp_base": proofs.BASE,
                   "decomp_legs": proofs.LEGS, "lookup_range": [-(2**13), 2**13]}  # fmt: skip
        onnx, settings = str(folder / "unit.onnx"), str(folder / "settings.json")
        rows = prover.call("write_settings", onnx=onnx, settings=settings, options={**options, "logrows": 20}).value
        k = max(15, (rows + 16).bit_length())
        prover.call("write_settings", onnx=onnx, settings=settings, options={**options, "logrows": k})
        srs = prover.make_srs(store, k)
        done = prover.call("make_keys", onnx=onnx, settings=settings, compiled=str(folder / "circuit.ezkl"),
                           vk=str(folder / "vk.key"), pk=str(folder / "pk.key"), srs=str(srs))  # fmt: skip
        write_text(card, json.dumps({"k": k, "rows_used": rows, "setup_cpu_s": done.cpu_s}))
    facts = json.loads(card.read_text())
    return folder, prover.make_srs(store, facts["k"]), facts


def prove_block(block: Block, store: Path) -> dict[str, Any]:
    """Prove a block: violation (in steps of 2^−SCALE), proof_bytes, and CPU seconds of each step.

    Raises:
        InconclusiveError: an activation beyond the calibrated range. ProverError: the prover failed.
    """
    import numpy as np

    power = float(np.mean(block.x**2))
    gate = float(np.abs(block.gate @ block.x).max() / np.sqrt(power + EPSILON))
    if max(power, gate) > MOST:
        raise InconclusiveError(
            f"block: found mean square {power:.2f} and gate {gate:.2f}, calibrated to {MOST}; draw again"
        )
    folder, srs, facts = set_up(len(block.x), len(block.gate), store)
    path = {name: str(folder / name) for name in ("circuit.ezkl", "vk.key", "pk.key", "settings.json")}
    with tempfile.TemporaryDirectory() as work:
        data, witness, proof = (Path(work) / name for name in ("input.json", "witness.json", "proof.json"))
        parts = (block.x, block.gate, block.up, block.down, block.y)
        data.write_text(json.dumps({"input_data": [part.flatten().tolist() for part in parts]}))
        ran = prover.call("run_circuit", data=str(data), compiled=path["circuit.ezkl"], vk=path["vk.key"], srs=str(srs),
                          witness=str(witness))  # fmt: skip
        proved = prover.call("make_proof", witness=str(witness), compiled=path["circuit.ezkl"], pk=path["pk.key"],
                             srs=str(srs), proof=str(proof))  # fmt: skip
        verified = prover.call("check_proof", proof=str(proof), settings=path["settings.json"], vk=path["vk.key"],
                               srs=str(srs))  # fmt: skip
        if not verified.value:
            raise ProverError("block: the proof just made does not verify")
        size = len(json.loads(proof.read_text())["proof"])
    violation = int.from_bytes(bytes.fromhex(ran.value[0][0]), "little")
    return {"violation": violation, "proof_bytes": size, "k": facts["k"], "rows_used": facts["rows_used"],
            "setup_cpu_s": facts["setup_cpu_s"], "witness_cpu_s": ran.cpu_s, "prove_cpu_s": proved.cpu_s,
            "verify_cpu_s": verified.cpu_s, "prove_peak_mb": proved.peak_mb}  # fmt: skip
