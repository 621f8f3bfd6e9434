"""A dispute about a real answer, played by transactions: what notebook 03 replays and ``make bench`` measures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from random import Random
from typing import Any

from eth_keys import keys as eth_keys

from otr_core import merkle
from otr_core.dispute.court import Court, challenge_hash, receipt_leaf
from otr_core.dispute.game import RegisteredModel
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import Key, Terms
from otr_core.errors import ChainError, InputError
from otr_core.lane import program as pr
from otr_core.lane.sampling import Decoding
from otr_core.lane.step import LAYER
from otr_core.poea.receipt import Receipt, sign_receipt
from otr_node.chain.evm import Chain
from otr_node.chain.onchain import ChainCourt
from otr_node.commitment import commit_model
from otr_node.generate import generate
from otr_node.models import model_folder
from otr_node.portable import load_portable
from otr_node.project import Project
from otr_node.run import Run, Tamper
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.studies import dispute_costs
from otr_paper.studies.crowd import Crowd, play_crowd
from otr_paper.studies.dispute_costs import TERMS

PROMPT = "Write a short letter that asks a library to extend a loan by two weeks, and gives a reason."
TOKENS = 64


class Scene:
    """A model, one honest answer of it, and a way to dispute a false one on a fresh chain.

    Args:
        report: told what is being done. prompt, tokens: of the answer.

    Attributes:
        honest: the honest run of the answer. inference_cpu_s: what answering took.
    """

    def __init__(
        self, project: Project, prompt: str, tokens: int, *, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.model = load_portable(model_folder(project, report=report))
        self.decoding = Decoding(tokens)
        begin = time.process_time()
        self.trees = commit_model(self.model)
        self.commit_cpu_s = time.process_time() - begin
        self.secret = hashlib.sha256(b"trace").digest()
        begin = time.process_time()
        self.answer = generate(self.model, prompt, self.decoding, trace_seed=self.secret)
        self.inference_cpu_s = time.process_time() - begin
        self.honest = self.run()
        assert self.honest.trace == self.answer.trace

    def run(self, tamper: Tamper | None = None, token_ids: tuple[int, ...] | None = None) -> Run:
        """A run of the answer, with one value changed or with other tokens claimed; honest without either."""
        ids = token_ids or self.answer.token_ids
        return Run(self.model, self.trees, self.answer.prompt_ids, ids, self.secret, self.decoding, tamper)

    def effective(self, position: int, layer: int, operator: int, element: int) -> Tamper:
        """The smallest power of two whose addition there changes what the trace holds."""
        honest = self.honest.execution(LAYER, position, layer)
        kept = (pr.LayerOperator.OUTPUT, pr.LayerOperator.KEY, pr.LayerOperator.QKV)
        for power in range(50):
            tamper = Tamper(position, layer, operator, element, 2**power)
            false = replace(honest, alter=tamper)
            if any((false.vectors[i] != honest.vectors[i]).any() for i in kept):
                return tamper
        raise InputError(f"operator {operator}, element {element}: found no change that reaches the trace")

    @property
    def registered(self) -> RegisteredModel:
        """What the court knows of the model."""
        return RegisteredModel(self.trees.dims, self.trees.weights_root, self.trees.tables_root)

    def _receipt(self, run: Run) -> tuple[Receipt, bytes, Key]:
        """A receipt as a broken TEE signs it for whatever was run, and the TEE's registered key (of nobody yet)."""
        key = eth_keys.PrivateKey(hashlib.sha256(b"key").digest())
        model_id, key_id = self.model.manifest.model_id, hashlib.sha256(b"key id").digest()
        digest = hashlib.sha256(b"-").digest()
        receipt = Receipt(
            digest, digest, model_id, digest, run.decoding, digest, run.trace.shape, run.trace.root, digest, key_id
        )
        signed = sign_receipt(key, receipt)
        return signed.receipt, signed.signature, Key("", model_id, bytes(key.public_key.to_canonical_address()))

    def dispute(self, false: Run, token: int, terms: Terms = TERMS) -> dict[str, Any]:
        """Dispute ``false`` on a fresh chain, and tell what it took; the Python court is compared after every move.

        Args:
            token: number of the disputed token; 0: the trace is disputed.
        """
        receipt, signature, key = self._receipt(false)
        model_id, key_id = receipt.model_id, receipt.key_id
        chain = Chain(accounts=3)
        registrar, operator, fisherman = (a.lower() for a in chain.accounts)
        deployed = ChainCourt(chain, terms, registrar)
        registered = replace(key, operator=operator)
        deployed.register_model(model_id, self.trees)
        deployed.register_key(key_id, registered)
        now = chain.time
        deployed.call(now, operator, "register", value=terms.least_stake_wei)
        court = Court(terms, registrar).register(now, operator, terms.least_stake_wei)
        court = court.register_model(registrar, model_id, self.registered).register_key(registrar, key_id, registered)
        digest = hashlib.sha256(b"salt").digest()
        leaf = receipt_leaf(receipt, signature)
        # one receipt among 256, the others any bytes: its path has eight hashes
        others = [hashlib.sha256(b"%d" % i).digest() for i in range(255)]
        leaves = [leaf, *others]
        court = court.commit_batch(now + 1, operator, merkle.root(leaves), len(leaves))
        deployed.call(now + 1, operator, "commit_batch", merkle.root(leaves), len(leaves))
        commitment = challenge_hash(fisherman, 0, 0, token, digest)
        court = court.challenge(now + 2, fisherman, 0, commitment, terms.bond_wei)
        deployed.call(now + 2, fisherman, "challenge", 0, commitment, value=terms.bond_wei)
        opening: dict[str, Any] = {
            "index": 0, "token": token, "salt": digest, "receipt": receipt, "signature": signature,
            "path": tuple(merkle.inclusion_proof(leaves, 0)),
        }  # fmt: skip
        court = court.open(now + 3, fisherman, 1, **opening)
        deployed.open(now + 3, fisherman, 1, **opening)

        def observe(step: Step, after: Court) -> None:
            challenge = after.challenges[0]
            sender = operator if step.who == "operator" else fisherman
            name, *args = step.move
            assert challenge.game is not None
            deployed.move(step.now, sender, 1, challenge.game.claim, name, *args)
            theirs, ours = deployed.standing(after, 1)
            if [str(x).lower() for x in theirs] != [str(x).lower() for x in ours]:
                raise ChainError(step.move[0], "another state on chain", "the Python court's")

        honest = self.run(token_ids=false.token_ids)
        before = false.inferences
        court, log = play(court, 1, HonestOperator(false), HonestChallenger(honest), now=now + 3, observe=observe)
        game = court.challenges[0].game
        assert game is not None
        moves = [
            {"move": s.call, "gas": s.gas, "calldata_bytes": s.calldata_bytes}
            for s in deployed.ledger
            if not s.call.startswith(("deploy", "register"))
        ]
        return {
            "arity": 2**terms.arity_bits,
            "verdict": game.verdict.name,
            "position": game.position,
            "layer": game.layer,
            "operator": game.program[game.operator].name if game.operator < len(game.program) else "kept",
            "kind": int(game.program[game.operator].kind) if game.operator < len(game.program) else 0,
            "element": game.element,
            "step": game.step,
            **{k: v for k, v in asdict(dispute_costs.tally(log)).items() if k != "moves"},
            "gas": sum(m["gas"] for m in moves),
            "gas_dispute": sum(m["gas"] for m in moves if m["move"] not in ("commit_batch",)),
            "gas_leaf": moves[-1]["gas"],
            "rounds_bound": dispute_costs.most_rounds(self.trees.dims, false.trace.shape.positions, terms.arity_bits),
            "rounds_expected": dispute_costs.expected_rounds(
                self.trees.dims, false.trace.shape.positions, game.operator, game.position, terms.arity_bits
            )
            if game.target == LAYER
            else 1,
            "inferences_fisherman": round(honest.inferences, 3),
            "inferences_operator": round(false.inferences - min(before, 1.0), 3),
            "money": {
                "stake_slashed_wei": terms.least_stake_wei - court.operators[operator].stake_wei,
                "reward_wei": court.operators[operator].reward_wei,
                "burnt_wei": court.burnt_wei,
                "bond_back_wei": court.credits.get(fisherman, 0),
            },
            "path": [_where(step) for step in log],
            "moves": moves,
        }

    def crowd(self, challengers: int, terms: Terms, *, slot_s: int, stall: bool, seed: int) -> Crowd:
        """So many Sybils of one challenger against the honest answer at once, all along the same random path.

        Args:
            slot_s: seconds between two transactions of the operator. stall: every Sybil moves as late as it may.
        """
        receipt, signature, key = self._receipt(self.honest)
        operator, sybil = "0x" + "01" * 20, "0x" + "02" * 20
        court = Court(terms, operator).register(0, operator, terms.least_stake_wei)
        court = court.register_model(operator, receipt.model_id, self.registered)
        court = court.register_key(operator, receipt.key_id, replace(key, operator=operator))
        leaf = receipt_leaf(receipt, signature)
        court = court.commit_batch(1, operator, merkle.root([leaf]), 1)
        salt = bytes(32)
        for number in range(1, challengers + 1):
            court = court.challenge(2, sybil, 0, challenge_hash(sybil, 0, 0, 0, salt), terms.bond_wei)
            court = court.open(
                3, sybil, number, index=0, token=0, salt=salt, receipt=receipt, signature=signature, path=()
            )
        numbers = range(1, challengers + 1)
        return play_crowd(
            court,
            numbers,
            HonestOperator(self.honest),
            lambda: Griefer(Random(seed)),
            now=3,
            slot_s=slot_s,
            stall=stall,
        )


def _where(step: Step) -> dict[str, Any]:
    game = step.before
    return {
        "by": step.who, "move": step.move[0], "level": game.level.name, "height": game.height, "index": game.index,
        "size": game.size,
    }  # fmt: skip
