"""The attack table: each attack is carried out on a real answer, and ``verify_receipt`` says where it is caught.

Two groups. Outsiders and operators with a working TEE are caught by a named check. An operator whose TEE is broken, who
can sign with an attested key and forge the event log, passes every check: the table must show that too. For those the
answer is run again, as a dispute would, and the first position and layer where the committed trace differs is reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otr_core.errors import OtrError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import order
from otr_core.poea.document import ReceiptFile
from otr_core.poea.receipt import Job, Message, SignedReceipt, sign_receipt
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.trace import Trace
from otr_core.poea.verify import verify_receipt
from otr_node.enclave import LIFETIME_S, SimulatedEnclave
from otr_node.generate import Answer, generate
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_node.serve import serve, sign_answer, trace_seed
from otr_paper.labs.variants import bit_flipped, requantised

#: What catches an attack that no check of the receipt can see.
ONLY_RE_EXECUTION = "only by dispute or spot check"
NOBODY = "nothing: the trace is that of the model ordered"


@dataclass(frozen=True)
class AttackRow:
    """One attack and where it ended.

    Attributes:
        attack: what was done. group: "model", "parameters", "answer", "evidence" or "broken TEE".
        caught_by: name of the check that rejected the receipt, "serving" when no receipt came to be, or
            ``ONLY_RE_EXECUTION``. detail: what was found.
    """

    attack: str
    group: str
    caught_by: str
    detail: str


@dataclass(frozen=True)
class _Scene:
    """An honest answer to attack: sealed query, simulated TEE, all secrets derived from ``secret``."""

    folder: Path
    lane: str
    model: Model
    now: int
    secret: bytes
    decoding: Decoding
    prompt: str

    def enclave(self, model_id: bytes | None = None, name: bytes = b"", root: bytes | None = None) -> SimulatedEnclave:
        tee = SimulatedEnclave(
            _derive(self.secret, b"enclave" + name),
            self.model.manifest.model_id if model_id is None else model_id,
            _derive(self.secret, b"gpu" + name),
            self.now,
        )
        return tee if root is None else replace(tee, root=root)

    def order(self, number: int = 1, prompt: str | None = None) -> tuple[Job, Message]:
        return order(
            prompt or self.prompt,
            model_id=self.model.manifest.model_id,
            decoding=self.decoding,
            job_id=_derive(self.secret, b"job%d" % number),
            nonce=_derive(self.secret, b"nonce%d" % number),
            seal_to=self.enclave().keys.hpke,
            client_secret=_derive(self.secret, b"client"),
        )

    def served(self, number: int = 1, prompt: str | None = None) -> tuple[ReceiptFile, Answer]:
        return serve(self.enclave(), self.model, *self.order(number, prompt))


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
        work: an empty folder for altered copies of the small files. now: Unix seconds. secret: 32 bytes.
        prompt, other_prompt: two different questions.
    """
    scene = _Scene(folder, lane, load_model(folder, lane=lane), now, secret, Decoding(max_tokens), prompt)
    honest, answer = scene.served()
    rows = [*_on_the_model(scene, work), *_on_parameters(scene, honest, answer)]
    rows += [*_on_the_answer(scene, honest, other_prompt), *_on_evidence(scene, honest)]
    return [*rows, *_with_a_broken_tee(scene, answer)]


def _derive(secret: bytes, name: bytes) -> bytes:
    from otr_core.encoding import tagged_hash

    return tagged_hash("attack", secret + name)


def _judge(scene: _Scene, file: ReceiptFile, **options: Any) -> tuple[str, str]:
    """Name of the check that rejects ``file`` and what it says, or ``ONLY_RE_EXECUTION``."""
    settings: dict[str, Any] = {
        "policy": EvidencePolicy(allow_simulated=True),
        "as_of": scene.now,
        "job": scene.order()[0],
    }
    try:
        verify_receipt(file, **(settings | options))
    except ReceiptError as error:
        return error.check, str(error)
    return ONLY_RE_EXECUTION, "accepted"


def _resigned(scene: _Scene, file: ReceiptFile, name: bytes = b"", **changes: Any) -> ReceiptFile:
    """``file`` with a receipt that says something else, signed by the enclave's key (or that of enclave ``name``)."""
    from eth_keys import keys

    key = keys.PrivateKey(scene.enclave(name=name).signing_key)
    signed: SignedReceipt = sign_receipt(key, replace(file.receipt, **changes))
    return replace(file, receipt=signed.receipt, signature=signed.signature)


def _on_the_model(scene: _Scene, work: Path) -> Iterator[AttackRow]:
    """Another model is loaded by a working TEE, which measures it; the receipt says what was ordered."""
    layers = scene.model.architecture.layers
    matrix = f"model.layers.{layers // 2}.mlp.up_proj.weight"
    kept = {0, layers - 1} if layers < 8 else {0, 1, layers - 2, layers - 1}
    other_dtype = "native-bfloat16" if scene.lane == "native-float32" else "native-float32"
    variants: dict[str, Callable[[], Model]] = {
        "one layer in three dropped": lambda: _variant(scene, drop_layers=range(1, layers, 3)),
        f"a {len(kept)}-layer model": lambda: _variant(scene, drop_layers=sorted(set(range(layers)) - kept)),
        "int8 weights": lambda: _variant(scene, alter=lambda tensors: requantised(tensors, 8)),
        "int4 weights": lambda: _variant(scene, alter=lambda tensors: requantised(tensors, 4)),
        "one flipped weight bit": lambda: _variant(scene, alter=lambda tensors: bit_flipped(tensors, matrix, 7)),
        f"{other_dtype.removeprefix('native-')} for the ordered lane": lambda: _variant(scene, lane=other_dtype),
        "another tokenizer": lambda: _variant(
            scene, folder=_copy(scene.folder, work / "tokenizer", "tokenizer.json", _swap_two_tokens)
        ),
        "another chat template": lambda: _variant(
            scene, folder=_copy(scene.folder, work / "template", "chat_template.jinja", lambda text: "\n" + text)
        ),
    }
    for attack, load in variants.items():
        cheap = load()
        enclave = scene.enclave(cheap.manifest.model_id)
        job, query = scene.order()
        # Asked honestly, this enclave refuses the job; its operator makes it serve its own model under the job's name.
        file, _ = serve(enclave, cheap, replace(job, model_id=cheap.manifest.model_id), query)
        lying = replace(_resigned(scene, file, model_id=job.model_id), job=job, model=scene.model.manifest)
        yield AttackRow(attack, "model", *_judge(scene, lying))


def _on_parameters(scene: _Scene, honest: ReceiptFile, answer: Answer) -> Iterator[AttackRow]:
    ordered = scene.decoding
    changes = {
        "temperature changed": replace(ordered, temperature_milli=900),
        "seed changed": replace(ordered, seed=ordered.seed + 1),
        "token limit lowered": replace(ordered, max_tokens=max(1, ordered.max_tokens // 2)),
    }
    for attack, decoding in changes.items():
        job, query = scene.order()
        file, _ = serve(scene.enclave(), scene.model, replace(job, decoding=decoding), query)
        yield AttackRow(attack, "parameters", *_judge(scene, file))


def _on_the_answer(scene: _Scene, honest: ReceiptFile, other_prompt: str) -> Iterator[AttackRow]:
    def row(attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
        return AttackRow(attack, "answer", *_judge(scene, file, **options))

    other, _ = scene.served(2, other_prompt)
    sealed = honest.response.sealed or b""
    yield row("answer cut short", replace(honest, response=Message("response", sealed=sealed[:-1])))
    edited = sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]
    yield row("answer edited", replace(honest, response=Message("response", sealed=edited)))
    yield row("cached answer to another prompt", other)
    relabelled = {"job_id": honest.job.job_id, "nonce": honest.job.nonce}
    yield row("cached answer under this job's name", _resigned(scene, other, **relabelled))
    yield row("receipt replayed", honest, seen={honest.receipt.nonce})
    reused = replace(scene.order(3)[0], nonce=honest.job.nonce)
    yield row("nonce reused for a new job", honest, job=reused, seen={honest.receipt.nonce})
    yield row("receipt of one query, response of another", replace(honest, response=other.response))
    yield row("receipt of one response, query of another", replace(honest, query=other.query))
    job, _ = scene.order()
    try:
        serve(scene.enclave(), scene.model, job, scene.order(1, other_prompt)[1])
    except OtrError as error:
        yield AttackRow("prompt swapped after sealing", "answer", "serving", str(error))
    yield row("receipt edited after signing", replace(honest, receipt=replace(honest.receipt, trace_root=bytes(32))))


def _on_evidence(scene: _Scene, honest: ReceiptFile) -> Iterator[AttackRow]:
    def row(attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
        return AttackRow(attack, "evidence", *_judge(scene, file, **options))

    remote = scene.enclave(name=b"remote")  # a genuine TEE somewhere else
    yield row("no hardware, to a client who wants some", honest, policy=EvidencePolicy(allow_simulated=False))
    forged = scene.enclave(root=_derive(scene.secret, b"own root"))
    yield row("evidence signed by an own root", replace(honest, evidence=forged.evidence()))
    yield row("evidence out of date", honest, as_of=scene.now + LIFETIME_S)
    log = [{**honest.evidence["event_log"][0], "payload": "00" * 32}, honest.evidence["event_log"][1]]
    yield row("event log edited", replace(honest, evidence={**honest.evidence, "event_log": log}))
    yield row("key of another enclave", replace(_resigned(scene, honest, b"remote"), keys=remote.keys))
    yield row("evidence relayed from another enclave", replace(honest, evidence=remote.evidence()))
    relayed = replace(honest, evidence=remote.evidence(), keys=remote.keys)
    yield row(
        "evidence and keys relayed, signed with the own key", _resigned(scene, relayed, key_id=remote.keys.digest)
    )
    spliced = {**honest.evidence, "gpu_report": remote.evidence()["gpu_report"]}
    yield row("report of another machine's GPU", replace(honest, evidence=spliced))


def _with_a_broken_tee(scene: _Scene, answer: Answer) -> Iterator[AttackRow]:
    """The enclave measures and signs whatever its operator likes."""
    enclave = scene.enclave()  # measures the model that was ordered, whatever runs
    job, query = scene.order()
    reply_to = _reply_key(scene, job, query)
    seed = trace_seed(enclave, job)
    layers = scene.model.architecture.layers
    cheap = _variant(scene, drop_layers=range(1, layers, 3))
    downgraded = generate(cheap, scene.prompt, scene.decoding, trace_seed=seed)
    warm = generate(scene.model, scene.prompt, replace(scene.decoding, temperature_milli=1500), trace_seed=seed)
    shape = _trace(answer).shape
    middle = shape.leaves // 2
    leaves = list(_trace(answer).leaves)
    leaves[middle] = bytes(32)
    local = replace(answer, trace=replace(_trace(answer), leaves=tuple(leaves)))
    token_ids = (*answer.token_ids[:-1], (answer.token_ids[-1] + 1) % scene.model.architecture.vocab)
    edited = replace(
        answer, token_ids=token_ids, text=scene.model.tokenizer.decode(token_ids, skip_special_tokens=True)
    )
    lies = {
        "layers dropped, trace of the cheap run": downgraded,
        "layers dropped, trace made up": replace(
            downgraded,
            trace=Trace(shape, tuple(_derive(scene.secret, b"leaf%d" % i) for i in range(shape.leaves)), bytes(32)),
        ),
        "one layer's output altered once": local,
        "last token replaced": edited,
        "sampled warm, signed as greedy": warm,
    }
    for attack, lie in lies.items():
        signed = sign_answer(enclave, scene.model, job, query, lie, reply_to)
        caught, detail = _judge(scene, signed)
        if caught == ONLY_RE_EXECUTION:
            detail = f"accepted; run again: {first_difference(scene.model, answer, lie)}"
        yield AttackRow(attack, "broken TEE", caught, detail)


def first_difference(model: Model, honest: Answer, claimed: Answer) -> str:
    """Where a claimed answer departs from the honest run: the first differing token or leaf, in words."""
    ours, theirs = _trace(honest), _trace(claimed)
    for index, (mine, other) in enumerate(zip(ours.leaves, theirs.leaves, strict=False)):
        if mine != other or ours.shape.layers != theirs.shape.layers:
            position, layer = divmod(index, ours.shape.layers)
            return f"the trace differs first at position {position}, layer {layer}"
    for number, (mine_id, other_id) in enumerate(zip(honest.token_ids, claimed.token_ids, strict=False)):
        if mine_id != other_id:
            return f"the trace is the honest one, and gives another token number {number}"
    return NOBODY


def _reply_key(scene: _Scene, job: Job, query: Message) -> bytes | None:
    from otr_node.serve import open_query

    return open_query(scene.enclave(), job, query)[1]


def _variant(scene: _Scene, *, folder: Path | None = None, lane: str | None = None, **how: Any) -> Model:
    return load_model(folder or scene.folder, lane=lane or scene.lane, **how)


def _trace(answer: Answer) -> Trace:
    assert answer.trace is not None  # every answer here is generated with a seed
    return answer.trace


def _copy(folder: Path, to: Path, name: str, change: Callable[[str], str]) -> Path:
    """A copy of a checkpoint with one small file changed; the weights are linked, not copied."""
    to.mkdir(parents=True)
    for path in _files(folder):
        if path.name == name:
            (to / name).write_text(change(path.read_text("utf-8")), "utf-8")
        elif path.suffix == ".safetensors":
            (to / path.name).symlink_to(path.resolve())
        else:
            shutil.copy(path, to / path.name)
    return to


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _swap_two_tokens(text: str) -> str:
    """A tokenizer file in which two ids of the vocabulary have changed places."""
    import json

    document = json.loads(text)
    vocabulary = document["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    return json.dumps(document, ensure_ascii=False)
