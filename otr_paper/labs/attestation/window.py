"""When a bundle can be appraised at all, and how its verdict changes along the calendar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from otr_core.attestation import chain as chains
from otr_core.attestation.appraisal import appraise
from otr_core.attestation.bundle import Bundle
from otr_core.attestation.chain import Chain, VerifiedCache, stamp
from otr_core.attestation.policy import Policy
from otr_core.attestation.quote import Collateral


@dataclass(frozen=True)
class Span:
    """Validity of one part of a bundle, both ends included.

    Attributes:
        part: what it is, for example ``rim 550.90.07: HCC RIM L4 Signer``.
    """

    part: str
    start: datetime
    end: datetime

    def as_json(self) -> dict[str, str]:
        return {"part": self.part, "from": stamp(self.start), "to": stamp(self.end)}


def window(bundle: Bundle, policy: Policy) -> Span | None:
    """The time in which every part is valid; None if there is no such time, or no part has a date.

    Appraisal rejects the bundle at any other time. At these times it may accept it: status,
    measurements and bindings are judged besides.
    """
    parts = list(spans(bundle, policy))
    if not parts:
        return None
    start, end = max(parts, key=lambda one: one.start), min(parts, key=lambda one: one.end)
    if start.start > end.end:
        return None
    return Span(f"from {start.part} to {end.part}", start.start, end.end)


def spans(bundle: Bundle, policy: Policy) -> Iterator[Span]:
    """Validity of every dated part of ``bundle`` under the ages that ``policy`` allows."""
    for number, device in enumerate(bundle.devices):
        yield from _chain_spans(f"device {number}", device.chain)
    for rim in bundle.rims:
        yield from _chain_spans(f"rim {rim.version}", rim.chain)
    for one in bundle.ocsp:
        end = one.this_update + timedelta(seconds=policy.ocsp_max_staleness_s)
        if one.next_update is not None:
            end = min(end, one.next_update + timedelta(seconds=policy.ocsp_grace_s))
        yield Span(f"ocsp response on serial {one.certificate_id[3]}", max(one.this_update, one.produced_at), end)
    if bundle.quote is not None:
        yield from _chain_spans("quote", bundle.quote.chain)
    if bundle.collateral is not None:
        for name, start, end in bundle.collateral.windows:
            yield Span(f"collateral {name}", start, end)
        if policy.collateral_max_age_s is not None and isinstance(bundle.collateral, Collateral):
            issued = bundle.collateral.issued
            yield Span("collateral age", issued, issued + timedelta(seconds=policy.collateral_max_age_s))


def _chain_spans(part: str, chain: Chain) -> Iterator[Span]:
    for certificate in chain:
        name = f"{part}: {chains.common_name(certificate.subject)}"
        yield Span(name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def verdict_over_time(
    bundle: Bundle, policy: Policy, moments: Iterable[datetime], *, cache: VerifiedCache | None = None, **given: Any
) -> list[dict[str, Any]]:
    """The same bundle appraised at each of ``moments``.

    Args:
        given: further arguments of ``appraise`` (nonce, key, registered).

    Returns:
        Rows with as_of, verdict, and the claims (ids and first reason) that stand against
        acceptance.
    """
    remembered, rows = cache or VerifiedCache(), []
    for moment in moments:
        result = appraise(bundle, policy, moment, cache=remembered, **given)
        against, reason = [claim.id for claim in result.because], result.because[0].reason if result.because else ""
        rows.append({"as_of": stamp(moment), "verdict": result.verdict, "against": against, "reason": reason})
    return rows
