"""Command lines that cannot be meant, over every command: one line on standard error, exit status 2, and soon.

Files that a line names stand in the folder it is given in: ``folder``, ``empty``, ``bytes`` (every byte), ``other``
(JSON of another kind).
"""

from pathlib import Path

import pytest

from tests.helpers.command_line import assert_one_line, otr

HUGE = "99999999999999999999999"
PLACE = "--rpc localhost:1 --key other --court other"
LINES = {
    # what typer finds itself
    "nothing": "No such command",
    "infer --fast": "No such option",
    "verify": "Missing argument",
    "chain key": "Missing option",
    "infer --prompt Hi --max-tokens many": "--max-tokens",
    "appraise --as-of": "--as-of",
    "size -1": "-1",
    # a folder, an empty file, bytes, a file of another kind
    "verify folder": "folder",
    "verify other --order bytes": "UTF-8",
    "appraise folder --as-of 2025-01-15": "folder",
    "appraise --quote bytes --as-of 2025-01-15": "quote",
    "fetch missing": "missing",
    "check empty --receipt other": "receipt file",
    "prove bytes --out proof": "UTF-8",
    "prove missing --out proof": "missing",
    "size folder": "folder",
    "size bytes": "bytes",
    "sweep other --vary watch.d=0.5": "TOML",
    "sweep missing --vary watch.d=0.5": "missing",
    "chain deploy --rpc localhost:1 --key missing --out court.json": "expected a URL",
    "chain key --out folder --password-file other": "folder",
    f"chain status {PLACE}": "No such option",
    "chain status --rpc localhost:1 --court empty": "expected a URL",
    f"watch --orders missing {PLACE}": "missing",
    f"operate --state missing {PLACE}": "--",
    "commit-model --out folder": "folder",
    "pledge show 00 --rpc localhost:1 --pledges other": "expected 20",
    "pledge contradict other --rpc localhost:1 --key missing --pledges other": "other",
    "pledge judge missing --key other --catcher 00 --out out": "missing",
    "check other --receipt other --commitment other --least-pledge 1": "--pledges",
    "check other --receipt other --commitment other --least-notice 1": "--pledges",
    "crate --out folder": "folder",
    "devnet --profile other": "TOML",
    "record --model folder --out record.json": "folder",
    "spotcheck open": "Missing",
    # numbers and words outside their ranges
    "infer --prompt Hi --temperature nan": "temperature",
    f"infer --prompt Hi --seed {HUGE}": "seed",
    f"order --prompt Hi --out order.json --chain-id {HUGE}": "chain_id",
    "order --prompt Hi --out order.json --max-tokens -5": "max_tokens",
    f"watch --orders folder {PLACE} --max-fee nan": "--max-fee",
    f"chain defend other {PLACE} --max-fee 1e400": "--max-fee",
    "serve --threads 0": "threads",
    f"serve --threads {HUGE}": "threads",
    "serve --port 70000": "port",
    "devnet --seconds nan": "--seconds",
    "devnet --seconds -1": "--seconds",
    "devnet --attack lie": "--attack",
    "devnet --node ganache": "node",
    "reproduce --claim=": "L01 to L42",
    "claims --stated L09=nan": "--stated",
    "claims L18 --stated L09=0.7": "L18",
    "bench trace --rounds -1": "rounds",
    f"bench lane --rounds {HUGE}": "rounds",
    f"bench serve --tokens {HUGE}": "tokens",
    f"bench serve --batch {HUGE}": "batch",
    f"bench proof --positions {HUGE}": "positions",
    "bench proof --temperature -1": "temperature",
    f"record --out record.json --repeats {HUGE}": "repeats",
    # addresses
    "ask localhost:1 --prompt Hi": "localhost:1",
    "ask ftp://localhost --prompt Hi": "ftp",
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "other").write_text('{"format":"other/1"}\n')
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_cannot_be_meant_is_one_line_and_status_2(here, line):
    run = otr(*line.split(), cwd=here)
    assert_one_line(run, 2, LINES[line])
    assert run.stderr.count("\n") <= 3, run.stderr  # what was begun before, and the error
    assert sorted(path.name for path in here.iterdir()) == ["bytes", "empty", "folder", "other"]
