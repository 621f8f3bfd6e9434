"""Signed transactions, kept before they are sent: whoever is killed in between finds them again.

A transaction sent twice is one transaction; one that was made twice, such as a bond, is two. So a
process that starts again first sees to what its predecessor has signed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from otr_core.errors import InputError, NodeError, reported_as


class Outbox:
    """A file of transactions that wait for their receipts. One process at a time uses it.

    Args:
        path: SQLite file, made where there is none.

    Raises:
        InputError: the file is of another kind, or another process uses it. NodeError: ``disk``, by every
            call: the file cannot be written now. Nothing is sent that could not be kept.
    """

    def __init__(self, path: Path) -> None:
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
            self._file.execute("CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT)")
            # The lock is taken now and kept: two processes with one account would take each other's numbers.
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute("COMMIT")

    def put(self, sender: str, nonce: int, raw: bytes) -> None:
        """Keep a signed transaction; the latest of the same number counts."""
        self._write("INSERT INTO sent VALUES (?, ?, ?)", (sender, nonce, raw))

    def done(self, sender: str, nonce: int) -> None:
        """Forget the transactions of this number."""
        self._write("DELETE FROM sent WHERE sender = ? AND nonce = ?", (sender, nonce))

    def waiting(self) -> list[tuple[str, int, bytes]]:
        """Sender, number and bytes of what is kept, in the order of the numbers."""
        rows = self._file.execute("SELECT sender, nonce, raw FROM sent ORDER BY nonce, rowid").fetchall()
        return [(str(sender), int(nonce), bytes(raw)) for sender, nonce, raw in rows]

    def known(self, name: str) -> str | None:
        """What was noted under ``name``; None: nothing."""
        row = self._file.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note a value under a name, for later processes too."""
        self._write("INSERT OR REPLACE INTO known VALUES (?, ?)", (name, value))

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._file.execute(statement, values)
        except sqlite3.Error as error:
            raise NodeError("disk", f"a state file that cannot be written ({error})", "room for it") from error

    def close(self) -> None:
        """Let another process use the file; nothing can be kept any more."""
        self._file.close()
