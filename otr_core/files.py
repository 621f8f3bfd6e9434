"""Files written whole, files checked by hash, and where the project's own data files lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from otr_core.errors import HashMismatchError, InputError, MissingDataError


def data_folder() -> Path:
    """The folder of the project's data files.

    An installed wheel has them beside this module; a checkout has them in ``data/``.
    """
    packed = Path(__file__).parent / "data"
    return packed if packed.is_dir() else Path(__file__).parents[1] / "data"


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """A temporary path; it replaces ``path`` when the block ends well and vanishes when it fails.

    Raises:
        InputError: the folder cannot be written, or ``path`` is one. OSError: the disk is full; names the file.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: found a folder, expected the name of a file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot write here ({error.strerror}); make the folder writable") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        os.replace(part, target)
    except OSError as error:
        error.filename = error.filename or str(target)  # a write alone does not know where it writes
        raise
    finally:
        part.unlink(missing_ok=True)


def check_target(path: Path | None) -> None:
    """Refuse, before anything is computed for it, a file that could not be written.

    Raises:
        InputError: ``path`` is a folder, or lies in no folder. None is no file to be written.
    """
    if path is not None and path.is_dir():
        raise InputError(f"{path}: found a folder, expected the name of a file to write")
    if path is not None and not path.parent.is_dir():
        raise InputError(f"{path}: found no folder {path.parent}, expected one to write into; make it first")


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def read_input(path: Path | str, *, what: str, limit_bytes: int = 64 * 2**20) -> bytes:
    """Bytes of a user's file.

    Args:
        what: what the file should be, for the error message.
        limit_bytes: larger files are refused unread (nothing this project reads as input is
            larger).

    Raises:
        InputError: absent, a folder, a pipe or device, unreadable or too large.
    """
    source = Path(path)
    try:
        # A pipe that nobody writes to would block the opening itself, and a device never ends.
        with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise InputError(f"{source}: found no regular file, expected {what}; copy what it gives into a file")
            data = stream.read(limit_bytes + 1)
            if len(data) > limit_bytes:
                size = max(state.st_size, len(data))
                raise InputError(f"{source}: found {size} bytes, expected {what} of at most {limit_bytes} bytes")
            return data
    except ValueError as error:  # a name with a zero byte in it
        raise InputError(f"{str(source)!a}: cannot be read ({error}), expected {what}") from error
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}), expected {what}") from error


def sha256_file(path: Path | str) -> str:
    """Lower-case hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(path: Path | str, expected: str, *, mend: str) -> Path:
    """``path``, after checking that it exists and has the ``expected`` SHA-256 (hex).

    Raises:
        MissingDataError: no such file.
        HashMismatchError: truncated or altered.
    """
    source = Path(path)
    if not source.is_file():
        raise MissingDataError(f"{source}: not here; get it with: {mend}")
    found = sha256_file(source)
    if found != expected.lower():
        raise HashMismatchError(source, expected.lower(), found, mend)
    return source
