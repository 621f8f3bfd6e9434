"""Bad input: orders and receipts of any bytes end in one line that names the field, in bounded time
and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.encoding import parse_canonical
from otr_core.errors import InputError, OtrError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import load_order, load_receipt_file, verify_receipt
from otr_core.poea.document import FORMAT
from tests.helpers.mutations import changed, text, written
from tests.helpers.receipts import ALLOW, MANIFEST, MODEL, NOW, enclave, forged, ordered, signed

FILE = signed()
RECEIPT, ORDER = json.loads(FILE.dump()), json.loads(ordered().dump())
READERS: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "receipt file": (load_receipt_file, RECEIPT),
    "order file": (load_order, ORDER),
}
BOTH = pytest.mark.parametrize("what", READERS)


def refusal(what: str, raw: bytes) -> str:
    with pytest.raises(InputError) as caught:
        READERS[what][0](raw)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    message.encode()  # fit to be printed: nothing in it is a lone surrogate
    return message


def test_a_file_reads_back() -> None:
    for file in (FILE, signed(ordered(sealed=True))):
        raw = file.dump()
        assert load_receipt_file(raw) == file
        assert load_receipt_file(raw).dump() == raw


@BOTH
@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "not readable as JSON"),
        (b"{", "not readable as JSON"),
        (b"\n", "not readable as JSON"),
        (b"\0", "not readable as JSON"),
        (b"\xff", "not UTF-8"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not readable as JSON"),
        (b"null", "found format 'NoneType'"),
        (b"[]", "found format 'list'"),
        (b"1", "found format 'int'"),
        (b'"' + b"x" * 10_000 + b'"', "found format 'str'"),
        (b"{}", "found format 'None'"),
        (b'{"format":["otr"]}', "found format"),
        (b'{"format":"\\ud800"}', "found format '\\ud800'"),
        (b"NaN", "found NaN"),
        (b"[" * 100_000, "found more than 500 levels"),
        (b'{"a":' * 100_000, "found more than 500 levels"),
        (b"9" * 5000, "not readable as JSON"),
        (b'{"a":1,"a":1}', "key 'a' found twice"),
    ],
)
def test_what_is_no_document_is_refused(what: str, raw: bytes, named: str) -> None:
    assert refusal(what, raw).startswith(f"{what}: {named}")


@BOTH
@pytest.mark.parametrize("form", ["otr-receipt/1", "otr-receipt/3", "otr-order/0", "", "OTR-RECEIPT/2", 2, None])
def test_another_version_is_refused_by_name(what: str, form: Any) -> None:
    raw = (text({**READERS[what][1], "format": form}) + "\n").encode()
    expected = READERS[what][1]["format"]
    assert refusal(what, raw) == f"{what}: found format {str(form)!r}, expected {expected!r}"


@BOTH
def test_parts_missing_extra_or_of_another_type_are_named(what: str) -> None:
    document = READERS[what][1]
    for name in document:
        assert name in refusal(what, (text(changed(document, (name,))) + "\n").encode())
        for other in ([], "zz", 1, True, None, 1.5):
            if (name, other) not in (("kept", None), ("prompt_proof", [])):
                assert name in refusal(what, written(document, (name,), json.dumps(other)))
    assert "'x'" in refusal(what, (text({**document, "x": 1}) + "\n").encode())


@BOTH
@pytest.mark.parametrize(
    ("literal", "named"),
    [
        ("NaN", "found NaN"),
        ("Infinity", "found Infinity"),
        ("-Infinity", "found -Infinity"),
        ("1e999", "max_tokens: not expressible"),
        ("1" * 4000, "max_tokens: not expressible"),
        ("1" * 10_000, "not readable"),
        ("9007199254740992", "max_tokens: not expressible"),
        ("4294967296", "max_tokens: found 4294967296"),
        ("0", "max_tokens: found 0"),
        ("-0", "another encoding"),
        ("1.0", "another encoding"),
        ("1e0", "another encoding"),
        ("1.5", "max_tokens: found 1.5"),
        ("-1", "max_tokens: found -1"),
        ("true", "max_tokens: found True"),
        ('"16"', "max_tokens: found '16'"),
        ('"\\ud800"', "max_tokens: not expressible"),
        ('"\\uDBFF\\uDC00"', "another encoding"),
        ("[" * 300 + "]" * 300, "max_tokens: found"),
        ("[" * 3000 + "]" * 3000, "more than 500 levels"),
        ('"' + "x" * 100_000 + '"', "max_tokens: found"),
    ],
)
def test_a_number_that_is_none_is_named(what: str, literal: str, named: str) -> None:
    """Named by its field, or by the byte where another encoding begins."""
    raw = written(READERS[what][1], ("order", "decoding", "max_tokens"), literal)
    assert named in refusal(what, raw)


def test_an_escaped_name_cannot_break_the_line() -> None:
    for name in ("a\nb", "\ud800", "\x1b[2J", "x" * 100_000):
        for document in ({**RECEIPT, name: 1}, {**RECEIPT, "receipt": {**RECEIPT["receipt"], name: 1}}):
            refusal("receipt file", json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def test_the_longest_document_is_16_mebibytes() -> None:
    """100 MB are refused before anything is parsed, and so before much is allocated."""
    for size in (16 * 2**20 + 1, 100 * 2**20):
        start = time.process_time()
        found = refusal("receipt file", bytes(size))
        assert found == f"receipt file: found {size} bytes, expected at most {16 * 2**20}"
        assert time.process_time() - start < 0.5
    with pytest.raises(InputError, match="not readable"):
        parse_canonical(bytes(16 * 2**20), FORMAT, (), what="receipt file")


def test_verifying_takes_time_in_proportion_to_the_length() -> None:
    """Many stop ids and many tokens, by an operator whose model is of that kind: no product of the two."""
    many = 30_000
    model = replace(MODEL, vocab=2**31, context=2**31, stop_ids=tuple(range(many)))
    manifest = replace(MANIFEST, config=model.config())
    tee, ids = enclave(model_id=manifest.model_id), (*range(many, 2 * many), 0)
    placed = ordered(model_id=manifest.model_id, decoding=Decoding(2 * many))
    file = load_receipt_file(forged(placed, tee=tee, model=manifest, ids=ids, statement={"finish": "stop"}).dump())
    start = time.process_time()
    shown = verify_receipt(file, policy=ALLOW, as_of=NOW, order=placed.order)
    assert shown.content
    assert time.process_time() - start < 7


MANY, LONG = 100_000, 1_000_000
LARGE: dict[str, tuple[Any, Callable[[], str]]] = {
    "token ids": (("response", "plain", "token_ids"), lambda: "[" + ",".join(["1"] * MANY) + "]"),
    "prompt ids": (("query", "plain", "prompt_ids"), lambda: "[" + ",".join(["1"] * MANY) + "]"),
    "a long lane": (("receipt", "lane"), lambda: '"' + "x" * LONG + '"'),
    "a long kind": (("evidence", "kind"), lambda: '"' + "x" * LONG + '"'),
    "many events": (("evidence", "event_log"), lambda: "[" + ",".join(["{}"] * MANY) + "]"),
    "many members": (("receipt",), lambda: "{" + ",".join(f'"{i:07d}":1' for i in range(MANY)) + "}"),
    "a member twice among many": (
        ("evidence", "kind"),
        lambda: "{" + ",".join(f'"{i}":1' for i in [*range(MANY), MANY - 1]) + "}",
    ),
    "many stop ids": (("model", "config", "eos_token_id"), lambda: "[" + ",".join(map(str, range(MANY))) + "]"),
    "many hashes": (("prompt_proof",), lambda: "[" + ",".join(['"' + "00" * 32 + '"'] * 15_000) + "]"),
    "many surrogates": (("receipt", "lane"), lambda: '"' + "\\ud800" * 150_000 + '"'),
    "many digits": (("receipt", "layers"), lambda: "1" * LONG),
    "many decimals": (("receipt", "layers"), lambda: "1." + "1" * LONG),
    "deep": (("evidence", "kind"), lambda: "[" * 500_000 + "]" * 500_000),
    "a long seal": (("response",), lambda: '{"sealed":"' + "ab" * 500_000 + '"}'),
}
READ_ALL = f"""
import resource, sys, time
from pathlib import Path
from otr_core.errors import InputError, ReceiptError
from otr_core.poea import load_receipt_file, verify_receipt
from otr_core.poea.tee import EvidencePolicy

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    start, line = time.process_time(), "accepted" * 1000
    try:
        verify_receipt(
            load_receipt_file(path.read_bytes()), policy=EvidencePolicy(True), as_of={NOW}, order_from="file"
        )
    except (InputError, ReceiptError) as error:
        line = str(error)
    spent = time.process_time() - start
    if spent > 2 or len(line) > 1000 or "\\n" in line:
        print(path.name, f"{{spent:.1f}} s", ascii(line)[:200])
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
if grown > 200:
    print("memory grew by", grown, "MB")
"""


def test_large_files_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    """Files of a megabyte, each large in one place: at most 2 s of one core each, and 200 MB for all."""
    for name, (path, literal) in LARGE.items():
        (tmp_path / name).write_bytes(written(RECEIPT, path, literal()))
    command = [sys.executable, "-c", READ_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr[-1000:]


def test_a_proof_has_at_most_64_hashes() -> None:
    for count in (65, 1000):
        raw = written(RECEIPT, ("prompt_proof",), json.dumps(["00" * 32] * count, separators=(",", ":")))
        assert refusal("receipt file", raw) == "receipt file prompt_proof: expected a list of at most 64 hashes"


def test_every_error_of_a_receipt_is_one_short_line() -> None:
    """Also where the check quotes what somebody else chose."""
    lane = "x" * 50_000
    for file in (
        replace(FILE, configuration={"lane": lane}),
        forged(ordered(), statement={"lane": lane}),
        replace(FILE, evidence={"kind": lane}),
        replace(FILE, evidence={**FILE.evidence, "quote": {lane: 1}}),
        replace(FILE, evidence={**FILE.evidence, "event_log": [{"event": lane, "payload": ""}]}),
    ):
        with pytest.raises(ReceiptError) as caught:
            verify_receipt(file, policy=ALLOW, as_of=NOW, order_from="file")
        assert len(str(caught.value)) < 1000
        assert isinstance(caught.value, OtrError)
