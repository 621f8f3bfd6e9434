"""Query and response: what they say, and how they travel, sealed or in the open.

Both carry token ids and no text. The client tokenises what it asks and decodes what it gets, with
the tokenizer of the model that it ordered, so that no text stands beside the ids it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import canonical_json, json_object, json_value, parse_json, strict_hex, tagged_hash
from otr_core.errors import InputError

_BUCKET_BYTES = 256


@dataclass(frozen=True)
class Message:
    """A query or a response as it travels: sealed bytes, or plain where nobody asked for privacy.

    Attributes:
        role: "query" or "response".
        plain: the document, when it travels in the clear. sealed: HPKE output, when it does not.
            Exactly one is set.
    """

    role: str
    plain: Mapping[str, Any] | None = None
    sealed: bytes | None = None

    def __post_init__(self) -> None:
        if self.role not in ("query", "response"):
            raise InputError(f"message role: found {self.role!r}, expected 'query' or 'response'")
        if (self.plain is None) == (self.sealed is None):
            raise InputError(f"{self.role}: expected either a plain document or sealed bytes")

    @property
    def digest(self) -> bytes:
        """H("query", bytes) or H("response", bytes); sealed bytes have tags of their own."""
        if self.sealed is not None:
            return tagged_hash(f"sealed-{self.role}", self.sealed)
        return tagged_hash(self.role, canonical_json(self.plain))

    def to_json(self) -> dict[str, Any]:
        part = "plain" if self.sealed is None else "sealed"
        return {part: json_value(getattr(self, part))}

    @classmethod
    def from_json(cls, role: str, document: Any) -> Message:
        if isinstance(document, dict) and document.keys() == {"plain"} and isinstance(document["plain"], dict):
            return cls(role, plain=document["plain"])
        if isinstance(document, dict) and document.keys() == {"sealed"}:
            return cls(role, sealed=strict_hex(document["sealed"], what=f"sealed {role}"))
        raise InputError(f"{role}: expected an object with one key, 'plain' or 'sealed'")


@dataclass(frozen=True)
class Query:
    """What a query says.

    Attributes:
        prompt_ids: the prompt's token ids. prompt_seed: 32 bytes from which the salts of their
            leaves derive; both give the order's prompt root.
        reply_to: 32-byte X25519 key to seal the answer to; None in a query that is not sealed.
    """

    prompt_ids: tuple[int, ...]
    prompt_seed: bytes
    reply_to: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"prompt_ids": list(self.prompt_ids), "prompt_seed": self.prompt_seed.hex()}
        return document if self.reply_to is None else {**document, "reply_to": self.reply_to.hex()}

    @classmethod
    def from_json(cls, document: Any, *, sealed: bool) -> Query:
        """Read ``to_json``'s object; only a sealed query says where to reply to.

        Raises:
            InputError: it is something else.
        """
        names = ("prompt_ids", "prompt_seed", "reply_to") if sealed else ("prompt_ids", "prompt_seed")
        found = json_object(document, names, what="query")
        keys = [strict_hex(found[name], length=32, what=f"query {name}") for name in names[1:]]
        return cls(token_ids(found["prompt_ids"], what="query prompt_ids"), *keys)


@dataclass(frozen=True)
class Response:
    """What a response says.

    Attributes:
        token_ids: the chosen tokens, a stop token included. trace_seed: 32 bytes from which the
            salts of the trace derive: with it the client can rebuild every leaf, and so find and
            dispute a wrong one.
    """

    token_ids: tuple[int, ...]
    trace_seed: bytes

    def to_json(self) -> dict[str, Any]:
        return {"token_ids": list(self.token_ids), "trace_seed": self.trace_seed.hex()}

    @classmethod
    def from_json(cls, document: Any) -> Response:
        """Read ``to_json``'s object.

        Raises:
            InputError: it is something else.
        """
        found = json_object(document, ("token_ids", "trace_seed"), what="response")
        seed = strict_hex(found["trace_seed"], length=32, what="response trace_seed")
        return cls(token_ids(found["token_ids"], what="response token_ids"), seed)


def token_ids(value: Any, *, what: str) -> tuple[int, ...]:
    """A list of token ids out of JSON: at least one, each an integer below 2^32.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list) or not value:
        raise InputError(f"{what}: found {type(value).__name__}, expected a list of at least one token id")
    for at, token in enumerate(value):
        if type(token) is not int or not 0 <= token < 2**32:
            raise InputError(f"{what}: found {token!r} at {at}, expected integers, 0 to 2^32 - 1")
    return tuple(value)


def pad(document: Query | Response, ids: Sequence[int]) -> bytes:
    """The bytes that are sealed: length (4 bytes), canonical JSON, zeros up to the bucket.

    The bucket depends on the number of tokens alone, which the receipt tells anyway: how long the
    ids are written tells an onlooker nothing. Ten digits and a comma a token, and a bucket for the
    rest, are never too little.
    """
    text = canonical_json(document.to_json())
    size = _BUCKET_BYTES * (1 + -(-11 * len(ids) // _BUCKET_BYTES))
    return (len(text).to_bytes(4, "big") + text).ljust(size, b"\0")


def unpad(padded: bytes, *, what: str) -> Any:
    """The JSON value that ``pad`` was given.

    Raises:
        InputError: not such bytes.
    """
    length = int.from_bytes(padded[:4], "big")
    text, zeros = padded[4 : 4 + length], padded[4 + length :]
    if len(text) != length or zeros.strip(b"\0"):
        raise InputError(f"{what}: found {len(padded)} bytes, expected a length, so many bytes of JSON, and zeros")
    return parse_json(text, what=what)
