"""The portable lane's bits on every instruction set that can be asked for, in every way of feeding.

    python -m otr_paper.benches.lane_bits FOLDER POSITIONS

prints, for the process as it is, how its operations run and one fingerprint for each way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from otr_core.errors import ModelError
from otr_node.portable import PortableModel, PortableSession, feed_together, load_portable
from otr_node.recorder import TraceRecorder

MACHINES: dict[str, Mapping[str, str]] = {
    "as it is": {},
    # numba takes the features of the processor at hand with any name, unless it is told which.
    "AVX-512 without VNNI": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "NUMBA_CPU_NAME": "skylake-avx512",
        "NUMBA_CPU_FEATURES": "",
    },
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
    },
    "SSE4.1": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "",
    },
    "no compilation": {"NUMBA_DISABLE_JIT": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
}
"""Environment of a process, by what it stands for."""
_PADDING = 5
_SEED = bytes(range(32))


def tokens(positions: int, vocab: int) -> list[int]:
    """The tokens that are fed: any, the same for everybody."""
    return [(7919 * i * i + 11 * i + 1) % vocab for i in range(positions)]


def fingerprints(model: PortableModel, positions: int) -> dict[str, str]:
    """SHA-256 of the trace root and of the last logits, by way of feeding the same tokens.

    Ways: whole; in pieces of growing length; together with two other sequences; beside another one
    and behind padding; the last sixteen one by one.
    """
    ids = tokens(positions, model.architecture.vocab)
    found = {}
    for name, way in _WAYS.items():
        recorder = TraceRecorder(_SEED)
        logits = way(model, ids, recorder)
        found[name] = sha256(recorder.finish().root + np.ascontiguousarray(logits, "<i8").tobytes()).hexdigest()
    return found


def _whole(model: PortableModel, ids: list[int], recorder: TraceRecorder) -> np.ndarray:
    return model.session().feed(ids, recorder)


def _in_pieces(model: PortableModel, ids: list[int], recorder: TraceRecorder) -> np.ndarray:
    session, begin, length = model.session(), 0, 1
    while begin < len(ids):
        logits = session.feed(ids[begin : begin + length], recorder)
        begin, length = begin + length, 3 * length + 1
    return logits


def _together(model: PortableModel, ids: list[int], recorder: TraceRecorder) -> np.ndarray:
    sessions = [model.session() for _ in range(3)]
    sessions[0].feed(ids[::-1][:7])
    middle = len(ids) // 2
    for own in (ids[:middle], ids[middle:]):
        logits = feed_together(sessions, [ids[:3], own, ids[5:6]], [None, recorder, None])[1]
    return np.asarray(logits)


def _padded(model: PortableModel, ids: list[int], recorder: TraceRecorder) -> np.ndarray:
    rows = [ids + ids[:_PADDING], [0] * _PADDING + ids]
    logits = PortableSession(model, (0, _PADDING)).feed_batch(rows, [None, recorder])
    return logits[1, -1].numpy().astype(np.int64)


def _one_by_one(model: PortableModel, ids: list[int], recorder: TraceRecorder) -> np.ndarray:
    session = model.session()
    session.feed(ids[:-16], recorder)
    for token in ids[-16:]:
        logits = session.feed([token], recorder)
    return logits


_WAYS: dict[str, Callable[[PortableModel, list[int], TraceRecorder], np.ndarray]] = {
    "whole": _whole,
    "pieces": _in_pieces,
    "together": _together,
    "padded": _padded,
    "one by one": _one_by_one,
}


def measure_bits(folder: Path, positions: int, machines: Sequence[str] = tuple(MACHINES)) -> dict[str, Any]:
    """Fingerprints of a checkpoint in processes of their own, one for each of ``machines``.

    Returns:
        JSON values. positions: tokens fed, 17 at least. rows: {machine, form, way, equal}; equal
        says whether the fingerprint is that of the first row. fingerprint: of the first row.
        differing: rows that are not equal.

    Raises:
        ModelError: a process failed; says how.
    """
    rows: list[dict[str, Any]] = []
    for machine in machines:
        found = _child(folder, positions, machine)
        rows += [{"machine": machine, "form": found["form"], "way": way, "fingerprint": print_}
                 for way, print_ in found["fingerprints"].items()]  # fmt: skip
    first = rows[0]["fingerprint"]
    for row in rows:
        row["equal"] = row.pop("fingerprint") == first
    differing = sum(not row["equal"] for row in rows)
    return {"positions": positions, "rows": rows, "fingerprint": first, "differing": differing}


def _child(folder: Path, positions: int, machine: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "otr_paper.benches.lane_bits", str(folder), str(positions)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(MACHINES[machine])
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise ModelError(f"bits on {machine}: the process ended with {done.returncode} and said {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _main() -> None:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    model = load_portable(Path(sys.argv[1]), threads=threads)
    found = {"form": model.form.describe(), "fingerprints": fingerprints(model, int(sys.argv[2]))}
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
