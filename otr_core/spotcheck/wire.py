"""What travels in a spot check, as canonical JSON: what both sides agreed to, where the receipt was
committed, and the operator's signed messages.

A message is authenticated before anything in it is read: what nobody has signed convicts nobody,
and what the operator has signed convicts it if it cannot be read.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Self

from otr_core.dispute.records import BASIS, SLOT_S
from otr_core.encoding import (
    canonical_json,
    from_hex,
    json_object,
    json_value,
    parse_canonical,
    strict_hex,
    tagged_json_hash,
)
from otr_core.errors import InputError, ParameterError, ReceiptError, SpotCheckError
from otr_core.poea.order import Document, Domain
from otr_core.poea.receipt import recover_address
from otr_core.spotcheck.beacon import KEY_BYTES, SCHEME
from otr_core.spotcheck.proofs import FIELD, Proof
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.verify import SpotCheckResponse

MESSAGE_FORMAT = "otr-spot-message/1"
KINDS = ("rows", "proof", "units")
"""Of messages: the rows of a drawn place, a proof of the whole answer, answers to drawn units."""
DEMANDS = KINDS[1:]
"""What a drawn answer can be asked for."""
_MOST_UNITS = 1024
_BEACON = ("public_key", "period", "genesis_time", "schemeID")


@dataclass(frozen=True)
class CheckTerms(Document):
    """What operator and verifiers agreed to before any answer was drawn.

    Attributes:
        domain: chain and court of the orders. beacon: its key, period, genesis and scheme, as drand
            writes them.
        spot_bps: chance of an answer to be drawn, in 10,000. demand: what a drawn one is asked for.
        units: how many are drawn of its place, and shares: chance of each operator; 0 and none
            where a proof is demanded.
        rows_s, answer_s: clocks, from the round on that starts them. margin_s: how far a block's
            time may be off; between it and the round lies more than that.
        circuits: by what proofs are judged: of units ``Verifier.digest``, of all circuits; of whole
            answers the digest of the commitment to the model under which they are made, or zeros
            where the verifier holds the model. Both sides name it: every message of the operator is
            about a duty, whose hash has the terms in it.
    """

    what = "spot-check terms"
    domain: Domain
    beacon: Mapping[str, Any]
    spot_bps: int
    demand: str
    units: int
    shares: Mapping[str, int]
    rows_s: int
    answer_s: int
    margin_s: int
    circuits: bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        json_object(self.beacon, _BEACON, what="spot-check terms beacon")
        json_object(self.shares, what="spot-check terms shares")
        from_hex(self.beacon["public_key"], length=KEY_BYTES, what="spot-check terms beacon public_key")
        times = [self.beacon[name] for name in ("period", "genesis_time")]
        if not all(type(value) is int and 1 <= value < 2**40 for value in times):
            raise ParameterError("beacon", times, "a period and a genesis time, whole seconds from 1 on")
        shares = [*self.shares.items()]
        asked = self.demand == "units"
        for name, good, allowed in (
            ("beacon", self.beacon["schemeID"] == SCHEME, SCHEME),
            ("spot_bps", self.spot_bps <= BASIS, f"0 to {BASIS}"),
            ("demand", self.demand in DEMANDS, " or ".join(DEMANDS)),
            ("units", 1 <= self.units <= _MOST_UNITS if asked else self.units == 0, f"1 to {_MOST_UNITS} for units"),
            ("margin_s", SLOT_S <= self.margin_s < 2**20, f"at least a slot, {SLOT_S} s"),
            ("rows_s", 1 <= self.rows_s < 2**20, "1 to 2^20 - 1 seconds"),
            ("answer_s", 1 <= self.answer_s < 2**20, "1 to 2^20 - 1 seconds"),
            ("shares", bool(shares) == asked, "some where units are demanded, and none elsewhere"),
            ("shares", all(type(n) is int and 1 <= n < 2**20 for _, n in shares), "whole numbers from 1 on"),
            ("shares", self.shares.keys() <= SHARES.keys(), f"of {', '.join(SHARES)}"),
        ):
            if not good:
                raise ParameterError(name, getattr(self, name), allowed)
        # In one order, whatever the order in a document: draws go through them.
        ordered = {name: self.shares[name] for name in SHARES if name in self.shares}
        object.__setattr__(self, "shares", ordered)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        found = json_object(document, [own.name for own in fields(cls)], what=cls.what)
        read = {"domain": Domain.from_json(found["domain"])}
        return cls(**found | read | {"circuits": strict_hex(found["circuits"], length=32, what=f"{cls.what} circuits")})


@dataclass(frozen=True)
class CommittedBatch(Document):
    """A batch as the chain has it; every party reads it there, and none takes it from another.

    Attributes:
        operator: 20-byte address of who committed it. root, size: of the tree over its receipts.
        time: of its block, Unix seconds.
    """

    what = "batch"
    lengths: ClassVar[Mapping[str, int]] = {"operator": 20}
    ceilings: ClassVar[Mapping[str, int]] = {"time": 2**40}
    operator: bytes
    root: bytes
    size: int
    time: int


@dataclass(frozen=True)
class OperatorMessage:
    """What an operator says about one duty, under its signature.

    Attributes:
        duty: of which check (``protocol.SpotCheck.duty``). kind: one of ``KINDS``.
        body: any JSON value: what it should be, its reader finds.
        signature: 65 bytes, by the address that committed the batch.
    """

    duty: bytes
    kind: str
    body: Any
    signature: bytes

    def dump(self) -> bytes:
        """Canonical JSON and a line end."""
        return canonical_json({"format": MESSAGE_FORMAT, **json_value(self)}) + b"\n"


def message_hash(duty: bytes, kind: str, body: Any) -> bytes:
    """What an operator signs, 32 bytes."""
    return tagged_json_hash("spot-check/message", {"duty": duty.hex(), "kind": kind, "body": body})


def read_message(raw: bytes, operator: bytes, duty: bytes) -> OperatorMessage:
    """A message of this operator about this duty. Its body is not looked at.

    Raises:
        SpotCheckError: it convicts nobody: check ``message``, no such document; ``signature``,
            another's; ``duty``, about another check.
    """
    try:
        found = parse_canonical(raw, MESSAGE_FORMAT, ("format", "duty", "kind", "body", "signature"), what="message")
        told, signature = (
            strict_hex(found[name], length=size, what=name) for name, size in (("duty", 32), ("signature", 65))
        )
        if found["kind"] not in KINDS:
            raise InputError(f"kind: found {str(found['kind'])[:40]!r}, expected {' or '.join(KINDS)}")
        message = OperatorMessage(told, found["kind"], found["body"], signature)
        signer = recover_address(message_hash(told, message.kind, message.body), signature)
    except InputError as error:
        raise SpotCheckError("message", error, "a signed message") from error
    except ReceiptError as error:
        raise SpotCheckError("signature", error, operator.hex()) from error
    if signer != operator:
        raise SpotCheckError("signature", signer.hex(), operator.hex())
    if told != duty:
        raise SpotCheckError("duty", told.hex(), duty.hex())
    return message


# --- answers to units


def answers_json(responses: tuple[SpotCheckResponse, ...]) -> list[Any]:
    """Answers to units, as they stand in a message's body."""
    return [_written(response) for response in responses]


def read_answers(body: Any, most: int) -> tuple[SpotCheckResponse, ...]:
    """Answers to at most ``most`` units.

    Raises:
        InputError: something else.
    """
    if not isinstance(body, list) or len(body) > most:
        raise InputError(f"answers: found {_size(body)}, expected a list of at most {most}")
    return tuple(_read(SpotCheckResponse, each, f"answer {number}") for number, each in enumerate(body))


def _size(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) else type(value).__name__


def _written(value: Any) -> Any:
    if isinstance(value, Proof):
        return {"raw": value.raw.hex(), "violation": value.violation.to_bytes(32, "big").hex()}
    if is_dataclass(value):
        return {own.name: _written(getattr(value, own.name)) for own in fields(value)}
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def _read(kind: Any, value: Any, what: str) -> Any:
    """A value of a class, by the types of its fields."""
    if typing.get_origin(kind) is types.UnionType:
        return None if value is None else _read(typing.get_args(kind)[0], value, what)
    if typing.get_origin(kind) is tuple:
        part, second = typing.get_args(kind)
        if not isinstance(value, list) or (second is not ... and len(value) != 2):
            raise InputError(f"{what}: found {_size(value)}, expected a list" + ("" if second is ... else " of two"))
        return tuple(_read(part, each, f"{what} {number}") for number, each in enumerate(value))
    if kind is bytes:
        return strict_hex(value, what=what)
    if kind is Proof:
        found = json_object(value, ("raw", "violation"), what=what)
        violation = int.from_bytes(strict_hex(found["violation"], length=32, what=f"{what} violation"), "big")
        if violation >= FIELD:
            raise InputError(f"{what} violation: found {violation}, expected a field element")
        return Proof(strict_hex(found["raw"], what=f"{what} raw"), violation)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        found, make = json_object(value, hints, what=what), typing.cast(Callable[..., Any], kind)
        return make(**{name: _read(hint, found[name], f"{what} {name}") for name, hint in hints.items()})
    if type(value) is not kind or (kind is int and not 0 <= value < 2**32):
        raise InputError(f"{what}: found {str(value)[:40]!r}, expected {kind.__name__}")
    return value
