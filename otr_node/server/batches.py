"""The book of batches: which receipts of a journal lie in which batch, and which batches stand on chain.

One SQLite file beside the journal. A batch is written whole before it is sent, so that an operator
that is killed between the two sends the same batch again. No receipt may ever lie in two (that
convicts), and one that is demanded is published in a batch of its own: which those are is written
down here, too. Whoever operates writes it, for one account at one court; the server reads it to
tell clients the places of their receipts.
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
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import LeafPlace
from otr_core.errors import InputError, JournalError, one_line
from otr_core.poea.order import Domain

_FILE, _LOCK = "batches.sqlite", "operator.lock"
_STEPS = (
    """
CREATE TABLE owner (identity BLOB NOT NULL);
CREATE TABLE batches (
    number INTEGER PRIMARY KEY, batch BLOB NOT NULL UNIQUE, root BLOB NOT NULL, stands INTEGER NOT NULL
);
CREATE TABLE leaves (
    order_id BLOB PRIMARY KEY, journalled INTEGER NOT NULL, batch INTEGER REFERENCES batches, at INTEGER,
    leaf BLOB, hash BLOB UNIQUE
) WITHOUT ROWID;
CREATE INDEX leaves_by_batch ON leaves (batch, at);
CREATE INDEX leaves_by_number ON leaves (journalled);
""",
    """
CREATE TABLE waiting (journalled INTEGER PRIMARY KEY, order_id BLOB NOT NULL UNIQUE, key_id BLOB NOT NULL);
CREATE INDEX waiting_by_key ON waiting (key_id, journalled);
""",
)
"""What each version of the book adds to the one before; the first is version 1."""


@dataclass(frozen=True)
class PlannedLeaf:
    """A receipt of the journal, and what of it goes into a batch.

    Attributes:
        order_id: 32 bytes. journalled: its number in the journal. leaf: content of its leaf
            (``receipt_leaf``); empty: it goes into none. alone: it was published, and has a batch.
        waits_for: the key, 32 bytes, that the court does not know yet; empty: it waits for none.
    """

    order_id: bytes
    journalled: int
    leaf: bytes
    alone: bool = False
    waits_for: bytes = b""

    @property
    def together(self) -> bool:
        """Whether it goes into the batch that is made."""
        return bool(self.leaf) and not self.alone


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
        if version not in range(len(_STEPS) + 1) if isinstance(self, BatchBook) else version != len(_STEPS):
            raise InputError(f"{folder}: found a book of batches of version {version}, expected {len(_STEPS)}")

    @property
    def waiting(self) -> int:
        """Receipts that are in no batch because the court does not know their key."""
        ((count,),) = self._rows("SELECT count(*) FROM waiting")
        return int(count)

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

    Args:
        operator: its address. domain: of the court.

    Raises:
        InputError: another operator has it, it is of another account or court, or as ``BatchReader``.
    """

    def __init__(self, folder: Path, operator: str, domain: Domain) -> None:
        self._operator = operator
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            super().__init__(folder)
            self._prepare(folder, domain.separator + bytes.fromhex(operator.removeprefix("0x")))
        except BlockingIOError as error:
            os.close(self._lock)
            raise InputError(f"{folder}: found another operator at work here, expected one") from error
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self, folder: Path, identity: bytes) -> None:
        try:
            for words in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._base.execute(f"PRAGMA {words}").fetchall()
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            for at in range(version, len(_STEPS)):
                owned = "" if at else f"INSERT INTO owner VALUES (x'{identity.hex()}');"
                self._base.executescript(f"BEGIN; {_STEPS[at]} {owned} PRAGMA user_version={at + 1}; COMMIT;")
        except sqlite3.Error as error:
            raise InputError(f"{folder}: not usable for a book of batches ({one_line(error)})") from error
        if self._rows("SELECT identity FROM owner") != [(identity,)]:
            raise InputError(f"{folder}: found the batches of another account or court, expected those of this one")

    @property
    def last_journalled(self) -> int:
        """Number in the journal of the last receipt that the book knows; 0: of none."""
        words = "SELECT max(journalled) FROM leaves UNION ALL SELECT max(journalled) FROM waiting"
        return max(last or 0 for (last,) in self._rows(words))

    def waiting_for(self) -> list[bytes]:
        """Keys that receipts wait for."""
        return [key for (key,) in self._rows("SELECT DISTINCT key_id FROM waiting")]

    def waiting_of(self, key_id: bytes, most: int) -> list[tuple[bytes, int]]:
        """Order and number in the journal of receipts that wait for a key, the oldest first, at most so many."""
        words = "SELECT order_id, journalled FROM waiting WHERE key_id = ? ORDER BY journalled LIMIT ?"
        return [(order_id, number) for order_id, number in self._rows(words, key_id, most)]

    def plan(self, leaves: Sequence[PlannedLeaf], replaced: int | None = None) -> None:
        """Write down what becomes of receipts, all of it or nothing, before anything is sent: those that go
        together make one batch, and those that wait for a key are written down as waiting.

        Args:
            replaced: number of a planned batch that was of these receipts, and was never sent.

        Raises:
            JournalError: it is not written.
        """
        with self._whole():
            if replaced is not None:
                self._rows("DELETE FROM leaves WHERE batch = ?", replaced)
                self._rows("DELETE FROM batches WHERE number = ?", replaced)
            together = [each.leaf for each in leaves if each.together]
            batch = self._batch(merkle.root(together), stands=False) if together else None
            at = 0
            for each in leaves:
                self._rows("DELETE FROM waiting WHERE order_id = ?", each.order_id)
                if each.waits_for:
                    self._rows("INSERT INTO waiting VALUES (?, ?, ?)", each.journalled, each.order_id, each.waits_for)
                    continue
                hashed = merkle.leaf_hash(each.leaf) if each.leaf else None
                place: tuple[Any, ...] = (None, None)
                if each.together:
                    place, at = (batch, at), at + 1
                elif hashed is not None:
                    place = (self._batch(hashed, stands=True), 0)
                row = (each.order_id, each.journalled, *place, each.leaf or None, hashed)
                self._rows("INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?)", *row)

    def _batch(self, root: bytes, *, stands: bool) -> int:
        ((number,),) = self._rows("SELECT coalesce(max(number), 0) + 1 FROM batches")
        batch = batch_id(self._operator, root)
        self._rows("INSERT INTO batches VALUES (?, ?, ?, ?)", number, batch, root, int(stands))
        return int(number)

    def leaves_of(self, number: int) -> list[PlannedLeaf]:
        """The receipts of a batch, in its order."""
        words = "SELECT order_id, journalled, leaf FROM leaves WHERE batch = ? ORDER BY at"
        return [PlannedLeaf(*row) for row in self._rows(words, number)]

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
