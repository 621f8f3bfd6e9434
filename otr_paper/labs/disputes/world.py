"""A tiny model, an answer of it, and a court in which it can be disputed."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from eth_keys import keys as eth_keys

from otr_core.dispute.court import Court
from otr_core.dispute.game import RegisteredModel
from otr_core.dispute.play import Filed, file_challenge
from otr_core.dispute.records import Key, Terms
from otr_core.lane import program as pr
from otr_core.lane.sampling import Decoding
from otr_core.poea.receipt import Receipt, sign_receipt
from otr_core.poea.trace import Trace, TraceRecorder
from otr_node.commitment import ModelTrees, commit_model
from otr_node.generate import generate
from otr_node.portable import PortableModel, load_portable
from otr_node.run import Run, Tamper
from otr_paper.labs.tiny import TINY, write_tiny

START = 1_800_001_000
SEED = hashlib.sha256(b"trace seed").digest()
TERMS = Terms(
    arity_bits=2, window_s=10_000, reveal_s=600, clock_s=3_000, increment_s=30, exit_s=20_000, claim_s=900,
    least_stake_wei=10**18, bond_wei=10**17, slash_bps=9_000, reward_bps=4_000, compensation_bps=5_000,
)  # fmt: skip
REGISTRAR, OPERATOR, FISHERMAN, CLIENT, OTHER = (f"0x{i:040x}" for i in range(0xA1, 0xA6))
KEY = eth_keys.PrivateKey(hashlib.sha256(b"signing key").digest())
KEY_ID = hashlib.sha256(b"key id").digest()


@dataclass(frozen=True)
class TinyAnswer:
    """A model and one honest answer of it."""

    model: PortableModel
    trees: ModelTrees
    run: Run
    court_model: RegisteredModel


@functools.cache
def tiny(temperature_milli: int = 0, tokens: int = 10) -> TinyAnswer:
    model, trees = tiny_model()
    decoding = Decoding(tokens, seed=5, temperature_milli=temperature_milli)
    answer = generate(model, "w3 w5 w7 w9", decoding, trace_seed=SEED)
    run = Run(model, trees, answer.prompt_ids, answer.token_ids, SEED, decoding)
    assert answer.trace is not None
    assert run.trace == answer.trace
    return TinyAnswer(model, trees, run, RegisteredModel(trees.dims, trees.weights_root, trees.tables_root))


@functools.cache
def tiny_model() -> tuple[PortableModel, ModelTrees]:
    model = load_portable(write_tiny(Path(tempfile.mkdtemp(prefix="otr-tiny-")), TINY))
    return model, commit_model(model)


def receipt_of(run: Run, model_id: bytes = b"m" * 32, **changes: Any) -> Receipt:
    """A receipt as a (broken) TEE would sign it for what ``run`` commits to."""
    fixed = {name: hashlib.sha256(name.encode()).digest() for name in ("job", "nonce", "query", "response", "config")}
    receipt = Receipt(
        fixed["job"], fixed["nonce"], model_id, fixed["query"], run.decoding, fixed["response"], run.trace.shape,
        run.trace.root, fixed["config"], KEY_ID,
    )  # fmt: skip
    return replace(receipt, **changes)


def new_court(served: TinyAnswer, terms: Terms = TERMS, arbiter: Any = None) -> Court:
    """A court with one staked operator whose key serves the model."""
    court = Court(terms, REGISTRAR, arbiter)
    court = court.register(START, OPERATOR, 3 * terms.least_stake_wei)
    court = court.register_model(REGISTRAR, b"m" * 32, served.court_model)
    key = Key(OPERATOR, b"m" * 32, bytes(KEY.public_key.to_canonical_address()))
    return court.register_key(REGISTRAR, KEY_ID, key)


def filed(court: Court, run: Run, token: int = 0, *, now: int = START + 1, challenger: str = FISHERMAN) -> Filed:
    """A batch of one receipt and an opened challenge of it."""
    signed = sign_receipt(KEY, receipt_of(run))
    return file_challenge(
        court, now=now, operator=OPERATOR, challenger=challenger, receipt=signed.receipt, signature=signed.signature,
        token=token, salt=hashlib.sha256(b"salt").digest(),
    )  # fmt: skip


def tampered(served: TinyAnswer, tamper: Tamper) -> Run:
    """The same answer, computed with one changed value; its tokens are kept."""
    honest = served.run
    return Run(
        served.model, served.trees, honest.prompt_ids, honest.token_ids, SEED, honest.decoding, tamper
    )  # fmt: skip


def random_tamper(served: TinyAnswer, random: Random, operator: int | None = None) -> Tamper:
    """A change of one random element of the trace (of one operator when given) that is not undone by rounding."""
    position = random.randrange(len(served.run.fed))
    operators = pr.layer_program(served.trees.dims, position)
    number = random.randrange(len(operators)) if operator is None else operator
    element = random.randrange(operators[number].length)
    delta = random.choice((-1, 1)) * random.choice((1, 7, 2**12, 2**20))
    return Tamper(position, random.randrange(served.trees.dims.layers), number, element, delta)


def with_token(served: TinyAnswer, step: int, token: int) -> Run:
    """The answer with its token number ``step`` replaced, and what follows computed from the false one."""
    honest = served.run
    ids = (*honest.token_ids[:step], token, *honest.token_ids[step + 1 :])
    return Run(served.model, served.trees, honest.prompt_ids, ids, SEED, honest.decoding)


def honest_run(served: TinyAnswer, like: Run) -> Run:
    """An honest run on the tokens that ``like`` claims."""
    return Run(served.model, served.trees, like.prompt_ids, like.token_ids, SEED, like.decoding)


class WronglySalted(Run):
    """Commits to the honest states under salts that do not come from the committed seed, from some leaf on."""

    first: int = 0

    @functools.cached_property
    def trace(self) -> Trace:
        made: Trace = Run.trace.func(self)  # type: ignore[attr-defined]
        other = TraceRecorder(hashlib.sha256(b"other seed").digest())
        self._replay(other, len(self.fed))
        return replace(made, leaves=made.leaves[: self.first] + other.finish().leaves[self.first :])

    def piece(self, position: int, layer: int, piece: int) -> tuple[bytes, list[bytes]]:
        if position * self.trees.dims.layers + layer < self.first:
            return super().piece(position, layer, piece)
        _ = self.trace
        committed, self.seed = self.seed, hashlib.sha256(b"other seed").digest()
        try:
            return super().piece(position, layer, piece)
        finally:
            self.seed = committed


def salted_wrongly(served: TinyAnswer, random: Random) -> Run:
    run = served.run
    false = WronglySalted(served.model, served.trees, run.prompt_ids, run.token_ids, SEED, run.decoding)
    false.first = random.randrange(len(run.trace.leaves))
    return false
