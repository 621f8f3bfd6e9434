"""The attack table: each attack is carried out on a real answer, and ``verify_receipt`` says where
it is caught.

Two groups. Outsiders and operators with a working TEE are caught by a named check. An operator
whose TEE is broken, who can sign with an attested key and forge the event log, passes every check:
the table must show that too. For those the answer is run again, as a dispute would, and the first
position and layer where the committed trace differs is reported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otr_core.errors import OtrError
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Message
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace
from otr_node.enclave import LIFETIME_S
from otr_node.generate import Answer
from otr_node.serve import serve
from otr_paper.benches.workbench import Served, Workbench, resigned
from otr_paper.labs.variants import bit_flipped, requantised

#: What catches an attack that no check of the receipt can see.
ONLY_RE_EXECUTION = "only by dispute or spot check"
NOBODY = "nothing: the trace is that of the model ordered"


@dataclass(frozen=True)
class AttackRow:
    """One attack and where it ended.

    Attributes:
        attack: what was done. group: "model", "parameters", "answer", "evidence" or "broken TEE".
        caught_by: name of the check that rejected the receipt, "serving" when no receipt came to
            be, or ``ONLY_RE_EXECUTION``. detail: what was found.
    """

    attack: str
    group: str
    caught_by: str
    detail: str


def run_receipt_attacks(
    folder: Path,
    work: Path,
    *,
    now: int,
    secret: bytes,
    prompt: str,
    other_prompt: str,
    max_tokens: int = 12,
    lane: str = "native-float32",
) -> list[AttackRow]:
    """Carry out every attack on the checkpoint in ``folder``.

    Args:
        work: an empty folder for altered copies of the small files. now: Unix seconds. secret: 32
            bytes.
        prompt, other_prompt: two different questions.
    """
    bench = Workbench(folder, lane, context="attack", seed=secret, now=now)
    ordered = bench.serve(prompt, max_tokens, number="1")
    other = bench.serve(other_prompt, max_tokens, number="2")
    return [
        *_on_the_model(ordered, work),
        *_on_parameters(ordered),
        *_on_the_answer(ordered, other),
        *_on_evidence(ordered),
        *_with_a_broken_tee(ordered),
    ]


def _row(ordered: Served, group: str, attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
    """What the client of ``ordered`` finds when it is shown ``file``."""
    rejection = ordered.rejection(file, **options)
    if rejection is None:
        return AttackRow(attack, group, ONLY_RE_EXECUTION, "accepted")
    return AttackRow(attack, group, rejection.check, str(rejection))


def _on_the_model(ordered: Served, work: Path) -> Iterator[AttackRow]:
    """Another model is loaded by a working TEE, which measures it; the receipt says what was
    ordered.

    Asked honestly, this enclave refuses the job; its operator makes it serve its own model under
    the job's name.
    """
    bench, layers = ordered.bench, ordered.bench.model.architecture.layers
    matrix = f"model.layers.{layers // 2}.mlp.up_proj.weight"
    kept = {0, layers - 1} if layers < 8 else {0, 1, layers - 2, layers - 1}
    dtype = "bfloat16" if bench.lane == "native-float32" else "float32"
    tokenizer = _copy(bench.folder, work / "tokenizer", "tokenizer.json", _swap_two_tokens)
    template = _copy(bench.folder, work / "template", "chat_template.jinja", lambda text: "\n" + text)
    variants: dict[str, dict[str, Any]] = {
        "one layer in three dropped": {"drop_layers": range(1, layers, 3)},
        f"a {len(kept)}-layer model": {"drop_layers": sorted(set(range(layers)) - kept)},
        "int8 weights": {"alter": lambda tensors: requantised(tensors, 8)},
        "int4 weights": {"alter": lambda tensors: requantised(tensors, 4)},
        "one flipped weight bit": {"alter": lambda tensors: bit_flipped(tensors, matrix, 7)},
        f"{dtype} for the ordered lane": {"lane": f"native-{dtype}"},
        "another tokenizer": {"folder": tokenizer},
        "another chat template": {"folder": template},
    }
    for attack, change in variants.items():
        cheap = bench.other(**change).serve(ordered.prompt, ordered.decoding, number=ordered.number)
        yield _row(ordered, "model", attack, ordered.passed_off(cheap))


def _on_parameters(ordered: Served) -> Iterator[AttackRow]:
    """The right model answers, decoding otherwise than was ordered."""
    decoding = ordered.decoding
    changes = {
        "temperature changed": replace(decoding, temperature_milli=900),
        "seed changed": replace(decoding, seed=decoding.seed + 1),
        "token limit lowered": replace(decoding, max_tokens=max(1, decoding.max_tokens // 2)),
    }
    for attack, changed in changes.items():
        yield _row(ordered, "parameters", attack, replace(ordered, decoding=changed).file)


def _on_the_answer(ordered: Served, other: Served) -> Iterator[AttackRow]:
    """A genuine receipt is put beside another query or answer, is edited, or is used twice."""

    def row(attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
        return _row(ordered, "answer", attack, file, **options)

    honest, cached, job = ordered.file, other.file, ordered.job
    sealed = honest.response.sealed or b""
    yield row("answer cut short", replace(honest, response=Message("response", sealed=sealed[:-1])))
    edited = sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]
    yield row("answer edited", replace(honest, response=Message("response", sealed=edited)))
    yield row("cached answer to another prompt", cached)
    relabelled = resigned(cached, other.enclave, job_id=job.job_id, nonce=job.nonce)
    yield row("cached answer under this job's name", relabelled)
    yield row("receipt replayed", honest, seen={job.nonce})
    reused = replace(replace(ordered, number="3").job, nonce=job.nonce)
    yield row("nonce reused for a new job", honest, job=reused, seen={job.nonce})
    yield row("receipt of one query, response of another", replace(honest, response=cached.response))
    yield row("receipt of one response, query of another", replace(honest, query=cached.query))
    try:
        serve(ordered.enclave, ordered.bench.model, job, replace(ordered, prompt=other.prompt).query)
    except OtrError as error:
        yield AttackRow("prompt swapped after sealing", "answer", "serving", str(error))
    yield row("receipt edited after signing", replace(honest, receipt=replace(honest.receipt, trace_root=bytes(32))))


def _on_evidence(ordered: Served) -> Iterator[AttackRow]:
    """A genuine receipt comes with evidence that is forged, stale, or of a genuine TEE somewhere
    else."""

    def row(attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
        return _row(ordered, "evidence", attack, file, **options)

    bench, honest, own = ordered.bench, ordered.file, ordered.file.evidence
    remote = bench.enclave("remote")
    away = remote.evidence()
    yield row("no hardware, to a client who wants some", honest, policy=EvidencePolicy(allow_simulated=False))
    forged = bench.enclave(root=bench.secret("own root")).evidence()
    yield row("evidence signed by an own root", replace(honest, evidence=forged))
    yield row("evidence out of date", honest, as_of=bench.now + LIFETIME_S)
    log = [{**own["event_log"][0], "payload": "00" * 32}, own["event_log"][1]]
    yield row("event log edited", replace(honest, evidence={**own, "event_log": log}))
    yield row("key of another enclave", replace(resigned(honest, remote), keys=remote.keys))
    yield row("evidence relayed from another enclave", replace(honest, evidence=away))
    relayed = replace(honest, evidence=away, keys=remote.keys)
    relayed = resigned(relayed, ordered.enclave, key_id=remote.keys.digest)
    yield row("evidence and keys relayed, signed with the own key", relayed)
    spliced = {**own, "gpu_report": away["gpu_report"]}
    yield row("report of another machine's GPU", replace(honest, evidence=spliced))


def _with_a_broken_tee(ordered: Served) -> Iterator[AttackRow]:
    """The enclave measures the model that was ordered, whatever runs, and signs whatever its
    operator likes."""
    bench, answer, trace = ordered.bench, ordered.answer, ordered.answer.committed
    cheap = bench.other(drop_layers=range(1, bench.model.architecture.layers, 3))
    downgraded = cheap.serve(ordered.prompt, ordered.decoding, number=ordered.number).answer
    leaves, middle = list(trace.leaves), trace.shape.leaves // 2
    leaves[middle] = bytes(32)
    invented = tuple(bench.secret(f"leaf{number}") for number in range(trace.shape.leaves))
    made_up = Trace(trace.shape, invented, bytes(32))
    ids = (*answer.token_ids[:-1], (answer.token_ids[-1] + 1) % bench.model.architecture.vocab)
    text = bench.model.tokenizer.decode(ids)
    warm = replace(ordered.decoding, temperature_milli=1500)
    lies = {
        "layers dropped, trace of the cheap run": downgraded,
        "layers dropped, trace made up": replace(downgraded, trace=made_up),
        "one layer's output altered once": replace(answer, trace=replace(trace, leaves=tuple(leaves))),
        "last token replaced": replace(answer, token_ids=ids, text=text),
        "sampled warm, signed as greedy": replace(ordered, decoding=warm).answer,
    }
    for attack, lie in lies.items():
        row = _row(ordered, "broken TEE", attack, ordered.sign(lie))
        if row.caught_by == ONLY_RE_EXECUTION:
            row = replace(row, detail=f"accepted; run again: {first_difference(answer, lie)}")
        yield row


def first_difference(honest: Answer, claimed: Answer) -> str:
    """Where a claimed answer departs from the honest run: the first differing token or leaf, in
    words."""
    ours, theirs = honest.committed, claimed.committed
    for index, (mine, other) in enumerate(zip(ours.leaves, theirs.leaves, strict=False)):
        if mine != other or ours.shape.layers != theirs.shape.layers:
            position, layer = divmod(index, ours.shape.layers)
            return f"the trace differs first at position {position}, layer {layer}"
    for number, (mine_id, other_id) in enumerate(zip(honest.token_ids, claimed.token_ids, strict=False)):
        if mine_id != other_id:
            return f"the trace is the honest one, and gives another token number {number}"
    return NOBODY


def _copy(folder: Path, to: Path, name: str, change: Callable[[str], str]) -> Path:
    """A copy of a checkpoint with one small file changed; the weights are linked, not copied."""
    to.mkdir(parents=True)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.name == name:
            (to / name).write_text(change(path.read_text("utf-8")), "utf-8")
        elif path.suffix == ".safetensors":
            (to / path.name).symlink_to(path.resolve())
        else:
            shutil.copy(path, to / path.name)
    return to


def _swap_two_tokens(text: str) -> str:
    """A tokenizer file in which two ids of the vocabulary have changed places."""
    document = json.loads(text)
    vocabulary = document["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    return json.dumps(document, ensure_ascii=False)
