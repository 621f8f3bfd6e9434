"""Canonical bytes and domain-separated hashes.

Structures are hashed as RFC 8785 (JCS) JSON. ``tagged_hash(tag, data)`` is ``H(tag, x)`` of the
PoEA definition: SHA-256 over the length-prefixed tag and the data, so that no two uses of the hash
can be confused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

import rfc8785

from otr_core.errors import InputError, reported_as

_DOMAIN = b"otr/1/"
_MOST_BYTES = 16 * 2**20  # of a document of this project's own formats


def canonical_json(value: Any) -> bytes:
    """RFC 8785 canonical JSON of ``value`` (UTF-8 bytes).

    Raises:
        InputError: ``value`` holds something JSON cannot carry exactly (NaN, an integer beyond
            2^53, bytes).
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise InputError(f"not expressible as canonical JSON: {error}") from error


def tagged_hash(tag: str, data: bytes) -> bytes:
    """32-byte SHA-256 of ``data`` under the domain ``tag`` (1 to 255 ASCII characters)."""
    name = _DOMAIN + tag.encode("ascii")
    if not tag or len(name) > 255:
        raise InputError(f"hash tag: found {len(tag)} characters, expected 1 to {255 - len(_DOMAIN)}")
    return hashlib.sha256(bytes([len(name)]) + name + data).digest()


def tagged_json_hash(tag: str, value: Any) -> bytes:
    """``tagged_hash`` over the canonical JSON of ``value``."""
    return tagged_hash(tag, canonical_json(value))


def from_hex(text: str, *, length: int | None = None, what: str = "hex value") -> bytes:
    """Bytes of a hex string, with or without ``0x``.

    Raises:
        InputError: not hex, or not ``length`` bytes long.
    """
    if not isinstance(text, str):
        raise InputError(f"{what}: found {type(text).__name__}, expected a hex string")
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    try:
        raw = bytes.fromhex(digits)
    except ValueError as error:
        raise InputError(f"{what}: found {text[:24]!r}, expected hexadecimal digits") from error
    if length is not None and len(raw) != length:
        raise InputError(f"{what}: found {len(raw)} bytes, expected {length}")
    return raw


def strict_hex(text: Any, *, length: int | None = None, what: str) -> bytes:
    """Bytes of a string of lower-case hex digits: the one form that documents of this project have.

    Raises:
        InputError: anything else, or not ``length`` bytes.
    """
    raw = from_hex(text, length=length, what=what)
    if raw.hex() != text:
        raise InputError(f"{what}: found {text[:24]!r}, expected lower-case hexadecimal digits and nothing else")
    return raw


def parse_json(raw: bytes | str, *, what: str = "JSON", kind: type[InputError] = InputError) -> Any:
    """Parsed JSON; duplicate keys and the non-standard NaN/Infinity are refused.

    Args:
        what: what messages call the document. kind: class of the error.

    Raises:
        InputError: ``raw`` is not such a document.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise kind(f"{what}: key {twice[:80]!r} found twice, expected once")
        return result

    def no_constant(name: str) -> Any:
        raise kind(f"{what}: found {name}, expected a JSON number")

    with reported_as(kind, f"{what}: not readable as JSON", ValueError, RecursionError):
        text = raw if isinstance(raw, str) else raw.decode(json.detect_encoding(raw))
        if deeper_than(text, _DEEPEST):
            raise kind(f"{what}: found more than {_DEEPEST} levels, expected a document that a program would write")
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)


_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def deeper_than(text: str, levels: int) -> bool:
    """Whether brackets of a JSON text nest more than ``levels`` deep, in linear time.

    It is asked before the text is read: readers recurse, and the limit that Python sets to that is
    one for the whole process, raised by some libraries to where C's stack overflows. A reader that
    set it for itself would change it under other threads.
    """
    if text.count("[") + text.count("{") <= levels:
        return False
    depth = 0
    for piece in _BRACKETS.findall(_STRING.sub("", text)):
        depth += len(piece) if piece[0] in "[{" else -len(piece)
        if depth > levels:
            return True
    return False


_BRACKETS = re.compile(r"[\[{]+|[\]}]+")


def parse_canonical(raw: bytes, form: str, keys: Collection[str], *, what: str) -> dict[str, Any]:
    """A document of this project's own formats: one JSON object in RFC 8785 form and a line end.

    It has one encoding. Whatever is read otherwise (other spelling of a number or text, spaces,
    another order of keys, another character set) is refused, so that no two readers of the same
    bytes can differ.

    Args:
        form: value of the member ``format``. keys: all members. what: what messages call it.

    Raises:
        InputError: it is something else; the message names the member or the byte.
    """
    if len(raw) > _MOST_BYTES:
        raise InputError(f"{what}: found {len(raw)} bytes, expected at most {_MOST_BYTES}")
    with reported_as(InputError, f"{what}: not UTF-8", UnicodeDecodeError):
        document = parse_json(raw.decode("utf-8"), what=what)
    if not isinstance(document, dict) or document.get("format") != form:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"{what}: found format {str(found)[:40]!r}, expected {form!r}")
    json_object(document, keys, what=what)
    canonical = _canonical_members(document, what) + b"\n"
    if canonical != raw:
        at = next((i for i, (a, b) in enumerate(zip(raw, canonical, strict=False)) if a != b), len(canonical))
        raise InputError(f"{what}: found another encoding from byte {at} on, expected RFC 8785 JSON and a line end")
    return document


def _canonical_members(value: Any, what: str, levels: int = 4) -> bytes:
    """``canonical_json``; the error names the member that JSON cannot carry, so many levels down."""
    try:
        return canonical_json(value)
    except InputError as error:
        members = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        for name, member in members if levels else ():
            _canonical_members(member, f"{what} {ascii(str(name))[1:-1][:40]}", levels - 1)
        raise InputError(f"{what}: {error}") from error


def json_value(value: Any) -> Any:
    """What JSON can carry in place of ``value``.

    An object with a ``to_json`` says it itself; another dataclass becomes the object of its fields,
    a byte string its hex digits.
    """
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value.hex() if isinstance(value, bytes) else value


def json_object(value: Any, keys: Collection[str] | None = None, *, what: str) -> dict[str, Any]:
    """``value``, if it is a JSON object, and one with exactly these ``keys`` if any are named.

    Raises:
        InputError: it is something else, or keys are missing or too many.
    """
    if not isinstance(value, dict) or (keys is not None and value.keys() != set(keys)):
        found = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{what}: found {found}, expected an object" + (f" with {sorted(keys)}" if keys else ""))
    return value


_DEEPEST = 500  # levels; no document of this project nests more than a dozen


@contextlib.contextmanager
def shallow_stack() -> Iterator[None]:
    """Within this block Python recurses at most ``_DEEPEST`` levels deeper.

    py-evm and py_ecc raise the limit of the whole process when they are imported. Under their limit
    a deeply nested document or template would overflow C's stack, which ends the process; under this one it
    ends in a ``RecursionError``.
    """
    limit, depth = sys.getrecursionlimit(), 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(min(limit, depth + _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
