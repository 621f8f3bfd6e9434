"""Every field of an answer statement, and the lies that can be told in it: which move convicts.

Each lie is told by an operator that is free: it signs what it likes, commits to the leaves it likes
and plays on. The fisherman knows the order and has its own run of it; what it disputes, ``case``
says. ``tell`` plays one lie to its end in both courts. The table in the documentation is made of
these rows, and tests play each of them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, case
from otr_core.dispute.state import AnswerClaim, Verdict
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, program
from otr_core.lane.tensor_program import TensorDims
from otr_core.merkle import Tree, leaf_hash
from otr_core.poea.receipt import Receipt, SignedReceipt, sign_receipt
from otr_core.poea.trace import Trace, prompt_leaves, prompt_root, token_leaf
from otr_node.run import Run
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes.both import Both
from otr_paper.labs.disputes.parties import KEY, OPERATOR, vouched
from otr_paper.labs.disputes.world import random_tamper, salted_wrongly, tiny
from otr_paper.labs.tiny import TINY

OTHER_SEED = hashlib.sha256(b"another seed").digest()
SALT = hashlib.sha256(b"salt").digest()
(STOP_ID,) = TINY.stop_ids
BY_ITSELF, SILENCE = "open", "timeout"
"""What convicts when the receipt is false by itself, and when the operator has no move."""


class FreeLeaves(Run):
    """A run that commits to token leaves of its own choice, and to a hash for a seed."""

    leaves: Mapping[int, bytes]
    committed_hash: bytes = b""

    @functools.cached_property
    def trace(self) -> Trace:
        made: Trace = Run.trace.func(self)  # type: ignore[attr-defined]
        tokens = tuple(self.leaves.get(at, leaf) for at, leaf in enumerate(made.tokens))
        return replace(made, tokens=tokens, seed_hash=self.committed_hash or made.seed_hash)


def free_leaves(run: Run, leaves: Mapping[int, bytes], committed_hash: bytes = b"") -> FreeLeaves:
    """``run`` with some token leaves exchanged."""
    false = FreeLeaves(**{each.name: getattr(run, each.name) for each in fields(Run) if each.init})
    false.leaves, false.committed_hash = leaves, committed_hash
    return false


@dataclass(frozen=True)
class Told:
    """A lie as it is told.

    Attributes:
        signed: the receipt. operator: who defends it. own: the fisherman's run.
    """

    signed: SignedReceipt
    operator: HonestOperator
    own: Run


@dataclass(frozen=True)
class Scene:
    """Where a lie is told: about an answer in this lane, at places drawn from this seed."""

    lane: str = Dims.lane
    seed: int = 0

    def tiny(self, temperature: int = 0) -> Served:
        return tiny(temperature, lane=self.lane)

    def random(self, draw: int) -> Random:
        """One of a hundred draws of the seed."""
        return Random(100 * self.seed + draw)


@dataclass(frozen=True)
class Lie:
    """One row of the table.

    Attributes:
        part: field of the receipt. lie: what is false. ends: the move that convicts; ``BY_ITSELF``: the
            opened receipt; ``SILENCE``: none that the operator could make.
        told: makes it. reason: why an opened receipt convicts, as ``registry.receipt_fault`` names
            it.
    """

    part: str
    lie: str
    ends: str
    told: Callable[[Scene], Told] = field(compare=False)
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.part}: {self.lie}"

    def tell(self, lane: str = Dims.lane, seed: int = 0) -> Told:
        """The lie about an answer in this lane, at places drawn from this seed where it has any."""
        return self.told(Scene(lane, seed))


def _signed(served: Served, run: Run, **changes: Any) -> SignedReceipt:
    return vouched(served.order, run, **changes)


def _tokens(served: Served, leaf: Callable[[Served], Mapping[int, bytes]], committed_hash: bytes = b"") -> Told:
    """Honest states, and token leaves or a hash for a seed of the operator's choice."""
    false = free_leaves(served.honest, leaf(served), committed_hash)
    return Told(_signed(served, false), HonestOperator(false), served.honest)


def _leaf(
    at: Callable[[int], int], made: Callable[[Served, int], bytes], temperature: int = 0
) -> Callable[[Scene], Told]:
    """One token leaf exchanged, at the place that ``at`` gives for the length of the prompt."""

    def tell(scene: Scene) -> Told:
        def leaves(served: Served) -> Mapping[int, bytes]:
            number = at(len(served.honest.prompt_ids))
            return {number: made(served, number)}

        return _tokens(scene.tiny(temperature), leaves)

    return tell


def _true(served: Served, at: int, **other: Any) -> bytes:
    """Token leaf ``at`` with something else in it: salt, token id or number in the answer."""
    run = served.honest
    ids, prompt = (*run.prompt_ids, *run.token_ids), len(run.prompt_ids)
    given = at < prompt
    seed = other.get("seed", (run.prompt_seed or run.seed) if given else run.seed)
    token = other.get("token", ids[at])
    return token_leaf(seed, at, token, other.get("step", -1 if given else at - prompt))


def _receipt(reason_field: Mapping[str, Any], temperature: int = 0) -> Callable[[Scene], Told]:
    """An honest run under a receipt that says something else of it."""

    def tell(scene: Scene) -> Told:
        served = scene.tiny(temperature)
        return Told(_signed(served, served.honest, **reason_field), HonestOperator(served.honest), served.honest)

    return tell


def _answer(
    ids: Callable[[tuple[int, ...]], tuple[int, ...]], temperature: int = 1500, **changes: Any
) -> Callable[[Scene], Told]:
    """The ordered model's run on other tokens than were chosen."""

    def tell(scene: Scene) -> Told:
        served = scene.tiny(temperature)
        false = served.run(token_ids=ids(served.honest.token_ids))
        return Told(_signed(served, false, **changes), HonestOperator(false), served.honest)

    return tell


def _stopped(ids: tuple[int, ...]) -> tuple[int, ...]:
    """An answer that ends with a stop id, or its first tokens with one after them."""
    return ids if ids[-1] == STOP_ID else (*ids[:4], STOP_ID)


def _readable_by_nobody(scene: Scene) -> Told:
    """The client orders an id beyond the vocabulary, and the operator signs an answer to it."""
    served = scene.tiny()
    beyond = (*served.honest.prompt_ids[:-1], served.trees.dims.vocab)
    seed = served.honest.prompt_seed or served.honest.seed
    order = replace(served.order, prompt_root=prompt_root(beyond, seed))
    last = len(beyond) - 1
    run = replace(served.honest, order_id=order.id)
    false = free_leaves(run, {last: prompt_leaves(beyond, seed)[last]})
    # Whoever has a run of this prompt has read something else; its prompt's tree is the client's.
    own = free_leaves(run, {})
    own.__dict__["prompt"] = false.__dict__["prompt"] = Tree([leaf_hash(leaf) for leaf in prompt_leaves(beyond, seed)])
    return Told(vouched(order, false), HonestOperator(false), own)


def _states(operator: int) -> Callable[[Scene], Told]:
    """One value of an operator changed, and all that follows from it."""

    def tell(scene: Scene) -> Told:
        served, delta = scene.tiny(), 2**30 if scene.lane == Dims.lane else 2**20
        for draw in range(50):
            tamper = random_tamper(served, scene.random(draw), operator)
            false = served.run(replace(tamper, delta=delta))
            if false.trace.states_root != served.honest.trace.states_root:
                return Told(_signed(served, false), HonestOperator(false), served.honest)
        raise AssertionError("no change of this operator reaches the trace")

    return tell


def _wrong_state_salt(scene: Scene) -> Told:
    served = scene.tiny()
    false = salted_wrongly(served, scene.random(3))
    return Told(_signed(served, false), HonestOperator(false), served.honest)


def _zero_roots(name: str) -> Callable[[Scene], Told]:
    """A root of nothing: no tree has it."""
    return _receipt({name: bytes(32)})


def _liked_order(scene: Scene) -> Told:
    """Tokens drawn for an order that the operator liked better."""
    served = scene.tiny(1500)
    liked = served.answered_by(served.bench, order_id=bytes(32)).token_ids
    false = replace(served.run(token_ids=liked), order_id=bytes(32))
    finish = "stop" if liked[-1] in served.bench.model.architecture.stop_ids else "length"
    return Told(_signed(served, false, finish=finish), HonestOperator(false), served.honest)


def _elsewhere(scene: Scene) -> Told:
    """A signature for a court of another chain."""
    served = scene.tiny()
    honest, domain = _signed(served, served.honest), served.order.domain
    other = replace(served.order, domain=replace(domain, chain_id=domain.chain_id + 1))
    signed = sign_receipt(KEY, other, honest.receipt)
    return Told(replace(signed, order=served.order), HonestOperator(served.honest), served.honest)


def _beyond(served: Served, at: int) -> bytes:
    return _true(served, at, token=served.trees.dims.vocab)


def _embedded(served: Served, at: int) -> bytes:
    """An id whose embedding row would be a row of the output matrix."""
    return _true(served, at, token=2 * served.trees.dims.vocab - 1)


_TOLD = (
    Lie("orderId", "an answer to another chain's order", BY_ITSELF, _elsewhere, "signature"),
    Lie("promptTokens", "one less than ordered", BY_ITSELF, _receipt({"prompt_tokens": 4}), "prompt"),
    Lie("answerTokens", "more than ordered", BY_ITSELF, _receipt({"answer_tokens": 11, "finish": "stop"}), "length"),
    Lie("answerTokens", "beyond a stop id", "expand_token", _answer(lambda ids: (*_stopped(ids), 5, 6, 7))),
    Lie("finish", "'length' with fewer tokens than ordered", BY_ITSELF, _receipt({"answer_tokens": 9}), "finish"),
    Lie("finish", "'stop' without a stop id", "expand_token", _answer(lambda ids: ids[:4], finish="stop")),
    Lie("finish", "'length' at a stop id", "expand_token", _answer(lambda ids: (*ids[:-1], 2), 0, finish="length")),
    Lie("finish", "a stop id before the end", "expand_token", _answer(lambda ids: (*ids[:2], 2, *ids[3:]))),
    Lie("tokensRoot", "a root of nothing", SILENCE, _zero_roots("tokens_root")),
    Lie("tokensRoot", "another prompt token", SILENCE, _leaf(lambda p: p - 2, lambda s, at: _true(s, at, token=1))),
    Lie(
        "tokensRoot",
        "a prompt token under another salt",
        SILENCE,
        _leaf(lambda p: 0, lambda s, at: _true(s, at, seed=OTHER_SEED)),
    ),
    Lie(
        "tokensRoot", "a prompt token marked as chosen", SILENCE, _leaf(lambda p: 1, lambda s, at: _true(s, at, step=0))
    ),
    Lie("tokensRoot", "an ordered token beyond the vocabulary", "show_given", _readable_by_nobody),
    Lie(
        "tokensRoot",
        "a chosen token marked as given",
        "expand_token",
        _leaf(lambda p: p + 3, lambda s, at: _true(s, at, step=-1)),
    ),
    Lie(
        "tokensRoot",
        "a ground number in the answer",
        "expand_token",
        _leaf(lambda p: p + 2, lambda s, at: _true(s, at, step=289), 1500),
    ),
    Lie("tokensRoot", "a chosen token beyond the vocabulary", "expand_token", _leaf(lambda p: p + 3, _beyond)),
    Lie("tokensRoot", "an id that reads the output matrix", "expand_token", _leaf(lambda p: p + 5, _embedded, 1500)),
    Lie(
        "tokensRoot",
        "a chosen token under another salt",
        "accuse_salt",
        _leaf(lambda p: p + 4, lambda s, at: _true(s, at, seed=OTHER_SEED)),
    ),
    Lie(
        "tokensRoot",
        "the last token under another salt",
        "accuse_salt",
        _leaf(lambda p: p + 9, lambda s, at: _true(s, at, seed=OTHER_SEED)),
    ),
    Lie(
        "tokensRoot", "a leaf of another length", SILENCE, _leaf(lambda p: p + 1, lambda s, at: _true(s, at) + bytes(8))
    ),
    Lie(
        "tokensRoot",
        "another token than the model's",
        "prove",
        _answer(lambda ids: (*ids[:4], ids[4] + 1, *ids[5:]), 0),
    ),
    Lie("tokensRoot", "another token than the draw's", "prove", _answer(lambda ids: (*ids[:3], ids[3] + 1, *ids[4:]))),
    Lie("tokensRoot", "drawn for another order", "prove", _liked_order),
    Lie("statesRoot", "a root of nothing", SILENCE, _zero_roots("states_root")),
    Lie("statesRoot", "a state under another salt", "accuse_salt", _wrong_state_salt),
    Lie("seedHash", "no seed has it", SILENCE, lambda scene: _tokens(scene.tiny(), lambda served: {}, OTHER_SEED)),
    Lie("lane", "another lane", BY_ITSELF, _receipt({"lane": "native-float32"}), "lane"),
    Lie("layers", "one more", BY_ITSELF, _receipt({"layers": 4}), "trace-shape"),
    Lie("outputBytes", "wider rows", BY_ITSELF, _receipt({"output_bytes": 4}), "trace-shape"),
    Lie("kvBytes", "narrower rows", BY_ITSELF, _receipt({"kv_bytes": 4}), "trace-shape"),
    Lie(
        "configurationDigest",
        "another configuration",
        BY_ITSELF,
        _receipt({"configuration_digest": bytes(32)}),
        "configuration",
    ),
    Lie("keyId", "an unknown key", BY_ITSELF, _receipt({"key_id": b"x" * 32}), "key"),
)


def _values(dims: Dims) -> Iterator[Lie]:
    """A wrong value of each operator of a layer, in the lane of these dimensions."""
    for number, operator in enumerate(program(dims, LAYER, 0, 0)):
        yield Lie("statesRoot", f"a wrong value of {operator.name}", "prove", _states(number))


def _in_order(lies: Iterable[Lie]) -> tuple[Lie, ...]:
    return tuple(sorted(lies, key=lambda lie: [name for name, _, _ in Receipt.members].index(lie.part)))


LIES, TENSOR_LIES = (_in_order((*_TOLD, *_values(kind.of(TINY)))) for kind in (Dims, TensorDims))
"""Of the portable lane and of the lane h100-bf16, in the order of the receipt's fields."""
LIES_OF = {Dims.lane: LIES, TensorDims.lane: TENSOR_LIES}
TABLE = _in_order({lie.name: lie for lie in (*TENSOR_LIES, *LIES)}.values())
"""Of either lane, each once."""

UNSEEN = {
    "responseDigest": "a sealed response that is unlike the tokens, or holds another seed",
}
"""What only who can open the response can judge: it goes to the arbiter, and costs nobody anything."""


@dataclass(frozen=True)
class Ending:
    """How a lie ended in both courts.

    Attributes:
        convicted: the operator. last: the move that did it. refused: why the operator had none.
        gas: of all transactions from the challenge on, both sides. moves: of the game.
    """

    convicted: bool
    last: str
    refused: str
    gas: int
    moves: tuple[str, ...]


def tell(lie: Lie, pair: Both, told: Told | None = None) -> Ending:
    """Tell a lie to both courts, and let the fisherman answer.

    Args:
        told: as it is told; that of ``lie.tell()`` if not given.

    Raises:
        ChainError: the courts differ.
    """
    told = told or lie.tell()
    order, receipt = told.signed.order, told.signed.receipt
    before = len(pair.chain.ledger)
    token = 0
    if lie.ends != BY_ITSELF:
        how = order.decoding
        draws = receipt.positions, receipt.order_id, how.seed, how.temperature_milli
        prompt = order.prompt_root, order.prompt_tokens, receipt.finish_number
        claim = AnswerClaim(receipt.states_root, receipt.tokens_root, receipt.seed_hash, *draws, *prompt)
        found = case(told.own, claim, told.own.trees.stop_ids)
        assert found is not None, f"{lie.name}: nothing to dispute"
        token = found
    number, now = pair.open_challenge(told.signed, [SALT + bytes(65)], token=token, salt=SALT)
    log: list[Step] = []
    if pair.court.challenges[number - 1].game is not None:
        challenger = HonestChallenger(told.own)
        _, log = play(pair.court, number, told.operator, challenger, now=now, observe=pair.observe)
    spent = [one for one in pair.chain.ledger[before:] if one.call != "commit_batch"]
    convicted = pair.court.operators[pair.names[OPERATOR]].convicted
    last = log[-1] if log else None
    game = pair.court.challenges[number - 1].game
    assert (game is None) == (lie.ends == BY_ITSELF)
    assert game is None or convicted == (game.verdict == Verdict.OPERATOR_LOSES)
    return Ending(
        convicted,
        last.move[0] if last else BY_ITSELF,
        last.refused if last else "",
        sum(one.gas for one in spent),
        tuple(step.move[0] for step in log),
    )
