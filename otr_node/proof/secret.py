"""What hides a commitment to a model: the seed of tails and salts, and how many proofs were made under it.

A tail has as many terms as columns are shown in all the proofs that the commitment says. One more
would tell something, so each is counted before it is begun, and the file grows by one byte.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from otr_core.encoding import canonical_json, parse_canonical, strict_hex
from otr_core.errors import InputError, in_file

_FORM, _USED = "otr-hiding-secret/1", b"."
SEED_BYTES = 32
_KEYS = ("seed", "commitment")  # of as many bytes
_MOST_BYTES = 2**16


@dataclass(frozen=True)
class HidingSecret:
    """The secret beside a commitment.

    Attributes:
        path: its file: one line of canonical JSON, then one byte for each proof. commitment: digest of the one that it
            hides.
    """

    path: Path
    seed: bytes
    commitment: bytes

    @classmethod
    def create(cls, path: Path, seed: bytes, commitment: bytes) -> HidingSecret:
        """A new one, of no proof.

        Raises:
            InputError: there is such a file, or none can be written.
        """
        line = canonical_json({"commitment": commitment.hex(), "format": _FORM, "seed": seed.hex()}) + b"\n"
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(line)
        except OSError as error:
            raise InputError(f"{path}: found no way to write it ({error.strerror}), expected a new file") from error
        return cls(path, seed, commitment)

    @classmethod
    def read(cls, path: Path, commitment: bytes) -> HidingSecret:
        """The secret of a commitment with this digest.

        Raises:
            InputError: there is none, or it is something else, or another commitment's.
        """
        with _opened(path, os.O_RDONLY, "rb") as file:
            seed, own, _ = _parsed(path, file.read(_MOST_BYTES))
        if own != commitment:
            raise InputError(f"{path}: found the secret of {own.hex()}, expected that of {commitment.hex()}")
        return cls(path, seed, own)

    def count(self, most: int) -> int:
        """Count one more proof.

        Args:
            most: proofs that the commitment says.

        Returns:
            How many were made before.

        Raises:
            InputError: as many were made; another commitment is needed.
        """
        with _opened(self.path, os.O_RDWR | os.O_APPEND, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            *_, used = _parsed(self.path, file.read(_MOST_BYTES) or b"")
            if used >= most:
                raise InputError(
                    f"{self.path}: found {used} proofs made, expected fewer than {most}: one more would tell "
                    "something of the weights; make another commitment (otr commit-model --hide)"
                )
            try:
                file.write(_USED)
                os.fsync(file.fileno())
            except OSError as error:
                raise InputError(f"{self.path}: found no way to count a proof ({error.strerror})") from error
        return used


def _opened(path: Path, flags: int, mode: str) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path, flags | os.O_NOFOLLOW), mode, buffering=0)
    except OSError as error:
        raise InputError(
            f"{path}: found none that can be used ({error.strerror}), expected the secret that otr commit-model "
            "--hide wrote beside the commitment"
        ) from error


def _parsed(path: Path, raw: bytes) -> tuple[bytes, bytes, int]:
    """The seed, the commitment's digest, and how many proofs were made."""
    with in_file(path):
        line, end, used = raw.partition(b"\n")
        found = parse_canonical(line + end, _FORM, ("commitment", "format", "seed"), what="hiding secret")
        if used.strip(_USED):
            raise InputError("hiding secret: found other bytes after its line, expected one dot a proof")
        seed, own = (strict_hex(found[name], length=SEED_BYTES, what=f"hiding secret {name}") for name in _KEYS)
        return seed, own, len(used)
