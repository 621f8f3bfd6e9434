"""A coalition of operator, own fisherman and own client against one honest fisherman and one honest
client: any calls of the court in any order, and what the coalition has of it in the end.

Games are not played move by move here: the arbiter knows the truth and stands for the side that is
right and plays on, a timeout for a side that lets itself lose. Everything else is the court's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import TWO_ANSWERS, TWO_PLACES, LeafPlace, challenge_hash, spot_statement
from otr_core.dispute.game import statement
from otr_core.dispute.records import Challenge, ChallengeStatus, Terms
from otr_core.dispute.state import Verdict
from otr_core.errors import MoveError
from otr_core.lane import program as pr
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.order import Domain
from otr_core.poea.receipt import SignedReceipt
from otr_paper.labs.disputes.parties import (
    CLIENT,
    FISHERMAN,
    KEY_ID,
    OPERATOR,
    OTHER,
    REGISTRAR,
    leaf_of,
    registered_key,
    registered_model,
)
from otr_paper.labs.disputes.world import START, TERMS, random_tamper, tiny, tiny_signed

SYBIL, OWN_CLIENT = OTHER, f"0x{0xA6:040x}"
"""The operator's own fisherman and client. ``FISHERMAN`` and ``CLIENT`` are honest."""
COALITION = (OPERATOR, SYBIL, OWN_CLIENT)
EVERYONE = (*COALITION, FISHERMAN, CLIENT, REGISTRAR)
PURSE_WEI = 10**20
"""What everyone has to begin with."""
SCENE_TERMS = replace(TERMS, spot_bps=5_000)
"""The beacon draws every second answer, so that short sequences meet the duty."""
SALT = b"s" * 32
WAITS = (0, 1, 1, 12, 60, 601, 3_001, 10_001)
"""Seconds between two calls: within, and beyond, each of the terms' times."""


@functools.cache
def receipts() -> dict[str, SignedReceipt]:
    """What the coalition can put into a batch, by what is wrong with it."""
    run = tiny().honest
    false = tiny().run(replace(random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT), delta=2**20))
    return {
        "honest": tiny_signed(run),
        "lie": tiny_signed(false),
        "poison": tiny_signed(run, key_id=b"x" * 32),
        "second": tiny_signed(run, response_digest=b"another".ljust(32)),
    }


CONTENTS: tuple[tuple[str, ...], ...] = (
    *(("honest",), ("lie",), ("poison",), ("honest", "lie"), ("honest", "poison"), ("second",)),
    *(("honest", "honest"), ("lie", "poison"), ("second", "poison", "poison", "poison")),
)
"""Batches that the coalition commits."""


def leaves_of(content: Sequence[str]) -> list[bytes]:
    """Leaves of a batch with these receipts."""
    return [leaf_of(receipts()[name]) for name in content]


def id_of_batch(content: Sequence[str]) -> bytes:
    """Its id."""
    return batch_id(OPERATOR, merkle.root(leaves_of(content)))


def truth(court: Court, challenge: Challenge) -> Verdict:
    """Who is right about a challenged or drawn answer."""
    content = next(each for each in CONTENTS if id_of_batch(each) == challenge.batch)
    name = content[challenge.index]
    return Verdict.OPERATOR_LOSES if name in ("lie", "poison") else Verdict.CHALLENGER_LOSES


@dataclass
class Scene:
    """A court, everyone's purse, and the time.

    Attributes:
        court: as it stands. now: Unix seconds. purses: wei outside the court, by address.
        taken: calls that the court has taken, by name. refused: those that it refused, by reason.
        slashed_wei: what the operator's conviction has slashed.
    """

    court: Court
    now: int = START
    purses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVERYONE, PURSE_WEI))
    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    slashed_wei: int = 0

    def call(self, name: str, sender: str, change: Callable[[Court], Court], value: int = 0) -> bool:
        """Make a call that takes ``value`` wei along; whether the court takes it."""
        before = self.court.operators[OPERATOR]
        try:
            self.court = change(self.court)
        except MoveError as error:
            self.refused.append(error.reason)
            return False
        after = self.court.operators[OPERATOR]
        if after.convicted and not before.convicted:
            self.slashed_wei = before.stake_wei - after.stake_wei
        self.purses[sender] -= value
        self.taken.append(name)
        return True

    def wealth(self, *who: str) -> int:
        """What these have, in the court and outside, once everything is over."""
        stakes = sum(self.court.operators[name].stake_wei for name in who if name in self.court.operators)
        return stakes + sum(self.court.credits.get(name, 0) + self.purses[name] for name in who)

    @property
    def total_wei(self) -> int:
        """All money there is: in purses, and in the court."""
        return sum(self.purses.values()) + self.court.held_wei


def new_scene(terms: Terms = SCENE_TERMS) -> Scene:
    """A staked operator who serves the tiny model, and a court whose arbiter knows the truth."""
    return Scene(_founded(terms))


@functools.cache
def _founded(terms: Terms) -> Court:
    domain, model_id = receipts()["honest"].order.domain, tiny().order.model_id
    court = Court(terms, domain, REGISTRAR, lambda shown, proof: shown == proof)
    court = court.register_model(REGISTRAR, model_id, registered_model(tiny().trees))
    key = replace(registered_key(OPERATOR, model_id), platform=b"a class".ljust(32))
    court = court.register_key(START, REGISTRAR, KEY_ID, key)
    return court.register(START, OPERATOR, 3 * terms.least_stake_wei)


def open_call(scene: Scene, number: int, content: Sequence[str], index: int) -> Callable[[Court], Court]:
    """The call that opens challenge ``number`` as committed by ``commitment``."""
    path = tuple(merkle.inclusion_proof(leaves_of(content), index))
    shown: dict[str, Any] = {"batch": id_of_batch(content), "index": index, "token": 0, "salt": SALT, "path": path}
    shown |= vars(receipts()[content[index]])
    who = scene.court.challenges[number - 1].challenger
    return lambda court: court.open(scene.now, who, number, **shown)


def commitment(who: str, content: Sequence[str], index: int) -> bytes:
    """What ``who`` commits to about a receipt of a batch."""
    return challenge_hash(who, id_of_batch(content), index, 0, SALT)


def arbitrated(scene: Scene, number: int) -> Callable[[Court], Court]:
    """The side of a game that is right plays on, and wins."""
    challenge, domain = scene.court.challenges[number - 1], scene.court.domain
    assert challenge.game is not None
    verdict = truth(scene.court, challenge)
    proof = statement(domain, number, challenge.game.claim.trace_root, verdict)
    return lambda court: court.arbitrate(scene.now, number, verdict, proof)


@dataclass
class Fisherman:
    """Honest: challenges every lie that it sees committed, at once, and finishes what it began.

    Attributes:
        scene: where. patience: chance with which it plays a game on now, and not later. own: numbers
            of its challenges, and what each is about.
    """

    scene: Scene
    patience: float
    own: dict[int, tuple[tuple[str, ...], int]] = field(default_factory=dict)

    def look(self, random: Random) -> None:
        """What it does after any call of others."""
        scene = self.scene
        for content in CONTENTS:
            batch, about = id_of_batch(content), [number for number, name in enumerate(content) if name == "lie"]
            live = batch in scene.court.batches and not scene.court.batches[batch].closed
            if live and about and (content, about[0]) not in self.own.values() and not self._convicted:
                bond, hidden = scene.court.terms.bond_wei, commitment(FISHERMAN, content, about[0])
                scene.call(
                    "challenge",
                    FISHERMAN,
                    partial(Court.challenge, now=scene.now, sender=FISHERMAN, commitment=hidden, value=bond),
                    bond,
                )
                self.own[len(scene.court.challenges)] = content, about[0]
        for number, (content, index) in self.own.items():
            status = scene.court.challenges[number - 1].status
            if status == ChallengeStatus.COMMITTED:
                scene.call("open", FISHERMAN, open_call(scene, number, content, index))
            elif status == ChallengeStatus.OPEN and random.random() < self.patience:
                scene.call("arbitrate", FISHERMAN, arbitrated(scene, number))

    @property
    def _convicted(self) -> bool:
        return self.scene.court.operators[OPERATOR].convicted


def random_call(scene: Scene, random: Random) -> None:
    """One call of the coalition, legal or not: any function, any argument that it could have."""
    now, terms, court = scene.now, scene.court.terms, scene.court
    who, content = random.choice(COALITION), random.choice(CONTENTS)
    index, number = random.randrange(len(content)), random.randint(0, len(court.challenges) + 1)
    batch, bond = id_of_batch(content), terms.bond_wei
    root, signed = merkle.root(leaves_of(content)), receipts()[content[index]]
    hidden = commitment(who, content, index)
    value = random.choice((1, 10**9, 10**18, 10**19))
    place = LeafPlace(batch, index, tuple(merkle.inclusion_proof(leaves_of(content), index)))
    other = LeafPlace(batch, 0, tuple(merkle.inclusion_proof(leaves_of(content), 0)))
    leaf = merkle.leaf_hash(leaf_of(signed))
    evidence = Equivocation(receipts()["honest"], receipts()[random.choice(("honest", "lie", "second"))])
    order_id = evidence.first.receipt.order_id
    accusation = random.choice(((order_id, TWO_ANSWERS), (leaf, TWO_PLACES)))
    accused = challenge_hash(who, accusation[0], 0, accusation[1], SALT)
    calls: list[tuple[str, Callable[[Court], Court], int]] = [
        ("register", lambda c: c.register(now, who, value), value),
        *3 * [("commit_batch", lambda c: c.commit_batch(now, OPERATOR, root, len(content)), 0)],
        ("escrow", lambda c: c.escrow(now, who, batch, value), value),
        ("finalise", lambda c: c.finalise(now, batch), 0),
        ("refund", lambda c: c.refund(who, batch), 0),
        ("request_exit", lambda c: c.request_exit(now, OPERATOR), 0),
        ("withdraw_stake", lambda c: c.withdraw_stake(now, who), 0),
        ("challenge", lambda c: c.challenge(now, who, hidden, bond), bond),
        ("accusation", lambda c: c.challenge(now, who, accused, bond), bond),
        ("expire", lambda c: c.expire(now, number), 0),
        ("timeout", lambda c: c.timeout(now, number), 0),
        ("close", lambda c: c.close(who, number), 0),
        ("pay_reward", lambda c: c.pay_reward(now, OPERATOR), 0),
        ("demand", lambda c: c.demand(now, who, OPERATOR, signed.receipt, signed.signature, bond), bond),
        ("show", lambda c: c.show(now, number, place), 0),
        ("publish_receipt", lambda c: c.publish_receipt(now, OPERATOR, number), 0),
        ("lapse", lambda c: c.lapse(now, number), 0),
        ("equivocation", lambda c: c.equivocation(now, who, number, OPERATOR, evidence, SALT), 0),
        ("two_places", lambda c: c.two_places(now, who, number, leaf, place, other, SALT), 0),
        *2 * [("summon", lambda c: c.summon(now, who, batch, index, random.randrange(len(c.draws) + 1)), 0)],
    ]
    mine = [each for each in range(1, len(court.challenges) + 1) if court.challenges[each - 1].challenger in COALITION]
    kinds = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.SPOT)
    waiting = [each for each in mine if court.challenges[each - 1].status in kinds]
    if waiting and random.random() < 0.4:
        number = random.choice(waiting)
        challenge = court.challenges[number - 1]
        owner, known = challenge.challenger, challenge.commitment
        if challenge.status == ChallengeStatus.COMMITTED:
            fits = [(c, i) for c in CONTENTS for i in range(len(c)) if commitment(owner, c, i) == known]
            if fits:
                scene.call("open", owner, open_call(scene, number, *fits[0]))
            elif known == challenge_hash(owner, order_id, 0, TWO_ANSWERS, SALT):
                two = Equivocation(receipts()["honest"], receipts()["second"])
                scene.call("equivocation", owner, lambda c: c.equivocation(now, owner, number, OPERATOR, two, SALT))
            else:
                _show_two_places(scene, random, number)
            return
        elif challenge.status == ChallengeStatus.OPEN:
            if court.operators[OPERATOR].convicted and random.random() < 0.5:
                scene.call("close", owner, lambda c: c.close(owner, number))
            else:
                scene.call("arbitrate", owner, arbitrated(scene, number))
            return
        else:
            scene.call("attest", owner, attested(scene, number))
            return
    name, change, cost = random.choice(calls)
    scene.call(name, OPERATOR if name in ("commit_batch", "request_exit", "publish_receipt") else who, change, cost)


def _show_two_places(scene: Scene, random: Random, number: int) -> None:
    """Opens a challenge of a receipt in two places, where it is in two."""
    owner, known = scene.court.challenges[number - 1].challenger, scene.court.challenges[number - 1].commitment
    for leaf in {merkle.leaf_hash(leaf_of(signed)) for signed in receipts().values()}:
        if known == challenge_hash(owner, leaf, 0, TWO_PLACES, SALT):
            places = [
                LeafPlace(id_of_batch(c), at, tuple(merkle.inclusion_proof(leaves_of(c), at)))
                for c in CONTENTS
                for at, content in enumerate(leaves_of(c))
                if merkle.leaf_hash(content) == leaf and id_of_batch(c) in scene.court.batches
            ]
            first, second = (random.choice(places), random.choice(places)) if places else (LeafPlace(leaf, 0, ()),) * 2
            shown = partial(Court.two_places, now=scene.now, sender=owner, number=number, leaf=leaf, salt=SALT)
            scene.call("two_places", owner, partial(shown, first=first, second=second))


def attested(scene: Scene, number: int) -> Callable[[Court], Court]:
    """The truth about a drawn answer is shown."""
    challenge, domain = scene.court.challenges[number - 1], scene.court.domain
    verdict = truth(scene.court, challenge)
    return lambda court: court.attest(scene.now, number, verdict, spot_proof(domain, challenge.commitment, verdict))


def spot_proof(domain: Domain, subject: bytes, verdict: Verdict) -> bytes:
    """What the arbiter of a scene accepts."""
    return spot_statement(domain, subject, verdict)


def finish(scene: Scene, fisherman: Fisherman, random: Random) -> None:
    """Everything that is open is brought to its end, and everyone takes what is due."""
    fisherman.patience = 1.0
    fisherman.look(random)
    fisherman.look(random)
    scene.now += scene.court.terms.exit_s + scene.court.terms.clock_s
    for number, challenge in enumerate(scene.court.challenges, 1):
        if challenge.status == ChallengeStatus.COMMITTED:
            scene.call("expire", FISHERMAN, partial(Court.expire, now=scene.now, number=number))
        elif challenge.status == ChallengeStatus.OPEN:
            scene.call("timeout", FISHERMAN, partial(Court.timeout, now=scene.now, number=number))
        elif challenge.status in (ChallengeStatus.DEMAND, ChallengeStatus.SPOT):
            scene.call("lapse", FISHERMAN, partial(Court.lapse, now=scene.now, number=number))
    scene.now += scene.court.terms.claim_s + 1
    scene.call("pay_reward", FISHERMAN, lambda c: c.pay_reward(scene.now, OPERATOR))
    for batch in scene.court.batches:
        if not scene.call("finalise", OPERATOR, partial(Court.finalise, now=scene.now, batch=batch)):
            for payer in EVERYONE:
                scene.call("refund", payer, partial(Court.refund, sender=payer, batch=batch))


def play_out(
    seed: int, calls: int = 30, opening: Sequence[Callable[[Scene, Random], None]] = ()
) -> tuple[Scene, Fisherman]:
    """One sequence: what guides it first, then random calls; the honest react to each; then the end.

    Args:
        opening: calls of the coalition that begin a strategy.
    """
    random = Random(seed)
    scene = new_scene()
    fisherman = Fisherman(scene, patience=random.choice((0.1, 0.5, 1.0)))
    for make in (*opening, *[random_call] * calls):
        hidden = any(scene.court.challenges[n - 1].status == ChallengeStatus.COMMITTED for n in fisherman.own)
        scene.now += random.choice(WAITS[:5] if hidden or len(scene.taken) < 12 else WAITS)
        make(scene, random)
        if scene.court.draws == () or random.random() < 0.1:
            scene.call("post_draw", REGISTRAR, lambda c: c.post_draw(scene.now, REGISTRAR, random.randbytes(32)))
        for batch in scene.court.batches:
            if random.random() < 0.2:
                scene.call(
                    "escrow",
                    CLIENT,
                    partial(Court.escrow, now=scene.now, sender=CLIENT, batch=batch, value=10**15),
                    10**15,
                )
        scene.now += 1
        fisherman.look(random)
    finish(scene, fisherman, random)
    return scene, fisherman
