"""The portable lane once more, in Python integers and lists: slow, obvious, and sharing no code
with the first."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from otr_core.lane import formats as lane
from otr_core.lane.architecture import Architecture
from otr_core.lane.rotary import RopeScaling


def shift(x: int, bits: int) -> int:
    return (x + (1 << (bits - 1))) >> bits if bits > 0 else x << -bits


def cut(x: int, bound: int) -> int:
    return max(-bound, min(bound, x))


def exp2(index: int) -> int:
    """⌊round(2^20 · 2^(−f / 2^13)) / 2^octave⌋, to zero after twenty octaves."""
    octave, f = divmod(index, 2**lane.SCORE)
    if octave > 20:
        return 0
    return round(2**20 * 2.0 ** (-f / 2**lane.SCORE)) >> octave


def sigmoid(index: int) -> int:
    return round(2**lane.SIGMOID / (1 + math.exp(-index / 2**lane.SIGMOID_INDEX)))


class Reference:
    def __init__(self, architecture: Architecture, integers: dict[str, np.ndarray]) -> None:
        self.a = architecture
        self.w = {name: [[int(x) for x in row] for row in matrix] for name, matrix in integers.items()}
        self.states: dict[tuple[int, int], tuple[list[int], list[int], list[int]]] = {}
        self.operators: dict[tuple[int, int], dict[str, list[int]]] = {}
        self.cache: list[list[tuple[list[int], list[int]]]] = [[] for _ in range(architecture.layers)]

    def dot(self, x: list[int], name: str) -> list[int]:
        return [sum(a * b for a, b in zip(x, row, strict=True)) for row in self.w[name]]

    def norm(self, h: list[int], done: dict[str, list[int]], name: str) -> list[int]:
        n, peak = len(h), max(abs(x) for x in h)
        power = min(19 - peak.bit_length(), 8)
        scaled = [shift(x, -power) for x in h]
        squares = sum(x * x for x in scaled)
        epsilon = round(self.a.rms_eps * n * 2.0 ** (2 * lane.RESIDUAL))
        root = max(1, math.isqrt(4 * (squares + shift(epsilon, -2 * power))))
        drop = 51 - (lane.NORMED + 1 + (n.bit_length() + 1) // 2)
        factor = math.isqrt(n * 4 ** (lane.NORMED + 1 + drop)) // root
        normed = [shift(x * factor, drop) for x in scaled]
        for operator, values in (("peak", [peak]), ("squares", [squares]), ("factor", [factor]), ("normed", normed)):
            done[f"{name}.{operator}"] = values
        return normed

    def rotate(self, x: list[int], position: int) -> list[int]:
        half, d = self.a.head_dim // 2, self.a.head_dim
        out = [0] * d
        for j in range(half):
            angle = position * stretched(self.a.rope_theta ** (-2 * j / d), self.a.rope_scaling)
            c, s = (math.floor(f(angle) * 2**lane.ROTARY + 0.5) for f in (math.cos, math.sin))
            out[j] = shift(x[j] * c - x[half + j] * s, lane.ROTARY)
            out[half + j] = shift(x[half + j] * c + x[j] * s, lane.ROTARY)
        return out

    def feed(self, token: int, position: int) -> list[int]:
        a = self.a
        h = list(self.w["model.embed_tokens.weight"][token])
        for layer in range(a.layers):
            prefix = f"model.layers.{layer}."
            done = self.operators[position, layer] = {"input": h}
            n = self.norm(h, done, "attention")

            def heads(part: str, n: list[int] = n, prefix: str = prefix) -> list[list[int]]:
                row = [
                    shift(x, lane.NORMED + lane.WEIGHT - lane.HEAD)
                    for x in self.dot(n, f"{prefix}self_attn.{part}_proj.weight")
                ]
                return [row[i : i + a.head_dim] for i in range(0, len(row), a.head_dim)]

            done["attention.qkv"] = [x for part in "qkv" for head in heads(part) for x in head]
            rows = ("scores", "top", "exp", "total", "share", "weights")
            done |= {f"attention.{row}": [] for row in rows}
            # vectors over the places seen are whole tiles long
            padding = -(position + 1) % a.head_dim
            queries = [self.rotate(q, position) for q in heads("q")]
            keys, values = [self.rotate(k, position) for k in heads("k")], heads("v")
            self.cache[layer].append((keys, values))
            mixed: list[int] = []
            for number, query in enumerate(queries):
                group = number * a.kv_heads // a.heads
                past = [(k[group], v[group]) for k, v in self.cache[layer]]
                scores = [sum(x * y for x, y in zip(query, k, strict=True)) for k, _ in past]
                exps = [exp2((max(scores) - s) >> (2 * lane.HEAD - lane.SCORE)) for s in scores]
                share = 2 ** (20 + lane.PROBABILITY) // sum(exps)
                weights = [e * share >> 20 for e in exps]
                none = [0] * padding
                per_head = (
                    [*scores, *([-(2**52)] * padding)],
                    [max(scores)],
                    exps + none,
                    [sum(exps)],
                    [share],
                    weights + none,
                )
                for row, values_of_row in zip(rows, per_head, strict=True):
                    done[f"attention.{row}"] += values_of_row
                mixed += [
                    shift(sum(w * v[i] for w, (_, v) in zip(weights, past, strict=True)), lane.PROBABILITY)
                    for i in range(a.head_dim)
                ]
            bits = lane.HEAD + lane.WEIGHT - lane.RESIDUAL
            delta = self.dot(mixed, f"{prefix}self_attn.o_proj.weight")
            h = [cut(x + shift(y, bits), 2**31 - 1) for x, y in zip(h, delta, strict=True)]

            done |= {"attention.query": [x for q in queries for x in q], "attention.key": [x for k in keys for x in k]}
            done |= {"attention.mixed": mixed, "attention.residual": h}
            n = self.norm(h, done, "mlp")
            bits = lane.NORMED + lane.WEIGHT - lane.GATE
            gate = [shift(x, bits) for x in self.dot(n, f"{prefix}mlp.gate_proj.weight")]
            up = [shift(x, bits) for x in self.dot(n, f"{prefix}mlp.up_proj.weight")]
            limit = 20 << lane.SIGMOID_INDEX
            silu = [
                shift(sigmoid(cut(shift(g, lane.GATE - lane.SIGMOID_INDEX), limit)) * g, lane.SIGMOID) for g in gate
            ]
            widest = max(sum(abs(x) for x in row) for row in self.w[f"{prefix}mlp.down_proj.weight"])
            bound = 2 ** min(30, math.floor(math.log2(Fraction(2**52, widest)) - 1e-9))
            product = [cut(shift(s * u, 2 * lane.GATE - lane.MLP), bound) for s, u in zip(silu, up, strict=True)]
            bits = lane.MLP + lane.WEIGHT - lane.RESIDUAL
            delta = self.dot(product, f"{prefix}mlp.down_proj.weight")
            h = [cut(x + shift(y, bits), 2**31 - 1) for x, y in zip(h, delta, strict=True)]
            done |= {"mlp.gate_up": gate + up, "mlp.product": product, "output": h}
            self.states[position, layer] = (
                h,
                [x for k in keys for x in k],
                [x for v in values for x in v],
            )
        return [
            shift(x, lane.NORMED + lane.WEIGHT - lane.LOGIT)
            for x in self.dot(self.norm(h, {}, "head"), "lm_head.weight")
        ]


def stretched(frequency: float, scaling: RopeScaling | None) -> float:
    """The rotary scaling of Llama 3.1, case by case and by wavelengths, as its authors write it."""
    if scaling is None:
        return frequency
    wavelength = 2 * math.pi / frequency
    if wavelength < scaling.original_context / scaling.high_freq_factor:
        return frequency
    if wavelength > scaling.original_context / scaling.low_freq_factor:
        return frequency / scaling.factor
    spread = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) / spread
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency
