"""The order: what a client asks for, under one id to which answer, draws, receipt and court refer.

An order is typed data (EIP-712) under the domain of one court on one chain; its id is the hash that
a wallet would sign. Everything that decides an answer stands in it: the model, the prompt (as a
Merkle root over salted token ids: the client tokenises), and the decoding.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from Crypto.Hash import keccak

from otr_core.encoding import json_object, json_value, strict_hex, tagged_json_hash
from otr_core.errors import InputError, OtrError
from otr_core.lane.sampling import Decoding

NAME, VERSION = "Optimistic TEE-Rollup", "2"
"""Of the EIP-712 domain."""

Members = Sequence[tuple[str, str, str]]
"""Of an EIP-712 struct, in order: name, type, and the attribute that fills it."""


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256: the padding differs)."""
    return keccak.new(digest_bits=256, data=data).digest()


@dataclass(frozen=True)
class Document:
    """A dataclass that travels as a JSON object of its fields, byte strings as lower-case hex.

    Byte strings have 32 bytes and integers are below 2^32, unless a subclass says otherwise.
    """

    what: ClassVar[str]
    """What messages call such a document."""
    lengths: ClassVar[Mapping[str, int]] = {}
    """Bytes of the byte strings that have another length."""
    ceilings: ClassVar[Mapping[str, int]] = {}
    """What integers with another range stay below."""

    def __post_init__(self) -> None:
        for own in fields(self):
            content, name = getattr(self, own.name), f"{self.what} {own.name}"
            if own.type == "bytes":
                length = self.lengths.get(own.name, 32)
                if not isinstance(content, bytes) or len(content) != length:
                    found = f"{len(content)} bytes" if isinstance(content, bytes) else type(content).__name__
                    raise InputError(f"{name}: found {found}, expected {length} bytes")
            elif own.type == "int":
                ceiling = self.ceilings.get(own.name, 2**32)
                if type(content) is not int or not 0 <= content < ceiling:
                    raise InputError(f"{name}: found {content!r}, expected an integer, 0 to {ceiling - 1}")
            elif own.type == "str" and not isinstance(content, str):
                raise InputError(f"{name}: found {type(content).__name__}, expected a text")

    def to_json(self) -> dict[str, Any]:
        return {own.name: json_value(getattr(self, own.name)) for own in fields(self)}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read ``to_json``'s object.

        Raises:
            InputError: fields are missing or extra, or one of them is not what it should be.
        """
        kinds = {own.name: str(own.type) for own in fields(cls)}
        values: dict[str, Any] = {}
        for name, content in json_object(document, kinds, what=cls.what).items():
            what = f"{cls.what} {name}"
            if kinds[name] == "bytes":
                values[name] = strict_hex(content, length=cls.lengths.get(name, 32), what=what)
            elif kinds[name] == "Domain":
                values[name] = Domain.from_json(content)
            elif kinds[name] == "Decoding":
                members = json_object(content, [own.name for own in fields(Decoding)], what=what)
                try:
                    values[name] = Decoding(**members)
                except OtrError as error:
                    raise InputError(f"{what}: {error}") from error
            else:
                values[name] = content
        return cls(**values)


@dataclass(frozen=True)
class Domain(Document):
    """Where orders and receipts are worth something: one court on one chain.

    Attributes:
        chain_id: as EIP-155 numbers chains; 0 where there is no chain.
        court: 20-byte address of its contract; zeros where there is no court, so that receipts can
            be checked and never be disputed on chain.
    """

    what = "domain"
    lengths: ClassVar[Mapping[str, int]] = {"court": 20}
    ceilings: ClassVar[Mapping[str, int]] = {"chain_id": 2**53}
    chain_id: int = 0
    court: bytes = bytes(20)

    @functools.cached_property
    def separator(self) -> bytes:
        """EIP-712 domain separator, 32 bytes."""
        kind = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        names = keccak256(NAME.encode()) + keccak256(VERSION.encode())
        return keccak256(kind + names + word(self.chain_id) + word(self.court))

    def hash(self, struct: bytes) -> bytes:
        """keccak256(0x1901 ‖ separator ‖ struct hash): what is signed under this domain."""
        return keccak256(b"\x19\x01" + self.separator + struct)


@dataclass(frozen=True)
class Order(Document):
    """What a client orders. The client keeps it; every check of an answer is made against it.

    Attributes:
        domain: court and chain. job_id, nonce: never used before.
        model_id: ``ModelManifest.model_id``. prompt_root: ``trace.prompt_root`` of the prompt, over
            ``prompt_tokens`` leaves: with both, a court can say which leaf of an answer's tree is the
            prompt's, and compare it.
        query_digest: ``Message.digest`` of the query, which carries the prompt.
        decoding: most tokens of the answer, temperature and seed.
    """

    what = "order"
    members: ClassVar[Members] = (
        ("jobId", "bytes32", "job_id"),
        ("nonce", "bytes32", "nonce"),
        ("modelId", "bytes32", "model_id"),
        ("promptRoot", "bytes32", "prompt_root"),
        ("promptTokens", "uint32", "prompt_tokens"),
        ("queryDigest", "bytes32", "query_digest"),
        ("maxTokens", "uint32", "decoding.max_tokens"),
        ("seed", "uint64", "decoding.seed"),
        ("temperatureMilli", "uint32", "decoding.temperature_milli"),
    )
    domain: Domain
    job_id: bytes
    nonce: bytes
    model_id: bytes
    prompt_root: bytes
    prompt_tokens: int
    query_digest: bytes
    decoding: Decoding

    @functools.cached_property
    def id(self) -> bytes:
        """EIP-712 hash of the order under its domain, 32 bytes."""
        return self.domain.hash(struct_hash("Order", self))

    @property
    def sealed_part(self) -> bytes:
        """32-byte hash of all but the query's digest: what a sealed query is bound to."""
        return tagged_json_hash("order", {name: v for name, v in self.to_json().items() if name != "query_digest"})


def typed_words(value: Any) -> list[bytes]:
    """The 32-byte words of a struct's ``members``, in order."""
    return [word(operator.attrgetter(path)(value)) for _, _, path in value.members]


def struct_hash(name: str, value: Any) -> bytes:
    """EIP-712 hash of ``value``, a struct ``name`` of its ``members``."""
    return keccak256(type_hash(name, value.members) + b"".join(typed_words(value)))


@functools.cache
def type_hash(name: str, members: Members) -> bytes:
    """EIP-712 hash of a struct's type (32 bytes); a contract can hold it."""
    return keccak256(f"{name}({','.join(f'{kind} {member}' for member, kind, _ in members)})".encode())


def word(value: bytes | int | str) -> bytes:
    """A value as one 32-byte word: an address padded, a text by its hash."""
    if isinstance(value, str):
        return keccak256(value.encode())
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")
