"""A spot check from a signed receipt to a verdict, as one value: a table of moves.

    INCLUDED ─ draw ─► SPARED
             └───────► PLACED ─ commit_rows ─► COMMITTED ─ draw_units ─► DUE      (units demanded)
             └───────────────────────────────────────────────────────► DUE      (a proof demanded)
    DUE ─ answer ─► ACCEPTED · CONVICTED · DISPUTED        PLACED, DUE ─ lapse ─► CONVICTED

Everything that decides the verdict is bytes that somebody signed: the receipt with its order, rounds
of the beacon, the operator's messages; or is read from the chain: the batch and its time. Which
answer, place and unit are drawn, and which round draws them, follows from these. Sizes, shapes,
counts and identities come from the receipt and the model that it names, never from an answer.

A move that is not allowed, or whose bytes are not the operator's or not the beacon's, raises and
changes nothing. What the operator has signed and what cannot be accepted convicts it by the name of
the check that failed; so does silence (``silence``), an answer after its clock (``late``), and one
that cannot be read (``form``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Any, Self

from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import is_drawn, spot_subject
from otr_core.encoding import (
    canonical_json,
    json_object,
    json_value,
    parse_json,
    strict_hex,
    tagged_json_hash,
)
from otr_core.errors import (
    AnswerProofError,
    CheckError,
    InputError,
    OtrError,
    ProverError,
    SpotCheckError,
)
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Query, Response
from otr_core.poea.order import Order
from otr_core.spotcheck import beacon
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.verify import check_committed
from otr_core.spotcheck.query import REDRAWS, examine
from otr_core.spotcheck.selection import draw_place
from otr_core.spotcheck.verify import SpotCheckChallenge, Verifier
from otr_core.spotcheck.wire import (
    CheckTerms,
    CommittedBatch,
    OperatorMessage,
    read_answers,
    read_message,
)

FORMAT = "otr-spot-check/1"
BEYOND = ("mode", "soundness")
"""Checks of a whole answer's proof that say that no proof of this kind covers the statement."""


class Stage(Enum):
    """Where a check stands, each with a sentence."""

    INCLUDED = "the receipt is in a batch; the round that may draw it is awaited"
    SPARED = "the round did not draw it: over"
    PLACED = "drawn; the rows of its place are due"
    COMMITTED = "the rows are committed; the round that draws units is awaited"
    DUE = "the answer is due"
    ACCEPTED = "the answer was accepted: over"
    CONVICTED = "the operator is convicted: over"
    DISPUTED = "more units could not be decided than is allowed: a dispute decides"


@dataclass(frozen=True)
class SpotCheck:
    """One check; every move gives another value.

    Attributes:
        terms: agreed before. file: the receipt with its order. batch, index, path: where the chain
            has it.
        stage: see there. events: what brought it there, as they are written (``dump``).
        position, layer: the drawn place, where units are demanded. rows_root, rows_at: what was
            committed of it, and when.
        randomness: of the last round. due: from when on the operator's clock runs, and until:
            the last second in which its message counts; Unix seconds.
        refused_by: the check that convicts, empty for any other stage. why: in words.
    """

    terms: CheckTerms
    file: ReceiptFile
    batch: CommittedBatch
    index: int
    path: tuple[bytes, ...]
    stage: Stage = Stage.INCLUDED
    events: tuple[Mapping[str, Any], ...] = ()
    position: int = 0
    layer: int = 0
    rows_root: bytes = b""
    rows_at: int = 0
    randomness: bytes = b""
    due: int = 0
    until: int = 0
    refused_by: str = ""
    why: str = ""

    @functools.cached_property
    def subject(self) -> bytes:
        """What a round draws: the court's own subject, 32 bytes."""
        return spot_subject(batch_id("0x" + self.batch.operator.hex(), self.batch.root), self.index)

    @functools.cached_property
    def duty(self) -> bytes:
        """What messages are about, 32 bytes: terms, batch, place in it, receipt, and what was drawn.

        When rows were taken is the word of whoever keeps the check, and the round that draws units
        follows from it: an answer to the units of one round is none to those of another.
        """
        receipt = self.file.receipt.signing_hash(self.terms.domain).hex()
        named = {"terms": self.terms.to_json(), "batch": self.batch.to_json(), "index": self.index, "receipt": receipt}
        drawn = {"rows": self.rows_root.hex(), "randomness": self.randomness.hex()}
        return tagged_json_hash("spot-check/duty", named | drawn)

    @property
    def round(self) -> int:
        """Number of the round that is awaited.

        Raises:
            SpotCheckError: check ``stage``: none is.
        """
        self._at(Stage.INCLUDED, Stage.COMMITTED)
        after = self.batch.time if self.stage is Stage.INCLUDED else self.rows_at
        return beacon.round_after(self.terms.beacon, after, margin_s=self.terms.margin_s)

    # --- moves

    def draw(self, signature: bytes) -> Self:
        """The first round is out: it draws the answer, and its place, or spares it.

        Args:
            signature: of round ``round``, 48 bytes.

        Raises:
            SpotCheckError: check ``stage``. BeaconError: not the beacon's signature of that round.
        """
        self._at(Stage.INCLUDED)
        terms = self.terms
        drawn, event = self._round(signature)
        if not is_drawn(drawn.randomness, self.subject, terms.spot_bps):
            return replace(drawn, stage=Stage.SPARED, events=event)
        if terms.demand == "proof":
            return replace(drawn, stage=Stage.DUE, events=event, until=drawn.due + terms.answer_s)
        position, layer = draw_place(drawn.randomness, self.batch.root, self.index, self.file.receipt)
        until = drawn.due + terms.rows_s
        return replace(drawn, stage=Stage.PLACED, events=event, until=until, position=position, layer=layer)

    def commit_rows(self, now: int, raw: bytes) -> Self:
        """The operator has published the root of the rows at the drawn place, before the round that
        draws units of them.

        Args:
            now: when the chain, or whoever keeps this check, took it.

        Raises:
            SpotCheckError: ``stage``, ``early``, and those of ``wire.read_message``.
        """
        self._at(Stage.PLACED)
        message = self._message(now, raw, "rows")
        event = (*self.events, {"kind": "rows", "at": now, "message": json_value(message)})
        if now > self.until:
            return replace(self, events=event)._convicted("late", f"rows at {now}", f"at most {self.until}")
        try:
            root = strict_hex(message.body, length=32, what="rows")
        except InputError as error:
            return replace(self, events=event)._convicted("form", error)
        return replace(self, stage=Stage.COMMITTED, events=event, rows_root=root, rows_at=now)

    def draw_units(self, signature: bytes) -> Self:
        """The second round is out: it draws the units of the place.

        Raises:
            SpotCheckError: check ``stage``. BeaconError: not the beacon's signature of that round.
        """
        self._at(Stage.COMMITTED)
        drawn, event = self._round(signature)
        return replace(drawn, stage=Stage.DUE, events=event, until=drawn.due + self.terms.answer_s)

    def answer(self, now: int, raw: bytes, judge: Judge, proof: bytes = b"") -> Self:
        """The operator's answer, judged.

        Args:
            now: when it was taken. proof: the bytes that a message of kind ``proof`` names.
            judge: ``unit_judge`` or ``proof_judge``, with what this verifier holds of the model.

        Raises:
            SpotCheckError: ``stage``, ``early``, those of ``wire.read_message``, ``proof bytes``:
                not the ones that the operator has signed, ``held model`` and ``held circuits``:
                not those that receipt and terms name, so that this verifier judges nothing.
            ProverError: the library that checks proofs did not do its work.
        """
        self._at(Stage.DUE)
        for name, held, stated in (
            ("held model", judge.model_id, self.file.model.model_id),
            ("held circuits", judge.circuits, self.terms.circuits),
        ):
            if held != stated:
                raise SpotCheckError(name, held.hex(), stated.hex())
        message = self._message(now, raw, self.terms.demand)
        if now > self.until:
            return self._convicted("late", f"an answer at {now}", f"at most {self.until}")
        try:
            others = self.terms.demand == "proof" and not _signed_for(message.body, proof)
            disputed = not others and judge.disputed(self, message.body, proof)
        except ProverError:
            raise
        except OtrError as error:
            return self._convicted(error.check if isinstance(error, CheckError) else "form", error)
        if others:
            raise SpotCheckError("proof bytes", proof_body(proof), message.body)
        return replace(self, stage=Stage.DISPUTED if disputed else Stage.ACCEPTED)

    def lapse(self, now: int) -> Self:
        """The clock ran out and nothing has come.

        Raises:
            SpotCheckError: ``stage``, or ``early``: something may still come.
        """
        self._at(Stage.PLACED, Stage.DUE)
        if now <= self.until:
            raise SpotCheckError("early", now, f"later than {self.until}")
        event = (*self.events, {"kind": "lapse", "at": now})
        return replace(self, events=event)._convicted("silence", f"nothing by {now}", f"an answer by {self.until}")

    # --- as a document

    def dump(self) -> bytes:
        """The check with all that led to where it stands: canonical JSON and a line end."""
        parts = {
            "terms": self.terms.to_json(),
            "batch": self.batch.to_json(),
            "index": self.index,
            "path": [each.hex() for each in self.path],
            "receipt": parse_json(self.file.dump()),
            "events": list(self.events),
        }
        return canonical_json({"format": FORMAT, **parts}) + b"\n"

    def challenge(self, number: int) -> SpotCheckChallenge:
        """What unit ``number`` of the drawn place is about."""
        place = (self.position, self.layer, self.rows_root, self.randomness)
        return SpotCheckChallenge(self.file.receipt, *place, number, self.terms.shares)

    # --- inside

    def _at(self, *stages: Stage) -> None:
        if self.stage not in stages:
            raise SpotCheckError("stage", self.stage.name, " or ".join(stage.name for stage in stages))

    def _round(self, signature: bytes) -> tuple[Self, tuple[Mapping[str, Any], ...]]:
        number = self.round
        randomness = beacon.verify_round(self.terms.beacon, number, signature)
        event = (*self.events, {"kind": "round", "signature": signature.hex()})
        return replace(self, randomness=randomness, due=beacon.round_time(self.terms.beacon, number)), event

    def _message(self, now: int, raw: bytes, kind: str) -> OperatorMessage:
        if now < self.due:
            raise SpotCheckError("early", now, f"from {self.due} on, when the round was due")
        message = read_message(raw, self.batch.operator, self.duty)
        if message.kind != kind:
            raise SpotCheckError("kind", message.kind, kind)
        return message

    def _convicted(self, check: str, found: object, expected: str = "") -> Self:
        why = str(found) if not expected else f"found {found}, expected {expected}"
        return replace(self, stage=Stage.CONVICTED, refused_by=check, why=why)


@dataclass(frozen=True)
class Judge:
    """What a verifier brings to judge answers with.

    Attributes:
        model_id: of the model that it holds, or whose commitment it does. circuits: as in the terms:
            ``Verifier.digest``, the commitment's digest, or zeros.
        disputed: (check, body of the answer, bytes of the proof) → whether it goes to a dispute;
            raises what convicts.
    """

    model_id: bytes
    circuits: bytes
    disputed: Callable[[SpotCheck, Any, bytes], bool]


def _signed_for(body: Any, proof: bytes) -> bool:
    """Whether the bytes of a proof are those that the operator has signed."""
    found = json_object(body, ("bytes", "sha256"), what="proof message")
    strict_hex(found["sha256"], length=32, what="proof message sha256")
    if type(found["bytes"]) is not int:
        raise InputError(f"proof message bytes: found {str(found['bytes'])[:40]!r}, expected a number")
    return bool(found == proof_body(proof))


def proof_body(proof: bytes) -> dict[str, Any]:
    """Body of the message that names a proof."""
    return {"bytes": len(proof), "sha256": sha256(proof).hexdigest()}


def unit_judge(verifier: Verifier, model_id: bytes) -> Judge:
    """A judge of answers to units: ``form``, they cannot be read; ``count``, fewer or more than are
    drawn; and the checks of ``Verifier.verify``."""

    def disputed(check: SpotCheck, body: Any, proof: bytes) -> bool:
        answers = read_answers(body, check.terms.units + REDRAWS)

        def unit(number: int) -> None:
            if number >= len(answers):
                raise SpotCheckError("count", f"{len(answers)} answers", f"one for unit {number}")
            verifier.verify(check.challenge(number), answers[number])

        found = examine(check.terms.units, unit)
        if found.drawn != len(answers):
            raise SpotCheckError("count", f"{len(answers)} answers", found.drawn)
        return found.disputed

    return Judge(model_id, verifier.digest, disputed)


def committed_judge(committed: ModelCommitment, said: Query, response: Response, order: Order | None = None) -> Judge:
    """A judge of proofs of whole answers who holds no weight: the terms name the commitment.

    Args:
        said, response: the opened query and response. order: this party's own copy.
    """

    def verify(file: ReceiptFile, proof: bytes) -> None:
        check_committed(proof, file, said, response, committed=committed, order=order)

    return proof_judge(verify, committed.model_id, committed.digest)


def proof_judge(
    verify: Callable[[ReceiptFile, bytes], object], model_id: bytes, commitment: bytes = bytes(32)
) -> Judge:
    """A judge of proofs of whole answers. An answer that no such proof covers goes to a dispute:
    what it is follows from its order, so that no operator can make it so.

    Args:
        verify: ``proof.verify.check_proof`` with all but the receipt file and the proof. commitment: digest
            of the commitment to the model under which proofs are made; zeros: the model is held.
    """

    def disputed(check: SpotCheck, body: Any, proof: bytes) -> bool:
        try:
            verify(check.file, proof)
        except AnswerProofError as error:
            if error.check not in BEYOND:
                raise
            return True
        return False

    return Judge(model_id, commitment, disputed)
