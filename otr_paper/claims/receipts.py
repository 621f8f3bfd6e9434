# ruff: noqa: N802 (a function is named after its claim)
"""Claims about receipts, L23 to L25: what they were seen to stop in the stored attacks on the real
model.

Each row of the stored result ``attacks`` says of one attack its group, its name and who caught it:
a check that the client makes (``otr_core.poea.CHECKS`` and ``CONTENT_CHECKS``, ``FRESHNESS``), the
enclave itself, a second answer's evidence, or nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, FRESHNESS
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.verdict import Evaluation, Rule

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

_STATED = ("otr.false_positives",)

Attacks = Sequence[Mapping[str, str]]


def _attacks(grounds: Grounds) -> Attacks:
    rows: Attacks = grounds.result("attacks")["rows"]
    return rows


_STOPPED = {*CHECKS, *CONTENT_CHECKS, *FRESHNESS, SERVING, READING, SECOND_ANSWER, INEFFECTIVE}


def _stopped(attacks: Attacks) -> int:
    return sum(attack["caught_by"] in _STOPPED for attack in attacks)


def L23_downgrade_rejected(grounds: Grounds) -> Evaluation:
    """L23: serving another model than the one named makes attestation fail, and no honest answer is
    rejected."""
    rows, run = _attacks(grounds), grounds.result("native_run")
    honest, honest_rejected = run["honest_count"], run["honest_rejected_count"]
    model = [row for row in rows if row["group"] == "model"]
    broken = [row for row in rows if row["group"] == BROKEN and "layers dropped" in row["attack"]]
    rejected = _stopped(model) / len(model)
    share, whole = _stopped(broken) / len(broken), Rule("1", lambda share: share == 1.0)
    never, rejects = Rule("1", lambda _: False), Rule("1", lambda share: share == 1.0 and honest_rejected == 0)
    readings = (
        never.measured(
            "GPU evidence alone",
            "an H100 report names firmware and driver, no model: nothing to compare",
            0.0,
            *_STATED,
        ),
        rejects.measured(
            "weights measured before the key is released",
            "working TEE; share of downgraded models rejected",
            rejected,
            *_STATED,
        ),
        whole.measured("broken TEE", "share of downgraded models rejected", share, *_STATED),
    )
    return Evaluation(
        {
            "downgrades_count": len(model),
            "downgrades_rejected_count": _stopped(model),
            "honest_count": honest,
            "honest_rejected_count": honest_rejected,
            "downgrades_by_broken_tee_count": len(broken),
            "downgrades_by_broken_tee_rejected_count": _stopped(broken),
        },
        readings,
        ("broken_tees", 0.0),
    )


def L24_poea_binds(grounds: Grounds) -> Evaluation:
    """L24: PoEA binds an answer's trace, the model and the hardware."""
    rows = _attacks(grounds)
    held, broken = ([r for r in rows if (r["group"] == BROKEN) == b] for b in (False, True))
    share, lies = _stopped(held) / len(held), _stopped(broken) / len(broken)
    never, whole = Rule("1", lambda _: False), Rule("1", lambda share: share == 1.0)
    readings = (
        never.cited("as printed", "the paper's formula is not public: nothing to test", 0.0),
        whole.measured(
            "our definition, execution as the TEE says",
            "share of forgeries, edits, splices, replays and false statements rejected",
            share,
        ),
        whole.measured("our definition, broken TEE", "share of signed false executions rejected", lies),
    )
    return Evaluation(
        {
            "attacks_count": len(held),
            "attacks_rejected_count": _stopped(held),
            "lies_count": len(broken),
            "lies_rejected_count": _stopped(broken),
        },
        readings,
        ("lies_rejected", lies),
    )


def L25_replay_rejected(grounds: Grounds) -> Evaluation:
    """L25: a replayed or cached answer is rejected."""
    again = ("replayed", "cached", "reused", "twice")
    old = [row for row in _attacks(grounds) if any(word in row["attack"] for word in again)]
    share = _stopped(old) / len(old)
    reading = Rule("1", lambda share: share == 1.0).measured(
        "order in the signed receipt, nonces kept", "share of replayed, cached and reused answers stopped", share
    )
    return Evaluation({"attacks_count": len(old), "attacks_rejected_count": _stopped(old)}, (reading,))
