"""Parsing NVIDIA reports: the real one, forms found in the field, and everything that must not
parse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.attestation.report import SIGNATURE_BYTES, parse_report
from otr_core.errors import EvidenceError

NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")


def test_real_report_reads_as_nvidia_reads_it(h100_report: bytes) -> None:
    report = parse_report(h100_report)
    assert (report.kind, report.driver_version, report.vbios_version) == ("gpu", "550.90.07", "96.00.9F.00.01")
    assert report.nonce == NONCE
    assert [block.index for block in report.measurements] == list(range(1, 65))
    assert {(block.kind, len(block.value)) for block in report.measurements} == {(1, 48)}
    assert report.field("NVDEC0_STATUS") == b"\x55"
    assert report.field("PROTECTED_PCIE_STATUS") == b"\x55"
    assert report.signed + report.signature == report.raw == h100_report
    assert report.rim_ids("GH100") == {
        "driver": "NV_GPU_DRIVER_GH100_550.90.07",
        "vbios": "NV_GPU_VBIOS_1010_0200_882_96009F0001",
    }


def test_hex_text_with_line_end_is_the_same_report(h100_report: bytes) -> None:
    assert parse_report(h100_report.hex().upper().encode() + b"\r\n") == parse_report(h100_report)


def test_unknown_opaque_ids_are_kept(outside: Callable[[str], bytes]) -> None:
    report = parse_report(outside("google-go-nvattest-tools/test_raw_switch_attestation_report.dat"))
    assert report.kind == "switch"
    assert report.vbios_version == "96.10.6D.00.01"
    assert len(report.field("SWITCH_GPU_PDIS") or b"") == 128
    assert len(report.measurements) == 31


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: b"", "empty input"),
        (lambda raw: b"\x11", "request header"),
        (lambda raw: raw[:-1], "signature: found 95 bytes, expected 96"),
        (lambda raw: raw[:100], "measurement record"),
        (lambda raw: raw + b"\0", "found 1 bytes after its end"),
        (lambda raw: b"\x12" + raw[1:], "request header"),
        (lambda raw: raw[:38] + b"\x61" + raw[39:], "response header"),
        (lambda raw: raw[:45] + b"\x02" + raw[46:], "an index twice"),
        (lambda raw: raw[:46] + b"\x02" + raw[47:], "specification found 2"),
        (lambda raw: raw[:41] + b"\x3f" + raw[42:], "measurement record: found 55 bytes after its end"),
        (lambda raw: raw.hex().encode()[:-1], "broken hex"),
        (lambda raw: b"\0" * 200_000, "expected at most"),
    ],
)
def test_what_is_no_report_is_refused(h100_report: bytes, change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        parse_report(change(h100_report))


def test_an_opaque_field_given_twice_is_refused(h100_report: bytes) -> None:
    report = parse_report(h100_report)
    opaque = b"".join(
        number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
        for number, value in (*report.opaque, (3, b"550.54.14\0"))
    )
    start = 37 + 8 + 3520 + 32
    raw = h100_report[:start] + len(opaque).to_bytes(2, "little") + opaque + h100_report[-SIGNATURE_BYTES:]
    with pytest.raises(EvidenceError, match="DRIVER_VERSION: found 2 times"):
        parse_report(raw)


def tiny_report(block: bytes, opaque: bytes = b"") -> bytes:
    """A report with one measurement block, all else as short as it can be."""
    request = b"\x11\xe0\x01\xff" + bytes(32) + b"\0"
    response = b"\x11\x60\0\0\x01" + len(block).to_bytes(3, "little") + block + bytes(32)
    return request + response + len(opaque).to_bytes(2, "little") + opaque + bytes(SIGNATURE_BYTES)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x01\x01\x05\x00\x01\x02\x00ab", None),
        (b"\x01\x01\x06\x00\x01\x02\x00ab.", "measurement 1: found 1 bytes after its end"),
        (b"\x01\x01\x04\x00\x01\x02\x00a", "measurement 1 value: found 1 bytes, expected 2"),
        (b"\x01\x01\x05\x00\x01\x02\x00ab.", "measurement record: found 1 bytes after its end"),
        (b"\x01\x02\x05\x00\x01\x02\x00ab", "specification found 2"),
    ],
)
def test_a_block_holds_its_value_and_nothing_else(block: bytes, reason: str | None) -> None:
    if reason is None:
        (measurement,) = parse_report(tiny_report(block)).measurements
        assert (measurement.index, measurement.kind, measurement.value) == (1, 1, b"ab")
    else:
        with pytest.raises(EvidenceError, match=reason):
            parse_report(tiny_report(block))


@pytest.mark.parametrize(
    ("opaque", "reason"),
    [
        (b"\x03\x00\x02\x00\xff\xfe", "DRIVER_VERSION: found fffe, expected printable ASCII"),
        (b"\x03\x00\x02\x00\x1b[", "expected printable ASCII"),
        (b"\x03\x00\x09\x00a", "DRIVER_VERSION: found 1 bytes, expected 9"),
        (b"\x03", "opaque field id"),
    ],
)
def test_broken_opaque_fields_are_named(opaque: bytes, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        parse_report(tiny_report(b"\x01\x01\x03\x00\x01\x00\x00", opaque))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), cut=st.integers(0, 4116), at=st.integers(0, 4116))
def test_garbage_ends_in_the_named_error_only(h100_report: bytes, data: bytes, cut: int, at: int) -> None:
    for raw in (data, h100_report[:cut] + data, h100_report[:at] + data + h100_report[at:]):
        with contextlib.suppress(EvidenceError):
            parse_report(raw)
