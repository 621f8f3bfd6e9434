"""What freer forgers of proofs stand on: an answer of a tiny model of two layers, operators with other weights, and
the commitments to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof.transcript import Channel
from otr_node.generate import Answer
from otr_node.proof.answers import KeptCommitment, commit_for_proofs
from otr_node.proof.witness import Witness
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.forgeries import Forger, Prove
from otr_paper.labs.tiny import TINY, write_tiny

_TOKENS = 3  # of every answer


@dataclass(frozen=True)
class FreeForgery:
    """A forged proof: how (``free_forgeries.KINDS``), of what, of which answer, and who says it."""

    kind: str
    what: str
    forger: Forger
    prove: Prove


def say_witness(forger: Forger, witness: Witness, channel: Channel) -> None:
    """Say a proof of a witness to its end."""
    forger.speak(forger.prover(channel), witness)


@dataclass(frozen=True, eq=False)
class ForgingGround:
    """A served answer of a tiny model of two layers, and what its forgers have.

    Attributes:
        others: operators with other weights, by name. kept: the commitment that the verifier holds; None:
            the model. trees: those to the other weights.
    """

    served: Served
    others: dict[str, Workbench]
    kept: KeptCommitment | None
    trees: dict[str, KeptCommitment]

    def told(self, bench: Workbench) -> Answer:
        """What another operator answers, as if the ordered model had."""
        found = self.served.answered_by(bench)
        return self.served.claiming(found.token_ids)

    def with_token(self, forger: Forger, at: int, rng: np.random.Generator) -> Answer:
        """The answer with another token at a place; greedy ones after it are what follows from it."""
        s, model = forger.sizes, forger.model
        ids, stops = list(forger.tokens[s.prompt :]), model.architecture.stop_ids
        others = [token for token in range(3, s.d.vocab) if token != ids[at] and token not in stops]
        ids[at] = int(rng.choice(others))
        if not s.temperature_milli:
            session = model.session()
            logits = session.feed([*forger.tokens[: s.prompt], *ids[: at + 1]])
            for later in range(at + 1, s.answer):
                ids[later] = model.choose(logits, 0, 0)
                if ids[later] in stops:
                    ids[later] = others[0]  # the answer keeps its length
                logits = session.feed([ids[later]])
        return self.served.claiming(ids)


@cache
def _benches() -> tuple[Workbench, dict[str, Workbench]]:
    architecture = replace(TINY, layers=2)
    with TemporaryDirectory() as folder:
        bench = Workbench(write_tiny(Path(folder) / "tiny", architecture))
        first, last = "model.layers.0.", "model.layers.1."

        def pruned(tensors: dict[str, Any]) -> dict[str, Any]:
            found = {name: own.clone() for name, own in tensors.items()}
            for name, own in found.items():
                if "mlp.gate" in name or "mlp.up" in name:
                    own[-(architecture.intermediate // 5) :] = 0
            return found

        def skipped(tensors: dict[str, Any]) -> dict[str, Any]:
            ends = ("o_proj.weight", "down_proj.weight")
            return {n: own * 0 if n.startswith(last) and n.endswith(ends) else own for n, own in tensors.items()}

        def repeated(tensors: dict[str, Any]) -> dict[str, Any]:
            return {name: tensors[name.replace(last, first)] for name in tensors}

        others = {
            "a fifth of the MLP pruned": bench.other(alter=pruned),
            "eight bits": bench.rounded(8),
            "one layer skipped": bench.other(alter=skipped),
            "another layer's weights": bench.other(alter=repeated),
        }
        for each in (bench, *others.values()):
            _ = each.model  # the folder goes
    return bench, others


@cache
def _kept(name: str) -> KeptCommitment:
    bench, others = _benches()
    return commit_for_proofs((others[name] if name else bench).portable, lambda line: None)


def ground_of(temperature_milli: int, mode: str, seed: int) -> ForgingGround:
    """The answer that a seed orders, for a verifier of a mode (``held`` or ``committed``)."""
    bench, others = _benches()
    rng = np.random.default_rng([seed, temperature_milli])
    served = None
    while served is None or len(served.answer.token_ids) < _TOKENS:  # one that is cut short has fewer places to lie at
        words = " ".join(f"w{3 + int(at)}" for at in rng.integers(0, TINY.vocab - 3, 2))
        served = bench.serve(words, Decoding(_TOKENS, 1, temperature_milli), number=str(seed))
    trees = {} if mode == "held" else {name: _kept(name) for name in others}
    return ForgingGround(served, others, None if mode == "held" else _kept(""), trees)
