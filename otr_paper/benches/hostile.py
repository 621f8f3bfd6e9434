"""Files of 8 MB that are made to take long to read, and how long each takes.

Each repeats what costs the reader most by the byte: nesting, members, pieces of evidence, encodings
inside encodings, and what has to be parsed to be told apart.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from collections.abc import Iterator, Mapping

from otr_core.attestation.bundle import MAX_FILE_BYTES
from otr_core.errors import EvidenceError
from otr_node.evidence.intake import read_evidence
from otr_paper.producers.frame import timed

_SIZE = MAX_FILE_BYTES - 64


def hostile_files(raw: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Names and files, none above the limit; ``raw`` has a GPU's report and chain, and a quote."""

    def many(one: str) -> bytes:
        item = json.dumps(one)
        return f"[{','.join([item] * (_SIZE // (len(item) + 1)))}]".encode()[:MAX_FILE_BYTES]

    def members(word: str) -> bytes:
        return b"{" + ",".join(f'"{word}{n}":"{n:064x}"' for n in range(_SIZE // 84)).encode() + b"}"

    text, quote = (base64.b64encode(raw[name]).decode() for name in ("report", "quote"))
    answer = json.dumps({"intel_quote": raw["quote"].hex(), "gpus": [{"e": text, "c": raw["chain"].decode()}] * 8})
    inside = answer
    for _ in range(3):
        inside = json.dumps({"a": inside})
    yield "lists", b"[" + b"[]," * (_SIZE // 3) + b"[]]"
    yield "deep", b'{"a":' * (_SIZE // 5)
    yield "numbers", f"[{','.join('7' * (_SIZE // 2))}]".encode()
    yield "strings", b'["",' + b'"",' * (_SIZE // 3 - 4) + b'""]'
    yield "duplicates", b"{" + b'"a":1,' * (_SIZE // 6) + b'"b":1}'
    yield "digits", b"1" * _SIZE
    yield "hex", b"11e0" * (_SIZE // 4)
    yield "base64", b"EeAB" * (_SIZE // 4)
    yield "quotes", many(quote)
    yield "reports", many(text)
    yield "chains", many(raw["chain"].decode())
    yield "bombs", many(base64.b64encode(gzip.compress(bytes(MAX_FILE_BYTES), 9)).decode())
    yield "escapes", b'["' + b"\\u0041" * (_SIZE // 6 - 4) + b'"]'
    yield "responses", many(answer)
    yield "inside", many(inside)
    yield "nonces", members("nonce")
    yield "keys", members("key")
    yield "percent", b"-----BEGIN%20CERTIFICATE-----" + b"%0A" * (_SIZE // 3 - 20)
    yield "xml", b"<SoftwareIdentity>" + b"<a>" * (_SIZE // 3 - 20)


def reading_s(name: str, data: bytes) -> float:
    """CPU seconds of reading one file, to its evidence or to the refusal."""

    def read() -> None:
        with contextlib.suppress(EvidenceError):
            read_evidence([(name, data)])

    return timed(read)[1]
