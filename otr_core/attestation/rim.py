"""NVIDIA reference integrity manifests (RIM): signed SWID tags with one version's golden values.

Golden values are taken only from what the XML signature covers. The signature and the validity of
the signer's certificates are two checks, because the outcome of the first does not depend on time
and may be remembered, while that of the second does.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from otr_core.attestation import chain as chains
from otr_core.attestation.chain import Chain, VerifiedCache
from otr_core.attestation.report import Report
from otr_core.errors import EvidenceError, one_line, reported_as

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
CHAIN_LENGTH = 4  # L4 signer, L3, reference-value CA of the architecture, root
_HASH_NAME = f"{{{HASH}}}Hash"
_HASH_NAMES = tuple(f"{_HASH_NAME}{number}" for number in range(64))
MAX_RIM_BYTES = 1024 * 1024  # those published have about 20 kB
MAX_ATTRIBUTE = 200  # characters of a text that is shown, such as the version
#: The measurement of the first video decoder. NVIDIA's verifiers pass over it where the report says
#: that the decoder is disabled (nvtrust, attestation-sdk).
NVDEC0_INDEX, NVDEC_DISABLED = 35, b"\x55"
_NUMBER = re.compile("[0-9]{1,6}")
_NUMBERS = re.compile("([0-9]{1,6}) ([0-9]{1,6}) ([0-9]{1,6})")
_NUMBERED = ("index", "alternatives", "size")
_VBIOS_VERSION = re.compile(r"[0-9A-Fa-f]{2}(\.[0-9A-Fa-f]{2}){4}")


class GoldenValue(NamedTuple):
    """Reference value of one measurement.

    Attributes:
        index: 0-based; it belongs to SPDM block ``index + 1``.
        active: inactive entries say nothing about the runtime value.
        alternatives: allowed values.
        name: NVIDIA's name of the entry.
    """

    index: int  # type: ignore[assignment]  # nobody asks a value for the place of another in it
    active: bool
    alternatives: tuple[bytes, ...]
    name: str


@dataclass(frozen=True)
class Rim:
    """A parsed manifest.

    Attributes:
        golden: what the file says; ``signed_golden`` gives what the signature covers.
        payload: SHA-256 of the part it was read from, in canonical form.
        chain: the signer's certificates, as found in the signature.
    """

    raw: bytes
    tag_id: str
    product: str
    version: str
    edition: str
    chain: Chain
    golden: tuple[GoldenValue, ...]
    payload: bytes = b""

    @property
    def kind(self) -> str:
        """``vbios`` or ``driver``: NVIDIA's manifests differ only in the form of the version."""
        return "vbios" if _VBIOS_VERSION.fullmatch(self.version) else "driver"

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @functools.cached_property
    def _chain_sha256(self) -> bytes:
        return hashlib.sha256(chains.der(self.chain)).digest()

    def signature_problem(self, cache: VerifiedCache) -> str | None:
        """None, or why the XML signature of the first certificate does not cover the manifest."""
        return self._verified(cache)[0]

    def signed_golden(self, cache: VerifiedCache) -> tuple[GoldenValue, ...]:
        """Golden values inside the signed part; empty if the signature does not verify."""
        return self._verified(cache)[1]

    def chain_problem(self, root_sha256: str, cache: VerifiedCache) -> str | None:
        """None, or why the signer chain does not lead to the pinned root, at whatever time."""
        return cache.once(
            ("rim chain", self._chain_sha256, root_sha256),
            lambda: (
                chains.length_problem(self.chain, CHAIN_LENGTH)
                or chains.root_problem(self.chain, root_sha256)
                or chains.usage_problem(self.chain)
                or chains.link_problem(self.chain, cache)
            ),
        )

    def _verified(self, cache: VerifiedCache) -> tuple[str | None, tuple[GoldenValue, ...]]:
        return cache.once(("rim", self.sha256), lambda: _verify(self))


def parse_rim(data: bytes, cache: VerifiedCache | None = None) -> Rim:
    """Parse a manifest (XML).

    Args:
        cache: remembers certificates by content, which many manifests share; it never changes the
            outcome.

    Raises:
        EvidenceError: not XML, with a document type, not a SWID tag, or with missing or malformed
            parts.
    """
    if len(data) > MAX_RIM_BYTES:
        raise EvidenceError(f"RIM: found {len(data)} bytes, expected at most {MAX_RIM_BYTES}")
    from lxml import etree

    causes = (etree.XMLSyntaxError, ValueError)
    with reported_as(EvidenceError, "RIM: found no well-formed XML", *causes, expected="a SWID tag"):
        root = etree.fromstring(data, parser=safe_parser())
    if root.getroottree().docinfo.doctype:
        raise EvidenceError("RIM: found a document type declaration, expected none")
    if root.tag != f"{{{SWID}}}SoftwareIdentity":
        raise EvidenceError(f"RIM: found root element {str(root.tag)[:80]}, expected {{{SWID}}}SoftwareIdentity")
    meta = _one(root, f"{{{SWID}}}Meta")
    return Rim(
        raw=data,
        tag_id=_attribute(root, "tagId"),
        product=_attribute(meta, "product"),
        version=_attribute(meta, "colloquialVersion"),
        edition=_attribute(meta, "edition"),
        chain=_chain(root, cache),
        golden=_golden(root),
        payload=_payload(root),
    )


def safe_parser() -> Any:
    """A parser that expands no entity, fetches nothing, reads no DTD and keeps size limits."""
    from lxml import etree

    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def _verify(rim: Rim) -> tuple[str | None, tuple[GoldenValue, ...]]:
    """None and the golden values that the signature covers, or why it does not verify and no
    values.

    1. There is one signature, by the key of the first certificate, with ECDSA and SHA-384 only.
    2. Its one reference is to the whole document, which is a SWID tag: nothing is left unsigned.
    3. The golden values are read again, out of what signxml says was signed.
    """
    from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier

    signer = rim.chain[0]
    config = SignatureConfiguration(
        require_x509=True,
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
        # Validity at the time of the appraisal is a check of its own, so any valid time will do
        # here.
        verification_time=signer.not_valid_before_utc,
    )
    try:
        # 1. There is one signature, by the key of the first certificate, with ECDSA and SHA-384
        # only.
        result: Any = XMLVerifier().verify(rim.raw, x509_cert=signer, parser=safe_parser(), expect_config=config)

        # 2. Its one reference is to the whole document, which is a SWID tag: nothing is left
        # unsigned.
        signed = result.signed_xml
        references = [element.get("URI") for element in result.signature_xml.iter(f"{{{DSIG}}}Reference")]
        if references != [""] or signed is None or signed.tag != f"{{{SWID}}}SoftwareIdentity":
            return f"XML signature covers {references} and not the whole manifest", ()

        # 3. The golden values are read again, out of what signxml says was signed.
        # (Not where it is the same to the letter.)
        return None, rim.golden if rim.payload and _payload(signed) == rim.payload else _golden(signed)
    # signxml raises its own, lxml's and cryptography's errors: all mean "not shown"
    except Exception as error:
        return f"XML signature does not verify: {type(error).__name__}: {one_line(error, 160)}", ()


def _chain(root: Any, cache: VerifiedCache | None) -> Chain:
    signature = _one(root, f"{{{DSIG}}}Signature")
    elements = list(signature.iter(f"{{{DSIG}}}X509Certificate"))
    if not elements:
        raise EvidenceError("RIM: found no X509Certificate in its signature, expected the signer chain")
    if len(elements) > 2 * CHAIN_LENGTH:
        raise EvidenceError(f"RIM: found {len(elements)} certificates, expected {CHAIN_LENGTH}")
    with reported_as(EvidenceError, "RIM: found a signer certificate that is not base64", ValueError):
        ders = [base64.b64decode("".join((one.text or "").split()), validate=True) for one in elements]
    return chains.parse_ders(ders, what="RIM signer chain", cache=cache)


def _payload(root: Any) -> bytes:
    from lxml import etree

    # A relative namespace, for one, has no canonical form.
    with reported_as(EvidenceError, "RIM: found a payload without a canonical form", etree.C14NError):
        return hashlib.sha256(etree.tostring(_one(root, f"{{{SWID}}}Payload"), method="c14n")).digest()


def _golden(root: Any) -> tuple[GoldenValue, ...]:
    entries = [one.items() for one in _one(root, f"{{{SWID}}}Payload").iter(f"{{{SWID}}}Resource")]
    values = [_golden_value(dict(entry)) for entry in entries if ("type", "Measurement") in entry]
    if len({value.index for value in values}) != len(values):
        raise EvidenceError("RIM: found a measurement index twice, expected each once")
    return tuple(values)


def _golden_value(entry: Mapping[str, str]) -> GoldenValue:
    # No number has a space, so what matches has one number for each name.
    numbers = _NUMBERS.fullmatch(" ".join([entry.get(name, "") for name in _NUMBERED]))
    if numbers is None:
        name = next(name for name in _NUMBERED if _NUMBER.fullmatch(entry.get(name, "")) is None)
        raise EvidenceError(f"RIM: {name} found {_printable(entry, name)[:20]!r}, expected a number")
    index, count, size = map(int, numbers.groups())
    what, active = f"RIM measurement {index}", entry.get("active")
    if active not in ("True", "False"):
        found = _printable(entry, "active")
        raise EvidenceError(f"{what}: active found {found!r}, expected 'True' or 'False'")
    names, expected = [name for name in entry if _HASH_NAME in name], _HASH_NAMES[:count]
    if not 1 <= count <= 64 or len(names) != count or not all([name in entry for name in expected]):
        raise EvidenceError(f"{what}: found {len(names)} hashes, expected {count} named Hash0 upwards")
    try:
        values = tuple([bytes.fromhex(entry[name]) for name in expected])
    except ValueError as error:
        raise EvidenceError(f"{what}: found a value that is not hex ({one_line(error)})") from error
    if set(map(len, values)) != {size}:
        raise EvidenceError(f"{what}: found {sorted({len(value) for value in values})} bytes, expected {size}")
    return GoldenValue(index, active == "True", values, entry.get("name", ""))


def _one(parent: Any, tag: str) -> Any:
    found = parent.findall(tag)
    if len(found) != 1:
        raise EvidenceError(f"RIM: found {len(found)} {tag.rpartition('}')[2]} elements, expected one")
    return found[0]


def _attribute(element: Any, name: str) -> str:
    return _printable(element.attrib, name, str(element.tag).rpartition("}")[2])


def _printable(attributes: Mapping[str, str], name: str, what: str = "Resource") -> str:
    value = attributes.get(name)
    if value is None:
        raise EvidenceError(f"RIM: {what} has no attribute {name}")
    text = str(value)
    if len(text) > MAX_ATTRIBUTE or not text.isprintable():  # it would stand in a verdict's reason
        raise EvidenceError(f"RIM: {name} found {text[:40]!r}, expected at most {MAX_ATTRIBUTE} printable characters")
    return text


# -- coverage ------------------------------------------------------------------------------------------------------


class CoverageRow(NamedTuple):
    """What the manifests say about one measurement.

    Attributes:
        index: 0-based, as in the manifests.
        kind: ``driver`` or ``vbios``, whose manifest has an active value; empty where none has.
        runtime: the value in the report, hex; empty where it has none. alternatives: number of
            golden values.
        result: ``matched``, ``alternative``, ``mismatched``, ``disabled``, ``no runtime block``,
            ``no golden value`` or ``unused``.
        meaning: one sentence.
    """

    index: int  # type: ignore[assignment]  # nobody asks a row for the place of a value in it
    kind: str
    result: str
    runtime: str
    alternatives: int
    meaning: str


MEANINGS = {
    "matched": "the runtime value is the golden value",
    "alternative": "the runtime value is one of several allowed golden values, not the first",
    "mismatched": "the runtime value is none of the golden values: other firmware, settings or state than published",
    "disabled": "the engine measured here is disabled, as the signed report says, so its value says nothing",
    "no runtime block": "a golden value is active but the device reports no such measurement",
    "no golden value": "the device reports a value that no manifest vouches for",
    "unused": "zero at run time and without an active golden value",
}


def golden_rows(report: Report, kind: str, golden: Iterable[GoldenValue]) -> list[CoverageRow]:
    """One row for each active golden value of the manifest of ``kind``, compared with the report."""
    rows, disabled = [], report.field("NVDEC0_STATUS") == NVDEC_DISABLED
    for value in golden:
        if not value.active:
            continue
        found = report.runtime.get(value.index)
        if found is None:
            result = "no runtime block"
        elif found not in value.alternatives:
            result = "disabled" if value.index == NVDEC0_INDEX and disabled else "mismatched"
        else:
            result = "matched" if found == value.alternatives[0] else "alternative"
        count, meaning = len(value.alternatives), MEANINGS[result]
        rows.append(CoverageRow(value.index, kind, result, (found or b"").hex(), count, meaning))
    return rows


def rim_coverage(report: Report, compared: Iterable[CoverageRow]) -> tuple[CoverageRow, ...]:
    """All rows on a device, by index: those of its manifests (``golden_rows``), and one for each
    measurement that no golden value is about.

    An index that is active in two manifests has two.
    """
    rows = list(compared)
    for index in report.runtime.keys() - {row.index for row in rows}:
        result = "no golden value" if any(report.runtime[index]) else "unused"
        rows.append(CoverageRow(index, "", result, report.runtime[index].hex(), 0, MEANINGS[result]))
    return tuple(sorted(rows))
