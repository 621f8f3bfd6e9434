"""The journal: every order that a server begins, and every receipt before anybody is sent it.

One SQLite file with a write-ahead log, synchronised in full: what a future says is written survives
the loss of power. One thread writes, and takes all that waits into one transaction, so that many
answers share what a commit costs. One order is begun once and has one receipt: both are keys of
their tables.

What commits receipts in batches (a process of its own) follows ``JournalReader.receipts_after``:
they are numbered in the order in which they were written, without holes, and none is ever changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import InputError, JournalError, one_line

_FILE, _LOCK = "journal.sqlite", "lock"
_AT_ONCE = 256  # writes in one transaction
_STEPS = (
    """
CREATE TABLE orders (
    order_id BLOB PRIMARY KEY, sent BLOB NOT NULL, begun_by BLOB NOT NULL, attempts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE receipts (
    number INTEGER PRIMARY KEY, order_id BLOB NOT NULL UNIQUE REFERENCES orders, file BLOB NOT NULL
);
""",
    """
CREATE TABLE leaves (
    order_id BLOB PRIMARY KEY REFERENCES receipts (order_id), hashes BLOB NOT NULL
) WITHOUT ROWID;
""",
)
"""What each version of the journal adds to the one before; the first is version 1."""

Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True)
class Begun:
    """An order that was begun.

    Attributes:
        sent: the order file, as it came. begun_by: 32-byte digest of who began it (``Desk.identity``).
        attempts: how often a server has started to answer it.
    """

    sent: bytes
    begun_by: bytes
    attempts: int


@dataclass(frozen=True)
class Journalled:
    """A receipt in the journal.

    Attributes:
        number: from 1 on, in the order of writing. order_id: 32 bytes. file: the receipt file's bytes.
    """

    number: int
    order_id: bytes
    file: bytes


class JournalReader:
    """What the journal in ``folder`` holds, read beside the server that writes it, or when none does.

    It takes no lock and writes nothing of the journal; each call sees all that is written by then.

    Attributes:
        folder: the state folder.

    Raises:
        InputError: the folder holds no journal of this version, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reading = threading.Lock()
        with _usable(folder, sqlite3.Error):
            self._reader = _connect(f"{(folder / _FILE).resolve().as_uri()}?mode=ro")
            _check_version(self._reader, folder, (len(_STEPS),))

    def begun(self, order_id: bytes) -> Begun | None:
        """An order that was begun, with or without a receipt; None if it never was."""
        rows = self._rows("SELECT sent, begun_by, attempts FROM orders WHERE order_id = ?", (order_id,))
        return Begun(*rows[0]) if rows else None

    def receipt(self, order_id: bytes) -> bytes | None:
        """The receipt file of an order, if it has one."""
        return self._one("SELECT file FROM receipts WHERE order_id = ?", order_id)

    def leaves(self, order_id: bytes) -> bytes | None:
        """The hashes of the leaves of an answer's states, as ``dump_leaves`` joins them; None for a
        receipt that was written without."""
        return self._one("SELECT hashes FROM leaves WHERE order_id = ?", order_id)

    def unanswered(self) -> list[Begun]:
        """All orders that were begun and have no receipt."""
        words = "SELECT sent, begun_by, attempts FROM orders WHERE order_id NOT IN (SELECT order_id FROM receipts)"
        return [Begun(*row) for row in self._rows(words, ())]

    def receipts_after(self, number: int, most: int = 1000) -> list[Journalled]:
        """Receipts with numbers beyond ``number``, at most so many, in the order of writing."""
        words = "SELECT number, order_id, file FROM receipts WHERE number > ? ORDER BY number LIMIT ?"
        return [Journalled(*row) for row in self._rows(words, (number, most))]

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            self._reader.close()

    def _one(self, words: str, order_id: bytes) -> bytes | None:
        rows = self._rows(words, (order_id,))
        return bytes(rows[0][0]) if rows else None

    def _rows(self, words: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._reading:
            try:
                return self._reader.execute(words, values).fetchall()
            except sqlite3.Error as error:
                raise JournalError(f"journal: not readable ({one_line(error)})") from error


class Journal(JournalReader):
    """The journal in ``folder``, which one server has for itself.

    Attributes:
        spent: called with the seconds that each commit took.

    Raises:
        InputError: the folder cannot be written, another server has it, or it holds something else.
    """

    def __init__(self, folder: Path) -> None:
        self.spent: Callable[[float], None] = lambda seconds: None
        with _usable(folder, OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise InputError(
                f"{folder}: found another server at work here, expected a state folder of its own"
            ) from error
        try:
            with _usable(folder, OSError, sqlite3.Error):
                os.close(os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600))
                self._writer = _connect((folder / _FILE).resolve().as_uri())
                _prepare(self._writer, folder)
            super().__init__(folder)
        except BaseException:
            os.close(self._lock)
            raise
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._write, name="otr-journal", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded, and the thread that writes is there."""
        return self._thread.is_alive() and not self._failed

    @property
    def durability(self) -> tuple[str, int]:
        """Mode of the write-ahead log, and how the writer synchronises (SQLite's ``synchronous``)."""
        mode, level = (self._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))
        return str(mode), int(level)

    def begin(self, order_id: bytes, sent: bytes, begun_by: bytes) -> Future[bool]:
        """Write that an order is begun. The future says whether it is the first time: if not, it is
        not to be answered.

        Raises (in the future):
            JournalError: it was not written.
        """
        row = (order_id, sent, begun_by)
        words = "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, 1)"
        return self._later(lambda base: base.execute(words, row).rowcount == 1)

    def begin_again(self, order_id: bytes) -> Future[bool]:
        """Write that a server starts once more to answer an order that was begun."""
        words = "UPDATE orders SET attempts = attempts + 1 WHERE order_id = ?"
        return self._later(lambda base: base.execute(words, (order_id,)).rowcount == 1)

    def add_receipt(self, order_id: bytes, file: bytes, leaves: bytes | None = None) -> Future[int]:
        """Write the receipt of an order that was begun, and the hashes of the leaves of its states; the
        future gives the receipt's number.

        Raises (in the future):
            JournalError: it was not written: the disk is full, the order was not begun, or has a
                receipt.
        """
        words = "INSERT INTO receipts SELECT coalesce(max(number), 0) + 1, ?, ? FROM receipts RETURNING number"

        def work(base: sqlite3.Connection) -> int:
            (number,) = base.execute(words, (order_id, file)).fetchone()
            if leaves is not None:
                base.execute("INSERT INTO leaves VALUES (?, ?)", (order_id, leaves))
            return int(number)

        return self._later(work)

    def close(self) -> None:
        """Write what waits, and give the folder back."""
        self._queue.put(None)
        self._thread.join()
        super().close()
        self._writer.close()
        os.close(self._lock)

    def _later(self, work: Work) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # what is to be written cannot be taken back
        self._queue.put((work, future))
        return future

    def _write(self) -> None:
        last = False
        while not last:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(waiting) < _AT_ONCE:
                    waiting.append(self._queue.get_nowait())
            last = None in waiting
            works = [each for each in waiting if each is not None]
            # One that cannot be written must not take the others with it: then each goes alone.
            if works and not self._commit(works) and len(works) > 1:
                for each in works:
                    self._commit([each], last_word=True)

    def _commit(self, works: list[tuple[Work, Future[Any]]], *, last_word: bool = False) -> bool:
        start, made = time.monotonic(), []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            made = [work(self._writer) for work, _ in works]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            if last_word or len(works) == 1:
                # An order that has its receipt, or was never begun, says nothing about the disk.
                self._failed = self._failed or not isinstance(error, sqlite3.IntegrityError)
                for _, future in works:
                    future.set_exception(JournalError(f"journal: not written ({one_line(error)})"))
            return False
        self._failed = False
        self.spent(time.monotonic() - start)
        for (_, future), value in zip(works, made, strict=True):
            future.set_result(value)
        return True


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)


def _check_version(base: sqlite3.Connection, folder: Path, expected: Sequence[int]) -> int:
    (version,) = base.execute("PRAGMA user_version").fetchone()
    if version not in expected:
        raise InputError(f"{folder}: found a journal of version {version}, expected {len(_STEPS)}")
    return int(version)


def _prepare(base: sqlite3.Connection, folder: Path) -> None:
    """Make the tables, those that an older journal lacks too."""
    version = _check_version(base, folder, range(len(_STEPS) + 1))
    for words in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        base.execute(f"PRAGMA {words}").fetchall()
    for at in range(version, len(_STEPS)):
        base.executescript(f"BEGIN; {_STEPS[at]} PRAGMA user_version={at + 1}; COMMIT;")


@contextlib.contextmanager
def _usable(folder: Path, *causes: type[Exception]) -> Iterator[None]:
    try:
        yield
    except causes as error:
        raise InputError(f"{folder}: not usable as a state folder ({one_line(error)})") from error
