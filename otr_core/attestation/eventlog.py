"""Event logs of a TD: what was extended into the run-time registers RTMR0 to RTMR3.

A log proves nothing by itself. Its events count once the registers that they replay to equal those
in a verified quote. Two forms are read: the JSON list that dstack guests serve (``imr, event_type,
digest, event, event_payload``) and the binary CCEL of the firmware (TCG PC Client Platform Firmware
Profile, crypto-agile log).

Two forms of digest are in use for runtime events (dstack ``cc-eventlog``). Version 1 hashes type ‖
":" ‖ name ‖ ":" ‖ payload, from which nobody can tell where the name ends if there is another
colon; such an event is never taken for one of a name that a decision rests on. Version 2 hashes
canonical JSON, which says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import canonical_json, from_hex, parse_json
from otr_core.errors import EvidenceError, InputError

MAX_LOG_BYTES = 4 * 1024 * 1024
MAX_EVENTS = 4096
RUNTIME_EVENT = 0x0800_0001  # dstack's type for events that software extends into RTMR3
#: The event that ends the start of dstack's image. What it measured stands before; behind it, any
#: program in the guest may extend what it likes.
IMAGE_READY = "system-ready"
#: Events that the image extends, each at most once, on its way there.
IMAGE_EVENTS = (
    *("system-preparing", "rootfs-hash", "app-id", "compose-hash", "instance-id", "boot-mr-done", "os-image-hash"),
    *("key-provider", "storage-fs", "gpu-policy-hash", IMAGE_READY),
)
_DIGEST_BYTES = 48
_SHA384 = 0x000C
_SPEC_ID = b"Spec ID Event03\0"


@dataclass(frozen=True)
class Event:
    """One extension of a register.

    Attributes:
        register: 0 to 3.
        kind: event type.
        digest: the 48 bytes that the log states; empty where it leaves them out.
        name, payload: what was measured, for runtime events.
        version: of a runtime event's digest, 1 or 2.
    """

    register: int
    kind: int
    digest: bytes
    name: str
    payload: bytes
    version: int = 1

    @property
    def extended(self) -> bytes:
        """The 48 bytes that go into the register.

        For a runtime event they are computed from name and payload, whatever the log states. What
        other events hash is not in the log, so their stated digest is taken.
        """
        if self.kind != RUNTIME_EVENT:
            return self.digest
        return (runtime_digest if self.version == 1 else json_digest)(self.kind, self.name, self.payload)


@dataclass(frozen=True)
class EventLog:
    """A parsed log: its bytes, and its events in order."""

    raw: bytes
    events: tuple[Event, ...]

    def replay(self, register: int) -> bytes:
        """RTMR ``register`` (48 bytes) after all events: R ← SHA-384(R ‖ digest), from zeros."""
        value = bytes(_DIGEST_BYTES)
        for event in self.events:
            if event.register == register:
                value = hashlib.sha384(value + event.extended).digest()
        return value

    def payloads(self, name: str) -> tuple[bytes, ...]:
        """Payloads of the runtime events called ``name`` in RTMR3, in order; of the image's own
        events, those before ``IMAGE_READY``.

        None at all where one of that name may be hidden: where another kind of event is there,
        whose stated digest is taken for granted, or where a digest is also that of an event with
        another name. That of the image's own event is not: the image extends nothing under a name
        with a colon.
        """
        found = [one for one in self.events if one.register == 3]
        names = [one.name for one in found]
        images = name in IMAGE_EVENTS and IMAGE_READY in names
        if images:
            found = found[: names.index(IMAGE_READY) + 1]
        hidden = any(one.kind != RUNTIME_EVENT or (":" in one.name and one.version == 1) for one in found)
        named = [one for one in found if one.name == name]
        ambiguous = any(one.version == 1 and b":" in one.payload for one in named) and not images
        return () if hidden or ambiguous else tuple(one.payload for one in named)

    def boundary_problem(self) -> str | None:
        """None, or how the image's own events do not end in one ``IMAGE_READY``.

        An empty text says that the log has no such event, as those of other images.
        """
        names = [one.name for one in self.events if one.register == 3 and one.kind == RUNTIME_EVENT]
        if IMAGE_READY not in names:
            return ""
        late = [name for name in names[names.index(IMAGE_READY) + 1 :] if name in IMAGE_EVENTS]
        twice = sorted({name for name in names if name in IMAGE_EVENTS and names.count(name) > 1})
        if late:
            return f"{', '.join(late[:5])} stands behind {IMAGE_READY}, where any program may extend it"
        return f"{', '.join(twice)} is there more than once" if twice else None

    def runtime_events(self) -> list[dict[str, str | None]]:
        """What was extended into RTMR3, in order, as JSON values: ``event`` and ``payload`` (hex).

        An extension that is not a runtime event has the event None and its digest for a payload:
        what its digest hashes is not in the log, so it may be any event.
        """
        inside = [one for one in self.events if one.register == 3]
        named = [(one.name, one.payload) if one.kind == RUNTIME_EVENT else (None, one.digest) for one in inside]
        return [{"event": name, "payload": payload.hex()} for name, payload in named]

    def digest_problem(self) -> str | None:
        """None, or which runtime event's digest is not, or not only, that of its name and payload.

        Under version 1 a colon ends the name. With another colon inside the name, one digest would
        be that of two events.
        """
        for position, event in enumerate(self.events):
            if event.kind == RUNTIME_EVENT and event.version == 1 and ":" in event.name:
                return f"event {position}: found the name {event.name[:40]!r}, expected one without a colon"
            if event.digest and event.digest != event.extended:
                return f"event {position} ({event.name!r}): digest is not that of its payload"
        return None


def runtime_digest(kind: int, name: str, payload: bytes) -> bytes:
    """SHA-384(type, u32 little endian ‖ ":" ‖ name ‖ ":" ‖ payload), as dstack guests extend it."""
    return hashlib.sha384(kind.to_bytes(4, "little") + b":" + name.encode() + b":" + payload).digest()


def json_digest(kind: int, name: str, payload: bytes) -> bytes:
    """SHA-384 of the canonical JSON (RFC 8785) of name, payload (hex) and type: version 2."""
    return hashlib.sha384(canonical_json({"name": name, "payload": payload.hex(), "type": kind})).digest()


def parse_event_log(data: bytes) -> EventLog:
    """Parse a log: dstack JSON (the list, or an object with ``event_log``) or a binary CCEL.

    Raises:
        EvidenceError: neither, or malformed.
    """
    if len(data) > MAX_LOG_BYTES:
        raise EvidenceError(f"event log: found {len(data)} bytes, expected at most {MAX_LOG_BYTES}")
    if _SPEC_ID in data[:64]:
        events = tuple(_ccel(data))
    else:
        listed = _listed(evidence_json(data, "event log"))
        events = tuple(_event(entry, position) for position, entry in enumerate(listed))
    if not events:
        raise EvidenceError("event log: found no event, expected at least one")
    return EventLog(data, events)


def evidence_json(data: bytes | str, what: str) -> Any:
    """``parse_json``, except that what is not JSON raises ``EvidenceError``."""
    return parse_json(data, what=what, kind=EvidenceError)


def _listed(document: Any) -> list[Any]:
    """The list of events: the document, or its ``event_log`` (in ``tcb_info``), as list or text."""
    for key in ("tcb_info", "event_log"):
        if isinstance(document, dict) and key in document:
            document = document[key]
        if isinstance(document, str):
            document = evidence_json(document, "event log")
    if not isinstance(document, list):
        raise EvidenceError("event log: found JSON without events, expected a list of them or 'event_log'")
    if len(document) > MAX_EVENTS:
        raise EvidenceError(f"event log: found {len(document)} events, expected at most {MAX_EVENTS}")
    return document


def _event(entry: Any, position: int) -> Event:
    what = f"event {position}"
    if not isinstance(entry, dict):
        raise EvidenceError(f"{what}: found {type(entry).__name__}, expected an object")
    register, kind = entry.get("imr"), entry.get("event_type")
    if type(register) is not int or not 0 <= register <= 3:
        raise EvidenceError(f"{what}: imr found {register!r}, expected 0 to 3")
    if type(kind) is not int or not 0 <= kind < 2**32:
        raise EvidenceError(f"{what}: event_type found {kind!r}, expected an unsigned 32-bit number")
    name = entry.get("event", "")
    if not isinstance(name, str):
        raise EvidenceError(f"{what}: event found {type(name).__name__}, expected a string")
    try:
        digest = from_hex(entry.get("digest", ""), what=f"{what} digest")
        payload = from_hex(entry.get("event_payload", ""), what=f"{what} payload")
        name.encode()
    except (InputError, UnicodeEncodeError) as error:
        raise EvidenceError(f"{what}: {error}") from error
    version = entry.get("version", 1)
    if type(version) is not int or version not in (1, 2):
        raise EvidenceError(f"{what}: version found {str(version)[:20]!r}, expected 1 or 2")
    if "version" not in entry and kind == RUNTIME_EVENT and digest == json_digest(kind, name, payload):
        version = 2  # older lists of version 2 do not say so
    if len(digest) != _DIGEST_BYTES and not (digest == b"" and kind == RUNTIME_EVENT):
        raise EvidenceError(f"{what}: digest found {len(digest)} bytes, expected {_DIGEST_BYTES}")
    return Event(register, kind, digest, name, payload, version)


def _ccel(data: bytes) -> Iterator[Event]:
    """Events of a crypto-agile log. Register 0 there is MRTD, and register *n* + 1 is RTMR *n*."""
    # The first record has the form of older logs, 32 bytes and an event of the size in its last 4;
    # it only states the version of the format.
    at = 32 + int.from_bytes(data[28:32], "little")
    for _ in range(MAX_EVENTS):
        register, kind, digests = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4, 8))
        # The firmware's table is longer than the log in it; what follows the last record is filled
        # with ones or zeros.
        if register in (0xFFFF_FFFF, 0):
            return
        at += 12
        if digests != 1 or int.from_bytes(data[at : at + 2], "little") != _SHA384 or register > 4:
            raise EvidenceError(
                f"event log: found register {register} with {digests} digests, expected one SHA-384 digest"
            )
        digest = data[at + 2 : at + 50]
        size = int.from_bytes(data[at + 50 : at + 54], "little")
        at += 54 + size
        if at > len(data):
            raise EvidenceError(f"event log: found an event of {size} bytes beyond the end")
        yield Event(register - 1, kind, digest, "", data[at - size : at])
    raise EvidenceError(f"event log: found more than {MAX_EVENTS} events")
