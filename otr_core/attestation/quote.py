"""Intel TDX and SGX quotes and their collateral, read and verified by dcap-qvl.

A quote's *identity* is the hash of the part its signature covers (header and report body). Raw
quotes are malleable: the certificates and padding behind that part can be changed without breaking
verification, so that a hash of the whole file does not identify a quote.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from otr_core.attestation.chain import UNREADABLE, Chain, VerifiedCache, parse_chain
from otr_core.attestation.eventlog import evidence_json
from otr_core.attestation.snp import SnpReport, is_snp_report, parse_snp_report
from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import EvidenceError, InputError, one_line, reported_as

MAX_QUOTE_BYTES = 64 * 1024
MAX_COLLATERAL_BYTES = 1024 * 1024
_HEADER_BYTES = 48
_TDX_REGISTERS = (
    *("mr_td", "mr_seam", "mr_signer_seam", "mr_config_id", "mr_owner", "mr_owner_config"),
    *("rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3", "td_attributes", "xfam", "tee_tcb_svn", "report_data"),
)
#: What of a TD's registers decides its platform's TCB level.
_FIRMWARE = ("mr_seam", "mr_signer_seam", "tee_tcb_svn")
_SGX_REGISTERS = ("mr_enclave", "mr_signer", "attributes", "cpu_svn", "report_data")
_COLLATERAL_KEYS = (
    *("pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info", "tcb_info_signature"),
    *("qe_identity_issuer_chain", "qe_identity", "qe_identity_signature"),
)
# TD attribute bits (Intel TDX module ABI specification, TD_ATTRIBUTES).
_TD_ATTRIBUTES = {0: "debug", 28: "sept_ve_disable", 29: "migratable", 30: "pks", 31: "kl", 63: "perfmon"}


@dataclass(frozen=True)
class Quote:
    """A parsed quote.

    Attributes:
        raw: the file's bytes.
        kind: ``TDX`` or ``SGX``.
        version: quote version, 3 (SGX), 4 or 5 (TDX).
        registers: measurement registers, attributes and report_data, by name.
        fmspc: platform family named in the PCK certificate, hex; empty if there is none.
        chain: PCK certificates inside the quote; empty if there are none or they cannot be read.
    """

    raw: bytes
    kind: str
    version: int
    registers: Mapping[str, bytes]
    fmspc: str
    chain: Chain

    @functools.cached_property
    def signed(self) -> bytes:
        """The part that the attestation key signs: header and report body."""
        if self.kind == "SGX":
            return self.raw[: _HEADER_BYTES + 384]
        if self.version == 4:
            return self.raw[: _HEADER_BYTES + 584]
        # In version 5 a type (u16) and a size (u32) stand before the body.
        size = int.from_bytes(self.raw[_HEADER_BYTES + 2 : _HEADER_BYTES + 6], "little")
        return self.raw[: _HEADER_BYTES + 6 + size]

    @functools.cached_property
    def identity(self) -> str:
        """Lower-case hex SHA-256 of the signed part."""
        return hashlib.sha256(self.signed).hexdigest()

    @functools.cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of the TD attributes that are set, or of the SGX flags that matter here."""
        if self.kind == "SGX":
            return ("debug",) if self.registers["attributes"][0] & 2 else ()
        bits = int.from_bytes(self.registers["td_attributes"], "little")
        return tuple([_TD_ATTRIBUTES.get(bit, f"bit{bit}") for bit in range(bits.bit_length()) if bits >> bit & 1])

    @property
    def migratable(self) -> bool:
        """Whether the TD may be moved to another platform."""
        return "migratable" in self.attributes

    @property
    def debuggable(self) -> bool:
        """Whether a debugger may look inside: any bit of the TD's "under debug" byte says so."""
        return "debug" in self.attributes if self.kind == "SGX" else self.registers["td_attributes"][0] != 0


@dataclass(frozen=True)
class Collateral:
    """Intel's signed statements about a platform family, as dcap-qvl takes them.

    Attributes:
        raw: canonical JSON of the nine parts that are used. A PCK chain in the file is left out: it
            would override the quote's own.
        parsed: dcap-qvl's object.
        issued, expires: earliest issue and earliest expiry of TCB info and QE identity.
        windows: validity of every dated part (name, from, to).
        evaluation: the lower tcbEvaluationDataNumber of the two.
        newest: day of the latest TCB level there is for the family, ISO 8601.
        fmspc: platform family it is about, lower-case hex.
    """

    raw: bytes
    parsed: Any
    issued: datetime
    expires: datetime
    evaluation: int
    windows: tuple[tuple[str, datetime, datetime], ...]
    newest: str = ""
    fmspc: str = ""

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True)
class VerifiedQuote:
    """What dcap-qvl says about a quote whose signatures all hold.

    Attributes:
        status: TCB status of the platform, one of ``policy.TCB_STATUSES``.
        advisories: ids of the security advisories that are open for it, sorted.
        ppid: the platform's id, lower-case hex.
        tcb_date: day of the platform's TCB level, ISO 8601.
    """

    status: str
    advisories: tuple[str, ...]
    ppid: str
    tcb_date: str


def parse_quote(data: bytes) -> Quote | SnpReport:
    """Parse a quote, or an AMD report: raw, hex or base64 text, a JSON list of bytes, or JSON with
    ``quote``.

    Raises:
        EvidenceError: none of these, or not a quote that can be read.
    """
    raw = _raw_bytes(data)
    if is_snp_report(raw):
        return parse_snp_report(raw)
    import dcap_qvl

    unreadable, causes = "quote: found bytes that cannot be read", (ValueError, AttributeError)
    with reported_as(EvidenceError, unreadable, *causes, expected="a TDX or SGX quote"):
        parsed = dcap_qvl.parse_quote(raw)
        kind, version, report = parsed.quote_type(), int(parsed.header.version), parsed.report
        names = _TDX_REGISTERS if kind == "TDX" else _SGX_REGISTERS
        registers = {name: bytes(getattr(report, name)) for name in names}
    return Quote(raw, kind, version, registers, *_platform(bytes(parsed.cert_chain_pem_bytes() or b"")))


@functools.lru_cache(maxsize=64)
def _platform(pem: bytes) -> tuple[str, Chain]:
    """Family and certificates of a platform: the same in every quote that it makes.

    They stand behind the signed part. If they are broken, verification says so.
    """
    import dcap_qvl

    try:
        return dcap_qvl.parse_pck_extension_from_pem(pem).fmspc.hex(), parse_chain(pem)
    except (ValueError, EvidenceError):
        return "", ()


def parse_collateral(data: bytes) -> Collateral:
    """Parse collateral: JSON with the parts of Intel's PCS, binary ones as hex or as lists.

    Raises:
        EvidenceError: not such a document.
    """
    if len(data) > MAX_COLLATERAL_BYTES:
        raise EvidenceError(f"collateral: found {len(data)} bytes, expected at most {MAX_COLLATERAL_BYTES}")
    import dcap_qvl

    try:
        document = evidence_json(data, "collateral")
        parts = {key: _hex_if_bytes(document[key]) for key in _COLLATERAL_KEYS}
        raw = canonical_json(parts)
        parsed = dcap_qvl.QuoteCollateralV3.from_json(raw.decode())
        signed = {key: evidence_json(parts[key], key) for key in ("tcb_info", "qe_identity")}
        windows = [(key, _moment(one["issueDate"]), _moment(one["nextUpdate"])) for key, one in signed.items()]
        issued, expires = min(start for _, start, _ in windows), min(end for _, _, end in windows)
        evaluation = min(int(one["tcbEvaluationDataNumber"]) for one in signed.values())
        family = str(signed["tcb_info"].get("fmspc", "")).lower()
        newest = max(str(level["tcbDate"])[:10] for level in signed["tcb_info"]["tcbLevels"])
        return Collateral(raw, parsed, issued, expires, evaluation, (*windows, *_dated_parts(parts)), newest, family)
    except (InputError, KeyError, OverflowError, *UNREADABLE) as error:
        raise EvidenceError(
            f"collateral: found a document that cannot be read ({one_line(error)}), expected Intel PCS parts"
        ) from error


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _dated_parts(parts: Mapping[str, str]) -> Iterator[tuple[str, datetime, datetime]]:
    """Validity of the revocation lists and of the certificates that sign the parts."""
    for key in ("root_ca_crl", "pck_crl"):
        crl = x509.load_der_x509_crl(bytes.fromhex(parts[key]))
        end = crl.next_update_utc or datetime.max.replace(tzinfo=UTC)
        # dcap-qvl counts a list as expired at its nextUpdate, so its last valid second is the one
        # before.
        yield key, crl.last_update_utc, end - timedelta(seconds=1)
    for key in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        for certificate in parse_chain(parts[key].encode(), what=key):
            yield key, certificate.not_valid_before_utc, certificate.not_valid_after_utc


def verify_quote(
    quote: Quote, collateral: Collateral, as_of: datetime, cache: VerifiedCache, root: bytes | None = None
) -> VerifiedQuote | str:
    """What the verified quote says, or the reason why it does not verify at ``as_of``.

    Args:
        cache: remembers the day of a platform's TCB level, which certificate, firmware and
            collateral decide. The quote itself is verified each time.
        root: certificate (DER) that all chains must end in; None for Intel's, which dcap-qvl pins.
    """
    import dcap_qvl

    now = int(as_of.timestamp())
    asked, claims = (quote.raw, collateral.parsed, now), dict[str, Any]()

    def dated() -> str:
        # A policy of dcap-qvl that only wants the claims: what they must be is decided by ours.
        only_claims = dcap_qvl.QuotePolicy.claims_only(now)
        verifier = dcap_qvl.QuoteVerifier() if root is None else dcap_qvl.QuoteVerifier(root)
        claims.update(parse_json(verifier.verify_with_policy(*asked, only_claims).to_json()))
        return datetime.fromtimestamp(claims["platform"]["tcb_date_tag"], UTC).date().isoformat()

    firmware = tuple(quote.registers.get(name) for name in _FIRMWARE)
    try:
        day = cache.once(("tcb date", collateral.sha256, quote.chain[:1], firmware), dated)
        if claims:
            tcb, ppid = claims["tcb"], bytes(claims["platform"]["pck"]["ppid"])
            return VerifiedQuote(tcb["status"], tuple(sorted(tcb["advisory_ids"])), ppid.hex(), day)
        # The short answer of dcap-qvl says the same, but for the date, and costs a seventh less.
        rooted = functools.partial(dcap_qvl.verify_with_root_ca, root_ca_der=root)
        found = (dcap_qvl.verify if root is None else rooted)(quote.raw, collateral.parsed, now_secs=now)
        return VerifiedQuote(found.status, tuple(sorted(found.advisory_ids)), bytes(found.ppid).hex(), day)
    except (ValueError, OverflowError) as error:
        return one_line(error).removeprefix("Verification failed: ")


def _raw_bytes(data: bytes) -> bytes:
    if len(data) > 8 * MAX_QUOTE_BYTES:
        raise EvidenceError(f"quote: found {len(data)} bytes, expected at most {MAX_QUOTE_BYTES}")
    text = data.strip()
    if text[:1] in (b"{", b"["):
        document = evidence_json(text, "quote")
        if isinstance(document, dict):
            document = document.get("quote")
        if isinstance(document, str):
            return _from_hex_text(document.encode())
        if isinstance(document, list):
            with reported_as(EvidenceError, "quote: found a JSON list that is not bytes", TypeError, ValueError):
                return bytes(document)
        raise EvidenceError("quote: found JSON without 'quote', expected it in hex")
    return _from_hex_text(text) if text[:2].isalnum() and text[:2].isascii() else data


def _from_hex_text(text: bytes) -> bytes:
    """Bytes of hex or base64 text; of text that is neither, the message says why it is not hex."""
    with reported_as(EvidenceError, "quote: found text that is neither hex nor base64", ValueError):
        try:
            return bytes.fromhex(text.strip().removeprefix(b"0x").decode("ascii"))
        except ValueError:
            with contextlib.suppress(ValueError):
                return base64.b64decode(text.strip(), validate=True)
            raise


def _hex_if_bytes(value: Any) -> str:
    if isinstance(value, list):
        return bytes(value).hex()
    if not isinstance(value, str):
        raise EvidenceError(f"collateral: found {type(value).__name__}, expected a string")
    return value
