"""The lane ``h100-bf16`` once more, slowly: one token after the other, in integers alone, every product
from ``blocks.dot_product``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otr_core.lane import blocks
from otr_core.lane import tensor_steps as steps
from otr_core.lane.fp32 import Fp32
from otr_core.lane.tables import rotary_table
from otr_node.tensor_lane import TensorModel
from tests.helpers.exact_floats import float_objects


def _wide(words: Sequence[int]) -> np.ndarray:
    """Bf16 words as fp32 objects."""
    made = np.empty(len(words), object)
    made[:] = [Fp32(int(word) << 16) for word in words]
    return made


def _narrow(values: np.ndarray) -> list[int]:
    return [blocks.fp32_to_bf16(value.word) for value in values.reshape(-1)]


def _times(x: Sequence[int], matrix: Sequence[Sequence[int]]) -> np.ndarray:
    made = np.empty(len(matrix), object)
    made[:] = [Fp32(blocks.dot_product(x, [int(word) for word in row])) for row in matrix]
    return made


def integer_logits(model: TensorModel, ids: Sequence[int]) -> list[list[int]]:
    """Words of the logits after each token."""
    a, m = model.architecture, model.matrices
    epsilon, group = np.float32(a.rms_eps), a.heads // a.kv_heads
    cosines, sines = rotary_table(a.rope_theta, a.head_dim, len(ids), 40)
    keys: list[list[list[list[int]]]] = [[[] for _ in range(a.kv_heads)] for _ in range(a.layers)]
    values: list[list[list[list[int]]]] = [[[] for _ in range(a.kv_heads)] for _ in range(a.layers)]
    found = []
    for position, token in enumerate(ids):
        turn = [
            float_objects(np.array(table[position], np.float64).__truediv__(2.0**40).astype(np.float32))
            for table in (cosines, sines)
        ]
        stream = _wide(m["embed"][token])
        for layer in range(a.layers):
            x = _narrow(steps.normed(stream, float_objects(model.norms[f"{layer}.before"]), epsilon))
            made = _times(x, m[f"{layer}.qkv"]).reshape(-1, a.head_dim)
            mixed: list[int] = []
            for shared in range(a.kv_heads):
                keys[layer][shared].append(_narrow(steps.turned(made[a.heads + shared], *turn)))
                values[layer][shared].append(_narrow(made[a.heads + a.kv_heads + shared]))
            for head in range(a.heads):
                own = head // group
                query = _narrow(steps.turned(made[head], *turn))
                weights, total = steps.weighed_scores(_times(query, keys[layer][own])[None], a.head_dim)
                columns = list(zip(*values[layer][own], strict=True))
                mixed += _narrow(_times(_narrow(weights), columns) / total[0, 0])
            stream = stream + _times(mixed, m[f"{layer}.out"])
            x = _narrow(steps.normed(stream, float_objects(model.norms[f"{layer}.after"]), epsilon))
            made = _times(x, m[f"{layer}.gate_up"])
            inner = _narrow(steps.gated_silu(made[: a.intermediate], made[a.intermediate :]))
            stream = stream + _times(inner, m[f"{layer}.down"])
        x = _narrow(steps.normed(stream, float_objects(model.norms["final"]), epsilon))
        found.append([value.word for value in _times(x, m["head"])])
    return found
