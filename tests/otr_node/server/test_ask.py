"""The client believes nothing: a server that lies about anything is refused by the check's name."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otr_core import merkle
from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ReceiptError, ServiceError
from otr_core.poea import OnceStore, check_answer, load_order, load_receipt_file
from otr_core.poea.document import ReceiptFile
from otr_core.poea.tee import EvidencePolicy
from otr_node.ask import RemoteServer, ask
from otr_node.enclave import SimulatedEnclave
from otr_node.portable import PortableModel
from tests.helpers import command_line
from tests.helpers.serving import Server, own_order

POLICY = EvidencePolicy(allow_simulated=True)
Reply = tuple[int, bytes]
Tamper = Callable[[str, int, bytes], Reply]


@contextmanager
def between(server: Server, tamper: Tamper) -> Iterator[str]:
    """URL of somebody who hands on what a server says, tampered with."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.hand_on(None)

        def do_POST(self) -> None:
            self.hand_on(self.rfile.read(int(self.headers["content-length"])))

        def hand_on(self, body: bytes | None) -> None:
            connection = server.connect()
            connection.request(self.command, self.path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            status, raw = tamper(self.path, reply.status, reply.read())
            connection.close()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", server.url + self.path)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


def asked(url: str, exact: PortableModel, *, sealed: bool = False, wait_s: float = 30.0) -> str | None:
    model_id = exact.manifest.model_id
    _, _, checked = ask(
        RemoteServer(url, wait_s=wait_s),
        lambda seal_to: own_order(model_id, (1, 5, 6, 7), 9, seal_to=seal_to),
        model_id=model_id,
        sealed=sealed,
        policy=POLICY,
        now=lambda: int(time.time()),
        decode=exact.tokenizer.decode,
    )
    return checked.text


def changed(**members: object) -> Tamper:
    """Changes members of the receipt file, given as path -> value."""

    def tamper(path: str, status: int, raw: bytes) -> Reply:
        if not path.startswith("/v1/receipts/") or status != 200:
            return status, raw
        document = json.loads(raw)
        for name, value in members.items():
            place, *steps = document, *name.split("__")
            for step in steps[:-1]:
                place = place[step]
            place[steps[-1]] = value
        return status, canonical_json(document) + b"\n"

    return tamper


def test_an_honest_server_is_believed_sealed_and_plain(server: Server, exact: PortableModel):
    texts = {asked(server.url, exact, sealed=sealed) for sealed in (False, True)}
    assert len(texts) == 1
    with between(server, lambda path, status, raw: (status, raw)) as url:
        assert asked(url, exact) in texts


@pytest.mark.parametrize(
    ("members", "check"),
    [
        ({"response__plain__token_ids": [5] * 9}, "response-digest"),
        ({"receipt__answer_tokens": 8}, "finish"),
        ({"receipt__finish": "stop"}, "signature"),
        ({"receipt__order_id": "00" * 32}, "order"),
        ({"order__decoding__seed": 1}, "order"),
        ({"evidence__quote__expires_at": 2**40}, "appraisal"),
        ({"model__weights_bytes": 5}, "response"),
        ({"response": {"sealed": "00"}}, "response-digest"),
        ({"keys__hpke": "00" * 32}, "keys-bound"),
    ],
)
def test_a_changed_receipt_is_refused_by_name(server: Server, exact: PortableModel, members, check):
    with between(server, changed(**members)) as url, pytest.raises(ReceiptError) as error:
        asked(url, exact)
    assert error.value.check == check


def test_the_receipt_of_another_answer_is_refused(server: Server, exact: PortableModel):
    other = own_order(exact.manifest.model_id)
    server.chat({"otr_order": json.loads(other.sent)})
    raw = server.receipt(other.order.id.hex())

    def tamper(path: str, status: int, said: bytes) -> Reply:
        return status, raw if "/receipts/" in path else said

    with between(server, tamper) as url, pytest.raises(ReceiptError) as error:
        asked(url, exact)
    assert error.value.check == "order"


@pytest.fixture(scope="module")
def answered(server: Server, exact: PortableModel) -> ReceiptFile:
    placed = own_order(exact.manifest.model_id, (1, 5, 6, 7), 9)
    return RemoteServer(server.url).receipt(placed)


@pytest.mark.parametrize("lie", ["none", "short", "long", "half", "turned", "double", "pair", "other"])
def test_leaves_that_a_receipt_does_not_commit_to_are_refused(
    server: Server, exact: PortableModel, answered: ReceiptFile, lie: str
):
    """Those of another answer of the same size too, and nodes of the tree in place of leaves."""
    other = RemoteServer(server.url).receipt(own_order(exact.manifest.model_id, (1, 5, 6, 7), 9))
    others = RemoteServer(server.url).leaves(other)

    def tamper(path: str, status: int, raw: bytes) -> Reply:
        pairs = [merkle.node_hash(raw[at : at + 32], raw[at + 32 : at + 64]) for at in range(0, len(raw) - 32, 64)]
        lies = {"none": b"", "short": raw[:-32], "long": raw + raw[-32:], "half": raw[:-16], "other": others}
        lies |= {"turned": raw[32:] + raw[:32], "double": raw[:32] + raw[:-32], "pair": b"".join(pairs)}
        return status, lies[lie]

    assert len(RemoteServer(server.url).leaves(answered)) == 32 * answered.receipt.trace.leaves == len(others)
    with between(server, tamper) as url, pytest.raises(ReceiptError) as error:
        RemoteServer(url).leaves(answered)
    assert error.value.check == "leaves"


@pytest.mark.parametrize("lie", ["keys", "model", "nonce", "evidence"])
def test_nothing_is_sealed_to_an_enclave_that_is_not_attested(server: Server, exact: PortableModel, lie: str):
    other = bytes(32) if lie == "model" else exact.manifest.model_id
    enclave = SimulatedEnclave(b"x" * 32, other, b"g" * 32, int(time.time()))
    sent: list[str] = []

    def tamper(path: str, status: int, raw: bytes) -> Reply:
        sent.append(path)
        document = json.loads(raw)
        if lie == "keys":
            document["keys"] = enclave.keys.to_json()
        elif lie == "model":
            document |= {"keys": enclave.keys.to_json(), "evidence": enclave.evidence()}
        elif lie == "nonce":
            document["evidence"]["gpu_report"] = enclave.evidence()["gpu_report"]
        else:
            document["evidence"] = {"kind": "nothing"}
        return status, json.dumps(document).encode()

    names = {"keys": "keys-bound", "model": "measured-model", "nonce": "gpu-nonce-bound", "evidence": "appraisal"}
    with between(server, tamper) as url, pytest.raises(ReceiptError) as error:
        asked(url, exact, sealed=True)
    assert error.value.check == names[lie]
    assert sent == ["/v1/attestation"]  # and no order


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ((200, b"not JSON"), ReceiptError, "response"),
        ((200, b"{}\n"), ReceiptError, "response"),
        ((302, b""), ServiceError, "302"),
        ((500, b"<html>\x1b[31m"), ServiceError, "without a reason"),
        ((503, b'{"error": {"message": "bad\\u001b[31m\\nthing", "code": "x"}}'), ServiceError, "bad?[31m?thing"),
        ((202, b"{}"), ServiceError, "no receipt"),
    ],
)
def test_a_server_that_does_not_answer_is_named(server: Server, exact: PortableModel, reply, kind, words):
    def tamper(path: str, status: int, raw: bytes) -> Reply:
        return reply if "/receipts/" in path else (status, raw)

    with between(server, tamper) as url, pytest.raises(kind) as error:
        asked(url, exact, wait_s=2 if reply[0] == 202 else 60)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/hostname",
            "127.0.0.1:8000",
            "http://",
            "http://host:0",
            "http://h:99999",
            "ftp://h",
            "http://h/path",
        ),
        *("http://u:p@h", "http://h?x=1", "http://[::1", ""),
    ],
)
def test_what_is_no_url_of_a_server_is_bad_input(url):
    with pytest.raises(InputError, match="URL"):
        RemoteServer(url)


def otr(*words: object) -> subprocess.CompletedProcess[str]:
    return command_line.otr("ask", *words)


def test_the_command_orders_checks_and_decodes(server: Server, roomy: Path, tmp_path: Path, exact: PortableModel):
    files = ("--order-out", tmp_path / "order.json", "--out", tmp_path / "receipt.json")
    files += ("--leaves", tmp_path / "leaves")
    found = otr(server.url, "--prompt", "w5 w6", "--model", roomy, "--max-tokens", 6, "--seal", "--json", *files)
    assert found.returncode == 0, found.stderr
    shown = json.loads(found.stdout)
    placed = load_order((tmp_path / "order.json").read_bytes())
    file = load_receipt_file((tmp_path / "receipt.json").read_bytes())
    assert (tmp_path / "leaves").read_bytes() == RemoteServer(server.url).leaves(file)
    now = int(time.time())
    again = check_answer(file, placed, policy=POLICY, as_of=now, nonces=OnceStore(), decode=exact.tokenizer.decode)
    assert (shown["answer"], shown["order_id"], shown["sealed"]) == (again.text, placed.order.id.hex(), True)
    assert shown["tee"] == "simulated"


def test_the_command_s_exit_status(server: Server, roomy: Path):
    common = ("--prompt", "w5 w6", "--model", roomy, "--max-tokens", 6)
    for words, status, said in (
        ((server.url, *common, "--require-hardware"), 1, "appraisal"),
        ((server.url, *common, "--model-id", "00" * 32), 1, "404"),
        (("http://127.0.0.1:1", *common), 2, "no answer"),
    ):
        found = otr(*words)
        assert found.returncode == status, found.stderr
        (line,) = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
        assert said in line
        assert not found.stdout
    with between(server, changed(receipt__states_root="00" * 32)) as url:
        found = otr(url, *common)
    assert found.returncode == 1
    assert "signature" in found.stderr


def test_an_answer_is_shown_and_kept_where_its_leaves_are_refused(server: Server, roomy: Path, tmp_path: Path):
    def tamper(path: str, status: int, raw: bytes) -> Reply:
        return (404, b"{}") if path.endswith("/leaves") else (status, raw)

    files = ("--out", tmp_path / "receipt.json", "--leaves", tmp_path / "leaves")
    with between(server, tamper) as url:
        found = otr(url, "--prompt", "w5 w6", "--model", roomy, "--max-tokens", 6, *files)
    assert (found.returncode, bool(found.stdout.strip())) == (1, True)
    assert "status 404" in found.stderr
    assert load_receipt_file((tmp_path / "receipt.json").read_bytes()).receipt.answer_tokens
    assert not (tmp_path / "leaves").exists()
