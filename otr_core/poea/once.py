"""What may happen once only: nonces that a client accepted, orders that an enclave answered.

A store is a SQLite file, so that several processes share it: of two that claim the same thing at
once, one gets it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from otr_core.errors import InputError, reported_as

_WAIT_S = 30.0
"""How long a claim waits for another process's, before it is an error."""


class OnceStore:
    """Claims that were made, kept in a file (``path``), or in memory alone (None).

    Raises:
        InputError: the file cannot be made, or is something else than a store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._name = "memory" if path is None else str(path)
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: found no folder {path.parent}, expected one to keep the store in")
        with reported_as(
            InputError, f"{path}: not usable as a store", sqlite3.Error, expected="a file of this program"
        ):
            self._base = sqlite3.connect(path or ":memory:", timeout=_WAIT_S, isolation_level=None)
            self._base.execute("CREATE TABLE IF NOT EXISTS claimed (what BLOB PRIMARY KEY) WITHOUT ROWID")

    def claim(self, what: bytes) -> bool:
        """Whether this is the first claim of ``what``, here or by any process with the same file.

        Raises:
            InputError: the file can no longer be read or written.
        """
        with reported_as(InputError, f"{self._name}: the claim was not written", sqlite3.Error):
            return self._base.execute("INSERT OR IGNORE INTO claimed (what) VALUES (?)", (what,)).rowcount == 1

    def holds(self, what: bytes) -> bool:
        """Whether ``what`` was claimed. Only ``claim`` decides between two at once."""
        with reported_as(InputError, f"{self._name}: not readable", sqlite3.Error):
            return self._base.execute("SELECT 1 FROM claimed WHERE what = ?", (what,)).fetchone() is not None

    def close(self) -> None:
        """Give the file back."""
        self._base.close()
