"""Canonical bytes, domain separation, strict readers, whole files."""

import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core import encoding, files
from otr_core.errors import HashMismatchError, InputError, MissingDataError


def test_canonical_json_is_rfc_8785():
    # example of RFC 8785 section 3.2.3, sorting by UTF-16 code units, and numbers of section
    # 3.2.2.3
    assert encoding.canonical_json({"b": 1, "a": [56.0, 1e30, 4.5, 2e-3]}) == b'{"a":[56,1e+30,4.5,0.002],"b":1}'
    assert encoding.canonical_json({"\u20ac": 1, "\r": 2, "1": 3}) == '{"\\r":2,"1":3,"\u20ac":1}'.encode()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2**60, b"bytes", {1: 2}])
def test_canonical_json_refuses_what_json_cannot_carry(bad):
    with pytest.raises(InputError, match="canonical JSON"):
        encoding.canonical_json(bad)


@given(st.text("abcxyz", min_size=1, max_size=20), st.binary(max_size=50))
def test_tagged_hash_is_the_written_formula(tag, data):
    name = b"otr/1/" + tag.encode()
    assert encoding.tagged_hash(tag, data) == hashlib.sha256(bytes([len(name)]) + name + data).digest()


def test_tags_separate_domains():
    assert encoding.tagged_hash("a", b"bc") != encoding.tagged_hash("ab", b"c")
    for tag in ("", "x" * 250):
        with pytest.raises(InputError, match="hash tag"):
            encoding.tagged_hash(tag, b"")


def test_hex_is_strict():
    assert encoding.from_hex("0xAb") == encoding.from_hex("ab") == b"\xab"
    for bad in ("abc", "zz", "0x", 5):
        with pytest.raises(InputError):
            encoding.from_hex(bad, length=1)


def test_parse_json_refuses_duplicates_constants_and_garbage():
    assert encoding.parse_json(b'{"a": [1]}') == {"a": [1]}
    for bad in (b'{"a": 1, "a": 2}', b"NaN", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(InputError):
            encoding.parse_json(bad)


def test_whole_file_replaces_or_leaves_alone(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    files.write_text(target, "one")

    def interrupted():
        with files.whole_file(target) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "one"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_check_sha256_says_what_is_wrong_and_how_to_mend_it(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(MissingDataError, match="get it with: otr data fetch"):
        files.check_sha256(path, "00", mend="otr data fetch")
    path.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert files.check_sha256(path, digest.upper(), mend="") == path
    path.write_bytes(b"abd")
    with pytest.raises(HashMismatchError) as caught:
        files.check_sha256(path, digest, mend="otr data fetch")
    assert caught.value.expected == digest
    assert caught.value.found == hashlib.sha256(b"abd").hexdigest()
    assert "mend with: otr data fetch" in str(caught.value)


def test_read_input_names_the_file_and_what_it_should_be(tmp_path):
    (tmp_path / "big").write_bytes(b"12345")
    assert files.read_input(tmp_path / "big", what="a report") == b"12345"
    for path, limit in ((tmp_path / "none", 10), (tmp_path, 10**9), (tmp_path / "big", 4)):
        with pytest.raises(InputError, match="a report"):
            files.read_input(path, what="a report", limit_bytes=limit)


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53) + 1, 2**53 - 1), max_size=5))
def test_canonical_json_round_trips(value):
    assert json.loads(encoding.canonical_json(value)) == value


def test_a_key_found_twice_is_named_in_bounded_time_and_length():
    """As many keys as a document of a megabyte has, and one of them as long as one."""
    many = ",".join(f'"{number}":0' for number in range(100_000))
    begin = time.process_time()
    with pytest.raises(InputError, match="'99999' found twice"):
        encoding.parse_json("{" + many + ',"99999":0}')
    assert time.process_time() - begin < 2
    long = f'"{"k" * 2**20}":0'
    with pytest.raises(InputError, match="found twice") as caught:
        encoding.parse_json("{" + f"{long},{long}" + "}")
    assert len(str(caught.value)) < 200
