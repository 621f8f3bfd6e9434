"""The attack lab: attacks on real evidence, each with the check that must stop it."""

from otr_paper.labs.attestation import cpu, gpu
from otr_paper.labs.attestation.frame import Attack, Attempt, Evidence, authentic_policy, run
from otr_paper.labs.attestation.twins import TWINS

__all__ = ["ATTACKS", "TWINS", "Attack", "Attempt", "Evidence", "authentic_policy", "run_evidence_attacks"]

# Stopped ones by target first, then what attestation accepts.
ATTACKS: tuple[Attack, ...] = tuple(sorted((*gpu.ATTACKS, *cpu.ATTACKS), key=lambda one: one.id.startswith("limit.")))


def run_evidence_attacks(evidence: Evidence) -> list[dict[str, str]]:
    """Rows of the attack table (see ``frame.run``): all attacks on the files of ``evidence``."""
    return run(ATTACKS, evidence)


def run_twins() -> list[dict[str, str]]:
    """Rows of the same form: a twin of the laboratory node for each check of the strict policy."""
    return run(TWINS, {})
