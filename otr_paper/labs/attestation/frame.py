"""The attack lab: attacks on real evidence, each with the check that must stop it.

An attack is run beside its honest twin: the same presentation of evidence without the attack. It
counts as *stopped for the right reason* only if the claim that it names is refuted (or unknown, or
the file unreadable) under attack, and was not so in the twin. Attestation accepts a few attacks, as
it must: they show where it ends, and where disputes and spot checks begin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from otr_core.attestation.appraisal import Appraisal, appraise
from otr_core.attestation.bundle import load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import Status
from otr_core.attestation.policy import Policy
from otr_core.errors import EvidenceError
from otr_paper.labs.attestation.evidence import EVIDENCE


def authentic_policy(*kinds: str) -> Policy:
    """The default policy without reference values, for evidence whose manifests are missing.

    Args:
        kinds: what it expects; GPUs alone where none is named.
    """
    kept = tuple(name for name in Policy.default().require if ".rim." not in name and ".measurements" not in name)
    return dataclasses.replace(Policy.default(), name="authentic", require=kept).expecting(*kinds or ("gpu",))


@dataclass(frozen=True)
class Attempt:
    """One presentation of evidence to the verifier.

    Attributes:
        files: arguments of ``load_bundle``. policy, as_of: by which and when they are appraised.
        given: further arguments of ``appraise`` (nonce, key, registered, roots).
        others: recorded files of other machines, for attacks that splice them in.
    """

    files: Mapping[str, Any]
    policy: Policy
    as_of: datetime
    given: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, bytes] = field(default_factory=dict)

    def but(self, files: Mapping[str, Any] | None = None, **changes: Any) -> Attempt:
        """This attempt with some files and fields changed."""
        return dataclasses.replace(self, files={**self.files, **(files or {})}, **changes)


Evidence = Mapping[str, bytes]
"""Recorded files by the names in ``EVIDENCE``; absent ones are left out."""
Files = Callable[[Evidence], dict[str, Any]]
"""Picks the arguments of ``load_bundle`` out of recorded files; KeyError says that one is
missing."""


def shown(**names: str | list[str]) -> Files:
    """Recorded files shown as they are.

    Args:
        names: argument of ``load_bundle`` -> name of a recorded file, or names.
    """
    return lambda evidence: {
        argument: evidence[name] if isinstance(name, str) else [evidence[one] for one in name]
        for argument, name in names.items()
    }


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        id: stable name; its first word is the target.
        story: what the attacker does.
        outcome: what must come of it: ``refuted`` or ``unknown`` (of ``claim``), ``unreadable`` (a
            file is refused), ``accepted``, or ``no effect`` (the same claims as without the
            attack).
        claim: the claim that must have that outcome; empty for the last three.
        honest: builds the twin from evidence. attack: builds the attack from evidence and its twin.
            KeyError says that a file is missing.
    """

    id: str
    story: str
    outcome: str
    claim: str
    honest: Callable[[Evidence], Attempt]
    attack: Callable[[Evidence, Attempt], Attempt]


def collector(
    attacks: list[Attack],
) -> Callable[..., Callable[[Callable[[Evidence, Attempt], Attempt]], None]]:
    """A decorator that turns the function building an attack into one more of ``attacks``.

    Its arguments are the other fields of ``Attack``.
    """

    def attack(
        name: str, story: str, honest: Callable[[Evidence], Attempt], *, claim: str = "", outcome: str = "refuted"
    ) -> Callable[[Callable[[Evidence, Attempt], Attempt]], None]:
        return lambda build: attacks.append(Attack(name, story, outcome, claim, honest, build))

    return attack


def run(attacks: Iterable[Attack], evidence: Evidence) -> list[dict[str, str]]:
    """Run ``attacks`` on ``evidence``: files by the names in ``EVIDENCE``, absent ones left out.

    Returns:
        Rows with attack, target, story, expected (what must happen), happened, reason (of the
        verifier), and result: ``as expected``, ``NOT as expected`` or ``not run``.
    """
    cache = VerifiedCache()
    return [_run(one, evidence, cache) for one in attacks]


def _run(one: Attack, evidence: Evidence, cache: VerifiedCache) -> dict[str, str]:
    expected = f"{one.outcome} {one.claim}".strip()
    row = {"attack": one.id, "target": one.id.split(".")[0], "story": one.story, "expected": expected}
    try:
        twin = one.honest(evidence)
        attempt = one.attack(evidence, twin)
    except KeyError as missing:
        return {**row, "happened": "", "reason": f"needs {EVIDENCE[missing.args[0]].what}", "result": "not run"}
    before = _appraise(twin, cache)
    assert isinstance(before, Appraisal)
    after = _appraise(attempt, cache)
    if isinstance(after, EvidenceError):
        happened, reason, good = "unreadable", str(after), one.outcome == "unreadable"
    elif one.claim:
        was, now = (next((c for c in each.claims if c.id == one.claim), None) for each in (before, after))
        caused = was is None or was.status not in (Status.REFUTED, None if now is None else now.status)
        happened, reason = (f"{now.status.value} {now.id}", now.reason) if now else ("check not made", "")
        good = now is not None and now.status.value == one.outcome and caused and now in after.because
    elif one.outcome == "no effect":
        same = [claim.as_json() for claim in before.claims] == [claim.as_json() for claim in after.claims]
        happened, good = ("no effect" if same else "claims differ"), same
        reason = "the same claims on the same evidence digests"
    else:
        happened, reason, good = after.verdict, after.table()[-1][-1], after.accepted and one.outcome == "accepted"
    return {**row, "happened": happened, "reason": reason, "result": "as expected" if good else "NOT as expected"}


def _appraise(attempt: Attempt, cache: VerifiedCache) -> Appraisal | EvidenceError:
    try:
        bundle = load_bundle(**attempt.files)
    except EvidenceError as error:
        return error
    return appraise(bundle, attempt.policy, attempt.as_of, cache=cache, **attempt.given)


def flip(data: bytes, at: int) -> bytes:
    """``data`` with the lowest bit of one byte flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
