"""``otr appraise`` as a service would meet it: hostile command lines, threads, and what it leaves behind."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from otr_core import cli
from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.policy import SHIPPED
from otr_core.attestation.quote import parse_quote
from otr_core.encoding import parse_json
from otr_core.errors import EvidenceError, InputError
from otr_core.files import read_input
from otr_node.evidence.fetch import Reply, Request, fetch_for
from otr_node.evidence.intake import read_evidence
from tests.helpers.field_captures import listed

Outside = Callable[[str], bytes]
GEMMA = "field-captures/nanogpt_20260325_225022/gemma-3-27b-it_attestation.json"


@pytest.fixture
def folder(tmp_path: Path, h100_report: bytes, h100_chain: bytes, outside: Outside) -> Path:
    """Good files, and bad ones beside them."""
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    answer = json.loads(outside(GEMMA))
    broken = answer | {"intel_quote": answer["intel_quote"][:900]}
    policy = (SHIPPED / "default.toml").read_text()
    files = {
        "good": h100_report,
        "chain": h100_chain,
        "quote": outside("phala-dcap-qvl/tdx_quote"),
        "collateral": outside("phala-dcap-qvl/tdx_quote_collateral.json"),
        "empty": b"",
        "one": b"\x11",
        "short": h100_report[:-1],
        "long": h100_report + b"\0",
        "jpeg": b"\xff\xd8\xff\xe0" + bytes(900),
        "deep": deep,
        "twice": b'{"evidence": 1, "evidence": 2}',
        "manykeys": b"{" + b",".join(b'"a":1' for _ in range(100_000)) + b"}",
        "nan": b'{"a": NaN}',
        "utf": b'{"a": "\xff\xfe"}',
        "claims": json.dumps({"measres": "success", "verdict": "accepted"}).encode(),
        "broken": json.dumps(broken).encode(),
        "bomb": gzip.compress(bytes(64 * 2**20)),
        "large": bytes(9 * 2**20),
        "stale": re.sub("ocsp_max_staleness_s = .*", f"ocsp_max_staleness_s = {10**15}", policy).encode(),
        "number": policy.replace('name = "default"', f'name = "x"\nmin_tcb_evaluation = {10**30}').encode(),
        "nopolicy": b"\xff",
        "typo": policy.replace("gpu.fwid", "gpu.fwids").encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    return tmp_path


#: Words of a command line in which {name} is a file of the folder, and what its one line must say.
T = ["--as-of", "2025-01-15"]
HOSTILE: list[tuple[list[str], str]] = [
    ([], "--as-of"),
    (["{good}"], "--as-of"),
    ([*T], "expected at least one"),
    (["{empty}", *T], "/empty"),
    (["{one}", *T], "/one"),
    (["{short}", *T], "/short"),
    (["{long}", *T], "/long"),
    (["{jpeg}", *T], "/jpeg"),
    (["{deep}", *T], "/deep"),
    (["{twice}", *T], "/twice"),
    (["{manykeys}", *T], "/manykeys"),
    (["{nan}", *T], "/nan"),
    (["{utf}", *T], "/utf"),
    (["{claims}", *T], "/claims"),
    (["{broken}", *T], "/broken at /intel_quote"),
    (["{bomb}", *T], "/bomb"),
    (["{large}", *T], "/large"),
    (["{fifo}", *T], "/fifo"),
    (["{folder}", *T], "/folder"),
    (["{dangling}", *T], "/dangling"),
    (["{none}", *T], "/none"),
    (["/dev/zero", *T], "/dev/zero"),
    (["{chain}", *T], "/chain"),
    (["--gpu", "{short}", *T], "/short"),
    (["--gpu", "/dev/zero", *T], "/dev/zero"),
    (["--gpu", "{good}", "--gpu-certs", "{jpeg}", *T], "/jpeg"),
    (["--gpu", "{good}", "--ocsp", "{fifo}", *T], "/fifo"),
    (["--quote", "{quote}", "--collateral", "{deep}", *T], "/deep"),
    (["--quote", "{quote}", "--event-log", "{manykeys}", *T], "/manykeys"),
    (["{good}", "--as-of", "0001-01-01T00:00:00+14:00"], "as_of"),
    (["{good}", "--as-of", "9999-12-31T23:59:59-14:00"], "as_of"),
    (["{good}", "--as-of", "yesterday"], "--as-of"),
    (["{good}", "--nonce", "zz", *T], "--nonce"),
    (["{good}", "--nonce", "ab" * 31, *T], "--nonce"),
    (["{good}", "--key", "xyz", *T], "--key"),
    (["{good}", "--policy", "{stale}", *T], "staleness"),
    (["{good}", "--policy", "{number}", *T], "policy"),
    (["{good}", "--policy", "{nopolicy}", *T], "policy"),
    (["{good}", "--policy", "{typo}", *T], "did you mean 'gpu.fwid'"),
    (["{good}", "--policy", "/dev/zero", *T], "/dev/zero"),
    (["{good}", "--eat", "{folder}", *T], "/folder"),
    (["{good}", "--flat", "{none}/x", *T], "/none"),
    (["{good}", "--eat", "{new}", "--eat-key", "{jpeg}", *T], "token key"),
]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["otr", "appraise", *words])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def test_hostile_command_lines_give_one_line_and_status_2(folder: Path, command: Any) -> None:
    assert len(HOSTILE) >= 31
    for words, said in HOSTILE:
        line = [word.format_map(Names(folder)) if "{" in word else word for word in words]
        started = time.process_time()
        status, out, err = command(*line)
        assert (status, out) == (2, ""), (line, err)
        (message,) = err.splitlines()
        assert message.startswith("error: "), line
        assert said in message, (line, message)
        assert len(message) < 800
        # Two seconds in a process of its own; much more would be time that grows faster than the input.
        assert time.process_time() - started < 20, line
    assert not (folder / "new").exists()


class Names(dict[str, str]):
    """A file of the folder by its name, there or not."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> str:
        return str(self.folder / name)


def test_json_is_one_canonical_document_with_what_was_taken(folder: Path, command: Any) -> None:
    status, out, _ = command(
        str(folder / "quote"), str(folder / "collateral"), *T[:1], "2025-06-20", "--expect", "cpu", "--json"
    )
    document = json.loads(out)
    assert (status, document["verdict"]) == (0, "accepted")
    assert {row["what"] for row in document["taken"]} == {"quote", "collateral"}
    assert (
        out
        == command(
            str(folder / "quote"), str(folder / "collateral"), *T[:1], "2025-06-20", "--expect", "cpu", "--json"
        )[1]
    )


def claims_of(out: str) -> dict[str, str]:
    return {claim["id"]: claim["status"] for claim in json.loads(out)["claims"]}


def test_each_option_reaches_the_appraisal(folder: Path, command: Any, h100_report: bytes, outside: Outside) -> None:
    """The expected nonce, a chain beside the files, the key of a binding profile, and whose token it is."""
    report, chain, quote = (str(folder / name) for name in ("good", "chain", "quote"))
    for nonce, status in ((h100_report[4:36].hex(), "asserted"), ("ab" * 32, "refuted")):
        _, out, _ = command(report, "--gpu-certs", chain, "--nonce", nonce, *T, "--json")
        assert claims_of(out)["gpu.0.nonce"] == status
        assert claims_of(out)["gpu.0.signature"] == "asserted"
    policy = folder / "near"
    rules = (SHIPPED / "default.toml").read_text()
    assert rules.count('binding = "auto"') == 1
    policy.write_text(rules.replace('binding = "auto"', 'binding = "near"'))
    committed = parse_quote(outside("phala-dcap-qvl/tdx_quote")).registers["report_data"][:32]
    for key, status in ((committed.hex(), "asserted"), ("ab" * 32, "refuted")):
        _, out, _ = command(quote, "--key", key, "--policy", str(policy), "--expect", "cpu", *T, "--json")
        assert claims_of(out)["binding.key"] == status
    made = ec.generate_private_key(ec.SECP256R1())
    (folder / "key").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _, _, said = command(report, *T, "--eat", str(folder / "token"), "--eat-key", str(folder / "key"))
    head = json.loads(base64.urlsafe_b64decode((folder / "token").read_text().split(".")[0] + "=="))
    x = base64.urlsafe_b64decode(head["jwk"]["x"] + "=")
    assert int.from_bytes(x, "big") == made.public_key().public_numbers().x
    assert "made for this call" not in said


def test_a_fetch_that_lacks_something_ends_in_1(
    tmp_path: Path, h100_report: bytes, h100_chain: bytes, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    def dead(request: Request) -> Reply:
        raise OSError("no route to host")

    quiet = functools.partial(fetch_for, transport=dead, pause=lambda _: None)
    monkeypatch.setattr("otr_node.evidence.command.fetch_for", quiet)
    (tmp_path / "gpu.bin").write_bytes(h100_report)
    for expected in (0, 1):  # without its chain it asks for nothing
        monkeypatch.setattr(sys, "argv", ["otr", "fetch", str(tmp_path), "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == expected
        (tmp_path / "chain.pem").write_bytes(h100_chain)


def test_several_nodes_are_one_document(tmp_path: Path, outside: Outside, command: Any) -> None:
    name = next(
        n
        for n in listed()
        if n.startswith("nearcloud_qwen_qwen3.5-122b-a10b_20260610_014855/0001") and n.endswith("body")
    )
    path = tmp_path / "response.json"
    path.write_bytes(outside(f"field-captures/{name}"))
    status, out, _ = command(str(path), "--as-of", "2026-06-10", "--json")
    document = json.loads(out)
    assert (status, document["verdict"], len(document["nodes"])) == (1, "rejected", 3)
    assert {claim["id"].split(".")[1] for claim in document["claims"]} == {"0", "1", "2"}
    assert all(one["node"].startswith(str(path)) for one in document["nodes"])
    _, text, _ = command(str(path), "--as-of", "2026-06-10")
    assert "node 2: " in text
    assert "ignored: " in text


class TestThreads:
    def test_many_threads_leave_the_host_as_it_was(self, h100_files: dict[str, Any], outside: Outside) -> None:
        """A certificate that the library warns of among them, under filters of the host's own choice."""
        named = b"\x06\x03\x55\x04\x06\x13\x02US"
        text = h100_files["gpu_certs"][0].decode()
        ders = [base64.b64decode(part.split("-----END")[0]) for part in text.split("-----BEGIN CERTIFICATE-----")[1:]]
        odd = b"".join(
            b"-----BEGIN CERTIFICATE-----\n"
            + base64.encodebytes(der.replace(named, named[:-2] + b"U "))
            + b"-----END CERTIFICATE-----\n"
            for der in ders
        )
        answer, cache, policy = outside(GEMMA), VerifiedCache(max_entries=8), Policy.default()
        as_of = datetime(2025, 1, 15, tzinfo=UTC)
        expected: dict[int, bytes] = {}
        lock = threading.Lock()

        def one(number: int) -> None:
            kind = number % 4
            if kind == 0:
                found = appraise(load_bundle(**h100_files, cache=cache), policy, as_of, cache=cache).to_json()
            elif kind == 1:
                bundle = read_evidence([("a", answer)], cache=cache).nodes[0].bundle
                found = appraise(bundle, policy, datetime(2026, 3, 26, tzinfo=UTC), cache=cache).to_json()
            elif kind == 2:
                found = appraise(load_bundle(**{**h100_files, "gpu_certs": [odd]}), policy, as_of).to_json()
            else:
                with pytest.raises(EvidenceError):
                    read_evidence([("a", b"[" * 100_000)])
                found = b""
            with lock:
                assert expected.setdefault(kind, found) == found

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before, limit = list(warnings.filters), sys.getrecursionlimit()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(one, range(320)))
            assert warnings.filters == before
            assert sys.getrecursionlimit() == limit
        assert len(expected) == 4

    def test_a_small_cache_under_threads_raises_nothing(self) -> None:
        cache, computed = VerifiedCache(max_entries=2), list[int]()

        def ask(number: int) -> int:
            def compute() -> int:
                computed.append(number)
                return number % 5

            return cache.once(number % 5, compute)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(16) as pool:
                assert list(pool.map(ask, range(20_000))) == [number % 5 for number in range(20_000)]
        finally:
            sys.setswitchinterval(interval)
        assert len(computed) < 20_001

    def test_what_the_host_does_with_warnings_changes_no_verdict(self, h100_files: dict[str, Any]) -> None:
        code = """
import sys, warnings, pickle
warnings.simplefilter(sys.argv[1])
from otr_core.attestation.chain import parse_ders
from otr_core.errors import EvidenceError
for der in pickle.load(sys.stdin.buffer):
    try:
        parse_ders([der], what="chain")
        print("read")
    except EvidenceError:
        print("refused")
"""
        text = h100_files["gpu_certs"][0].decode().split("-----BEGIN CERTIFICATE-----")[1]
        der = base64.b64decode(text.split("-----END")[0])
        at = der.index(b"\x02\x14") + 2  # the serial number: 20 bytes
        zero = der[:at] + bytes(20) + der[at + 20 :]
        negative = der[:at] + b"\xff" + der[at + 1 :]
        answers = {
            action: subprocess.run(
                [sys.executable, "-c", code, action],
                input=pickle.dumps([der, zero, negative]),
                capture_output=True,
                check=True,
            ).stdout.split()
            for action in ("ignore", "error", "default")
        }
        assert set(map(tuple, answers.values())) == {(b"read", b"refused", b"refused")}


class TestReading:
    def test_no_device_pipe_or_endless_file_is_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path / "fifo", "/dev/zero", "/dev/stdin", tmp_path, tmp_path / "none", "a\0b"):
            with pytest.raises(InputError):
                read_input(path, what="evidence")

    def test_a_file_that_grows_past_its_limit_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(bytes(11))
        assert read_input(tmp_path / "f", what="x", limit_bytes=11) == bytes(11)
        with pytest.raises(InputError, match="found 11 bytes, expected x of at most 10"):
            read_input(tmp_path / "f", what="x", limit_bytes=10)

    @pytest.mark.parametrize("levels", [400, 501, 100_000])
    def test_nesting_is_counted_before_it_is_read_whatever_the_hosts_limit(self, levels: int) -> None:
        text = '{"a\\"[":"[[",' * 2 + '"b":' + "[" * levels + "]" * levels + "}}"
        text = text.replace('",{', '","c":{')
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(50_000)
        try:
            if levels > 500:
                with pytest.raises(InputError, match="levels"):
                    parse_json("[" * levels + "]" * levels)
            else:
                parse_json("[" * levels + "]" * levels)
                parse_json('["' + "[" * 5000 + '", "\\"[[[", {}]')
        finally:
            sys.setrecursionlimit(limit)

    def test_duplicate_keys_take_linear_time(self) -> None:
        took = []
        for size in (20_000, 320_000):
            text = "{" + ",".join(f'"k{n}":1,"k{n}":2' for n in range(size)) + "}"
            started = time.process_time()
            with pytest.raises(InputError, match="twice"):
                parse_json(text)
            took.append(time.process_time() - started)
        assert took[1] < 40 * max(took[0], 0.01)
        assert took[1] < 20
