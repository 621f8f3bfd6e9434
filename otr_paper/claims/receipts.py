# ruff: noqa: N802 (a function is named after its claim)
"""Claims about receipts, L23 to L25: what they were seen to stop in the stored attacks on the real
model.

Each row of the stored result ``attacks`` says of one attack its group, its name and who caught it:
a check that the client makes (``otr_core.poea.CHECKS`` and ``CONTENT_CHECKS``, ``FRESHNESS``), the
enclave itself, a second answer's evidence, or nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, FRESHNESS
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.verdict import Condition, Evaluation, Rule

SERVING = "serving"
"""Who caught an attack that the enclave itself refuses, so that no receipt comes to be."""
READING = "reading"
"""Who caught an attack whose file is none: nobody can state such a thing in a receipt."""
SECOND_ANSWER = "equivocation"
"""Who caught two answers under one order: the two receipts together (``Equivocation``)."""
INEFFECTIVE = "ineffective"
"""Said of an attempt that changes nothing: same model, same tokens, same words."""
STATEMENT, BROKEN = "statement", "broken TEE"
"""Groups of the attacks by an operator that holds an attested key and signs what it likes: false
statements that contradict the order, the model or themselves; and those that contradict only what
running the model again would give."""

Attacks = Sequence[Mapping[str, str]]


def _attacks(grounds: Grounds) -> Attacks:
    rows: Attacks = grounds.result("attacks")["rows"]
    return rows


_STOPPED = {*CHECKS, *CONTENT_CHECKS, *FRESHNESS, SERVING, READING, SECOND_ANSWER, INEFFECTIVE}


def _stopped(attacks: Attacks) -> int:
    return sum(attack["caught_by"] in _STOPPED for attack in attacks)


def upper_share(seen: int, tried: int, chance: float = 0.05) -> float:
    """Largest true share that still shows at most ``seen`` in ``tried`` with probability ``chance``: the
    upper end of a one-sided interval (Clopper and Pearson), by bisection."""
    low, high = seen / tried, 1.0
    while high - low > 1e-12:
        middle = 0.5 * (low + high)
        few = sum(math.comb(tried, k) * middle**k * (1 - middle) ** (tried - k) for k in range(seen + 1))
        low, high = (middle, high) if few > chance else (low, middle)
    return high


def L23_downgrade_rejected(grounds: Grounds) -> Evaluation:
    """L23: serving another model than the one named makes attestation fail, and no honest answer is
    rejected."""
    rows, run = _attacks(grounds), grounds.result("native_run")
    honest, honest_rejected = run["honest_count"], run["honest_rejected_count"]
    model = [row for row in rows if row["group"] == "model"]
    broken = [row for row in rows if row["group"] == BROKEN and "layers dropped" in row["attack"]]
    rejected, passed = _stopped(model) / len(model), (honest - honest_rejected) / honest
    rule = Rule("1", ">=", grounds.published.number("read.downgrades", "1"))
    broken_tee = rule.measured("broken TEE", "share of downgraded models rejected", _stopped(broken) / len(broken))
    intact = Condition(
        "both_shares",
        "the guest measures the weights it runs before it gets its key, and no TEE is broken",
        rule,
        (
            rule.measured(
                "simulated TEE, the worse of both shares",
                f"downgraded models rejected, of {len(model)}; honest answers accepted, of {honest}",
                min(rejected, passed),
            ),
        ),
    )
    return Evaluation(
        {
            "downgrades_count": len(model),
            "downgrades_rejected_count": _stopped(model),
            "honest_count": honest,
            "honest_rejected_count": honest_rejected,
            "downgrades_by_broken_tee_count": len(broken),
            "downgrades_by_broken_tee_rejected_count": _stopped(broken),
            "honest_rejected_at_most": upper_share(honest_rejected, honest),
            "downgrades_passed_at_most": upper_share(len(model) - _stopped(model), len(model)),
        },
        (broken_tee,),
        (intact,),
    )


def L24_poea_binds(grounds: Grounds) -> Evaluation:
    """L24: PoEA binds an answer's trace, the model and the hardware."""
    rows = _attacks(grounds)
    held, broken = ([r for r in rows if (r["group"] == BROKEN) == b] for b in (False, True))
    share, lies = _stopped(held) / len(held), _stopped(broken) / len(broken)
    rule = Rule("1", ">=", grounds.published.number("read.bound", "1"))
    broken_tee = rule.measured("our definition, broken TEE", "share of signed false executions rejected", lies)
    intact = Condition(
        "attacks_rejected_share",
        "binding is this project's definition, the paper's formula not being public, and no TEE is broken",
        rule,
        (
            rule.measured(
                "execution as the TEE says",
                "share of forgeries, edits, splices, replays and false statements rejected",
                share,
            ),
        ),
    )
    return Evaluation(
        {
            "attacks_count": len(held),
            "attacks_rejected_count": _stopped(held),
            "lies_count": len(broken),
            "lies_rejected_count": _stopped(broken),
        },
        (broken_tee,),
        (intact,),
    )


def L25_replay_rejected(grounds: Grounds) -> Evaluation:
    """L25: a replayed or cached answer is rejected."""
    again = ("replayed", "cached", "reused", "twice")
    old = [row for row in _attacks(grounds) if any(word in row["attack"] for word in again)]
    share = _stopped(old) / len(old)
    rule = Rule("1", ">=", grounds.published.number("read.replays", "1"))
    reading = rule.measured(
        "order in the signed receipt, nonces kept", "share of replayed, cached and reused answers stopped", share
    )
    return Evaluation({"attacks_count": len(old), "attacks_rejected_count": _stopped(old)}, (reading,))
