"""Computation Receipts of others (CR 0.1, 0.1.1, 0.1.2): read, and computed again.

Source: anomly-labs' computation-receipts, ``spec/CR-v0.1.md``, whose sections are named as "CR". A
receipt is the unsigned hash of a manifest: digests of model, input and output, and the arithmetic.
A verifier computes all of it again, or a sample of the output's rows, or each chunk of a chain.
Checks are those of ``otr_paper.formats.aci``; each refusal has one of the format's verdicts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from otr_paper.formats.aci import FLAG, LIST, OBJECT, SHA256, TEXT, WHOLE, foreign_object, hold, hold_same, members

#: Largest sample drawn: how long drawing takes is chosen by who wrote the receipt.
MOST_SAMPLED = 2**16

#: Verdict on a Computation Receipt by the check that failed; by all others it is MALFORMED.
VERDICTS = {name: "UNVERIFIABLE" for name in ("size", "profile-known", "order-independent")}
VERDICTS |= {"recomputation": "REJECT", "chain": "REJECT"}

_DIGESTS = {"sha256": SHA256, "sha512": "sha512:[0-9a-f]{128}"}

# Registered arithmetic (CR 7): accumulation, whether order-independent, parameters.
_BPOSIT = {"n": 16, "es": 3, "quire_bits": 256, "frac_bits": 96}
_PROFILES: dict[str, list[Any]] = {
    "bposit16-quire256": ["exact", True, _BPOSIT],
    **{f"bposit16-quire256-b{r}": ["exact", True, {**_BPOSIT, "regime_bound": r}] for r in (48, 112)},
    **{f"float{bits}": ["rounded", False, {"bits": bits}] for bits in (32, 64)},
}
_SECTIONS = {"0.1": None, "0.1.1": "sample", "0.1.2": "chunk"}


def computation_canonical(value: Any) -> bytes:
    """Canonical bytes of CR 2: unlike RFC 8785, keys by code point and integers of any size."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def computation_digest(data: bytes, alg: str = "sha256") -> str:
    """``<alg>:<hex>`` (CR 3), for sha256 or sha512."""
    hold("field", alg in _DIGESTS, f"digest_alg {alg}", " or ".join(_DIGESTS))
    return f"{alg}:{hashlib.new(alg, data).hexdigest()}"


def tensor_digest(array: np.ndarray[Any, Any], alg: str = "sha256") -> str:
    """Digest of a numeric array (CR 3.1): canonical type and shape, then its little-endian bytes in
    C order."""
    array = np.ascontiguousarray(array)
    hold("field", array.dtype.kind in "biufc", f"array of {array.dtype}", "numbers")
    little = array.astype(array.dtype.newbyteorder("<"))
    header = {"dtype": little.dtype.str.lstrip("<>|="), "shape": list(array.shape)}
    return computation_digest(computation_canonical(header) + little.tobytes(), alg)


def tensors_digest(named: Mapping[str, np.ndarray[Any, Any]], alg: str = "sha256") -> str:
    """Digest of named arrays, in the order of their names (CR 3.2)."""
    entries = ({"name": name, "digest": tensor_digest(named[name], alg)} for name in sorted(named))
    return computation_digest(b"".join(map(computation_canonical, entries)), alg)


def chain_digest(certificates: Iterable[str], alg: str = "sha256") -> str:
    """Digest over the chunks' certificates in order, the closing one's left out (CR 12)."""
    return computation_digest(b"".join(computation_canonical({"certificate": one}) for one in certificates), alg)


def sample_indices(manifest: Mapping[str, Any]) -> list[int]:
    """Rows of the output to compute for a sampled receipt, ascending (CR 10); ``manifest`` is one
    that ``read_computation_receipt`` returned."""
    sample, base = manifest["sample"], {name: part for name, part in manifest.items() if name != "sample"}
    seed = hashlib.sha256(computation_canonical(base) + bytes.fromhex(sample["challenge"])).digest()
    units, counter, found = sample["n_units"], 0, set[int]()
    while len(found) < sample["size"]:
        drawn = int.from_bytes(hashlib.sha256(seed + counter.to_bytes(8, "big")).digest()[:8], "big")
        found |= {drawn % units} if drawn < 2**64 // units * units else set()
        counter += 1
    return sorted(found)


def read_computation_receipt(raw: bytes) -> tuple[dict[str, Any], str]:
    """Manifest and certificate of a well-formed receipt (CR 4, 5, 6.1, 10, 12).

    Raises:
        ReceiptError: the first check that fails.
    """
    document = foreign_object(raw, "receipt", integers=True)
    m, certificate, _ = members({"meta": {}, **document}, "receipt", manifest=OBJECT, certificate=TEXT, meta=OBJECT)
    version, alg = members(m, "manifest", cr=TEXT, digest_alg="|".join(_DIGESTS))
    hold("version", version in _SECTIONS, f"manifest.cr {version}", " or ".join(_SECTIONS))
    of, own = _DIGESTS[alg], _SECTIONS[version]
    for name in ("sample", "chunk"):
        hold("sections", (name in m) == (name == own), f"{name} in or not in a {version}", f"{own or 'neither'} alone")
    parts = members(m, "manifest", **dict.fromkeys(("model", "input", "output", "computation", "arithmetic"), OBJECT))
    for name, part in zip(("model", "input"), parts, strict=False):
        members(part, f"manifest.{name}", digest=of, n_tensors=WHOLE)
    _, shape = members(parts[2], "manifest.output", digest=of, shape=LIST)
    hold("field", shape and all(type(n) is int and n >= 0 for n in shape), f"manifest.output.shape {shape}", "sizes")
    members(parts[3], "manifest.computation", id=TEXT, version=TEXT)
    kinds: dict[str, Any] = {"profile": TEXT, "accumulation": TEXT, "order_independent": FLAG, "params": OBJECT}
    profile, *declared = members(parts[4], "manifest.arithmetic", **kinds)
    if profile in _PROFILES:
        hold_same(
            "profile", f"manifest.arithmetic {profile}", *map(computation_canonical, (declared, _PROFILES[profile]))
        )
    if own == "sample":
        kinds = {"rule": TEXT, "n_units": WHOLE, "size": WHOLE, "challenge": "([0-9a-f]{2})*", "digest": of}
        rule, units, size, *_ = members(m["sample"], "manifest.sample", **kinds)
        hold_same("sample", "manifest.sample.rule", rule, "sha256-ctr-reject-v1")
        hold_same("sample", "manifest.sample.n_units", units, shape[0])
        hold("sample", 1 <= size <= units, f"manifest.sample.size {size}", f"1 to {units}")
        hold("size", size <= MOST_SAMPLED and units <= 2**64, f"a sample of {size}", f"{MOST_SAMPLED} of 2^64")
    if own == "chunk":
        chunk, where = m["chunk"], "manifest.chunk"
        kinds = {"index": WHOLE, "prev_certificate": f"|{of}", "closing": FLAG}
        at, before, closing = members(chunk, where, **kinds)
        hold("chunk", at >= 0 and (at > 0) == (before != ""), f"{where}.index {at} after {before!r}", "0 after none")
        if closing:
            hold_same("chunk", f"{where}.n_chunks", members(chunk, where, n_chunks=WHOLE, chain_digest=of)[0], at)
    hold_same("certificate", "receipt.certificate", certificate, computation_digest(computation_canonical(m), alg))
    return m, certificate


def check_computation_receipt(raw: bytes, own: Mapping[str, Any], rows: np.ndarray[Any, Any] | None = None) -> None:
    """Return if the verifier's own computation gives this receipt again (CR 6): the verdict ACCEPT.

    Rows that were not sampled are then judged by nobody.

    Args:
        own: manifest of the verifier's own computation; of a sampled receipt without the output.
        rows: of a sampled receipt, the rows ``sample_indices`` of the verifier's own output.

    Raises:
        ReceiptError: the first check that fails; its verdict is
            ``VERDICTS.get(error.check, "MALFORMED")``.
    """
    m, certificate = read_computation_receipt(raw)
    arithmetic, alg, sampled = m["arithmetic"], m["digest_alg"], "sample" in m
    hold("profile-known", arithmetic["profile"] in _PROFILES, arithmetic["profile"], " or ".join(_PROFILES))
    hold_same("order-independent", "manifest.arithmetic.order_independent", arithmetic["order_independent"], True)
    for name in ("model", "input", "computation", "arithmetic", *([] if sampled else ["output"])):
        hold_same("recomputation", f"manifest.{name}", m[name], own.get(name))
    if sampled:
        found = "no rows" if rows is None else tensor_digest(rows, alg)
        hold_same("recomputation", "manifest.sample.digest", m["sample"]["digest"], found)
    else:
        hold_same(
            "recomputation", "receipt.certificate", certificate, computation_digest(computation_canonical(own), alg)
        )


def check_computation_chain(raws: Sequence[bytes], own: Sequence[Mapping[str, Any]]) -> None:
    """Return if a closed chain's every chunk is given again by the verifier's own (CR 12).

    Args:
        raws: the chunks in order, then the closing receipt, whose output nobody computes here.
        own: the verifier's manifest of each chunk.

    Raises:
        ReceiptError: the first check that fails; its verdict as of ``check_computation_receipt``.
    """
    read = [read_computation_receipt(raw) for raw in raws]
    chunks, certificates = [m.get("chunk", {}) for m, _ in read], [certificate for _, certificate in read]
    closed = len(raws) > 1 and [c.get("closing") for c in chunks] == [False] * (len(raws) - 1) + [True]
    hold("chain", closed, f"{len(raws)} receipts, not the last alone closing", "chunks and a closing receipt")
    for at, (chunk, before) in enumerate(zip(chunks, ("", *certificates), strict=False)):
        hold_same("chain", "index and predecessor", (chunk["index"], chunk["prev_certificate"]), (at, before))
    expected = chain_digest(certificates[:-1], read[-1][0]["digest_alg"])
    hold_same("chain", "manifest.chunk.chain_digest", chunks[-1]["chain_digest"], expected)
    hold_same("chain", "own chunks", len(own), len(raws) - 1)
    for raw, mine in zip(raws, own, strict=False):
        check_computation_receipt(raw, mine)
