"""Signed transactions, kept before they are sent: whoever is killed in between finds them again.

A transaction sent twice is one transaction; one that was made twice, such as a bond, is two. So a
process that starts again first sees to what its predecessor has signed.

Two chains can have one number: a node for tests that is started anew makes another chain of the same.
What was kept for a chain is kept under the hash of its first block, and is neither sent to another nor
forgotten there: it could still be mined where it was signed for.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from otr_core.errors import InputError, NodeError, reported_as


class Outbox:
    """A file of transactions that wait for their receipts. One process at a time uses it.

    Args:
        path: SQLite file, made where there is none.

    Attributes:
        path: as given.

    Raises:
        InputError: the file is of another kind, or another process uses it. NodeError: ``disk``, by every
            call: the file cannot be written now. Nothing is sent that could not be kept.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._chain = path, ""
        with reported_as(
            InputError,
            f"--state: {path} cannot be used",
            sqlite3.Error,
            expected="a state file that no other process uses",
        ):
            self._file = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("CREATE TABLE IF NOT EXISTS sent (sender TEXT, nonce INTEGER, raw BLOB)")
            for column in ("chain", "behind"):  # which files of before do not have
                with suppress(sqlite3.OperationalError):
                    self._file.execute(f"ALTER TABLE sent ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
            self._file.execute("CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT)")
            # The lock is taken now and kept: two processes with one account would take each other's numbers.
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute("COMMIT")

    def stand_on(self, first: str) -> int:
        """Keep, show and forget from now on what belongs to the chain whose first block has the hash
        ``first`` ("": a node that does not show it). What a file of before does not say of, belongs to it.

        Returns:
            how many transactions of other chains the file keeps.
        """
        self._chain = first
        rows = self._file.execute("SELECT chain FROM sent").fetchall()
        if first and ("",) in rows:
            self._write("UPDATE sent SET chain = ? WHERE chain = ''", (first,))
        return sum(chain not in ("", first) for (chain,) in rows)

    def put(self, sender: str, nonce: int, raw: bytes, behind: str = "") -> None:
        """Keep a signed transaction; the latest of the same number counts.

        Args:
            behind: hash of the latest block when it was signed.
        """
        self._write("INSERT INTO sent VALUES (?, ?, ?, ?, ?)", (sender, nonce, raw, self._chain, behind))

    def done(self, sender: str, nonce: int) -> None:
        """Forget the transactions of this number."""
        self._write("DELETE FROM sent WHERE sender = ? AND nonce = ? AND chain = ?", (sender, nonce, self._chain))

    def waiting(self) -> list[tuple[str, int, bytes]]:
        """Sender, number and bytes of what is kept, in the order of the numbers."""
        own = "SELECT sender, nonce, raw FROM sent WHERE chain = ? ORDER BY nonce, rowid"
        rows = self._file.execute(own, (self._chain,)).fetchall()
        return [(str(sender), int(nonce), bytes(raw)) for sender, nonce, raw in rows]

    def behind(self, raw: bytes) -> str:
        """Hash of the latest block when a kept transaction was signed; "" where nobody has said it."""
        own = "SELECT behind FROM sent WHERE raw = ? AND chain = ?"
        row = self._file.execute(own, (raw, self._chain)).fetchone()
        return "" if row is None else str(row[0])

    def known(self, name: str) -> str | None:
        """What was noted under ``name``; None: nothing."""
        row = self._file.execute("SELECT value FROM known WHERE name = ?", (self._own(name),)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note a value under a name, for later processes too."""
        self._write("INSERT OR REPLACE INTO known VALUES (?, ?)", (self._own(name), value))

    def _own(self, name: str) -> str:
        return f"{self._chain}:{name}" if self._chain else name

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._file.execute(statement, values)
        except sqlite3.Error as error:
            raise NodeError("disk", f"a state file that cannot be written ({error})", "room for it") from error

    def close(self) -> None:
        """Let another process use the file; nothing can be kept any more."""
        self._file.close()
