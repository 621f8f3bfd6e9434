"""Forged proofs of a whole answer: a prover that is honest but for one place of its witness.

Each is put to the verifier while it is made, message by message, so that a prover who is refused early
need not end his proof: no later message could save it, as the verifier reads in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from otr_core.errors import AnswerProofError
from otr_core.lane.sampling import Decoding
from otr_core.poea.message import Response
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.layout import Sizes
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import (
    check_committed,
    check_proof,
    check_proven,
    converse,
    draws_of,
    proven_statement,
)
from otr_node.generate import Answer
from otr_node.portable import PortableModel
from otr_node.proof.answers import KeptCommitment
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import Witness, make_witness
from otr_node.proof.witness_rows import Change
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.tiny import TINY, write_tiny

VALUE, ROUNDING, CARRY, COUNT = "value", "rounding", "carry", "count"
KINDS = {
    VALUE: "a value is another, by a step within one limb; what follows is computed from it honestly",
    ROUNDING: "a rounded value is off by one, and its remainder makes up for it",
    CARRY: "a limb holds too much, and the next one less, so that the number is the same",
    COUNT: "an entry of a table is looked up once more or less often",
}
SEEN_ONLY = ("distance", "distance_low", "far")
"""Of these only places that are seen mean anything: the rest weighs nothing whatever it is."""


@dataclass(frozen=True)
class Slot:
    """Where a forger changes something: how (``KINDS``), in which column, and in which of its limbs."""

    kind: str
    column: str
    limb: int


def slots(s: Sizes) -> list[Slot]:
    """Every operator's column and every limb of it, under each kind of change that it can have."""
    found = []
    for name, column in s.columns.items():
        if name.startswith("count"):
            found.append(Slot(COUNT, name, 0))
            continue
        found += [Slot(VALUE, name, limb) for limb in range(column.limbs)]
        found += [Slot(CARRY, name, limb) for limb in range(len(column.widths) - (not column.bounds))]
        if f"{name}_rest" in s.columns:
            found.append(Slot(ROUNDING, name, 0))
    return found


Prove = Callable[[Channel], None]
"""A prover's side of the conversation, to its end."""


class _Stopped(BaseException):
    """The verifier has refused: nobody reads on."""


class OnDemand(Channel):
    """A prover's channel whose next message is made when the verifier asks for it, and the bytes that
    this verifier reads."""

    def __init__(self, prove: Prove) -> None:
        super().__init__()
        self._turn, self._wanted, self._ready = threading.Condition(), 0, bytearray()
        self._ended = self._stopped = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(prove,), daemon=True)
        self._thread.start()

    def _run(self, prove: Prove) -> None:
        try:
            prove(self)
        except _Stopped:
            pass
        except BaseException as error:  # told to the verifier's side, which is the one that is waited for
            self._failed = error
        with self._turn:
            self._ended = True
            self._turn.notify_all()

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or self._wanted > len(self._ready))
            if self._stopped:
                raise _Stopped
        message = super().data(label, size, make)
        with self._turn:
            self._ready += message
            self._turn.notify_all()
        return message

    def _until(self, end: int) -> None:
        with self._turn:
            self._wanted = max(self._wanted, end)
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._ended or len(self._ready) >= end)
        if self._failed is not None:
            raise self._failed

    def __getitem__(self, span: slice) -> bytes:
        self._until(span.stop)
        return bytes(self._ready[span])

    def __len__(self) -> int:
        """Of what was made, if it was refused; of the whole proof, if it was read to its end."""
        return len(self._ready)

    def stop(self) -> None:
        with self._turn:
            self._stopped = True
            self._turn.notify_all()
        self._thread.join()


class CellForger(AnswerProver):
    """Changes committed cells behind its own back."""

    def __init__(self, *given: Any, cells: Callable[[np.ndarray], None]) -> None:
        super().__init__(*given)
        self._change = cells

    def commit(self, witness: Witness) -> bytes:
        super().commit(witness)
        self._change(self.cells.reshape(-1))
        return self.commit_to_cells()


def _as_it_is(name: str, row: int, values: np.ndarray) -> np.ndarray:
    """No change, of a prover who does not look at what comes of it."""
    return values


class Forger:
    """Forges proofs of one served answer, at places drawn from a seed.

    Args:
        told: what was signed, in place of the served answer. kept: the commitment to the model that the
            verifier holds; None: the model.
    """

    def __init__(self, served: Served, told: Answer | None = None, kept: KeptCommitment | None = None) -> None:
        self.model, self._said, self._kept = served.bench.portable, served.said, kept
        self._file = served.file if told is None else served.sign(told)
        self._response = Response((told or served.answer).token_ids, served.salts)
        self._held: dict[str, Any] = {"model_id": self.model.manifest.model_id}
        self._held["saturation"] = self.model.bounds.saturation
        self.sizes = check_proven(self._file, self._said, self._response, **self._held)
        self.tokens = (*self._said.prompt_ids, *self._response.token_ids)
        self.draws = draws_of(self._file.order, self.sizes.answer)
        self._committed = None if kept is None else kept.commitment
        self._bound = proven_statement(self._file, self._said, self._response, self._committed)

    def witness(self, model: PortableModel | None = None, change: Change = _as_it_is) -> Witness:
        """What a prover who does not look at what comes of it runs; by default the ordered model."""
        return make_witness(model or self.model, self.sizes, self.tokens, change, draws=self.draws)

    def prover(
        self,
        channel: Channel,
        kind: type[AnswerProver] = AnswerProver,
        model: PortableModel | None = None,
        kept: KeptCommitment | None = None,
        **more: Any,
    ) -> AnswerProver:
        """A prover's side of the conversation.

        Args:
            model: whose matrices it claims. kept: whose tree it opens; None: the verifier's.
        """
        own = model or self.model
        given = (channel, self.sizes, self.model.architecture, own, self.tokens, self.draws, self._committed)
        side = kind(*given, **more)
        beside = kept or self._kept
        side.column_hashes = b"" if beside is None else beside.hashes
        return side

    def speak(self, side: AnswerProver, witness: Witness) -> None:
        """Say all that is said, to its end or until nobody reads on."""
        converse(side, self._bound, side.commit(witness), witness.facts)

    def put(self, prove: Prove, speaks: Callable[[Prove], OnDemand] = OnDemand) -> tuple[str, int]:
        """Put a prover to the verifier.

        Args:
            speaks: its channel.

        Returns:
            the check that refuses it, empty if it is accepted; and the bytes that were read until then.
        """
        proof = speaks(prove)
        try:
            return self.verdict(cast(bytes, proof)), len(proof)
        finally:
            proof.stop()

    def verdict(self, proof: bytes) -> str:
        """The check that refuses a proof, empty if it is accepted."""
        parts = (proof, self._file, self._said, self._response)
        try:
            if self._committed is None:
                check_proof(*parts, model=self.model, **self._held)
            else:
                check_committed(*parts, committed=self._committed)
        except AnswerProofError as error:
            return error.check
        return ""

    def refused(self, slot: Slot | None, rng: np.random.Generator) -> tuple[str, int]:
        """Forge one proof, and put it to the verifier.

        Args:
            slot: None: an honest proof.

        Returns:
            as ``put``.
        """
        change: Change = _as_it_is
        cells = None
        if slot is not None and slot.kind in (VALUE, ROUNDING):
            change = self._changed(slot, rng)
        elif slot is not None:
            cells = self._moved(slot, rng)

        def prove(channel: Channel) -> None:
            side = self.prover(channel) if cells is None else self.prover(channel, CellForger, cells=cells)
            self.speak(side, self.witness(change=change))

        return self.put(prove)

    def _changed(self, slot: Slot, rng: np.random.Generator) -> Change:
        column = self.sizes.columns[slot.column]
        rows, positions, values = column.shape
        row, t = int(rng.integers(rows)), int(rng.integers(positions))
        j = int(rng.integers(t + 1 if slot.column in SEEN_ONLY else values))
        sign = int(rng.choice([1, -1]))
        if slot.kind == VALUE:
            width = [*column.widths, *([column.last_widths[row]] if column.bounds else [])][slot.limb :][:1] or [10]
            step = sign * int(rng.integers(1, 1 << max(width[0], 1))) << column.shifts[slot.limb]
            steps = {slot.column: step}
        else:
            rest = self.sizes.columns[f"{slot.column}_rest"]
            steps = {slot.column: sign, rest.name: -sign << sum(rest.widths)}

        def change(name: str, at: int, own: np.ndarray) -> np.ndarray:
            if at != row or name not in steps:
                return own
            own = own.copy()
            own[t, j] += steps[name]
            return own

        return change

    def _moved(self, slot: Slot, rng: np.random.Generator) -> Callable[[np.ndarray], None]:
        first, size = self.sizes.cells_of(slot.column)
        at, sign = first + slot.limb * size + int(rng.integers(size)), int(rng.choice([1, -1]))
        steps = {at: sign}
        if slot.kind == CARRY:
            steps = {at: sign << self.sizes.columns[slot.column].widths[slot.limb], at + size: -sign}

        def move(flat: np.ndarray) -> None:
            for place, step in steps.items():
                flat[place] = (int(flat[place]) + step) % P

        return move


@cache
def tiny_forger(temperature_milli: int) -> Forger:
    """Of a tiny model of one layer, which has every operator: two words, three tokens."""
    with TemporaryDirectory() as folder:
        bench = Workbench(write_tiny(Path(folder) / "tiny", replace(TINY, layers=1)))
        served = bench.serve("w3 w4", Decoding(3, 1, temperature_milli))
        return Forger(served)


def forge_round(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """One forged proof for each slot of one answer; a point of a sweep.

    Args:
        config: temperature_milli, 0 of a greedy answer; number, of the round under this seed.

    Returns:
        honest: what refuses a proof of the same answer that is not changed, which should be nothing;
        proof_bytes: its length. rows: kind, column, limb, refused_by and the bytes read of each forged one.
    """
    forger = tiny_forger(config["temperature_milli"])
    honest, size = forger.refused(None, np.random.default_rng(seed))
    rows = []
    for at, slot in enumerate(slots(forger.sizes)):
        by, read = forger.refused(slot, np.random.default_rng([seed, config["number"], at]))
        rows.append({**asdict(slot), "refused_by": by, "read_bytes": read})
    return {"honest": honest, "proof_bytes": size, "rows": rows}
