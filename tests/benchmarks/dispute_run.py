"""Disputes about a real answer, on chain: ``data/results/disputes.json``. About ten minutes on one core.

For every operator of a layer, for what the trace holds, and for the choice of a token: an answer of SmolLM2 with one
value changed there (the smallest power of two that reaches the trace), disputed to a verdict by transactions.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from eth_keys import keys as eth_keys

from otr_core import merkle
from otr_core.artifact.models import model_folder
from otr_core.artifact.project import find_project
from otr_core.artifact.results import Card, this_machine, versions, write_result
from otr_core.chain.evm import Chain
from otr_core.dispute import measure
from otr_core.dispute import program as pr
from otr_core.dispute.commitment import commit_model
from otr_core.dispute.court import Court, challenge_hash, receipt_leaf
from otr_core.dispute.game import Model
from otr_core.dispute.judge import LAYER
from otr_core.dispute.onchain import ChainCourt
from otr_core.dispute.play import play
from otr_core.dispute.players import Challenger, Operator
from otr_core.dispute.records import Key, Terms
from otr_core.dispute.run import Run, Tamper
from otr_core.inference.generate import generate
from otr_core.inference.portable import load_portable
from otr_core.inference.sampling import Decoding
from otr_core.poea.receipt import Receipt, sign_receipt

SEED = 20251123
PROMPT, TOKENS = "Explain in three sentences why the sky is blue.", 64
TERMS = Terms(
    arity_bits=4, window_s=86_400, reveal_s=3_600, clock_s=86_400, increment_s=300, exit_s=604_800, claim_s=7_200,
    least_stake_wei=10**18, bond_wei=10**17, slash_bps=10_000, reward_bps=5_000, compensation_bps=5_000,
)  # fmt: skip


class Bench:
    """SmolLM2, one honest answer, and a way to dispute a false one on a fresh chain."""

    def __init__(self) -> None:
        self.model = load_portable(model_folder(find_project(), report=print))
        begin = time.process_time()
        self.trees = commit_model(self.model)
        self.commit_cpu_s = time.process_time() - begin
        self.secret = hashlib.sha256(b"trace").digest()
        decoding = Decoding(TOKENS)
        begin = time.process_time()
        self.answer = generate(self.model, PROMPT, decoding, trace_seed=self.secret)
        self.inference_cpu_s = time.process_time() - begin
        self.honest = self.run()
        assert self.honest.trace == self.answer.trace

    def run(self, tamper: Tamper | None = None, token_ids: tuple[int, ...] | None = None) -> Run:
        ids = token_ids or self.answer.token_ids
        return Run(self.model, self.trees, self.answer.prompt_ids, ids, self.secret, Decoding(TOKENS), tamper)

    def effective(self, position: int, layer: int, operator: int, element: int) -> Tamper:
        """The smallest power of two whose addition there changes what the trace holds."""
        honest = self.honest.execution(LAYER, position, layer)
        kept = (pr.OUTPUT, pr.KEY, pr.QKV)
        for power in range(50):
            tamper = Tamper(position, layer, operator, element, 2**power)
            false = replace(honest, alter=tamper)
            if any((false.vectors[i] != honest.vectors[i]).any() for i in kept):
                return tamper
        raise AssertionError(f"no change of operator {operator} reaches the trace")

    def dispute(self, false: Run, token: int, terms: Terms) -> dict[str, Any]:
        """Dispute ``false`` on a fresh chain, and tell what it took."""
        key = eth_keys.PrivateKey(hashlib.sha256(b"key").digest())
        model_id, key_id = self.model.manifest.model_id, hashlib.sha256(b"key id").digest()
        chain = Chain(accounts=3)
        registrar, operator, fisherman = (a.lower() for a in chain.accounts)
        deployed = ChainCourt(chain, terms, registrar)
        registered = Key(operator, model_id, bytes(key.public_key.to_canonical_address()))
        deployed.register_model(model_id, self.trees)
        deployed.register_key(key_id, registered)
        now = chain.time
        deployed.call(now, operator, "register", value=terms.least_stake_wei)
        roots = Model(self.trees.dims, self.trees.weights_root, self.trees.tables_root)
        court = Court(terms, registrar).register(now, operator, terms.least_stake_wei)
        court = court.register_model(registrar, model_id, roots).register_key(registrar, key_id, registered)
        digest = hashlib.sha256(b"-").digest()
        receipt = Receipt(
            digest, digest, model_id, digest, false.decoding, digest, false.trace.shape, false.trace.root, digest,
            key_id,
        )  # fmt: skip
        signed = sign_receipt(key, receipt)
        leaf = receipt_leaf(signed.receipt, signed.signature)
        # one receipt among 256, the others any bytes: its path has eight hashes
        others = [hashlib.sha256(b"%d" % i).digest() for i in range(255)]
        leaves = [leaf, *others]
        court = court.commit_batch(now + 1, operator, merkle.root(leaves), len(leaves))
        deployed.call(now + 1, operator, "commit_batch", merkle.root(leaves), len(leaves))
        commitment = challenge_hash(fisherman, 0, 0, token, digest)
        court = court.challenge(now + 2, fisherman, 0, commitment, terms.bond_wei)
        deployed.call(now + 2, fisherman, "challenge", 0, commitment, value=terms.bond_wei)
        opening: dict[str, Any] = {
            "index": 0, "token": token, "salt": digest, "receipt": signed.receipt, "signature": signed.signature,
            "path": tuple(merkle.inclusion_proof(leaves, 0)),
        }  # fmt: skip
        court = court.open(now + 3, fisherman, 1, **opening)
        deployed.open(now + 3, fisherman, 1, **opening)

        def observe(step: Any, after: Court) -> None:
            challenge = after.challenges[0]
            sender = operator if step.who == "operator" else fisherman
            name, *args = step.move
            deployed.move(step.now, sender, 1, challenge.game.claim, name, *args)  # type: ignore[union-attr]
            theirs, ours = deployed.standing(after, 1)
            assert [str(x).lower() for x in theirs] == [str(x).lower() for x in ours], step.move[0]

        honest = self.run(token_ids=false.token_ids)
        before = false.inferences
        court, log = play(court, 1, Operator(false), Challenger(honest), now=now + 3, observe=observe)
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
            **asdict(measure.tally(log)),
            "gas": sum(m["gas"] for m in moves),
            "gas_dispute": sum(m["gas"] for m in moves if m["move"] not in ("commit_batch",)),
            "gas_leaf": moves[-1]["gas"],
            "inferences_fisherman": round(honest.inferences, 3),
            "inferences_operator": round(false.inferences - min(before, 1.0), 3),
            "path": [_where(step) for step in log],
            "moves": moves,
        }


def _where(step: Any) -> dict[str, Any]:
    game = step.before
    return {
        "by": step.who, "move": step.move[0], "level": game.level.name, "height": game.height, "index": game.index,
        "size": game.size,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three disputes, nothing stored")
    quick = parser.parse_args().quick
    bench, random = Bench(), Random(SEED)
    d, positions = bench.trees.dims, bench.answer.trace.shape.positions  # type: ignore[union-attr]
    print(f"{positions} positions, commitment {bench.commit_cpu_s:.1f} CPU s", flush=True)
    rows, sweep = [], []
    operators = pr.layer_program(d, positions - 1)
    for number in [15, 9, 14] if quick else range(len(operators)):
        place = random.randrange(positions // 2, positions), random.randrange(1, d.layers)
        element = random.randrange(pr.layer_program(d, place[0])[number].length)
        if number in (pr.SCORES, pr.EXPS, pr.WEIGHTS):  # a place that was seen, not padding
            element = element // d.padded(place[0] + 1) * d.padded(place[0] + 1) + random.randrange(place[0] + 1)
        tamper = bench.effective(*place, number, element)
        row = bench.dispute(bench.run(tamper), 0, TERMS)
        rows.append({"cheat": operators[number].name, "delta": tamper.delta, **row})
        print(number, row["operator"], row["verdict"], row["rounds"], row["gas"], row["gas_leaf"], flush=True)
        assert row["verdict"] == "OPERATOR_LOSES"
        assert (row["position"], row["layer"], row["operator"]) == (*place, operators[number].name)
    step = 40
    ids = bench.answer.token_ids
    false = bench.run(token_ids=(*ids[:step], (ids[step] + 1) % d.vocab, *ids[step + 1 :]))
    row = bench.dispute(false, len(bench.answer.prompt_ids) + step, TERMS)
    rows.append({"cheat": "token replaced", "delta": 1, **row})
    print("token", row["verdict"], row["gas"], row["gas_leaf"], flush=True)
    tamper = bench.effective(positions - 10, 17, pr.OUTPUT, 123)
    for bits in [4] if quick else [1, 2, 3, 4, 5, 6]:
        row = bench.dispute(bench.run(tamper), 0, replace(TERMS, arity_bits=bits))
        sweep.append(row)
        print("k", 2**bits, row["rounds"], row["payload_bytes"], row["gas"], flush=True)
    if quick:
        return
    project = find_project(Path(__file__))
    card = Card(
        command="python tests/benchmarks/dispute_run.py", date=datetime.now(UTC).date().isoformat(),
        machine=this_machine(1), versions=versions(("numpy", "torch", "vyper", "py-evm", "eth-tester")), seed=SEED,
        kind="measured",
    )  # fmt: skip
    payload = {
        "prompt": PROMPT,
        "positions": positions,
        "prompt_tokens": len(bench.answer.prompt_ids),
        "answer_tokens": len(ids),
        "trace_values": measure.trace_values(d, positions),
        "commit_model_cpu_s": round(bench.commit_cpu_s, 1),
        "inference_cpu_s": round(bench.inference_cpu_s, 1),
        "disputes": rows,
        "arity_sweep": sweep,
    }
    write_result(project.results, "disputes", card, payload)


if __name__ == "__main__":
    sys.exit(main())
