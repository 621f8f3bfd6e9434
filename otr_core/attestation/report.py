"""NVIDIA attestation reports: an SPDM 1.1 GET_MEASUREMENTS request and its signed response.

Layout (DMTF DSP0274 1.1, sections 10.11.1 and 10.11.2; all integers little endian):

    request   0x11 0xE0 param1 param2 | nonce[32] | slot                        37 bytes
    response  0x11 0x60 param1 param2 | blocks u8 | record length u24
              record, per block: index u8 | specification=1 u8 | size u16
                                 | kind u8 | value size u16 | value
              responder nonce[32] | opaque length u16 | opaque data | signature r‖s [96]

The signature covers everything before it. Opaque data is a run of fields, each ``id u16 | size u16
| value``. Fields whose ids NVIDIA has not named publicly are kept.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass

from otr_core.errors import EvidenceError, reported_as

SIGNATURE_BYTES = 96
NONCE_BYTES = 32
# the largest report seen has 4274 bytes; a response cannot exceed a few record lengths
MAX_REPORT_BYTES = 64 * 1024

# Field names as NVIDIA's open verifiers call them (nvtrust, go-nvattest-tools); others appear as
# "UNKNOWN_<id>".
OPAQUE_NAMES: dict[int, str] = {
    1: "CERT_ISSUER_NAME",
    2: "CERT_AUTHORITY_KEY_IDENTIFIER",
    3: "DRIVER_VERSION",
    4: "GPU_INFO",
    5: "SKU",
    6: "VBIOS_VERSION",
    7: "MANUFACTURER_ID",
    8: "TAMPER_DETECTION",
    9: "SMC",
    10: "VPR",
    11: "NVDEC0_STATUS",
    12: "MSRSCNT",
    13: "CPRINFO",
    14: "BOARD_ID",
    15: "CHIP_SKU",
    16: "CHIP_SKU_MOD",
    17: "PROJECT",
    18: "PROJECT_SKU",
    19: "PROJECT_SKU_MOD",
    20: "FWID",
    21: "PROTECTED_PCIE_STATUS",
    22: "SWITCH_PDI",
    23: "FLOORSWEPT_PORTS",
    24: "POSITION_ID",
    25: "LOCK_SWITCH_STATUS",
    26: "SWITCH_GPU_PDIS",
    32: "GPU_LINK_CONN",
    33: "SYSTEM_ENABLE_STATUS",
    34: "OPAQUE_DATA_VERSION",
    35: "CHIP_INFO",
    36: "FEATURE_FLAG",
    255: "INVALID",
}


@dataclass(frozen=True)
class Measurement:
    """One measurement block.

    Attributes:
        index: 1-based SPDM index; NVIDIA's golden values are numbered from 0, one lower.
        kind: DMTF measurement type (bit 7: raw value instead of digest).
        value: the bytes measured; 48-byte SHA-384 digests on all parts seen.
    """

    index: int
    kind: int
    value: bytes


@dataclass(frozen=True)
class Report:
    """A parsed report.

    Attributes:
        raw: all its bytes; ``signed`` is all but the signature.
        nonce: 32 bytes in the request, chosen by the verifier. responder_nonce: 32 bytes chosen by
            the device.
        slot: number of the device's certificate slot.
        opaque: fields in their order, as (id, value).
        signature: r ‖ s, 96 bytes.
    """

    raw: bytes
    nonce: bytes
    slot: int
    responder_nonce: bytes
    measurements: tuple[Measurement, ...]
    opaque: tuple[tuple[int, bytes], ...]
    signature: bytes

    @property
    def signed(self) -> bytes:
        return self.raw[:-SIGNATURE_BYTES]

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @functools.cached_property
    def runtime(self) -> dict[int, bytes]:
        """Measured values by their index in manifests, which count from 0."""
        return {block.index - 1: block.value for block in self.measurements}

    def field(self, name: str) -> bytes | None:
        """Value of an opaque field by its name; None if the report has none.

        Raises:
            EvidenceError: the field is there twice, so that readers could disagree on its value.
        """
        found = self._fields.get(name, ())
        if len(found) > 1:
            raise EvidenceError(f"opaque field {name}: found {len(found)} times, expected once")
        return found[0] if found else None

    @functools.cached_property
    def _fields(self) -> dict[str, list[bytes]]:
        fields: dict[str, list[bytes]] = {}
        for number, value in self.opaque:
            fields.setdefault(field_name(number), []).append(value)
        return fields

    def text(self, name: str) -> str | None:
        """An opaque field as text: ASCII up to the first NUL."""
        value = self.field(name)
        return None if value is None else _ascii(name, value)

    @property
    def kind(self) -> str:
        """``switch`` or ``gpu``: only an NVSwitch reports no driver and a single PDI of its own."""
        own = self.field("SWITCH_PDI")
        return "switch" if self.field("DRIVER_VERSION") is None and own is not None and len(own) == 8 else "gpu"

    @property
    def driver_version(self) -> str | None:
        return self.text("DRIVER_VERSION")

    @property
    def vbios_version(self) -> str | None:
        """VBIOS version in NVIDIA's dotted form, ``96.00.9F.00.01``."""
        value = self.field("VBIOS_VERSION")
        if value is None:
            return None
        if len(value) == 8:  # a GPU: four bytes little endian, then the fifth group
            return ".".join(f"{byte:02X}" for byte in (*value[3::-1], value[4]))
        return _ascii("VBIOS_VERSION", value).upper()  # a switch: text

    def rim_ids(self, architecture: str) -> dict[str, str]:
        """Names under which NVIDIA publishes this device's reference manifests, by kind.

        Args:
            architecture: chip name from the device certificate, for example ``GH100``.
        """
        ids = {}
        vbios = (self.vbios_version or "").replace(".", "")
        if self.kind == "switch":
            # the one board NVIDIA publishes for LS10
            ids["vbios"] = f"NV_SWITCH_BIOS_5612_0002_890_{vbios}"
        elif self.driver_version:
            ids["driver"] = f"NV_GPU_DRIVER_{architecture}_{self.driver_version}"
            board = "_".join(self.text(name) or "" for name in ("PROJECT", "PROJECT_SKU", "CHIP_SKU"))
            ids["vbios"] = f"NV_GPU_VBIOS_{board}_{vbios}"
        return ids


def field_name(number: int) -> str:
    """Name of the opaque field with this id."""
    return OPAQUE_NAMES.get(number, f"UNKNOWN_{number}")


def parse_report(data: bytes) -> Report:
    """Parse a report given as raw bytes or as hex text.

    Raises:
        EvidenceError: not a report, truncated, longer than its fields, or inconsistent in itself.
    """
    raw = _raw_bytes(data)
    read = _Reader(raw)
    _expect(read.take(4, "request header"), b"\x11\xe0", "request header", "SPDM 1.1 GET_MEASUREMENTS")
    nonce = read.take(NONCE_BYTES, "request nonce")
    slot = read.number(1, "slot")
    _expect(read.take(4, "response header"), b"\x11\x60", "response header", "SPDM 1.1 MEASUREMENTS")
    count = read.number(1, "number of blocks")
    record = _Reader(read.take(read.number(3, "record length"), "measurement record"))
    measurements = tuple(_measurement(record) for _ in range(count))
    record.end("measurement record")
    indices = [block.index for block in measurements]
    if len(set(indices)) != len(indices):
        raise EvidenceError("measurement record: found an index twice, expected each once")
    responder_nonce = read.take(NONCE_BYTES, "responder nonce")
    opaque = _Reader(read.take(read.number(2, "opaque length"), "opaque data"))
    fields = []
    while opaque.left:
        number, size = opaque.number(2, "opaque field id"), opaque.number(2, "opaque field size")
        fields.append((number, opaque.take(size, f"opaque field {field_name(number)}")))
    signature = read.take(SIGNATURE_BYTES, "signature")
    read.end("report")
    report = Report(raw, nonce, slot, responder_nonce, measurements, tuple(fields), signature)
    # A field that stands there twice, or a text that is none, must fail here and not during
    # appraisal: read them all once.
    for name in OPAQUE_NAMES.values():
        report.field(name)
    _ = (report.kind, report.vbios_version, report.rim_ids(""))
    return report


_BLOCK = struct.Struct("<BBHBH")  # index, specification, size, kind, size of the value


def _measurement(record: _Reader) -> Measurement:
    head = record.peek(_BLOCK.size)
    if len(head) == _BLOCK.size:
        index, specification, size, kind, inner = _BLOCK.unpack(head)
        if specification == 1 and size == inner + 3 and record.left >= 4 + size:
            return Measurement(index, kind, record.take(4 + size, "measurement")[_BLOCK.size :])
    # Something is wrong with it: read it again field by field, to say what.
    index, specification = record.number(1, "measurement index"), record.number(1, "measurement specification")
    if specification != 1:
        raise EvidenceError(f"measurement {index}: specification found {specification}, expected 1 (DMTF)")
    block = _Reader(record.take(record.number(2, "measurement size"), f"measurement {index}"))
    kind = block.number(1, "measurement kind")
    value = block.take(block.number(2, "measurement value size"), f"measurement {index} value")
    block.end(f"measurement {index}")
    return Measurement(index, kind, value)


def _raw_bytes(data: bytes) -> bytes:
    if not data:
        raise EvidenceError("report: found an empty input, expected an NVIDIA attestation report")
    if len(data) > 2 * MAX_REPORT_BYTES + 2:
        raise EvidenceError(f"report: found {len(data)} bytes, expected at most {MAX_REPORT_BYTES}")
    text = data.strip()
    if text[:4].lower() == b"11e0":
        with reported_as(EvidenceError, "report: found broken hex text, expected hexadecimal digits", ValueError):
            return bytes.fromhex(text.decode("ascii"))
    return data


def _ascii(name: str, value: bytes) -> str:
    text = value.split(b"\0", 1)[0].decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise EvidenceError(f"opaque field {name}: found {value.hex()}, expected printable ASCII text")
    return text


def _expect(found: bytes, prefix: bytes, what: str, meaning: str) -> None:
    if found[: len(prefix)] != prefix:
        raise EvidenceError(f"{what}: found {found.hex()}, expected {prefix.hex()} ({meaning})")


class _Reader:
    """Takes bytes off the front; every shortage is an ``EvidenceError`` that names the part."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise EvidenceError(f"{what}: found {self.left} bytes, expected {size} (truncated report?)")
        self._at += size
        return self._data[self._at - size : self._at]

    def peek(self, size: int) -> bytes:
        return self._data[self._at : self._at + size]

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def end(self, what: str) -> None:
        if self.left:
            raise EvidenceError(f"{what}: found {self.left} bytes after its end, expected none")
