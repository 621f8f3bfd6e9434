"""The attack table: each attack is carried out on a real answer, and the client's checks say where
it is caught.

Three kinds of operator. One without the key of a TEE edits, splices and replays. One whose TEE
works has another model, other parameters or other evidence. One whose TEE is broken signs what it
likes with the attested key: where its statement contradicts the order, the model or itself, a check
still names it; where it contradicts only the execution, every check passes, and the table must show
that too. For those the answer is run again, as a dispute would, and the first place where it
differs is reported. ``labs.statements`` makes the false statements.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otr_core.errors import ModelError, OtrError
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Message, Response
from otr_core.poea.once import OnceStore
from otr_core.poea.tee import EvidencePolicy
from otr_node.enclave import LIFETIME_S
from otr_node.generate import Answer
from otr_node.serve import response_message, serve
from otr_paper.benches.workbench import Served, Workbench, resigned
from otr_paper.claims.receipts import BROKEN, INEFFECTIVE, SERVING, STATEMENT
from otr_paper.labs.statements import Forgery, false_statements, twice_answered
from otr_paper.labs.variants import bit_flipped, requantised

#: What catches an attack that no check of the receipt can see.
ONLY_RE_EXECUTION = "only by dispute or spot check"
NOBODY = "nothing: the trace is that of the model ordered"


@dataclass(frozen=True)
class AttackRow:
    """One attack and where it ended.

    Attributes:
        attack: what was done. group: "model", "parameters", "answer", "statement", "evidence" or
            "broken TEE".
        caught_by: name of the client's check that rejected the receipt, or what
            ``claims.receipts`` says in its place, or ``ONLY_RE_EXECUTION``. detail: what was found.
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
        *_beside_the_model(ordered, work),
        *_on_parameters(ordered),
        *_on_the_answer(ordered, other),
        *statement_frauds(ordered),
        *_on_evidence(ordered),
        *_with_a_broken_tee(ordered),
    ]


def _row(ordered: Served, group: str, attack: str, file: Forgery, **options: Any) -> AttackRow:
    """What the client of ``ordered`` finds when it is shown ``file``."""
    rejection = ordered.rejection(file, **options)
    if rejection is None:
        return AttackRow(attack, group, ONLY_RE_EXECUTION, "accepted")
    return AttackRow(attack, group, rejection.check, str(rejection))


def _refused(group: str, attack: str, serving: Callable[[], Any]) -> AttackRow:
    """What comes of asking the enclave for something that it must refuse."""
    try:
        serving()
    except OtrError as error:
        return AttackRow(attack, group, SERVING, str(error))
    return AttackRow(attack, group, ONLY_RE_EXECUTION, "served and signed")


def _on_the_model(ordered: Served, work: Path) -> Iterator[AttackRow]:
    """Another model is loaded by a working TEE, which measures it; the receipt says what was
    ordered.

    Asked honestly, this enclave refuses the order; its operator makes it serve its own model under
    the order's name.
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
        cheap = bench.other(**change)
        yield _row(ordered, "model", attack, ordered.passed_off(cheap, ordered.answered_by(cheap)))


def _beside_the_model(ordered: Served, work: Path) -> Iterator[AttackRow]:
    """A file is put beside the checkpoint that libraries read, or run, when they load one.

    The first two would drop a word from every answer, or give it another id in every prompt. The
    model is loaded from the folder, and what it says and how it reads the prompt are compared.
    """
    bench, answer = ordered.bench, ordered.answer
    read = bench.model.tokenizer
    word = read.decode(answer.token_ids[:1]).strip()
    beside = {
        "a word dropped by special_tokens_map.json": ("special_tokens_map", {"additional_special_tokens": [word]}),
        "a word renumbered by added_tokens.json": ("added_tokens", {word: 0}),
        "a file of settings that nobody knows": ("tokenizer_settings", {"drop": word}),
    }
    for attack, (name, content) in beside.items():
        folder = _copy(bench.folder, work / name, f"{name}.json", lambda text: text)
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
        other = bench.other(folder=folder)
        try:
            model = other.model
        except ModelError as error:
            yield AttackRow(attack, "answer", SERVING, str(error).replace(f"{folder}/", ""))
            continue
        if model.manifest.model_id != bench.model.manifest.model_id:
            yield _row(ordered, "answer", attack, ordered.passed_off(other, ordered.answered_by(other)))
        else:
            given = (read.prompt_ids(ordered.prompt), read.decode(answer.token_ids))
            found = (model.tokenizer.prompt_ids(ordered.prompt), model.tokenizer.decode(answer.token_ids))
            caught, how = (INEFFECTIVE, "as before") if found == given else (ONLY_RE_EXECUTION, "otherwise")
            yield AttackRow(attack, "answer", caught, f"same model id; prompt and answer are read {how}")


def _on_parameters(ordered: Served) -> Iterator[AttackRow]:
    """The right model answers, decoding otherwise than was ordered, and says so."""
    decoding = ordered.decoding
    changes = {
        "temperature changed": replace(decoding, temperature_milli=900),
        "seed changed": replace(decoding, seed=decoding.seed + 1),
        "token limit lowered": replace(decoding, max_tokens=max(1, decoding.max_tokens // 2)),
    }
    for attack, changed in changes.items():
        yield _row(ordered, "parameters", attack, replace(ordered, decoding=changed).file)
    warm = replace(ordered, decoding=replace(decoding, temperature_milli=900), number="4")
    yield _row(warm, "parameters", "seed ground until the draws please, and named", _ground(warm).file)


def _ground(warm: Served) -> Served:
    """The same query, under the first other seed whose draws give another answer."""
    for seed in itertools.count(warm.decoding.seed + 1):
        tried = replace(warm, decoding=replace(warm.decoding, seed=seed))
        if tried.answer.token_ids != warm.answer.token_ids:
            return tried
    raise AssertionError  # the count has no end


def _on_the_answer(ordered: Served, other: Served) -> Iterator[AttackRow]:
    """A genuine receipt is put beside another query or answer, is edited, or is used twice."""

    def row(attack: str, file: ReceiptFile, **options: Any) -> AttackRow:
        return _row(ordered, "answer", attack, file, **options)

    honest, cached, order, bench = ordered.file, other.file, ordered.order, ordered.bench
    sealed = honest.response.sealed or b""
    yield row("answer cut short", replace(honest, response=Message("response", sealed=sealed[:-1])))
    edited = sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]
    yield row("answer edited", replace(honest, response=Message("response", sealed=edited)))
    ids = ordered.answer.token_ids
    swapped = response_message(ordered.enclave, order, ordered.said, Response((*ids[1:], ids[0]), ordered.salts))
    yield row("answer's tokens swapped after signing", replace(honest, response=swapped))
    yield row("cached answer to another prompt", cached)
    relabelled = replace(cached, order=order, query=honest.query)
    yield row("cached answer under this order's name", resigned(relabelled, other.enclave, order_id=order.id))
    accepted = OnceStore()
    accepted.claim(order.nonce)
    yield row("receipt replayed", honest, nonces=accepted)
    yield row("receipt reused for a new order", honest, placed=replace(ordered, number="3").placed)
    yield row("receipt of one query, response of another", replace(honest, response=cached.response))
    yield row("receipt of one response, query of another", replace(honest, query=cached.query))
    yield row("receipt edited after signing", replace(honest, receipt=replace(honest.receipt, states_root=bytes(32))))

    def asked(attack: str, order: Any, query: Message, times: int = 1) -> AttackRow:
        served = OnceStore()
        parts = (ordered.enclave, bench.model, order, query)
        return _refused("answer", attack, lambda: [serve(*parts, served=served) for _ in range(times)])

    yield asked("prompt swapped after sealing", order, replace(ordered, prompt=other.prompt).query)
    longer = replace(order, decoding=replace(order.decoding, max_tokens=1))
    yield asked("sealed query served again with another token limit", longer, honest.query)
    yield asked("order served twice", order, honest.query, times=2)


def statement_frauds(ordered: Served) -> Iterator[AttackRow]:
    """An attested key signs statements that contradict the order, the model or themselves."""
    for attack, forgery in false_statements(ordered):
        yield _row(ordered, STATEMENT, attack, forgery)
    yield AttackRow("order served by two enclaves", STATEMENT, *twice_answered(replace(ordered, sealed=False)))


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
    """The enclave measures the model that was ordered, whatever runs, and signs a statement that
    agrees with order, model and itself."""
    bench, answer, trace = ordered.bench, ordered.answer, ordered.answer.committed
    layers = bench.model.architecture.layers
    cheap, kept = bench.other(drop_layers=range(1, layers, 3)), sorted(set(range(layers)) - set(range(1, layers, 3)))
    downgraded = ordered.answered_by(cheap)
    stretched = ordered.trace_over(downgraded.token_ids, cheap, kept)
    invented = tuple(bench.secret(f"leaf{number}") for number in range(stretched.shape.leaves))
    leaves, middle = list(trace.leaves), trace.shape.leaves // 2
    leaves[middle] = bytes(32)
    warm = replace(ordered, decoding=replace(ordered.decoding, temperature_milli=900), number="4")
    lies: dict[str, tuple[Served, Answer]] = {
        "layers dropped, trace of the cheap run stretched": (ordered, replace(downgraded, trace=stretched)),
        "layers dropped, trace made up": (ordered, replace(downgraded, trace=replace(stretched, leaves=invented))),
        "one layer's output altered once": (ordered, replace(answer, trace=replace(trace, leaves=tuple(leaves)))),
        "one token replaced": (ordered, ordered.claiming(_one_replaced(ordered))),
        "sampled warm, signed as greedy": (ordered, ordered.answered_by(bench, replace(warm.decoding, seed=7))),
        "draws ground by seed, signed under the order": (
            warm,
            warm.answered_by(bench, _ground(warm).decoding, order_id=_ground(warm).order.id),
        ),
    }
    for attack, (whose, lie) in lies.items():
        row = _row(whose, BROKEN, attack, whose.sign(replace(lie, configuration=whose.answer.configuration)))
        if row.caught_by == ONLY_RE_EXECUTION:
            row = replace(row, detail=f"accepted; run again: {first_difference(whose.answer, lie)}")
        yield row


def _one_replaced(ordered: Served) -> tuple[int, ...]:
    """The answer's tokens with the last one exchanged that is no stop token, for no stop token
    either."""
    ids, model = list(ordered.answer.token_ids), ordered.bench.model.architecture
    at = max(at for at, token in enumerate(ids) if token not in model.stop_ids)
    after = ((ids[at] + step) % model.vocab for step in itertools.count(1))
    ids[at] = next(token for token in after if token not in model.stop_ids)
    return tuple(ids)


def first_difference(honest: Answer, claimed: Answer) -> str:
    """Where a claimed answer departs from the honest run first, in words: in a leaf, or in a token
    that the honest run up to there would not have chosen."""
    ours, theirs = honest.committed, claimed.committed
    chosen = zip(honest.token_ids, claimed.token_ids, strict=False)
    number = next((number for number, (mine, other) in enumerate(chosen) if mine != other), None)
    for index, (mine, other) in enumerate(zip(ours.leaves, theirs.leaves, strict=False)):
        position, layer = divmod(index, ours.shape.layers)
        # A false token is fed, and shows in the states, one position after it was chosen.
        if number is not None and position >= len(honest.prompt_ids) + number:
            break
        if mine != other or ours.shape.layers != theirs.shape.layers:
            return f"the trace differs first at position {position}, layer {layer}"
    if number is not None:
        return f"the trace is the honest one up to token number {number}, which is another"
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
