"""Accounts' keys in encrypted files (Web3 Secret Storage, version 3), and where their passwords come
from: a file, the environment or the keyboard, never a command line, which everybody on a machine can
read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import typer
from eth_account import Account
from eth_account.signers.local import LocalAccount

from otr_core.encoding import parse_json
from otr_core.errors import InputError, NodeError, OtrError, one_line
from otr_core.files import read_input, write_bytes

VARIABLE = "OTR_PASSWORD"
"""Environment variable with the password of the key file."""
_MOST_WORK = 2**20
"""Most rounds that a key file may ask for: the usual 2^18 take a second and 256 MB."""
_MOST_BYTES = 64
"""Most bytes that a key file may have derived from the password; 32 are used."""


def read_password(file: Path | None) -> str:
    """The password: the first line of ``file``, or of the environment, or typed.

    Raises:
        NodeError: ``password``: none of the three.
    """
    if file is not None:
        lines = read_input(file, what="a password").decode("utf-8", "replace").splitlines()
        return lines[0] if lines else ""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if not sys.stdin.isatty():
        raise NodeError("password", "none", f"--password-file, {VARIABLE} or a keyboard")
    return str(typer.prompt("password of the key file", hide_input=True, err=True))


def load_key(path: Path, password: str) -> LocalAccount:
    """The account in a key file.

    Raises:
        NodeError: ``key``: it is none, or asks for too much work. ``password``: another one.
    """
    try:
        document: Any = parse_json(read_input(path, what="a key file (JSON)"), what="key file")
        crypto = document["crypto"]
        names = ("n", "r", "p", "dklen") if crypto["kdf"] == "scrypt" else ("c", "dklen")
        counts = [crypto["kdfparams"][name] for name in names]
        if document["version"] != 3 or not all(type(each) is int for each in counts):
            raise NodeError("key", f"version {document['version']}, {names} of {counts}", "version 3, whole numbers")
        *work, length = counts
        rounds = work[0] * work[1] // 8 * work[2] if len(work) == 3 else work[0]
        if min(counts) < 1 or not 0 < rounds <= _MOST_WORK or length > _MOST_BYTES:
            raise NodeError("key", f"{rounds} rounds, {length} bytes", f"at most {_MOST_WORK} and {_MOST_BYTES}")
        account: LocalAccount = Account.from_key(Account.decrypt(document, password))
    except NodeError:
        raise
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise NodeError("key", f"{path} ({one_line(error)})", "an encrypted key file, version 3") from error
    except ValueError as error:
        if "MAC" in str(error):
            raise NodeError("password", f"another one for {path}", "the key file's password") from error
        raise NodeError("key", f"{path} ({one_line(error)})", "an encrypted key file, version 3") from error
    return account


def write_key(path: Path, password: str) -> LocalAccount:
    """Make a new account and write its key file, readable by its owner alone.

    Raises:
        NodeError: ``key``: the file is there already. ``password``: shorter than eight characters.
    """
    if path.exists():
        raise NodeError("key", f"{path}, which is there already", "a new file")
    if len(password) < 8:
        raise NodeError("password", f"{len(password)} characters", "at least 8")
    made: LocalAccount = Account.create()
    try:
        write_bytes(path, json.dumps(Account.encrypt(made.key, password)).encode() + b"\n")
        path.chmod(0o600)
    except OSError as error:
        raise OtrError(f"{path}: {one_line(error)}") from error
    return made


def sign_hash(account: Any, hashed: bytes) -> bytes:
    """An account's signature (65 bytes: r, s, v) under 32 bytes, as a contract recovers it."""
    return bytes(account.unsafe_sign_hash(hashed).signature)
