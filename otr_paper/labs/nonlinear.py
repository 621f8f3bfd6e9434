"""One non-linear unit in zero knowledge, at small width: RMSNorm, then SwiGLU, with a tolerance.

The portable lane's own operators without weights are recomputed in the open (``opened``); this
circuit shows what hiding them would take. Fixed point with 2^SCALE steps cannot follow the lane bit
for bit, so a unit is accepted within ``tolerance`` of the true value, and whatever stays within it
is a cheater's room. Its range is calibrated: an activation beyond it is refused before the circuit
is asked (*inconclusive*: drawn again).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.errors import InconclusiveError
from otr_node import prover

SCALE = 10
"""Fraction bits inside the circuit."""
EPSILON = 1e-5
TOLERANCE = 0.0625
"""Largest difference accepted per output, in the units of the residual stream."""
MOST = 7.0
"""Largest mean square of x, and largest gate value, the look-up tables are calibrated for."""
TABLES = {"lookup_range": [-(2**13), 2**13], "ignore_range_check_inputs_outputs": False}
"""The look-up tables' range, in steps; what enters and leaves is held to it as well."""
STEPS = (
    "square = Mul x x; power = ReduceMean square; shifted = Add power epsilon; root = Sqrt shifted; n = Div x root; "
    "g = MatMul gate n; s = Sigmoid g; silu = Mul g s; u = MatMul up n; product = Mul silu u; "
    "out = MatMul down product; rest = Sub out y; size = Abs rest; beyond = Sub size tolerance; "
    "wrong = Relu beyond; violation = ReduceSum wrong axes"
)
"""The block's arithmetic, as ``prover.write_graph`` takes it."""


@dataclass(frozen=True)
class Block:
    """A small gated block: x (width,), gate and up (inner, width), down (width, inner), claimed
    output y (width,)."""

    x: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    y: np.ndarray

    def true_output(self) -> np.ndarray:
        """down · (silu(gate·n) * up·n), n = x / rms(x), in float64."""
        n = self.x / np.sqrt(np.mean(self.x**2) + EPSILON)
        g = self.gate @ n
        return np.asarray(self.down @ (g / (1 + np.exp(-g)) * (self.up @ n)))


def block_keys(width: int, inner: int, store: Path) -> prover.Keys:
    """Circuit and keys of a block, whose one output is the sum of max(|block(x) − y| − TOLERANCE,
    0)."""
    shapes = {"x": (width, 1), "gate": (inner, width), "up": (inner, width), "down": (width, inner), "y": (width, 1)}
    constants = {"epsilon": EPSILON, "tolerance": TOLERANCE}
    return prover.make_keys(
        store / f"block-{width}x{inner}",
        partial(prover.write_graph, steps=STEPS, inputs=shapes, constants=constants),
        {**prover.OPTIONS, "input_scale": SCALE, "param_scale": SCALE, **TABLES},
        [[0.0] * (rows * columns) for rows, columns in shapes.values()],
        least_rows=2**14,
    )


def prove_block(block: Block, store: Path) -> dict[str, Any]:
    """Prove a block: violation (in steps of 2^−SCALE), proof_bytes, and CPU seconds of each step.

    Raises:
        InconclusiveError: an activation beyond the calibrated range. ProverError: the prover
            failed.
    """
    power = float(np.mean(block.x**2))
    gate = float(np.abs(block.gate @ block.x).max() / np.sqrt(power + EPSILON))
    if max(power, gate) > MOST:
        raise InconclusiveError(
            f"block: found mean square {power:.2f} and gate {gate:.2f}, calibrated to {MOST}; draw again"
        )
    keys = block_keys(len(block.x), len(block.gate), store)
    inputs = [part.flatten().tolist() for part in (block.x, block.gate, block.up, block.down, block.y)]
    proof, ran = prover.prove_inputs(keys, partial(prover.run_circuit, keys, inputs))
    return {
        "violation": proof.violation,
        "proof_bytes": len(proof.raw),
        **{name: getattr(keys, name) for name in ("k", "rows_used", "setup_cpu_s")},
        **{f"{step}_cpu_s": run.cpu_s for step, run in ran.items()},
        "prove_peak_mb": ran["prove"].peak_mb,
    }
