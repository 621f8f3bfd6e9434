"""What may happen once happens once, whoever asks at the same time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from otr_core.errors import InputError, ReceiptError
from otr_core.poea import OnceStore, check_answer, load_receipt_file
from tests.helpers.receipts import ALLOW, NOW, ordered, signed

PLACED = ordered()
RAW = signed(PLACED).dump()

PROCESS = """
import sys
from pathlib import Path
from otr_core.errors import ReceiptError
from otr_core.poea import OnceStore, load_receipt_file, load_order, check_answer
from otr_core.poea.tee import EvidencePolicy
store, order, raw = (Path(name) for name in sys.argv[1:4])
file, placed, nonces = load_receipt_file(raw.read_bytes()), load_order(order.read_bytes()), OnceStore(store)
print("ready", flush=True)
sys.stdin.readline()
try:
    check_answer(file, placed, policy=EvidencePolicy(allow_simulated=True), as_of=int(sys.argv[4]), nonces=nonces)
    print("accepted")
except ReceiptError as error:
    print(error.check)
"""


def test_a_claim_holds_once_and_for_all_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    for store, second in ((OnceStore(path), OnceStore(path)), ((memory := OnceStore()), memory)):
        assert not store.holds(b"a")
        assert store.claim(b"a")
        assert store.holds(b"a")
        assert not store.claim(b"a")
        assert not second.claim(b"a")
        assert second.claim(b"")
        store.close()
        with pytest.raises(InputError, match="was not written"):
            store.claim(b"b")
    assert OnceStore(path).holds(b"a")
    assert not OnceStore(path).claim(b"a")
    assert OnceStore().claim(b"a")  # memory alone is nobody else's


def test_of_two_verifications_at_once_in_threads_one_accepts(tmp_path: Path) -> None:
    path, many = tmp_path / "store.sqlite", 8
    OnceStore(path).close()
    barrier = Barrier(many)

    def verify(_: int) -> str:
        nonces, file = OnceStore(path), load_receipt_file(RAW)
        barrier.wait()
        try:
            check_answer(file, PLACED, policy=ALLOW, as_of=NOW, nonces=nonces)
        except ReceiptError as error:
            return error.check
        finally:
            nonces.close()
        return "accepted"

    with ThreadPoolExecutor(many) as pool:
        found = list(pool.map(verify, range(many)))
    assert sorted(found) == ["accepted"] + ["freshness"] * (many - 1)


def test_of_three_processes_at_once_one_accepts(tmp_path: Path) -> None:
    order, raw = tmp_path / "order.json", tmp_path / "receipt.json"
    order.write_bytes(PLACED.dump())
    raw.write_bytes(RAW)
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "store.sqlite"), str(order), str(raw), str(NOW)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:  # all have read their files before any may claim
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0].strip() for process in running) == ["accepted", "freshness", "freshness"]


def test_an_answer_that_fails_another_check_claims_nothing() -> None:
    nonces, other = OnceStore(), ordered(number=2)
    with pytest.raises(ReceiptError):
        check_answer(load_receipt_file(RAW), other, policy=ALLOW, as_of=NOW, nonces=nonces)
    assert not nonces.holds(PLACED.order.nonce)
    assert not nonces.holds(other.order.nonce)


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and long enough to be seen as none\n" * 100)
    for path, named in ((tmp_path / "text", "not usable"), (tmp_path, "not usable"), (tmp_path / "no" / "s", "folder")):
        with pytest.raises(InputError, match=named) as caught:
            OnceStore(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE claimed (something INTEGER)")
    store = OnceStore(tmp_path / "other")
    with pytest.raises(InputError, match="not written"):
        store.claim(b"a")
    with pytest.raises(InputError, match="not readable"):
        store.holds(b"a")
