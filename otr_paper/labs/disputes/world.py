"""The tiny model's world: an answer of it, false runs of that answer, and a court in which they can
be disputed."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

from otr_core.dispute.records import Terms
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, program
from otr_core.lane.sampling import Decoding
from otr_core.poea.receipt import SignedReceipt
from otr_core.poea.trace import Trace
from otr_node.recorder import TraceRecorder
from otr_node.run import Run, Tamper
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.parties import vouched
from otr_paper.labs.tiny import write_tiny

START = 1_800_001_000
SEED = hashlib.sha256(b"trace seed").digest()
# Not the deployment's: short clocks, and shares that differ from one another, so that a mix-up of two shows.
TERMS = Terms(
    arity_bits=2,
    window_s=10_000,
    reveal_s=600,
    clock_s=3_000,
    increment_s=30,
    exit_s=20_000,
    claim_s=900,
    least_stake_wei=10**18,
    bond_wei=10**17,
    slash_bps=9_000,
    reward_bps=4_000,
    compensation_bps=5_000,
)


@functools.cache
def tiny_bench(lane: str = Dims.lane) -> Workbench:
    return Workbench(write_tiny(Path(tempfile.mkdtemp(prefix="otr-tiny-"))), lane=lane)


@functools.cache
def tiny(temperature_milli: int = 0, tokens: int = 10, lane: str = Dims.lane) -> Served:
    """An answer of the tiny model."""
    decoding = Decoding(tokens, seed=5, temperature_milli=temperature_milli)
    return tiny_bench(lane).serve("w3 w5 w7 w9", decoding, trace_secret=SEED)


def tiny_signed(run: Run, **changes: Any) -> SignedReceipt:
    """What a broken TEE signs about ``run``, as an answer to the order of ``tiny`` with the same
    decoding; ``changes`` as in ``vouched``."""
    served = tiny(run.decoding.temperature_milli, run.decoding.max_tokens, run.trees.dims.lane)
    return vouched(served.order, run, **changes)


def random_tamper(served: Served, random: Random, operator: int | None = None) -> Tamper:
    """A change of one random value that a layer computes, of one operator when given. Rounding may
    undo it."""
    dims, position = served.bench.trees.dims, random.randrange(len(served.honest.fed))
    operators = program(dims, LAYER, position, 0)
    number = random.randrange(len(operators)) if operator is None else operator
    element = random.randrange(operators[number].length)
    delta = random.choice((-1, 1)) * random.choice((1, 7, 2**12, 2**20))
    return Tamper(position, random.randrange(dims.layers), number, element, delta)


class WronglySalted(Run):
    """Commits to the honest states under salts that do not come from the committed seed, from some
    leaf on."""

    first: int = 0

    @functools.cached_property
    def trace(self) -> Trace:
        made: Trace = Run.trace.func(self)  # type: ignore[attr-defined]
        other = TraceRecorder(hashlib.sha256(b"other seed").digest())
        self._replay(other, len(self.fed))
        return replace(made, leaves=made.leaves[: self.first] + other.finish().leaves[self.first :])

    def piece(self, position: int, layer: int, piece: int) -> tuple[bytes, list[bytes]]:
        if position * self.trees.dims.layers + layer < self.first:
            return super().piece(position, layer, piece)
        _ = self.trace
        committed, self.seed = self.seed, hashlib.sha256(b"other seed").digest()
        try:
            return super().piece(position, layer, piece)
        finally:
            self.seed = committed


def salted_wrongly(served: Served, random: Random) -> Run:
    run = served.honest
    own = {each.name: getattr(run, each.name) for each in fields(Run) if each.init}
    false = WronglySalted(**own)
    false.first = random.randrange(len(run.trace.leaves))
    return false
