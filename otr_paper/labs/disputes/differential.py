"""One random game played in Python and on chain at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from otr_core import merkle
from otr_core.dispute.court import challenge_hash, receipt_leaf
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.lane import program as pr
from otr_core.poea.receipt import sign_receipt
from otr_paper.labs.disputes.both import Both
from otr_paper.labs.disputes.cheats import Griefer, Inconsistent, Withholder
from otr_paper.labs.disputes.world import (
    CLIENT,
    FISHERMAN,
    KEY,
    OPERATOR,
    TERMS,
    honest_run,
    random_tamper,
    receipt_of,
    salted_wrongly,
    tampered,
    tiny,
    with_token,
)

KINDS = (
    "griefer", "griefer token", "cheat", "cheat", "cheat", "token", "inconsistent", "salt", "silent", "lazy griefer",
)  # fmt: skip


def differential_game(seed: int, pair_for: Callable[[int, int], Both]) -> tuple[str, int]:
    """Play game number ``seed``; its kind and the number of calls compared."""
    random = Random(seed)
    kind = KINDS[seed % len(KINDS)]
    temperature, bits = random.choice((0, 1500)), random.choice((1, 2, 4))
    pair = pair_for(temperature, bits)
    served = tiny(temperature)
    run = honest = served.run
    token, salt = 0, random.randbytes(32)
    operator: HonestOperator
    challenger: HonestChallenger | Griefer = HonestChallenger(honest)
    if kind.endswith("griefer") or kind == "griefer token":
        token = random.randrange(1, len(run.fed) + 1) if kind == "griefer token" else 0
        operator = HonestOperator(run)
        challenger = Griefer(random, random.randrange(6) if kind == "lazy griefer" else 10**9)
    elif kind == "token":
        step = random.randrange(len(run.token_ids))
        run = with_token(served, step, (run.token_ids[step] + 1) % served.trees.dims.vocab)
        honest = honest_run(served, run)
        token, operator, challenger = honest.wrong_token, HonestOperator(run), HonestChallenger(honest)
    elif kind == "salt":
        run = salted_wrongly(served, random)
        operator = HonestOperator(run)
    else:
        number = random.randrange(23) if kind == "cheat" else pr.LayerOperator.OUTPUT
        for power in (0, 12, 20, 28, 36):
            tamper = replace(random_tamper(served, random, number), delta=2**power)
            run = tampered(served, tamper)
            if run.trace.root != honest.trace.root:
                break
        else:  # this operator's values hardly reach the trace; the last one's do
            run = tampered(served, replace(random_tamper(served, random, pr.LayerOperator.OUTPUT), delta=2**20))
        operator = HonestOperator(run)
        if kind == "inconsistent":
            operator = Inconsistent(run, honest)
        elif kind == "silent":
            operator = Withholder(run, random.randrange(6))
    signed = sign_receipt(KEY, receipt_of(run))
    leaves = [random.randbytes(97), receipt_leaf(signed.receipt, signed.signature), random.randbytes(97)]
    now, batch, number = pair.chain.chain.time + 1, len(pair.court.batches), len(pair.court.challenges) + 1
    pair.number = 0
    before = pair.calls
    assert pair.do(now, OPERATOR, "commit_batch", merkle.root(leaves), 3) == ""
    assert pair.do(now + 1, CLIENT, "escrow", batch, value=1_000 + seed) == ""
    commitment = challenge_hash(pair.names[FISHERMAN], batch, 1, token, salt)
    assert pair.do(now + 2, FISHERMAN, "challenge", batch, commitment, value=TERMS.bond_wei) == ""
    opening: dict[str, Any] = {"token": token, "salt": salt, "receipt": signed.receipt, "signature": signed.signature}
    path = tuple(merkle.inclusion_proof(leaves, 1))
    assert pair.do(now + 3, FISHERMAN, "open", number, index=1, path=path, **opening) == ""
    pair.number = number
    court, _ = play(
        pair.court, number, operator, challenger, now=now + 3, observe=pair.observe,
        pace_s=lambda who: random.choice((1, 5, 40)),
    )  # fmt: skip
    honest_operator = "griefer" in kind
    assert court.challenges[number - 1].status == (ChallengeStatus.LOST if honest_operator else ChallengeStatus.WON), (
        kind
    )
    return kind, pair.calls - before
