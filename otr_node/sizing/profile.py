"""The profile of a deployment whose stake, slash, reward, rate and bond are the sized ones: what court, server
and simulation read (``otr_core.dispute.profile``)."""

from __future__ import annotations

import json
import math
from fractions import Fraction

from otr_core.dispute.profile import (
    DeploymentProfile,
    PartyTerms,
    ProfileError,
    parse_profile,
    profile_numbers,
    unit_of,
)
from otr_core.dispute.records import BASIS, Terms
from otr_core.economics.scenarios import CourtChoices, Scenario
from otr_core.errors import InputError, ParameterError
from otr_node.sizing.size import NetworkReport

_WEI = 10**18


def check_choices(case: Scenario) -> CourtChoices:
    """What the network file chooses for its court.

    Raises:
        InputError: nothing.
    """
    if case.deployment is None:
        names = ", ".join(CourtChoices.__dataclass_fields__)
        raise InputError(f"--profile: found no table deployment in the network file, expected one with {names}")
    return case.deployment


def sized_profile(report: NetworkReport) -> DeploymentProfile:
    """What a sized network deploys. Amounts and rates are rounded to the side that deters, at the ether price of
    the network file; of rates by value the court has the largest, because it draws all answers alike. A bond is
    a fisherman's stake, or as much more as makes challenges that are never opened dearer than a catcher's share.

    Raises:
        InputError: the network file has no ``[deployment]``, or its terms do not deter. ProfileError: what is
            sized and what is chosen do not fit together.
    """
    case, terms, chosen = report.scenario, report.terms, check_choices(report.scenario)
    if not terms.deters:
        raise InputError("--profile: found terms that do not deter, expected some that do")
    stake = _wei(terms.stake_usd, chosen)
    slash = math.ceil(_as_written(case.bond.slash_fraction) * BASIS)
    reward = math.floor(_as_written(case.bond.reward_share) * BASIS)
    unopened = chosen.window_s // (chosen.reveal_s + 1) + 1  # one after the other, over a window
    frozen = stake * slash * reward // BASIS**2 // unopened + 1
    numbers = {
        "least_stake_wei": (stake, f"sized: {terms.stake_usd:.6g} USD at deployment.eth_usd"),
        "bond_wei": (
            max(_wei(terms.fisherman_stake_usd, chosen), frozen, chosen.cost_wei),
            f"sized: the largest of a fisherman's stake, {terms.fisherman_stake_usd:.6g} USD, of what {unopened} "
            "challenges that are never opened must cost, and of cost_wei",
        ),
        "slash_bps": (slash, f"bond.slash_fraction: {case.sources['bond.slash_fraction']}"),
        "reward_bps": (reward, f"bond.reward_share: {case.sources['bond.reward_share']}"),
        "spot_bps": (
            min(math.ceil(float(terms.rhos.max()) * BASIS), BASIS),
            "sized: the largest rate of spot checks that a value served here needs",
        ),
        "proof_s": (math.ceil(case.limits.proof_s), f"limits.proof_s: {case.sources['limits.proof_s']}"),
        "stake_usd": (math.ceil(terms.penalty_usd), "sized: what is slashed of a caught operator"),
    }
    sources, parts = dict[str, str](), dict[str, dict[str, int]]()
    for section, kind in (("court", Terms), ("parties", PartyTerms)):
        parts[section] = {}
        for name in kind.__dataclass_fields__:
            chose = name not in numbers
            value, source = (getattr(chosen, name), case.sources[f"deployment.{name}"]) if chose else numbers[name]
            parts[section][name], sources[f"{section}.{name}"] = value, source
    try:
        court, parties = Terms(**parts["court"]), PartyTerms(**parts["parties"])
        return DeploymentProfile(court, parties, sources)
    except ParameterError as error:
        raise ProfileError(error.field, error.found, error.allowed) from error


def _as_written(share: float) -> Fraction:
    """The number that the file states, not the float beside it: 0.3 is 3,000 basis points."""
    return Fraction(repr(float(share)))


def _wei(amount_usd: float, chosen: CourtChoices) -> int:
    return math.ceil(Fraction(float(amount_usd)) / Fraction(float(chosen.eth_usd)) * _WEI)


def profile_toml(profile: DeploymentProfile, report: NetworkReport) -> str:
    """A profile as ``otr_core.dispute.profile`` reads it.

    Raises:
        ProfileError: it would be read as another one.
    """
    price = report.scenario.sources["deployment.eth_usd"]
    lines = [f"# A deployment of {json.dumps(report.scenario.title)}, by otr size. Ether: {json.dumps(price)}."]
    for where, value in profile_numbers(profile).items():
        section, _, name = where.partition(".")
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        source = json.dumps(profile.sources[where], ensure_ascii=False)
        lines.append(f'{name} = {{ value = {value}, unit = "{unit_of(name)}", source = {source} }}')
    text = "\n".join(lines) + "\n"
    if parse_profile(text) != profile:
        raise ProfileError("document", "a source that TOML does not hold", "the profile that was sized")
    return text
