"""Operators without weights, recomputed from opened values by the steps of ``lane.step``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, Place, TraceClaim
from otr_core.lane.held import HeldValues
from otr_core.lane.program import LayerOperator
from otr_core.lane.tables import turns
from otr_core.spotcheck.units import Layout, Unit, needed_rows

#: Of each operator without weights: the first and the last of the layer's operators that it
#: consists of.
PARTS = {
    "attention.norm": (LayerOperator.ATTENTION_PEAK, LayerOperator.ATTENTION_NORMED),
    "query": (LayerOperator.QUERY, LayerOperator.QUERY),
    "key": (LayerOperator.KEY, LayerOperator.KEY),
    "attention": (LayerOperator.SCORES, LayerOperator.MIXED),
    "mlp.norm": (LayerOperator.MLP_PEAK, LayerOperator.MLP_NORMED),
    "product": (LayerOperator.PRODUCT, LayerOperator.PRODUCT),
}


def recompute(layout: Layout, unit: Unit, values: Mapping[str, np.ndarray], saturation: int) -> tuple[list[int], str]:
    """What an operator without weights gives on opened values, and the row that it must equal.

    The steps run on a layer that is as large as the unit: it has one head for attention, and as
    wide an MLP as one block of its product.

    Args:
        values: the unit's rows by name (``needed_rows``); for attention also ``keys`` and
            ``values``, (positions, head_dim) of the head's group. saturation: of the layer's MLP, a
            power of two.
    """
    a, op = layout.architecture, LayerOperator
    d, t = Dims.of(a), a.head_dim
    none = np.zeros((0, t), np.int64)
    keys, mixed = values.get("keys", none), values.get("values", none)
    known: dict[int, np.ndarray] = {}
    if unit.operator == "attention.norm":
        known[op.INPUT] = values["input"]
    elif unit.operator == "mlp.norm":
        known[op.RESIDUAL_SUM] = values["attention.residual"]
    elif unit.operator == "query":
        known[op.QKV] = values["q"]
    elif unit.operator == "key":  # after the queries, which no step of this unit reads
        known[op.QKV] = np.concatenate([np.zeros(a.heads * t, np.int64), values["k"]])
    # of QKV only this position's value is read, after one query and one key
    elif unit.operator == "attention":
        d = replace(d, heads=1, kv_heads=1)
        known |= {op.QUERY: values["attention.query"], op.KEY: keys[-1]}
        known[op.QKV] = np.concatenate([np.zeros(2 * t, np.int64), mixed[-1]])
    else:
        d = replace(d, intermediate=len(values["up"]))
        known[op.GATE_UP] = np.concatenate([values["gate"], values["up"]])

    # few sizes, so that the table is seldom made anew
    room = 1 << max(8, unit.position.bit_length())
    turn = np.concatenate([table[unit.position] for table in turns(a, room)[0]])
    held = HeldValues(d, known, keys, mixed, turn, saturation.bit_length() - 1)
    first, last = PARTS[unit.operator]
    no_claim = TraceClaim(b"", b"", b"", 0, b"", 0, 0)  # a layer's steps depend on none of it
    held.compute(no_claim, Place(LAYER, unit.position, unit.layer, 0, 0, 0, 0), range(first, last + 1))
    return known[last].tolist(), [*needed_rows(layout, unit)][-1]
