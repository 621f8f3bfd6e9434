"""Intake: from the files that people have to the evidence of nodes. Nothing goes by a file's name.

A provider's whole response, a vendor's export, a folder of files: what each piece is, its own bytes
say (magic numbers and structure), through JSON of whatever nesting, JSON inside JSON, hex, base64,
percent-encoding and gzip. Which pieces belong together, the nesting says:

    device  a report and the certificates in the smallest object around it that has some
    node    all that stands in the largest object around one quote, and is not part of another
            quote's; what belongs to no quote (collateral, manifests, revocation) serves all nodes

A broken quote or report is an error that names its file and place: left out in silence, it could
turn *rejected* into *accepted*. Broken or foreign side pieces are listed as ignored, with the
reason, and the checks they would serve stay unmade. A nonce in a file is its author's word: it is
compared with the signed one, but never taken for the nonce that the verifier expects.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation.bundle import Bundle, DeviceFiles, NamedBytes, load_bundle
from otr_core.attestation.chain import VerifiedCache, common_name
from otr_core.attestation.eventlog import EventLog
from otr_core.attestation.quote import Quote, parse_collateral
from otr_core.attestation.snp import SnpReport
from otr_core.errors import EvidenceError
from otr_node.evidence.pieces import Found, PieceReader, Recognised, Use, merged

MAX_NODES = 64
MAX_TOKENS = 512  # one for each device of a node, and one of the whole
_OF_ONE_GUEST = ("event log", "compose", "configuration")
_TRIES = 64  # nonces, and keys, tried as what report_data commits to


@dataclass(frozen=True)
class Node:
    """One machine's evidence. ``name`` says where its quote or first report stands."""

    name: str
    bundle: Bundle
    files: Mapping[str, Any]


@dataclass(frozen=True)
class Intake:
    """What files hold.

    Attributes:
        nodes: at least one.
        tokens: texts of tokens (JWT) of third parties; keys: their published keys (JWK).
        taken, ignored: what was taken from where, and what was recognised and left aside.
    """

    nodes: tuple[Node, ...]
    tokens: tuple[str, ...]
    keys: tuple[Mapping[str, Any], ...]
    taken: tuple[Use, ...]
    ignored: tuple[Use, ...]


def read_evidence(
    files: Iterable[tuple[str, bytes]], *, beside: Mapping[str, Any] | None = None, cache: VerifiedCache | None = None
) -> Intake:
    """The nodes whose evidence is in ``files``, given as (name, bytes).

    Args:
        beside: further arguments of ``load_bundle``, for all nodes: lists are added to what the
            files hold, other parts take its place.
        cache: as for ``load_bundle``.

    Raises:
        EvidenceError: nothing in the files is evidence, or a quote or a report in them cannot be
            read. The message names the file.
    """
    known, ignored = cache or VerifiedCache(), list[Use]()
    reader = PieceReader(ignored)
    trees = [reader.file(name, data) for name, data in files]
    whole = merged(trees, direct=len({one for tree in trees for one in tree.quotes}) <= 1)
    nodes = whole.nodes or []
    if whole.quotes or not nodes:
        nodes = [whole, *nodes]
    else:
        seen = {one[0].data for node in nodes for one in node.devices}
        whole.devices = [one for one in whole.devices if one[0].data not in seen]
        if whole.devices or whole.of("gpu"):
            nodes = [*nodes, Found(whole.pieces, whole.devices, whole.nonces)]
    if len(nodes) > MAX_NODES:
        raise EvidenceError(f"{reader.name}: found {len(nodes)} quotes, expected at most {MAX_NODES}")
    taken = list[Use]()
    made = tuple(_node(tree, whole, beside or {}, known, taken, ignored, reader) for tree in nodes)
    everything = [one for tree in (whole, *nodes[nodes[0] is whole :]) for one in tree.pieces]
    relayed = [one for one in everything if one.kind in ("token", "keys")]
    taken += [Use(f"{one.kind} of a third party", one.file, one.place, "relayed") for one in relayed]
    used = {(row.file, row.place) for row in taken}
    left = [one for one in everything if (one.file, one.place) not in used]
    ignored += [Use(one.kind, one.file, one.place, "said elsewhere too, or of use to no node") for one in left]
    tokens = dict.fromkeys(one.data.decode() for one in relayed if one.kind == "token")
    if len(tokens) > MAX_TOKENS:
        raise EvidenceError(f"{reader.name}: found {len(tokens)} tokens, expected at most {MAX_TOKENS}")
    keys = tuple(key for one in relayed if one.kind == "keys" for key in one.parsed)
    return Intake(made, tuple(tokens), keys, tuple(taken), tuple(ignored))


def _node(
    tree: Found,
    shared: Found,
    beside: Mapping[str, Any],
    cache: VerifiedCache,
    taken: list[Use],
    ignored: list[Use],
    reader: PieceReader,
) -> Node:
    """The node of one tree, with what serves all nodes."""
    quote = next(iter(tree.of("quote")), None)
    first = quote or next((one[0] for one in tree.devices), None) or next(iter(tree.of("gpu")), None)
    if first is None:
        seen = dict.fromkeys([one.file for one in tree.pieces] + [row.file for row in ignored] + [reader.name])
        looks = "; ".join(f"{row.file}: found {row.what}, {row.use}" for row in ignored[:2])
        kinds = ", ".join(dict.fromkeys(one.kind for one in tree.pieces))
        there = f"{next(iter(seen))}: found {f'{kinds} alone' if kinds else 'nothing'}"
        raise EvidenceError(f"{there if kinds or not looks else looks}; expected a quote or a report")
    name = first.where

    def take(what: str, pieces: Iterable[Recognised]) -> list[NamedBytes]:
        kept = list({one.data: one for one in pieces}.values())
        taken.extend(Use(what, one.file, one.place, name) for one in kept)
        return [NamedBytes(one.data, one.where) for one in kept]

    both = [tree] if tree is shared else [tree, shared]

    def of(kind: str) -> list[Recognised]:
        return [one for part in (both if kind not in _OF_ONE_GUEST else both[:1]) for one in part.of(kind)]

    devices = {report.data: (report, pem, nonce) for report, pem, nonce in reversed(tree.devices)}
    devices |= {one.data: (one, None, None) for one in reversed(tree.of("gpu"))}
    files: dict[str, Any] = {
        "gpu": [
            DeviceFiles(take("report", [report])[0], pem and NamedBytes(pem, report.where), nonce)
            for report, pem, nonce in reversed(devices.values())
        ],
        "rims": take("reference manifest", of("reference manifest")),
        "ocsp": take("OCSP response", of("OCSP response")),
    }
    if quote is not None:
        files["quote"] = take("quote", [quote])[0]
        files |= _beside_quote(quote.parsed, of, take)
        files["preimage"] = _preimage(quote.parsed, both)
        _derived_nonces(files)
    for key, value in beside.items():
        if value:
            files[key] = [*files.get(key, ()), *value] if isinstance(value, list) else value
    try:
        return Node(name, load_bundle(**files, cache=cache), files)
    except EvidenceError as error:
        raise EvidenceError(f"{error}" if str(error).startswith(first.file) else f"{name}: {error}") from error


def _beside_quote(
    quote: Quote | SnpReport,
    of: Callable[[str], list[Recognised]],
    take: Callable[[str, Iterable[Recognised]], list[NamedBytes]],
) -> dict[str, bytes]:
    """Event log, compose file and collateral for one quote; of several, those that the quote names."""
    files: dict[str, bytes] = {}
    files.update(zip(["config"], take("configuration document", of("configuration")[:1]), strict=False))
    if isinstance(quote, SnpReport):
        files.update(zip(["compose"], take("compose file", of("compose")[:1]), strict=False))
        certificates = take("AMD certificates", of("AMD certificates"))
        return files | ({"collateral": b"\n".join(certificates)} if certificates else {})
    registers = [quote.registers.get(f"rt_mr{number}") for number in range(4)]

    def replayed(log: EventLog) -> int:
        return sum(log.replay(number) == register for number, register in enumerate(registers))

    logs = sorted(of("event log"), key=lambda one: replayed(one.parsed), reverse=True)[:1]
    files.update(zip(["event_log"], take("event log", logs), strict=False))
    payloads = {one for log in logs for one in log.parsed.payloads("compose-hash")}
    named = payloads | {quote.registers.get("mr_config_id", b"")[1:33]}
    composed = sorted(of("compose"), key=lambda one: hashlib.sha256(one.data).digest() in named, reverse=True)[:1]
    files.update(zip(["compose"], take("compose file", composed), strict=False))
    whole = sorted(of("collateral"), key=lambda one: one.parsed.fmspc == quote.fmspc, reverse=True)[:1]
    files.update(zip(["collateral"], take("collateral", whole), strict=False))
    if not whole and (found := _collateral(quote, of)):
        used, files["collateral"] = found
        take("collateral", used)
    return files


def _collateral(quote: Quote, of: Callable[[str], list[Recognised]]) -> tuple[list[Recognised], bytes] | None:
    """Collateral put together from Intel's single answers, each for this quote's platform family."""
    family = "TDX" if quote.kind == "TDX" else "SGX"
    parts: dict[str, str] = {}
    used: list[Recognised] = []

    def latest(kind: str, fits: Callable[[Any], bool]) -> None:
        fitting = [one for one in of(kind) if fits(one.parsed[0])]
        if fitting:
            best = max(fitting, key=lambda one: str(one.parsed[0].get("issueDate")))
            parts.update(best.parsed[1])
            used.append(best)

    latest("tcb_info", lambda one: str(one.get("fmspc")).lower() == quote.fmspc and one.get("id", "SGX") == family)
    latest("qe_identity", lambda one: one.get("id") == ("TD_QE" if family == "TDX" else "QE"))
    issuer = common_name(quote.chain[0].issuer) if quote.chain else ""
    for crl in sorted(of("crl"), key=lambda one: one.parsed.last_update_utc):
        if common_name(crl.parsed.issuer) in (issuer, "Intel SGX Root CA"):
            name = "pck_crl" if common_name(crl.parsed.issuer) == issuer else "root_ca_crl"
            parts[name] = crl.data.hex()
            used.append(crl)
    for chain in of("certificates"):
        leaf = common_name(chain.parsed[0].subject)
        names = {
            "Intel SGX TCB Signing": ("tcb_info_issuer_chain", "qe_identity_issuer_chain"),
            issuer: ("pck_crl_issuer_chain",),
        }
        if leaf in names:
            pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain.parsed)
            parts |= dict.fromkeys(names[leaf], pem)
            used.append(chain)
    data = json.dumps(parts).encode()
    try:
        parse_collateral(data)
    except EvidenceError:  # not all parts are here
        return None
    return used, data


def _preimage(quote: Quote | SnpReport, trees: Sequence[Found]) -> bytes | None:
    """What the first half of report_data is the SHA-256 of, if that stands in the files.

    Found in the field: nonce as hex digits, then the end-to-end key as text (Chutes); the digests
    of an object that lists them, in its order (Tinfoil).
    """
    nonces = list(dict.fromkeys(one for tree in trees for one in tree.nonces))[:_TRIES]
    words = list(dict.fromkeys(one for tree in trees for one in tree.words))[:_TRIES]
    listed = [one for tree in trees for one in tree.preimages][:_TRIES]
    tried = itertools.chain(listed, ((a.hex() + b).encode() for a in nonces for b in words))
    half = quote.registers["report_data"][:32]
    return next((one for one in tried if hashlib.sha256(one).digest() == half), None)


def _derived_nonces(files: dict[str, Any]) -> None:
    """Where a GPU was asked to sign the digest of nonce and key, that is what the stated nonce means."""
    preimage = files["preimage"]
    if preimage is not None:
        derived = hashlib.sha256(preimage).digest()
        files["gpu"] = [
            one._replace(nonce=derived)
            if one.nonce and one.report[4:36] == derived and preimage.startswith(one.nonce.hex().encode())
            else one
            for one in files["gpu"]
        ]
