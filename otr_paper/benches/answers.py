"""What ``otr record`` does, and the attack table. Secrets and time are arguments: equal ones give
equal results."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otr_core.errors import HardwareError
from otr_core.lane.tensor_steps import LANE
from otr_node.answers import lane_name, load_lane
from otr_node.block_check import unchecked_block_device
from otr_node.enclave import SimulatedEnclave
from otr_node.guest import AGENT_SOCKET, GuestAgent, start_enclave
from otr_node.hardware import LocalHardware
from otr_node.lanes import check_device
from otr_node.model import Model
from otr_node.models import model_folder
from otr_node.project import Project
from otr_paper.benches.block_record import BlockPlan, record_blocks
from otr_paper.benches.machine import RecordPlan, record
from otr_paper.benches.workbench import Workbench
from otr_paper.labs.receipts import run_receipt_attacks, statement_frauds
from otr_paper.store.results import Card, read_result, this_machine, versions, write_result

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
    """Measure and attest this machine, and write the result with its card to ``out``; returns it
    (``machine.record``).

    Args:
        folder: of a Llama checkpoint; None: SmolLM2. lane: as ``otr infer`` takes it. device: "cpu" or
            "cuda".
        max_tokens: most tokens of an answer. repeats: times each of ``RECORD_PROMPTS`` is answered.
        secret: gives that many secret random bytes. report: gets lines of progress.
        command, date, cores: for the card: what was typed, ISO day, cores of this machine.

    In the lane h100-bf16 "blocks" of the result is what ``block_record.record_blocks`` gives.

    Raises:
        InputError, ModelError: the lane, the plan or the checkpoint is unusable; nothing is written
            then.
        HardwareError: a GPU that the lane h100-bf16 refuses. What was found of it is written beside ``out``, with
            ``refused_`` before its name.
    """
    plan = RecordPlan(RECORD_PROMPTS, max_tokens, repeats, secret(32), secret(32), secret(32))
    inside = GuestAgent() if AGENT_SOCKET.exists() else None
    hardware = LocalHardware(device, agent=inside.quote if inside else None)
    used = versions(("numpy", "torch", "transformers"))
    card = Card(command, date, this_machine(cores), used, seed=None, kind="measured")
    load = functools.partial(load_lane, project, lane=lane_name(lane), device=device, folder=folder, report=report)
    blocks: dict[str, Any] = {}
    model: Model | None
    if lane_name(lane) == LANE:
        check_device(device)
        opened = None if device == "cpu" else unchecked_block_device(device)
        now = int(time.time())

        def boot(model_id: bytes) -> SimulatedEnclave:
            assert inside is not None
            return start_enclave(inside, hardware, model_id=model_id, nonce=plan.nonce, secret=secret(32), now=now)

        answering = {"secret": secret, "now": now, "report": report, "boot": boot if inside else None}
        model, found = record_blocks(project, opened, load, hardware, BlockPlan(), RECORD_PROMPTS[0], **answering)
        blocks = {"blocks": found}
        if model is None:
            refused = write_result(out.parent, f"refused_{out.stem}", card, found)
            raise HardwareError(f"{found['refused']}; what was found: {refused}")
    else:
        model = load()
    payload = {**record(model, plan, hardware, report=report), **blocks}
    write_result(out.parent, out.stem, card, payload)
    return payload


def machine_records(project: Project) -> list[dict[str, Any]]:
    """The machines recorded in data/results/record_*.json.

    Returns:
        Rows of name, bytes_per_token (that the trace hashes), share (of the decoding rate that the
        trace takes), first_token_s and tokens_per_s (both without the trace).
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
    """Rows of the attack table (``labs.receipts.AttackRow``): the stored ones, or carried out now
    when ``fresh``."""
    if not fresh:
        return list(read_result(project.results, ATTACKS)[1]["rows"])
    with tempfile.TemporaryDirectory(prefix="otr-") as work:
        rows = run_receipt_attacks(model_folder(project, report=report), Path(work), **ATTACK_SETTINGS)
    return [asdict(row) for row in rows]


def live_frauds(
    folder: Path, *, device: str, prompt: str, max_tokens: int, seed: bytes, now: int
) -> list[dict[str, str]]:
    """Rows of the attack table's group "statement", carried out now on another answer.

    Args:
        folder: the checkpoint, in the native lane. seed: 32 bytes from which all secrets derive.
            now: Unix seconds.
    """
    bench = Workbench(folder, "native-float32", {"device": device}, context="live", seed=seed, now=now)
    return [asdict(row) for row in statement_frauds(bench.serve(prompt, max_tokens))]


ATTACK_SETTINGS: Mapping[str, Any] = {
    "now": 1_766_448_000,
    "secret": hashlib.sha256(b"attack table").digest(),
    "prompt": "What is the capital of France?",
    "other_prompt": "What is the capital of Spain?",
    "lane": "portable-1",  # the same rows on every machine
}
