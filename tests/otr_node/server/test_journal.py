"""What the journal says is written is there, after a kill too; nothing is written twice."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otr_core.errors import InputError, JournalError
from otr_node.server.journal import Journal, JournalReader

ME = b"m" * 32


def number(count: int) -> bytes:
    return count.to_bytes(32, "big")


@pytest.fixture
def journal(tmp_path: Path):
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


def test_an_order_is_begun_once_and_has_one_receipt(journal: Journal):
    assert journal.begun(number(1)) is None
    assert journal.begin(number(1), b"sent", ME).result()
    assert not journal.begin(number(1), b"other", ME).result()
    begun = journal.begun(number(1))
    assert begun is not None
    assert (begun.sent, begun.begun_by, begun.attempts) == (b"sent", ME, 1)
    assert journal.unanswered() == [begun]
    assert journal.receipt(number(1)) is None
    assert journal.add_receipt(number(1), b"receipt").result() == 1
    with pytest.raises(JournalError, match="not written"):
        journal.add_receipt(number(1), b"another").result()
    assert journal.receipt(number(1)) == b"receipt"
    assert journal.unanswered() == []
    with pytest.raises(JournalError, match="not written"):
        journal.add_receipt(number(2), b"of no order").result()
    assert journal.healthy


def test_receipts_are_numbered_without_holes_also_where_some_fail(journal: Journal):
    orders = [journal.begin(number(count), b"", ME) for count in range(400)]
    wrong = [journal.add_receipt(number(count + 1000), b"") for count in range(0, 400, 7)]
    good = [journal.add_receipt(number(count), bytes([count % 256])) for count in range(400)]
    assert all(order.result() for order in orders)
    assert all(isinstance(each.exception(), JournalError) for each in wrong)
    assert [each.result() for each in good] == list(range(1, 401))
    assert [each.number for each in journal.receipts_after(0)] == list(range(1, 401))
    last = journal.receipts_after(398)
    assert [(each.number, each.order_id, each.file) for each in last] == [
        (399, number(398), bytes([398 % 256])),
        (400, number(399), bytes([399 % 256])),
    ]
    assert len(journal.receipts_after(0, 10)) == 10


def test_whoever_stops_waiting_does_not_stop_the_writing(journal: Journal):
    futures = [journal.begin(number(count), b"", ME) for count in range(50)]
    assert not any(future.cancel() for future in futures)
    assert all(future.result() for future in futures)
    assert journal.healthy


def test_attempts_are_counted(journal: Journal):
    journal.begin(number(1), b"", ME).result()
    assert journal.begin_again(number(1)).result()
    assert not journal.begin_again(number(2)).result()
    (begun,) = journal.unanswered()
    assert begun.attempts == 2


def test_a_folder_is_one_server_s_and_is_given_back(tmp_path: Path):
    first = Journal(tmp_path / "state")
    first.begin(number(1), b"sent", ME)
    with pytest.raises(InputError, match="another server"):
        Journal(tmp_path / "state")
    first.close()
    second = Journal(tmp_path / "state")
    assert second.begun(number(1)) is not None
    second.close()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path):
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(InputError, match="state folder"):
        Journal(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="state folder"):
        Journal(tmp_path / "file")
    newer = tmp_path / "newer"
    Journal(newer).close()
    with sqlite3.connect(newer / "journal.sqlite") as base:
        base.execute("PRAGMA user_version=3")
    for opened in (Journal, JournalReader):
        with pytest.raises(InputError, match="version 3, expected 2"):
            opened(newer)


def test_a_folder_that_is_refused_is_let_go_of(tmp_path: Path):
    """By whoever asked in vain, too: neither a lock nor an open file is left."""

    def open_here() -> list[str]:
        """Other threads of this process open and close files of their own."""
        with os.scandir("/proc/self/fd") as entries:
            found = []
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append(os.readlink(entry.path))
        return sorted(each for each in found if each.startswith(str(tmp_path)))

    held, newer = Journal(tmp_path / "held"), tmp_path / "newer"
    Journal(newer).close()
    with sqlite3.connect(newer / "journal.sqlite") as base:
        base.execute("PRAGMA user_version=3")
    base.close()
    gc.collect()
    before = open_here()
    for _ in range(3):
        for folder, words in ((tmp_path / "held", "another server"), (newer, "version 3")):
            with pytest.raises(InputError, match=words):
                Journal(folder)
    gc.collect()
    assert open_here() == before
    assert before
    held.close()


def test_leaves_are_written_with_their_receipt_or_not_at_all(journal: Journal):
    for count in (1, 2, 3):
        journal.begin(number(count), b"", ME).result()
    assert journal.add_receipt(number(1), b"one", b"leaves").result() == 1
    assert journal.add_receipt(number(2), b"two").result() == 2
    for again in (number(1), number(4)):
        with pytest.raises(JournalError, match="not written"):
            journal.add_receipt(again, b"other", b"other").result()
    assert [journal.leaves(number(count)) for count in (1, 2, 3, 4)] == [b"leaves", None, None, None]
    assert journal.add_receipt(number(3), b"three", b"").result() == 3
    assert journal.leaves(number(3)) == b""


def test_a_journal_of_before_is_gone_on_with(tmp_path: Path):
    """As it was written when receipts were kept without leaves."""
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as base:
        base.executescript("DROP TABLE leaves; PRAGMA user_version=1;")
        base.execute("INSERT INTO orders VALUES (?, ?, ?, 1)", (number(1), b"sent", ME))
        base.execute("INSERT INTO receipts VALUES (1, ?, ?)", (number(1), b"receipt"))
    with pytest.raises(InputError, match="version 1, expected 2"):
        JournalReader(tmp_path)
    journal = Journal(tmp_path)
    assert (journal.receipt(number(1)), journal.leaves(number(1))) == (b"receipt", None)
    journal.begin(number(2), b"", ME).result()
    assert journal.add_receipt(number(2), b"", b"leaves").result() == 2
    assert journal.leaves(number(2)) == b"leaves"
    journal.close()


def test_a_commit_waits_for_the_disk(journal: Journal):
    assert journal.durability == ("wal", 2)  # 2: FULL


WRITER = """
import sys
from pathlib import Path
from otr_node.server.journal import Journal
journal = Journal(Path(sys.argv[1]))
first = int(sys.argv[2])
for count in range(first, first + 10**9):
    name = count.to_bytes(32, "big")
    journal.begin(name, b"sent", bytes(32))
    journal.add_receipt(name, b"receipt %d" % count).result()
    print(count, flush=True)
"""


def test_nothing_that_was_said_to_be_written_is_lost_by_a_kill(tmp_path: Path):
    said: list[int] = []
    for turn in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "state"), str(10**9 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said.append(int(writer.stdout.readline()))
            time.sleep(0.01 + 0.03 * turn)
            writer.kill()
            said += [int(line) for line in writer.stdout.read().splitlines() if line.strip()]
    journal = Journal(tmp_path / "state")
    kept = journal.receipts_after(0, 10**6)
    assert [each.number for each in kept] == list(range(1, len(kept) + 1))
    assert {number(count) for count in said} <= {each.order_id for each in kept}
    assert len(said) >= 6
    assert len(kept) - len(said) <= 6  # the one of each turn that was written and not yet said
    journal.close()


def test_a_reader_follows_beside_a_writer_that_is_killed(tmp_path: Path):
    """It takes no lock: the next writer has the folder while it reads. What it has seen is all there is,
    numbered without holes, whenever it looks."""
    folder, seen = tmp_path / "state", list[bytes]()

    def look(reader: JournalReader) -> None:
        new = reader.receipts_after(len(seen), 50)
        assert [each.number for each in new] == list(range(len(seen) + 1, len(seen) + len(new) + 1))
        seen.extend(each.order_id for each in new)

    reader = None
    for turn in range(3):
        command = [sys.executable, "-c", WRITER, str(folder), str(10**9 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = number(int(writer.stdout.readline()))
            reader = reader or JournalReader(folder)
            while said not in seen:
                look(reader)
            before = len(seen)
            while len(seen) < before + 20:
                assert writer.poll() is None
                look(reader)
            writer.kill()
    assert reader is not None
    while reader.receipts_after(len(seen), 1):
        look(reader)
    journal = Journal(folder)
    assert [each.order_id for each in journal.receipts_after(0, 10**6)] == seen
    journal.close()
    reader.close()
    late = JournalReader(folder)  # nobody writes, and the log is folded in
    kept = [each.order_id for each in late.receipts_after(0, 10**6)]
    assert kept[: len(seen)] == seen
    # The killed writer may have written one whole in the log without entering it in the log's index, which all
    # who had the files open went by. It was never said to be written; reading the log anew brings it back.
    assert len(kept) - len(seen) <= 1
    late.close()


def test_what_is_closed_is_not_read(tmp_path: Path):
    journal = Journal(tmp_path)
    reader = JournalReader(tmp_path)
    for each in (reader, journal):
        each.close()
        with pytest.raises(JournalError, match="not readable"):
            each.receipt(number(1))
    assert not journal.healthy


def test_a_reader_makes_no_journal(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="state folder"):
            JournalReader(folder)
    assert not list(tmp_path.iterdir())


FULL = """
import os, resource, sys
from pathlib import Path
from otr_core.errors import JournalError
from otr_node.server.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.begin(bytes(32), b"sent", bytes(32)).result()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
try:
    for count in range(1, 100):
        journal.begin(count.to_bytes(32, "big"), b"x" * 4000, bytes(32)).result()
except JournalError as error:
    print(str(error), journal.healthy, count)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(journal.begin(count.to_bytes(32, "big"), b"again", bytes(32)).result(), journal.healthy)
print(journal.add_receipt(bytes(32), b"receipt").result(), len(journal.unanswered()) == count)
"""


def test_a_full_disk_is_said_and_survived(tmp_path: Path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "state")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    full, again, after = run.stdout.splitlines()
    assert full.startswith("journal: not written")
    assert " False " in full
    assert again == "True True"
    assert after == "1 True"


def test_its_files_are_for_its_owner(tmp_path: Path):
    before = os.umask(0)
    try:
        journal = Journal(tmp_path / "state")
        journal.begin(number(1), b"sent", ME).result()
        for path in (tmp_path / "state", *(tmp_path / "state").iterdir()):
            assert path.stat().st_mode & 0o077 == 0, path
        journal.close()
    finally:
        os.umask(before)
