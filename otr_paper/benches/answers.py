"""What ``otr verify`` and ``otr record`` do, and the attack table, with secrets and time as arguments."""

from __future__ import annotations

import hashlib
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otr_core.encoding import from_hex
from otr_core.errors import DataError, InputError, ReceiptError
from otr_core.files import read_input, write_text
from otr_core.poea.tee import EvidencePolicy
from otr_node.answers import load_lane
from otr_node.models import model_folder
from otr_node.project import Project
from otr_paper.store.results import Card, read_result, this_machine, versions, write_result

REGISTERED = "registered-model"
"""Check before all others: the job orders a model the verifier knows, not one the file's author made up."""
PROMPT = "prompt"
"""Check after all others, when the verifier names the prompt: it is the one in the receipt."""


def registered_models(project: Project) -> dict[str, str]:
    """model_id (hex) -> name and lane, from data/models.toml."""
    path = project.data / "models.toml"
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["model"]
        return {entry["model_id"]: f"{entry['name']} ({entry['lane']})" for entry in entries}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of models ({error!r}); restore it from git") from error


def verify_file(
    project: Project,
    raw: bytes,
    *,
    as_of: int,
    model_id: str | None,
    prompt: str | None,
    seen: Path | None,
    allow_simulated: bool,
) -> dict[str, Any]:
    """Check a receipt file and tell every check's outcome: accepted, check, found, expected, table, line.

    Raises:
        InputError: the receipt, the nonce file or ``model_id`` is unreadable.
    """
    from otr_core.poea import CHECKS, load_receipt_file, verify_receipt

    file = load_receipt_file(raw)
    known = _seen_nonces(seen)
    names = registered_models(project)
    wanted = set(names) if model_id is None else {from_hex(model_id, length=32, what="--model-id").hex()}
    meanings = {REGISTERED: "the job orders a model the verifier knows", **CHECKS}
    if prompt is not None:
        meanings[PROMPT] = "the prompt in the receipt is the one the verifier sent"
    rejected = None
    simulated = True
    try:
        ordered = file.job.model_id.hex()
        if ordered not in wanted:
            raise ReceiptError(REGISTERED, f"model {ordered}", f"one of {', '.join(sorted(wanted))}")
        verification = verify_receipt(file, policy=EvidencePolicy(allow_simulated), as_of=as_of, seen=known)
        simulated = verification.simulated
        if prompt is not None:
            _check_prompt(file, prompt)
        if seen is not None:
            write_text(seen, "".join(f"{nonce.hex()}\n" for nonce in [*known, verification.nonce]))
    except ReceiptError as error:
        rejected = error
    statuses = _statuses(list(meanings), rejected)
    tee = "simulated TEE: nothing is shown about hardware" if simulated else "hardware TEE"
    if rejected is None:
        line = f"accepted: {names.get(file.job.model_id.hex(), 'the model you named')}, {tee}"
        if prompt is None:  # without the client's own copy, only the model is held against something outside the file
            line += "; the order is taken as the file states it (hold your own against it: --prompt, --model-id)"
    else:
        line = f"rejected by check {rejected}"
    return {
        "accepted": rejected is None,
        "check": rejected.check if rejected else None,
        "found": str(rejected.found) if rejected else None,
        "expected": str(rejected.expected) if rejected else None,
        "tee": "simulated" if simulated else "hardware",
        "model_id": file.job.model_id.hex(),
        "table": [[name, statuses[name], meaning] for name, meaning in meanings.items()],
        "line": line,
    }


def judge_receipt(file: Any, *, policy: EvidencePolicy, as_of: int, job: Any, seen: Any = ()) -> tuple[str, str, str]:
    """Verdict, failed check and reason of one receipt, for a table; ("accepted", "", "") when it passes."""
    from otr_core.poea import verify_receipt

    try:
        verify_receipt(file, policy=policy, as_of=as_of, job=job, seen=seen)
    except ReceiptError as error:
        return "rejected", error.check, str(error)
    return "accepted", "", ""


RECORD_PROMPTS = (
    "Ada lives in Lisbon and works as a baker. Where does Ada live?",
    "Explain in three sentences why the sky is blue.",
    "Write a short letter that asks a library to extend a loan by two weeks, and gives a reason.",
)


def record_machine(
    project: Project,
    *,
    folder: Path | None,
    lane: str,
    device: str,
    max_tokens: int,
    repeats: int,
    secret: Callable[[int], bytes],
    command: str,
    date: str,
    cores: int,
    out: Path,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure and attest this machine, and write the result with its card to ``out`` (see ``inference.record``).

    Raises:
        InputError, ModelError: the lane, the plan or the checkpoint is unusable; nothing is written then.
    """
    from otr_node.hardware import LocalHardware
    from otr_paper.benches.machine import RecordPlan, record

    model = load_lane(project, lane=lane, device=device, folder=folder, report=report)
    plan = RecordPlan(RECORD_PROMPTS, max_tokens, repeats, secret(32), secret(64), secret(32))
    payload = record(model, plan, LocalHardware(device), report=report)
    card = Card(
        command=command, date=date, machine=this_machine(cores), versions=versions(("numpy", "torch", "transformers")),
        seed=None, kind="measured",
    )  # fmt: skip
    write_result(out.parent, out.stem, card, payload)
    return payload


def machine_records(project: Project) -> list[dict[str, Any]]:
    """Machines recorded in data/results/record_*.json: name, bytes_per_token, share, first_token_s, tokens_per_s.

    ``share`` is the part of the decoding rate that committing the trace takes.
    """
    records = []
    for path in sorted(project.results.glob("record_*.json")):
        card, payload = read_result(project.results, path.stem)
        shape = payload["answers"][0]["trace_shape"]
        records.append(
            {
                "name": f"{(payload['device'] or {}).get('name', card.machine)}, {payload['model']['lane']}",
                "bytes_per_token": shape["layers"] * (shape["output_bytes"] + 2 * shape["kv_bytes"]),
                "share": 1 - payload["traced"]["tokens_per_s"] / payload["plain"]["tokens_per_s"],
                **payload["plain"],
            }
        )
    return records


ATTACKS = "attacks"
"""Stored result with the attack table."""


def attack_rows(project: Project, *, fresh: bool, report: Callable[[str], None]) -> list[dict[str, str]]:
    """The attack table: group, attack, caught_by, detail; carried out again on the real model when ``fresh``."""
    if not fresh:
        return list(read_result(project.results, ATTACKS)[1]["rows"])
    from otr_paper.labs.receipts import run_receipt_attacks

    with tempfile.TemporaryDirectory(prefix="otr-") as work:
        rows = run_receipt_attacks(model_folder(project, report=report), Path(work), **ATTACK_SETTINGS)
    return [asdict(row) for row in rows]


ATTACK_SETTINGS: Mapping[str, Any] = {
    "now": 1_766_448_000,
    "secret": hashlib.sha256(b"attack table").digest(),
    "prompt": "What is the capital of France?",
    "other_prompt": "What is the capital of Spain?",
    "lane": "portable-1",  # the same rows on every machine
}


def _statuses(names: list[str], rejected: ReceiptError | None) -> dict[str, str]:
    """passed up to the check that failed, not run after it."""
    if rejected is None:
        return dict.fromkeys(names, "passed")
    failed = names.index(rejected.check)
    return {n: "passed" if i < failed else "failed" if i == failed else "not run" for i, n in enumerate(names)}


def _check_prompt(file: Any, prompt: str) -> None:
    shown = file.query.to_json()
    if "plain" not in shown:
        raise InputError("--prompt: the query in this receipt is sealed; only its client can open it")
    found = shown["plain"]["prompt"]
    if found != prompt:
        raise ReceiptError(PROMPT, repr(found), repr(prompt))


def _seen_nonces(path: Path | None) -> list[bytes]:
    if path is None or not path.exists():
        return []
    lines = read_input(path, what="a list of nonces").decode("ascii", "replace").split()
    return [from_hex(line, length=32, what=f"{path}: nonce") for line in lines]
