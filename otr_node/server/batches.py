"""The book of batches: which receipts of a journal lie in which batch, and which batches stand on chain.

One SQLite file beside the journal. A batch is written whole before it is sent, so that an operator
that is killed between the two sends the same batch again, and never one receipt in two. Whoever
operates writes it; the server reads it to tell clients the places of their receipts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from otr_core import merkle
from otr_core.dispute.duties import LeafPlace
from otr_core.errors import InputError, JournalError, one_line

_FILE, _LOCK = "batches.sqlite", "operator.lock"
_VERSION = 1
_TABLES = """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY, batch BLOB NOT NULL UNIQUE, root BLOB NOT NULL, stands INTEGER NOT NULL
);
CREATE TABLE leaves (
    order_id BLOB PRIMARY KEY, journalled INTEGER NOT NULL, batch INTEGER REFERENCES batches, at INTEGER,
    leaf BLOB, hash BLOB UNIQUE
) WITHOUT ROWID;
CREATE INDEX leaves_by_batch ON leaves (batch, at);
CREATE INDEX leaves_by_number ON leaves (journalled);
"""


@dataclass(frozen=True)
class PlannedLeaf:
    """A receipt of the journal, and what of it goes into a batch.

    Attributes:
        order_id: 32 bytes. journalled: its number in the journal. leaf: content of its leaf
            (``receipt_leaf``); empty: it goes into none.
    """

    order_id: bytes
    journalled: int
    leaf: bytes


@dataclass(frozen=True)
class PlannedBatch:
    """A batch of the book.

    Attributes:
        number: from 1 on. batch: its id at the court, 32 bytes. root: over its leaves. size: how many.
    """

    number: int
    batch: bytes
    root: bytes
    size: int


class BatchReader:
    """What the book in a server's state folder says; it writes nothing, and takes no lock.

    Raises:
        InputError: the folder has no book of this version, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        uri = f"{(folder / _FILE).resolve().as_uri()}?mode={'rwc' if isinstance(self, BatchBook) else 'ro'}"
        try:
            self._base = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise InputError(f"{folder}: found no usable book of batches ({one_line(error)})") from error
        if version != _VERSION and not (version == 0 and isinstance(self, BatchBook)):
            raise InputError(f"{folder}: found a book of batches of version {version}, expected {_VERSION}")

    def place(self, order_id: bytes) -> LeafPlace | None:
        """Where a receipt lies in a batch that stands on chain; None: in none yet."""
        return self._place("leaves.order_id", order_id)

    def place_of_leaf(self, hashed: bytes) -> LeafPlace | None:
        """The same by the hash of its leaf."""
        return self._place("leaves.hash", hashed)

    def _place(self, column: str, value: bytes) -> LeafPlace | None:
        words = (
            "SELECT batches.number, batches.batch, leaves.at FROM leaves JOIN batches ON batches.number = leaves.batch "
            f"WHERE {column} = ? AND batches.stands"
        )
        for number, batch, at in self._rows(words, value):
            leaves = [leaf for (leaf,) in self._rows("SELECT leaf FROM leaves WHERE batch = ? ORDER BY at", number)]
            return LeafPlace(batch, at, tuple(merkle.inclusion_proof(leaves, at)))
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, words: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._base.execute(words, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"book of batches: not usable ({one_line(error)})") from error


class BatchBook(BatchReader):
    """The book in a state folder, which one operator has for itself.

    Raises:
        InputError: another operator has it, or as ``BatchReader``.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            super().__init__(folder)
            self._prepare(folder)
        except BlockingIOError as error:
            os.close(self._lock)
            raise InputError(f"{folder}: found another operator at work here, expected one") from error
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self, folder: Path) -> None:
        try:
            for words in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._base.execute(f"PRAGMA {words}").fetchall()
            if self._base.execute("PRAGMA user_version").fetchone() == (0,):
                self._base.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise InputError(f"{folder}: not usable for a book of batches ({one_line(error)})") from error

    @property
    def last_journalled(self) -> int:
        """Number in the journal of the last receipt that the book knows; 0: of none."""
        ((last,),) = self._rows("SELECT coalesce(max(journalled), 0) FROM leaves")
        return int(last)

    def plan(self, batch: bytes, root: bytes, leaves: Sequence[PlannedLeaf]) -> None:
        """Write a batch down, all of it or nothing, before it is sent.

        Raises:
            JournalError: it is not written.
        """
        with self._whole():
            ((number,),) = self._rows("SELECT coalesce(max(number), 0) + 1 FROM batches")
            self._rows("INSERT INTO batches VALUES (?, ?, ?, 0)", number, batch, root)
            self._add(number, leaves)

    def pass_over(self, leaves: Sequence[PlannedLeaf]) -> None:
        """Write down that receipts go into no batch."""
        with self._whole():
            self._add(None, leaves)

    def _add(self, number: int | None, leaves: Sequence[PlannedLeaf]) -> None:
        at = 0
        for each in leaves:
            there = (number, at, each.leaf, merkle.leaf_hash(each.leaf)) if each.leaf else (None, None, None, None)
            self._rows("INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?)", each.order_id, each.journalled, *there)
            at += bool(each.leaf)

    def pending(self) -> list[PlannedBatch]:
        """Batches that are not known to stand, the oldest first."""
        words = (
            "SELECT number, batches.batch, root, (SELECT count(*) FROM leaves WHERE leaves.batch = batches.number) "
            "FROM batches WHERE NOT stands ORDER BY number"
        )
        return [PlannedBatch(*row) for row in self._rows(words)]

    def stands(self, number: int) -> None:
        """Write down that a batch stands on chain."""
        self._rows("UPDATE batches SET stands = 1 WHERE number = ?", number)

    def doubt_all(self) -> None:
        """The chain has changed its mind: whether a batch stands is to be seen again."""
        self._rows("UPDATE batches SET stands = 0")

    def close(self) -> None:
        super().close()
        os.close(self._lock)

    @contextlib.contextmanager
    def _whole(self) -> Any:
        self._rows("BEGIN IMMEDIATE")
        try:
            yield
            self._rows("COMMIT")
        except BaseException:
            with contextlib.suppress(JournalError):
                self._rows("ROLLBACK")
            raise
